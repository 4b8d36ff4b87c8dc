// Now: what runs, what is held and why, what has failed, and how fast.

import { h } from "../dom.js";
import { get } from "../api.js";
import { ago, brief, count, icon, moment, prose, ruleLink, runLink, short, state, taskLink, to } from "../format.js";
import { panel, table } from "../parts.js";
import { buttons } from "../verbs.js";

const SHOWN = 12; // rows of each list
const WINDOW = 60; // seconds of rates
const TICKER = 14; // events that are shown
const ENDED = new Set(["task.done", "task.failed", "task.unmatched", "task.dropped", "task.cancelled"]);

class Rates {
  constructor() {
    this.began = Date.now() / 1000;
    this.arrived = new Map(); // by second
    this.ended = new Map();
  }

  add(counts) {
    const second = Math.floor(Date.now() / 1000);
    counts.set(second, (counts.get(second) ?? 0) + 1);
    if (counts.size > WINDOW + 5) for (const old of counts.keys()) if (old < second - WINDOW) counts.delete(old);
  }

  series(counts) {
    const second = Math.floor(Date.now() / 1000);
    return Array.from({ length: WINDOW }, (_, at) => counts.get(second - WINDOW + at) ?? 0);
  }

  now(counts) {
    const last = this.series(counts).slice(-5);
    return last.reduce((sum, one) => sum + one, 0) / Math.max(1, Math.min(5, Date.now() / 1000 - this.began));
  }
}

function spark(series, label) {
  const most = Math.max(1, ...series);
  const points = series.map(
    (one, at) => `${((at / (WINDOW - 1)) * 120).toFixed(1)},${(23 - (one / most) * 20).toFixed(1)}`,
  );
  return h(
    "svg",
    { class: "spark", viewBox: "0 0 120 24", role: "img", "aria-label": label, preserveAspectRatio: "none" },
    h("path", { class: "area", d: `M0,24 L${points.join(" L")} L120,24 Z` }),
    h("polyline", { points: points.join(" ") }),
  );
}

const tile = (name, number, { href, look = null, more = null } = {}) =>
  h(
    href ? "a" : "div",
    { class: `tile ${number ? "" : "none"}`, href, key: name },
    h("span", { class: "what" }, look ? icon(look) : null, name),
    h("b", {}, number === null ? "…" : count(number)),
    more,
  );

