"""The analysis is total, bounded, and knows what a rule excludes. What it finds in programs: tests/flow."""

from __future__ import annotations

import ast
import json
import random
import resource
import sys
import time
from pathlib import Path

import pytest

from scriptrules.flow.atoms import Atom, Branch, List, Unknown
from scriptrules.flow.facts import TOO_COMPLEX, analyse
from scriptrules.flow.shapes import Facts, RuleFacts, Start
from scriptrules.flow.values import EITHER
from scriptrules.plugins.manager import Plugins
from scriptrules.rulebook.files import make_source

FUNCTIONS = {name: function.spec for name, function in Plugins(None).functions.items()}


def facts(text: str, **libraries: str) -> Facts:
    return analyse(make_source("r", "rules/r.py", text, libraries), FUNCTIONS)


def rule(text: str, **libraries: str) -> RuleFacts:
    (found,) = facts(text, **libraries).rules
    return found


def names(text: str, **libraries: str) -> set[str]:
    return {edge.task for edge in rule(text, **libraries).edges}


# ---- total and bounded


@pytest.mark.parametrize("text", ["def main(:", "\0", "x" * 200_000, "(" * 5000, "\ud800"])
def test_what_is_no_python_has_no_rules(text: str) -> None:
    assert facts(text).rules == []


@pytest.mark.parametrize(
    "body",
    [
        "async def f(): await x",
        "class A: pass",
        "with open(x) as y: pass",
        "yield 1",
        "import os.path as p; p.join(1)",
        "global x",
        "x: int",
        "del a[0], b",
        "(a := 1); [*b] = c",
        "lambda: (yield)",
        "f'{x!r:>{w}}'",
        "a @ b",
        "~a",
        "a[1:2, ::3]",
        "print(*a, **b)",
        "[*a, *b]; {**a}; {*a}",
        "a = b = c",
        "a, (b, *c) = d",
        "assert x, y",
        "raise",
        "raise A from b",
        "for a in b: pass\n    else: c",
        "while a: break\n    else: c",
        "try: pass\n    finally: pass",
        "match a:\n        case [1, *_] | {'x': y, **z} if q: pass\n        case str() as t: pass",
    ],
)
def test_every_construct_has_facts(body: str) -> None:
    assert len(facts(f"def main(task, a=0, **k):\n    {body}\n    emit('after')\n").rules) == 1


def test_programs_that_were_written_for_other_ends_have_facts() -> None:
    files = [path for path in sorted(Path(ast.__file__).parent.glob("*.py")) if path.stat().st_size < 90_000]
    for path in random.Random(6).sample(files, 25):
        text = path.read_text("utf-8")
        assert facts(text).rules, path
        calls = "".join(
            f"    if task[{at}]:\n        {node.name}({', '.join('task' for _ in node.args.args)})\n"
            for at, node in enumerate(ast.parse(text).body)
            if isinstance(node, ast.FunctionDef) and node.name != "main"
        )
        made = rule(f"{text}\n\ndef main(task):\n{calls}    emit('end')\n")
        assert made.rule == "r"


def test_what_takes_too_long_may_generate_anything_in_any_way() -> None:
    deep = "".join(f"def f{at}(x):\n    f{at + 1}(x[0])\n    f{at + 1}(x[1])\n" for at in range(30))
    found = rule(f"{deep}def f30(x):\n    emit('end')\ndef main(x):\n    f0(x)\n")
    assert found.subsequents == Unknown(TOO_COMPLEX, "*")
    assert {(edge.task, str(edge.via)) for edge in found.edges} == {("*", "emit"), ("*", "call"), ("*", "return")}


def test_a_tower_of_calls_is_no_reason_to_fall() -> None:
    assert rule("def main(n):\n    f(n, 0)\ndef f(n, k):\n    f(n, [k])\n    emit('a')\n").edges is not None
    assert names("def f(n):\n    return f(n - 1) if n else emit('end')\ndef main():\n    f(20)\n") == {"end"}
    before = sys.getrecursionlimit()
    facts("def f(n):\n    return f(n + 1)\ndef main():\n    f(0)\n")
    assert sys.getrecursionlimit() == before


@pytest.mark.parametrize(
    "doubling",
    [
        "a = a + a",
        "a = [*a, *a]",
        "a.extend(a)",
        "a = f'{a}{a}{x}'",
        "a = f'{a}{a}'",
        "a = ''.join([a, a])",
        "a = zip(a, a)",
        "a = chain(a, a)",
        "a = (a, a)",
        "a = {'x': a, 'y': a}",
        "a = map(lambda n: [n, n, x], a)",
    ],
)
@pytest.mark.parametrize("first", ["['p']", "'p'"])
def test_what_doubles_forty_times_takes_no_time_and_no_room(first: str, doubling: str) -> None:
    begun, size = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = f"    {doubling}\n" * 40
    rule(f"from itertools import chain\ndef main(x):\n    a = {first}\n{body}    for one in a:\n        emit(one)\n")
    assert time.process_time() - begun < 10  # seconds; it takes a hundredth of one
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size < 200_000  # KB


