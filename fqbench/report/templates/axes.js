// What all charts share: elements, scales, axes, marks, and what is shown of the mark under the pointer.
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 7;

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function html(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const colour = (number) => `s${number % COLOURS}`;

const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  return (text, size = 13.5) => {
    context.font = `${size}px system-ui, sans-serif`;
    return context.measureText(text).width;
  };
})();

function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) {
    found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  }
  return found;
}

function logTicks(low, high) {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const one of [1, 1.5, 2, 3, 5, 7]) all.push(one * 10 ** power);
  }
  const inside = all.filter((value) => value >= low && value <= high);
  return inside.length > 3 ? inside : ticks(low, high, 5).filter((value) => value > 0);
}

// As many decimals as the marks of the axis need to be exact.
function number(value, axis, all) {
  const factor = axis.percent ? 100 : 1;
  const exact = (digits) => all.every((one) => {
    const scaled = one * factor * 10 ** digits;
    return Math.abs(scaled - Math.round(scaled)) < 1e-6 * Math.max(1, Math.abs(scaled));
  });
  const digits = [0, 1, 2, 3, 4, 5].find(exact) ?? 6;
  const scaled = value * factor;
  let text = scaled.toFixed(digits);
  if (text.includes(".")) text = text.replace(/0+$/, "").replace(/\.$/, "");
  if (axis.signed && scaled > 0) text = `+${text}`;
  return axis.percent ? `${text}%` : text;
}

function scale(values, axis, from, to, room = 0.05) {
  const known = values.filter((value) => value !== null && Number.isFinite(value) && !(axis.log && value <= 0));
  let [low, high] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  const forward = axis.log ? Math.log : (value) => value;
  const back = axis.log ? Math.exp : (value) => value;
  const width = forward(high) - forward(low) || (axis.log ? 1 : Math.abs(high) || 1);
  const ends = [forward(low) - room * width, forward(high) + room * width];
  const place = (value) => from + ((forward(value) - ends[0]) / (ends[1] - ends[0])) * (to - from);
  const count = Math.max(2, Math.round(Math.abs(to - from) / (to < from ? 55 : 85)));
  [low, high] = [back(ends[0]), back(ends[1])];
  let marks = axis.log ? logTicks(low, high) : ticks(low, high, count);
  if (axis.percent) marks = marks.filter((value) => value <= 1 + 1e-9 && value >= -1);
  const texts = marks.map((value) => number(value, axis, marks));
  return { place, marks, texts, low, high };
}

// Leave out labels that would touch the one before.
function spaced(places, texts) {
  let end = -Infinity;
  return places.map((place, index) => {
    const half = measure(texts[index], 12.5) / 2 + 5;
    if (place - half < end) return false;
    end = place + half;
    return true;
  });
}

function drawAcross(root, across, top, bottom, label, middle) {
  const places = across.marks.map(across.place);
  const shown = spaced(places, across.texts);
  places.forEach((x, index) => {
    root.append(svg("line", { class: "grid", x1: x, x2: x, y1: top, y2: bottom }));
    if (shown[index]) {
      root.append(svg("text", { x, y: bottom + 18, "text-anchor": "middle" }, across.texts[index]));
    }
  });
  root.append(svg("text", { x: middle, y: bottom + 38, "text-anchor": "middle" }, label));
}

function drawUp(root, up, left, right, label) {
  up.marks.forEach((value, index) => {
    const y = up.place(value);
    root.append(svg("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }));
    root.append(svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, up.texts[index]));
  });
  root.append(svg("text", { x: 0, y: 12 }, label));
}

function shape(kind, x, y, size = 4.5) {
  const r = size;
  if (kind === "different") {
    return svg("path", { class: "mark", d: `M${x} ${y - r * 1.35}L${x + r * 1.35} ${y}L${x} ${y + r * 1.35}L${x - r * 1.35} ${y}Z` });
  }
  return svg("circle", { class: kind === "undecided" || kind === "hollow" ? "mark hollow" : "mark", cx: x, cy: y, r });
}

function legendItem(kind, className, name, dashed) {
  const icon = svg("svg", { viewBox: kind === "line" ? "0 0 22 12" : "0 0 14 12", class: className, "aria-hidden": "true" });
  icon.append(kind === "line"
    ? svg("path", { class: dashed ? "line dashed" : "line", d: "M1 6H21" })
    : shape(kind, 7, 6, 4));
  return [icon, html("bdi", { class: "label" }, name)];
}

// Show the mark that is nearest to the pointer, or the next one by the arrow keys.
function explain(root, targets, width, description) {
  const tip = document.getElementById("tip");
  const halo = svg("circle", { class: "halo", r: 8, visibility: "hidden" });
  root.append(halo);
  let current = -1;
  const hide = () => { tip.hidden = true; halo.setAttribute("visibility", "hidden"); };
  const show = (index) => {
    current = index;
    const target = targets[index];
    halo.setAttribute("cx", target.x);
    halo.setAttribute("cy", target.y);
    halo.setAttribute("visibility", "visible");
    tip.replaceChildren(html("strong", {}, html("bdi", {}, target.lines[0])), ...target.lines.slice(1).map((line) => html("div", {}, html("bdi", {}, line))));
    tip.hidden = false;
    const box = root.getBoundingClientRect();
    const ratio = box.width / width;
    const x = box.left + scrollX + target.x * ratio;
    const y = box.top + scrollY + target.y * ratio;
    const most = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(most, x + 14))}px`;
    tip.style.top = `${y - tip.offsetHeight - 12 < scrollY ? y + 16 : y - tip.offsetHeight - 12}px`;
  };
  root.setAttribute("tabindex", "0");
  root.setAttribute("role", "img");
  root.setAttribute("aria-label", `${description} Arrow keys go through the values.`);
  root.addEventListener("pointermove", (event) => {
    const box = root.getBoundingClientRect();
    const ratio = width / box.width;
    const [x, y] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    let [best, nearest] = [-1, 32];
    targets.forEach((target, index) => {
      const away = Math.hypot(target.x - x, target.y - y);
      if (away < nearest) [best, nearest] = [index, away];
    });
    if (best < 0) hide(); else show(best);
  });
  root.addEventListener("pointerleave", hide);
  root.addEventListener("blur", hide);
  root.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step || !targets.length) return;
    event.preventDefault();
    show((current + step + targets.length) % targets.length);
  });
}
