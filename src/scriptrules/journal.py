"""The journal of a run: an append-only list of records, and how they fold into entries.

A record is what one transition adds: the entries of a slice, the start of an execution, an outcome. Records are stored
as JSON, one row each, so that anybody can read a journal with the shell of the database; the entries that people and
the API see are computed from them, never stored. Unknown fields are ignored, so an older engine reads newer journals.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from scriptrules.model import Entry, EntryState, Failure, SecretRef, Verdict

NOTHING = msgspec.Raw(b"null")  # the result of an entry that has none


class Intent(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One use of an injected function as the worker reports it."""

    name: str
    args: bytes  # JSON object by parameter name
    line: int


class SliceRecord(msgspec.Struct, frozen=True, tag="slice", omit_defaults=True):
    """The entries of one slice. Those that need nobody else (emit) are over at once; the others are pending."""

    at: int
    entries: list[tuple[str, msgspec.Raw, int]]  # name, args, line
    results: dict[int, msgspec.Raw] = {}  # by seq: what was known at once, such as the id of an emitted task
    errors: dict[int, Failure] = {}  # by seq: what the script was told instead, and has caught
    secrets: dict[int, SecretRef] = {}  # by seq: apart from results, so that no value can pose as a secret


class StartRecord(msgspec.Struct, frozen=True, tag="start", omit_defaults=True):
    """An executor has acknowledged the start of this entry's execution."""

    at: int
    seq: int


class EndRecord(msgspec.Struct, frozen=True, tag="end", omit_defaults=True):
    """The outcome of an entry."""

    at: int
    seq: int
    state: EntryState
    result: msgspec.Raw = NOTHING
    error: Failure | None = None
    verdict: Verdict | None = None


class AgainRecord(msgspec.Struct, frozen=True, tag="again", omit_defaults=True):
    """Entries that are to be done once more, as their next attempt (a retry)."""

    at: int
    seqs: list[int]
    due: int | None = None


class CutRecord(msgspec.Struct, frozen=True, tag="cut", omit_defaults=True):
    """Entries from `seq` on do not count any more: the run begins again there."""

    at: int
    seq: int


class HoldRecord(msgspec.Struct, frozen=True, tag="hold", omit_defaults=True):
    """An entry is stopped with a reason, or (reason None) goes on; then with what is known at once, as in a slice."""

    at: int
    seq: int
    reason: str | None = None
    result: msgspec.Raw = NOTHING


class EditRecord(msgspec.Struct, frozen=True, tag="edit", omit_defaults=True):
    """Somebody has changed the arguments of an entry that is held; the original ones stay in the record before."""

    at: int
    seq: int
    args: msgspec.Raw


Record = SliceRecord | StartRecord | EndRecord | AgainRecord | CutRecord | HoldRecord | EditRecord

_decoder = msgspec.json.Decoder(Record)
encode = msgspec.json.encode

DONE_AT_ONCE = frozenset({"emit", "return", "load", "save"})  # entries that the commit itself ends


def decode(body: bytes) -> Record:
    """The record in a stored row."""
    record: Record = _decoder.decode(body)
    return record


def fold(records: Iterable[Record]) -> list[Entry]:
    """The entries that `records` amount to, in the order of their `seq` (which starts at 1)."""
    entries: list[Entry] = []
    for record in records:
        apply(entries, record)
    return entries


def apply(entries: list[Entry], record: Record) -> None:
    """Change `entries` as `record` says."""
    match record:
        case SliceRecord():
            for name, args, line in record.entries:
                seq = len(entries) + 1
                known = record.results.get(seq)
                error = record.errors.get(seq)
                done = name in DONE_AT_ONCE
                ended = EntryState.DONE if error is None else EntryState.FAILED
                entries.append(
                    Entry(
                        seq=seq,
                        name=name,
                        args=bytes(args),
                        state=ended if done else EntryState.PENDING,
                        since=record.at,
                        line=line,
                        started=record.at,
                        ended=record.at if done else None,
                        result=None if known is None else bytes(known),
                        error=error,
                        secret=record.secrets.get(seq),
                    )
                )
        case StartRecord():
            _change(entries, record.seq, state=EntryState.STARTED, since=record.at)
        case EndRecord():
            _change(
                entries,
                record.seq,
                state=record.state,
                since=record.at,
                ended=record.at,
                result=_given(record.result),
                error=record.error,
                verdict=record.verdict,
                reason=None,
                secret=None,
            )
        case AgainRecord():
            for seq in record.seqs:
                _change(
                    entries,
                    seq,
                    state=EntryState.PENDING,
                    since=record.at,
                    ended=None,
                    result=None,
                    error=None,
                    verdict=None,
                    attempt=entries[seq - 1].attempt + 1,
                )
        case CutRecord():
            del entries[record.seq - 1 :]
        case EditRecord():
            _change(entries, record.seq, edited=bytes(record.args))
        case HoldRecord():
            held = record.reason is not None
            _change(
                entries,
                record.seq,
                state=EntryState.HELD if held else EntryState.PENDING,
                since=record.at,
                reason=record.reason,
                result=_given(record.result),
            )


def _given(result: msgspec.Raw) -> bytes | None:
    raw = bytes(result)
    return None if raw == b"null" else raw


def _change(entries: list[Entry], seq: int, **changes: object) -> None:
    entries[seq - 1] = msgspec.structs.replace(entries[seq - 1], **changes)
