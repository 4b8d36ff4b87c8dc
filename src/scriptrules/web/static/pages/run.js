// A run: the rule's source with the line where it stands and each call's result beside its line; journal, logs, stack.

import { h, framed } from "../dom.js";
import { get, lines } from "../api.js";
import {
  FINAL,
  brief,
  clockTime,
  icon,
  json,
  moment,
  prose,
  ruleLink,
  runLink,
  short,
  span,
  state,
  taskLink,
  to,
} from "../format.js";
import { facts, panel, table } from "../parts.js";
import { may } from "../session.js";
import { source } from "../source.js";
import { buttons, fork } from "../verbs.js";
import { history } from "./lists.js";

const LOG_MAX = 1000; // lines that are kept
const ENTRIES_MAX = 500; // entries that are listed
const BESIDE = 3; // entries beside one line

export default {
  title: ({ data, id }) => (data ? `${data.run.rule} ${data.run.id}` : `Run ${id}`),
  follows: ({ id }) => ({ kinds: "run", id }),

  begin(context) {
    context.state.log = { lines: [], dropped: 0, state: "cut" };
    context.state.chosen = null;
    followLog(context);
  },

  async load(context, signal) {
    const path = `api/runs/${encodeURIComponent(context.id)}`;
    const [run, journal, audit] = await Promise.all([
      get(path, signal),
      get(`${path}/journal`, signal),
      get(`api/audit?thing=${encodeURIComponent(context.id)}`, signal),
    ]);
    const known = context.data?.source;
    const orNull = (problem) => (problem.status === 404 ? null : Promise.reject(problem));
    const [text, task] = await Promise.all([
      known && known.digest === run.digest ? known : get(`${path}/source`, signal).catch(orNull),
      context.data?.task ?? get(`api/tasks/${encodeURIComponent(run.task)}`, signal).catch(orNull),
    ]);
    const { log } = context.state;
    if (log.state === "cut" || (log.state === "complete" && !FINAL.has(run.state))) followLog(context);
    return { run, task, entries: journal.items, audit: audit.items, source: text };
  },

  view({ run, task, entries, audit, source: text }, context) {
    const chosen = entries.find((entry) => entry.seq === context.state.chosen);
    const choose = (seq) => {
      context.state.chosen = context.state.chosen === seq ? null : seq;
      context.draw();
    };
    const frame = run.stack.at(-1);
    return [
      h(
        "header",
        { class: "head", key: "head" },
        h("h1", {}, h("span", { class: "kind" }, "Run of "), ruleLink(run.rule), " ", state(run.state)),
        buttons(run, () => context.reload(), { entries }),
      ),
      run.exit
        ? h("p", { class: "note", key: "exit" }, h("b", {}, run.reason ?? run.state), " ends by: ", prose(run.exit))
        : null,
      run.error
        ? h(
            "div",
            { class: "note bad", key: "error" },
            h("b", {}, run.error.type),
            ": ",
            prose(run.error.message),
            run.error.line ? ` (line ${run.error.line})` : null,
            run.error.code ? ` [${run.error.code}]` : null,
            run.error.trace ? h("pre", {}, run.error.trace) : null,
          )
        : null,
      facts(
        ["Run", h("span", { class: "id" }, run.id)],
        ["Task", [task ? `${task.name} ` : null, taskLink(run.task)]],
        ["Began", moment(run.created)],
        [run.ended ? "Took" : "For", span((run.ended ? Date.parse(run.ended) : Date.now()) - Date.parse(run.created))],
        ["Attempt", run.attempt > 1 ? run.attempt : null],
        [
          "Value",
          run.state === "done" && run.value !== null ? h("code", { class: "clip" }, brief(run.value, 160)) : null,
        ],
        [
          "Source",
          text && text.newest !== run.digest
            ? h(
                "span",
                { class: "tag" },
                text.newest ? "older than the active version" : "the rule is not active any more",
              )
            : null,
        ],
      ),
      h(
        "div",
        { class: "halves", key: "halves" },
        panel(
          [h("span", {}, text?.file ?? "Source"), h("small", {}, run.digest.slice(0, 12))],
          text
            ? source(text.text, text.file, {
                current: FINAL.has(run.state) && !run.error ? null : (run.error?.line ?? frame?.line),
                state: run.state,
                notes: beside(entries, context.state.chosen, choose),
              })
            : h("p", { class: "muted" }, "The source is not kept any more."),
        ),
        h(
          "div",
          { class: "column" },
          chosen ? entryPanel(run, chosen, () => choose(chosen.seq)) : null,
          panel(
            [
              h("span", {}, "Journal"),
              h("small", {}, `${entries.length} ${entries.length === 1 ? "entry" : "entries"}`),
            ],
            journal(entries, choose, context.state.chosen),
          ),
          run.stack.length > 1
            ? panel(
                "Stack",
                table(
                  "Stack",
                  [
                    [
                      "Run",
                      "",
                      (one) => [h("a", { class: "name", href: to("runs", one.run) }, one.rule), " ", runLink(one.run)],
                    ],
                    ["For", "name", (one) => one.name],
                    ["Line", "num", (one) => one.line ?? ""],
                    ["Entry", "num", (one) => one.seq ?? ""],
                  ],
                  run.stack,
                  { key: (one) => one.run },
                ),
              )
            : null,
          panel([h("span", {}, "Logs"), h("small", {}, context.state.log.state)], logs(context.state.log)),
          task ? panel([h("span", {}, "Data"), h("small", {}, `of ${task.name}`)], json(task.data)) : null,
          audit.length ? panel("What people did", history(audit)) : null,
        ),
      ),
    ];
  },
};

