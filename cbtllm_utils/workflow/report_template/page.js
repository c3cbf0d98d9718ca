// The page can be read without this script. Headers of sortable tables are buttons: a click or Enter sorts by the column, once more the other way around.
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
// A link into something folded opens it.
function unfold() {
  const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!place) return;
  if (place.id === "contents") place.querySelector("details").open = true;
  for (let fold = place.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  place.scrollIntoView();
}
addEventListener("hashchange", unfold);
document.addEventListener("click", event => {
  const link = event.target.closest('a[href^="#"]');
  if (link && link.hash === location.hash) unfold();
});
unfold();
// On a phone the conditions in a caption are folded.
if (matchMedia("(max-width: 44rem)").matches) {
  for (const caption of document.querySelectorAll("details.caption")) caption.open = false;
}
// What is wider than its frame says so.
const seen = new ResizeObserver(entries => {
  for (const { target } of entries) target.classList.toggle("wide", target.scrollWidth > target.clientWidth + 1);
});
for (const frame of document.querySelectorAll(".scroll")) seen.observe(frame);
