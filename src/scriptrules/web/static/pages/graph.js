// The graph: tasks and rules in layers; edges by certainty and by what was seen; what is in flight lights its way.

import { h } from "../dom.js";
import { get } from "../api.js";
import { LIT, STATUS, around, busiest, light, place, wayOf } from "../flow.js";
import { ago, count, icon, ruleLink, short, to } from "../format.js";
import { panel } from "../parts.js";

const RELOAD = 5000; // milliseconds between loads while things happen
const NODES = 200; // that are drawn at once: placing them takes a second for some hundreds more, and then minutes
const DRAWN = 250; // milliseconds between drawings while things happen
const LIMITS = [0.15, 3]; // of the zoom

export default {
  title: () => "Graph",
  ticks: false,
  follows: () => ({ kinds: "task,run,rules" }),

  begin({ state }) {
    Object.assign(state, {
      lit: new Map(),
      names: new Map(),
      view: null,
      kept: null,
      chosen: null,
      only: false,
      find: "",
      shape: "",
      placed: null,
      loadedAt: 0,
      drawing: 0,
    });
  },

  end({ state }) {
    clearTimeout(state.drawing);
  },

  event(name, event, context) {
    if (name === "rules.changed" || name === "reset") return true;
    const { state } = context;
    light(name, JSON.parse(event.data), state);
    if (!state.drawing) {
      state.drawing = setTimeout(() => {
        state.drawing = 0;
        context.draw();
        clearTimeout(state.fading);
        state.fading = setTimeout(context.draw, LIT + 50);
      }, DRAWN);
    }
    return Date.now() - state.loadedAt > RELOAD;
  },

  async load({ query, state }, signal) {
    const under = (name) => get(`api/runs?state=${name}&limit=200`, signal);
    const [graph, running, waiting, held, tree] = await Promise.all([
      get("api/graph", signal),
      under("running"),
      under("waiting"),
      under("held"),
      query.task ? get(`api/tasks/${encodeURIComponent(query.task)}/tree`, signal) : null,
    ]);
    state.loadedAt = Date.now();
    const busy = new Map();
    for (const run of [...running.items, ...waiting.items, ...held.items]) {
      const one = busy.get(run.rule) ?? busy.set(run.rule, { running: 0, held: 0 }).get(run.rule);
      one[run.state === "held" ? "held" : "running"] += 1;
    }
    return { graph, busy, way: tree && wayOf(tree), task: tree?.task };
  },

  view({ graph, busy, way, task }, context) {
    const { state } = context;
    const wanted = state.only && state.chosen ? around(graph, state.chosen) : graph;
    const { part, kept } = busiest(wanted, NODES, way, state.kept);
    state.kept = kept;
    const shape =
      part.nodes.map((node) => node.id).join() +
      part.edges.map((edge) => `${edge.rule}>${edge.task}`).join() +
      part.matches.length;
    if (shape !== state.shape) {
      state.shape = shape;
      state.placed = place(part);
      state.view = null;
    }
    const chosen = graph.nodes.find((node) => node.id === state.chosen);
    return [
      h(
        "header",
        { class: "head", key: "head" },
        h("h1", {}, "Graph"),
        h(
          "label",
          { class: "inline" },
          "Find",
          h("input", {
            type: "search",
            value: state.find,
            oninput: (event) => {
              state.find = event.target.value;
              context.draw();
            },
            placeholder: "rule or task",
            "aria-label": "Find a rule or a task in the graph",
            onkeydown: (event) => {
              const found = event.key === "Enter" && find(graph, state.find);
              if (found) Object.assign(state, { chosen: found.id, only: part !== graph, find: "" });
              context.draw();
            },
          }),
        ),
        h(
          "span",
          { class: "verbs" },
          h("button", { type: "button", "aria-label": "Zoom in", onclick: () => zoom(context, 1.3) }, "+"),
          h("button", { type: "button", "aria-label": "Zoom out", onclick: () => zoom(context, 1 / 1.3) }, "−"),
          h(
            "button",
            {
              type: "button",
              onclick: () => {
                state.view = null;
                context.draw();
              },
            },
            "Fit",
          ),
        ),
      ),
      task
        ? h(
            "p",
            { class: "note info", key: "way" },
            "The way of ",
            h("a", { href: to("tasks", task.id) }, `${task.name} ${task.id}`),
            " is drawn in the accent colour. ",
            h("a", { href: "#/graph" }, "Show all alike"),
          )
        : null,
      part !== wanted
        ? h(
            "p",
            { class: "note info", key: "many" },
            `Drawn are ${NODES} of ${count(wanted.nodes.length)} rules and tasks, those that the most has passed. `,
            "Enter a name above to see what is next to it.",
          )
        : null,
      h(
        "div",
        { class: `graph ${chosen ? "with-side" : ""}`, key: "graph" },
        graph.nodes.length
          ? drawing(state.placed, busy, way, context)
          : h("p", { class: "muted empty" }, "No rules yet. Drop a file into rules/ and it appears here."),
        chosen ? side(chosen, graph, context) : null,
      ),
      legend(),
    ];
  },
};

