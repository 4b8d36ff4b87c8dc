"""Names that nothing defines, calls that cannot work, waits in vain, missing libraries; and what is no finding."""

from __future__ import annotations

import ast

import pytest

from scriptrules.diagnostics import CODES, Diagnostic
from scriptrules.function import function
from scriptrules.rulebook import names
from scriptrules.rulebook.ignores import apply
from scriptrules.sandbox.builtins import make_builtins
from scriptrules.sandbox.intrinsics import INTRINSICS, injected


@function
async def notify(channel: str, text: str = "", *, urgent: bool = False, key: str = "") -> dict:
    """A function of a plugin."""
    return {}


SPECS = [*(one.spec for one in INTRINSICS.values()), notify.spec]
WORDS = names.Words(frozenset(make_builtins()) | frozenset(injected(SPECS)), {spec.name: spec for spec in SPECS})


def found(text: str, /, **libraries: str) -> list[Diagnostic]:
    trees = {name: ast.parse(library) for name, library in libraries.items()}
    return names.read(ast.parse(text), WORDS, trees)


def codes(text: str, /, **libraries: str) -> list[tuple[str, int]]:
    return [(problem.code, problem.line) for problem in found(text, **libraries)]


# ---- SR401


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def main(size):\n    return sise", "sise"),
        ("def main():\n    total = 1\n    return helper()\ndef helper():\n    return total", "total"),
        ("def main(rows):\n    [row for row in rows]\n    return row", "row"),
        ("def main(n=size):\n    pass", "size"),
        ("when = lambda task: task['a'] > limit\ndef main(): pass", "limit"),
        ("rules = [('a', lambda x: True, lambda x: [{'id': y}])]", "y"),
        ("def main():\n    count += 1", "count"),
        ("def main(rows):\n    return [b for a in b for b in rows]", "b"),
        ("def main(text):\n    return f'{txet:>{width}}'", "txet"),
        ("def main(task):\n    match task:\n        case {'a': x}:\n            return y", "y"),
        ("@cached\ndef main(): pass", "cached"),
    ],
)
def test_a_name_that_nothing_defines_is_reported_where_it_is_read(text: str, name: str) -> None:
    problem = found(text)[0]
    assert (problem.code, problem.message.partition(" ")[0]) == ("SR401", f"`{name}`")
    assert text.split("\n")[problem.line - 1][problem.column : problem.end_column] == name


@pytest.mark.parametrize(
    "text",
    [
        "def main(a, /, b, *c, d, **e):\n    return a, b, c, d, e",
        "def main():\n    return helper()\ndef helper():\n    return LATER\nLATER = 1",
        "def main(rows):\n    return [(a, b) for a, (b, *_) in rows if a], {k: v for k, v in rows}, {x for x in rows}",
        "def main(rows):\n    found = [last := row for row in rows]\n    return last, found",
        "def main(rows):\n    return [c for b in rows for c in b]",
        "import math, urllib.parse\nfrom datetime import timedelta as delta\n"
        "def main():\n    return math.pi, urllib.parse.quote('a'), delta(1)",
        "def main():\n    try:\n        pass\n    except ExecutionFailed as error:\n        return error, Task('a')",
        "def main(v):\n    match v:\n        case [a, *b] | {'x': a, **b}:\n            return a, b\n"
        "        case str() as c:\n            return c",
        "def main():\n    n = 0\n    def inner():\n        nonlocal n\n        n += 1\n    inner()\n    return n",
        "def main(size: Number) -> Nothing:\n    x: Whole = size\n    return x",
        "if True:\n    A = 1\nfor B in [1]:\n    pass\ndef main():\n    return A, B, notify('ops')",
    ],
)
def test_a_name_that_something_defines_is_no_finding(text: str) -> None:
    assert found(text) == []