// ---- entries

function result(entry) {
  if (entry.error) return h("span", { class: "error" }, `${entry.error.type}: ${short(entry.error.message, 80)}`);
  if (entry.state !== "done") return entry.reason ?? entry.state;
  if (entry.result?.ready) return `entry ${entry.result.ready.join(", ")}`; // what it waited for has its own result
  if (entry.name === "run" || entry.name === "wait") return brief(outline(entry.result), 70);
  if (entry.name === "emit") return entry.result?.task ?? "";
  return entry.result === null ? "" : brief(entry.result, 70);
}

// Of an execution's result, what one wants to know first.
function outline(value) {
  if (Array.isArray(value)) return value.map(outline);
  if (value && typeof value === "object" && "exit_code" in value)
    return value.output ?? (value.exit_code ? { exit_code: value.exit_code } : short((value.stdout ?? "").trim(), 60));
  return value;
}

const took = (entry) =>
  entry.ended
    ? span(Date.parse(entry.ended) - Date.parse(entry.started))
    : span(Date.now() - Date.parse(entry.started));
const instant = (entry) => entry.ended && Date.parse(entry.ended) - Date.parse(entry.started) < 1;

function beside(entries, chosen, choose) {
  const byLine = Map.groupBy
    ? Map.groupBy(entries, (entry) => entry.line)
    : entries.reduce((map, entry) => map.set(entry.line, [...(map.get(entry.line) ?? []), entry]), new Map());
  return (number) => {
    const here = byLine.get(number);
    if (!here) return null;
    const last = here.slice(-BESIDE);
    return h(
      "span",
      { class: "beside" },
      here.length > last.length ? h("span", { class: "muted" }, `${here.length - last.length} before · `) : null,
      last.map((entry) =>
        h(
          "button",
          {
            key: entry.seq,
            type: "button",
            class: `call s-${entry.state} ${entry.seq === chosen ? "chosen" : ""}`,
            title: `Entry ${entry.seq}: ${entry.name} ${entry.state}`,
            "aria-pressed": String(entry.seq === chosen),
            onclick: () => choose(entry.seq),
          },
          icon(entry.state),
          h("span", { class: "clip" }, result(entry) || entry.name),
        ),
      ),
    );
  };
}

