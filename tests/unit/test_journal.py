"""Records fold into entries, survive being stored, and older engines read newer ones."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptrules import journal
from scriptrules.journal import AgainRecord, CutRecord, EndRecord, HoldRecord, Record, SliceRecord, StartRecord
from scriptrules.model import Entry, EntryState, Failure, Verdict

Raw = msgspec.Raw
RUN, EMIT, WAIT = ("run", Raw(b'{"x":1}'), 3), ("emit", Raw(b"{}"), 4), ("wait", Raw(b"{}"), 5)
SLICE = SliceRecord(10, [RUN, EMIT, WAIT], {2: Raw(b'{"task":"t1"}')})


def test_a_slice_adds_entries_of_which_those_that_need_nobody_are_done() -> None:
    assert journal.fold([SLICE]) == [
        Entry(1, "run", b'{"x":1}', EntryState.PENDING, 10, 3, 10),
        Entry(2, "emit", b"{}", EntryState.DONE, 10, 4, 10, ended=10, result=b'{"task":"t1"}'),
        Entry(3, "wait", b"{}", EntryState.PENDING, 10, 5, 10),
    ]


def test_slices_count_on() -> None:
    assert [entry.seq for entry in journal.fold([SLICE, SLICE])] == [1, 2, 3, 4, 5, 6]


def test_an_execution_starts_ends_and_begins_again() -> None:
    end = EndRecord(30, 1, EntryState.FAILED, Raw(b'{"exit_code":3}'), Failure("ExecutionFailed", "x"), Verdict.ONCE)
    entries = journal.fold([SLICE, StartRecord(20, 1)])
    assert (entries[0].state, entries[0].since, entries[0].started) == (EntryState.STARTED, 20, 10)
    entries = journal.fold([SLICE, StartRecord(20, 1), end])
    assert entries[0] == Entry(
        1, "run", b'{"x":1}', EntryState.FAILED, 30, 3, 10, 30, b'{"exit_code":3}', Failure("ExecutionFailed", "x"),
        verdict=Verdict.ONCE,
    )  # fmt: skip
    again = journal.fold([SLICE, StartRecord(20, 1), end, AgainRecord(40, [1], 50)])
    assert again[0] == Entry(1, "run", b'{"x":1}', EntryState.PENDING, 40, 3, 10, attempt=2)


def test_a_cut_takes_away_entries_from_there_on() -> None:
    assert [entry.name for entry in journal.fold([SLICE, CutRecord(20, 2)])] == ["run"]
    assert journal.fold([SLICE, CutRecord(20, 1)]) == []
    assert [entry.seq for entry in journal.fold([SLICE, CutRecord(20, 2), SLICE])] == [1, 2, 3, 4]


def test_a_held_entry_says_why_until_it_goes_on() -> None:
    held = journal.fold([SLICE, HoldRecord(20, 3, "breakpoint b1")])[2]
    assert (held.state, held.reason, held.since) == (EntryState.HELD, "breakpoint b1", 20)
    on = journal.fold([SLICE, HoldRecord(20, 3, "breakpoint b1"), HoldRecord(30, 3)])[2]
    assert (on.state, on.reason) == (EntryState.PENDING, None)


def test_null_is_no_result() -> None:
    assert journal.fold([SLICE, EndRecord(20, 3, EntryState.DONE)])[2].result is None
    assert journal.fold([SLICE, EndRecord(20, 3, EntryState.DONE, Raw(b"null"))])[2].result is None
    assert journal.fold([SLICE, EndRecord(20, 3, EntryState.DONE, Raw(b"0"))])[2].result == b"0"


moments = st.integers(0, 2**53)
seqs = st.integers(1, 10**6)
raws = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
).map(lambda value: Raw(msgspec.json.encode(value)))
failures = st.none() | st.builds(Failure, st.text(), st.text(), st.none() | seqs, st.none() | st.text())
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(
        SliceRecord,
        moments,
        st.lists(st.tuples(st.text(), raws, seqs), max_size=3),
        st.dictionaries(seqs, raws, max_size=2),
    ),
    st.builds(StartRecord, moments, seqs),
    st.builds(
        EndRecord, moments, seqs, st.sampled_from(EntryState), raws, failures, st.none() | st.sampled_from(Verdict)
    ),
    st.builds(AgainRecord, moments, st.lists(seqs, max_size=3), st.none() | moments),
    st.builds(CutRecord, moments, seqs),
    st.builds(HoldRecord, moments, seqs, st.none() | st.text()),
)


@given(records)
def test_a_record_comes_back_as_it_was_stored(record: Record) -> None:
    stored = journal.encode(record)
    assert journal.encode(journal.decode(stored)) == stored
    assert type(journal.decode(stored)) is type(record)


def test_arguments_come_back_byte_by_byte_because_a_replay_compares_them() -> None:
    args = '{"b":1,"a":"ä\\n\\u2028","c":[1.0,1e30,-0.0]}'.encode()
    record = SliceRecord(1, [("emit", Raw(args), 1)])
    assert journal.fold([journal.decode(journal.encode(record))])[0].args == args


def test_an_older_engine_ignores_what_it_does_not_know_yet() -> None:
    newer = b'{"type":"end","at":1,"seq":2,"state":"done","result":{"a":1},"cost":7}'
    assert journal.decode(newer) == EndRecord(1, 2, EntryState.DONE, Raw(b'{"a":1}'))


def test_a_kind_of_record_that_it_does_not_know_is_an_error_and_not_passed_over() -> None:
    with pytest.raises(msgspec.ValidationError):
        journal.decode(b'{"type":"fork","at":1}')


def test_records_are_kept_short() -> None:
    assert journal.encode(EndRecord(1, 2, EntryState.DONE)) == b'{"type":"end","at":1,"seq":2,"state":"done"}'
