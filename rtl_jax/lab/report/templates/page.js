"use strict";

document.documentElement.classList.add("script");

// What a cell is sorted by: numbers before texts, and what is missing behind both either way.
function sortKey(cell) {
  if (cell.classList.contains("missing")) return { rank: 2 };
  if (cell.dataset.v !== undefined) return { rank: 0, value: Number(cell.dataset.v) };
  return { rank: 1, value: cell.textContent };
}

const texts = new Intl.Collator(undefined, { numeric: true });

function compare(one, other, sign) {
  if (one.rank !== other.rank) return one.rank === 2 || other.rank === 2
    ? one.rank - other.rank : sign * (one.rank - other.rank);
  if (one.rank === 2) return 0;
  return sign * (one.rank === 0 ? one.value - other.value : texts.compare(one.value, other.value));
}

function sortBy(table, heading) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [sortKey(row.cells[heading.cellIndex]), row]);
  rows.sort((one, other) => compare(one[0], other[0], descending ? -1 : 1));
  body.append(...rows.map(([, row]) => row));
}

// Rows stay that have all the words, wherever in them.
function filterRows(rows, query, count) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const [row, text] of rows) {
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
}

for (const block of document.querySelectorAll(".table")) {
  const table = block.querySelector("table");
  for (const heading of table.tHead.rows[0].cells) {
    heading.firstChild.addEventListener("click", () => sortBy(table, heading));
  }
  const rows = [...table.tBodies[0].rows].map((row) =>
    [row, [...row.cells].map((cell) => cell.textContent.toLowerCase()).join(" ")]);
  const count = block.querySelector(".count");
  block.querySelector("input").addEventListener("input", (event) =>
    filterRows(rows, event.target.value, count));
}

// Charts: the values at the place under the pointer or the finger, or by the arrow keys.
const tip = document.getElementById("tip");
let current = null;

function hide() {
  if (current) current.classList.remove("on");
  current = null;
  tip.hidden = true;
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function show(band) {
  if (band === current) return;
  hide();
  current = band;
  band.classList.add("on");
  const [title, values] = JSON.parse(band.dataset.tip);
  tip.replaceChildren(element("b", title));
  for (const [color, name, text] of values) {
    const line = element("span", "", `c${color}`);
    line.append(element("i", ""), element("em", `${name}: ${text}`));
    tip.append(line);
  }
  tip.hidden = false;
  const place = band.querySelector(".guide").getBoundingClientRect();
  const right = place.right + 12, left = place.left - 12 - tip.offsetWidth;
  const fits = right + tip.offsetWidth < document.documentElement.clientWidth;
  tip.style.left = `${fits ? right : Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, place.top)}px`;
}

for (const chart of document.querySelectorAll(".chart > svg")) {
  const bands = [...chart.querySelectorAll(".band")];
  for (const band of bands) {
    band.addEventListener("pointerenter", () => show(band));
    band.addEventListener("click", () => show(band));
  }
  chart.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") hide();
  });
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step || !bands.length) return;
    event.preventDefault();
    const next = current ? bands.indexOf(current) + step : 0;
    show(bands[Math.min(Math.max(next, 0), bands.length - 1)]);
  });
}

document.addEventListener("scroll", hide, { passive: true });
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest(".chart > svg")) hide();
});
