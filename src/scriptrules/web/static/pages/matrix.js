// The matrix: rows ran columns, how often; a cell opens the runs behind it.

import { h } from "../dom.js";
import { get, query } from "../api.js";
import { count, moment, seconds, short } from "../format.js";

const RANGES = [
  ["", "all time"],
  ["1", "today"],
  ["7", "7 days"],
  ["30", "30 days"],
];
const DAY = 86400000; // milliseconds
const HEATS = 6;
const OUTSIDE = "outside";
const SHOWN = 60; // rows, and columns, that are drawn: those with the most runs

// The busiest of what `name` says of cells, and how many there are.
function most(cells, name) {
  const runs = new Map();
  for (const cell of cells) runs.set(cell[name], (runs.get(cell[name]) ?? 0) + 1 + cell.count);
  const all = [...runs.keys()];
  const shown = all.length > SHOWN ? all.sort((a, b) => runs.get(b) - runs.get(a)).slice(0, SHOWN) : all;
  return [shown.sort((a, b) => (a === null ? -1 : b === null ? 1 : a < b ? -1 : 1)), all.length];
}

export default {
  title: () => "Matrix",
  ticks: false,
  follows: () => ({ kinds: "run,rules" }),
  load: ({ query: { days } }, signal) =>
    get(`api/matrix${query({ since: days ? new Date(Date.now() - (days - 1) * DAY).toISOString() : "" })}`, signal),

  view({ cells: all }, context) {
    const wanted = (context.state.find ?? "").trim().toLowerCase();
    const cells = wanted
      ? all.filter((cell) => `${cell.by ?? OUTSIDE}\n${cell.rule}`.toLowerCase().includes(wanted))
      : all;
    const [rows, callers] = most(cells, "by");
    const called = new Set(cells.map((cell) => cell.rule)).size;
    const [columns] = most(
      cells.filter((cell) => rows.includes(cell.by)),
      "rule",
    );
    const hottest = Math.max(1, ...cells.map((cell) => cell.count));
    const at = new Map(cells.map((cell) => [`${cell.by ?? ""}\n${cell.rule}`, cell]));
    const { state } = context;
    const total = cells.reduce((sum, cell) => sum + cell.count, 0);
    state.row = Math.min(state.row ?? 0, Math.max(0, rows.length - 1));
    state.column = Math.min(state.column ?? 0, Math.max(0, columns.length - 1));
    return [
      h(
        "header",
        { class: "head", key: "head" },
        h("h1", {}, "Matrix"),
        h(
          "label",
          { class: "inline" },
          "Find",
          h("input", {
            type: "search",
            placeholder: "rule",
            "aria-label": "Rules of which the name has this",
            value: context.state.find ?? "",
            oninput: (event) => {
              context.state.find = event.target.value;
              context.draw();
            },
          }),
        ),
        h(
          "nav",
          { class: "choice", "aria-label": "Since" },
          RANGES.map(([days, text]) =>
            h(
              "a",
              {
                key: days,
                href: days ? `#/matrix?days=${days}` : "#/matrix",
                "aria-current": (context.query.days ?? "") === days ? "true" : null,
              },
              text,
            ),
          ),
        ),
      ),
      h(
        "p",
        { class: "muted", key: "what" },
        `Rows ran columns: ${count(total)} runs. A ring is what can happen and was not seen. A cell opens the runs behind it; arrow keys move.`,
        rows.length < callers || columns.length < called
          ? ` Drawn are the busiest ${rows.length} of ${count(callers)} rows and ${columns.length} of ${count(called)} columns: find others by name.`
          : null,
      ),
      cells.length
        ? h(
            "div",
            { class: "scroll", key: "matrix" },
            h(
              "table",
              { class: "matrix", "data-own-keys": true, onkeydown: (event) => move(event, context, rows, columns) },
              h(
                "thead",
                {},
                h(
                  "tr",
                  {},
                  h("td", { class: "corner" }, "by ↓ ran →"),
                  columns.map((rule) =>
                    h("th", { key: rule, scope: "col" }, h("span", { title: rule }, short(rule, 26))),
                  ),
                ),
              ),
              h(
                "tbody",
                {},
                rows.map((by, row) =>
                  h(
                    "tr",
                    { key: by ?? "" },
                    h(
                      "th",
                      { scope: "row", class: by === null ? "muted" : null, title: by ?? "" },
                      by === null ? "from outside" : short(by, 34),
                    ),
                    columns.map((rule, column) =>
                      h(
                        "td",
                        { key: rule },
                        cellOf(
                          at.get(`${by ?? ""}\n${rule}`),
                          hottest,
                          row === state.row && column === state.column,
                          row,
                          column,
                        ),
                      ),
                    ),
                  ),
                ),
              ),
            ),
          )
        : h(
            "p",
            { class: "muted empty", key: "matrix" },
            all.length ? "No rule has this in its name." : "No rule has run yet, and none can run another.",
          ),
    ];
  },
};

function cellOf(cell, hottest, current, row, column) {
  const place = { tabindex: current ? 0 : -1, "data-row-number": row, "data-column": column };
  if (!cell) return h("span", { class: "cell none", ...place }, h("span", { class: "hide" }, "0"));
  const heat = cell.count ? 1 + Math.floor((Math.log(cell.count) / Math.log(hottest + 1)) * (HEATS - 0.01)) : 0;
  const from = cell.by ?? OUTSIDE;
  const words =
    `${from} ran ${cell.rule}: ${count(cell.count)}` +
    (cell.count
      ? `, last ${moment(cell.last).slice(0, 19)}, p50 ${seconds(cell.p50)}, p90 ${seconds(cell.p90)}, p99 ${seconds(cell.p99)}`
      : ", never seen") +
    (cell.predicted ? "" : cell.by === null ? "" : ", not predicted");
  return h(
    "a",
    {
      class: `cell heat-${heat}${cell.predicted ? " predicted" : cell.by !== null ? " surprise" : ""}`,
      ...place,
      title: words,
      "aria-label": words,
      href: `#/runs?rule=${encodeURIComponent(cell.rule)}&by=${encodeURIComponent(from)}`,
    },
    cell.count ? compact(cell.count) : "",
  );
}

const compact = (number) =>
  number < 1000
    ? String(number)
    : number < 1e6
      ? `${(number / 1000).toFixed(number < 10000 ? 1 : 0)}k`
      : `${(number / 1e6).toFixed(1)}M`;

function move(event, context, rows, columns) {
  const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const { state } = context;
  state.row = Math.min(Math.max(0, state.row + step[0]), rows.length - 1);
  state.column = Math.min(Math.max(0, state.column + step[1]), columns.length - 1);
  const cell = event.currentTarget?.querySelector?.(`[data-row-number="${state.row}"][data-column="${state.column}"]`);
  cell?.focus();
  context.draw();
}
