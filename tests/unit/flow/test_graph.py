"""The facts of all rules as one graph, and what it shows to be wrong."""

from __future__ import annotations

from inspect import signature

import pytest

from scriptrules.flow.drawing import dot, mermaid
from scriptrules.flow.facts import analyse
from scriptrules.flow.findings import World, findings
from scriptrules.flow.graph import Graph, around, following, graph, meets
from scriptrules.flow.interpreter.injected import RUN_PARAMETERS
from scriptrules.flow.online import joined
from scriptrules.flow.shapes import Facts
from scriptrules.plugins.manager import Plugins
from scriptrules.rulebook.files import make_source
from scriptrules.sandbox import intrinsics

FUNCTIONS = {name: function.spec for name, function in Plugins(None).functions.items()}
HOSTS = World({"local": "process", "locust": "docker"}, {"process": frozenset({"stdin", "memory_mb"})})


def files(**texts: str) -> dict[str, Facts]:
    return {name: analyse(make_source(name, f"rules/{name}.py", text, {}), FUNCTIONS) for name, text in texts.items()}


def whole(**texts: str) -> Graph:
    rules = [facts for file in files(**texts).values() for facts in file.rules]
    return graph(rules, joined([(facts, "") for facts in rules], []))


def rule(on: str, body: str, head: str = "") -> str:
    return f'on = "{on}"\n{head}\ndef main(task, x):\n    {body}\n'


def told(world: World = HOSTS, **texts: str) -> list[tuple[str, str, int]]:
    return [(file, one.code, one.line) for file, ones in findings(files(**texts), world).items() for one in ones]


CHAIN = {
    "a": rule("a", "emit('b')"),
    "b": rule("b.**", "emit(f'c.{x}')"),
    "c": rule("c.*", "call('d')"),
    "d": rule("d", "return 1"),
}


def test_tasks_reach_the_rules_whose_patterns_they_fit() -> None:
    found = whole(**CHAIN)
    assert {(match.task, match.rule) for match in found.matches} >= {("a", "a"), ("b", "b"), ("c.*", "c"), ("d", "d")}
    assert {(node.id, node.kind) for node in found.nodes} >= {("a", "rule"), ("b", "task"), ("c.*", "pattern")}
    assert [edge.returns for edge in found.edges] == [[], [], ["d"]]


def test_behind_a_rule_for_every_task_a_slip_of_the_pen_is_told_and_nothing_else() -> None:
    texts = {
        "audit": 'on = "**"\ndef main(task):\n    log(task.name)\n',
        "a": rule("a", "emit('order.checkd'); emit('other.end')"),
        "b": rule("order.checked", "return 1"),
    }
    assert sorted(told(**texts)) == [("a", "SR501", 4), ("b", "SR502", 3)]


def test_a_task_reaches_no_rule_whose_filter_is_for_others() -> None:
    texts = {
        "pay": rule("pay.begun", "emit('pay.done' if x else 'pay.failed')"),
        "again": rule("pay.*", "emit('pay.begun')", 'when = lambda task: task.name == "pay.failed"'),
    }
    reached = {(match.task, match.rule) for match in whole(**texts).matches}
    assert ("pay.failed", "again") in reached
    assert not {("pay.begun", "again"), ("pay.done", "again")} & reached
    assert sorted(told(**texts)) == [("again", "SR503", 4), ("pay", "SR501", 4)]


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [("a.*", "a.b", True), ("a.*", "a.b.c", False), ("a.**", "a", True), ("a.*", "*.b", True), ("a.*", "b.*", False),
     ("x", "*", True), ("report.ready", "report.*", True), ("report.ready", "*.x", False), ("a.*.c", "a.*.d", False),
     ("a.*", "a*bc*d", True), ("abc", "ab*bc", False)],
)  # fmt: skip
def test_a_pattern_fits_an_unknown_name_where_some_name_is_both(pattern: str, name: str, fits: bool) -> None:
    assert meets(pattern, name) is fits


def test_a_fallback_is_reached_only_by_what_other_rules_may_leave() -> None:
    fallback = "nomatch = True\ndef main(task):\n    pass\n"
    found = whole(
        a=rule("a", "emit('b')"), b=rule("b", "pass"), c=rule("c", "pass", "when = lambda t: t['x']"), z=fallback
    )
    reached = {match.task for match in found.matches if match.rule == "z"}
    assert reached == {"c"}


def test_a_part_is_about_one_rule_or_task_or_what_follows_from_one() -> None:
    found = whole(**CHAIN, e=rule("e", "emit('f')"))
    assert {edge.rule for edge in around(found, "b").edges} == {"a", "b"}
    assert {edge.rule for edge in around(found, "c.x").edges} == {"b"}
    assert {edge.rule for edge in following(found, "b").edges} == {"b", "c"}
    assert "e" not in {node.id for node in following(found, "a").nodes}


def test_in_a_drawing_a_rule_and_the_task_of_its_name_are_two_things() -> None:
    found = whole(approval=rule("approval", "emit('approval.sent')"))
    drawn = mermaid(found).splitlines()
    assert sum('"approval"' in line for line in drawn) == 2
    assert "  n2 --> n0" in drawn
    assert "  n0 ==> n1" in drawn
    assert "  n2 -> n0;" in dot(found).splitlines()


