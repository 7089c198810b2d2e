"use strict";
const root = document.documentElement, find = selector => [...document.querySelectorAll(selector)];

// -- shares: the page's policy allows no style attributes, so they come as data

for (const cell of find("[data-share]")) cell.style.setProperty("--share", cell.dataset.share);

// -- colours: those of the page, which follow its light or dark scheme

const probe = document.body.appendChild(document.createElement("i"));
probe.hidden = true;

function colour(name) {
  probe.style.color = typeof name === "number" ? `var(--c${name % 6})` : `var(--${name === "text" ? "ink" : name})`;
  return getComputedStyle(probe).color;
}

function paint(trace) {
  const { colour: name, edge, scale } = trace.meta || {};
  if (name !== undefined) {
    const shade = colour(name);
    if (trace.line || trace.mode === "lines") trace.line = { ...trace.line, color: shade };
    if (trace.mode !== "lines") trace.marker = { ...trace.marker, color: shade };
  }
  if (edge) trace.marker.line = { ...trace.marker.line, color: colour(edge) };
  if (scale) trace.colorscale = [[0, colour("low")], [1, colour("high")]];
}

function draw(element) {
  const figure = JSON.parse(document.getElementById(`figure-${element.dataset.figure}`).textContent);
  const ink = colour("ink"), line = colour("line"), card = colour("card"), narrow = element.clientWidth < 480;
  figure.data.forEach(paint);
  for (const shape of figure.layout.shapes || []) shape.line.color = colour("quiet");
  for (const note of figure.layout.annotations || []) note.bgcolor = colour("paper");
  const legend = figure.layout.showlegend !== false;
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
  const layout = {
    ...figure.layout,
    colorway: [0, 1, 2, 3, 4, 5].map(colour),
    font: { family: getComputedStyle(document.body).fontFamily, color: ink, size: narrow ? 12 : 13 },
    hoverlabel: { bgcolor: card, bordercolor: line, font: { color: ink }, align: "left" },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom" },
    margin: { l: 40, r: 12, t: 24, b: legend ? (narrow ? 100 : 80) : 48 },
    xaxis: { ...axis, ...figure.layout.xaxis },
    yaxis: { ...axis, automargin: true, ...figure.layout.yaxis },
    dragmode: false,
  };
  element.style.height = `${figure.layout.height}px`;
  Plotly.react(element, figure.data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
}

const drawAll = () => find(".plot").forEach(draw);

// -- light and dark: as the system has it, until the button says otherwise

const theme = document.getElementById("theme"), systemDark = matchMedia("(prefers-color-scheme: dark)");
const remembered = { get: () => { try { return localStorage.getItem("automl-theme"); } catch { return null; } },
  set: value => { try { localStorage.setItem("automl-theme", value); } catch { /* this page alone */ } } };

function showTheme(chosen) {
  if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
  theme.setAttribute("aria-pressed", String(chosen ? chosen === "dark" : systemDark.matches));
}

theme.hidden = false;
theme.addEventListener("click", () => {
  const chosen = theme.getAttribute("aria-pressed") === "true" ? "light" : "dark";
  remembered.set(chosen);
  showTheme(chosen);
  drawAll();
});
systemDark.addEventListener("change", () => { showTheme(root.dataset.theme); drawAll(); });
addEventListener("beforeprint", () => { showTheme("light"); drawAll(); });
addEventListener("afterprint", () => { showTheme(remembered.get()); drawAll(); });

// -- the leaderboard: sorted by a column, filtered by words, family and status

const trialRows = () => find("#trials > tbody > tr:not(.settings-of)");
const settingsOf = row => [row.nextElementSibling].filter(next => next && next.matches(".settings-of"));

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
  const settings = new Map(trialRows().map(row => [row, settingsOf(row)]));
  const rows = trialRows().map((row, position) => ({ row, position, key: value(row) }));
  rows.sort((a, b) => {
    if (numeric && (Number.isNaN(a.key) || Number.isNaN(b.key)))
      return Number.isNaN(a.key) - Number.isNaN(b.key) || a.position - b.position;
    const order = numeric ? a.key - b.key : a.key.localeCompare(b.key);
    return (ascending ? order : -order) || a.position - b.position;
  });
  body.append(...rows.flatMap(({ row }) => [row, ...settings.get(row)]));
}

const filters = document.querySelector(".filters");
const [words, family, status] = ["words", "family", "status"].map(name => document.getElementById(`filter-${name}`));

function filterRows() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean), rows = trialRows();
  for (const row of rows) {
    const settings = settingsOf(row), text = [row, ...settings].map(each => each.textContent).join(" ").toLowerCase();
    row.hidden = !(wanted.every(word => text.includes(word))
      && (!family.value || row.dataset.family === family.value) && (!status.value || row.dataset.status === status.value));
    for (const each of settings) each.hidden = row.hidden;
  }
  const shown = rows.filter(row => !row.hidden).length;
  document.getElementById("filter-count").textContent = shown < rows.length ? `${shown} of ${rows.length} rows` : "";
}

filters.hidden = false;
filters.addEventListener("submit", event => event.preventDefault());
for (const kind of ["input", "change"]) filters.addEventListener(kind, filterRows);
find(".sortable thead button").forEach(button => button.addEventListener("click", () => sortBy(button)));

// -- what there is to read

for (const title of find("main h2")) {
  const link = document.createElement("a"), item = document.createElement("li");
  link.href = `#${title.id}`;
  link.textContent = title.dataset.short || title.firstChild.textContent.trim();
  item.append(link);
  document.querySelector("nav ul").append(item);
}

showTheme(remembered.get());
drawAll();
