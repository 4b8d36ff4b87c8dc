"""Programs in which Python does less, more or later than it seems: each is executed, and compared with the analysis."""

from __future__ import annotations

import textwrap

import pytest

from flowhelp import FUNCTIONS, Interpreter
from scriptrules.flow.facts import analyse
from scriptrules.flow.online import predicts
from scriptrules.flow.shapes import Certainty, RuleFacts
from scriptrules.rulebook.files import make_source

HEAD = """\
from collections import defaultdict
on = "go"
def yes(name):
    emit(name)
    return True
def no(name):
    emit(name)
    return False
def bad(name):
    emit(name)
    raise ValueError("bad")
"""
TRAPS = {
    "an augmented assignment changes a list that has two names": """
        a, b = [], []
        c = a if x else b
        c += ["p"]
        c.append("q")
        for one in a:
            emit(one)""",
    "and a dictionary": """
        a, b = {}, {}
        c = a if x else b
        c |= {"k": "p"}
        for one in a.values():
            emit(one)""",
    "and takes elements out of a set": """
        a = {"p", "q"}
        b = a
        a -= {"p"}
        for one in sorted(b):
            emit(one)""",
    "the rest of a chain of comparisons is not evaluated": """
        if 5 < x < no("p"):
            emit("q")""",
    "nor does it fail": """
        if 5 < x < bad("p"):
            emit("q")
        emit("r")""",
    "map() calls nothing": 'map(emit, ["p", "q"])',
    "map() calls as far as it is asked": 'next(iter(map(emit, ["p", "q"])))',
    "a loop over map() is left": """
        for _ in map(emit, ["p", "q"]):
            break""",
    "what map() does not call does not fail": """
        map(bad, ["p"])
        emit("q")""",
    "filter() calls nothing": 'filter(yes, ["p", "q"])',
    "list() asks for all": 'list(map(emit, filter(yes, ["p", "q"])))',
    "what a dictionary gives by default is not asked for": """
        d = defaultdict(lambda: emit("p"))
        if x == 2:
            d["k"]""",
    "a guard that never holds is evaluated": """
        match x:
            case 1 if no("p"):
                emit("q")
            case _:
                emit("r")""",
    "a guard fails": """
        try:
            match x:
                case 1 if bad("p"):
                    emit("q")
        except ValueError:
            emit("r")""",
}


def analysed(body: str, interpreter: Interpreter) -> RuleFacts:
    source = make_source("rule", "rules/rule.py", f"{HEAD}def main(x):\n{textwrap.indent(body, '    ')}\n", {})
    problems, _ = interpreter.load(source)
    assert problems == []
    (facts,) = analyse(source, FUNCTIONS).rules
    return facts


@pytest.mark.parametrize("trap", TRAPS)
def test_what_a_trap_generates_was_foreseen_and_what_is_certain_is_generated(trap: str) -> None:
    interpreter = Interpreter()
    facts = analysed(textwrap.dedent(TRAPS[trap]).strip(), interpreter)
    certain = {(edge.task, str(edge.via)) for edge in facts.edges if edge.certainty is Certainty.CERTAIN}
    for x in (0, 1, 7):
        (run,) = interpreter.execute("go", {"x": x}, lambda _: b"null")
        assert run.end == "returned" or x == 7
        assert all(predicts(facts, task, via) for task, via in run.generated)
        if run.end == "returned":
            assert certain <= set(run.generated)


def test_elements_that_are_asked_for_at_once_are_certain() -> None:
    facts = analysed('list(map(emit, filter(yes, ["p", "q"])))\nreturn sorted(map(yes, ["r"]))', Interpreter())
    assert {edge.task for edge in facts.edges if edge.certainty is Certainty.CERTAIN} == {"p", "q", "r"}
