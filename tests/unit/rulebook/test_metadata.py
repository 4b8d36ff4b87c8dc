"""What a rule says about itself, and each diagnostic SR3xx with the line it is shown at."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from scriptrules.diagnostics import CODES, Diagnostic
from scriptrules.rulebook import metadata
from scriptrules.rulebook.metadata import Metadata, Parameter, TableEntry

MAIN = "def main(**kwargs): pass\n"


def read(text: str) -> tuple[Metadata, list[Diagnostic]]:
    return metadata.read(ast.parse(text), text)


def facts_of(text: str) -> Metadata:
    facts, problems = read(text)
    assert problems == []
    return facts


def test_a_rule_that_says_nothing_matches_everything() -> None:
    facts = facts_of("def main(): pass")
    assert facts == Metadata(on=["**"], line=1)
    assert (facts.nomatch, facts.priority, facts.final, facts.enabled, facts.rest) == (False, 0, False, True, False)


def test_everything_that_a_rule_says_is_read() -> None:
    facts = facts_of(
        '"""What it does."""\non = ["a.*", "b"]\npriority = -3\nfinal = True\nnomatch = True\nenabled = False\n'
        'when = lambda task: task["size"] > 0\ndef main(size, unit="B", *, depth, flat=None, **rest): pass\n'
    )
    assert facts == Metadata(
        doc="What it does.",
        on=["a.*", "b"],
        nomatch=True,
        priority=-3,
        final=True,
        enabled=False,
        when='task["size"] > 0',
        parameters=[
            Parameter("size", True),
            Parameter("unit", False),
            Parameter("depth", True),
            Parameter("flat", False),
        ],
        rest=True,
        line=8,
    )


@pytest.mark.parametrize("text", ['on = "a.b"', 'on: str = "a.b"', 'on = ("a.b",)', 'on = ["a.b"]'])
def test_on_is_a_pattern_or_a_list_of_them(text: str) -> None:
    assert facts_of(text + "\n" + MAIN).on == ["a.b"]


def test_when_may_be_a_function() -> None:
    facts = facts_of("def when(task):\n    return True\n" + MAIN)
    assert facts.when == "def when(task):\n    return True"


def test_a_table_is_read_without_being_run() -> None:
    facts = facts_of(
        'on = "x"\nrules = [("a", lambda x: True, lambda x: []), ("b", f, g)]\n'
        'nomatch = [("c", lambda x: True, lambda x: [{"id": x["id"]}])]\n'
    )
    assert facts.table == [TableEntry("a", 0, False), TableEntry("b", 1, False), TableEntry("c", 0, True)]
    assert (facts.line, facts.nomatch) == (2, False)
    assert facts_of('nomatch = [("c", f, g)]').table == [TableEntry("c", 0, True)]


@pytest.mark.parametrize(
    "text",
    ["LIMIT = 5", "rates = {'a': 1}\ny = rates['a']", "helper = len", "_x = 1\nz = _x"],
)
def test_constants_of_ones_own_are_no_metadata(text: str) -> None:
    assert [
        one.code for one in read(text + "\n" + MAIN)[1] if "`y`" not in one.message and "`z`" not in one.message
    ] == []


PROBLEMS: list[tuple[str, str, int, str]] = [
    ("SR301", 'on = "a"', 1, "The rule has no `main`."),
    ("SR302", 'o = "a"\n' + MAIN, 1, "unknown metadata `o`"),
    ("SR302", MAIN + "priorty = 3", 2, "did you mean 'priority'?"),
    ("SR302", MAIN + "retrys = -3", 2, "did you mean 'retries'?"),
    ("SR303", "priority = 1 + x\n" + MAIN, 1, "`priority` is not a literal."),
    ("SR303", 'on = f"a.{x}"\n' + MAIN, 1, "`on` is not a literal."),
    ("SR303", MAIN + 'if True:\n    on = "a"', 3, "must not depend on anything"),
    ("SR303", MAIN + "for priority in (1, 2):\n    pass", 2, "must not depend on anything"),
    ("SR303", MAIN + 'on, x = "a", True', 2, "assigned together with others"),
    ("SR303", MAIN + 'on = "a"\non += "b"', 3, "assigned together with others"),
    ("SR304", "priority = True\n" + MAIN, 1, "`priority` is not a whole number."),
    ("SR304", "priority = 1.0\n" + MAIN, 1, "`priority` is not a whole number."),
    ("SR304", "final = 1\n" + MAIN, 1, "`final` is not True or False."),
    ("SR304", 'enabled = "no"\n' + MAIN, 1, "`enabled` is not True or False."),
    ("SR304", "nomatch = 1\n" + MAIN, 1, "`nomatch` is not True, False, or a table."),
    ("SR304", "on = 5\n" + MAIN, 1, "`on` is not a name"),
    ("SR304", "on = []\n" + MAIN, 1, "`on` is not a name"),
    ("SR304", 'on = ["a", 1]\n' + MAIN, 1, "`on` is not a name"),
    ("SR305", "def main(a, /): pass", 1, "positional-only"),
    ("SR305", "def main(*args): pass", 1, "positional-only"),
    ("SR306", "when = True\n" + MAIN, 1, "`when` is not a function."),
    ("SR306", "when = lambda: True\n" + MAIN, 1, "exactly one parameter"),
    ("SR306", "when = lambda task, x=1: True\n" + MAIN, 1, "exactly one parameter"),
    ("SR306", "when = lambda *tasks: True\n" + MAIN, 1, "exactly one parameter"),
    ("SR306", "def when(task, other): pass\n" + MAIN, 1, "exactly one parameter"),
    ("SR307", "rules = {}", 1, "`rules` is not a list."),
    ("SR307", "rules = []", 1, "`rules` is empty."),
    ("SR307", 'rules = [("a", f, g), ("b", f)]', 1, "entry 2 of `rules` is not (name, filter, generator)."),
    ("SR307", "rules = [(a, f, g)]", 1, "entry 1 of `rules`"),
    ("SR307", 'rules = [("a.*", f, g)]', 1, "'a.*' is not the name of a task."),
    ("SR307", 'rules = [("a", f, g),\n("a", f, g)]', 2, "two entries 'a'"),
    ("SR307", 'rules = [("a", f, g)]\nnomatch = [("a", f, g)]', 2, "two entries 'a'"),
    ("SR307", MAIN + 'rules = [("a", f, g)]', 1, "either `main` or a table"),
    ("SR308", 'on = "a..b"\n' + MAIN, 1, "'a..b' is not a pattern."),
    ("SR308", 'on = ["a", "up*"]\n' + MAIN, 1, "'up*' is not a pattern."),
    ("SR308", f'on = "{"a" * 201}"\n' + MAIN, 1, "is not a pattern."),
    *(("SR309", f"{name} = 3\n" + MAIN, 1, "not available in this version") for name in metadata.LATER),
    ("SR310", 'on = "a"\non = "b"\n' + MAIN, 2, "`on` is assigned twice."),
]


@pytest.mark.parametrize(("code", "text", "line", "says"), PROBLEMS)
def test_each_problem_is_named_with_its_line_and_what_to_write(code: str, text: str, line: int, says: str) -> None:
    problems = read(text)[1]
    found = [one for one in problems if one.code == code and says in one.message]
    assert [one.line for one in found] == [line], problems
    assert all(one.hint for one in problems)


def test_every_code_has_a_test_and_is_explained() -> None:
    written = set(re.findall(r"SR3\d\d", inspect.getsource(metadata))) - {"SR3xx"}
    assert written == {code for code, *_ in PROBLEMS}
    assert written <= set(CODES)


def test_several_problems_are_reported_together_in_the_order_of_lines() -> None:
    problems = read('priorty = 3\non = "a..b"\nfinal = 1\n')[1]
    assert [one.code for one in problems][-2:] == ["SR308", "SR304"]
    assert {one.code for one in problems} >= {"SR302", "SR308", "SR304"}
