"""Values of secrets are found however they were escaped, cut or spread over chunks."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import structlog

from scriptrules import redaction
from scriptrules.plugins.executor import LogChunk
from scriptrules.redaction import REMOVED, VALUES_MAX, Redactor, redact_event
from scriptrules.supervisor.redacted import redacted_chunks

VALUE = "zk-71'q\"b\\s/€😀 $x"


@pytest.fixture
def redactor() -> Redactor:
    known = Redactor()
    known.learn(VALUE)
    return known


@pytest.mark.parametrize(
    "written",
    [
        VALUE,
        repr(VALUE),
        repr([{"a": VALUE}]),
        repr(ValueError(repr({"a": VALUE}))),
        json.dumps(VALUE),
        json.dumps(VALUE, ensure_ascii=False),
        json.dumps(json.dumps([VALUE])),
        quote(VALUE),
        quote(VALUE, safe=""),
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode(),
        VALUE.replace("$", "\\$").replace('"', '\\"'),
    ],
)
def test_a_value_is_found_however_it_is_written(redactor: Redactor, written: str) -> None:
    found = redactor.text(f"before {written} after")
    assert REMOVED in found
    assert "71" not in found
    assert found.startswith("before ")
    assert found.endswith(" after")


def test_each_line_of_a_value_is_found_by_itself(redactor: Redactor) -> None:
    redactor.learn("-----BEGIN-----\nabcdefgh\nshort\n-----END-----\n")
    assert redactor.text("a abcdefgh b\nshort\n-----END-----") == "a [secret] b\nshort\n[secret]"


def test_a_value_inside_of_values_is_found_at_every_level(redactor: Redactor) -> None:
    value = {"a": [VALUE, 3, None, {VALUE: (VALUE, True)}]}
    assert redactor.value(value) == {"a": [REMOVED, 3, None, {REMOVED: [REMOVED, True]}]}


def test_short_values_are_left_alone(redactor: Redactor) -> None:
    redactor.learn("abc")
    assert redactor.text("abc abcdef") == "abc abcdef"


def test_the_end_of_a_text_may_begin_amid_a_value() -> None:
    known = Redactor()
    known.learn("0123456789")
    assert known.tail("456789 is the rest") == f"{REMOVED} is the rest"
    assert known.tail("89 is too little") == "89 is too little"


def test_of_many_values_the_newest_are_known() -> None:
    known = Redactor()
    for number in range(VALUES_MAX + 1):
        known.learn(f"value-{number:06}")
    assert known.text(f"value-000000 value-{VALUES_MAX:06}") == f"value-000000 {REMOVED}"


def test_a_value_that_spans_chunks_is_found(monkeypatch: pytest.MonkeyPatch, redactor: Redactor) -> None:
    monkeypatch.setattr("scriptrules.supervisor.redacted.KNOWN", redactor)
    text = f"one {VALUE} two {VALUE[:5]}"

    async def pieces(size: int) -> AsyncIterator[LogChunk]:
        for at in range(0, len(text), size):
            yield LogChunk("stdout", text[at : at + size])
            yield LogChunk("stderr", "-")

    async def gather(size: int) -> dict[str, str]:
        found = {"stdout": "", "stderr": ""}
        async for chunk in redacted_chunks(pieces(size)):
            found[chunk.stream] += chunk.text
        return found

    for size in range(1, len(text) + 1):
        assert asyncio.run(gather(size))["stdout"] == f"one {REMOVED} two {VALUE[:5]}"


def test_log_lines_and_tracebacks_are_redacted(monkeypatch: pytest.MonkeyPatch, redactor: Redactor) -> None:
    monkeypatch.setattr(redaction, "KNOWN", redactor)
    try:
        raise ValueError(f"cannot use {VALUE}")
    except ValueError as error:
        event = {"event": "failed", "problem": repr(error), "error": error, "deep": [{"x": VALUE}], "exc_info": True}
        event = dict(structlog.processors.format_exc_info(None, "", event))
    found = redact_event(None, "", event)
    assert "71" not in str(found)
    assert found["event"] == "failed"
