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
import bisect
import heapq
import json
from collections import defaultdict
from operator import itemgetter
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
LIBRARY = """\
def send(name):
    emit(name)
def other(name):
    emit(f"other.{name}")
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
    "format() counts its braces": 'emit("{b}.{}{{}}".format("p", b="q")[:3])',
    "a number is written without its fraction": """
        emit("n%d" % 2.7)
        emit("n%d" % True)""",
    "one of several beginnings": """
        if "abc".startswith(("z", "b")):
            emit("p")
        emit("q")""",
    "a beginning further on": """
        if f"ab{x}".startswith("b", 1):
            emit("p")
        else:
            emit("q")""",
    "a tuple is no list": """
        if (1, 2) == [1, 2]:
            emit("p")
        else:
            emit("q")""",
    "True is the key 1": """
        names = {1: "p"}
        names[True] = "q"
        emit(names[True])
        for key in names:
            emit(f"k.{key}")""",
    "what may be missing is not counted": """
        names = ["q"] if x == 9 else []
        if x:
            names.append("p")
        names.append("q")
        for at, one in enumerate(names):
            emit(f"n{at}.{one}")""",
    "max() of some": 'emit(max(*["p", "q"][:x], "m"))',
    "max() asks nobody about nothing": 'max(["p"][:x], key=yes, default="x")',
    "a method is a function": """
        names = []
        list.append(names, "p")
        for one in names:
            emit(one)""",
    "a heap is a list": """
        heap = ["r"]
        heapq.heappush(heap, "p")
        bisect.insort(heap, "q")
        for one in heap:
            emit(one)""",
    "append() with a star": """
        names = []
        names.append(*["p", "q"][:1])
        for one in names:
            emit(one)""",
    "sets are put together of several": """
        names = {"o"}
        names.update(["p"], ["q"])
        for one in sorted(names.union(["r"], ["s"])):
            emit(one)""",
    "a set is emptied": """
        names = {"p"}
        names.difference_update(["p"])
        if names:
            emit("full")
        else:
            emit("empty")""",
    "a set changes sides": """
        names = {"p"}
        names.symmetric_difference_update(["p", "q"])
        for one in names:
            emit(one)""",
    "a function among data": """
        data = json.loads('{"a": 1}')
        data["f"] = emit
        data["f"]("p")""",
    "a function out of a dictionary": 'itemgetter("f")({"f": emit})("p")',
    "an augmented assignment does not change a tuple": """
        a = b = ("p",)
        a += ("q",)
        for one in b:
            emit(one)""",
    "nothing is deleted": """
        names = []
        del names[:]
        emit("p")""",
    "one of several lists is emptied": """
        boxes = [["p", "r"] for _ in range(x)]
        for box in boxes:
            box.pop()
            break
        if boxes:
            boxes[0].clear()
        for box in boxes:
            emit("full." + box[0] if box else "empty")""",
    "a library is imported where it is needed": """
        if x:
            from lib.a import send
            send("p")
        else:
            from lib.a import other
            other("q")""",
    "a loop goes on to what its body adds": """
        todo = ["p"]
        for one in todo:
            emit(one)
            if len(todo) < 3:
                todo.append(one + "x")""",
    "a comprehension does as well": """
        todo = ["p"]
        [emit(one) or (todo.append("q") if one == "p" else None) for one in todo]""",
    "a loop does not go on to what its body takes out": """
        todo = ["p", "q"]
        for one in todo:
            emit(one)
            todo.clear()""",
    "the body changes what stands in a dictionary": """
        names = {"a": "p", "b": "q"}
        for _, one in names.items():
            emit(one)
            names["b"] = "late.".strip(".")""",
    "a view shows what was added after it": """
        names = {"a": "p"}
        view = names.values()
        names["b"] = "q"
        for one in view:
            emit(one)""",
    "an iterator gives what was added after it": """
        names = ["p"]
        pairs = enumerate(names)
        names.append("q")
        for at, one in pairs:
            emit(f"{at}.{one}")""",
    "map() calls when it is asked": """
        prefix = "a"
        named = map(lambda one: f"{prefix}.{one}", ["p", "q"])
        prefix = "b"
        emit(next(named))
        prefix = "c"
        for one in named:
            emit(one)
            prefix = "d.".strip(".")""",
    "a loop over map() changes what it calls": """
        prefix = "a"
        for one in map(lambda one: f"{prefix}.{one}", ["p", "q"]):
            emit(one)
            prefix = "b.".strip(".")""",
    "filter() asks in each turn": """
        seen = ["p"]
        for one in filter(lambda one: one in seen, ["p", "q", "r"]):
            emit(one)
            seen.append("q")""",
    "filter() of map(), counted": """
        seen = []
        for at, one in enumerate(filter(lambda one: len(seen) < 2, map(yes, ["p", "q", "r"]))):
            emit(f"n{at}")
            seen.append(one)""",
    "an iterator comes to its end once": """
        names = iter(["p", "q"])
        emit(next(names))
        flag = x
        named = map(lambda one: emit(one) if flag else None, names)
        flag = 1
        list(named)
        flag = 0
        list(named)""",
    "zip() asks for no more than it needs": 'list(zip([1], map(yes, ["p", "q"])))',
    "a condition with two parts is not narrowed down by the first": """
        not (x and x > 1) and emit("p" if x else "q")
        return Task("r") if x else None""",
    "reversed() begins where the end was": """
        names = ["p"]
        behind = reversed(names)
        names.append("q")
        for one in behind:
            emit(one)""",
    "max() of one text": 'emit(max(*["p"][:x - 1], "no"))',
}


def analysed(body: str, interpreter: Interpreter) -> RuleFacts:
    source = make_source(
        "rule", "rules/rule.py", f"{HEAD}def main(x):\n{textwrap.indent(body, '    ')}\n", {"a": LIBRARY}
    )
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
