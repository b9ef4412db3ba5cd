// The charts: each takes a figure's data and draws it at the width that there is.
const MOST_AT_ONCE = 8; // series that are drawn at first; the legend has the others
const MOST_NAMED = 16; // points of a trade-off that are all named; of more, the front is, and the pointer names the others

function dots(data, width, hidden) {
  const series = data.series.map((one, index) => ({ ...one, index })).filter((one) => !hidden.has(one.index));
  const longest = Math.max(...data.rows.map((row) => measure(row)));
  const narrow = width < 560 || longest > width / 4; // names above the dots, not next to them
  const left = narrow ? 12 : longest + 24;
  const [right, head] = [width - 16, narrow ? 22 : 0];
  const rowHeight = Math.max(26, series.length * 15 + 12) + head;
  const bottom = 8 + data.rows.length * rowHeight;
  const root = svg("svg", { viewBox: `0 0 ${width} ${bottom + 46}` });
  const values = series.flatMap((one) => one.dots.flatMap((dot) => [dot.value, dot.low, dot.high]));
  const across = scale([...values, data.zero, ...(data.band ?? [])], data.axis, left, right);
  data.rows.forEach((row, index) => {
    const y = 8 + index * rowHeight;
    if (index % 2 === 0) root.append(svg("rect", { class: "stripe", x: 0, y, width, height: rowHeight }));
  });
  if (data.band) {
    const [from, to] = data.band.map(across.place);
    root.append(svg("rect", { class: "band", x: from, y: 8, width: to - from, height: bottom - 8 }));
  }
  drawAcross(root, across, 8, bottom, data.axis.label, (left + right) / 2);
  root.append(svg("line", { class: "zero", x1: across.place(data.zero), x2: across.place(data.zero), y1: 8, y2: bottom }));
  const targets = [];
  data.rows.forEach((row, index) => {
    const y = 8 + index * rowHeight;
    const place = narrow ? { x: 6, y: y + 16 } : { x: left - 12, y: y + rowHeight / 2 + 5, "text-anchor": "end" };
    root.append(svg("text", { class: data.total && index === data.rows.length - 1 ? "name strong" : "name", ...place }, row));
    series.forEach((one, order) => {
      const dot = one.dots[index];
      if (dot.value === null) return;
      const middle = y + head + (rowHeight - head) / 2 + (order - (series.length - 1) / 2) * 15;
      const group = svg("g", { class: colour(one.index) });
      if (dot.low !== null && dot.high !== null) {
        group.append(svg("line", { class: "interval", x1: across.place(dot.low), x2: across.place(dot.high), y1: middle, y2: middle }));
      }
      group.append(shape(dot.answer, across.place(dot.value), middle));
      root.append(group);
      targets.push({ x: across.place(dot.value), y: middle, lines: [row, one.name, `${dot.text} ${dot.answer}`] });
    });
  });
  return { root, targets };
}

function tradeOff(data, width, _hidden, choice) {
  const [left, right, top, bottom] = [62, width - 18, 28, Math.max(270, Math.min(400, width * 0.55))];
  const [x, y] = [data.across[choice.across], data.up[choice.up]];
  const root = svg("svg", { viewBox: `0 0 ${width} ${bottom + 46}` });
  const known = data.candidates.map((one, index) => ({ ...one, index })).filter((one) => (one.dots[x.key]?.value ?? null) !== null && (one.dots[y.key]?.value ?? null) !== null);
  const ends = (key) => known.flatMap((one) => [one.dots[key].value, one.dots[key].low, one.dots[key].high]);
  const across = scale(ends(x.key), x.axis, left, right, 0.1);
  const up = scale(ends(y.key), y.axis, bottom, top, 0.1);
  drawAcross(root, across, top, bottom, x.axis.label, (left + right) / 2);
  drawUp(root, up, left, right, y.axis.label);
  const front = data.fronts[`${x.key}|${y.key}`];
  const best = front.map((index) => data.candidates[index].dots);
  if (best.length > 1) {
    const steps = best.map((one) => [across.place(one[x.key].value), up.place(one[y.key].value)]);
    const path = steps.map(([px, py], index) => (index ? `H${px}V${py}` : `M${px} ${py}`)).join("");
    root.append(svg("path", { class: "front", d: path }));
  }
  const targets = [];
  const taken = [];
  for (const one of known) {
    const [dx, dy] = [one.dots[x.key], one.dots[y.key]];
    const [px, py] = [across.place(dx.value), up.place(dy.value)];
    const group = svg("g", { class: colour(one.index) });
    if (dx.low !== null && dx.high !== null) group.append(svg("line", { class: "interval", x1: across.place(dx.low), x2: across.place(dx.high), y1: py, y2: py }));
    if (dy.low !== null && dy.high !== null) group.append(svg("line", { class: "interval", x1: px, x2: px, y1: up.place(dy.low), y2: up.place(dy.high) }));
    group.append(shape(one.hollow ? "hollow" : "", px, py, 5.5));
    root.append(group);
    taken.push([px - 7, py - 7, px + 7, py + 7]);
    targets.push({ x: px, y: py, best: front.includes(one.index), lines: [one.name, `${y.axis.label}: ${dy.text}`, `${x.axis.label}: ${dx.text}`] });
  }
  // The names of the front come first, and of very many points they are the only ones.
  const others = known.length > MOST_NAMED ? [] : targets.filter((one) => !one.best);
  for (const target of [...targets.filter((one) => one.best), ...others]) {
    const size = measure(target.lines[0]);
    const tries = [[10, -8], [10, 18], [-10 - size, -8], [-10 - size, 18], [10, 34], [-10 - size, 34], [10, -24], [-10 - size, -24]];
    const found = tries.map(([ox, oy]) => [target.x + ox, target.y + oy]).find(([tx, ty]) => tx > left && tx + size < right && ty > top + 4 && ty < bottom && !taken.some((box) => tx < box[2] && tx + size > box[0] && ty - 12 < box[3] && ty + 3 > box[1]));
    if (!found) continue; // the legend and the pointer name it
    taken.push([found[0], found[1] - 12, found[0] + size, found[1] + 3]);
    root.append(svg("text", { class: "name over", x: found[0], y: found[1] }, target.lines[0]));
  }
  return { root, targets };
}