// What somebody means by a text: the node of that name, or the first that has it in its own.
function find({ nodes }, text) {
  const wanted = text.trim().toLowerCase();
  const has = (node) => node.id.toLowerCase().includes(wanted);
  return wanted && (nodes.find((node) => node.id.toLowerCase() === wanted) ?? nodes.find(has));
}

// ---- drawing

function drawing(placed, busy, way, context) {
  const { state } = context;
  const now = Date.now();
  for (const [key, until] of state.lit) if (until < now) state.lit.delete(key);
  const bright = (key) => (state.lit.has(key) ? " lit" : "") + (way ? (way.has(key) ? " way" : " off") : "");
  const wanted = state.find.trim().toLowerCase();
  const view = state.view ?? { x: 0, y: 0, k: 1 };
  return h(
    "div",
    { class: "canvas", "data-own-keys": true, ref: (box) => arm(box, context) },
    h(
      "svg",
      {
        role: "group",
        "aria-label": "Graph of tasks and rules. Arrow keys move it, + and - zoom",
        tabindex: 0,
        class: "drawing",
      },
      h(
        "defs",
        {},
        h(
          "marker",
          {
            id: "arrow",
            viewBox: "0 0 8 8",
            refX: 7,
            refY: 4,
            markerWidth: 7,
            markerHeight: 7,
            orient: "auto-start-reverse",
          },
          h("path", { d: "M0 .8 7 4 0 7.2z" }),
        ),
      ),
      h(
        "g",
        { transform: `translate(${view.x.toFixed(1)} ${view.y.toFixed(1)}) scale(${view.k.toFixed(4)})` },
        h(
          "g",
          {},
          placed.edges.map((one) =>
            h(
              "path",
              {
                key: one.key,
                d: curve(one.points),
                "marker-end": "url(#arrow)",
                class: `edge ${one.match ? "match" : `c-${one.edge.certainty} is-${STATUS[one.edge.status] ?? "never"}`}${bright(one.key)}`,
              },
              h(
                "title",
                {},
                one.match
                  ? `${one.from.slice(2)} reaches ${one.to.slice(2)}`
                  : `${one.edge.rule} ${one.edge.via} ${one.edge.task}: ${one.edge.certainty}, ${one.edge.status}, seen ${one.edge.seen}`,
              ),
            ),
          ),
        ),
        h(
          "g",
          {},
          placed.nodes.map((node) => nodeOf(node, busy, bright(node.key), wanted, context)),
        ),
      ),
    ),
  );
}

