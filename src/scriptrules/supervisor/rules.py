"""The life of the rulebook: files are read, compiled and described in a worker, made active, watched, quarantined.

A saved file becomes active once a worker has accepted it. A broken one is reported, and what was active before stays
active. The epoch counts changes: whoever matched against an older one matches again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
import structlog

from scriptrules.diagnostics import Diagnostic, render_in
from scriptrules.model import Control, Source
from scriptrules.rulebook.files import read_all
from scriptrules.rulebook.index import matches
from scriptrules.rulebook.linking import unknown_hosts
from scriptrules.rulebook.metadata import Metadata
from scriptrules.sandbox.pool import Pool
from scriptrules.store.protocol import Store
from scriptrules.supervisor.watching import FolderWatch

log = structlog.get_logger(__name__)

STRIKES = 2  # limits that a rule's filter may hit before it is quarantined


class RuleInfo(msgspec.Struct, frozen=True):
    """A rule file as people see it."""

    rule: str
    file: str
    digest: str | None  # of the active version
    metadata: Metadata | None
    problems: list[str] = []  # of the newest version, if it is not the active one
    quarantined: str | None = None  # why it is not considered
    warnings: list[str] = []  # of the active version


class Rules:
    """Keeps the workers' rulebook equal to the files.

    Args:
        folder: where rules are.
        changed: awaited after the rulebook has changed.
        hosts: the kind of executor of each configured host, which jobs of declarative rules name.
    """

    def __init__(
        self,
        folder: Path,
        pool: Pool,
        store: Store,
        changed: Callable[[], Awaitable[None]],
        hosts: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self._hosts = hosts
        self.active: dict[str, Source] = {}
        self.facts: dict[str, Metadata] = {}
        self._problems: dict[str, tuple[str, list[str]]] = {}  # rule: file, texts
        self._warnings: dict[str, list[str]] = {}  # texts, by rule that is active
        self._newest: dict[str, Source] = {}  # as the files are, in order or not
        self._findings: dict[str, list[Diagnostic]] = {}  # by digest
        self._refused: dict[str, str] = {}  # rule: digest that was refused, so that it is compiled once
        self._quarantined: dict[str, tuple[Source, str]] = {}  # rule: its source, why
        self._strikes: dict[tuple[str, str], int] = {}
        self._pool = pool
        self._store = store
        self._changed = changed
        self.noticed: Callable[[str], None] = lambda _: None  # hears of it too, and where only problems are others
        self._watch = FolderWatch(folder, self.reload)
        self._reading = asyncio.Lock()

    async def start(self, watch: bool = True) -> None:
        """Read the folder, and go on watching it."""
        await self.reload()
        if watch:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._watch.start()

    async def close(self) -> None:
        await self._watch.close()

    def infos(self) -> list[RuleInfo]:
        """Every rule file, active or not."""
        infos = []
        for rule in sorted({*self.active, *self._problems, *self._quarantined}):
            quarantined, why = self._quarantined.get(rule, (None, None))
            source = self.active.get(rule)
            known = source or quarantined
            file, problems = self._problems.get(rule, (known.file if known else "", []))
            infos.append(
                RuleInfo(
                    rule,
                    file,
                    source.digest if source else None,
                    self.facts.get(rule),
                    problems,
                    why,
                    self._warnings.get(rule, []),
                )
            )
        return infos

    def reading(self, rule: str) -> tuple[Source, list[Diagnostic]] | None:
        """What the file of a rule says now, and what is wrong with that; None where it cannot be read."""
        source = self._newest.get(rule) or self.active.get(rule)
        return None if source is None else (source, self._findings.get(source.digest, []))

    def digests(self) -> set[str]:
        """Of the sources that are active, or about to be."""
        return {source.digest for sources in (self.active, self._newest) for source in sources.values()}

    def newest(self, plan: str) -> Source | None:
        """The active source of a rule, or of the file whose table it is an entry of."""
        return self.active.get(plan) or self.active.get(plan.partition(":")[0])

    def control_of(self, plan: str) -> Control | None:
        """What a run of a rule keeps to, if it is active and says anything."""
        facts = self.facts.get(plan.partition(":")[0])
        return facts.control if facts is not None else None

    def can_match(self, plan: str, name: str) -> bool:
        """Whether there is such a rule, or entry of a table, and it is asked about tasks of this name."""
        rule, _, entry = plan.partition(":")
        facts = self.facts.get(rule) if rule in self.active else None
        if facts is None or (entry not in {table.name for table in facts.table} if facts.table else entry):
            return False
        return name in facts.on or any(matches(pattern, name) for pattern in facts.on)

    @property
    def names(self) -> set[str]:
        """The names, and patterns, that the active rules are for."""
        return {name for rule, facts in self.facts.items() if rule in self.active for name in facts.on}

    async def reload(self) -> None:
        """Make the rulebook equal to the files, as far as they are in order."""
        async with self._reading:
            sources, unreadable = await asyncio.to_thread(read_all, self.folder)
            before = (dict(self._problems), dict(self._warnings))
            for rule in {broken.rule: None for broken in unreadable}:
                same = [broken for broken in unreadable if broken.rule == rule]
                self._report(rule, same[0].file, [f"{broken.file} {broken.problem}" for broken in same])
            self._newest = sources
            put, facts = await self._accept(sources)
            listed = {*sources, *(broken.rule for broken in unreadable)}
            drop = [rule for rule in self.active if rule not in listed]
            for rule in [rule for rule in self._problems if rule not in listed]:
                del self._problems[rule]
            kept = {source.digest for source in (*sources.values(), *self.active.values())}
            self._findings = {digest: found for digest, found in self._findings.items() if digest in kept}
            if put or drop:
                self.facts.update(facts)
                self._activate(put, drop)
                await self._changed()
            if put or drop or before != (self._problems, self._warnings):
                self.noticed("rules.changed")

    async def _accept(self, sources: dict[str, Source]) -> tuple[dict[str, Source], dict[str, Metadata]]:
        """The new and changed sources that a worker finds in order, and what it says of them."""
        fresh = [
            source
            for rule, source in sources.items()
            if (rule not in self.active or self.active[rule].digest != source.digest)
            and self._refused.get(rule) != source.digest
            and not (rule in self._quarantined and self._quarantined[rule][0].digest == source.digest)
        ]
        for rule, source in sources.items():
            if rule in self._problems and rule in self.active and self.active[rule].digest == source.digest:
                del self._problems[rule]  # the file is as it was before it broke
                self._refused.pop(rule, None)
        put: dict[str, Source] = {}
        facts: dict[str, Metadata] = {}
        for source, loaded in zip(fresh, await asyncio.gather(*map(self._pool.load, fresh)), strict=True):
            hosts = unknown_hosts(loaded.metadata, self._hosts) if loaded.metadata is not None else []
            self._findings[source.digest] = [*hosts, *loaded.problems]
            texts = [render_in(problem, source) for problem in self._findings[source.digest]]
            if loaded.metadata is None or hosts:
                self._refused[source.rule] = source.digest
                self._report(source.rule, source.file, texts)
            else:
                put[source.rule] = source
                facts[source.rule] = loaded.metadata
                self._warn(source.rule, source.file, texts)
                self._problems.pop(source.rule, None)
                self._refused.pop(source.rule, None)
                self._quarantined.pop(source.rule, None)
        await asyncio.gather(*map(self._store.put_source, put.values()))  # one commit for all of them
        return put, facts

    def _report(self, rule: str, file: str, texts: list[str]) -> None:
        if self._problems.get(rule) != (file, texts):
            self._problems[rule] = (file, texts)
            active = "the previous version stays active" if rule in self.active else "it is not active"
            log.error("rule.broken", rule=rule, file=file, effect=active, problems="\n".join(texts))

    def _warn(self, rule: str, file: str, texts: list[str]) -> None:
        if texts and self._warnings.get(rule) != texts:
            log.warning("rule.warning", rule=rule, file=file, effect="it is active", problems="\n".join(texts))
        self._warnings[rule] = texts

    def _activate(self, put: dict[str, Source], drop: list[str]) -> None:
        for rule in drop:
            del self.active[rule]
            self.facts.pop(rule, None)
            self._warnings.pop(rule, None)
        self.active.update(put)
        self._pool.activate(self._pool.epoch + 1, put, drop)
        changed, removed = sorted(put), sorted(drop)
        log.info("rules.active", epoch=self._pool.epoch, changed=changed, removed=removed, rules=len(self.active))

    async def strike(self, plan: str, why: str) -> bool:
        """A filter of this rule has hit a limit; returns whether that quarantines it."""
        rule = plan.partition(":")[0]
        source = self.active.get(rule)
        if source is None:
            return True
        count = self._strikes[rule, source.digest] = self._strikes.get((rule, source.digest), 0) + 1
        if count < STRIKES:
            return False
        self._quarantined[rule] = (source, why)
        log.error(
            "rule.quarantined", rule=rule, file=source.file, why=why, next="correct the file: saving it makes it active"
        )
        self._activate({}, [rule])
        await self._changed()
        self.noticed("rules.changed")
        return True
