// What people do to tasks and runs, as buttons; the same verbs for one thing and, in `bulk`, for many.

import { h } from "./dom.js";
import { get, post, verb } from "./api.js";
import { asJson, askFor, attempt } from "./parts.js";
import { FINAL, brief, count } from "./format.js";
import { may } from "./session.js";

const TITLES = {
  cancel: "Cancel it, with what it has called",
  resume: "Let it go on",
  step: "Let it go on to its next entry, or the next task that it generates",
  edit: "Give it other data or arguments",
  answer: "Supply the result that it waits for, instead of doing it",
  drop: "End it where it is held",
  retry: "Do what has failed again",
  fork: "A new run that goes on from an entry with another result",
  hold: "Have it stop at its next entry",
};

const pathOf = (thing) => `api/${thing.id.startsWith("r") ? "runs" : "tasks"}/${thing.id}`;
const isRun = (thing) => thing.id.startsWith("r");

export function verbsFor(thing) {
  if (!may("operator")) return [];
  const state = thing.state;
  if (state === "held") {
    const called = isRun(thing) || thing.reason === "unresolved" || thing.reason === "ambiguous";
    return ["resume", "step", "edit", ...(called ? ["answer"] : []), ...(isRun(thing) ? ["retry"] : []), "drop"];
  }
  if (state === "failed") return ["retry"];
  if (state === "unmatched") return ["resume"];
  if (FINAL.has(state)) return [];
  return isRun(thing) ? ["hold", "cancel"] : ["cancel"];
}

export function buttons(thing, done, { only = null, entries = null } = {}) {
  const shown = verbsFor(thing).filter((name) => !only || only.includes(name));
  return h(
    "span",
    { class: "verbs" },
    shown.map((name) =>
      h(
        "button",
        {
          key: name,
          type: "button",
          title: TITLES[name],
          class: name === "resume" ? "primary" : name === "drop" || name === "cancel" ? "danger" : null,
          onclick: () => start(name, thing, done, entries),
        },
        name,
      ),
    ),
  );
}

async function start(name, thing, done, entries) {
  const body = await settings(name, thing, entries);
  if (body === null) return;
  const after = await attempt(
    () => verb(`${pathOf(thing)}/${name}`, body),
    (now) => `${name}: ${thing.id} is ${now?.state ?? "gone"} now.`,
  );
  if (after) done?.(after);
}

async function settings(name, thing, entries) {
  if (name === "cancel" || name === "drop") {
    const what = isRun(thing) ? `run ${thing.id} of ${thing.rule}` : `task ${thing.id} (${thing.name})`;
    const sure = await askFor(`${name[0].toUpperCase()}${name.slice(1)} ${what}?`, [], {
      submit: name,
      danger: true,
      note: TITLES[name] + ".",
    });
    return sure && {};
  }
  if (name === "retry") {
    const given = await askFor(
      "Retry",
      [
        ["pinned", "with the source that it began with, not the newest", { kind: "check" }],
        ["from_start", "from the start: forget what succeeded", { kind: "check" }],
      ],
      { submit: "Retry" },
    );
    return given && { pinned: given.pinned === "on", from_start: given.from_start === "on" };
  }
  if (name === "edit") return editing(thing, entries);
  if (name === "answer") {
    const given = await askFor("Answer", [["result", "Result, as JSON", { kind: "json", value: "null", rows: 6 }]], {
      submit: "Answer",
      note: TITLES.answer + ".",
      check: (fields) => asJson(fields.result, "The result").problem,
    });
    return given && { result: JSON.parse(given.result) };
  }
  return {};
}

