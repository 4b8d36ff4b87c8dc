"""The contract of an executor: who starts, watches, adopts and stops executions on one host.

A supervisor drives an executor like this, and survives being killed between any two steps:

1. the intent (the request) is committed to the journal;
2. ``ensure(request, may_create=True)``: idempotent by ``request.key``; returns once the start is certain or impossible;
3. the start is committed (from now on recovery passes ``may_create=False``);
4. ``results()`` yields what became of it, possibly long after and from another supervisor's start;
5. the result is committed; ``release(key)`` may then forget and clean up what is left of it.

After a restart the supervisor calls `ensure` again for each execution without a committed result.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from scriptrules import clock
from scriptrules.errors import SecretsUnavailable
from scriptrules.model import ExecutionRequest, ExecutionResult

Report = Callable[[str, str | None], None]  # key, and a short sentence such as "pulls the image: 40 of 120 MB", or None

SecretOf = Callable[[str], Awaitable[str]]  # the text of a secret variable; raises SecretsUnavailable


def _unheard(_key: str, _sentence: str | None) -> None:
    """What is said while nobody listens."""


async def _unread(name: str) -> str:
    raise SecretsUnavailable(f"The secret {name!r} is read by a server only. Start one with `scriptrules serve`.")


class ExecutorContext(msgspec.Struct, frozen=True):
    """What an executor learns of the installation it works for."""

    host: str  # the name of the host it serves
    store_id: str  # stable identity of the store: part of names and labels, so that installations do not mix
    state_dir: Path  # a folder of its own, made on demand, that survives restarts
    base_dir: Path  # relative paths in the configuration are relative to this
    clock: clock.Clock = clock.now
    report: Report = _unheard  # may be told what a start that takes long is doing
    secret: SecretOf = _unread  # what a host itself needs, such as a password; asked for each time that it is needed


class LogChunk(msgspec.Struct, frozen=True):
    """A piece of what an execution has written."""

    stream: str  # "stdout" | "stderr"
    text: str
    at: int | None = None  # when it was written, if the host knows


@runtime_checkable
class Executor(Protocol):
    """One host. All methods are called in the supervisor's event loop; none may block it."""

    def validate(self, request: ExecutionRequest) -> None:
        """Check a request against what the executor can do and the host's policy allows, without touching the host.

        Raises:
            InvalidRequest: an option is unknown (name the nearest), or has a wrong type or value.
            PolicyRefused: the host's policy does not allow it; say what would have to be configured.
        """

    async def ensure(self, request: ExecutionRequest, may_create: bool) -> None:
        """Make sure that the execution of this key was started once, and that its end will be yielded by `results`.

        Args:
            request: what to start.
            may_create: False once a start was acknowledged: then nothing may be started, only found again. Where it
                cannot be found, `results` yields a failed result that says so.

        Raises:
            InvalidRequest, PolicyRefused: it can never be started (no such program, image refused …).
            HostUnavailable: the host cannot be reached now; the supervisor tries again later.
        """

    def results(self) -> AsyncIterator[tuple[str, ExecutionResult]]:
        """Yield ``(key, result)`` for each ensured execution that has ended, for as long as the executor lives."""

    def logs(self, key: str, follow: bool = False) -> AsyncIterator[LogChunk]:
        """Yield what the execution has written so far, and with `follow` what it writes until it ends."""

    async def stop(self, key: str) -> None:
        """Ask it to end, and end it by force after a grace. Its result comes by `results`. Unknown keys are ignored."""

    async def release(self, key: str) -> None:
        """Its result is committed: what is left of it may be removed."""

    async def check(self) -> str:
        """A sentence about the host for `doctor`; raises HostUnavailable with the reason where it cannot be used."""

    async def close(self) -> None:
        """Let go of the host. Running executions go on; the next supervisor adopts them."""


class Placed(msgspec.Struct, frozen=True):
    """Something on a host that was made for an execution, whosever that is."""

    key: str
    store: str  # the store whose supervisor has made it
    name: str  # as the host's own tools call it
    started: bool  # it runs, or has run
    running: bool
    kept: bool  # it has ended and is left on purpose


@runtime_checkable
class Hosting(Protocol):
    """What an executor may offer besides, so that its host can be bounded, counted, and compared with the store."""

    max_running: int  # executions at once, 0 for no bound: the supervisor lets others wait

    async def version(self) -> str:
        """The version of what runs on the host; raises HostUnavailable."""

    async def inventory(self) -> list[Placed]:
        """What was made on the host by any store, in one look; raises HostUnavailable."""


ExecutorFactory = Callable[[Mapping[str, Any], ExecutorContext], Executor]
"""Makes the executor of a host from its table in scriptrules.toml (without the key `executor`).

Raises ConfigError for an unknown key (naming the nearest) or a wrong value.
"""
