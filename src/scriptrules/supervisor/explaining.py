"""Why each rule matches a task or does not: one that is there, or one that might come. Nothing is executed for it but
filters, in workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from scriptrules.model import Source, Task
from scriptrules.rulebook.index import EVERYTHING, matches
from scriptrules.rulebook.metadata import Metadata, TableEntry
from scriptrules.sandbox import wire
from scriptrules.sandbox.pool import Job, Loss, Pool, Worker
from scriptrules.supervisor.breakpoints import Breakpoints
from scriptrules.supervisor.matching import view_of
from scriptrules.supervisor.rules import RuleInfo, Rules


class PartShape(msgspec.Struct, frozen=True):
    """A part of a filter: its text, how deep it stands in the others, and its value as Python writes it."""

    text: str
    depth: int
    value: str | None
    error: str | None  # why there is no value


class RuleExplanation(msgspec.Struct, frozen=True):
    """What a rule makes of a task."""

    rule: str
    file: str
    line: int
    on: list[str]
    when: str | None
    priority: int
    fallback: bool
    final: bool
    runs: bool  # it would get a run
    reason: str | None  # why it gets none
    parts: list[PartShape] = []
    problem: str | None = None  # why the task would be held: its filter raises, or does not end


class Explanation(msgspec.Struct, frozen=True):
    """What would happen to a task under the rules and breakpoints of now."""

    name: str
    data: msgspec.Raw
    held_by: str | None  # what would hold it: a breakpoint before any rule is asked, or a rule that cannot say
    rules: list[RuleExplanation]  # those that run, then those that do not


async def explain(rules: Rules, breakpoints: Breakpoints, pool: Pool, task: Task) -> Explanation:
    """Ask every rule about a task."""
    asked = []
    for rule, source in rules.active.items():
        facts = rules.facts[rule]
        tables: Sequence[TableEntry | None] = facts.table or (None,)
        asked += [_of_plan(pool, task, source, facts, table) for table in tables]
    found = await asyncio.gather(*asked)
    ranked = sorted(found, key=lambda one: (-one.priority, one.rule))
    ordinary = _shut_out_by_final([one for one in ranked if not one.fallback])
    fallbacks = [one for one in ranked if one.fallback]
    if any(one.runs or one.problem for one in ordinary):
        why = "it is a fallback, and other rules match"
        fallbacks = [_shut_out(one, one.reason or why) for one in fallbacks]
    else:
        fallbacks = _shut_out_by_final(fallbacks)
    plans = [*ordinary, *fallbacks]
    holding = next((one for one in plans if one.problem), None)
    held_by = await breakpoints.holds_task(task)
    if holding is not None:
        held_by = held_by or f"{holding.problem}: rule {holding.rule}: {holding.reason}"
        why = f"rule {holding.rule} cannot say whether it matches, so the task is held"
        plans = [_shut_out(one, why) if one.runs else one for one in plans]
    idle = [_idle(info) for info in rules.infos() if info.rule not in rules.active]
    shown = sorted([*plans, *idle], key=lambda one: not one.runs)
    return Explanation(task.name, msgspec.Raw(task.data), held_by, shown)


def _idle(info: RuleInfo) -> RuleExplanation:
    """A rule that nothing matches: no version of it is active."""
    why = f"it is quarantined: {info.quarantined}" if info.quarantined else "its file is broken: `scriptrules check`"
    return RuleExplanation(info.rule, info.file, 1, [], None, 0, False, False, False, why)


def _shut_out(one: RuleExplanation, why: str) -> RuleExplanation:
    return msgspec.structs.replace(one, runs=False, reason=why, problem=None)


def _shut_out_by_final(ranked: list[RuleExplanation]) -> list[RuleExplanation]:
    """Leave out what has a lower priority than a final rule that matches."""
    floor: RuleExplanation | None = None
    kept = []
    for one in ranked:
        if (one.runs or one.problem) and floor is not None and one.priority < floor.priority:
            one = _shut_out(one, f"{floor.rule} matches, is final, and has the higher priority {floor.priority}")
        elif one.runs and one.final and floor is None:
            floor = one
        kept.append(one)
    return kept


async def _of_plan(
    pool: Pool, task: Task, source: Source, facts: Metadata, table: TableEntry | None
) -> RuleExplanation:
    name = f"{source.rule}:{table.name}" if table else source.rule
    made = RuleExplanation(
        rule=name,
        file=source.file,
        line=facts.line,
        on=facts.on,
        when=facts.when,
        priority=facts.priority,
        fallback=table.nomatch if table else facts.nomatch,
        final=facts.final,
        runs=False,
        reason=None,
    )
    refused = _before_its_filter(name, facts, table, task)
    if refused is not None:
        return msgspec.structs.replace(made, reason=refused)
    explained = await _ask(pool, source, name, task)
    if isinstance(explained, Loss):
        reason = f"its filter did not end; the worker was {explained.how}"
        return msgspec.structs.replace(made, reason=reason, problem="match_limit")
    parts = [PartShape(part.text, part.depth, part.value, part.error) for part in explained.parts]
    return msgspec.structs.replace(
        made, runs=explained.reason is None, reason=explained.reason, parts=parts, problem=explained.problem
    )


def _before_its_filter(name: str, facts: Metadata, table: TableEntry | None, task: Task) -> str | None:
    if not facts.enabled:
        return "enabled = False"
    if not any(pattern in (task.name, EVERYTHING) or matches(pattern, task.name) for pattern in facts.on):
        return f"its `on` is {', '.join(facts.on)}"
    if table is not None and task.by == name:
        return "it generated this task itself"
    return None


async def _ask(pool: Pool, source: Source, rule: str, task: Task) -> wire.Explained | Loss:
    future: asyncio.Future[wire.Explained | Loss] = asyncio.get_running_loop().create_future()
    view = view_of(task)

    def done(_: Worker, explained: wire.Explained) -> None:
        if not future.done():
            future.set_result(explained)

    def lost(loss: Loss) -> None:
        if not future.done():
            future.set_result(loss)

    pool.submit(Job(lambda number, _: wire.Explain(number, rule, source.digest, view), done, lost, source=source))
    return await future
