// Three quantities at once: points in a box that is turned and tilted with two sliders.
const START = { turn: 30, tilt: 20 };

// From a place in the box, each side from -0.5 to 0.5, to one on the page.
function viewer(choice, width, height) {
  const [turn, tilt] = [choice.turn, choice.tilt].map((degrees) => (degrees * Math.PI) / 180);
  const size = Math.min(width - 60, (height - 100) / (Math.cos(tilt) + 1.42 * Math.sin(tilt)));
  const wide = Math.min((width - 120) / 1.42, 2 * size);
  const place = ([a, b, c]) => {
    const [right, back] = [a * Math.cos(turn) - b * Math.sin(turn), a * Math.sin(turn) + b * Math.cos(turn)];
    return [width / 2 + wide * right, (height - 50) / 2 - size * (c * Math.cos(tilt) + back * Math.sin(tilt)), back];
  };
  return { place, front: [Math.sin(turn) > 0 ? -0.5 : 0.5, Math.cos(turn) > 0 ? -0.5 : 0.5], size };
}

function drawBox(root, view, scales, width, height) {
  const taken = [];
  const line = (from, to) => {
    const [[x1, y1], [x2, y2]] = [view.place(from), view.place(to)];
    root.append(svg("line", { class: "grid", x1, y1, x2, y2 }));
  };
  const write = (x, y, text) => {
    const half = measure(text, 12.5) / 2;
    const middle = Math.max(half + 2, Math.min(width - half - 2, x));
    if (taken.some((one) => Math.abs(one.middle - middle) < one.half + half + 6 && Math.abs(one.y - y) < 15)) return;
    taken.push({ middle, half, y });
    root.append(svg("text", { x: middle, y, "text-anchor": "middle" }, text));
  };
  const below = (at, text) => {
    const [x, y] = view.place(at);
    write(x, y + 18, text);
  };
  const [sideA, sideB] = view.front;
  const [across, back, up] = scales;
  across.marks.forEach((mark, index) => {
    line([across.at(mark), -0.5, -0.5], [across.at(mark), 0.5, -0.5]);
    below([across.at(mark), sideB, -0.5], across.texts[index]);
  });
  back.marks.forEach((mark, index) => {
    line([-0.5, back.at(mark), -0.5], [0.5, back.at(mark), -0.5]);
    below([sideA, back.at(mark), -0.5], back.texts[index]);
  });
  for (const end of [-0.5, 0.5]) {
    line([end, -0.5, -0.5], [end, 0.5, -0.5]);
    line([-0.5, end, -0.5], [0.5, end, -0.5]);
  }
  const corners = [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]];
  const left = corners.reduce((one, other) => (view.place([...other, 0])[0] < view.place([...one, 0])[0] ? other : one));
  line([...left, -0.5], [...left, 0.5]);
  up.marks.forEach((mark, index) => {
    const [x, y] = view.place([...left, up.at(mark)]);
    root.append(svg("text", { x: x - 7, y: y + 4, "text-anchor": "end" }, up.texts[index]));
  });
  write(view.place([0, sideB, -0.5])[0], height - 22, across.axis.label);
  write(view.place([sideA, 0, -0.5])[0], height - 5, back.axis.label);
  root.append(svg("text", { x: 0, y: 12 }, up.axis.label));
}

function cloud(data, width, _hidden, choice) {
  const height = Math.max(320, Math.min(480, width * 0.62));
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}` });
  const view = viewer(choice, width, height);
  const scales = data.quantities.map((one) => {
    const values = data.candidates.map((candidate) => candidate.dots[one.key].value);
    const found = scale(values, one.axis, 0, view.size, 0.06);
    return { ...found, axis: one.axis, at: (value) => found.place(value) / view.size - 0.5 };
  });
  drawBox(root, view, scales, width, height);
  const best = new Set(data.front);
  const points = data.candidates.map((one, index) => {
    const at = data.quantities.map((quantity, axis) => scales[axis].at(one.dots[quantity.key].value));
    return { one, index, at, shown: view.place(at) };
  });
  points.sort((one, other) => other.shown[2] - one.shown[2]); // what is further back is drawn first
  const targets = [];
  const named = [];
  for (const { one, index, at, shown: [x, y] } of points) {
    const group = svg("g", { class: colour(index) });
    if (best.has(index)) {
      const [x2, y2] = view.place([at[0], at[1], -0.5]);
      group.append(svg("line", { class: "interval", x1: x, y1: y, x2, y2 }));
    }
    group.append(shape(one.hollow ? "hollow" : "", x, y, best.has(index) ? 6 : 3));
    root.append(group);
    const size = measure(one.name);
    const start = x + 10 + size < width ? x + 10 : x - 10 - size;
    if (best.has(index) && start > 0 && !named.some(([nx, ny, ns]) => Math.abs(ny - y) < 16 && nx < start + size && start < nx + ns)) {
      named.push([start, y, size]);
      root.append(svg("text", { class: "name over", x: start, y: y - 8 }, one.name));
    }
    const told = data.quantities.map((quantity) => `${quantity.axis.label}: ${one.dots[quantity.key].text}`);
    targets.push({ x, y, lines: [one.name, ...told, best.has(index) ? "beaten by none in all three" : "beaten by another one"] });
  }
  return { root, targets };
}

function sliders(choice, redraw) {
  const box = html("div", { class: "choices" });
  for (const [key, label, most] of [["turn", "Turn:", 360], ["tilt", "Tilt:", 90]]) {
    const input = html("input", { type: "range", min: 0, max: most, step: 5, value: choice[key] });
    input.addEventListener("input", () => { choice[key] = Number(input.value); redraw(); });
    box.append(html("label", {}, label, input));
  }
  return box;
}
