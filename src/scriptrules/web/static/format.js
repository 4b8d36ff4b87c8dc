// How values look: moments, spans, counts, ids, JSON. Text in, descriptions of elements out.

import { h } from "./dom.js";

const ICONS = {
  // 12 × 12; strokes in the state's colour
  new: ["circle"],
  queued: ["dashed"],
  pending: ["dashed"],
  running: ["path", "M3.5 2.2 9.5 6l-6 3.8z", true],
  started: ["path", "M3.5 2.2 9.5 6l-6 3.8z", true],
  waiting: ["path", "M6 3.2V6l2 1.4M10.5 6a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0z"],
  held: ["path", "M4.2 2.5v7M7.8 2.5v7", false, 2.2],
  done: ["path", "M2.2 6.4 4.8 9l5-6", false, 1.8],
  failed: ["path", "M3 3l6 6M9 3 3 9", false, 1.8],
  cancelled: ["path", "M2.9 2.9l6.2 6.2M10.5 6a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0z"],
  dropped: ["path", "M6 2v7M3 6.2 6 9.2l3-3", false, 1.6],
  unmatched: ["path", "M4.4 4.4C4.4 2 8 2 7.8 4.4 7.7 5.8 6 5.8 6 7.4M6 9.3v.4", false, 1.5],
};

export const FINAL = new Set(["done", "failed", "unmatched", "dropped", "cancelled"]);

export function icon(state) {
  const [kind, path, filled, width = 1.4] = ICONS[state] ?? ICONS.new;
  const stroke = { fill: filled ? "currentColor" : "none", stroke: filled ? "none" : "currentColor" };
  const shape =
    kind === "path"
      ? h("path", { d: path, ...stroke, "stroke-width": width, "stroke-linecap": "round", "stroke-linejoin": "round" })
      : h("circle", {
          cx: 6,
          cy: 6,
          r: 4.2,
          ...stroke,
          "stroke-width": width,
          "stroke-dasharray": kind === "dashed" ? "2.2 2" : null,
        });
  return h("svg", { class: "icon", viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" }, shape);
}

export const state = (name, text) => h("span", { class: `state s-${name}` }, icon(name), text ?? name);

// ---- time

export function span(milliseconds) {
  const s = Math.max(0, milliseconds) / 1000;
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const seconds = (value) => (value === null || value === undefined ? "–" : span(value * 1000));

export function ago(text) {
  if (!text) return "–";
  const past = Date.now() - Date.parse(text);
  const coarse =
    past < 2000
      ? "now"
      : past < 60000
        ? `${Math.floor(past / 1000)} s`
        : past < 3.6e6
          ? `${Math.floor(past / 60000)} min`
          : past < 8.64e7
            ? `${Math.floor(past / 3.6e6)} h`
            : `${Math.floor(past / 8.64e7)} d`;
  return h("time", { datetime: text, title: moment(text) }, coarse);
}

export function moment(text) {
  if (!text) return "–";
  const at = new Date(text);
  const two = (number, width = 2) => String(number).padStart(width, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${two(at.getMilliseconds(), 3)}`;
}

export const clockTime = (text) => (text ? moment(text).slice(11) : "");

export const count = (number) => (number ?? 0).toLocaleString("en").replaceAll(",", " ");

// ---- text and JSON

export const short = (text, most = 120) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

// Sentences of the server, in which `code` stands between backticks.
export const prose = (text) => (text ?? "").split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));

export function brief(value, most = 90) {
  return value === undefined ? "" : short(JSON.stringify(value), most);
}

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|\b(true|false|null)\b/g;
const JSON_MAX = 20000; // characters that are shown at once

export function json(value, most = JSON_MAX) {
  const text = JSON.stringify(value, null, 2) ?? "null";
  const shown = text.slice(0, most);
  const parts = [];
  let at = 0;
  for (const found of shown.matchAll(TOKEN)) {
    if (found.index > at) parts.push(shown.slice(at, found.index));
    const kind = found[1] ? (found[2] ? "k-key" : "k-text") : found[3] ? "k-number" : "k-word";
    parts.push(h("span", { class: kind }, found[1] ?? found[0]), found[2] ?? null);
    at = found.index + found[0].length;
  }
  parts.push(shown.slice(at));
  if (text.length > most) parts.push(h("em", {}, ` … ${count(text.length - most)} more characters`));
  return h("pre", { class: "json", tabindex: 0 }, parts);
}

// ---- links

export const to = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;
export const taskLink = (id, text) => h("a", { class: "id", href: to("tasks", id) }, text ?? id);
export const runLink = (id, text) => h("a", { class: "id", href: to("runs", id) }, text ?? id);
export const ruleFile = (rule) => rule.split(":")[0];
export const ruleLink = (rule) => h("a", { class: "name", href: to("rules", ruleFile(rule)) }, rule);
export const anyLink = (id, text) => (id.startsWith("r") ? runLink(id, text) : taskLink(id, text));
