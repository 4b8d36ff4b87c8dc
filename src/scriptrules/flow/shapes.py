"""What the analysis finds out about one file: which tasks its rules can generate, and what else the graph needs."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from scriptrules.flow.atoms import Atom


class Via(StrEnum):
    """How a rule generates a task."""

    EMIT = "emit"
    CALL = "call"  # and the value comes back
    RETURN = "return"  # main returned Task(…), or a table's generator a mapping
    THEN = "then"  # the `then` of a job
    NOMATCH = "nomatch"  # a fallback of a table generated it


class Certainty(StrEnum):
    CERTAIN = "certain"  # whichever way the run ends by itself, it has generated this
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


class RuleFacts(msgspec.Struct, frozen=True):
    """A rule, or an entry of a table, which is named FILE:ENTRY."""

    rule: str
    subsequents: Atom
    edges: list[Edge] = []


class Facts(msgspec.Struct, frozen=True):
    """A file. `rules` is empty where it is none that could run."""

    rules: list[RuleFacts]