function nodeOf(node, busy, bright, wanted, context) {
  const { state } = context;
  const work = node.kind === "rule" ? busy.get(node.id) : null;
  const choose = () => {
    state.chosen = state.chosen === node.id ? null : node.id;
    if (!state.chosen) state.only = false;
    context.draw();
  };
  const dimmed = wanted && !node.id.toLowerCase().includes(wanted) ? " dim" : wanted ? " found" : "";
  const { width, height } = node;
  return h(
    "g",
    {
      key: node.key,
      class: `node ${node.kind}${bright}${dimmed}${state.chosen === node.id ? " chosen" : ""}`,
      transform: `translate(${(node.x - width / 2).toFixed(1)} ${(node.y - height / 2).toFixed(1)})`,
      tabindex: 0,
      role: "button",
      "aria-pressed": String(state.chosen === node.id),
      "aria-label": `${node.kind} ${node.id}`,
      "data-id": node.id,
      onclick: choose,
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") (event.preventDefault(), choose());
      },
    },
    h("title", {}, `${node.kind} ${node.id}`),
    h("rect", { width, height, rx: node.kind === "rule" ? 5 : 14 }),
    node.kind === "rule"
      ? h("path", { class: "mark", d: "M10 9.5h3.2c1.6 0 1.6 9 3.2 9H19" })
      : h("circle", { class: "mark", cx: 14, cy: 14, r: 3.4 }),
    h("text", { x: 25, y: 18.2 }, short(node.id, 32)),
    work
      ? h(
          "g",
          { class: `badge ${work.held ? "held" : ""}`, transform: `translate(${width - 6} 0)` },
          h("circle", { r: 8.5 }),
          h("text", { y: 3.6 }, String(work.running + work.held)),
        )
      : null,
  );
}

function curve(points) {
  const at = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  let path = `M${at(points[0])}`;
  for (let i = 1; i < points.length - 1; i++) {
    const middle = { x: (points[i].x + points[i + 1].x) / 2, y: (points[i].y + points[i + 1].y) / 2 };
    path += ` Q${at(points[i])} ${at(i === points.length - 2 ? points[i + 1] : middle)}`;
  }
  return points.length < 3 ? `${path} L${at(points.at(-1))}` : path;
}

// ---- moving about

function zoom(context, by, x = null, y = null) {
  const { state } = context;
  const box = document.querySelector(".canvas").getBoundingClientRect();
  const [atX, atY] = [x ?? box.width / 2, y ?? box.height / 2];
  const k = Math.min(LIMITS[1], Math.max(LIMITS[0], state.view.k * by));
  state.view = {
    k,
    x: atX - ((atX - state.view.x) * k) / state.view.k,
    y: atY - ((atY - state.view.y) * k) / state.view.k,
  };
  context.draw();
}

function fit(box, context) {
  const { state } = context;
  const { width, height } = box.getBoundingClientRect();
  if (!width || !state.placed) return;
  const k = Math.max(
    width < 600 ? 0.6 : 0.3,
    Math.min(1.15, (width - 16) / state.placed.width, (height - 16) / state.placed.height),
  );
  state.view = {
    k,
    x: Math.max(8, (width - state.placed.width * k) / 2),
    y: Math.max(8, (height - state.placed.height * k) / 2),
  };
  state.fitted = state.view;
  state.width = box.clientWidth;
  context.draw();
}

function arm(box, context) {
  const { state } = context;
  let from = null;
  const look = () => {
    if (!box.isConnected) return;
    const fits = state.view && (state.fitted !== state.view || state.width === box.clientWidth);
    if (!fits) fit(box, context);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  box.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const edge = box.getBoundingClientRect();
      zoom(context, Math.exp(-event.deltaY * 0.0015), event.clientX - edge.left, event.clientY - edge.top);
    },
    { passive: false },
  );
  box.addEventListener("pointerdown", (event) => {
    if (event.target.closest(".node")) return;
    from = { x: event.clientX - state.view.x, y: event.clientY - state.view.y };
    box.setPointerCapture(event.pointerId);
  });
  box.addEventListener("pointermove", (event) => {
    if (!from) return;
    state.view = { ...state.view, x: event.clientX - from.x, y: event.clientY - from.y };
    context.draw();
  });
  box.addEventListener("pointerup", () => (from = null));
  box.addEventListener("pointercancel", () => (from = null));
  box.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (move) state.view = { ...state.view, x: state.view.x + move[0], y: state.view.y + move[1] };
    else if (event.key === "+" || event.key === "=") zoom(context, 1.3);
    else if (event.key === "-") zoom(context, 1 / 1.3);
    else if (event.key === "0") state.view = null;
    else return;
    event.preventDefault();
    context.draw();
  });
}

