for (const table of document.querySelectorAll("table.data[id]")) {
  const head = table.tHead.rows[table.tHead.rows.length - 1];
  [...head.cells].forEach((cell, at) => cell.querySelector("button").addEventListener("click", () => {
    const down = cell.getAttribute("aria-sort") === "ascending";
    for (const other of head.cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[at].dataset.sort ?? row.cells[at].textContent;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");  // gaps stay last
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y, "en", {numeric: true}) : x - y;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }));
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => { d.open = true; }));