// By form (a field each) or as JSON, whichever was changed last; the original is kept by the server.
async function editing(thing, entries) {
  let data = thing.data;
  if (isRun(thing)) {
    const held = entries ?? (await get(`${pathOf(thing)}/journal`)).items;
    data = held.findLast((entry) => entry.state === "held")?.args ?? {};
  }
  const simple = Object.entries(data).filter(([, value]) => value === null || typeof value !== "object");
  const given = await askFor(
    "Edit",
    [
      ...simple.map(([name, value]) => [
        `field.${name}`,
        name,
        { value: typeof value === "string" ? value : JSON.stringify(value), hint: kindOf(value) },
      ]),
      [
        "json",
        simple.length ? "All of it as JSON (used where it was changed)" : "As JSON",
        { kind: "json", value: JSON.stringify(data, null, 2) },
      ],
    ],
    {
      submit: "Save",
      note: isRun(thing) ? "The arguments of the entry that it is held before." : "The task's data.",
      check: (fields) => asJson(fields.json, "The text").problem ?? firstProblem(simple, fields),
    },
  );
  if (!given) return null;
  if (JSON.stringify(JSON.parse(given.json)) !== JSON.stringify(data)) return { data: JSON.parse(given.json) };
  const set = {};
  for (const [name, value] of simple) {
    const changed = typed(value, given[`field.${name}`]);
    if (changed.value !== value) set[name] = changed.value;
  }
  return Object.keys(set).length ? { set } : null;
}

const typed = (before, text) => (typeof before === "string" ? { value: text } : asJson(text));
const kindOf = (value) => ({ string: "text", object: "null" })[typeof value] ?? typeof value;
const firstProblem = (simple, fields) =>
  simple
    .map(
      ([name, value]) =>
        typed(value, fields[`field.${name}`]).problem &&
        `${name}: write ${value === null ? "JSON" : `a ${kindOf(value)}`}.`,
    )
    .find(Boolean);

export async function fork(run, entry, done) {
  const given = await askFor(
    `Fork ${run.id} at entry ${entry.seq} (${entry.name})`,
    [
      [
        "result",
        "Its result in the new run, as JSON",
        { kind: "json", value: JSON.stringify(entry.result, null, 2), rows: 6 },
      ],
      ["pinned", "with the source that it began with, not the newest", { kind: "check" }],
    ],
    {
      submit: "Fork",
      note: TITLES.fork + "; this one stays as it is.",
      check: (fields) => asJson(fields.result, "The result").problem,
    },
  );
  if (!given) return;
  const body = { seq: entry.seq, result: JSON.parse(given.result), pinned: given.pinned === "on" };
  const made = await attempt(
    () => verb(`api/runs/${run.id}/fork`, body),
    (after) => `Run ${after.id} goes on from entry ${entry.seq}.`,
  );
  if (made) done(made);
}

// ---- many at once

export const BULK = ["resume", "step", "edit", "answer", "drop", "retry", "cancel"];

export async function bulk(name, selection, done) {
  const filter = Object.entries(selection).filter(([, value]) => value);
  const body = filter.length ? Object.fromEntries(filter) : { all: true };
  const outcome = await attempt(() => post(`api/bulk/${name}`, { ...body, dry_run: true }));
  if (!outcome) return;
  const fields =
    {
      edit: [["json", "Fields to set, as JSON", { kind: "json", value: "{}", rows: 5 }]],
      answer: [["json", "Result, as JSON", { kind: "json", value: "null", rows: 5 }]],
      retry: [["from_start", "from the start: forget what succeeded", { kind: "check" }]],
    }[name] ?? [];
  const given = await askFor(`${name[0].toUpperCase()}${name.slice(1)} ${count(outcome.matched)}?`, fields, {
    submit: `${name} ${count(outcome.matched)}`,
    danger: name === "drop" || name === "cancel",
    note: filter.length
      ? `The filter (${brief(body)}) selects ${count(outcome.matched)} now.`
      : `There is no filter: all ${count(outcome.matched)} are meant, also those that are not shown.`,
    check: (texts) => ("json" in texts ? asJson(texts.json).problem : null),
  });
  if (!given || !outcome.matched) return;
  const more =
    name === "edit"
      ? { set: JSON.parse(given.json) }
      : name === "answer"
        ? { result: JSON.parse(given.json) }
        : name === "retry"
          ? { from_start: given.from_start === "on" }
          : {};
  const after = await attempt(
    () => verb(`api/bulk/${name}`, { ...body, ...more }),
    (all) =>
      `${name}: ${count(all.changed)} of ${count(all.matched)}${all.failed.length ? `; ${all.failed[0].id}: ${all.failed[0].detail}` : ""}.`,
  );
  if (after) done?.(after);
}
