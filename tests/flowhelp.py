"""What the corpus expects, and what rules really generate when they are executed in the interpreter of the sandbox."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from scriptrules.flow.atoms import Atom, Branch, Case, List, Type, Unknown
from scriptrules.model import Source
from scriptrules.plugins.manager import Plugins
from scriptrules.rulebook.files import read_all
from scriptrules.rulebook.metadata import Metadata
from scriptrules.sandbox import signals, wire
from scriptrules.sandbox.book import TABLE_SEPARATOR, Book
from scriptrules.sandbox.builtins import make_builtins
from scriptrules.sandbox.intrinsics import injected
from scriptrules.sandbox.script import Script

CORPUS = Path(__file__).parent / "flow" / "corpus"
FUNCTIONS = {name: function.spec for name, function in Plugins(None).functions.items()}
MOMENT = 1_700_000_000_000_000
WAITS_MAX = 200  # entries after which a run that still waits is left alone
_HEADER = re.compile(r"# expects(?: (?P<entry>[\w.-]+))?: ?(?P<atom>.*)")

EdgeKey = tuple[str, str, str]  # name or pattern, via, certainty


class Expectation(msgspec.Struct, frozen=True):
    """What a person expects of one rule: see tests/flow/README.md."""

    rule: str
    atom: Atom
    edges: frozenset[EdgeKey]


def corpus() -> tuple[dict[str, Source], list[Expectation]]:
    """The rules of the corpus, and what is expected of each."""
    sources, problems = read_all(CORPUS)
    assert problems == []
    return sources, [one for source in sources.values() for one in expectations(source.rule, source.text)]


def expectations(rule: str, text: str) -> Iterator[Expectation]:
    """What the comments at the end of a rule of the corpus say."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if header := _HEADER.fullmatch(line):
            entry = header["entry"]
            written, rest = [header["atom"]], at + 1
            while not _is_whole("".join(written)):
                written.append(lines[rest].removeprefix("#"))
                rest += 1
            edges = set()
            for below in lines[rest:]:
                if not below.startswith("# ") or _HEADER.fullmatch(below):
                    break
                name, via, certainty = below.removeprefix("# ").split()
                edges.add((name, via, certainty))
            name = f"{rule}{TABLE_SEPARATOR}{entry}" if entry else rule
            yield Expectation(name, atom_of(ast.literal_eval("".join(written).strip())), frozenset(edges))


def atom_of(written: Any) -> Atom:
    """An atom as the corpus writes it."""
    match written:
        case str():
            return Unknown("", written) if "*" in written else Type(written)
        case list():
            return List([atom_of(item) for item in written])
        case _:
            return Branch([Case(condition, atom_of(item)) for condition, item in written.items()])


def without_reasons(atom: Atom) -> Atom:
    """`atom` for comparison with one that was written by hand."""
    match atom:
        case Unknown():
            return Unknown("", atom.pattern)
        case List():
            return List([without_reasons(item) for item in atom.items])
        case Branch():
            return Branch([Case(case.condition, without_reasons(case.atom)) for case in atom.cases])
        case _:
            return atom


def shown(atom: Atom) -> str:
    """`atom` as the corpus writes it."""

    def plain(atom: Atom) -> Any:
        match atom:
            case Type():
                return atom.name
            case Unknown():
                return atom.pattern
            case List():
                return [plain(item) for item in atom.items]
            case Branch():
                return {case.condition: plain(case.atom) for case in atom.cases}

    return repr(plain(atom))


def fits(pattern: str, name: str) -> bool:
    """Whether a name is one that an Unknown of this pattern can be, or the name itself."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name) is not None


def _is_whole(text: str) -> bool:
    try:
        ast.parse(text.strip(), mode="eval")
    except SyntaxError:
        return False
    return True


# ---- executing


class Executed(msgspec.Struct, frozen=True):
    """A run, and what it generated, as it would be committed."""

    rule: str
    end: str  # "returned", "failed" (by fail()), "raised", …
    generated: list[tuple[str, str]]  # task, via


class Interpreter:
    """Rules in the interpreter of the workers, without their walls; what waits is answered at once."""

    def __init__(self, steps: int = 200_000) -> None:
        self._budget = wire.Budget(steps=steps)
        self._builtins = make_builtins()
        self._builtins.update(injected(list(FUNCTIONS.values())))
        self._book = Book(self._builtins, self._budget, lambda rule: None, FUNCTIONS.values())
        self._active = ""

    def load(self, source: Source) -> tuple[list[str], Metadata]:
        """Make a rule the only active one; what the checker says against it, and what it says of itself."""
        load = wire.Load(1, source.digest, source.rule, source.file, source.text, source.libraries)
        facts, problems = self._book.load(load)
        assert facts is not None, problems
        before = [] if self._active == source.rule else [self._active]
        self._book.change(self._book.epoch + 1, {source.rule: source.digest}, before)
        self._active = source.rule
        return [problem.code for problem in problems], facts

    def execute(self, name: str, data: dict[str, Any], answer: Callable[[str], bytes]) -> Iterator[Executed]:
        """The runs of the active rule for a task.

        Args:
            answer: gives what a call returns (JSON), by the name that is called; "wait" and "run" for the others.
        """
        view = wire.TaskView("t1", name, msgspec.json.encode(data), "t1", 0, MOMENT)
        try:
            for plan in self._book.match(view).plans:
                script = Script(plan.program, view, self._builtins, self._budget, 0, MOMENT, 1)
                piece = script.start([])
                entries = list(piece.entries)
                while piece.end == "blocked" and len(entries) < WAITS_MAX:
                    piece = script.resume(_outcome(piece, answer), MOMENT)
                    entries += piece.entries
                script.evict()
                via = "nomatch" if plan.table and plan.fallback else "return"
                yield Executed(
                    plan.rule,
                    piece.end,
                    [
                        (msgspec.json.decode(entry.args)["name"], via if entry.name == "return" else entry.name)
                        for entry in entries
                        if entry.name in ("emit", "call", "return")
                    ],
                )
        finally:
            signals.current = signals.Scope()


def _outcome(piece: wire.Slice, answer: Callable[[str], bytes]) -> wire.Outcome:
    last = piece.entries[-1]
    arguments = msgspec.json.decode(last.args)
    match last.name:
        case "call":
            return wire.Outcome(answer(arguments["name"]))
        case "wait":
            value = msgspec.json.decode(answer("wait"))
            status = "failed" if value == "failed" else "done"
            results = [
                {"seq": seq, "name": f"n{seq}", "status": status, "value": value, "output": value}
                for seq in arguments["what"]
            ]
            return wire.Outcome(msgspec.json.encode(results))
        case _:
            return wire.Outcome()
