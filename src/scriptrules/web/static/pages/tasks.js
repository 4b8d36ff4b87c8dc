// Tasks: the newest, by filter.

import { h } from "../dom.js";
import { get, query } from "../api.js";
import { ago, brief, runLink, short, state, taskLink, to } from "../format.js";
import { filters, pager, table } from "../parts.js";

const STATES = ["new", "held", "running", "done", "failed", "unmatched", "dropped", "cancelled"];
const SHOWN = 100;

export default {
  title: () => "Tasks",
  follows: ({ query: { name } }) => ({ kinds: "task", name }),
  load: ({ query: given }, signal) => get(`api/tasks${query({ ...given, limit: SHOWN })}`, signal),

  view(page, { query: given }) {
    return [
      h("h1", {}, "Tasks"),
      filters(
        [
          ["state", "State", STATES],
          ["name", "Name"],
          ["reason", "Reason"],
          ["since", "Since", null, "2026-01-31T12:00:00Z"],
          ["root", "Tree of", null, "id"],
        ],
        given,
        "tasks",
      ),
      table(
        "Tasks",
        [
          ["State", "", (task) => state(task.state)],
          ["Name", "", (task) => h("a", { class: "name", href: to("tasks", task.id) }, task.name)],
          ["Id", "wide", (task) => taskLink(task.id)],
          ["Data", "grow mono muted", (task) => h("span", { class: "clip" }, brief(task.data, 140))],
          ["Reason", "wide muted", (task) => short(task.reason ?? "", 60)],
          ["From", "wide", (task) => (task.parent ? runLink(task.parent) : h("span", { class: "muted" }, "outside"))],
          ["Created", "num", (task) => ago(task.created)],
        ],
        page.items,
        {
          key: (task) => task.id,
          empty: "No task fits. Send one: scriptrules send NAME field=value, or from the page of a rule.",
        },
      ),
      pager(page, given, "tasks"),
    ];
  },
};
