"""What the graph shows to be wrong with rules, or to be looked at (SR5xx). Pure; all of them are warnings.

A rule for tasks that nobody generates is an entry by default: tasks come from outside, by the API, a schedule or a
webhook. So "handled and emitted by nobody" (SR502) is told only where the name looks like a slip of the pen: it is
nearly one that a rule generates and that no rule handles. Without that restriction every entry would be a finding.
So is "emitted and handled by nobody" (SR501) where a rule handles every task, as one that keeps an audit does.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec
from msgspec.structs import replace

from scriptrules.diagnostics import CODES, Diagnostic
from scriptrules.errors import nearest
from scriptrules.flow.graph import ANYTHING, Graph, GraphEdge, Patterns, Reaching, graph, steps
from scriptrules.flow.online import Status, fits, joined
from scriptrules.flow.shapes import Certainty, Facts, RuleFacts, Via
from scriptrules.rulebook.index import EVERYTHING, is_literal
from scriptrules.sightings import SeenEdge

CANDIDATES_MAX = 500  # for the nearest name: it takes 10 microseconds each
SLIP = 0.87  # likeness of two names of which one is taken for a slip of the other, see difflib
LIKE = 0.8  # the same, for what is told anyway
MENTIONED = 5  # rules or names in one sentence


class World(msgspec.Struct, frozen=True):
    """What there is besides rules."""

    hosts: Mapping[str, str] = {}  # kind of executor by name
    options: Mapping[str, frozenset[str]] = {}  # of each kind of executor that is known, in run()
    entries: frozenset[str] = frozenset()  # names of tasks that come from outside
    fields: Mapping[str, frozenset[str]] = {}  # of the tasks that came so far, by name
    seen: Collection[SeenEdge] = ()  # what runs have generated
    digests: Mapping[str, str] = {}  # of the sources, by rule file


def findings(files: Mapping[str, Facts], world: World) -> dict[str, list[Diagnostic]]:
    """The warnings about some files, by rule file.

    Args:
        files: the facts of each, all of an installation: what one rule generates another handles.
        world: what else is known.
    """
    rules = [facts for file in files.values() for facts in file.rules if facts.enabled]
    whole = graph(rules, joined([(facts, "") for facts in rules], []))
    known = {facts.rule: file for file, found in files.items() for facts in found.rules}
    found: dict[str, list[Diagnostic]] = {}
    for rule, problem in (*_all(rules, whole, world), *_surprises(files, world)):
        file = known[rule]
        ignored = files[file].ignored.get(problem.code, [])
        problems = found.setdefault(file, [])
        if problem.line not in ignored and problem not in problems:
            problems.append(problem)
    return {
        file: sorted(problems, key=lambda one: (one.line, one.code)) for file, problems in found.items() if problems
    }


def _all(rules: list[RuleFacts], whole: Graph, world: World) -> Iterator[tuple[str, Diagnostic]]:
    handling = [facts for facts in rules if not facts.fallback]
    own = [(pattern, facts) for facts in handling for pattern in facts.names if pattern != EVERYTHING]
    patterns = Patterns([*own, *((use.name, facts) for facts in rules for use in facts.received)])
    lonely = {
        edge.task: edge for edge in whole.edges if is_literal(edge.task) and not patterns.fitting(edge.task)
    }  # fmt: skip
    caught = any(EVERYTHING in facts.names for facts in handling)
    waiting = sorted(patterns.literal.keys() - {edge.task for edge in whole.edges}) if caught else []
    for edge in whole.edges:
        if edge.task in lonely and edge.via != Via.CALL and edge.certainty != Certainty.UNKNOWN:
            if caught and _slip(edge.task, waiting) is None:
                continue  # a rule for every task handles it
            message = f"no rule handles {edge.task!r}{_nearest(edge.task, patterns.literal)}"
            if caught:
                message = message.replace("no rule", "no rule but those for every task", 1)
            yield edge.rule, _problem("SR501", edge.line or 1, message)
    yield from _never_sent(handling, whole, world, sorted(lonely))
    yield from _cycles(rules, whole)
    reaching = Reaching(rules)
    for facts in rules:
        yield from ((facts.rule, problem) for problem in _alone(facts, world))
        yield from ((facts.rule, problem) for problem in _calls(facts, reaching, patterns.literal))


def _surprises(files: Mapping[str, Facts], world: World) -> Iterator[tuple[str, Diagnostic]]:
    """What runs have generated that is no edge (SR512)."""
    for file, found in files.items():
        for facts in found.rules if file in world.digests else ():
            for edge in joined([(facts, world.digests[file])], world.seen):
                if edge.status is Status.NOT_PREDICTED and facts.enabled:
                    times = "once" if edge.seen == 1 else f"{edge.seen} times"
                    message = f"runs have generated {edge.task!r} by {edge.via}, {times}, and nothing here foresees it."
                    yield facts.rule, _problem("SR512", facts.line, message)


def _problem(code: str, line: int, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code, message, max(line, 1), 0, hint=hint or CODES[code].instead)


def _nearest(name: str, known: Collection[str]) -> str:
    """How a sentence about a task ends: names of tasks have much in common, so only a very like one is meant."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=LIKE) if len(known) <= CANDIDATES_MAX else []
    return f", did you mean {near[0]!r}?" if near else "."


