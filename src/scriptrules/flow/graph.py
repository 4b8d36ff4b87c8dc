"""The graph: which rules can generate which tasks, and which rules these reach. Pure: facts in, data out.

An edge reads "the rule can generate the task", a match "the task can reach the rule"; whether a filter holds then is
for run time to say. The pattern ``*``, which is any name at all, reaches every rule, and has no matches here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from scriptrules import clock
from scriptrules.flow.atoms import Atom
from scriptrules.flow.online import OnlineEdge
from scriptrules.flow.shapes import Certainty, RuleFacts, Via
from scriptrules.flow.values import parts_of
from scriptrules.rulebook.index import EVERYTHING, is_literal, matches

TASK, RULE, PATTERN = "task", "rule", "pattern"
ANYTHING = "*"


class Node(msgspec.Struct, frozen=True):
    id: str
    kind: str  # TASK, RULE or PATTERN


class GraphEdge(msgspec.Struct, frozen=True):
    """`rule` can generate `task`; what was seen of it is nothing where no server was asked."""

    rule: str
    task: str
    via: str
    certainty: str
    condition: str
    line: int | None
    seen: int = 0
    first_seen: str | None = None
    last_seen: str | None = None
    status: str | None = None
    reason: str = ""  # why the name is not known
    returns: list[str] = []  # of a call: the rules whose value comes back


class Match(msgspec.Struct, frozen=True):
    """Tasks of this name, or of names of this pattern, can reach `rule`."""

    task: str
    rule: str


class Graph(msgspec.Struct, frozen=True):
    nodes: list[Node]
    edges: list[GraphEdge]
    matches: list[Match]
    subsequents: dict[str, Atom]


def graph(rules: Iterable[RuleFacts], edges: Iterable[OnlineEdge], online: bool = False) -> Graph:
    """Everything that is known of some rules, as one graph.

    Args:
        rules: their facts; those that are not enabled take no part.
        edges: theirs, see `online.joined`.
        online: whether a store was asked what was seen.
    """
    active = [facts for facts in rules if facts.enabled]
    reaching = Reaching(active)
    found = [_edge(edge, online, reaching) for edge in edges]
    names = dict.fromkeys(edge.task for edge in found)
    names.update(dict.fromkeys(pattern for facts in active for pattern in facts.on if pattern != EVERYTHING))
    names.update(dict.fromkeys(use.name for facts in active for use in facts.received if use.name != EVERYTHING))
    nodes = [Node(facts.rule, RULE) for facts in active]
    nodes += [Node(name, TASK if is_literal(name) else PATTERN) for name in names]
    arrows = [Match(name, rule) for name in names for rule in reaching.rules(name)]
    return Graph(nodes, found, arrows, {facts.rule: facts.subsequents for facts in active})


def _edge(edge: OnlineEdge, online: bool, reaching: Reaching) -> GraphEdge:
    return GraphEdge(
        *(edge.rule, edge.task, edge.via, str(edge.certainty), edge.condition, edge.line),
        seen=edge.seen,
        first_seen=None if edge.first_seen is None else clock.text(edge.first_seen),
        last_seen=None if edge.last_seen is None else clock.text(edge.last_seen),
        status=str(edge.status) if online else None,
        reason=edge.reason,
        returns=[facts.rule for facts in reaching.answering(edge.task)] if edge.via == Via.CALL else [],
    )


class Patterns:
    """Patterns of `on`, each with a value, to be found by a name."""

    def __init__(self, patterns: Iterable[tuple[str, RuleFacts]]) -> None:
        self.literal: dict[str, list[RuleFacts]] = {}
        self._others: list[tuple[str, RuleFacts]] = []
        for pattern, facts in patterns:
            if is_literal(pattern):
                self.literal.setdefault(pattern, []).append(facts)
            else:
                self._others.append((pattern, facts))

    def fitting(self, name: str) -> list[RuleFacts]:
        """The rules that tasks of a name, or of names of an Unknown's pattern, can reach."""
        found = self.literal.get(name, []) if is_literal(name) else [
            facts for pattern, every in self.literal.items() if meets(pattern, name) for facts in every
        ]  # fmt: skip
        more = [facts for pattern, facts in self._others if meets(pattern, name)]
        return list({facts.rule: facts for facts in (*found, *more)}.values())


class Reaching:
    """Which rules a name can reach."""

    def __init__(self, rules: Iterable[RuleFacts]) -> None:
        rules = list(rules)
        self._reached = Patterns((name, facts) for facts in rules for name in facts.names)
        self._named = Patterns((pattern, facts) for facts in rules for pattern in facts.on)
        self._known: dict[str, list[str]] = {}

    def rules(self, name: str) -> list[str]:
        """The rules that tasks of this name, or of names of this pattern, can reach; fallbacks where others may not."""
        found = self._known.get(name)
        if found is None:
            fitting = [] if name == ANYTHING else self._reached.fitting(name)
            sure = is_literal(name) and any(not facts.fallback and not facts.filtered for facts in fitting)
            able = [facts for facts in fitting if not (facts.fallback and sure)]
            found = self._known[name] = [facts.rule for facts in sorted(able, key=_rank)]
        return found

    def answering(self, name: str) -> list[RuleFacts]:
        """The rules that answer a call of this name: those of the highest priority that name it literally."""
        able = sorted((facts for facts in self._named.literal.get(name, ()) if not facts.fallback), key=_rank)
        return [facts for facts in able if facts.priority == able[0].priority]


