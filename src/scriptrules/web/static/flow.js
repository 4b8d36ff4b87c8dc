// The graph as data: which part of it, where everything stands, what is in flight. Nothing here draws.

import { Graph, layout } from "./vendor/dagre.js";
import { short } from "./format.js";

const STRENGTH = { certain: 2, possible: 1, unknown: 0 };
export const STATUS = {
  "possible & seen": "seen",
  "possible & never seen": "never",
  resolved: "resolved",
  "seen & not predicted": "surprise",
};
export const LIT = 1600; // milliseconds that something stays lit
const REMEMBERED = 500; // runs and tasks whose names are remembered

// ---- what is where

const keyOf = (node) => `${node.kind === "rule" ? "r" : "t"}:${node.id}`;

function strongest(edges) {
  const found = new Map();
  for (const edge of edges) {
    const key = `${edge.rule}\n${edge.task}`;
    const known = found.get(key);
    if (!known) found.set(key, { ...edge, all: [edge] });
    else {
      known.all.push(edge);
      known.seen += edge.seen;
      if (STRENGTH[edge.certainty] > STRENGTH[known.certainty]) known.certainty = edge.certainty;
      if (STATUS[edge.status] === "surprise" || known.status === "possible & never seen") known.status = edge.status;
    }
  }
  return [...found.values()];
}

export function place(part) {
  const drawn = new Graph();
  drawn.setGraph({
    rankdir: "LR",
    nodesep: 14,
    ranksep: 40,
    marginx: 16,
    marginy: 16,
    ranker: part.nodes.length > 300 ? "longest-path" : "network-simplex",
  });
  drawn.setDefaultEdgeLabel(() => ({}));
  const ids = new Set(part.nodes.map(keyOf));
  for (const node of part.nodes)
    drawn.setNode(keyOf(node), {
      ...node,
      width: Math.min(260, 34 + short(node.id, 32).length * 7.1),
      height: 28,
    });
  const edges = [];
  const connect = (from, to, edge) => {
    if (!ids.has(from) || !ids.has(to)) return;
    drawn.setEdge(from, to, {});
    edges.push({ from, to, ...edge });
  };
  for (const edge of strongest(part.edges)) connect(`r:${edge.rule}`, `t:${edge.task}`, { edge });
  for (const match of part.matches) connect(`t:${match.task}`, `r:${match.rule}`, { match });
  layout(drawn);
  const { width, height } = drawn.graph();
  return {
    width: width || 400,
    height: height || 200,
    nodes: drawn.nodes().map((key) => ({ key, ...drawn.node(key) })),
    edges: edges.map((one) => ({ ...one, key: `${one.from}>${one.to}`, points: drawn.edge(one.from, one.to).points })),
  };
}

export function around(graph, id) {
  const rules = new Set([id]);
  const tasks = new Set([id]);
  const edges = graph.edges.filter((edge) => edge.rule === id || edge.task === id);
  const matches = graph.matches.filter((match) => match.rule === id || match.task === id);
  for (const edge of edges) (rules.add(edge.rule), tasks.add(edge.task));
  for (const match of matches) (rules.add(match.rule), tasks.add(match.task));
  return {
    nodes: graph.nodes.filter((node) => (node.kind === "rule" ? rules : tasks).has(node.id)),
    edges: graph.edges.filter((edge) => rules.has(edge.rule) && tasks.has(edge.task)),
    matches: graph.matches.filter((match) => rules.has(match.rule) && tasks.has(match.task)),
  };
}

// Of a part that is too large to be drawn at once: what the most has passed, and from there what is next to it; what is
// on the way of a task comes first. `kept` is what was drawn of the same nodes before: counts change all the time, and
// what is drawn stays where it is.
export function busiest(part, most, way, kept) {
  if (part.nodes.length <= most) return { part, kept: null };
  const names = [...part.nodes.map((node) => node.id), ...(way ?? [])].join();
  const keys = kept?.names === names ? kept.keys : heaviest(part, most, way);
  const has = ({ rule, task }) => keys.has(`r:${rule}`) && keys.has(`t:${task}`);
  return {
    part: {
      nodes: part.nodes.filter((node) => keys.has(keyOf(node))),
      edges: part.edges.filter(has),
      matches: part.matches.filter(has),
    },
    kept: { names, keys },
  };
}

function heaviest(part, most, way) {
  const weights = new Map((way ? [...way] : []).map((key) => [key, 1e15]));
  const beside = new Map(part.nodes.map((node) => [keyOf(node), []]));
  for (const { rule, task, seen = 0 } of [...part.edges, ...part.matches]) {
    for (const [key, other] of [
      [`r:${rule}`, `t:${task}`],
      [`t:${task}`, `r:${rule}`],
    ]) {
      weights.set(key, (weights.get(key) ?? 0) + 1 + seen);
      beside.get(key)?.push(other);
    }
  }
  const first = (keys) => keys.sort((a, b) => (weights.get(b) ?? 0) - (weights.get(a) ?? 0));
  const found = new Set();
  for (const start of first([...beside.keys()])) {
    const next = [start];
    for (let at = 0; at < next.length && found.size < most; at++) {
      if (found.has(next[at]) || !beside.has(next[at])) continue;
      found.add(next[at]);
      next.push(...first(beside.get(next[at])));
    }
  }
  return found;
}

// ---- what is in flight

function remember(names, id, name) {
  names.set(id, name);
  if (names.size > REMEMBERED) names.delete(names.keys().next().value);
}

export function light(name, thing, { lit, names }) {
  const until = Date.now() + LIT;
  const on = (key) => lit.set(key, until);
  if (name.startsWith("task.")) {
    remember(names, thing.id, thing.name);
    on(`t:${thing.name}`);
    const by = thing.parent && names.get(thing.parent);
    if (by && name === "task.new") on(`r:${by}>t:${thing.name}`);
  } else {
    remember(names, thing.id, thing.rule);
    on(`r:${thing.rule}`);
    const task = names.get(thing.task);
    if (task) on(`t:${task}>r:${thing.rule}`);
  }
}

export function wayOf(tree, found = new Set()) {
  found.add(`t:${tree.task.name}`);
  for (const { run, tasks } of tree.runs) {
    found.add(`r:${run.rule}`).add(`t:${tree.task.name}>r:${run.rule}`);
    for (const child of tasks) {
      found.add(`r:${run.rule}>t:${child.task.name}`);
      wayOf(child, found);
    }
  }
  return found;
}