@pytest.mark.parametrize("name", ["%%{init: {}}%%", "`a`", "a\nb", 'a"]', "a#35;", "<b>", "end"])
def test_a_drawing_has_a_line_for_each_thing_whatever_it_is_called(name: str) -> None:
    plain, found = whole(a=rule("a", "emit('b')")), whole(**{name: rule("a", "emit('b')")})
    assert len(mermaid(found).splitlines()) == len(mermaid(plain).splitlines())
    assert len(dot(found).splitlines()) == len(dot(plain).splitlines())
    assert not set("%`<>") & set("".join(line.split('"')[1] for line in mermaid(found).splitlines() if '"' in line))


def test_drawings_quote_whatever_a_condition_says() -> None:
    found = whole(a=rule("a", """emit('b' if x == '"]-->' else 'c')"""))
    assert "#34;#93;--#62;" in mermaid(found)
    assert '\\"]-->' in dot(found)
    assert all(line.count('"') % 2 == 0 for line in mermaid(found).splitlines())


# ---- findings


def test_rules_in_order_have_no_findings() -> None:
    assert told(a=rule("a", "emit('b')"), b=rule("b", "run('local', 'n', 'i', stdin='x')")) == []


@pytest.mark.parametrize(
    ("code", "texts"),
    [
        ("SR501", {"a": rule("a", "emit('nobody')")}),
        ("SR502", {"a": rule("a", "emit('order.payd')"), "b": rule("order.paid", "pass")}),
        ("SR503", {"a": rule("a", "emit('b')"), "b": rule("b", "emit('a')")}),
        ("SR503", {"a": rule("a", "if x:\n        emit('a')")}),
        ("SR503", {"a": rule("a", "emit('a')\n    sleep(9)")}),
        ("SR503", {"a": rule("a", "if x:\n        sleep(9)\n    emit('a')")}),
        ("SR503", {"a": rule("a", "call('b')"), "b": rule("b", "return call('a')")}),
        ("SR503", {"a": rule("a", "sleep(9) if x else emit('a')")}),
        ("SR504", {"a": "def main(task):\n    emit('b')\n", "b": rule("b", "pass")}),
        ("SR505", {"a": rule("a", "call('b')"), "b": rule("*", "pass")}),
        ("SR506", {"a": rule("a", "call('b')"), "b": rule("b", "pass"), "c": rule("b", "pass")}),
        ("SR507", {"a": "on = 'a'\ndef f(x):\n    return f(x[0])\ndef main(x):\n    f(x)\n"}),
        ("SR508", {"a": rule("a", "run('locl', 'n', 'i')")}),
        ("SR509", {"a": rule("a", "run('local', 'n', 'i', memroy_mb=3)")}),
        ("SR510", {"a": rule("a", "fail('no')\n    log('never')")}),
        ("SR510", {"a": rule("a", "while True:\n        sleep(1)\n    log('never')")}),
    ],
)  # fmt: skip
def test_each_code_is_told_at_its_line(code: str, texts: dict[str, str]) -> None:
    found = [one for one in told(**texts) if one[1] == code]
    assert len(found) == 1
    assert found[0][2] > 1
    line = texts[found[0][0]].splitlines()[found[0][2] - 1]
    ignored = texts[found[0][0]].replace(line, f"{line}  # scriptrules: ignore[{code}]", 1)
    assert code not in {one[1] for one in told(**{**texts, found[0][0]: ignored})}


@pytest.mark.parametrize(
    "texts",
    [
        {"a": rule("a", "emit('greeted')"), "b": rule("greet", "pass"), "c": rule("greeted", "pass")},  # an entry
        {"a": rule("a", "sleep(9)\n    emit('b')"), "b": rule("b", "emit('a')")},
        {"a": rule("a", "if x:\n        sleep(9)\n    else:\n        sleep(8)\n    emit('a')")},
        {"a": rule("a", "try:\n        wait('j')\n    except ExecutionFailed:\n        pass\n    emit('a')")},
        {"a": rule("a", "while True:\n        receive('b')\n        emit('a')"), "b": rule("b", "pass")},
        {"a": rule("a", "def late():\n        sleep(9)\n    late()\n    return Task('a')")},
        {"a": rule("a", "return Job(type='Process', body={'host': 'local', 'name': 'n', 'image': 'i'}, then='a')")},
        {"a": rule("a", "emit('b')"), "b": rule("b", "emit('a')", "enabled = False"), "c": rule("b", "pass")},
        {"a": rule("a", "emit('b')"), "b": rule("c", "receive('b')")},
        {"a": rule("a", "run(x, 'n', 'i')")},
        {"a": rule("a", "call('b')"), "b": rule("b", "pass", "priority = 1"), "c": rule("b", "pass")},
        {"a": rule("a", "return 1 if x else fail('no')")},
    ],
)  # fmt: skip
def test_what_may_be_meant_is_not_told(texts: dict[str, str]) -> None:
    assert told(**texts) == []


def test_a_field_that_no_task_ever_had_is_told_where_tasks_are_known() -> None:
    text = rule("upload", "pass", 'when = lambda task: task["sise"] > 0')
    assert told(a=text) == []
    known = World(fields={"upload": frozenset({"size"})})
    (problem,) = findings(files(a=text), known)["a"]
    assert (problem.code, problem.line) == ("SR511", 2)
    assert "did you mean 'size'?" in problem.message


def test_what_run_itself_takes_is_no_option_of_a_host() -> None:
    assert signature(intrinsics.run).parameters.keys() - {"options"} == RUN_PARAMETERS
