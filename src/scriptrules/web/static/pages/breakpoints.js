// Breakpoints: set with a preview of what they would have caught; what is held, one by one and in bulk.

import { h } from "../dom.js";
import { get, post, query, remove, who } from "../api.js";
import { ago, anyLink, count, state } from "../format.js";
import { attempt, filters, panel, table } from "../parts.js";
import { may } from "../session.js";
import { BULK, bulk } from "../verbs.js";
import { heldTable } from "./now.js";

const NO_ENTRY = new Set(["fail", "log", "now", "random", "uuid"]); // functions that leave none to stop at
const SHOWN = 100;

export default {
  title: () => "Breakpoints",
  follows: () => ({ kinds: "task,run,breakpoints" }),
  event: (name) =>
    name === "reset" ||
    name.startsWith("breakpoints") ||
    name.endsWith(".held") ||
    name.startsWith("task.") ||
    name.startsWith("run."),

  begin({ state }) {
    state.preview = null;
  },

  async load({ query: given, data }, signal) {
    const [breakpoints, held, places] = await Promise.all([
      get("api/breakpoints", signal),
      get(`api/held${query({ ...given, limit: SHOWN })}`, signal),
      data?.places ?? get("api/plugins", signal).then(placesOf),
    ]);
    return { breakpoints: breakpoints.items, held: held.items, places };
  },

  view({ breakpoints, held, places }, context) {
    return [
      h("h1", { key: "title" }, "Breakpoints"),
      h(
        "div",
        { class: "board", key: "board" },
        may("operator")
          ? panel("Set a breakpoint", form(context, places), context.state.preview && preview(context.state.preview))
          : null,
        panel(
          [h("span", {}, "In force"), h("small", {}, String(breakpoints.length))],
          table(
            "Breakpoints",
            [
              ["Name", "name", (one) => one.name],
              [
                "Catches",
                "mono",
                (one) => [
                  one.on.join(", "),
                  h("small", { class: "muted block" }, `at ${one.at}${one.when ? `, when ${one.when}` : ""}`),
                ],
              ],
              [
                "Set by",
                "wide",
                (one) => [
                  one.by,
                  one.created ? h("small", { class: "muted block" }, ago(one.created)) : null,
                  one.problems.map((text) => h("span", { class: "error block" }, text)),
                ],
              ],
              [
                "",
                "end",
                (one) =>
                  one.file
                    ? h("span", { class: "muted" }, "a file")
                    : may("operator") &&
                      h(
                        "button",
                        {
                          type: "button",
                          onclick: async () => {
                            await attempt(
                              () => remove(`api/breakpoints/${encodeURIComponent(one.name)}${query({ who: who() })}`),
                              `${one.name} is removed; what it holds stays held.`,
                            );
                            context.reload();
                          },
                        },
                        "remove",
                      ),
              ],
            ],
            breakpoints,
            { key: (one) => one.name, empty: "None is set, so nothing is stopped by one." },
          ),
        ),
      ),
      h(
        "section",
        { class: "panel", key: "held", "aria-label": "Held" },
        h(
          "h2",
          {},
          h("span", {}, "Held"),
          h("small", {}, held.length < SHOWN ? String(held.length) : `the newest ${SHOWN}`),
        ),
        filters(
          [
            ["name", "Task name"],
            ["rule", "Rule"],
            ["reason", "Reason", null, "breakpoint:NAME"],
            ["since", "Since", null, "2026-01-31T12:00:00Z"],
          ],
          context.query,
          "breakpoints",
        ),
        may("operator") &&
          h(
            "div",
            { class: "bulk", role: "group", "aria-label": "All that the filter selects" },
            h("span", { class: "muted" }, "All that the filter selects:"),
            BULK.map((name) =>
              h(
                "button",
                {
                  key: name,
                  type: "button",
                  class: name === "drop" || name === "cancel" ? "danger" : null,
                  onclick: () => bulk(name, context.query, context.reload),
                },
                name,
              ),
            ),
          ),
        heldTable(held, context.reload),
      ),
    ];
  },
};

// The common ones first, then those of plugins.
function placesOf({ items }) {
  const functions = items.flatMap((plugin) => plugin.functions).filter((name) => !NO_ENTRY.has(name));
  return ["task", ...functions.flatMap((name) => [`before:${name}`, `after:${name}`]), "before:return"];
}

function form(context, places) {
  const read = (form) => {
    const { on, at, when, name } = Object.fromEntries(new FormData(form));
    return {
      body: { on: on.split(/[\s,]+/).filter(Boolean), at, ...(when.trim() ? { when: when.trim() } : {}) },
      name: name.trim(),
    };
  };
  const look = async (event) => {
    const { body } = read(event.currentTarget.form ?? event.target.form);
    context.state.preview = (await attempt(() => post("api/breakpoints/preview", body))) ?? null;
    context.draw();
  };
  const set = async (event) => {
    event.preventDefault();
    const target = event.target;
    const { body, name } = read(target);
    const made = await attempt(
      () => post("api/breakpoints", { ...body, ...(name ? { name } : {}), ...(who() ? { who: who() } : {}) }),
      (one) => `${one.name} is set: it catches what is committed from now on.`,
    );
    if (made) {
      context.state.preview = null;
      target.reset();
      context.reload();
    }
  };
  return h(
    "form",
    { class: "form across", onsubmit: set },
    h(
      "label",
      {},
      "Tasks named (patterns)",
      h("input", {
        name: "on",
        required: true,
        placeholder: "upload.*",
        class: "mono",
        spellcheck: "false",
        autocomplete: "off",
      }),
    ),
    h(
      "label",
      {},
      "Stops at",
      h(
        "select",
        { name: "at" },
        places.map((one) =>
          h("option", { key: one, value: one }, one === "task" ? "task: before rules are asked" : one),
        ),
      ),
    ),
    h("label", {}, "Name (optional)", h("input", { name: "name", spellcheck: "false", autocomplete: "off" })),
    h(
      "label",
      { class: "whole" },
      "When (optional expression)",
      h("input", {
        name: "when",
        placeholder: 'task["size"] > 100, or entry.args["host"] == "locust"',
        class: "mono",
        spellcheck: "false",
        autocomplete: "off",
      }),
    ),
    h(
      "div",
      { class: "buttons whole" },
      h("button", { type: "button", onclick: look }, "Preview"),
      h("button", { class: "primary" }, "Set"),
    ),
  );
}

function preview({ looked_at, caught, items }) {
  return h(
    "div",
    { class: "preview", role: "status" },
    h(
      "p",
      {},
      "Among the newest ",
      h("b", {}, count(looked_at)),
      " tasks it would have caught ",
      h("b", {}, count(caught)),
      ".",
    ),
    items.length
      ? h(
          "ul",
          { class: "plain" },
          items
            .slice(0, 12)
            .map((one) =>
              h(
                "li",
                { key: `${one.task}${one.run}${one.seq}` },
                one.error ? state("failed", "") : null,
                h("span", { class: "name" }, one.name),
                " ",
                anyLink(one.run ?? one.task),
                one.seq ? ` entry ${one.seq}` : "",
                one.error ? h("span", { class: "error" }, ` ${one.error}`) : null,
              ),
            ),
        )
      : null,
    items.length > 12 ? h("p", { class: "muted" }, `and ${count(caught - 12)} more`) : null,
  );
}