def test_a_table_of_a_thousand_entries_is_followed_once() -> None:
    rows = "".join(f'    ("r{at}", lambda t: t["a"] == {at}, lambda t: {{"task": "x{at}"}}),\n' for at in range(1000))
    begun = time.process_time()
    found = facts(f"rules = [\n{rows}]\n").rules
    assert [[edge.task for edge in one.edges] for one in found] == [[f"x{at}"] for at in range(1000)]
    assert time.process_time() - begun < 5  # seconds; each by each it took eleven


# ---- what cannot be is not there


@pytest.mark.parametrize(
    ("head", "test"),
    [
        ('when = lambda task: task["n"] > 3', "n <= 3"),
        ('when = lambda task: task["n"] > 3 and task["k"] == "a"', 'k != "a"'),
        ('when = lambda task: task["k"] in ("a", "b")', 'k == "c"'),
        ('when = lambda t: not t["ok"]', "ok"),
        ('on = "a.b"', 'task.name != "a.b"'),
        ('on = ["a.*", "b"]', 'task.name == "c.d"'),
        ('when = lambda task: task.get("k") == "a"', 'k == "b"'),
        ('def when(task):\n    if task["n"] < 5:\n        return False\n    return True', "n == 4"),
    ],
)
def test_a_condition_that_the_rule_excludes_makes_an_edge_impossible(head: str, test: str) -> None:
    text = (
        f"{head}\ndef main(task, n, k, ok):\n    if {test}:\n        emit('never')\n    else:\n        emit('always')\n"
    )
    assert names(text) == {"always"}


def test_a_list_that_was_changed_is_not_known_to_be_empty_any_more() -> None:
    text = "def main(a):\n    if not a:\n        a.append(1)\n        if a:\n            emit('now')\n"
    assert names(text) == {"now"}


def test_a_name_under_the_same_condition_is_the_one_that_holds_there() -> None:
    text = "def main(x):\n    n = 'a' if x else 'b'\n    if x:\n        emit(n)\n"
    assert names(text) == {"a"}


def test_a_finally_is_also_entered_by_an_exception_that_is_caught_further_out() -> None:
    inner = "        ok = False\n        try:\n            wait('x')\n            ok = True\n        finally:\n"
    text = f"def main():\n    try:\n{inner}            if not ok:\n                emit('tidied')\n"
    assert names(f"{text}    except Exception:\n        pass\n") == {"tidied"}


def test_a_handler_sees_what_was_done_before_the_exception_in_the_same_statement() -> None:
    text = "def main():\n    n = ['a']\n    try:\n        (n.append('b'), 1 // 0)\n"
    assert names(f"{text}    except ZeroDivisionError:\n        for one in n:\n            emit(one)\n") == {"a", "b"}


def test_a_function_that_is_given_away_may_be_called_with_anything() -> None:
    text = "import operator\ndef f(x, *, name):\n    emit('z.' + name)\ndef main():\n    operator.attrgetter([[[f]]])\n"
    assert names(text) == {"z.*"}


def test_the_fields_of_a_task_are_no_functions_but_what_is_lost_may_be_one() -> None:
    assert names("def main(f):\n    f.go(1)\n    f['x'](2)\n") == set()
    lost = "import copy\ndef main(x):\n    copy.deepcopied([emit])[0]('a')\n"
    assert names(lost) >= {"*"}


# ---- what else is found


def test_lines_are_those_of_the_rules_own_file() -> None:
    library = "\n\n\n\n\n\n\ndef tell(send):\n    send('b')\n"
    found = rule("from lib.x import tell\n\ndef main():\n    emit('a')\n    tell(emit)\n", x=library)
    assert [(edge.task, edge.line) for edge in found.edges] == [("a", 4), ("b", 5)]


def test_hosts_options_fields_and_what_is_received_are_noted() -> None:
    found = rule(
        'on = "a"\nwhen = lambda task: task["size"] and task.get("kind")\n'
        'def main(x):\n    run("local", "n", "i", cpus=1)\n    run("h" + x, "m", "i", timeout=3)\n'
        '    receive("done.*")\n'
    )
    assert found.starts == [Start("local", ["cpus"], 4), Start("h*", [], 5)]
    assert [use.name for use in found.fields] == ["size", "kind"]
    assert [use.name for use in found.received] == ["done.*"]


def test_an_edge_waits_where_the_run_has_waited_before_wherever_it_is_generated() -> None:
    found = rule(
        "def main(x):\n    emit('a')\n    emit('b')\n    sleep(9)\n    emit('b')\n    emit('c')\n    call('d')\n"
    )
    assert {edge.task: edge.waits for edge in found.edges} == {"a": False, "b": False, "c": True, "d": True}


def test_a_function_that_only_calls_itself_is_told_and_one_that_returns_is_not() -> None:
    assert [use.name for use in rule("def f(x):\n    return f(x[0])\ndef main(x):\n    f(x)\n").endless] == ["f"]
    assert rule("def f(x):\n    return f(x[0]) if x else 0\ndef main(x):\n    f(x)\n").endless == []