def _rank(facts: RuleFacts) -> tuple[int, str]:
    return -facts.priority, facts.rule


@lru_cache(maxsize=65536)
def meets(pattern: str, name: str) -> bool:
    """Whether a pattern of `on` can fit a task's name, or a name of an Unknown's pattern."""
    if pattern in (EVERYTHING, name):
        return True
    if is_literal(name):
        return not is_literal(pattern) and matches(pattern, name)
    return _overlap(parts_of(pattern), tuple(_split(name)))


def _split(pattern: str) -> list[str | None]:
    """The pattern of an Unknown, in which ``*`` is any text."""
    parts: list[str | None] = []
    for at, part in enumerate(pattern.split("*")):
        parts += [None, part] if at else [part]
    return parts


def _overlap(one: tuple[str | None, ...], other: tuple[str | None, ...]) -> bool:
    """Whether two texts with gaps can be the same."""
    first = [character for part in one for character in ([None] if part is None else part)]
    second = [character for part in other for character in ([None] if part is None else part)]
    row = [True]  # whether what was read of `first` so far can be what was read of `second`
    for gap in second:
        row.append(row[-1] and gap is None)
    for character in first:
        before, row = row, [row[0] and character is None]
        for at, opposite in enumerate(second):
            if character is None or opposite is None:
                row.append(before[at + 1] or row[at])
            else:
                row.append(before[at] and character == opposite)
    return row[-1]


# ---- parts of a graph


def around(whole: Graph, name: str) -> Graph:
    """The part of a graph about one rule or task: what leads to it, and what follows, one step each way."""
    if any(node.id == name and node.kind == RULE for node in whole.nodes):
        handled = {match.task for match in whole.matches if match.rule == name}
        made = {edge.task for edge in whole.edges if edge.rule == name}
        edges = [edge for edge in whole.edges if edge.rule == name or edge.task in handled]
        rules = {edge.rule for edge in edges}
        arrows = [match for match in whole.matches if match.rule in rules or match.task in made or match.rule == name]
    else:
        edges = [edge for edge in whole.edges if meets_either(edge.task, name)]
        tasks = {name, *(edge.task for edge in edges)}
        rules = {edge.rule for edge in edges}
        arrows = [match for match in whole.matches if match.task in tasks or match.rule in rules]
    return _part(whole, edges, arrows, {name})


def meets_either(one: str, other: str) -> bool:
    """Whether two names, or patterns of Unknowns, can be the same name."""
    return one == other or _overlap(tuple(_split(one)), tuple(_split(other)))


def following(whole: Graph, task: str) -> Graph:
    """The part of a graph that can follow from a task."""
    by_task: dict[str, list[Match]] = {}
    for match in whole.matches:
        by_task.setdefault(match.task, []).append(match)
    by_rule: dict[str, list[GraphEdge]] = {}
    for edge in whole.edges:
        by_rule.setdefault(edge.rule, []).append(edge)
    edges: list[GraphEdge] = []
    arrows: list[Match] = []
    todo, seen, rules = [task], {task}, set[str]()
    while todo:
        name = todo.pop()
        for match in by_task.get(name, ()):
            arrows.append(match)
            if match.rule not in rules:
                rules.add(match.rule)
                edges += by_rule.get(match.rule, ())
                for edge in by_rule.get(match.rule, ()):
                    if edge.task not in seen:
                        seen.add(edge.task)
                        todo.append(edge.task)
    return _part(whole, edges, arrows, {task})


def _part(whole: Graph, edges: list[GraphEdge], arrows: list[Match], also: set[str]) -> Graph:
    rules = {edge.rule for edge in edges} | {match.rule for match in arrows}
    kept = rules | {edge.task for edge in edges} | {match.task for match in arrows} | also
    subsequents = {rule: atom for rule, atom in whole.subsequents.items() if rule in rules or rule in also}
    return Graph([node for node in whole.nodes if node.id in kept], edges, arrows, subsequents)


def steps(whole: Graph, without: Iterable[str] = ()) -> dict[str, dict[str, GraphEdge]]:
    """From each rule to the rules that tasks of it can reach, and by which edge; patterns and `without` left out."""
    left_out = set(without)
    reached: dict[str, list[str]] = {}
    for match in whole.matches:
        if is_literal(match.task) and match.rule not in left_out:
            reached.setdefault(match.task, []).append(match.rule)
    found: dict[str, dict[str, GraphEdge]] = {}
    for edge in whole.edges:
        if edge.rule not in left_out and edge.certainty != Certainty.UNKNOWN:
            for after in reached.get(edge.task, ()):
                found.setdefault(edge.rule, {}).setdefault(after, edge)
    return found
