"""The embedded store: one file, one writer thread with group commit, one reader thread.

The writer takes whatever has been submitted, executes it in one transaction and commits once, so that an fdatasync is
shared by all runs that are ready (FINDINGS §A: one commit a run caps everything near 1,000 a second, a group of 100
costs hardly more than one). WAL and ``synchronous=FULL``: an acknowledged task survives a power cut.

Tried and rejected: apsw and uvloop make no difference beyond noise; a writer in the event loop's own thread is up to
1.6 times faster, but a stalled disk then stops everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import structlog

from scriptrules.errors import KeyConflict, StoreInUse, StoreUnavailable
from scriptrules.model import TASK_FINAL, Failure, LogLine, Run, RunState, Source, Task, TaskState
from scriptrules.store.protocol import Change, Committed, Filter, Ingested, Wake, decide_keys, merge

log = structlog.get_logger(__name__)

RETRY_FIRST, RETRY_MAX = 0.1, 5.0  # seconds between attempts to commit while the disk is full or locked
BUSY_TIMEOUT = 2.0  # seconds to wait for a lock that another process holds
GROUP_MAX = 2000  # submissions in one transaction

_INDEXED = {  # states that partial indexes have
    "tasks": ("new", "held", "running", "failed"),
    "runs": ("queued", "running", "waiting", "held", "failed"),
}

_encode = msgspec.json.encode
_decode = msgspec.json.decode


def _read_queries() -> dict[str, str]:
    text = resources.files("scriptrules.store").joinpath("sql/queries.sql").read_text("utf-8")
    queries = {}
    for block in text.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        queries[name.strip()] = body.strip().removesuffix(";")
    return queries


QUERIES = _read_queries()


def migrations() -> list[tuple[int, str]]:
    """The numbered migrations, oldest first."""
    folder = resources.files("scriptrules.store").joinpath("sql")
    found = [(int(file.name[:4]), file.read_text("utf-8")) for file in folder.iterdir() if file.name[:4].isdigit()]
    return sorted(found)


class _Submission(msgspec.Struct):
    """Something for the writer. `work` runs in its thread, in the transaction; `then` gets the result in the loop."""

    change: Change | None
    work: Callable[[sqlite3.Connection], Any] | None
    then: Callable[[Any], None]
    fail: Callable[[Exception], None] | None  # None: it is retried until it succeeds


class SqliteStore:
    """A store in a file; see `scriptrules.store.protocol.Store` for the methods."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = ""
        self.failing: str | None = None  # why commits fail at the moment
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[_Submission] = []
        self._arrived = threading.Condition()
        self._closing = False
        self._writer: threading.Thread | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._lock_file: int | None = None
        self._reading: sqlite3.Connection | None = None

    # ---- life

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = ThreadPoolExecutor(1, "store-reader")
        try:
            connection = await self._loop.run_in_executor(self._reader, self._open)
        except BaseException:
            self._reader.shutdown()
            self._unlock()
            raise
        self._writer = threading.Thread(target=self._write, args=(connection,), name="store-writer", daemon=True)
        self._writer.start()

    async def close(self) -> None:
        if self._writer is not None:
            with self._arrived:
                self._closing = True
                self._arrived.notify()
            await asyncio.to_thread(self._writer.join)
            self._writer = None
        if self._reader is not None:
            if self._reading is not None:
                await asyncio.get_running_loop().run_in_executor(self._reader, self._reading.close)
            self._reader.shutdown()
            self._reader = None
        self._unlock()

    def _open(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            connection = self._connect()
            _migrate(connection)
            self.id = _store_id(connection)
            self._reading = self._connect()
            self._reading.execute("PRAGMA query_only = ON")
        except (sqlite3.Error, OSError, StoreUnavailable) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, StoreUnavailable):
                raise
            raise StoreUnavailable(
                f"The store {self.path} cannot be opened: {error}. Check the folder's permissions and free space, or "
                f"name another one with --store sqlite:///PATH."
            ) from None
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -65536")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _lock(self) -> None:
        """Hold a lock on a file beside the store: two supervisors must not drive the same runs."""
        self._lock_file = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreInUse(
                f"Another scriptrules serves {self.path}. Stop that one first, or give this one a store of its own "
                f"with --store sqlite:///PATH."
            ) from None

    def _unlock(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # ---- writing

    def submit(self, change: Change, then: Callable[[Committed], None]) -> None:
        self._enqueue(_Submission(change, None, then, None))

    async def ingest(self, tasks: list[Task]) -> list[Ingested]:
        ingested: list[Ingested] = await self._await(lambda connection: _ingest(connection, tasks))
        return ingested

    async def put_source(self, source: Source) -> None:
        row = (source.digest, _encode(source))
        await self._await(lambda connection: connection.execute(QUERIES["put_source"], row))

    async def _await(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def then(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        def fail(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)

        self._enqueue(_Submission(None, work, then, fail))
        return await future

    def _enqueue(self, submission: _Submission) -> None:
        with self._arrived:
            if self._closing and submission.fail is not None:
                submission.fail(StoreUnavailable("The server is shutting down. Send it again when it is back."))
                return
            self._waiting.append(submission)
            self._arrived.notify()

    def _write(self, connection: sqlite3.Connection) -> None:
        """The writer thread."""
        kept: list[_Submission] = []
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
        self, connection: sqlite3.Connection, group: list[_Submission]
    ) -> tuple[list[Callable[[], None]], list[_Submission]]:
        """Commit a group together; returns what to call in the loop, and what has to be tried again."""
        try:
            return self._commit(connection, group), []
        except Exception as error:  # whatever it is: this thread must live
            _rollback(connection)
            if not isinstance(error, sqlite3.OperationalError) and len(group) > 1:
                return self._commit_apart(connection, group)
            return self._give_up(group, error)

    def _commit_apart(
        self, connection: sqlite3.Connection, group: list[_Submission]
    ) -> tuple[list[Callable[[], None]], list[_Submission]]:
        """One of the group is at fault: each in a transaction of its own, so that it harms only itself."""
        finished: list[Callable[[], None]] = []
        kept: list[_Submission] = []
        for submission in group:
            done, again = self._commit_group(connection, [submission])
            finished += done
            kept += again
        return finished, kept

    def _commit(self, connection: sqlite3.Connection, group: list[_Submission]) -> list[Callable[[], None]]:
        finished: list[Callable[[], None]] = []
        changes = [submission for submission in group if submission.change is not None]
        connection.execute("BEGIN IMMEDIATE")
        for submission in group:
            if submission.work is not None:
                finished.append(_attempt(submission, connection))
        if changes:
            parts = merge([submission.change for submission in changes if submission.change is not None])
            committed = [_apply(connection, part) for part in parts]
            finished.append(lambda: _hand_out(changes, committed))
        connection.execute("COMMIT")
        if self.failing is not None:
            log.info("store.recovered")
            self.failing = None
        return finished

    def _give_up(
        self, group: list[_Submission], error: Exception
    ) -> tuple[list[Callable[[], None]], list[_Submission]]:
        """Whoever is waiting is told; what the engine itself has to write is kept for the next attempt."""
        if self.failing != str(error):
            self.failing = str(error)
            log.error("store.unavailable", problem=str(error), path=str(self.path), next="retrying")
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

        if finished and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
                self._loop.call_soon_threadsafe(call)

    # ---- reading

    async def _read(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        assert self._loop is not None
        assert self._reading is not None
        reading = self._reading

        def read() -> list[tuple[Any, ...]]:
            return reading.execute(query, parameters).fetchall()

        try:
            return await self._loop.run_in_executor(self._reader, read)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The store cannot be read: {error}. See to {self.path}.") from None

    async def task(self, id: str) -> Task | None:
        rows = await self._read(QUERIES["task"], id)
        return _task(rows[0]) if rows else None

    async def run(self, id: str) -> Run | None:
        rows = await self._read(QUERIES["run"], id)
        return _run(rows[0]) if rows else None

    async def tasks(self, filter: Filter) -> list[Task]:
        clauses = [
            ("state = ?", filter.state),
            ("name = ?", filter.name),
            ("parent = ?", filter.parent),
            ("root = ?", filter.root),
            ("reason = ?", filter.reason),
            ("created >= ?", filter.since),
            ("created < ?", filter.until),
            ("id < ?", filter.cursor),
        ]
        return [_task(row) for row in await self._select("tasks", clauses, "id", filter.limit)]

    async def runs(self, filter: Filter) -> list[Run]:
        clauses = [
            ("r.state = ?", filter.state),
            ("r.rule = ?", filter.rule),
            ("r.task = ?", filter.task),
            ("r.task IN (SELECT id FROM tasks WHERE name = ?)", filter.name),
            ("r.reason = ?", filter.reason),
            ("r.created >= ?", filter.since),
            ("r.created < ?", filter.until),
            ("r.id < ?", filter.cursor),
        ]
        return [_run(row) for row in await self._select("runs", clauses, "r.id", filter.limit)]

    async def _select(
        self, query: str, clauses: list[tuple[str, Any]], order: str, limit: int
    ) -> list[tuple[Any, ...]]:
        given = [(clause, value) for clause, value in clauses if value is not None]
        where = " AND ".join(clause for clause, _ in given) or "1"
        state = dict(given).get("r.state = ?" if query == "runs" else "state = ?")
        if state in _INDEXED[query]:  # said once more as the index says it: only then is a partial index used
            listed = ", ".join(f"'{name}'" for name in _INDEXED[query])
            where += f" AND {'r.' if query == 'runs' else ''}state IN ({listed})"
        sql = f"{QUERIES[query]} {where} ORDER BY {order} DESC LIMIT ?"
        return await self._read(sql, *(value for _, value in given), limit)

    async def journal(self, run: str) -> list[bytes]:
        return [row[0] for row in await self._read(QUERIES["journal"], run)]

    async def logs(self, run: str, after: int = 0, limit: int = 1000) -> list[tuple[int, LogLine]]:
        return [(row[0], LogLine(*row[1:])) for row in await self._read(QUERIES["logs"], run, after, limit)]

    async def source(self, digest: str) -> Source | None:
        rows = await self._read(QUERIES["source"], digest)
        return _decode(rows[0][0], type=Source) if rows else None

    async def counts(self) -> dict[str, dict[str, int]]:
        return {
            "tasks": dict(await self._read(QUERIES["task_counts"])),
            "runs": dict(await self._read(QUERIES["run_counts"])),
        }

    async def new_tasks(self, after: str, limit: int) -> list[Task]:
        return [_task(row) for row in await self._read(QUERIES["new_tasks"], after, limit)]

    async def unfinished_runs(self, after: str, limit: int) -> list[Run]:
        return [_run(row) for row in await self._read(QUERIES["unfinished_runs"], after, limit)]

    async def wakes(self, kinds: tuple[str, ...], after: tuple[str, int], limit: int) -> list[Wake]:
        return [Wake(*row) for row in await self._read(QUERIES["wakes"], json.dumps(kinds), *after, limit)]

    async def wakes_of(self, run: str) -> list[Wake]:
        return [Wake(*row) for row in await self._read(QUERIES["wakes_of"], run)]

    async def due(self, now: int, limit: int) -> list[Wake]:
        return [Wake(*row) for row in await self._read(QUERIES["due"], now, limit)]

    async def next_due(self) -> int | None:
        ((due,),) = await self._read(QUERIES["next_due"])
        return None if due is None else int(due)

    async def awake(self) -> list[Wake]:
        return [Wake(*row) for row in await self._read(QUERIES["awake"])]


# ---- within a transaction


def _attempt(submission: _Submission, connection: sqlite3.Connection) -> Callable[[], None]:
    """Do a piece of work; an error of ours belongs to whoever asked, not to the group."""
    assert submission.work is not None
    try:
        result = submission.work(connection)
    except KeyConflict as error:
        fail, problem = submission.fail, error
        return lambda: fail(problem) if fail else None
    return lambda: submission.then(result)


def _ingest(connection: sqlite3.Connection, tasks: list[Task]) -> list[Ingested]:
    keyed = [task for task in tasks if task.key is not None]
    known: dict[str, tuple[str, str, bytes]] = {}
    if keyed:
        rows = connection.execute(QUERIES["known_keys"], (json.dumps([task.key for task in keyed]),))
        known = {row[0]: row[1:] for row in rows}
    ingested, fresh = decide_keys(tasks, known)
    connection.executemany(QUERIES["insert_tasks"], map(_task_row, fresh))
    return ingested


def _apply(connection: sqlite3.Connection, change: Change) -> Committed:
    many = connection.executemany
    if change.tasks:
        many(QUERIES["insert_tasks"], map(_task_row, change.tasks))
    if change.runs:
        many(QUERIES["put_runs"], map(_run_row, change.runs))
    if change.journal:
        many(QUERIES["append_journal"], change.journal)
    if change.logs:
        many(QUERIES["append_logs"], ((run, *msgspec.structs.astuple(line)) for run, line in change.logs))
    if change.wakes:
        many(QUERIES["put_wakes"], map(msgspec.structs.astuple, change.wakes))
    if change.done:
        many(QUERIES["remove_wakes"], ((wake.run, wake.seq, wake.kind, wake.key) for wake in change.done))
    if change.moves:
        moves = ((str(move.state), move.since, move.reason, move.open, move.id) for move in change.moves)
        many(QUERIES["move_tasks"], moves)
    if change.reopened:
        many(QUERIES["reopen_tasks"], change.reopened)
    ended = _end_tasks(connection, change) if change.ends else []
    return Committed(ended, _awake(connection, change, ended))


def _end_tasks(connection: sqlite3.Connection, change: Change) -> list[tuple[str, TaskState]]:
    connection.executemany(QUERIES["count_end"], ((end.task,) for end in change.ends))
    tasks = json.dumps(list({end.task for end in change.ends}))
    rows = connection.execute(QUERIES["end_tasks"], (tasks, change.ends[-1].since)).fetchall()
    return [(id, TaskState(state)) for id, state in rows]


def _awake(connection: sqlite3.Connection, change: Change, ended: Iterable[tuple[str, TaskState]]) -> list[Wake]:
    """The waits for tasks that this change fulfils, whichever of the two came first."""
    finals = [id for id, _ in ended]
    finals += [move.id for move in change.moves if move.state in TASK_FINAL]
    watched = [wake.key for wake in change.wakes if wake.kind in ("task", "call")]
    if watched:
        finals += [row[0] for row in connection.execute(QUERIES["ended_among"], (json.dumps(watched),))]
    found: dict[Wake, None] = {}
    for keys, query in ((finals, "wakes_on_ended_tasks"), (change.answered, "wakes_on_answers")):
        if keys:
            rows = connection.execute(QUERIES[query], (json.dumps(keys),))
            found.update((Wake(*row), None) for row in rows)
    return list(found)


def _hand_out(changes: list[_Submission], committed: list[Committed]) -> None:
    """Each submitter learns that its change is durable; what the group brought about is told once, to the last."""
    nothing = Committed()
    for submission in changes[:-1]:
        submission.then(nothing)
    everything = Committed(
        [ended for part in committed for ended in part.ended], [wake for part in committed for wake in part.awake]
    )
    changes[-1].then(everything)


def _rollback(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


# ---- opening


def _migrate(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    steps = migrations()
    if version > steps[-1][0]:
        raise StoreUnavailable(
            f"The store was written by a newer scriptrules (schema {version}, this one knows {steps[-1][0]}). Upgrade."
        )
    for number, sql in steps:
        if number > version:
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")


def _store_id(connection: sqlite3.Connection) -> str:
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('id', ?)", (uuid.uuid4().hex,))
    return str(connection.execute("SELECT value FROM meta WHERE name = 'id'").fetchone()[0])


# ---- rows


def _task_row(task: Task) -> tuple[Any, ...]:
    return (
        task.id, task.name, task.data, str(task.state), task.since, task.created, task.root, task.parent, task.by,
        task.hop, task.depth, task.key, task.reply, task.reason,
    )  # fmt: skip


def _task(row: tuple[Any, ...]) -> Task:
    id, name, data, state, since, created, root, parent, by, hop, depth, key, reply, reason = row
    return Task(id, name, data, TaskState(state), since, created, root, parent, by, hop, depth, key, reply, reason)


def _run_row(run: Run) -> tuple[Any, ...]:
    error = None if run.error is None else _encode(run.error)
    return (
        run.id, run.rule, run.task, run.digest, str(run.state), run.since, run.created, run.reason, run.ended,
        run.value, error, run.attempt, run.answers, run.python, run.policy, run.reasons,
    )  # fmt: skip


def _run(row: tuple[Any, ...]) -> Run:
    fields = list(row)
    fields[4] = RunState(fields[4])
    fields[10] = None if fields[10] is None else _decode(fields[10], type=Failure)
    fields[12] = bool(fields[12])
    return Run(*fields)
