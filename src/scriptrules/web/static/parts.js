// Parts that several pages have: tables, filters, notes, dialogs.

import { h, render } from "./dom.js";
import { Problem } from "./api.js";

// ---- messages

const TOAST = 6000; // milliseconds

export function toast(text, kind = "good") {
  const box = document.getElementById("toasts");
  const one = document.createElement("div");
  one.className = `toast ${kind}`;
  one.textContent = text;
  box.append(one);
  while (box.children.length > 4) box.firstChild.remove();
  setTimeout(() => one.remove(), kind === "bad" ? 3 * TOAST : TOAST);
}

export async function attempt(work, said) {
  try {
    const found = await work();
    if (said) toast(typeof said === "function" ? said(found) : said);
    return found;
  } catch (problem) {
    if (!(problem instanceof Problem)) console.error(problem);
    toast(problem.message, "bad");
    return undefined;
  }
}

// ---- tables: columns are [title, class, cell]; each row is an element with a key

export function table(label, columns, rows, { key, empty = "None.", more = null, mark = null } = {}) {
  if (!rows.length) return h("p", { class: "muted empty" }, empty);
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h(
      "table",
      { class: "rows" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map(([title, kind]) => h("th", { class: kind, scope: "col" }, title)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row, at) =>
          h(
            "tr",
            { key: key ? key(row) : at, class: mark?.(row) },
            columns.map(([title, kind, cell]) => h("td", { class: kind, "data-title": title || null }, cell(row))),
          ),
        ),
      ),
    ),
    more,
  );
}

// Arrow keys go from row to row, by the first link or button of each.
export function listKeys(event) {
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
  if (!step || event.target.closest?.("[data-own-keys]")) return;
  const rows = [...document.querySelectorAll("main tbody tr, main [data-row]")].filter((row) =>
    row.querySelector("a, button"),
  );
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  if (at < 0 && event.key.startsWith("Arrow") && document.activeElement?.closest?.(".scroll, pre, ol")) return;
  const row = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + step, 0), rows.length - 1)];
  event.preventDefault();
  row.querySelector("a, button").focus();
}

export const panel = (title, ...content) =>
  h(
    "section",
    { class: "panel", "aria-label": typeof title === "string" ? title : undefined },
    h("h2", {}, title),
    content,
  );

export const facts = (...pairs) =>
  h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );

// ---- filters of lists: fields are [name, label, options or null, placeholder]

export function filters(fields, query, path) {
  const apply = (event) => {
    event.preventDefault();
    const form = event.currentTarget.form ?? event.currentTarget;
    const given = [...new FormData(form)].filter(([, value]) => value.trim());
    location.hash = `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
  };
  return h(
    "form",
    { class: "filters", onsubmit: apply },
    fields.map(([name, label, options, placeholder]) =>
      h(
        "label",
        { key: name },
        label,
        options
          ? h(
              "select",
              { name, onchange: apply, value: query[name] ?? "" },
              h("option", { value: "" }, "any"),
              options.map((one) => h("option", { value: one, key: one, selected: one === query[name] }, one)),
            )
          : h("input", {
              name,
              value: query[name] ?? "",
              placeholder: placeholder ?? "any",
              spellcheck: "false",
              autocomplete: "off",
            }),
      ),
    ),
    h("button", {}, "Filter"),
    Object.keys(query).length ? h("a", { href: `#/${path}`, class: "plain" }, "Clear") : null,
  );
}

export function pager(page, query, path) {
  const at = (fields) => `#/${path}?${new URLSearchParams(fields)}`;
  const { cursor, ...rest } = query;
  return h(
    "nav",
    { class: "pager", "aria-label": "Parts of the list" },
    cursor ? h("a", { href: at(rest) }, "Newest") : null,
    page.next
      ? h("a", { href: at({ ...rest, cursor: page.next }) }, "Older")
      : h("span", { class: "muted" }, "That is all."),
  );
}

// ---- dialogs

// fields: [name, label, {kind, value, hint, options}]; answers an object of texts, or null where it was given up.
export function askFor(title, fields, { submit = "OK", danger = false, note = null, check = null } = {}) {
  return new Promise((resolve) => {
    const dialog = document.createElement("dialog");
    const done = (value) => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    const sent = (event) => {
      event.preventDefault();
      const given = Object.fromEntries(new FormData(event.target));
      const problem = check?.(given);
      if (problem) render(dialog.querySelector(".problem"), problem);
      else done(given);
    };
    const input = ([name, label, { kind = "text", value = "", hint, options, rows } = {}]) =>
      kind === "check"
        ? h("label", { class: "check" }, h("input", { type: "checkbox", name, checked: value, value: "on" }), label)
        : h(
            "label",
            {},
            h("span", {}, label, hint ? h("small", { class: "hint" }, hint) : null),
            kind === "json" || kind === "area"
              ? h("textarea", { name, rows: rows ?? 8, value, spellcheck: "false", class: "mono" })
              : kind === "select"
                ? h(
                    "select",
                    { name, value },
                    options.map((one) => h("option", { value: one }, one)),
                  )
                : h("input", { name, type: kind, value, spellcheck: "false", autocomplete: "off" }),
          );
    render(
      dialog,
      h(
        "form",
        { onsubmit: sent, class: "form" },
        h("h2", { id: "dialog-title" }, title),
        note ? h("div", { class: "muted" }, note) : null,
        fields.map(input),
        h("p", { class: "problem", role: "alert" }),
        h(
          "div",
          { class: "buttons" },
          h("button", { type: "button", class: "quiet", onclick: () => done(null) }, "Cancel"),
          h("button", { class: danger ? "danger" : "primary" }, submit),
        ),
      ),
    );
    dialog.setAttribute("aria-labelledby", "dialog-title");
    dialog.addEventListener("cancel", () => done(null));
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function asJson(text, what = "This") {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    return { problem: `${what} is no JSON: ${error.message}. Text needs quotes: "text".` };
  }
}
