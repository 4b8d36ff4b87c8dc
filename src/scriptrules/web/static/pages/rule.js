// A rule: its text with what is wrong marked in it, what it says of itself, its use; and a test task.

import { h } from "../dom.js";
import { get, post } from "../api.js";
import { ago, count, prose, seconds, to } from "../format.js";
import { asJson, attempt, facts, panel, toast } from "../parts.js";
import { may } from "../session.js";
import { source } from "../source.js";
import { condition, uses } from "./rules.js";
import { why } from "./task.js";

export default {
  title: ({ id }) => id,
  follows: ({ id }) => ({ kinds: "rules,run", rule: id }),

  begin({ state }) {
    state.explained = null;
  },

  async load({ id, data }, signal) {
    const [rules, text, matrix] = await Promise.all([
      get("api/rules", signal),
      get(`api/rules/source?rule=${encodeURIComponent(id)}`, signal).catch((problem) =>
        problem.status === 404 ? null : Promise.reject(problem),
      ),
      get("api/matrix", signal),
    ]);
    const info = rules.items.find((one) => one.rule === id) ?? null;
    const name = nameOf(info?.metadata);
    const newest = !data && name && (await get(`api/tasks?name=${encodeURIComponent(name)}&limit=1`, signal));
    return { info, text, use: uses(matrix.cells).get(id), example: newest ? newest.items[0]?.data : data?.example };
  },

  view({ info, text, use, example }, context) {
    if (!info && !text)
      return [
        h("h1", {}, context.id),
        h(
          "p",
          {},
          "There is no such rule any more. Its runs are kept: ",
          h("a", { href: `#/runs?rule=${encodeURIComponent(context.id)}` }, "see them"),
          ".",
        ),
      ];
    const meta = info?.metadata;
    const path = text?.file ?? info.file;
    const own = text?.diagnostics.filter((one) => !one.file || one.file === path) ?? [];
    return [
      h(
        "header",
        { class: "head", key: "head" },
        h("h1", {}, h("span", { class: "kind" }, "Rule "), context.id, " ", info ? condition(info) : null),
        h("a", { class: "button", href: `#/runs?rule=${encodeURIComponent(context.id)}` }, "Its runs"),
      ),
      info?.quarantined
        ? h(
            "p",
            { class: "note bad", key: "quarantined" },
            h("b", {}, "Quarantined: "),
            info.quarantined,
            ". Correct the file: saving it makes it active.",
          )
        : null,
      meta?.doc ? h("p", { class: "doc", key: "doc" }, meta.doc) : null,
      facts(
        ["Matches", meta && h("code", {}, meta.on.join(", "))],
        ["When", meta?.when && h("code", { class: "clip" }, meta.when)],
        ["Priority", meta?.priority || null],
        ["Final", meta?.final ? "yes" : null],
        ["Fallback", meta?.nomatch ? "yes" : null],
        ["Retries", meta?.retries?.max],
        ["Timeout", meta?.timeout && seconds(meta.timeout)],
        [
          "Limit",
          meta?.limit &&
            `${meta.limit.max}${meta.limit.key ? ` for each ${meta.limit.key}` : ""}, then ${meta.limit.full}`,
        ],
        ["Schedule", meta?.schedule && JSON.stringify(meta.schedule)],
        ["Version", info?.digest?.slice(0, 12) ?? "none is active"],
        ["Runs", count(use?.count)],
        ["Last use", use?.last ? ago(use.last) : "never"],
        ["Median", use?.p50 !== undefined ? seconds(use?.p50) : null],
      ),
      h(
        "div",
        { class: "halves", key: "halves" },
        panel(
          [
            h("span", {}, path),
            h(
              "small",
              {},
              text ? (text.active ? "active" : info?.digest ? "not active: an older version is" : "not active") : "",
            ),
          ],
          text ? source(text.text, path, { findings: own }) : h("p", { class: "muted" }, "The file cannot be read."),
        ),
        h(
          "div",
          { class: "column" },
          panel(
            [
              h("span", {}, "Findings"),
              h("small", {}, String((text?.diagnostics.length ?? 0) || (info?.problems.length ?? 0))),
            ],
            findings(info, text),
          ),
          panel(may("operator") ? "Send a test task" : "Explain a task", sender(meta, example, context)),
          context.state.explained ? panel("What it would match", why(context.state.explained)) : null,
          meta?.table.length
            ? panel(
                "Table",
                h(
                  "ul",
                  { class: "plain" },
                  meta.table.map((one) =>
                    h(
                      "li",
                      { key: one.name },
                      h("span", { class: "name" }, one.name),
                      one.nomatch ? h("span", { class: "tag" }, "fallback") : null,
                    ),
                  ),
                ),
              )
            : null,
        ),
      ),
    ];
  },
};

function findings(info, text) {
  const found = text?.diagnostics ?? [];
  if (!found.length)
    return info?.problems.length
      ? info.problems.map((one, at) => h("pre", { key: at }, one))
      : h("p", { class: "muted empty" }, "None.");
  return h(
    "ul",
    { class: "plain" },
    found.map((one, at) =>
      h(
        "li",
        { key: at },
        h(
          "button",
          {
            type: "button",
            class: "plain",
            onclick: () => document.getElementById(`line-${one.line}`)?.scrollIntoView({ block: "center" }),
          },
          h("b", {}, one.code),
          one.file ? ` ${one.file}` : "",
          ` line ${one.line}`,
        ),
        h("span", { class: "block" }, prose(one.message)),
        one.hint ? h("span", { class: "block muted" }, prose(one.hint)) : null,
      ),
    ),
  );
}

const nameOf = (meta) => meta?.on.find((one) => !one.includes("*")) ?? "";

// It begins with the data of the newest task of the name, or with what the rule has to be given.
function sender(meta, example, context) {
  const required = (meta?.parameters ?? []).filter((one) => one.required && one.name !== "task");
  context.state.data ??= JSON.stringify(example ?? Object.fromEntries(required.map((one) => [one.name, ""])), null, 2);
  const read = (form) => {
    const given = Object.fromEntries(new FormData(form));
    const { value, problem } = asJson(given.data || "{}", "The data");
    if (problem) toast(problem, "bad");
    return problem ? null : { name: given.name.trim(), data: value };
  };
  const send = async (event) => {
    event.preventDefault();
    if (!may("operator")) return explain(event);
    const task = read(event.target);
    const made = task && (await attempt(() => post("api/tasks", task), "The task is stored."));
    if (made) location.hash = to("tasks", made.id);
  };
  const explain = async (event) => {
    const task = read(event.target.form ?? event.target);
    context.state.explained = task ? ((await attempt(() => post("api/explain", task))) ?? null) : null;
    context.draw();
  };
  return h(
    "form",
    { class: "form", onsubmit: send },
    h(
      "label",
      {},
      "Name",
      h("input", {
        name: "name",
        value: nameOf(meta),
        required: true,
        class: "mono",
        spellcheck: "false",
        autocomplete: "off",
      }),
    ),
    h(
      "label",
      {},
      "Data",
      h("textarea", { name: "data", rows: 6, value: context.state.data, class: "mono", spellcheck: "false" }),
    ),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", onclick: explain }, "Explain"),
      may("operator") ? h("button", { class: "primary" }, "Send") : null,
    ),
  );
}
