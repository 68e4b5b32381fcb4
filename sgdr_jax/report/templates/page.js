"use strict";
// Sorts tables by the column whose button is pressed, and confusion matrices by the order that is chosen.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const words = head.classList.contains("text") && body.rows[0]?.cells[column].dataset.v === undefined;
      const before = head.getAttribute("aria-sort"), down = words ? before === "ascending" : before !== "descending";
      const key = (row) => {
        const text = row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
        return words ? text : Number.parseFloat(text.replace("−", "-").replaceAll(",", ""));
      };
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // unknown ones last
        const order = words ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      });
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows);
    });
  });
}
for (const select of document.querySelectorAll("select[data-matrix]")) {
  const table = document.getElementById(select.dataset.matrix), rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].cells];
  const cells = rows.map((row) => [...row.cells]);
  select.addEventListener("change", () => {
    const order = rows.map((_, i) => i);
    if (select.value !== "label") {
      const key = (i) => Number(rows[i].dataset[select.value]);
      order.sort((a, b) => key(b) - key(a) || a - b);
    }
    const columns = (all) => [all[0], ...order.map((i) => all[i + 1]), ...all.slice(rows.length + 1)];
    table.tHead.rows[0].append(...columns(heads));
    for (const i of order) {
      rows[i].append(...columns(cells[i]));
      table.tBodies[0].append(rows[i]);
    }
  });
}
// Counts the decisions on suspects and offers them as a CSV file.
const save = document.getElementById("save");
if (save) {
  const suspects = [...document.querySelectorAll("li[data-name]")];
  const chosen = (item) => item.querySelector("input:checked").value;
  document.addEventListener("change", () => {
    const counts = { drop: 0, relabel: 0 };
    for (const item of suspects) {
      item.dataset.decision = chosen(item);
      if (chosen(item) in counts) counts[chosen(item)] += 1;
    }
    document.getElementById("tally").textContent = `${counts.drop} to drop, ${counts.relabel} to relabel`;
  });
  save.addEventListener("click", () => {
    // As core.text.csv_text: what a spreadsheet would execute as a formula begins with an apostrophe.
    const formula = (text) => /^'*[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text));
    const cell = (text) => `"${(formula(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
    const rows = suspects.map((item) => [item.dataset.name, chosen(item), item.dataset.suggested].map(cell).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([["name,decision,suggested", ...rows, ""].join("\n")], { type: "text/csv" }));
    link.download = "decisions.csv";
    link.click();
  });
}
