// Search: an id opens what it is; anything else is looked for among rules and names of tasks.

import { h } from "../dom.js";
import { get } from "../api.js";
import { ruleLink, to } from "../format.js";
import { panel, table } from "../parts.js";

export default {
  title: () => "Search",
  ticks: false,

  async load({ query: { q = "" } }, signal) {
    if (/^[tr][0-9a-z]{12,}$/i.test(q)) {
      const kind = q.startsWith("r") ? "runs" : "tasks";
      const found = await get(`api/${kind}/${encodeURIComponent(q)}`, signal).catch((problem) =>
        problem.status === 404 ? null : Promise.reject(problem),
      );
      if (found) location.replace(to(kind, q));
    }
    const [rules, graph] = await Promise.all([get("api/rules", signal), get("api/graph", signal)]);
    const has = (text) => text.toLowerCase().includes(q.toLowerCase());
    return {
      q,
      rules: rules.items
        .filter(({ rule, metadata }) => has(rule) || has(metadata?.doc ?? "") || metadata?.on.some(has))
        .slice(0, 50),
      names: [
        ...new Set(graph.nodes.filter((node) => node.kind !== "rule" && has(node.id)).map((node) => node.id)),
      ].slice(0, 50),
    };
  },

  view({ q, rules, names }) {
    return [
      h("h1", {}, `Search: ${q}`),
      h(
        "p",
        {},
        h("a", { href: `#/tasks?name=${encodeURIComponent(q)}` }, `Tasks named ${q}`),
        " · ",
        h("a", { href: `#/runs?rule=${encodeURIComponent(q)}` }, `Runs of rule ${q}`),
      ),
      h(
        "div",
        { class: "board" },
        panel(
          "Rules",
          table(
            "Rules",
            [
              ["Rule", "", ({ rule }) => ruleLink(rule)],
              ["What it does", "muted", ({ metadata }) => metadata?.doc.split("\n")[0] ?? ""],
            ],
            rules,
            { key: (one) => one.rule, empty: "No rule has this in its name, its text or what it matches." },
          ),
        ),
        panel(
          "Names of tasks",
          table(
            "Names",
            [["Name", "", (name) => h("a", { class: "name", href: `#/tasks?name=${encodeURIComponent(name)}` }, name)]],
            names,
            { key: (name) => name, empty: "No rule generates or matches such a name." },
          ),
        ),
      ),
    ];
  },
};
