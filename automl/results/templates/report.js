"use strict";
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function draw(element) {
  const figure = JSON.parse(document.getElementById(`figure-${element.dataset.figure}`).textContent);
  const ink = colour("ink"), line = colour("line");
  const palette = [0, 1, 2, 3, 4, 5].map(number => colour(`c${number}`));
  for (const trace of figure.data) {
    if (!trace.meta) continue;
    const shade = trace.meta.colour === "text" ? ink : palette[trace.meta.colour % palette.length];
    if (trace.line) trace.line.color = shade;
    if (trace.marker) trace.marker.color = shade;
  }
  for (const shape of figure.layout.shapes || []) shape.line.color = colour("quiet");
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
  const layout = {
    ...figure.layout,
    colorway: palette,
    font: { family: getComputedStyle(document.body).fontFamily, color: ink, size: 13 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 60, r: 15, t: 25, b: 50 },
    xaxis: { ...axis, ...figure.layout.xaxis },
    yaxis: { ...axis, ...figure.layout.yaxis },
  };
  Plotly.react(element, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
}

function drawAll() { document.querySelectorAll(".plot").forEach(draw); }

function sortBy(button) {
  const header = button.closest("th"), body = button.closest("table").tBodies[0];
  const column = header.cellIndex, numeric = button.dataset.kind === "number";
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const value = row => {
    const cell = row.cells[column], text = cell.dataset.value ?? cell.textContent.trim();
    return numeric ? (text === "" ? NaN : Number(text)) : text;
  };
  const rows = [...body.rows].map((row, position) => ({ row, position, key: value(row) }));
  rows.sort((a, b) => {
    if (numeric && (Number.isNaN(a.key) || Number.isNaN(b.key)))
      return Number.isNaN(a.key) - Number.isNaN(b.key) || a.position - b.position;
    const order = numeric ? a.key - b.key : a.key.localeCompare(b.key);
    return (ascending ? order : -order) || a.position - b.position;
  });
  body.append(...rows.map(({ row }) => row));
}

document.querySelectorAll(".sortable thead button").forEach(button => button.addEventListener("click", () => sortBy(button)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
