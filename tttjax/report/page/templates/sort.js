"use strict";
// Tables sort by a click on a column's head: up, down, and back to the order they came in.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  if (original.length < 2) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = { ascending: "descending", descending: "none" };
      const next = order[head.getAttribute("aria-sort")] ?? "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") head.setAttribute("aria-sort", next);
      table.classList.toggle("sorted", next !== "none");
      body.append(...(next === "none" ? original : sorted(original, column, next)));
    });
  });
}

function sorted(rows, column, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  return [...rows].sort((a, b) => {
    const [x, y] = [a.cells[column], b.cells[column]];
    const empty = (x.textContent === "") - (y.textContent === "");
    if (empty) return empty; // what has no value stands last either way
    if ("key" in x.dataset && "key" in y.dataset) return sign * (x.dataset.key - y.dataset.key);
    return sign * x.textContent.localeCompare(y.textContent, undefined, { numeric: true });
  });
}
