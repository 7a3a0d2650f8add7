// Sorts a table by the column whose heading is clicked. Without this script the page has the same content.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const kind = cell => cell.dataset.v !== undefined ? 0 : ["", "–"].includes(cell.textContent) ? 2 : 1;
  const compare = (a, b, i, sign) => {  // numbers, then text, then what is missing
    const [x, y] = [a.cells[i], b.cells[i]];
    if (kind(x) !== kind(y) || kind(x) === 2) return kind(x) - kind(y);
    if (kind(x) === 0) return sign * (x.dataset.v - y.dataset.v);
    return sign * x.textContent.localeCompare(y.textContent, "en", { numeric: true });
  };
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      body.append(...[...body.rows].sort((a, b) => compare(a, b, i, falls ? -1 : 1)));
    });
  });
}
