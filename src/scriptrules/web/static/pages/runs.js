// Runs: the newest, by filter; also what stands behind a cell of the matrix.

import { h } from "../dom.js";
import { get, query } from "../api.js";
import { ago, brief, ruleLink, runLink, short, span, state, taskLink } from "../format.js";
import { filters, pager, table } from "../parts.js";

const STATES = ["queued", "running", "waiting", "held", "done", "failed", "cancelled"];
const SHOWN = 100;
const OUTSIDE = "outside"; // what the filter says for tasks from outside

export default {
  title: () => "Runs",
  follows: ({ query: { rule, name } }) => ({ kinds: "run", rule, name }),

  load({ query: given }, signal) {
    const { by, ...rest } = given;
    const path = `api/runs${query({ ...rest, limit: SHOWN })}`;
    return get(by === undefined ? path : `${path}&by=${by === OUTSIDE ? "" : encodeURIComponent(by)}`, signal);
  },

  view(page, { query: given }) {
    return [
      h("h1", {}, "Runs"),
      filters(
        [
          ["state", "State", STATES],
          ["rule", "Rule"],
          ["by", "Caused by rule", null, "any, or: outside"],
          ["name", "Task name"],
          ["reason", "Reason"],
          ["since", "Since", null, "2026-01-31T12:00:00Z"],
        ],
        given,
        "runs",
      ),
      table(
        "Runs",
        [
          ["State", "", (run) => state(run.state)],
          ["Rule", "", (run) => ruleLink(run.rule)],
          ["Run", "", (run) => runLink(run.id)],
          ["Task", "wide", (run) => taskLink(run.task)],
          [
            "Outcome",
            "grow muted",
            (run) =>
              run.error
                ? h("span", { class: "error" }, `${run.error.type}: ${short(run.error.message, 120)}`)
                : h(
                    "span",
                    { class: "clip mono" },
                    run.ended ? brief(run.value, 100) : short([run.reason, run.exit].filter(Boolean).join(": "), 120),
                  ),
          ],
          ["Attempt", "num wide", (run) => run.attempt],
          [
            "Took",
            "num wide",
            (run) => span((run.ended ? Date.parse(run.ended) : Date.now()) - Date.parse(run.created)),
          ],
          ["Created", "num", (run) => ago(run.created)],
        ],
        page.items,
        { key: (run) => run.id, empty: "No run fits." },
      ),
      pager(page, given, "runs"),
    ];
  },
};
