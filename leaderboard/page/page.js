"use strict";
const root = document.documentElement;
const themes = ["auto", "light", "dark"];
let theme = "auto";

function stored(value) {
  // A page opened from a file may be refused a store; the choice then lasts until it is closed.
  try {
    if (value === undefined) return localStorage.getItem("attrlab-theme");
    localStorage.setItem("attrlab-theme", value);
  } catch { /* no store */ }
  return value;
}

function show(next) {
  theme = themes.includes(next) ? next : "auto";
  if (theme === "auto") root.removeAttribute("data-theme");
  else root.dataset.theme = theme;
  const button = document.getElementById("theme");
  if (button) button.textContent = "Theme: " + theme;
}

function sort(button) {
  const head = button.closest("th");
  const heads = [...head.parentNode.children];
  const body = head.closest("table").tBodies[0];
  const column = heads.indexOf(head);
  const best = head.dataset.best || "ascending";
  const other = best === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === best ? other : best;
  const sign = order === "ascending" ? 1 : -1;
  for (const each of heads) each.setAttribute("aria-sort", each === head ? order : "none");
  const value = (row) => {
    const cell = row.children[column];
    if (column === 0) return cell.textContent.trim();
    return cell && cell.dataset.v ? Number(cell.dataset.v) : null;
  };
  const rows = [...body.rows].filter((row) => !row.classList.contains("floor"));
  rows.sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (column === 0 ? x.localeCompare(y) : x - y);
  });
  body.append(...rows);
}

show(stored());
document.addEventListener("DOMContentLoaded", () => {
  show(theme);
  document.getElementById("theme").hidden = false;
  document.getElementById("theme").addEventListener("click", () => {
    show(themes[(themes.indexOf(theme) + 1) % themes.length]);
    stored(theme);
  });
  for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => sort(button));
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) target.scrollIntoView();
});