def test_a_rule_that_generates_nothing_has_nothing() -> None:
    found = rule("def main():\n    Task('a')\n    lambda: emit('b')\n    return {'task': 'c'}\n")
    assert found.subsequents == List([])
    assert found.edges == []


@pytest.mark.parametrize(
    ("given", "before", "one", "two"),
    [
        ("**k", "pass", 'k["a"]', 'k["b"]'),
        ("x", "l = list(x)", "l[0]", "l[1]"),
        ("x", "l = sorted(x)", "l[0]", "l[-1]"),
        ("x", "d = {**x}", 'd["a"]', 'd["b"]'),
        ("x", "a, *b = x", "b[0]", "b[1]"),
        ("x", "l = [i for i in x]; a = l.pop(); b = l.pop()", "a", "b"),
        ("x", "a, b = (lambda a, b: (a, b))(*x)", "a", "b"),
        ("x", 'l = [{"k": i} for i in x]', 'l[0]["k"]', 'l[1]["k"]'),
    ],
)
def test_what_is_found_out_of_one_element_holds_for_no_other(given: str, before: str, one: str, two: str) -> None:
    choice = f'    if {one} == "q":\n        emit("one")\n    elif {two} == "q":\n        emit("two")'
    assert names(f"def main({given}):\n    {before}\n{choice}") == {"one", "two"}


@pytest.mark.parametrize("loop", ["for name in k.values():", "for key, name in k.items():"])
def test_the_values_of_surplus_fields_are_any_names(loop: str) -> None:
    assert [edge.task for edge in rule(f"def main(**k):\n    {loop}\n        emit(name)").edges] == ["*"]


def test_a_surplus_field_may_be_there_or_not() -> None:
    edges = rule('def main(**k):\n    emit(k.get("name", "default"))').edges
    assert {(edge.task, str(edge.certainty)) for edge in edges} == {("*", "unknown"), ("default", "possible")}


BRANCH = {"branch": {"ok": "job.done", "failed": ["job.failed", "alert"]}}
JOB = {"host": "h", "name": "n", "image": "i"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("r.py", f'on = "a"\ndef main():\n    return Job("Docker", {JOB!r}, then={BRANCH!r})\n'),
        ("r.yaml", f"on: a\ntype: Docker\nbody: {json.dumps(JOB)}\nthen: {json.dumps(BRANCH)}\n"),
    ],
)
def test_the_outcome_of_a_job_is_written_as_its_author_writes_it(file: str, text: str) -> None:
    (found,) = analyse(make_source("r", f"rules/{file}", text, {}), FUNCTIONS).rules
    assert {edge.task: edge.condition for edge in found.edges} == {
        "job.done": "ok",
        "job.failed": "failed",
        "alert": "failed",
    }
    assert isinstance(found.subsequents, Branch)
    assert [case.condition for case in found.subsequents.cases] == ["ok", "failed"]


@pytest.mark.parametrize(
    ("head", "only"),
    [
        ('on = "a.*"\nwhen = lambda task: task.name in ("a.b", "a.c", "x")\n', ["a.b", "a.c"]),
        ('on = ["a", "b"]\nwhen = lambda task: task.name != "a" and task["n"]\n', ["b"]),
        ('on = "a.*"\nwhen = lambda task: task["n"]\n', None),
        ('on = "a.*"\nwhen = lambda task: task.name == "a.b" or task["n"]\n', None),
    ],
)
def test_names_that_a_filter_leaves_are_known(head: str, only: list[str] | None) -> None:
    assert rule(f"{head}def main():\n    pass\n").only == only


@pytest.mark.parametrize(
    "body",
    [
        "    name = 'a'\n    while x[0]:\n        name = 'b'\n        sleep(1)\n",
        "    name = 'a'\n    try:\n        name = x['b'] and 'b'\n    finally:\n        log('c')\n",
        "    name = 'a'\n    for one in x:\n        try:\n            name = 'b'\n        except KeyError:\n"
        "            break\n",
        "    names = []\n    if x:\n        names.append('a')\n    name = [emit(one) and 'b' for one in names][0]\n",
    ],
)
def test_no_condition_is_empty_and_where_nothing_tells_ways_apart_an_edge_has_none(body: str) -> None:
    found = rule(f"def main(x):\n{body}    emit(name)\n")
    conditions: list[str] = []

    def look(atom: Atom) -> None:
        match atom:
            case List():
                for one in atom.items:
                    look(one)
            case Branch():
                for case in atom.cases:
                    conditions.append(case.condition)
                    look(case.atom)

    look(found.subsequents)
    assert all(conditions)
    assert not any(EITHER in edge.condition for edge in found.edges)


def test_a_certain_edge_has_no_condition_of_a_branch_that_generates_it_too() -> None:
    found = rule("def main(x):\n    if x:\n        emit('a')\n        emit('b')\n    else:\n        emit('b')\n")
    assert {edge.task: edge.condition for edge in found.edges} == {"a": "x", "b": ""}
