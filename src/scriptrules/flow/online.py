"""What the analysis says a rule can generate, beside what its runs have generated: the status of each edge, and what is
likely to come next. Pure: facts and sightings in, data out.

An edge that was seen counts for the source that has generated it. One that only an older version of the rule has
generated is no edge of the rule any more, and no surprise: it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache

import msgspec

from scriptrules.flow.shapes import Certainty, Edge, RuleFacts, Via
from scriptrules.sightings import FURTHER, SENT, SeenEdge, quantile

PRIOR = {Certainty.CERTAIN: 1.0, Certainty.POSSIBLE: 0.5, Certainty.UNKNOWN: 0.5}  # before anything was seen
MEDIAN = 0.5
_IN_JOURNAL = {Via.NOMATCH: "return", Via.THEN: "emit"}


class Status(StrEnum):
    SEEN = "possible & seen"
    NEVER_SEEN = "possible & never seen"  # dead, or untested
    RESOLVED = "resolved"  # the analysis knew a pattern, and run time has shown the name
    NOT_PREDICTED = "seen & not predicted"  # a surprise


class OnlineEdge(msgspec.Struct, frozen=True):
    """An edge of the graph with what was seen of it; moments are microseconds since 1970 UTC."""

    rule: str
    task: str
    via: str
    certainty: Certainty
    condition: str
    line: int | None
    status: Status
    seen: int = 0
    first_seen: int | None = None
    last_seen: int | None = None
    reason: str = ""


class Next(msgspec.Struct, frozen=True):
    """A task that a run under way is likely to generate."""

    task: str  # or a pattern
    via: str
    certainty: Certainty
    condition: str
    probability: float
    seen: int  # tasks of this name that runs of the rule have generated so far
    generated: int  # by this run
    remaining: int | None = None  # microseconds until it is expected; None: nothing is known, or it is late


def fits(pattern: str, name: str) -> bool:
    """Whether a name is one that an Unknown of this pattern stands for: ``*`` is any text."""
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, re.split(r"\*+", pattern))))


def predicts(facts: RuleFacts, task: str, via: str) -> Edge | None:
    """The edge by which the analysis has foreseen that a rule generates a task in this way."""
    unknown = None
    for edge in facts.edges:
        if _way(edge.via) == via:
            if edge.task == task:
                return edge
            if edge.certainty is Certainty.UNKNOWN and unknown is None and (task == FURTHER or fits(edge.task, task)):
                unknown = edge
    return unknown


def _way(via: Via) -> str:
    """How a journal calls it: a table's fallbacks return what they generate, and a `then` emits."""
    return _IN_JOURNAL.get(via, str(via))


def joined(rules: Iterable[tuple[RuleFacts, str]], seen: Iterable[SeenEdge]) -> list[OnlineEdge]:
    """The edges of the graph: all that are foreseen, and those that were seen.

    Args:
        rules: the facts of each rule, and the digest of the source that they were read from.
        seen: what runs have generated.
    """
    by_rule: dict[str, list[SeenEdge]] = {}
    for one in seen:
        if one.via != SENT:
            by_rule.setdefault(one.rule, []).append(one)
    return [edge for facts, digest in rules for edge in _joined(facts, digest, by_rule.get(facts.rule, []))]


def _joined(facts: RuleFacts, digest: str, seen: list[SeenEdge]) -> list[OnlineEdge]:
    found: dict[int, list[SeenEdge]] = {}
    surprises: list[OnlineEdge] = []
    resolved: list[OnlineEdge] = []
    for one in sorted(seen, key=lambda edge: edge.task):
        edge = predicts(facts, one.task, one.via)
        if edge is not None:
            found.setdefault(id(edge), []).append(one)
            if edge.certainty is Certainty.UNKNOWN and one.task != edge.task:
                resolved.append(_edge(facts.rule, edge, Status.RESOLVED, [one], one.task))
        elif one.digest == digest and one.task != FURTHER:
            unforeseen = Edge(one.task, Via(one.via), Certainty.POSSIBLE, "", 0)
            surprises.append(_edge(facts.rule, unforeseen, Status.NOT_PREDICTED, [one]))
    edges = []
    for edge in facts.edges:
        ones = found.get(id(edge), [])
        status = Status.NEVER_SEEN
        if ones:
            status = Status.RESOLVED if edge.certainty is Certainty.UNKNOWN else Status.SEEN
        edges.append(_edge(facts.rule, edge, status, ones))
    return edges + resolved + surprises


def _edge(rule: str, edge: Edge, status: Status, seen: list[SeenEdge], name: str = "") -> OnlineEdge:
    return OnlineEdge(
        rule,
        name or edge.task,
        str(edge.via),
        Certainty.POSSIBLE if name else edge.certainty,
        edge.condition,
        edge.line or None,
        status,
        sum(one.count for one in seen),
        min((one.first for one in seen), default=None),
        max((one.last for one in seen), default=None),
        edge.reason,
    )


def likely(
    facts: RuleFacts | None,
    seen: Iterable[SeenEdge],
    runs: int,
    generated: Mapping[tuple[str, str], int],
    elapsed: int,
) -> list[Next]:
    """What a run under way will generate, the likeliest first.

    The share of runs that have generated a name is smoothed by one run more, of which the analysis says what it does:
    a certain task it generates, a possible one in one of two cases, one that was not foreseen never. What the run has
    generated already comes again as often as runs of this rule repeat it.

    Args:
        facts: of the rule; None where it was not analysed.
        seen: the edges of the rule.
        runs: how many runs of the rule have ended.
        generated: how often this run has generated (task, via) so far.
        elapsed: microseconds since it began.
    """
    by_key = {(one.task, one.via): one for one in seen}
    candidates: dict[tuple[str, str], Edge] = {}
    for edge in facts.edges if facts else ():
        key = (edge.task, _way(edge.via))
        if key not in candidates or PRIOR[edge.certainty] > PRIOR[candidates[key].certainty]:
            candidates[key] = edge
    for key, one in by_key.items():
        if key not in candidates and one.task != FURTHER:
            pattern = predicts(facts, *key) if facts else None
            certainty = Certainty.UNKNOWN if pattern is None else Certainty.POSSIBLE
            condition, line = (pattern.condition, pattern.line) if pattern else ("", 0)
            candidates[key] = Edge(one.task, Via(one.via), certainty, condition, line)
    found = []
    for key, edge in candidates.items():
        one = by_key.get(key) or SeenEdge(facts.rule if facts else "", *key)
        times = generated.get(key, 0)
        foreseen = facts is not None and predicts(facts, *key) is not None
        if times:
            probability = (one.count - one.runs) / (one.count + 1)
        else:
            prior = PRIOR[edge.certainty] if foreseen else 0.0
            probability = (one.runs + prior) / (max(runs, one.runs) + 1)
        expected = None if times else quantile(one.delays, MEDIAN, over=elapsed)
        remaining = None if expected is None else max(expected - elapsed, 0)
        if probability > 0:
            found.append(
                Next(
                    *(edge.task, str(edge.via), edge.certainty, edge.condition),
                    probability=round(probability, 4),
                    seen=one.count,
                    generated=times,
                    remaining=remaining,
                )
            )
    return sorted(found, key=lambda one: (-one.probability, one.remaining is None, one.remaining or 0, one.task))
