"""The supervisor: everything between a store and its workers. It never executes rule code.

Tasks come in here and go to the `matcher`; runs are driven by the `driver`; what people ask for becomes a decision
like any other fact.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from functools import partial

import msgspec
import structlog

from scriptrules import clock as clocks
from scriptrules.config import Config
from scriptrules.errors import Draining, NotFound, SandboxUnavailable
from scriptrules.model import ENTRY_FINAL, Entry, EntryState, Ids, Limit, Run, Task, TaskState, execution_key, parse_key
from scriptrules.plugins.manager import Plugins
from scriptrules.sandbox import wire
from scriptrules.sandbox.confine import Limits
from scriptrules.sandbox.pool import Pool
from scriptrules.store.protocol import Change, Filter, Ingested, Store, Wake
from scriptrules.supervisor.background import Background, Observers, patiently
from scriptrules.supervisor.breakpoints import Breakpoints
from scriptrules.supervisor.deadlocks import Deadlocks
from scriptrules.supervisor.decision import Setting
from scriptrules.supervisor.driver import Driver
from scriptrules.supervisor.executions import DrainShape, Executions
from scriptrules.supervisor.feed import Feed
from scriptrules.supervisor.foresight import Foresight
from scriptrules.supervisor.hosts import HostShape
from scriptrules.supervisor.limits import QUEUED, RunLimits
from scriptrules.supervisor.live import LiveRuns
from scriptrules.supervisor.logs import RunLog
from scriptrules.supervisor.matcher import Matcher
from scriptrules.supervisor.retention import Retention
from scriptrules.supervisor.rules import Rules
from scriptrules.supervisor.schedules import Schedules
from scriptrules.supervisor.shapes import LogShape
from scriptrules.supervisor.sources import TaskSources
from scriptrules.supervisor.sparing import Sparing
from scriptrules.supervisor.variables import Variables
from scriptrules.supervisor.verbs import Verbs
from scriptrules.tokens import Tokens

log = structlog.get_logger(__name__)

PAGE = 1000  # rows of one look into the store


class Supervisor:
    """One life of an installation, from `start` to `close`, or to a kill.

    Args:
        config: of the installation.
        store: opened by `start`, closed by `close`.
        plugins: what they add is fixed for this life.
        clock: for tests that let time jump.
        watch: whether changed rule files become active while it runs, and schedules and sources bring tasks.
    """

    def __init__(
        self, config: Config, store: Store, plugins: Plugins, clock: clocks.Clock = clocks.now, watch: bool = True
    ) -> None:
        self.config = config
        self.store = store
        self.plugins = plugins
        self.clock = clock
        self.ready = False
        self.new_id = Ids(clock)
        self.counters: Counter[str] = Counter()  # what flow control has done since the start
        self._watch = watch
        self._background = Background()
        self.variables = Variables(config, store, plugins, clock)
        setting = _setting(config, plugins, self.new_id, self.variables.is_secret)
        observers = Observers(plugins, store, self._background)
        self.pool = _pool(config, plugins)
        self.rules = Rules(config.rules_dir, self.pool, store, self._rules_changed, config.host_kinds)
        self.live = LiveRuns(store, self.pool, config.sandbox.warm_runs)
        self.pool.gone = self.live.worker_gone
        self.limits = RunLimits(self._limit_of, lambda rule: self.rules.newest(rule) is not None, self.counters)
        self.breakpoints = Breakpoints(config.breakpoints_dir, self.pool, store, clock)
        self.driver = Driver(
            store,
            self.pool,
            self.live,
            self.limits,
            self.breakpoints,
            setting,
            clock,
            self._background,
            observers,
            self.variables,
        )
        self.matcher = Matcher(
            store,
            self.pool,
            self.rules,
            self.live,
            self.driver,
            self.limits,
            self.breakpoints,
            setting,
            clock,
            self._background,
            observers,
        )
        self.driver.announce, self.driver.offer = self.matcher.announce, self.matcher.offer
        self.feed = Feed(store)
        self.counts, self.outstanding = Sparing(store.counts), Sparing(store.outstanding)
        self.tokens = Tokens()
        self.driver.wake = self.feed.wake
        self.rules.noticed = self._notice
        self.breakpoints.commit = self.driver.submit
        self.verbs = Verbs(
            store, self.rules, self.breakpoints, self.live, self.driver, self.matcher, self.limits, setting, clock
        )
        decided = partial(self.driver.submit, Change())
        self.retention = Retention(store, config.retention, self.rules.digests, clock, decided, self.verbs.reviving)
        self.driver.cancel_quietly = self.verbs.cancel_quietly
        self._deadlocks = Deadlocks(store, self.live, self.limits, self.driver, self._background, clock)
        self.driver.waits = self._deadlocks.look
        self.foresight = Foresight(self.pool, store, self.rules.active, clock, self._background, observers)
        self.driver.notice = self.foresight.surprises.look
        self.schedules = Schedules(config, store, self.rules, clock, self.ingest, self.driver.submit, self.counters)
        self.sources = TaskSources(config, plugins, self.ingest, self.counters)
        self.executions: Executions | None = None

    @property
    def commits(self) -> int:
        """Grows with every commit: whoever shows something looks again when it has changed."""
        return self.driver.commits

    # ---- life

    async def start(self) -> None:
        """Open the store, start workers, read the rules, and go on where the last supervisor stopped.

        Raises:
            StoreUnavailable, StoreInUse, SandboxUnavailable, ConfigError: with what to do.
        """
        await self.store.open()
        try:
            for token in await self.store.tokens():
                self.tokens.put(token)
            self.executions = Executions(
                self.config,
                self.plugins,
                self.store.id,
                self.clock,
                self.driver.execution_started,
                self.driver.execution_ended,
                self._look_up,
                self._begin_outstanding,
                self.variables.reveal,
                self.variables.secret,
            )
            await self.variables.start()
            self.driver.executions = self.executions
            await self.pool.start()
            self._check_walls()
            await self.breakpoints.start(self._watch)
            await self.rules.start(self._watch)
            self.executions.start()
            await self._recover()
            self.executions.recovered()
            self._background.spawn(self.executions.tidy(await self._under_way(), self._has_ended))
            self.driver.timers.start()
            if self._watch:
                await self.schedules.start()
                await self.sources.start()
        except BaseException:
            await self.close()
            raise
        self.retention.start()
        self.ready = True

    async def close(self) -> None:
        """Stop in order. Running executions go on; the next supervisor adopts them."""
        self.ready = False
        self.feed.close()
        await self.sources.close()
        await self.schedules.close()
        await self.rules.close()
        await self.breakpoints.close()
        await self.retention.close()
        await self.driver.timers.close()
        if self.executions is not None:
            await self.executions.close()
        await self._background.close()
        await self.variables.close()
        await self.pool.close()
        self.plugins.hook.scriptrules_stopping(config=self.config)
        await self.store.close()

    def _check_walls(self) -> None:
        lacking = self.pool.missing_walls
        if lacking and self.config.sandbox.require == "full":
            raise SandboxUnavailable(
                f'sandbox.require is "full", and this platform lacks: {"; ".join(lacking)}. '
                f'Run it where they exist, or set require = "default".'
            )
        for wall in lacking:
            log.warning("sandbox.wall_missing", wall=wall)

    async def _recover(self) -> None:
        """Take up what is outstanding; nothing is replayed before its next result is there."""
        after = ("", 0)
        while wakes := await self.store.wakes(("slot", "limit"), after, PAGE):  # before anything that holds one can end
            self.limits.recover(wakes)
            after = (wakes[-1].run, wakes[-1].seq)
        await self._begin_outstanding()
        for wake in await self.store.awake():
            self.driver.answer(wake)
        for run in self.limits.surplus():
            await self.verbs.cancel_quietly(run)
        last = ""
        while runs := await self.store.unfinished_runs(last, PAGE):
            for each in runs:
                live = await self.live.get(each.id)
                self.driver.scripts.replay(live)
                self.live.forget_idle(live)
            last = runs[-1].id
        self.limits.review()
        self.matcher.refill()
        self._background.spawn(self._cancel_orphans())
        self._deadlocks.look_again()

    async def _cancel_orphans(self) -> None:
        """What a run had called that was cancelled: the last supervisor may not have come to cancel that too."""
        after = ""
        while tasks := await patiently(partial(self.store.orphans, after, PAGE)):
            for task in tasks:
                await self.verbs.cancel_quietly(task.id)
            after = tasks[-1].id

    async def _begin_outstanding(self) -> None:
        """Have everything carried out that the store says is not over, and that is not under way."""
        assert self.executions is not None
        backing_off: set[tuple[str, int]] = set()
        after = ("", 0)
        while wakes := await self.store.wakes(("again",), after, PAGE):
            backing_off.update((wake.run, wake.seq) for wake in wakes)
            after = (wakes[-1].run, wakes[-1].seq)
        after = ("", 0)
        while wakes := await self.store.wakes(("execution", "function"), after, PAGE):
            for wake in wakes:
                if (wake.run, wake.seq) not in backing_off and not self.executions.knows(wake.key):
                    await self._take_up(wake)
            after = (wakes[-1].run, wakes[-1].seq)

    async def _look_up(self, run: str, seq: int) -> tuple[Run, Task, Entry] | None:
        try:
            live = await patiently(lambda: self.live.get(run))
        except NotFound:
            return None
        entry = live.entries[seq - 1] if len(live.entries) >= seq else None
        self.live.forget_idle(live)
        return None if entry is None or entry.state in ENTRY_FINAL else (live.run, live.task, entry)

    def with_reason(self, run: Run, entry: Entry) -> Entry:
        """An entry as it is shown: with why its start takes so long, which is known only here."""
        if entry.state is not EntryState.PENDING or self.executions is None:
            return entry
        reason = self.executions.reason_of(execution_key(run, entry.seq, entry.attempt))
        return msgspec.structs.replace(entry, reason=reason or entry.reason)

    def log_of(self, run: str, follow: bool) -> AsyncGenerator[LogShape, None]:
        """The log of a run with what its executions write, line by line; with `follow` until it has ended."""
        assert self.executions is not None
        return RunLog(self.store, self.executions, run, follow).lines()

    async def look_at_hosts(self) -> list[HostShape]:
        """How each configured host is."""
        return await self.executions.look_at_hosts(await self._under_way()) if self.executions else []

    def drain(self, on: bool) -> None:
        """Take no tasks and start no executions; or go on.

        Runs go on as far as they come without a new execution, and what was started is waited for. A start that a rule
        asks for meanwhile stays pending in the store. It ends with the server.
        """
        log.info("server.draining" if on else "server.drain_ended")
        if self.executions is not None:
            self.executions.drain(on)

    def drained(self) -> DrainShape:
        """How far draining is."""
        return self.executions.drained() if self.executions else DrainShape(False, 0, 0)

    async def _has_ended(self, key: str) -> bool:
        """Whether the store knows the execution of `key`, and its end."""
        try:
            id, run_attempt, seq, attempt = parse_key(key)
            live = await patiently(lambda: self.live.get(id))
        except (ValueError, NotFound):
            return False
        self.live.forget_idle(live)
        if live.run.attempt > run_attempt:
            return True
        entry = live.entries[seq - 1] if 0 < seq <= len(live.entries) else None
        return entry is not None and (entry.attempt > attempt or entry.state in ENTRY_FINAL)

    async def _under_way(self) -> set[str]:
        """The keys of the executions that the store has not seen the end of."""
        keys: set[str] = set()
        after = ("", 0)
        while wakes := await self.store.wakes(("execution",), after, PAGE):
            keys.update(wake.key for wake in wakes)
            after = (wakes[-1].run, wakes[-1].seq)
        return keys

    async def _take_up(self, wake: Wake) -> None:
        """Have an entry that somebody else carries out watched again, or stopped, if that was not done."""
        live = await self.live.get(wake.run)
        if live.run.reason != QUEUED:
            self.driver.begin(live, wake.seq, fresh=False)
        if live.run.reason == "cancelling" and self.executions is not None:
            self.executions.stop(wake.key)
        self.live.forget_idle(live)

    def _limit_of(self, rule: str) -> Limit | None:
        control = self.rules.control_of(rule)
        return control.limit if control is not None else None

    async def ingest(self, tasks: list[tuple[str, bytes, str | None]]) -> list[Ingested]:
        """Store tasks from outside, all or none, and have them matched. Returns once they are durable.

        Args:
            tasks: name, data (a JSON object), key.

        Raises:
            KeyConflict, StoreUnavailable, Draining: nothing was stored.
        """
        if self.executions is not None and self.executions.draining:
            raise Draining
        now = self.clock()
        made = []
        for name, data, key in tasks:
            id = self.new_id("t")
            made.append(Task(id, name, data, TaskState.NEW, now, now, root=id, key=key))
        self.matcher.announce(made)
        storing = asyncio.ensure_future(self.store.ingest(made))
        storing.add_done_callback(lambda _: self._stored(made, storing))
        return await asyncio.shield(storing)  # they may be stored though the sender has gone

    def _stored(self, made: list[Task], storing: asyncio.Future[list[Ingested]]) -> None:
        if storing.cancelled() or storing.exception() is not None:
            self.matcher.withdraw(made)
            return
        self.driver.commits += 1
        self.driver.wake()
        fresh = {result.id for result in storing.result() if result.new}
        self.matcher.withdraw(task for task in made if task.id not in fresh)
        self.matcher.offer(task for task in made if task.id in fresh)

    def _notice(self, what: str) -> None:
        """Something has changed that the store does not have: those who follow hear of it."""
        self.driver.commit(Change(notices=[what]), lambda: None)

    async def _rules_changed(self) -> None:
        """A call that nobody could answer may have found its procedure; limits and schedules may be other ones."""
        self.limits.review()
        self.foresight.rules_changed()
        self.schedules.look()
        answered = self.rules.names
        for reason in ("unresolved", "ambiguous"):
            cursor: str | None = None
            while tasks := await self.store.tasks(Filter(state="held", reason=reason, cursor=cursor, limit=PAGE)):
                again = [task.id for task in tasks if reason == "ambiguous" or task.name in answered]
                await asyncio.gather(*(self.verbs.match_again(id, reason) for id in again))
                cursor = tasks[-1].id


def _setting(config: Config, plugins: Plugins, new_id: Ids, is_secret: Callable[[str], bool]) -> Setting:
    functions = plugins.functions.items()
    return Setting(
        new_id,
        frozenset(name for name, function in functions if function.spec.blocks),
        {name: function.retries for name, function in functions if not function.spec.intrinsic},
        config.flow.hop_max,
        config.flow.call_depth_max,
        {name: function.spec.secrets for name, function in functions if function.spec.secrets},
        is_secret,
    )


def _pool(config: Config, plugins: Plugins) -> Pool:
    sandbox = config.sandbox
    budget = wire.Budget(
        cpu_seconds=sandbox.cpu_seconds,
        steps=sandbox.steps,
        entries_per_slice=sandbox.entries_per_slice,
        entries_per_run=sandbox.entries_per_run,
        payload_max=sandbox.payload_max,
        depth_max=sandbox.depth_max,
        log_max=sandbox.log_max,
    )
    functions = [function.spec for function in plugins.functions.values()]
    limits, hosts = Limits(memory_mb=sandbox.memory_mb), config.host_kinds.items()
    jobs = [
        msgspec.structs.replace(job, elsewhere={host: kind for host, kind in hosts if kind != job.executor})
        for job in plugins.job_types.values()
    ]
    return Pool(config.workers, limits, budget, functions, sandbox.hard_seconds, jobs=jobs)
