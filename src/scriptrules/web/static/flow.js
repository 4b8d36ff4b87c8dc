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
  const ids = new Set(part.nodes.map((node) => `${node.kind === "rule" ? "r" : "t"}:${node.id}`));
  for (const node of part.nodes)
    drawn.setNode(`${node.kind === "rule" ? "r" : "t"}:${node.id}`, {
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
