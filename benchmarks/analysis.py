"""How long it takes to find out what follows from a thousand rules of fifty lines, and again after one changed."""

from __future__ import annotations

import time

from common import Result, median

from scriptrules.flow.facts import analyse
from scriptrules.flow.findings import World, findings
from scriptrules.flow.graph import graph
from scriptrules.flow.online import joined
from scriptrules.flow.shapes import Facts
from scriptrules.model import Source
from scriptrules.plugins.manager import Plugins
from scriptrules.rulebook.files import make_source

RULES = 1_000


def _rule(number: int, changed: str = "") -> str:
    """Fifty lines with what real rules have: helpers, callbacks, loops, a match, a try, names made of parts."""
    return f'''"""Handle the orders of branch {number}. {changed}"""

from lib.kinds import kind_of

on = "branch.b{number}.order"
when = lambda task: task["size"] > 0 and task.get("country", "de") == "de"
NEXT = {{"small": "bill.b{number}.small", "large": "bill.b{number}.large"}}
REGIONS = ["north", "south", "west"]


def tell(who, send):
    for one in who:
        send(f"mail.{{one}}", branch={number})


def guarded(step, otherwise):
    try:
        return step()
    except ExecutionFailed as error:
        log(str(error))
        otherwise()
        return None


def started(name, image):
    run("local", name, image, timeout=60)
    return wait(name).output


def main(size, country="de", lines=(), **rest):
    kind = kind_of(size)
    output = guarded(lambda: started("weigh", "weigh-tool"), lambda: emit("branch.b{number}.failed"))
    if output is None:
        return None
    match country:
        case "de" | "at":
            emit(NEXT[kind], size=size)
        case "ch":
            emit("customs.wanted", branch={number})
        case _:
            fail("no such country")
    for line in lines:
        if line["open"]:
            emit("line.opened", line=line)
    tell(REGIONS, emit)
    if size > 100 and rest:
        total = sum([call("price.asked", line=line) for line in lines])
        return Task(f"branch.b{{total}}.done", total=total)
    return [Task("branch.b{(number + 1) % RULES}.order", size=size - 1), Task("archive." + kind)]
'''


LIBRARY = """\
def kind_of(size):
    return "small" if size < 10 else "large"
"""


def analysis(rounds: int) -> list[Result]:
    """A thousand rules from text to the graph and the findings, on one core; then the same after one has changed."""
    functions = {name: function.spec for name, function in Plugins(None).functions.items()}
    first: list[float] = []
    again: list[float] = []
    edges = 0
    for _ in range(rounds):
        kept: dict[str, Facts] = {}

        def look(sources: list[Source], kept: dict[str, Facts] = kept) -> int:
            for source in sources:
                if source.digest not in kept:
                    kept[source.digest] = analyse(source, functions)
            files = {source.rule: kept[source.digest] for source in sources}
            rules = [facts for file in files.values() for facts in file.rules]
            findings(files, World(hosts={"local": "process"}))
            return len(graph(rules, joined([(facts, "") for facts in rules], [])).edges)

        sources = [_source(number) for number in range(RULES)]
        begun = time.process_time()
        edges = look(sources)
        first.append(time.process_time() - begun)
        sources[RULES // 2] = _source(RULES // 2, "Changed.")
        begun = time.process_time()
        look(sources)
        again.append(time.process_time() - begun)
    value, changed = median(first), median(again)
    what = f"1,000 rules of 50 lines analysed, joined and checked, on one core ({edges:,} edges)"
    return [
        Result("analysis", what, value, "s", first, reach=10.0, aim=3.0),
        Result(
            *("analysis", "again after one file has changed", changed, "s", again),
            baseline="all of them, s",
            baseline_value=value,
            ratio=changed / value,
            by_ratio=True,
            reach=0.1,
            aim=0.05,
        ),
    ]


def _source(number: int, changed: str = "") -> Source:
    rule = f"group/r{number}"
    return make_source(rule, f"rules/{rule}.py", _rule(number, changed), {"kinds": LIBRARY})
