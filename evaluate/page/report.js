// Sorts a table by the column whose heading is pressed. Without this script the page reads the same.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const value = (row, i) => row.cells[i].dataset.v;
  const compare = (a, b, i, sign) => {
    if (heads[i].classList.contains("n")) {
      const [x, y] = [value(a, i), value(b, i)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return sign * (x - y);
    }
    const [x, y] = [a.cells[i].textContent, b.cells[i].textContent];
    if (!x || !y) return !x - !y;
    return sign * x.localeCompare(y, "en", { numeric: true });
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