function lines(data, width, hidden) {
  const [left, right, top, bottom] = [62, width - 18, 28, Math.max(230, Math.min(340, width * 0.45))];
  const root = svg("svg", { viewBox: `0 0 ${width} ${bottom + 46}` });
  const shown = data.lines.map((one, index) => ({ ...one, index })).filter((one) => !hidden.has(one.index));
  const across = scale(shown.flatMap((one) => one.xs), data.across, left, right, 0.02);
  const up = scale(data.steps ? [0, 1] : shown.flatMap((one) => one.ys), data.up, bottom, top, data.steps ? 0 : 0.08);
  if (data.points) { // epochs are whole numbers
    across.marks = across.marks.filter(Number.isInteger);
    across.texts = across.marks.map(String);
  }
  drawAcross(root, across, top, bottom, data.across.label, (left + right) / 2);
  drawUp(root, up, left, right, data.up.label);
  const targets = [];
  for (const one of shown) {
    const points = one.xs.map((x, index) => [across.place(x), up.place(one.ys[index]), index]).filter(([px, py]) => Number.isFinite(px) && Number.isFinite(py));
    const path = points.map(([px, py], index) => (index === 0 ? `M${px.toFixed(1)} ${py.toFixed(1)}` : data.steps ? `H${px.toFixed(1)}V${py.toFixed(1)}` : `L${px.toFixed(1)} ${py.toFixed(1)}`)).join("");
    const group = svg("g", { class: colour(one.colour) }, svg("path", { class: one.dashed ? "line dashed" : "line", d: path }));
    root.append(group);
    for (const [px, py, index] of points) {
      if (data.points) group.append(shape(one.dashed ? "hollow" : "", px, py, 3.5));
      const value = data.up.percent ? `${(100 * one.ys[index]).toFixed(1)}%` : one.ys[index].toPrecision(4);
      targets.push({ x: px, y: py, lines: [one.name, `${data.up.label}: ${value}`, `${data.across.label}: ${Number(one.xs[index].toPrecision(4))}`] });
    }
  }
  return { root, targets };
}

(() => {
  const draw = { dots, "trade-off": tradeOff, cloud, lines };

  function legend(data, hidden, redraw) {
    const list = html("ul", { class: "legend" });
    const named = data.series ?? data.lines ?? data.candidates;
    named.forEach((one, index) => {
      const kind = data.lines ? "line" : one.hollow ? "hollow" : "";
      const parts = legendItem(kind, colour(one.colour ?? index), one.name, one.dashed);
      if (data.candidates) {
        list.append(html("li", { class: "key" }, ...parts));
        return;
      }
      const button = html("button", { type: "button", "aria-pressed": String(!hidden.has(index)) }, ...parts);
      button.addEventListener("click", () => {
        if (!hidden.delete(index)) hidden.add(index);
        button.setAttribute("aria-pressed", String(!hidden.has(index)));
        redraw();
      });
      list.append(html("li", {}, button));
    });
    for (const answer of data.answers ?? []) {
      list.append(html("li", { class: "key" }, ...legendItem(answer, "s6", answer)));
    }
    return list;
  }

  function choices(data, choice, redraw) {
    const box = html("div", { class: "choices" });
    for (const [key, label] of [["up", "Up:"], ["across", "Across:"]]) {
      const select = html("select", {});
      data[key].forEach((one, index) => select.append(html("option", { value: index }, one.axis.label)));
      select.addEventListener("change", () => { choice[key] = Number(select.value); redraw(); });
      box.append(html("label", {}, label, select));
    }
    return box;
  }

  for (const host of document.querySelectorAll(".chart")) {
    const data = JSON.parse(document.getElementById(`data-${host.dataset.figure}`).textContent);
    const several = (data.series ?? data.lines ?? []).length;
    const hidden = new Set(Array.from({ length: several }, (_one, index) => index).slice(MOST_AT_ONCE));
    const choice = { across: 0, up: 0, ...START };
    const canvas = html("div", {});
    let drawn = 0;
    const redraw = () => {
      drawn = Math.max(260, Math.floor(host.clientWidth));
      const { root, targets } = draw[data.kind](data, drawn, hidden, choice);
      explain(root, targets, drawn, `${data.title}. ${data.description}`);
      canvas.replaceChildren(root);
    };
    if (data.up && data.candidates) host.append(choices(data, choice, redraw));
    if (data.quantities) host.append(sliders(choice, redraw));
    if ((data.candidates ?? []).length <= MOST_NAMED) host.append(legend(data, hidden, redraw));
    host.append(canvas);
    new ResizeObserver(() => { if (host.clientWidth && Math.abs(host.clientWidth - drawn) > 1) redraw(); }).observe(host);
    redraw();
  }
})();
