"""The hosts of an installation as the supervisor sees them: who runs there, who waits for a slot, and what is wrong.

A start that waits is an entry that is pending in the store; what is here is only an order of keys, bounded, and made
again from the store after a restart. It is fair to rules: each gets the next free slot in turn, and within a rule the
entry that has been pending for longest.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Set

import msgspec

from scriptrules.clock import Clock
from scriptrules.config import Config
from scriptrules.errors import ScriptrulesError
from scriptrules.plugins.executor import Executor, ExecutorContext, Hosting, Placed, Report, SecretOf
from scriptrules.plugins.manager import Plugins

QUEUE_MAX = (
    10_000  # starts in memory that wait for one host; those beyond are read from the store when it is their turn
)
LOOK_TIMEOUT = 10.0  # seconds until a host that does not answer cannot be reached


class Waiting(msgspec.Struct, frozen=True, gc=False, order=True):
    """A start that waits for a slot."""

    since: int
    run: str
    seq: int
    key: str
    rule: str
    fresh: bool  # it cannot have been begun before


class Queue:
    """Starts that wait for one host, fair to rules.

    Args:
        most: how many it holds; `overflowed` says that there were more.
    """

    def __init__(self, most: int = QUEUE_MAX) -> None:
        self.overflowed = False
        self._most = most
        self._known: dict[str, Waiting] = {}
        self._of_rule: dict[str, list[Waiting]] = {}
        self._turns: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def put(self, waiting: Waiting) -> bool:
        """Have it wait; False where the queue is full."""
        if len(self._known) >= self._most:
            self.overflowed = True
            return False
        self._known[waiting.key] = waiting
        if waiting.rule not in self._of_rule:
            self._of_rule[waiting.rule] = []
            self._turns.append(waiting.rule)
        heapq.heappush(self._of_rule[waiting.rule], waiting)
        return True

    def pop(self) -> Waiting | None:
        """Whose turn it is."""
        while self._turns:
            rule = self._turns.popleft()
            queue = self._of_rule[rule]
            while queue:
                waiting = heapq.heappop(queue)
                if self._known.pop(waiting.key, None) is not None:
                    self._turns.append(rule)
                    return waiting
            del self._of_rule[rule]
        return None

    def take(self, key: str) -> Waiting | None:
        """One who waited, out of turn."""
        return self._known.pop(key, None)

    def remove(self, key: str) -> bool:
        """Whether it waited; it does no more."""
        return self.take(key) is not None


class HostShape(msgspec.Struct, frozen=True):
    """A host as `GET /api/hosts` shows it: a contract."""

    name: str
    executor: str
    reachable: bool
    version: str | None
    detail: str  # a sentence about it, or what is wrong
    running: int
    waiting: int
    max_running: int | None  # None is no bound
    free: int | None
    strays: list[str]  # what is there in this store's name, and that no unfinished entry accounts for


class Host:
    """One configured host."""

    def __init__(self, name: str, kind: str, executor: Executor) -> None:
        self.name = name
        self.kind = kind
        self.executor = executor
        self.hosting = executor if isinstance(executor, Hosting) else None
        self.max_running = self.hosting.max_running if self.hosting else 0
        self.running: set[str] = set()  # keys whose start was asked for and whose end is not known
        self.queue = Queue()
        self.counted = not self.max_running  # what earlier supervisors have started there is among `running`

    @property
    def has_room(self) -> bool:
        return self.counted and (not self.max_running or len(self.running) < self.max_running)

    async def shape(self, store_id: str, accounted: Set[str]) -> HostShape:
        """How it is now, from asking it.

        Args:
            accounted: keys of what the store says is under way.
        """
        reachable, version, strays = True, None, list[str]()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                detail = await self.executor.check()
                if self.hosting is not None:
                    version = await self.hosting.version()
                    strays = strays_of(await self.hosting.inventory(), store_id, accounted)
        except TimeoutError:
            reachable, detail = False, f"it does not answer within {LOOK_TIMEOUT:.0f} s"
        except ScriptrulesError as error:
            reachable, detail = False, error.message
        except Exception as error:
            reachable, detail = False, f"the executor {self.kind!r} failed: {error!r}"
        most = self.max_running or None
        running = len(self.running)
        free = None if most is None else max(0, most - running)
        return HostShape(self.name, self.kind, reachable, version, detail, running, len(self.queue), most, free, strays)


def strays_of(placed: list[Placed], store_id: str, accounted: Set[str]) -> list[str]:
    """The names of what this store has on a host, is not kept on purpose, and nothing accounts for."""
    return sorted(one.name for one in placed if one.store == store_id and not one.kept and one.key not in accounted)


def make_hosts(
    config: Config, plugins: Plugins, store_id: str, clock: Clock, report: Report, secret: SecretOf
) -> dict[str, Host]:
    """The configured hosts, by name.

    Raises:
        ConfigError: a host's table cannot be used.
    """
    hosts = {}
    for name, table in config.hosts.items():
        state_dir = config.state_dir / "hosts" / name
        context = ExecutorContext(name, store_id, state_dir, config.base, clock, report, secret)
        hosts[name] = Host(name, table["executor"], plugins.make_executor(table["executor"], table, context))
    return hosts
