from __future__ import annotations

import pytest

from scriptrules.errors import InvalidRequest
from scriptrules.executors._output import (
    OUTPUT_DEPTH_MAX,
    OUTPUT_FILE_MAX,
    OUTPUT_TAIL,
    check_options,
    file_output,
    last_line_output,
    tail_text,
)


@pytest.mark.parametrize(
    ("stdout", "output"),
    [
        (b"", None),
        (b"\n \n\n", None),
        (b"done", None),
        (b'{"rows": 3}', {"rows": 3}),
        (b'starting\nworking\n{"rows": 3}\n', {"rows": 3}),
        (b'{"rows": 3}\r\n\r\n  \n', {"rows": 3}),
        (b'{"rows": 3}\nbye\n', None),
        (b"[1,\n2]", None),
        (b"7", 7),
        (b"  null", None),
        (b'"\xff"', None),
        (b"NaN", None),
        (b"[1e999]", None),
        (b'"\\ud800"', None),
        (b"9223372036854775807", 2**63 - 1),
        (b"9223372036854775808", None),
        (b'{"a": [18446744073709551615]}', None),
    ],
)
def test_the_output_is_the_json_of_the_last_non_empty_line(stdout: bytes, output: object) -> None:
    assert last_line_output(stdout) == output


def test_a_line_whose_beginning_is_missing_is_not_taken_for_a_number() -> None:
    assert last_line_output(b"345", cut=True) is None
    assert last_line_output(b"1\n345", cut=True) == 345


def test_output_is_bounded_in_size_and_depth() -> None:
    text = b'"' + b"x" * (OUTPUT_FILE_MAX - 2) + b'"'
    assert last_line_output(text) is not None
    assert last_line_output(b" " + text[:-1] + b'y"') is None
    deep = OUTPUT_DEPTH_MAX
    assert last_line_output(b"[" * deep + b"1" + b"]" * deep) is not None
    assert last_line_output(b"[" * (deep + 1) + b"1" + b"]" * (deep + 1)) is None
    assert last_line_output(b"[" * 100_000 + b"]" * 100_000) is None


def test_a_file_that_is_no_json_says_what_is_wrong_with_it() -> None:
    assert file_output(b'{"rows": 3}\n') == ({"rows": 3}, None)
    for data, words in (
        (b"{rows: 3}", "no JSON"),
        (b"\xff", "no JSON"),
        (b" " * (OUTPUT_FILE_MAX + 1), "larger"),
        (b"[" * 70 + b"]" * 70, "deeper"),
        (b"[" * 100_000 + b"]" * 100_000, "deeper"),
        (b"[18446744073709551615]", "64 bits"),
    ):
        value, problem = file_output(data)
        assert value is None
        assert problem is not None
        assert words in problem


def test_the_tail_is_the_last_64_kb_and_never_fails() -> None:
    assert tail_text(b"short") == "short"
    assert tail_text(b"a" + b"b" * OUTPUT_TAIL) == "b" * OUTPUT_TAIL
    assert tail_text(b"\xff\xfe") == "\ufffd\ufffd"
    assert "\ufffd" not in tail_text("€".encode() * OUTPUT_TAIL)
    assert len(tail_text(b"\x80" * (2 * OUTPUT_TAIL))) <= OUTPUT_TAIL


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match=r"memry_mb.*did you mean 'memory_mb'"):
        check_options({"memry_mb": 3}, {"memory_mb": int, "stdin": str})
    with pytest.raises(InvalidRequest, match="It takes: none"):
        check_options({"x": 3}, {})


@pytest.mark.parametrize(
    ("value", "types"), [("3", int), (True, int), (3.5, int), (3, str), (None, (int, float)), ([1], dict)]
)
def test_an_option_of_another_type_is_refused(value: object, types: type | tuple[type, ...]) -> None:
    with pytest.raises(InvalidRequest, match="has to be"):
        check_options({"cpus": value}, {"cpus": types})


def test_options_of_the_right_type_pass() -> None:
    check_options({"cpus": 2, "mounts": [], "tty": True}, {"cpus": float, "mounts": list, "tty": bool})
