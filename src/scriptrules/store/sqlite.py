"""The embedded store: one file, one writer (`_sqlite_writer`), one reader thread."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from scriptrules.errors import StoreInUse, StoreUnavailable
from scriptrules.latency import Latency
from scriptrules.model import Breakpoint, LogLine, Run, Source, Task
from scriptrules.sightings import DAY, Cell, SeenEdge
from scriptrules.store import _sqlite_retention
from scriptrules.store._sqlite_arrivals import Arrivals
from scriptrules.store._sqlite_changes import ingest_tasks, prune_variables, put_token, put_variables, remove_token
from scriptrules.store._sqlite_events import bounds, happened
from scriptrules.store._sqlite_looking import arrived
from scriptrules.store._sqlite_queries import QUERIES
from scriptrules.store._sqlite_rows import run_of, task_of
from scriptrules.store._sqlite_sightings import cells_of, edges_of
from scriptrules.store._sqlite_writer import Writer
from scriptrules.store.protocol import (
    Audit,
    Change,
    Committed,
    Filter,
    Happened,
    Ingested,
    Mark,
    Pruned,
    SecretUse,
    SecretVersion,
    Variable,
    Wake,
)
from scriptrules.tokens import Token

T = TypeVar("T")
BUSY_TIMEOUT = 2.0  # seconds to wait for a lock that another process holds

_INDEXED = {  # states that partial indexes have
    "tasks": ("new", "held", "running", "failed"),
    "runs": ("queued", "running", "waiting", "held", "failed"),
}


def migrations() -> list[tuple[int, str]]:
    """The numbered migrations, oldest first."""
    folder = resources.files("scriptrules.store").joinpath("sql")
    found = [(int(file.name[:4]), file.read_text("utf-8")) for file in folder.iterdir() if file.name[:4].isdigit()]
    return sorted(found)


class SqliteStore:
    """A store in a file; see `scriptrules.store.protocol.Store` for the methods."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: Writer | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._lock_file: int | None = None
        self._reading: sqlite3.Connection | None = None
        self.commit_seconds = Latency()

    # ---- life

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = ThreadPoolExecutor(1, "store-reader")
        try:
            connection, arrivals = await self._loop.run_in_executor(self._reader, self._open)
        except BaseException:
            self._reader.shutdown()
            self._unlock()
            raise
        self._writer = Writer(connection, self.path, arrivals, self.commit_seconds)

    @property
    def failing(self) -> str | None:
        """Why commits fail at the moment."""
        return self._writer.failing if self._writer else None

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer.close()
        if self._reader is not None:
            if self._reading is not None:
                await asyncio.get_running_loop().run_in_executor(self._reader, self._reading.close)
            self._reader.shutdown()
            self._reader = None
        self._unlock()

    def _open(self) -> tuple[sqlite3.Connection, Arrivals]:
        connection: sqlite3.Connection | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            connection = self._connect()
            _migrate(connection)
            self.id = _store_id(connection)
            self._reading = self._connect()
            self._reading.execute("PRAGMA query_only = ON")
            return connection, Arrivals(connection)
        except (sqlite3.Error, OSError, StoreUnavailable) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, StoreUnavailable):
                raise
            raise StoreUnavailable(
                f"The store {self.path} cannot be opened: {error}. Check the folder's permissions and free space, or "
                f"name another one with --store sqlite:///PATH."
            ) from None

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
        assert self._writer is not None
        self._writer.submit(change, then)

    async def ingest(self, tasks: list[Task]) -> list[Ingested]:
        assert self._writer is not None
        arrivals, events = self._writer.arrivals, self._writer.events
        ingested: list[Ingested] = await self._write(
            lambda connection: ingest_tasks(connection, tasks, arrivals, events)
        )
        return ingested

    async def put_token(self, token: Token, audit: Audit) -> None:
        await self._write(lambda connection: put_token(connection, token, audit))

    async def remove_token(self, name: str, audit: Audit) -> None:
        await self._write(lambda connection: remove_token(connection, name, audit))

    async def put_source(self, source: Source) -> None:
        row = (source.digest, msgspec.json.encode(source))
        await self._write(lambda connection: connection.execute(QUERIES["put_source"], row))

    async def put_variables(self, variables: list[Variable], secrets: list[SecretVersion]) -> None:
        await self._write(lambda connection: put_variables(connection, variables, secrets))

    async def prune_variables(self, before: int) -> None:
        await self._write(lambda connection: prune_variables(connection, before))

    async def _write(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        assert self._writer is not None
        return await self._writer.perform(work)

    async def prune(self, before: int, after: str, limit: int) -> Pruned:
        assert self._writer is not None
        prune, events = _sqlite_retention.prune, self._writer.events
        pruned: Pruned = await self._write(lambda connection: prune(connection, before, after, limit, events))
        return pruned

    async def prune_rest(self, before: int, keep: list[str]) -> None:
        await self._write(lambda connection: _sqlite_retention.prune_rest(connection, before, keep))

    # ---- reading

    async def _read(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return await self._reading_of(lambda reading: reading.execute(query, parameters).fetchall())

    async def _reading_of(self, read: Callable[[sqlite3.Connection], list[T]]) -> list[T]:
        assert self._loop is not None
        assert self._reading is not None
        try:
            return await self._loop.run_in_executor(self._reader, read, self._reading)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The store cannot be read: {error}. See to {self.path}.") from None

    async def task(self, id: str) -> Task | None:
        rows = await self._read(QUERIES["task"], id)
        return task_of(rows[0]) if rows else None

    async def run(self, id: str) -> Run | None:
        rows = await self._read(QUERIES["run"], id)
        return run_of(rows[0]) if rows else None

    async def tasks(self, filter: Filter) -> list[Task]:
        clauses = [
            ("state = ?", filter.state),
            ("name = ?", filter.name),
            ("parent = ?", filter.parent),
            (QUERIES["in_tree"], filter.root),
            ("reason = ?", filter.reason),
            ("created >= ?", filter.since),
            ("created < ?", filter.until),
            ("id < ?", filter.cursor),
        ]
        return [task_of(row) for row in await self._select("tasks", clauses, "id", filter.limit)]

    async def runs(self, filter: Filter) -> list[Run]:
        clauses = [
            ("r.state = ?", filter.state),
            ("r.rule = ?", filter.rule),
            ("r.task = ?", filter.task),
            ("r.task IN (SELECT id FROM tasks WHERE name = ?)", filter.name),
            ("ifnull((SELECT by FROM tasks WHERE id = r.task), '') = ?", filter.by),
            ("r.reason = ?", filter.reason),
            ("r.created >= ?", filter.since),
            ("r.created < ?", filter.until),
            ("r.id < ?", filter.cursor),
        ]
        return [run_of(row) for row in await self._select("runs", clauses, "r.id", filter.limit)]

    async def _select(
        self, query: str, clauses: list[tuple[str, Any]], order: str, limit: int
    ) -> list[tuple[Any, ...]]:
        given = [(clause, value) for clause, value in clauses if value is not None]
        where = " AND ".join(clause for clause, _ in given) or "1"
        state = dict(given).get("r.state = ?" if query == "runs" else "state = ?")
        if state in _INDEXED[query]:  # said once more as a literal: only then is a partial index used
            where += f" AND {'r.' if query == 'runs' else ''}state = '{state}'"
        sql = f"{QUERIES[query]} {where} ORDER BY {order} DESC LIMIT ?"
        return await self._read(sql, *(value for _, value in given), limit)

    async def journal(self, run: str) -> list[bytes]:
        return [row[0] for row in await self._read(QUERIES["journal"], run)]

    async def logs(self, run: str, after: int = 0, limit: int = 1000) -> list[tuple[int, LogLine]]:
        return [(row[0], LogLine(*row[1:])) for row in await self._read(QUERIES["logs"], run, after, limit)]

    async def marks(self) -> list[Mark]:
        return [Mark(*row) for row in await self._read(QUERIES["marks"])]

    async def source(self, digest: str) -> Source | None:
        rows = await self._read(QUERIES["source"], digest)
        return msgspec.json.decode(rows[0][0], type=Source) if rows else None

    async def variables_named(self, root: str, name: str) -> list[Variable]:
        return [Variable(*row) for row in await self._read(QUERIES["variables_named"], root, name)]

    async def variables(self, root: str, after: str, limit: int) -> list[Variable]:
        return [Variable(*row) for row in await self._read(QUERIES["variables"], root, after, limit)]

    async def secret_versions(self, name: str | None) -> list[SecretVersion]:
        return [SecretVersion(*row) for row in await self._read(QUERIES["secret_versions"], name)]

    async def secret_for(self, use: SecretUse) -> SecretVersion | None:
        rows = await self._read(QUERIES["secret_for"], use.name, use.version, use.run)
        return SecretVersion(*rows[0]) if rows else None

    async def breakpoints(self) -> list[Breakpoint]:
        return [msgspec.json.decode(row[0], type=Breakpoint) for row in await self._read(QUERIES["breakpoints"])]

    async def passed(self, thing: str, seq: int) -> set[str]:
        return {row[0] for row in await self._read(QUERIES["passed"], thing, seq)}

    async def tokens(self) -> list[Token]:
        return [Token(*row) for row in await self._read(QUERIES["tokens"])]

    async def stepping(self) -> list[str]:
        return [row[0] for row in await self._read(QUERIES["stepping"])]

    async def audit(self, thing: str | None, before: int | None, limit: int) -> list[tuple[int, Audit]]:
        return [(row[0], Audit(*row[1:])) for row in await self._read(QUERIES["audit"], thing, before, limit)]

    async def requested(self, request: str) -> list[Audit]:
        return [Audit(*row) for row in await self._read(QUERIES["requested"], request)]

    async def counts(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {"tasks": {}, "runs": {}}
        for kind, state, number in await self._read(QUERIES["counts"]):
            counts[kind][state] = number
        return counts

    async def outstanding(self) -> dict[str, int]:
        return dict(await self._read(QUERIES["outstanding"]))

    @property
    def seen(self) -> Mapping[str, int]:
        return self._writer.events.seen if self._writer else {}

    async def happened(self, after: int, limit: int) -> list[Happened]:
        return await self._reading_of(lambda reading: happened(reading, after, limit))

    async def happenings(self) -> tuple[int, int]:
        (found,) = await self._reading_of(lambda reading: [bounds(reading)])
        return found

    async def matrix(self, since: int = 0) -> list[Cell]:
        day = since // DAY
        return cells_of(await self._read(QUERIES["matrix"], day), await self._read(QUERIES["matrix_durations"], day))

    async def edges(self) -> list[SeenEdge]:
        return edges_of(await self._read(QUERIES["edges"]), await self._read(QUERIES["edge_delays"]))

    async def new_tasks(self, after: str, limit: int) -> list[Task]:
        return [task_of(row) for row in await self._read(QUERIES["new_tasks"], after, limit)]

    async def unfinished_runs(self, after: str, limit: int) -> list[Run]:
        return [run_of(row) for row in await self._read(QUERIES["unfinished_runs"], after, limit)]

    async def wakes(self, kinds: tuple[str, ...], after: tuple[str, int], limit: int) -> list[Wake]:
        return [Wake(*row) for row in await self._read(QUERIES["wakes"], json.dumps(kinds), *after, limit)]

    async def wakes_of(self, run: str) -> list[Wake]:
        return [Wake(*row) for row in await self._read(QUERIES["wakes_of"], run)]

    async def due(self, now: int, limit: int) -> list[Wake]:
        return [Wake(*row) for row in await self._read(QUERIES["due"], now, limit)]

    async def next_due(self) -> int | None:
        ((due,),) = await self._read(QUERIES["next_due"])
        return None if due is None else int(due)

    async def arrived(self, task: str, keys: Sequence[str], after: int | None, limit: int) -> list[tuple[int, Task]]:
        return await self._reading_of(lambda reading: arrived(reading, task, keys, after, limit))

    async def orphans(self, after: str, limit: int) -> list[Task]:
        return [task_of(row) for row in await self._read(QUERIES["orphans"], after, limit)]

    async def awake(self) -> list[Wake]:
        return [Wake(*row) for row in await self._read(QUERIES["awake"])]

    async def unwell(self, task: str, limit: int) -> list[Task]:
        return [task_of(row) for row in await self._read(QUERIES["unwell"], task, limit)]


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
