"""What the analysis finds out about one file: which tasks its rules can generate, and what else the graph needs."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from scriptrules.flow.atoms import Atom, Unknown


class Via(StrEnum):
    """How a rule generates a task."""

    EMIT = "emit"
    CALL = "call"  # and the value comes back
    RETURN = "return"  # main returned Task(…), or a table's generator a mapping
    THEN = "then"  # the `then` of a job
    NOMATCH = "nomatch"  # a fallback of a table generated it


class Certainty(StrEnum):
    CERTAIN = "certain"  # every run that no error and no fail() ends has generated it
    POSSIBLE = "possible"
    UNKNOWN = "unknown"  # the name is a pattern


class Edge(msgspec.Struct, frozen=True):
    """A rule can generate a task."""

    task: str  # a name, or a pattern where certainty is "unknown"
    via: Via
    certainty: Certainty
    condition: str  # what has to hold, joined by " and "; empty: nothing
    line: int  # in the rule's file
    reason: str = ""  # why the name is unknown
    waits: bool = False  # wherever it is generated, the run has waited for something outside before


class Use(msgspec.Struct, frozen=True):
    """A name, or a pattern where it is known in part only, and the line it stands on."""

    name: str
    line: int


class Start(msgspec.Struct, frozen=True):
    """A use of `run()`."""

    host: str  # a pattern where it is known in part only
    options: list[str]
    line: int


class RuleFacts(msgspec.Struct, frozen=True):
    """A rule, or an entry of a table, which is named FILE:ENTRY."""

    rule: str
    subsequents: Atom
    edges: list[Edge] = []
    line: int = 1  # of main, or of the entry
    on: list[str] = []
    has_on: bool = True
    only: list[str] | None = None  # names to which the filter narrows `on` down, where it says so
    filtered: bool = False  # it has a filter, so not every task of a name that fits runs it
    fallback: bool = False
    priority: int = 0
    enabled: bool = True
    scheduled: bool = False
    fields: list[Use] = []  # that its filter reads
    received: list[Use] = []  # what it receives besides
    starts: list[Start] = []
    unreached: list[int] = []  # lines of statements that control never gets to
    endless: list[Use] = []  # functions that call themselves and never return

    @property
    def names(self) -> list[str]:
        """Names, and patterns of them, of the tasks that can run it."""
        return self.on if self.only is None else self.only


class Facts(msgspec.Struct, frozen=True):
    """A file. `rules` is empty where it is none that could run."""

    rules: list[RuleFacts]
    ignored: dict[str, list[int]] = {}  # lines on which a comment has a code of the graph (SR5xx) ignored, by code


def unknown(why: str, line: int) -> tuple[Atom, list[Edge]]:
    """What follows where nothing is known."""
    edges = [Edge("*", via, Certainty.UNKNOWN, "", line, why) for via in (Via.EMIT, Via.CALL, Via.RETURN)]
    return Unknown(why, "*"), edges


def given_up(rule: str, why: str) -> Facts:
    """A file of which nothing is known."""
    return Facts([RuleFacts(rule, *unknown(why, 1))])
