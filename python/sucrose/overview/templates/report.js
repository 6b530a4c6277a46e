"use strict";
// The page can be read without this: it sorts, hides lines, and shows values under the pointer.
// Names get into the page as text only.

const { runs, panels, frame } = JSON.parse(document.getElementById("data").textContent);
const hidden = new Set();

function element(name, attributes, namespace = "http://www.w3.org/2000/svg") {
  const made = document.createElementNS(namespace, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Theme

const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});

// Sorting: numbers before texts, cells without an order last in either direction

function compare(a, b) {
  const [x, y] = [Number(a), Number(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  return a.localeCompare(b, undefined, { numeric: true });
}

function sortBy(head) {
  const table = head.closest("table");
  const column = head.cellIndex;
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of head.parentElement.cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const orderOf = (row) => row.cells[column].dataset.order;
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [orderOf(a), orderOf(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * compare(x, y);
  });
  table.tBodies[0].append(...rows);
}

for (const head of document.querySelectorAll("#runs-table thead th")) {
  head.setAttribute("aria-sort", "none");
  head.tabIndex = 0;
  head.addEventListener("click", () => sortBy(head));
  head.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    sortBy(head);
  });
}

// Legend: a click hides a run or shows it again, with Shift it shows only that one

function showRuns() {
  for (const button of document.querySelectorAll("#legend button")) {
    button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.run))));
  }
  for (const line of document.querySelectorAll("figure g[data-run]")) {
    line.classList.toggle("off", hidden.has(Number(line.dataset.run)));
  }
}

for (const button of document.querySelectorAll("#legend button")) {
  const run = Number(button.dataset.run);
  button.disabled = false;
  button.title = "Hide or show; with Shift, show only this one";
  button.addEventListener("click", (event) => {
    if (event.shiftKey) {
      const isAlone = !hidden.has(run) && hidden.size === runs.length - 1;
      hidden.clear();
      if (!isAlone) runs.forEach((_, other) => other !== run && hidden.add(other));
    } else if (!hidden.delete(run)) {
      hidden.add(run);
    }
    showRuns();
  });
}

// Values under the pointer

function scaled(axis, value, begin, end) {
  const position = axis.isLog ? Math.log10(value) : value;
  return begin + ((position - axis.low) / (axis.high - axis.low)) * (end - begin);
}

function nearest(steps, step) {
  let [low, high] = [0, steps.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle;
    else high = middle;
  }
  return Math.abs(steps[low] - step) <= Math.abs(steps[high] - step) ? low : high;
}

function watch(figure) {
  const panel = panels[Number(figure.dataset.panel)];
  const svg = figure.querySelector("svg");
  const marks = element("g", {});
  const tip = element("div", { class: "tip off" }, "http://www.w3.org/1999/xhtml");
  svg.append(marks);
  figure.append(tip);

  function leave() {
    marks.replaceChildren();
    tip.classList.add("off");
  }

  function show(event) {
    const box = svg.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * frame.width - frame.left) / (frame.right - frame.left);
    const step = panel.x.low + Math.min(Math.max(share, 0), 1) * (panel.x.high - panel.x.low);
    const points = panel.lines
      .filter((line) => !hidden.has(line.run))
      .map((line) => ({ ...line, at: nearest(line.steps, step) }))
      .map(({ run, steps, values, at }) => ({ run, step: steps[at], value: values[at] }))
      .sort((a, b) => (b.value ?? -Infinity) - (a.value ?? -Infinity));
    if (!points.length) return leave();
    const closest = points.reduce((a, b) => (Math.abs(b.step - step) < Math.abs(a.step - step) ? b : a)).step;
    const x = scaled(panel.x, closest, frame.left, frame.right);
    marks.replaceChildren(element("path", { d: `M${x},${frame.top}V${frame.bottom}`, class: "pointer" }));
    const rows = [Object.assign(document.createElement("small"), { textContent: `step ${closest}` })];
    for (const { run, step: own, value } of points) {
      const path = svg.querySelector(`g[data-run="${run}"] path:last-child`);
      if (value !== null) {
        const [dotX, dotY] = [scaled(panel.x, own, frame.left, frame.right), scaled(panel.y, value, frame.bottom, frame.top)];
        marks.append(element("path", { d: `M${dotX},${dotY}h0`, class: `dot ${path.getAttribute("class")}` }));
      }
      const row = document.createElement("div");
      const name = document.createElement("span");
      const number = document.createElement("span");
      name.textContent = runs[run];
      number.className = "value";
      number.textContent = value === null ? "not finite" : String(Number(value.toPrecision(5)));
      row.append(document.querySelector(`#legend [data-run="${run}"] svg`).cloneNode(true), name, number);
      if (own !== closest) row.append(Object.assign(document.createElement("small"), { textContent: `at ${own}` }));
      rows.push(row);
    }
    tip.replaceChildren(...rows);
    tip.classList.remove("off");
    const isRight = share > 0.5;
    tip.style.left = isRight ? "auto" : `${((x + 10) / frame.width) * 100}%`;
    tip.style.right = isRight ? `${(1 - (x - 10) / frame.width) * 100}%` : "auto";
  }

  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerleave", leave);
}

document.querySelectorAll("figure").forEach(watch);
