"""The script of an inspection's page: it draws the heat maps and steps through the sequence.

It takes everything from the page's own JSON, writes text by ``textContent`` only, and asks no server.
"""

from __future__ import annotations

SCRIPT = """\
"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const palettes = Object.fromEntries(Object.entries(data.palettes).map(([k, v]) => [k, bytes(v)]));
  for (const layer of data.layers) for (const array of layer.arrays) array.bytes = bytes(array.values);
  const strip = data.strip, steps = data.steps.length;
  if (strip.values) strip.bytes = bytes(strip.values);
  const slider = find("step"), layerChoice = find("layer"), orderChoice = find("order");
  const unitInput = find("unit");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let maps = [];

  const number = (x) => (x === null ? "" : Math.abs(x) >= 1e-3 && Math.abs(x) < 1e5 || x === 0
    ? String(Number(x.toPrecision(4))) : x.toExponential(2));
  const percent = (p) => (100 * p).toFixed(p < 0.1 ? 2 : 1) + " %";
  const step = () => Number(slider.value) - 1;
  const layer = () => data.layers[Number(layerChoice.value)];
  const units = (array) => (orderChoice.value === "memory" && array.order.length ? array.order : array.units);
  const valueAt = (array, t, unit) => {
    const byte = array.bytes[t * array.units.length + array.units.indexOf(unit)];
    return array.low + (array.high - array.low) * byte / 255;
  };

  // A picture of one pixel a step and row, enlarged without smoothing.
  function paint(canvas, rows, columns, palette, byteAt) {
    const small = document.createElement("canvas");
    small.width = columns; small.height = rows;
    const image = new ImageData(columns, rows);
    for (let row = 0, at = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
      const colour = 3 * byteAt(row, column);
      image.data[at++] = palette[colour]; image.data[at++] = palette[colour + 1];
      image.data[at++] = palette[colour + 2]; image.data[at++] = 255;
    }
    small.getContext("2d").putImageData(image, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  function fit(canvas) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  }

  // Two outlines, so that one of them shows on any colour.
  function outline(canvas, x, y, width, height) {
    const context = canvas.getContext("2d");
    for (const [colour, line] of [["#ffffff", 5], ["#000000", 2]]) {
      context.strokeStyle = colour; context.lineWidth = line;
      context.strokeRect(x + 1, y + 1, Math.max(width - 2, 1), Math.max(height - 2, 1));
    }
  }

  function drawMap({ canvas, array }) {
    fit(canvas);
    const rows = units(array), width = array.units.length;
    const places = rows.map((unit) => array.units.indexOf(unit));
    paint(canvas, rows.length, steps, palettes[array.gate ? "gate" : "signed"],
      (row, column) => array.bytes[column * width + places[row]]);
    const column = canvas.width / steps, row = canvas.height / rows.length;
    outline(canvas, step() * column, 0, column, canvas.height);
    const place = rows.indexOf(Number(unitInput.value));
    if (place >= 0) outline(canvas, 0, place * row, canvas.width, Math.max(row, 4));
  }

  function drawInput() {
    const canvas = find("input");
    if (!canvas) return;
    fit(canvas);
    const count = strip.names.length || strip.width, column = canvas.width / steps;
    if (strip.kind === "picture" || count > 3) {
      paint(canvas, strip.width, steps, palettes[strip.kind === "picture" ? "grey" : "signed"],
        (row, at) => strip.bytes[at * strip.width + row]);
    } else {
      const context = canvas.getContext("2d"), part = canvas.height / count;
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.strokeStyle = dark.matches ? "#8ec7f5" : "#005a9c"; context.lineWidth = 2;
      for (let k = 0; k < count; k++) {
        context.beginPath();
        for (let t = 0; t < steps; t++) {
          const y = part * (k + 0.95 - 0.9 * strip.bytes[t * count + k] / 255);
          context.lineTo((t + 0.5) * column, y);
        }
        context.stroke();
      }
    }
    outline(canvas, step() * column, 0, column, canvas.height);
  }

  function choose(event, array) {
    const box = event.target.getBoundingClientRect(), rows = units(array);
    const place = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    slider.value = 1 + place((event.clientX - box.left) / box.width, steps);
    unitInput.value = rows[place((event.clientY - box.top) / box.height, rows.length)];
    draw();
  }

  function makeMaps() {
    const home = find("maps");
    home.replaceChildren();
    maps = layer().arrays.map((array) => {
      const figure = document.createElement("figure"), caption = document.createElement("figcaption");
      const name = document.createElement("span"), range = document.createElement("span");
      name.textContent = array.label;
      range.textContent = number(array.low) + " to " + number(array.high);
      range.className = "quiet";
      caption.append(name, range);
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", "Heat map of " + array.label + ", " + array.units.length
        + " units by " + steps + " steps; the table below has the values of one step and unit");
      canvas.addEventListener("click", (event) => choose(event, array));
      figure.append(caption, canvas);
      home.append(figure);
      return { canvas, array };
    });
    const most = Math.max(...layer().arrays.map((array) => Math.max(...array.units)));
    unitInput.max = most;
    if (Number(unitInput.value) > most) unitInput.value = 0;
    const head = find("values-head"), body = find("values");
    body.replaceChildren(...layer().arrays.map((array) => row([array.label, ""])));
    head.textContent = "Values in " + layer().title;
  }

  function row(cells) {
    const found = document.createElement("tr");
    cells.forEach((text, n) => {
      const cell = document.createElement(n ? "td" : "th");
      if (n) cell.className = "number"; else cell.scope = "row";
      cell.textContent = text;
      found.append(cell);
    });
    return found;
  }

  function showValues() {
    const unit = Number(unitInput.value), rows = find("values").children;
    layer().arrays.forEach((array, n) => {
      const known = array.units.includes(unit);
      rows[n].children[1].textContent = known ? number(valueAt(array, step(), unit)) : "not shown";
    });
    const where = "Step " + slider.value + ", " + data.steps[step()];
    find("values-of").textContent = where + "; unit " + unit + ".";
  }

  function answerRow(name, p, remark) {
    const found = row([name + (remark && " (" + remark + ")"), percent(p)]);
    const meter = document.createElement("meter"), cell = document.createElement("td");
    meter.min = 0; meter.max = 1; meter.value = p;
    meter.setAttribute("aria-label", "probability of " + name);
    cell.append(meter);
    found.append(cell);
    return found;
  }

  function showAnswers() {
    const t = step(), answers = data.answers, body = find("answers"), said = [];
    said.push(data.unit[0].toUpperCase() + data.unit.slice(1) + " " + slider.value + " of " + steps
      + (data.steps[t] === data.unit + " " + slider.value ? "" : ": " + data.steps[t]) + ".");
    if (answers.kind === "tokens") {
      const bits = answers.bits[t];
      if (bits !== null) said.push("Surprise of this token: " + bits.toFixed(2) + " bits.");
      const next = t + 1 < steps ? data.steps[t + 1] : null;
      if (next !== null) said.push("Next comes " + next + ", which had a probability of "
        + percent(2 ** -answers.bits[t + 1]) + ".");
      body.replaceChildren(...answers.names[t].map((name, k) =>
        answerRow(name, answers.p[t][k], name === next ? "comes next" : "")));
    } else if (answers.kind === "classes") {
      body.replaceChildren(...answers.best[t].map((k, n) =>
        answerRow(answers.names[k], answers.p[t][n], k === answers.true ? "true" : "")));
    } else if (answers.kind === "numbers") {
      body.replaceChildren(...answers.names.map((name, k) => row([name, number(answers.values[t][k]),
        answers.true === null ? "" : number(answers.true[t][k])])));
    }
    if (strip.kind === "series") {
      const read = strip.names.slice(0, 6).map((name, k) => name + " " + number(strip.read[t][k]));
      said.push(read.join(", ") + ".");
    }
    find("where").textContent = said.join(" ");
    slider.setAttribute("aria-valuetext", data.steps[t]);
    document.querySelectorAll("#sequence li").forEach((item, n) => {
      if (n === t) item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
    });
  }

  function draw() {
    maps.forEach(drawMap);
    drawInput();
    showValues();
    showAnswers();
  }

  function move(by) {
    slider.value = Math.min(steps, Math.max(1, Number(slider.value) + by));
    draw();
  }

  find("before").addEventListener("click", () => move(-1));
  find("after").addEventListener("click", () => move(1));
  for (const control of [slider, unitInput, orderChoice]) control.addEventListener("input", draw);
  layerChoice.addEventListener("change", () => { makeMaps(); draw(); });
  document.querySelectorAll("canvas.scale").forEach((canvas) => {
    fit(canvas);
    paint(canvas, 1, 256, palettes[canvas.dataset.palette], (_, column) => column);
  });
  const axis = find("axis");
  if (axis) axis.style.gridTemplateColumns = "repeat(" + steps + ", 1fr)";
  addEventListener("resize", draw);
  dark.addEventListener("change", draw);
  makeMaps();
  draw();
})();
"""