def test_the_nearest_name_is_told_be_it_a_variable_a_builtin_or_a_function_of_a_plugin() -> None:
    text = "def main(amount):\n    return amont, srted([]), notfy('a')"
    assert [problem.message.partition("did you mean ")[2] for problem in found(text)] == [
        "'amount'?", "'sorted'?", "'notify'?",
    ]  # fmt: skip


# ---- SR402


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("run('local', 'a')", "run() is called without `image`."),
        ("run()", "without `host` and `name` and `image`."),
        ("run('l', 'a', 'b', [], 5)", "run() takes at most 4 arguments by position, not 5."),
        ("run('l', 'a', 'b', name='c')", "run() is given `name` twice"),
        ("emit(name='a')", "emit() is called without `name`."),
        ("sleep(second=1)", "sleep() has no parameter `second`, did you mean 'seconds'?"),
        ("notify('a', 'b', True)", "notify() takes at most 2 arguments by position, not 3."),
        ("notify('a', urgend=True)", "notify() has no parameter `urgend`, did you mean 'urgent'?"),
        ("notify('a', key='b')", "notify() has no parameter `key`"),
        ("now(1)", "now() takes at most 0 arguments by position, not 1."),
    ],
)
def test_a_call_that_the_declaration_does_not_allow_is_reported(call: str, says: str) -> None:
    (problem,) = found(f"def main():\n    {call}")
    assert problem.code == "SR402"
    assert says in problem.message
    assert f"declared as {call.partition('(')[0]}(" in problem.hint


@pytest.mark.parametrize(
    "body",
    [
        "run('l', 'a', 'b', ['c'], env={}, cpus=2)",
        "run(*a)",
        "run('l', **a)",
        "emit('a', name='b')",
        "wait()",
        "notify(channel='a', text='b', urgent=True)",
        "run = a\n    run(1)",
        "[notify() for notify in a]",
    ],
)
def test_a_call_that_may_be_right_is_no_finding(body: str) -> None:
    assert found(f"def main(a):\n    {body}") == []


# ---- SR403


def test_a_wait_for_an_execution_that_is_never_started_is_reported_with_the_nearest() -> None:
    (problem,) = found(
        "def main():\n    run('l', 'report', 'i')\n    run('l', name='sort', image='i')\n    wait('raport')"
    )
    assert (problem.code, problem.line) == ("SR403", 4)
    assert "did you mean 'report'?" in problem.message
    assert problem.hint == 'run() starts "report", "sort".'
    assert codes("def main():\n    wait('a')") == [("SR403", 2)]


@pytest.mark.parametrize(
    "start",
    ["run('l', name, 'i')", "run('l', f'b{name}', 'i')", "run(*name, 'b')", "run('l', **name)", "name(run)"],
)
def test_a_wait_is_not_judged_where_some_name_is_no_literal(start: str) -> None:
    assert found(f"def main(name):\n    {start}\n    wait('a', '', timeout=3)") == []


def test_a_library_may_have_started_what_the_rule_waits_for() -> None:
    rule = "from lib.jobs import start\ndef main():\n    start('a')\n    wait('a')"
    assert codes(rule, jobs="def start(name):\n    run('l', 'a', 'i')") == []
    assert codes(rule, jobs="def start(name):\n    run('l', name, 'i')") == []
    assert codes(rule, jobs="def start(name):\n    run('l', 'b', 'i')") == [("SR403", 4)]


# ---- SR404


def test_a_library_or_a_name_in_it_that_does_not_exist_is_reported() -> None:
    rule = "from lib.txt import plural\nfrom lib.text import plurl, table as t\nfrom lib import text, other\n"
    library = "import math\ndef plural(): pass\ndef table(): pass\n"
    problems = found(rule + "def main(): pass", text=library)
    assert [(problem.code, problem.line) for problem in problems] == [("SR404", 1), ("SR404", 2), ("SR404", 3)]
    assert [problem.message for problem in problems] == [
        "There is no rules/lib/txt.py.",
        "rules/lib/text.py defines no `plurl`, did you mean 'plural'?",
        "There is no rules/lib/other.py.",
    ]


