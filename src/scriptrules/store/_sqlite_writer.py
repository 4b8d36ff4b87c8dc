"""The one writer of an SQLite store: a thread with group commit.

The writer takes whatever has been submitted, executes it in one transaction and commits once, so that an fdatasync is
shared by all runs that are ready (FINDINGS §A: one commit a run caps everything near 1,000 a second, a group of 100
costs hardly more than one). WAL and ``synchronous=FULL``: an acknowledged task survives a power cut.

Tried and rejected: apsw and uvloop make no difference beyond noise; a writer in the event loop's own thread is up to
1.6 times faster, but a stalled disk then stops everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog

from scriptrules import clock
from scriptrules.errors import KeyConflict, StoreUnavailable
from scriptrules.latency import Latency
from scriptrules.store._sqlite_arrivals import Arrivals
from scriptrules.store._sqlite_changes import apply_change
from scriptrules.store._sqlite_events import EventLog
from scriptrules.store._sqlite_sightings import Sightings
from scriptrules.store._sqlite_trees import Awaited
from scriptrules.store.protocol import TOLD_BY_ANOTHER, Change, Committed, merge

log = structlog.get_logger(__name__)

RETRY_FIRST, RETRY_MAX = 0.1, 5.0  # seconds between attempts to commit while the disk is full or locked
GROUP_MAX = 2000  # submissions in one transaction


class Submission(msgspec.Struct):
    """Something for the writer. `work` runs in its thread, in the transaction; `then` gets the result in the loop."""

    change: Change | None
    work: Callable[[sqlite3.Connection], Any] | None
    then: Callable[[Any], None]
    fail: Callable[[Exception], None] | None  # None: it is retried until it succeeds


class Writer:
    """Commits what is submitted, in its order, and tells the event loop.

    Args:
        connection: used by this thread only, and closed by it.
        path: of the store, for messages.
        arrivals: in this store.
        latency: of commits, is added to.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, arrivals: Arrivals, latency: Latency) -> None:
        self._latency = latency
        self.arrivals = arrivals
        self.failing: str | None = None  # why commits fail at the moment
        self._connection = connection
        self.events = EventLog(connection)
        self._sightings = Sightings(connection)
        self._awaited = Awaited(connection)
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._fresh: list[Submission] = []  # of this turn of the loop: handed over together at its end
        self._waiting: list[Submission] = []
        self._arrived = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Commit what was submitted, and end."""
        self._hand_over()
        with self._arrived:
            self._closing = True
            self._arrived.notify()
        await asyncio.to_thread(self._thread.join)

    def submit(self, change: Change, then: Callable[[Committed], None]) -> None:
        self.enqueue(Submission(change, None, then, None))

    async def perform(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Do `work` in the thread, within a transaction; returns its result once that is durable."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def then(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        def fail(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)

        self.enqueue(Submission(None, work, then, fail))
        return await future

    def enqueue(self, submission: Submission) -> None:
        if self._closing and submission.fail is not None:
            submission.fail(StoreUnavailable("The server is shutting down. Send it again when it is back."))
            return
        if not self._fresh:
            self._loop.call_soon(self._hand_over)
        self._fresh.append(submission)

    def _hand_over(self) -> None:
        with self._arrived:
            self._waiting += self._fresh
            self._arrived.notify()
        self._fresh.clear()

    def _write(self) -> None:
        connection = self._connection
        kept: list[Submission] = []
        pause = RETRY_FIRST
        while True:
            with self._arrived:
                if kept:
                    self._arrived.wait(pause)
                while not self._waiting and not kept and not self._closing:
                    self._arrived.wait()
                group = kept + self._waiting[:GROUP_MAX]
                del self._waiting[:GROUP_MAX]
                closing = self._closing
            if not group:
                break
            finished, kept = self._commit_group(connection, group)
            pause = min(pause * 2, RETRY_MAX) if kept else RETRY_FIRST
            self._tell(finished)
            if kept and closing:
                log.error("store.lost_at_shutdown", changes=len(kept), problem=self.failing)
                break
        connection.close()

    def _commit_group(
        self, connection: sqlite3.Connection, group: list[Submission]
    ) -> tuple[list[Callable[[], None]], list[Submission]]:
        """Commit a group together; returns what to call in the loop, and what has to be tried again."""
        try:
            return self._commit(connection, group), []
        except Exception as error:  # whatever it is: this thread must live
            _rollback(connection)
            if not isinstance(error, sqlite3.OperationalError) and len(group) > 1:
                return self._commit_apart(connection, group)
            return self._give_up(group, error)

    def _commit_apart(
        self, connection: sqlite3.Connection, group: list[Submission]
    ) -> tuple[list[Callable[[], None]], list[Submission]]:
        """One of the group is at fault: each in a transaction of its own, so that it harms only itself."""
        finished: list[Callable[[], None]] = []
        kept: list[Submission] = []
        for submission in group:
            done, again = self._commit_group(connection, [submission])
            finished += done
            kept += again
        return finished, kept

    def _commit(self, connection: sqlite3.Connection, group: list[Submission]) -> list[Callable[[], None]]:
        finished: list[Callable[[], None]] = []
        changes = [submission for submission in group if submission.change is not None]
        connection.execute("BEGIN IMMEDIATE")
        self.events.begin()
        for submission in group:
            if submission.work is not None:
                finished.append(_attempt(submission, connection))
        if changes:
            parts = merge([submission.change for submission in changes if submission.change is not None])
            kept = self.arrivals, self._sightings, self.events, self._awaited
            committed = [apply_change(connection, part, *kept) for part in parts]
            finished.append(lambda: _hand_out(changes, committed))
        self.events.write(connection)
        began = clock.monotonic()
        connection.execute("COMMIT")
        self._latency.add(clock.monotonic() - began)
        self.events.committed()
        if self.failing is not None:
            log.info("store.recovered")
            self.failing = None
        return finished

    def _give_up(self, group: list[Submission], error: Exception) -> tuple[list[Callable[[], None]], list[Submission]]:
        """Whoever is waiting is told; what the engine itself has to write is kept for the next attempt."""
        if self.failing != str(error):
            self.failing = str(error)
            log.error("store.unavailable", problem=str(error), path=str(self._path), next="retrying")
        problem = StoreUnavailable(
            f"The store cannot be written: {error}. Nothing was accepted; see to the disk, then send it again."
        )
        told: list[Callable[[], None]] = [
            partial(submission.fail, problem) for submission in group if submission.fail is not None
        ]
        return told, [submission for submission in group if submission.fail is None]

    def _tell(self, finished: list[Callable[[], None]]) -> None:
        def call() -> None:
            for step in finished:
                step()

        if finished:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
                self._loop.call_soon_threadsafe(call)


def _attempt(submission: Submission, connection: sqlite3.Connection) -> Callable[[], None]:
    """Do a piece of work; an error of ours belongs to whoever asked, not to the group."""
    assert submission.work is not None
    try:
        result = submission.work(connection)
    except KeyConflict as error:
        fail, problem = submission.fail, error
        return lambda: fail(problem) if fail else None
    return lambda: submission.then(result)


def _hand_out(changes: list[Submission], committed: list[Committed]) -> None:
    """Each submitter learns that its change is durable; what the group brought about is told once, to the last."""
    for submission in changes[:-1]:
        submission.then(TOLD_BY_ANOTHER)
    everything = Committed(
        [ended for part in committed for ended in part.ended],
        [wake for part in committed for wake in part.awake],
        any(part.due for part in committed),
    )
    changes[-1].then(everything)


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