# ---- names


def _never_sent(
    rules: list[RuleFacts], whole: Graph, world: World, lonely: list[str]
) -> Iterator[tuple[str, Diagnostic]]:
    """Rules for a task that is nearly one that is generated, and that nobody generates (SR502)."""
    made = {edge.task for edge in whole.edges}
    unknown = [task for task in made if not is_literal(task)]
    for facts in rules:
        for name in facts.on if lonely and not facts.scheduled else ():
            if not is_literal(name) or name in made or name in world.entries or any(fits(one, name) for one in unknown):
                continue
            slip = _slip(name, lonely)
            if slip is not None:
                message = f"nobody generates {name!r}, and nobody handles {slip!r}."
                yield facts.rule, _problem("SR502", facts.line, message)


def _slip(name: str, lonely: list[str]) -> str | None:
    """A name that is the same but for a slip of the pen; one that goes on where the other ends is another word."""
    for near in difflib.get_close_matches(name, lonely[:CANDIDATES_MAX], n=3, cutoff=SLIP):
        if not near.startswith(name) and not name.startswith(near):
            return near
    return None


def _calls(facts: RuleFacts, reaching: Reaching, known: Collection[str]) -> Iterator[Diagnostic]:
    """Calls that nobody answers, or several do (SR505, SR506)."""
    for edge in facts.edges:
        if edge.via is not Via.CALL or edge.certainty is Certainty.UNKNOWN:
            continue
        able = reaching.answering(edge.task)
        if not able:
            hint = f'Add a rule with on = "{edge.task}"; patterns do not answer calls.'
            yield _problem("SR505", edge.line, f"no rule answers {edge.task!r}{_nearest(edge.task, known)}", hint)
        elif len(able) > 1 and not all(one.filtered for one in able):
            names = _listed(one.rule for one in able)
            yield _problem("SR506", edge.line, f"{names} all answer {edge.task!r} with the same priority.")


# ---- circles


def _cycles(rules: list[RuleFacts], whole: Graph) -> Iterator[tuple[str, Diagnostic]]:
    """Circles of rules, and none of them waits for anything before it starts the next (SR503)."""
    late = {(facts.rule, edge.task, edge.via) for facts in rules for edge in facts.edges if edge.waits}
    whole = replace(whole, edges=[edge for edge in whole.edges if (edge.rule, edge.task, edge.via) not in late])
    catching = {facts.rule for facts in rules if EVERYTHING in facts.on}  # SR504 has those
    after = steps(whole, catching)
    for circle in _components(after):
        first = min(circle)
        way = _way(first, circle, after)
        edge = after[way[0]][way[1] if len(way) > 1 else first]
        message = f"these rules start one another without a wait: {' → '.join([*way, first])}."
        if len(way) == 1:
            message = f"the rule starts itself by {edge.task!r}, without a wait."
        if all(_step(after, way, at).via == Via.THEN for at in range(len(way))):
            continue  # which SR408 tells
        sure = all(_step(after, way, at).certainty == Certainty.CERTAIN for at in range(len(way)))
        hint = "It never ends by itself; the task is held after hop_max generations." if sure else ""
        yield first, _problem("SR503", edge.line or 1, message, hint)


