// The short lists: hosts, what brings tasks in, plugins, and who did what.

import { h } from "../dom.js";
import { get, post, query } from "../api.js";
import { ago, anyLink, brief, count, icon, moment, short } from "../format.js";
import { askFor, attempt, filters, pager, panel, table } from "../parts.js";
import { may } from "../session.js";

const words = (list) => (list?.length ? list.join(", ") : "");
const health = (good, bad = "failed", text = null) =>
  h(
    "span",
    { class: `state s-${good ? "done" : bad}` },
    icon(good ? "done" : bad),
    text ?? (good ? "well" : "not well"),
  );

// ---- hosts

export const hosts = {
  title: () => "Hosts",

  async load(_, signal) {
    const [found, drain] = await Promise.all([get("api/hosts", signal), get("api/drain", signal)]);
    return { hosts: found.items, drain };
  },

  view({ hosts, drain }, context) {
    const turn = async () => {
      const on = !drain.draining;
      if (
        on &&
        !(await askFor("Drain this server?", [], {
          submit: "Drain",
          danger: true,
          note: "It refuses tasks and starts no executions; those that run are waited for.",
        }))
      )
        return;
      await attempt(() => post("api/drain", { on }), on ? "Draining." : "It takes tasks and starts executions again.");
      context.reload();
    };
    return [
      h(
        "header",
        { class: "head" },
        h("h1", {}, "Hosts"),
        may("admin") &&
          h(
            "button",
            { type: "button", class: drain.draining ? "primary" : null, onclick: turn },
            drain.draining ? "End draining" : "Drain",
          ),
      ),
      drain.draining ? h("p", { class: "note" }, h("b", {}, "Draining. "), brief(drain, 200)) : null,
      table(
        "Hosts",
        [
          ["Host", "name", (host) => host.name],
          ["Executor", "", (host) => host.executor],
          ["", "", (host) => health(host.reachable, "failed", host.reachable ? "reachable" : "cannot be reached")],
          [
            "Slots",
            "",
            (host) =>
              host.max_running
                ? [
                    h("meter", { min: 0, max: host.max_running, value: host.running, "aria-label": "Slots in use" }),
                    h("span", { class: "num" }, ` ${host.running} of ${host.max_running}`),
                  ]
                : `${host.running} running`,
          ],
          ["Waiting", "num", (host) => count(host.waiting)],
          ["Version", "wide", (host) => host.version ?? ""],
          [
            "",
            "grow muted",
            (host) => [
              host.detail,
              host.strays.length
                ? h("span", { class: "error block" }, `Strays: ${short(words(host.strays), 200)}`)
                : null,
            ],
          ],
        ],
        hosts,
        { key: (host) => host.name, empty: "No host is configured. Add [hosts.NAME] to scriptrules.toml." },
      ),
    ];
  },
};

// ---- what brings tasks in

export const incoming = {
  title: () => "Incoming",

  async load(_, signal) {
    const [schedules, sources] = await Promise.all([get("api/schedules", signal), get("api/sources", signal)]);
    return { schedules: schedules.items, sources: sources.items };
  },

  view: ({ schedules, sources }) => [
    h("h1", {}, "Incoming"),
    panel(
      "Schedules",
      generic("Schedules", schedules, "No rule has a schedule, and scriptrules.toml has no [[schedules]]."),
    ),
    panel(
      "Sources of tasks",
      generic("Sources", sources, "No plugin brings tasks in. Add [sources.NAME] to scriptrules.toml."),
    ),
  ],
};

const title = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");

// A table of whatever fields the shapes have.
function generic(label, items, empty) {
  const names = [...new Set(items.flatMap(Object.keys))];
  const cell = (value) =>
    value === null || value === undefined
      ? "–"
      : typeof value === "object"
        ? brief(value)
        : /^\d{4}-\d\d-\d\dT/.test(value)
          ? h("time", { datetime: value }, moment(value).slice(0, 19))
          : String(value);
  return table(
    label,
    names.map((name) => [title(name), name === "name" ? "name" : "", (item) => cell(item[name])]),
    items,
    { key: (item) => item.name ?? item.rule ?? brief(item), empty },
  );
}

// ---- plugins

export const plugins = {
  title: () => "Plugins",
  ticks: false,
  load: (_, signal) => get("api/plugins", signal),

  view: ({ items }) => [
    h("h1", {}, "Plugins"),
    table(
      "Plugins",
      [
        ["Plugin", "name", (one) => one.name],
        ["", "", (one) => health(!one.problem, "failed", one.problem ? "left out" : "in use")],
        ["Functions", "mono grow", (one) => words(one.functions)],
        ["Executors", "mono", (one) => words(one.executors)],
        ["Job types", "mono wide", (one) => words(one.job_types)],
        ["Sources", "mono wide", (one) => words([...one.sources, ...one.task_sources])],
        [
          "From",
          "muted grow",
          (one) => [one.origin, one.problem ? h("span", { class: "error block" }, one.problem) : null],
        ],
      ],
      items,
      { key: (one) => `${one.origin} ${one.name}`, empty: "None." },
    ),
  ],
};

// ---- who did what

export const audit = {
  title: () => "Audit",
  load: ({ query: given }, signal) => get(`api/audit${query({ ...given, limit: 100 })}`, signal),

  view: (page, { query: given }) => [
    h("h1", {}, "Audit"),
    filters([["thing", "Task, run or breakpoint", null, "id or name"]], given, "audit"),
    history(page.items, true),
    pager(page, given, "audit"),
  ],
};

export function history(items, things = false) {
  return table(
    "What people did",
    [
      ["When", "", (one) => ago(one.at)],
      ["Who", "", (one) => one.who],
      ["What", "", (one) => h("b", {}, one.verb)],
      ...(things
        ? [["To what", "", (one) => (/^[tr][0-9a-z]{12,}/i.test(one.thing) ? anyLink(one.thing) : one.thing)]]
        : []),
      ["", "grow", (one) => change(one.detail)],
    ],
    items,
    { key: (one) => one.id, empty: "Nobody has done anything to it." },
  );
}

function change(detail) {
  if (!detail) return "";
  if (!("before" in detail)) return h("span", { class: "muted mono" }, brief(detail, 200));
  const names = [...new Set([...Object.keys(detail.before), ...Object.keys(detail.after)])].filter(
    (name) => JSON.stringify(detail.before[name]) !== JSON.stringify(detail.after[name]),
  );
  return names.map((name) =>
    h(
      "span",
      { class: "block mono", key: name },
      `${name}: `,
      h("del", {}, brief(detail.before[name], 80) || "nothing"),
      " → ",
      h("ins", {}, brief(detail.after[name], 80) || "nothing"),
    ),
  );
}