export default {
  title: () => "Now",
  follows: () => ({ kinds: "task,run" }),

  begin(context) {
    context.state.rates = new Rates();
    context.state.ticker = [];
  },

  event(name, event, context) {
    const { rates, ticker } = context.state;
    if (name === "task.new") rates.add(rates.arrived);
    if (ENDED.has(name)) rates.add(rates.ended);
    ticker.push([name, event]);
    if (ticker.length > TICKER) ticker.shift();
  },

  async load(context, signal) {
    const runs = (state, limit = SHOWN) => get(`api/runs?state=${state}&limit=${limit}`, signal);
    const [counts, running, waiting, queued, held, failed, newest] = await Promise.all([
      get("api/counts", signal),
      runs("running"),
      runs("waiting"),
      runs("queued", 3),
      get(`api/held?limit=${SHOWN}`, signal),
      runs("failed"),
      context.data?.newest ?? get(`api/tasks?limit=${TICKER}`, signal),
    ]);
    return {
      counts,
      active: [...running.items, ...waiting.items, ...queued.items].slice(0, SHOWN),
      held: held.items,
      failed: failed.items,
      newest,
    };
  },

  view({ counts, active, held, failed, newest }, context) {
    const { runs, tasks } = counts;
    const { rates, ticker } = context.state;
    const busy = (runs.running ?? 0) + (runs.waiting ?? 0) + (runs.queued ?? 0);
    const stopped = (runs.held ?? 0) + (tasks.held ?? 0);
    const heard = ticker.map(([name, event]) => ({
      name,
      id: event.lastEventId,
      thing: (event.parsed ??= JSON.parse(event.data)),
    }));
    const before = newest.items
      .slice(0, TICKER - heard.length)
      .map((task) => ({ name: "task", id: task.id, thing: task }));
    const events = [...heard.reverse(), ...before]; // before it is shown nothing was heard: the newest tasks instead
    return [
      h("h1", { key: "title" }, "Now"),
      h(
        "div",
        { class: "tiles", key: "tiles" },
        tile("tasks in / s", Math.round(rates.now(rates.arrived)), {
          more: spark(rates.series(rates.arrived), "Tasks in, each second of the last minute"),
        }),
        tile("tasks ended / s", Math.round(rates.now(rates.ended)), {
          more: spark(rates.series(rates.ended), "Tasks ended, each second of the last minute"),
        }),
        tile("running", runs.running ?? 0, { href: "#/runs?state=running", look: "running" }),
        tile("waiting", runs.waiting ?? 0, { href: "#/runs?state=waiting", look: "waiting" }),
        tile("queued", (runs.queued ?? 0) + (tasks.new ?? 0), { href: "#/runs?state=queued", look: "queued" }),
        tile("held", stopped, { href: "#/breakpoints", look: "held" }),
        tile("failed", runs.failed ?? 0, { href: "#/runs?state=failed", look: "failed" }),
        tile("unmatched", tasks.unmatched ?? 0, { href: "#/tasks?state=unmatched", look: "unmatched" }),
        tile("done", tasks.done ?? 0, { href: "#/tasks?state=done", look: "done" }),
      ),
      h(
        "div",
        { class: "board", key: "board" },
        h(
          "div",
          { class: "column" },
          panel(
            [h("span", {}, "Held"), h("small", {}, count(stopped))],
            heldTable(held, context.reload),
            stopped > held.length
              ? h(
                  "p",
                  { class: "more" },
                  h("a", { href: "#/breakpoints" }, `${count(stopped - held.length)} more, and all verbs in bulk`),
                )
              : null,
          ),
          panel(
            [h("span", {}, "Failed"), h("small", {}, count(runs.failed ?? 0))],
            table(
              "Failed runs",
              [
                ["Run", "", (run) => [ruleLink(run.rule), " ", runLink(run.id)]],
                [
                  "Why",
                  "grow",
                  (run) =>
                    h(
                      "span",
                      { class: "error", title: run.error?.message },
                      run.error ? `${run.error.type}: ${short(run.error.message, 160)}` : run.reason,
                      run.error?.line ? h("small", {}, ` line ${run.error.line}`) : null,
                    ),
                ],
                ["Ago", "num", (run) => ago(run.ended)],
                ["", "end", (run) => buttons(run, context.reload, { only: ["retry"] })],
              ],
              failed,
              { key: (run) => run.id, empty: "Nothing has failed." },
            ),
            (runs.failed ?? 0) > failed.length
              ? h(
                  "p",
                  { class: "more" },
                  h("a", { href: "#/runs?state=failed" }, `${count(runs.failed - failed.length)} more`),
                )
              : null,
          ),
        ),
        h(
          "div",
          { class: "column" },
          panel(
            [h("span", {}, "Under way"), h("small", {}, count(busy))],
            table(
              "Runs under way",
              [
                ["State", "", (run) => state(run.state)],
                ["Run", "", (run) => [ruleLink(run.rule), " ", runLink(run.id)]],
                [
                  "What ends it",
                  "wide muted",
                  (run) => h("span", { title: run.exit }, [run.reason, run.exit].filter(Boolean).join(": ")),
                ],
                ["For", "num", (run) => ago(run.since)],
              ],
              active,
              { key: (run) => run.id, empty: "Nothing is under way." },
            ),
            busy > active.length
              ? h("p", { class: "more" }, h("a", { href: "#/runs" }, `${count(busy - active.length)} more`))
              : null,
          ),
          panel(
            "Just happened",
            events.length
              ? h(
                  "ol",
                  { class: "ticker", reversed: true },
                  events.map(({ name, id, thing }) =>
                    h(
                      "li",
                      { key: id, "data-row": true },
                      state(thing.state),
                      h(
                        "span",
                        {},
                        name.startsWith("run")
                          ? [h("span", { class: "kind" }, "run "), runLink(thing.id, thing.rule)]
                          : [h("span", { class: "kind" }, "task "), taskLink(thing.id, thing.name)],
                      ),
                      h(
                        "span",
                        { class: "muted grow" },
                        name.startsWith("task") ? brief(thing.data, 60) : short(thing.reason ?? "", 60),
                      ),
                      h("time", { datetime: thing.since, class: "muted" }, moment(thing.since).slice(11, 23)),
                    ),
                  ),
                )
              : h("p", { class: "muted empty" }, "Quiet. What happens from now on is listed here as it happens."),
          ),
        ),
      ),
    ];
  },
};

export function heldTable(held, done, more = []) {
  return table(
    "Held",
    [
      ...more,
      [
        "What",
        "",
        (thing) =>
          thing.rule
            ? [h("span", { class: "kind" }, "run "), ruleLink(thing.rule), " ", runLink(thing.id)]
            : [
                h("span", { class: "kind" }, "task "),
                h("a", { class: "name", href: to("tasks", thing.id) }, thing.name),
                " ",
                taskLink(thing.id),
              ],
      ],
      [
        "Why",
        "grow",
        (thing) => [
          h("span", { class: "state s-held" }, icon("held"), short(thing.reason ?? "held", 160)),
          h(
            "small",
            { class: "muted clip" },
            thing.rule ? prose(thing.exit) : h("span", { class: "mono" }, brief(thing.data, 140)),
          ),
          buttons(thing, done),
        ],
      ],
      ["For", "num", (thing) => ago(thing.since)],
    ],
    held,
    { key: (thing) => thing.id, empty: "Nothing is held." },
  );
}
