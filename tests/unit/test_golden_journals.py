"""Recorded journals are replayed against today's engine, through a real worker.

A journal was written by the engine of its day and is never written again: where one of these tests fails, the change
that broke it breaks the runs that people have under way. Before each slice of a journal, what had happened by then is
replayed, and the script must do what it did then; after the last record it must return what it returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scriptrules import journal
from scriptrules.journal import Record, SliceRecord
from scriptrules.model import EntryState, Source
from scriptrules.plugins.manager import Plugins
from scriptrules.rulebook.files import make_source
from scriptrules.sandbox import wire
from scriptrules.sandbox.confine import Limits
from scriptrules.sandbox.pool import Job, Pool
from scriptrules.supervisor.entries import past_of

PATIENCE = 30.0  # seconds
FILES = {file.stem: file for file in sorted((Path(__file__).parents[1] / "journals").glob("*.json"))}
SPECS = [function.spec for function in Plugins(None).functions.values()]
BLOCKING = frozenset(spec.name for spec in SPECS if spec.blocks)


class Golden:
    """A journal as it was recorded."""

    def __init__(self, name: str) -> None:
        recorded: dict[str, Any] = msgspec.json.decode(FILES[name].read_bytes())
        self.recorded = recorded
        self.records: list[Record] = [journal.decode(msgspec.json.encode(one)) for one in recorded["records"]]
        rule = recorded["source"]
        self.source: Source = make_source(rule["rule"], rule["file"], "\n".join(rule["text"]) + "\n", {})
        task = recorded["task"]
        data = msgspec.json.encode(task["data"])
        self.task = wire.TaskView(task["id"], task["name"], data, task["root"], task["hop"], task["created"])
        self.created: int = recorded["run"]["created"]
        self.attempt: int = recorded["run"]["attempt"]

    def replay_of(self, records: list[Record]) -> Callable[[int, int], wire.Replay]:
        past = past_of(journal.fold(records), BLOCKING, self.created)
        source = self.source
        return lambda number, slot: wire.Replay(
            number, slot, source.rule, source.digest, self.task, self.attempt, self.created, past
        )


def replay(golden: Golden, histories: list[list[Record]]) -> list[wire.Slice]:
    """What the script does after each of these histories."""

    async def main() -> list[wire.Slice]:
        pool = Pool(1, Limits(), wire.Budget(), SPECS, 3.0)
        await pool.start()
        try:
            loaded = await asyncio.wait_for(pool.load(golden.source), PATIENCE)
            assert loaded.problems == []
            pieces = []
            for records in histories:
                future: asyncio.Future[wire.Ran] = asyncio.get_running_loop().create_future()
                job = Job(
                    golden.replay_of(records),
                    lambda _, ran, future=future: future.set_result(ran),  # type: ignore[misc]
                    lambda *how, future=future: future.set_exception(RuntimeError(f"the worker died: {how}")),  # type: ignore[misc]
                    source=golden.source,
                )
                pool.submit(job)
                ran = await asyncio.wait_for(future, PATIENCE)
                assert ran.slice is not None
                pieces.append(ran.slice)
            return pieces
        finally:
            await pool.close()

    return asyncio.run(main())


def did(piece: wire.Slice) -> list[tuple[str, bytes, int]]:
    return [(intent.name, intent.args, intent.line) for intent in piece.entries]


def test_there_are_journals_of_every_way_to_wait_and_one_that_diverges() -> None:
    names = {entry.name for name in FILES for entry in journal.fold(Golden(name).records)}
    assert {"emit", "run", "wait", "call", "receive", "sleep", "sleep_until", "hold"} <= names
    kinds = {type(record).__name__ for name in FILES for record in Golden(name).records}
    assert {"SliceRecord", "StartRecord", "EndRecord", "AgainRecord", "CutRecord"} <= kinds
    assert any("diverges" in Golden(name).recorded for name in FILES)


@pytest.mark.parametrize("name", [name for name in FILES if "diverges" not in Golden(name).recorded])
def test_a_recorded_run_reaches_the_same_point_by_every_slice(name: str) -> None:
    golden = Golden(name)
    slices = [(at, record) for at, record in enumerate(golden.records) if isinstance(record, SliceRecord)]
    pieces = replay(golden, [golden.records[:at] for at, _ in slices])
    for piece, (_, record) in zip(pieces, slices, strict=True):
        assert did(piece) == [(entry, bytes(args), line) for entry, args, line in record.entries]
        last = record.entries[-1][0]
        assert piece.end == ("blocked" if last in BLOCKING else "returned")


@pytest.mark.parametrize("name", [name for name in FILES if "diverges" not in Golden(name).recorded])
def test_a_recorded_run_returns_what_it_returned_and_does_nothing_new(name: str) -> None:
    golden = Golden(name)
    (piece,) = replay(golden, [golden.records])
    assert (piece.end, did(piece), piece.logs) == ("returned", [], [])
    assert msgspec.json.decode(piece.value) == golden.recorded["run"]["value"]


@pytest.mark.parametrize("name", [name for name in FILES if "diverges" in Golden(name).recorded])
def test_an_edited_rule_diverges_at_its_line(name: str) -> None:
    golden = Golden(name)
    (piece,) = replay(golden, [golden.records])
    assert piece.end == "diverged"
    assert piece.entries == []
    assert piece.error is not None
    assert piece.error.line == golden.recorded["diverges"]["line"]
    assert "expected call(" in piece.error.message
    assert ", got call(" in piece.error.message


@pytest.mark.parametrize("name", FILES)
def test_a_recorded_journal_is_written_as_it_was_read(name: str) -> None:
    golden = Golden(name)
    written = [msgspec.json.decode(journal.encode(record)) for record in golden.records]
    assert written == golden.recorded["records"]


@pytest.mark.parametrize("name", FILES)
def test_every_entry_of_a_recorded_run_has_come_to_its_end(name: str) -> None:
    entries = journal.fold(Golden(name).records)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert {entry.state for entry in entries} <= {EntryState.DONE, EntryState.FAILED}
