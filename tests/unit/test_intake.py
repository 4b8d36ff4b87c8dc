"""What comes in is checked once: names, keys, data, each with an error that says what to send instead."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptrules import intake
from scriptrules.errors import BadTask, TooLarge
from scriptrules.intake import BadLines

SIZE, DEPTH = 1000, 5


def one(body: bytes) -> intake.Accepted:
    return intake.one(body, SIZE, DEPTH)


def nested(depth: int) -> object:
    return {} if depth == 1 else {"a": nested(depth - 1)}


def test_a_task_is_a_name_and_an_object_and_perhaps_a_key() -> None:
    assert one(b'{"name": "a.b-c_1", "data": {"x": 1, "y": [true, null, "\xc3\xa4"]}, "key": "k"}') == (
        "a.b-c_1", '{"x":1,"y":[true,null,"ä"]}'.encode(), "k",
    )  # fmt: skip
    assert one(b'{"name": "a"}') == ("a", b"{}", None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Send one JSON object"),
        (b"{", "Send one JSON object"),
        (b"[]", "A task is"),
        (b'{"data": {}}', "`name`"),
        (b'{"name": 5}', "`$.name`"),
        (b'{"name": "a", "data": [1]}', "`$.data`"),
        (b'{"name": "a", "date": {}}', "`date`"),
        (b'{"name": ""}', "is not the name of a task"),
        (b'{"name": "a..b"}', "Write segments"),
        (b'{"name": "a\\n"}', "Write segments"),
        (b'{"name": "a.*"}', "Write segments"),
        (b'{"name": "%s"}' % (b"a" * 201), "at most 200 characters"),
        (b'{"name": "a", "key": ""}', "1 to 200 characters"),
        (b'{"name": "a", "key": "%s"}' % (b"k" * 201), "1 to 200 characters"),
        (b'{"name": "a", "data": {"x": 9223372036854775808}}', "more than 64 bits"),
        (b'{"name": "a", "data": {"x": [{"y": -9223372036854775809}]}}', "more than 64 bits"),
        (b'{"name": "a", "data": {"x": NaN}}', "Send one JSON object"),
        (b'{"name": "a", "data": {"x": 1e999}}', "Number out of range"),
        (b'{"name": "a", "data": {"x": "\\ud800"}}', "Send one JSON object"),
        (b'{"name": "\xff"}', "not UTF-8"),
        (b'{"name": "a", "data": {"x": ' + b"[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_task_is_refused_with_what_to_send(body: bytes, says: str) -> None:
    with pytest.raises(BadTask) as caught:
        one(body)
    assert says in caught.value.message


def test_numbers_of_64_bits_are_kept_as_they_are() -> None:
    body = b'{"a":9223372036854775807,"b":-9223372036854775808,"c":0.1}'
    assert one(b'{"name":"a","data":' + body + b"}")[1] == body


def test_data_has_a_size_and_a_depth() -> None:
    fitting = b'{"name":"a","data":{"x":"' + b"x" * (SIZE - 8) + b'"}}'
    assert len(one(fitting)[1]) == SIZE
    with pytest.raises(TooLarge, match=r"is 1001 bytes; at most 1000 .* payload_max"):
        one(fitting.replace(b"xx", b"xxx", 1))
    assert one(json.dumps({"name": "a", "data": nested(DEPTH)}).encode())
    with pytest.raises(BadTask, match="depth_max"):
        one(json.dumps({"name": "a", "data": nested(DEPTH + 1)}).encode())
    assert one(b'{"name":"a","data":{"x":"[[[[[[[[[["}}')  # brackets in text are no depth


def test_many_tasks_come_as_lines_of_which_empty_ones_do_not_count() -> None:
    body = b'{"name":"a"}\n\n  \r\n{"name":"b","key":"k"}\n'
    assert intake.lines(body, SIZE, DEPTH) == [("a", b"{}", None), ("b", b"{}", "k")]
    assert intake.lines(b"", SIZE, DEPTH) == []
    assert intake.lines(b'{"name":"a"}', SIZE, DEPTH) == [("a", b"{}", None)]


def test_bad_lines_are_named_by_their_numbers_and_the_first_three_are_explained() -> None:
    body = b'{"name":"a"}\n{"name":""}\n\nrubbish\n{"name":"b"}\n{"nome":1}\n[]\n'
    with pytest.raises(BadLines) as caught:
        intake.lines(body, SIZE, DEPTH)
    assert [number for number, _ in caught.value.problems] == [2, 4, 6, 7]
    assert caught.value.message.startswith("line 2: '' is not the name of a task.")
    assert "(and 1 more). Nothing was stored" in caught.value.message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([1], "is a JSON object"),
        ({"x": {1, 2}, "y": object()}, "cannot be kept as JSON"),
        ({"x": "\udc80"}, "cannot be kept as JSON"),
        ({"x": 2**64}, ""),
        ({"x": 2**63}, "more than 64 bits"),
        ({"x": nested(DEPTH)}, "nested too deep"),
    ],
)
def test_data_that_was_no_text_before_is_checked_as_well(data: object, says: str) -> None:
    with pytest.raises(BadTask) as caught:
        intake.check("a", data, None, SIZE, DEPTH)
    assert says in caught.value.message


def test_a_key_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(BadTask):
        intake.check("a", {}, "\udc80", SIZE, DEPTH)


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_no_body_raises_anything_but_what_is_meant(body: bytes) -> None:
    for read in (intake.one, intake.lines):
        with contextlib.suppress(BadTask):
            read(body, SIZE, DEPTH)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_data_comes_through_unchanged(data: dict[str, object]) -> None:
    body = json.dumps({"name": "a", "data": data}).encode()
    assert json.loads(intake.one(body, 10**6, 64)[1]) == data
