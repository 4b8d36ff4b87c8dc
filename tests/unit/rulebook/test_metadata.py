"""What a rule says about itself, and each diagnostic SR3xx with the line it is shown at."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from scriptrules.diagnostics import CODES, Diagnostic
from scriptrules.model import Control, Limit, Retries
from scriptrules.rulebook import metadata
from scriptrules.rulebook.control import Schedule
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
    ("SR310", 'on = "a"\non = "b"\n' + MAIN, 2, "`on` is assigned twice."),
    ("SR311", "retries = -1\n" + MAIN, 1, "`retries` is not a number of attempts"),
    ("SR311", "retries = True\n" + MAIN, 1, "`retries` is not a number of attempts"),
    ("SR311", 'retries = {"backoff": 1}\n' + MAIN, 1, "`retries` has no `max`."),
    ("SR311", 'retries = {"max": 1, "back_off": 1}\n' + MAIN, 1, "unknown key 'back_off', did you mean 'backoff'?"),
    ("SR311", 'retries = {"max": 1, "jitter": 2}\n' + MAIN, 1, "`jitter` of `retries` is not a number from 0 to 1."),
    ("SR312", "timeout = 0\n" + MAIN, 1, "`timeout` is not a number of seconds above 0."),
    ("SR312", 'timeout = "1h"\n' + MAIN, 1, "`timeout` is not a number of seconds above 0."),
    ("SR313", "limit = 1\n" + MAIN, 1, "`limit` is not a dict."),
    ("SR313", 'limit = {"key": "a"}\n' + MAIN, 1, "`max` of `limit` is not a number"),
    ("SR313", 'limit = {"max": 0}\n' + MAIN, 1, "`max` of `limit` is not a number"),
    ("SR313", 'limit = {"max": 1, "key": 3}\n' + MAIN, 1, "`key` of `limit` is not the name of a field"),
    ("SR313", 'limit = {"max": 1, "full": "que"}\n' + MAIN, 1, "did you mean 'queue'?"),
    ("SR313", 'limit = {"max": 1, "ful": "queue"}\n' + MAIN, 1, "unknown key 'ful', did you mean 'full'?"),
    ("SR314", "schedule = 5\n" + MAIN, 1, "`schedule` is not a cron expression."),
    ("SR314", 'schedule = "0 2 * *"\n' + MAIN, 1, "is no cron expression"),
    ("SR314", 'schedule = "0 25 * * *"\n' + MAIN, 1, "is no cron expression"),
    ("SR314", 'schedule = "0 0 30 2 *"\n' + MAIN, 1, "'0 0 30 2 *' never fires: there is no such day."),
    ("SR314", 'schedule = {"cron": "0 2 * * *", "catch_up": "al"}\n' + MAIN, 1, "did you mean 'all'?"),
    ("SR314", 'schedule = {"cron": "0 2 * * *", "timezone": "UTC"}\n' + MAIN, 1, "no time zone of its own"),
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


def test_retries_timeout_and_limit_are_what_runs_keep_to() -> None:
    found, problems = read('retries = 2\ntimeout = 90\nlimit = {"max": 1, "key": "customer"}\n' + MAIN)
    assert problems == []
    assert found.control == Control(Retries(2), 90.0, Limit(1, "customer", "queue"))
    assert read(MAIN)[0].control is None
    assert read('retries = {"max": 1, "backoff": 2, "backoff_max": 8, "jitter": 0}\n' + MAIN)[0].retries == Retries(
        1, 2.0, 8.0, 0.0
    )


def test_a_schedule_alone_matches_its_own_tasks_only_and_on_adds_to_them() -> None:
    tree = ast.parse('schedule = "0 2 * * *"\n' + MAIN)
    assert metadata.read(tree, "", "billing/refund")[0].on == ["schedule.billing.refund"]
    text = 'on = "go"\nschedule = {"cron": "0 2 * * *", "catch_up": "all"}\n' + MAIN
    found = metadata.read(ast.parse(text), text, "nightly")[0]
    assert (found.on, found.schedule) == (["go", "schedule.nightly"], Schedule("0 2 * * *", "all"))


@pytest.mark.parametrize("rule", ["a.b", "größe", "x" * 200])
def test_a_scheduled_rule_has_a_name_that_its_tasks_can_have(rule: str) -> None:
    text = 'schedule = "0 2 * * *"\n' + MAIN
    (problem,) = metadata.read(ast.parse(text), text, rule)[1]
    assert (problem.code, problem.line) == ("SR314", 1)
    assert "no task can be named after" in problem.message