def test_nothing_is_said_of_the_names_of_a_library_that_is_refused() -> None:
    tree = ast.parse("from lib.bad import anything\ndef main():\n    return anything, wait('a')")
    assert names.read(tree, WORDS, {"bad": None}) == []


# ---- ignoring


def at(code: str, line: int) -> Diagnostic:
    return Diagnostic(code, "…", line, 0)


def left(text: str, *problems: Diagnostic, complete: bool = True) -> list[tuple[str, int]]:
    return [(problem.code, problem.line) for problem in apply(text, list(problems), complete)]


def test_a_comment_at_the_end_of_a_line_ignores_the_codes_that_it_names_there() -> None:
    text = "a = b  # scriptrules: ignore[SR401]\na = b\nrun(c)  # noqa  # scriptrules: ignore[SR401, SR402] because\n"
    assert left(text, at("SR401", 1), at("SR401", 2), at("SR401", 3), at("SR402", 3)) == [("SR401", 2)]


def test_a_comment_below_a_text_of_several_lines_or_a_backslash_concerns_all_of_them() -> None:
    for text in (
        'a = f"""{b}\n\n"""  # scriptrules: ignore[SR401]\n',
        'a = """\n"""; c = """\n"""  # scriptrules: ignore[SR401]\n',
        "a = b + \\\n    1  # scriptrules: ignore[SR401]\n",
    ):
        assert left(text, at("SR401", 1)) == []
    assert left("a = (b,\n c)  # scriptrules: ignore[SR401]\n", at("SR401", 1), at("SR401", 2)) == [("SR401", 1)]


@pytest.mark.parametrize(
    ("comment", "code"),
    [
        ("ignore[SR401]", "SR405"),
        ("ignore", "SR405"),
        ("ignore[]", "SR405"),
        ("ignore[SR999]", "SR405"),
        ("ignore[sr401]", "SR405"),
        ("ignore[SR110]", "SR406"),
        ("ignore[SR301]", "SR406"),
        ("ignore[SR405]", "SR406"),
    ],
)
def test_a_comment_that_ignores_nothing_or_what_cannot_be_ignored_is_itself_reported(comment: str, code: str) -> None:
    (problem,) = apply(f"ä = 'ä'  # scriptrules: {comment}\n", [])
    assert (problem.code, problem.line) == (code, 1)
    assert problem.column == len("ä = 'ä'  ".encode())


def test_what_the_sandbox_refuses_stays_refused_whatever_a_comment_says() -> None:
    for code in sorted(code for code, info in CODES.items() if not info.ignorable):
        assert left(f"x  # scriptrules: ignore[{code}]\n", at(code, 1)) == [(code, 1), ("SR406", 1)]
    ignorable = {"SR302", "SR401", "SR402", "SR403", "SR404", "SR407", "SR408"} | {
        code for code in CODES if code.startswith("SR5")
    }
    assert {code for code, info in CODES.items() if info.ignorable} == ignorable


def test_an_ignore_is_not_called_vain_where_the_file_was_not_looked_at_as_a_whole() -> None:
    text = "class A: pass\nx = y  # scriptrules: ignore[SR401]\n"
    assert left(text, at("SR105", 1), complete=False) == [("SR105", 1)]


def test_text_that_looks_like_a_comment_is_none_and_findings_in_libraries_stay() -> None:
    assert left('a = "# scriptrules: ignore[SR401]"\n', at("SR401", 1)) == [("SR401", 1)]
    library = Diagnostic("SR401", "…", 1, 0, file="rules/lib/a.py")
    assert left("a  # scriptrules: ignore[SR401]\n", library) == [("SR401", 1), ("SR405", 1)]


def test_a_text_that_is_no_python_is_read_as_far_as_it_goes() -> None:
    assert left("a  # scriptrules: ignore[SR101]\ndef (:\n  ]'''", at("SR101", 2)) == [("SR101", 2), ("SR406", 1)]