function journal(entries, choose, chosen) {
  const shown = entries.slice(-ENTRIES_MAX);
  return table(
    "Journal",
    [
      ["#", "num", (entry) => entry.seq],
      [
        "Function",
        "",
        (entry) =>
          h(
            "button",
            {
              type: "button",
              class: "plain name",
              "aria-pressed": String(entry.seq === chosen),
              onclick: () => choose(entry.seq),
            },
            entry.name,
          ),
      ],
      ["State", "", (entry) => state(entry.state)],
      [
        "Arguments and result",
        "grow mono",
        (entry) => [
          h("span", { class: "muted clip" }, brief(entry.args, 80)),
          result(entry) && h("span", { class: "clip value" }, "→ ", result(entry)),
        ],
      ],
      ["Line", "num wide", (entry) => entry.line],
      ["Took", "num", (entry) => (instant(entry) ? "" : took(entry))],
    ],
    shown,
    {
      key: (entry) => entry.seq,
      empty: "It has used no function yet.",
      mark: (entry) => (entry.seq === chosen ? "chosen" : null),
      more:
        entries.length > shown.length
          ? h(
              "p",
              { class: "muted" },
              `${entries.length - shown.length} older entries are not listed: scriptrules show RUN has them.`,
            )
          : null,
    },
  );
}

function entryPanel(run, entry, close) {
  const open = (made) => (location.hash = to("runs", made.id));
  return panel(
    [
      h("span", {}, `Entry ${entry.seq}: ${entry.name}`),
      h(
        "span",
        { class: "verbs" },
        may("operator") && (entry.state === "done" || entry.state === "failed")
          ? h(
              "button",
              {
                type: "button",
                onclick: () => fork(run, entry, open),
                title: "A new run goes on from here with another result",
              },
              "fork",
            )
          : null,
        h("button", { type: "button", class: "quiet", onclick: close, "aria-label": "Close" }, "close"),
      ),
    ],
    facts(
      ["State", state(entry.state)],
      ["Reason", entry.reason],
      ["Line", entry.line],
      ["Began", clockTime(entry.started)],
      ["Ended", entry.ended && clockTime(entry.ended)],
      ["Attempt", entry.attempt > 1 ? entry.attempt : null],
      ["Verdict", entry.verdict],
      ["Task", entry.result?.task ? taskLink(entry.result.task) : null],
    ),
    h("h3", {}, "Arguments"),
    json(entry.args),
    entry.original ? [h("h3", {}, "The rule's own arguments"), json(entry.original)] : null,
    entry.error ? [h("h3", {}, "Error"), json(entry.error)] : [h("h3", {}, "Result"), json(entry.result)],
  );
}

// ---- logs

async function followLog(context) {
  if (document.hidden) return;
  const log = (context.state.log = { lines: [], dropped: 0, state: "live" }); // or complete, or cut
  const draw = framed(context.draw);
  const left = new AbortController();
  const leave = () => (document.hidden || context.signal.aborted) && left.abort();
  context.signal.addEventListener("abort", leave);
  document.addEventListener("visibilitychange", leave); // browsers have six connections to a server for all windows
  let number = 0;
  try {
    await lines(`api/runs/${encodeURIComponent(context.id)}/logs?follow=true`, left.signal, (line) => {
      let place = log.lines.length; // those of the script come in order, and those of each execution
      while (place > 0 && log.lines[place - 1].at > line.at) place -= 1;
      log.lines.splice(place, 0, { ...line, number: number++ });
      if (log.lines.length > LOG_MAX) {
        log.dropped += log.lines.length - LOG_MAX;
        log.lines = log.lines.slice(-LOG_MAX);
      }
      draw();
    });
    log.state = "complete";
  } catch {
    log.state = "cut"; // the server went away, or who looks: loading the run anew begins it again
  }
  context.signal.removeEventListener("abort", leave);
  document.removeEventListener("visibilitychange", leave);
  draw();
}

function logs(log) {
  if (!log.lines.length)
    return h(
      "p",
      { class: "muted empty" },
      log.state === "complete" ? "Nothing was logged." : "Nothing has been logged yet.",
    );
  return [
    log.dropped
      ? h("p", { class: "muted" }, `${log.dropped} older lines are not shown: scriptrules logs RUN has them.`)
      : null,
    h(
      "ol",
      { class: "log", tabindex: 0, "aria-label": "Log" },
      log.lines
        .slice(-LOG_MAX)
        .map((line) =>
          h(
            "li",
            { key: line.number, class: `from-${line.stream}` },
            h("time", { datetime: line.at, class: "muted" }, clockTime(line.at)),
            h("span", { class: "stream" }, line.stream === "log" ? "" : line.stream),
            h(
              "span",
              { class: "text" },
              line.text,
              line.fields ? h("span", { class: "muted" }, ` ${brief(line.fields, 200)}`) : null,
            ),
          ),
        ),
    ),
  ];
}
