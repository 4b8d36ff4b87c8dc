// The text of a rule, line by line: highlighted, with marks under what is wrong and notes beside lines.

import { h } from "./dom.js";
import { prose } from "./format.js";

const KEYWORDS = new Set(
  "and as assert break case continue def del elif else except finally for from if import in is lambda match not or pass raise return try while with yield None True False".split(
    " ",
  ),
);
const INJECTED = new Set(
  "run wait emit call receive load save sleep sleep_until now random uuid log print hold fail Task Job".split(" "),
);
const PYTHON =
  /(#[^\n]*)|((?:[rbfRBF]{0,2})(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?))|(\b\d[\d_.]*(?:[eE][+-]?\d+)?\b)|([A-Za-z_]\w*)/g;
const YAML = /(#[^\n]*)|("(?:[^"\\\n]|\\.)*"?|'(?:[^'\n]|'')*'?)|(\b\d[\d_.]*\b)|(^[ -]*[\w.-]+(?=:(?:\s|$)))/gm;

// [[kind, text], …] for each line.
export function highlight(text, file) {
  const yaml = /\.ya?ml$/.test(file);
  const lines = [[]];
  const put = (kind, part) => {
    part.split("\n").forEach((piece, at) => {
      if (at) lines.push([]);
      if (piece) lines.at(-1).push([kind, piece]);
    });
  };
  let at = 0;
  for (const found of text.matchAll(yaml ? YAML : PYTHON)) {
    if (found.index > at) put("", text.slice(at, found.index));
    const [whole, comment, string, number, name] = found;
    const called = name && text[found.index + whole.length] === "(";
    const kind = comment
      ? "c-comment"
      : string
        ? "c-text"
        : number
          ? "c-number"
          : yaml
            ? "c-key"
            : KEYWORDS.has(name)
              ? "c-word"
              : INJECTED.has(name) && called
                ? "c-injected"
                : called
                  ? "c-call"
                  : "";
    put(kind, whole);
    at = found.index + whole.length;
  }
  put("", text.slice(at));
  return lines;
}

// Columns of findings count UTF-8 bytes.
function characters(line, bytes) {
  let left = bytes;
  let at = 0;
  for (const character of line) {
    if (left <= 0) break;
    left -= new TextEncoder().encode(character).length;
    at += character.length;
  }
  return at;
}

// A line that is too long goes on below its own beginning.
function hanging(line = "") {
  const indent = line.length - line.trimStart().length + 4;
  return { "padding-left": `${indent}ch`, "text-indent": `-${indent}ch` };
}

// Cuts the pieces of a line where marks begin and end.
function cut(pieces, marks) {
  const found = [];
  let at = 0;
  for (const [kind, text] of pieces) {
    const ends = [...new Set([0, text.length, ...marks.flatMap(({ from, to }) => [from - at, to - at])])]
      .filter((end) => end >= 0 && end <= text.length)
      .sort((a, b) => a - b);
    for (let i = 0; i + 1 < ends.length; i++) {
      const mark = marks.find(({ from, to }) => from <= at + ends[i] && at + ends[i + 1] <= to);
      found.push([kind, text.slice(ends[i], ends[i + 1]), mark]);
    }
    at += text.length;
  }
  return found;
}

// findings: diagnostics of this file. notes(number): elements beside a line. current: the line where a run stands.
export function source(text, file, { findings = [], notes = () => null, current = null, state = "", first = 1 } = {}) {
  const lines = highlight(text.replace(/\n$/, ""), file);
  const texts = text.split("\n");
  return h(
    "ol",
    { class: "source", tabindex: 0, "aria-label": `Source of ${file}`, start: first },
    lines.map((pieces, index) => {
      const number = index + first;
      const here = findings.filter((one) => one.line <= number && number <= (one.end_line ?? one.line));
      const marks = here.map((one) => {
        const from = one.line === number ? characters(texts[index], one.column) : 0;
        const to =
          (one.end_line ?? one.line) === number && one.end_column
            ? characters(texts[index], one.end_column)
            : texts[index].length;
        return { from, to: Math.max(to, from + 1), one };
      });
      const beginning = here.filter((one) => one.line === number);
      return h(
        "li",
        {
          key: number,
          id: `line-${number}`,
          class: [number === current && `current s-${state}`, here.length && "wrong"].filter(Boolean).join(" ") || null,
          "aria-current": number === current ? "step" : null,
        },
        h("span", { class: "number", "aria-hidden": "true" }, number),
        h(
          "code",
          { style: hanging(texts[index]) },
          cut(pieces, marks).map(([kind, part, mark]) =>
            kind || mark
              ? h("span", { class: `${kind}${mark ? " squiggle" : ""}` || null, title: mark?.one.message }, part)
              : part,
          ),
          pieces.length ? null : " ",
        ),
        notes(number),
        beginning.map((one) =>
          h(
            "span",
            { class: "finding" },
            h("b", {}, one.code),
            " ",
            prose(one.message),
            one.hint ? h("em", {}, " ", prose(one.hint)) : null,
          ),
        ),
      );
    }),
  );
}
