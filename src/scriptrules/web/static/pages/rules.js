// Rules: which version is active, what is wrong with it, when it was last used.

import { h } from "../dom.js";
import { get } from "../api.js";
import { ago, count, icon, prose, ruleFile, ruleLink, seconds } from "../format.js";
import { table } from "../parts.js";

export function condition(info) {
  const say = (look, text) => h("span", { class: `state s-${look}` }, icon(look), text);
  if (info.quarantined) return say("held", "quarantined");
  if (!info.digest) return say("failed", "broken");
  if (info.problems.length) return say("failed", "broken; an older version is active");
  if (info.metadata && !info.metadata.enabled) return say("cancelled", "not enabled");
  if (info.warnings.length)
    return say("held", `active, ${info.warnings.length} ${info.warnings.length === 1 ? "warning" : "warnings"}`);
  return say("done", "active");
}

// What the matrix says of each rule file: runs, when the last, how long.
export function uses(cells) {
  const found = new Map();
  for (const { rule, count: number, last, p50 } of cells) {
    const one = found.get(ruleFile(rule)) ?? { count: 0, last: null, p50: null };
    found.set(ruleFile(rule), {
      count: one.count + number,
      last: !one.last || (last && last > one.last) ? last : one.last,
      p50: number > one.count ? p50 : one.p50,
    });
  }
  return found;
}

export default {
  title: () => "Rules",
  follows: () => ({ kinds: "rules,run" }),

  async load(_, signal) {
    const [rules, matrix] = await Promise.all([get("api/rules", signal), get("api/matrix", signal)]);
    return { rules: rules.items, uses: uses(matrix.cells) };
  },

  view({ rules, uses }, { query: { only = "" } }) {
    const wrong = rules.filter((one) => one.problems.length || one.warnings.length || one.quarantined);
    const shown = only === "wrong" ? wrong : rules;
    return [
      h(
        "header",
        { class: "head" },
        h("h1", {}, "Rules"),
        h(
          "nav",
          { class: "choice", "aria-label": "Which" },
          h("a", { href: "#/rules", "aria-current": only ? null : "true" }, `all ${count(rules.length)}`),
          h(
            "a",
            { href: "#/rules?only=wrong", "aria-current": only ? "true" : null },
            `with findings ${count(wrong.length)}`,
          ),
        ),
      ),
      table(
        "Rules",
        [
          ["Rule", "", (one) => ruleLink(one.rule)],
          ["State", "", condition],
          ["Matches", "mono", (one) => one.metadata?.on.join(", ") ?? ""],
          [
            "What it does",
            "grow muted wide",
            (one) => one.metadata?.doc.split("\n")[0] ?? prose(one.problems[0]?.split("\n")[0]),
          ],
          ["Runs", "num", (one) => count(uses.get(one.rule)?.count)],
          ["Median", "num wide", (one) => seconds(uses.get(one.rule)?.p50)],
          ["Last use", "num", (one) => ago(uses.get(one.rule)?.last)],
          ["Version", "mono muted wide", (one) => one.digest?.slice(0, 8) ?? "none"],
        ],
        shown,
        {
          key: (one) => one.rule,
          empty: only
            ? "Nothing is wrong with any rule."
            : "No rules. Drop a file into rules/; it is active within a second.",
        },
      ),
    ];
  },
};