// ---- beside it

function side(node, graph, context) {
  const { state } = context;
  const isRule = node.kind === "rule";
  const edges = graph.edges.filter((edge) => (isRule ? edge.rule : edge.task) === node.id);
  const matches = graph.matches.filter((match) => (isRule ? match.rule : match.task) === node.id);
  const go = (id) =>
    h(
      "button",
      {
        type: "button",
        class: "plain name",
        onclick: () => {
          state.chosen = id;
          context.draw();
        },
      },
      id,
    );
  return h(
    "aside",
    { class: "panel", "aria-label": `About ${node.id}` },
    h("h2", {}, h("span", { class: "kind" }, `${node.kind} `), node.id),
    h(
      "p",
      {},
      isRule
        ? [ruleLink(node.id), " · ", h("a", { href: `#/runs?rule=${encodeURIComponent(node.id)}` }, "its runs")]
        : node.kind === "task"
          ? h("a", { href: `#/tasks?name=${encodeURIComponent(node.id)}` }, "tasks of this name")
          : "a pattern of names",
    ),
    h(
      "label",
      { class: "check" },
      h("input", {
        type: "checkbox",
        checked: state.only,
        onchange: (event) => {
          state.only = event.target.checked;
          context.draw();
        },
      }),
      "only what is next to it",
    ),
    h("h3", {}, isRule ? "can generate" : "can be generated by"),
    edges.length
      ? h(
          "ul",
          { class: "plain" },
          edges.map((edge, at) =>
            h(
              "li",
              { key: `${edge.rule} ${edge.task} ${edge.via} ${at}` },
              go(isRule ? edge.task : edge.rule),
              h("span", { class: `tag ${STATUS[edge.status] ?? ""}` }, edge.status ?? ""),
              h(
                "small",
                { class: "muted block" },
                `${edge.via}, ${edge.certainty}${edge.line ? `, line ${edge.line}` : ""}, seen ${count(edge.seen)}`,
                edge.last_seen ? [", last ", ago(edge.last_seen)] : null,
                edge.reason ? `; ${edge.reason}` : "",
              ),
              edge.condition ? h("code", { class: "block" }, `if ${short(edge.condition, 120)}`) : null,
            ),
          ),
        )
      : h("p", { class: "muted" }, "nothing"),
    h("h3", {}, isRule ? "is reached by" : "reaches"),
    matches.length
      ? h(
          "ul",
          { class: "plain" },
          matches.map((match) => h("li", { key: `${match.task} ${match.rule}` }, go(isRule ? match.task : match.rule))),
        )
      : h("p", { class: "muted" }, "nothing"),
  );
}

const legend = () =>
  h(
    "ul",
    { class: "legend", "aria-label": "Legend", key: "legend" },
    [
      ["c-certain is-seen", "certain"],
      ["c-possible is-seen", "possible"],
      ["c-unknown is-resolved", "known at run time only"],
      ["c-possible is-never", "never seen"],
      ["c-possible is-surprise", "seen, not predicted"],
      ["match", "reaches the rule"],
    ].map(([kind, text]) =>
      h(
        "li",
        { key: text },
        h(
          "svg",
          { viewBox: "0 0 34 10", width: 34, height: 10, "aria-hidden": "true" },
          h("path", { class: `edge ${kind}`, d: "M1 5H33" }),
        ),
        text,
      ),
    ),
    h("li", {}, icon("running"), "a number on a rule: its runs under way"),
  );
