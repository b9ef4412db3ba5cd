(() => {
  const NUMBER = /^[+\-−]?\d[\d,]*(?:\.\d+)?(?:e[+\-]?\d+)?/i;
  // The figure that a cell begins with; null where it has none, which sorts last in both directions.
  const figure = (text) => {
    const found = NUMBER.exec(text.trim());
    return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : null;
  };
  const compare = (numeric, sign) => (one, other) => {
    if (!numeric) return sign * one.key.localeCompare(other.key, undefined, { numeric: true });
    if (one.key === null || other.key === null) return (one.key === null) - (other.key === null);
    return sign * (one.key - other.key);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, index) => head.querySelector("button")?.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = head.classList.contains("number");
      const rows = [...body.rows].map((row) => {
        const text = row.cells[index].textContent;
        return { row, key: numeric ? figure(text) : text };
      });
      rows.sort(compare(numeric, down ? -1 : 1));
      body.append(...rows.map((one) => one.row));
    }));
    const frame = table.closest(".table");
    const input = frame?.querySelector("input");
    input?.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      frame.querySelector(".count").textContent = words.length ? `${shown} of ${body.rows.length} rows` : "";
    });
  }
})();
