// Variables of the store. The value of a secret goes in here and never comes out.

import { h } from "../dom.js";
import { get, put, remove } from "../api.js";
import { ago, brief, json, runLink } from "../format.js";
import { asJson, askFor, attempt, table } from "../parts.js";
import { may } from "../session.js";

const path = (name) => `api/variables/${encodeURIComponent(name)}`;

async function edit(context, variable = null) {
  const kind = variable ? [] : [["name", "Name"]];
  const given = await askFor(
    variable ? `Set ${variable.name}` : "Set a variable",
    [
      ...kind,
      [
        "value",
        "Value, as JSON; text that is no JSON is taken as text",
        { kind: "json", value: variable && !variable.secret ? JSON.stringify(variable.value, null, 2) : "", rows: 5 },
      ],
    ],
    { submit: "Set", check: (fields) => (!variable && !fields.name.trim() ? "Give it a name." : null) },
  );
  if (!given) return;
  const parsed = asJson(given.value);
  const value = parsed.problem ? given.value : parsed.value;
  await attempt(
    () => put(path(variable?.name ?? given.name.trim()), { value, secret: false }),
    `${variable?.name ?? given.name} is set.`,
  );
  context.reload();
}

async function seal(context, variable = null) {
  const given = await askFor(
    variable ? `A new value for the secret ${variable.name}` : "Set a secret",
    [...(variable ? [] : [["name", "Name"]]), ["value", "Value (text)", { kind: "password" }]],
    {
      submit: "Seal",
      note: "It is encrypted in the store, and nobody is shown it again.",
      check: (fields) =>
        !variable && !fields.name.trim() ? "Give it a name." : fields.value ? null : "Give it a value.",
    },
  );
  if (!given) return;
  await attempt(
    () => put(path(variable?.name ?? given.name.trim()), { value: given.value, secret: true }),
    `The secret ${variable?.name ?? given.name} is set.`,
  );
  context.reload();
}

async function drop(context, variable) {
  if (
    !(await askFor(`Remove ${variable.name}?`, [], {
      submit: "Remove",
      danger: true,
      note: "Rules that load it fail from then on, unless they give a default.",
    }))
  )
    return;
  await attempt(() => remove(path(variable.name)), `${variable.name} is removed.`);
  context.reload();
}

function value(whole) {
  const text = brief(whole, 200);
  if (text.length < 60) return text;
  return h("details", {}, h("summary", {}, text), json(whole));
}

export default {
  title: () => "Variables",
  load: ({ query }, signal) =>
    get(`api/variables${query.cursor ? `?cursor=${encodeURIComponent(query.cursor)}` : ""}`, signal),

  view({ items, next }, context) {
    return [
      h(
        "header",
        { class: "head" },
        h("h1", {}, "Variables"),
        may("admin") &&
          h(
            "span",
            { class: "verbs" },
            h("button", { type: "button", class: "primary", onclick: () => edit(context) }, "Set a variable"),
            h("button", { type: "button", onclick: () => seal(context) }, "Set a secret"),
          ),
      ),
      table(
        "Variables",
        [
          ["Name", "name", (one) => one.name],
          [
            "Value",
            "grow mono",
            (one) =>
              one.secret ? h("span", { class: "state s-held" }, `secret, value ${one.version}`) : value(one.value),
          ],
          ["Set by", "wide", (one) => (one.by ? runLink(one.by) : "people")],
          ["Ago", "num", (one) => ago(one.since)],
          [
            "",
            "end",
            (one) =>
              may("admin") &&
              h(
                "span",
                { class: "verbs" },
                h(
                  "button",
                  { type: "button", onclick: () => (one.secret ? seal(context, one) : edit(context, one)) },
                  "set",
                ),
                h("button", { type: "button", class: "danger", onclick: () => drop(context, one) }, "remove"),
              ),
          ],
        ],
        items,
        { key: (one) => one.name, empty: "The store has no variables. Rules load those of plugins' sources too." },
      ),
      next
        ? h("nav", { class: "pager" }, h("a", { href: `#/variables?cursor=${encodeURIComponent(next)}` }, "More"))
        : null,
    ];
  },
};