def _step(after: Mapping[str, Mapping[str, GraphEdge]], way: list[str], at: int) -> GraphEdge:
    return after[way[at]][way[(at + 1) % len(way)]]


def _components(after: Mapping[str, Mapping[str, GraphEdge]]) -> list[set[str]]:
    """The sets of rules that can all reach one another (Tarjan's algorithm, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[set[str]] = []
    for root in after:
        if root in index:
            continue
        work: list[tuple[str, Iterator[str]]] = [(root, iter(after[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, children = work[-1]
            child = next(children, None)
            if child is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    circle: set[str] = set()
                    while node not in circle:
                        one = stack.pop()
                        on_stack.discard(one)
                        circle.add(one)
                    if len(circle) > 1 or node in after.get(node, {}):
                        found.append(circle)
            elif child not in index:
                index[child] = low[child] = len(index)
                stack.append(child)
                on_stack.add(child)
                work.append((child, iter(after.get(child, {}))))
            elif child in on_stack:
                low[node] = min(low[node], index[child])
    return found


def _way(first: str, circle: Collection[str], after: Mapping[str, Mapping[str, GraphEdge]]) -> list[str]:
    """The shortest way from a rule back to itself."""
    before: dict[str, str] = {}
    todo = [first]
    for one in todo:
        for child in after.get(one, {}):
            if child == first:
                way = [one]
                while way[-1] != first:
                    way.append(before[way[-1]])
                return way[::-1]
            if child in circle and child not in before:
                before[child] = one
                todo.append(child)
    return [first]


# ---- a rule by itself


def _alone(facts: RuleFacts, world: World) -> Iterator[Diagnostic]:
    if (not facts.has_on or EVERYTHING in facts.on) and not facts.fallback and facts.edges and not facts.filtered:
        edge = facts.edges[0]
        yield _problem("SR504", edge.line, f"the rule runs on every task, also on the {edge.task!r} that it generates.")
    yield from (
        _problem("SR507", use.line, f"`{use.name}` calls itself on every path, so it never returns.")
        for use in facts.endless
    )
    for start in facts.starts:
        yield from _start(start.host, start.options, start.line, world)
    yield from (_problem("SR510", line, "control never gets here.") for line in facts.unreached[:MENTIONED])
    fields = [world.fields[name] for name in facts.on if name in world.fields]
    if fields and len(fields) == len(facts.on):
        for use in facts.fields:
            if not any(use.name in one for one in fields):
                near = nearest(use.name, frozenset().union(*fields))
                yield _problem("SR511", use.line, f"no task {_listed(facts.on)} ever had a field {use.name!r}{near}")


def _start(host: str, options: list[str], line: int, world: World) -> Iterator[Diagnostic]:
    fitting = [name for name in world.hosts if fits(host, name)]
    if not fitting and host != ANYTHING:
        hint = f"Add [hosts.{host}] to scriptrules.toml. Configured: {', '.join(sorted(world.hosts)) or 'none'}."
        yield _problem("SR508", line, f"there is no host {host!r}{nearest(host, world.hosts)}", hint)
    if len(fitting) == 1 and (known := world.options.get(world.hosts[fitting[0]])) is not None:
        for option in options:
            if option not in known:
                kind = world.hosts[fitting[0]]
                hint = f"Options of {kind!r}: {', '.join(sorted(known))}."
                yield _problem(
                    "SR509", line, f"the host {host!r} has no option {option!r}{nearest(option, known)}", hint
                )


def _listed(names: Iterable[str]) -> str:
    every = list(dict.fromkeys(names))
    more = f" and {len(every) - MENTIONED} more" if len(every) > MENTIONED else ""
    return ", ".join(every[:MENTIONED]) + more
