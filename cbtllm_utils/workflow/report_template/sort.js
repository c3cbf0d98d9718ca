// Headers of sortable tables are buttons: a click or Enter sorts by the column, once more the other way around.
const compare = (a, b) => {
  const [x, y] = [a, b].map(text => Number.parseFloat(text.replace(/,/g, "").replace("−", "-")));
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const sign = header.ariaSort === "ascending" ? -1 : 1;
      for (const other of headers) other.ariaSort = null;
      header.ariaSort = sign > 0 ? "ascending" : "descending";
      const text = row => row.cells[column].textContent.trim();
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => sign * compare(text(a), text(b))));
    });
  });
}
