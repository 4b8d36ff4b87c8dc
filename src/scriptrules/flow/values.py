"""What the analysis knows of a value, and of everything that a program can reach at one moment (`State`).

A value is exact (`Const`, a function, a container on the heap), partly known (`Text`), opaque data that no program can
call (`Data`), or lost: anything, a function too (`Lost`). Where it depends on a condition it is a `Choice`, which keeps
the condition's text, and what it says about opaque values, so that a later condition can rule cases out.

Every value and object is immutable. A `State` is a dictionary of cells, so that a fork costs one shallow copy.

Tried and rejected: sets of values without their conditions (labels of branches are lost), and following every path by
itself (a program of twenty independent `if`s has a million).
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from scriptrules.flow.domains import ANY, Domain, hull, meet
from scriptrules.flow.shapes import Via

CHOICES_MAX = 48  # cases of one value; more become one that covers them
ITEMS_MAX = 2000  # elements of a container that are known one by one
TEXT_MAX = 2000  # characters of a text that are known
PARTS_MAX = 40  # of a text that is known in part
ENDS_MAX = 100  # characters at both ends of one that is too long
EITHER = "either"  # the label of alternatives that no condition of the program tells apart

Facts = Mapping[str, Domain]  # what is known of opaque values, by key


class Const(msgspec.Struct, frozen=True):
    """A constant. `kind` tells 1, 1.0 and True apart."""

    value: Any
    kind: str


class Text(msgspec.Struct, frozen=True):
    """Text with parts that are not known (None)."""

    parts: tuple[str | None, ...]


class Data(msgspec.Struct, frozen=True):
    """Something that JSON can say, or a handle: not a function, and nothing that holds one. `what` is for people."""

    key: str
    what: str


class Lost(msgspec.Struct, frozen=True):
    """Anything. Calling it may do anything."""

    why: str


class Fn(msgspec.Struct, frozen=True):
    """A function of the program with the frame that it was made in."""

    node: ast.FunctionDef | ast.Lambda
    frame: int
    defaults: tuple[Value, ...]
    keyword_defaults: tuple[tuple[str, Value], ...]


class Native(msgspec.Struct, frozen=True):
    """A function of the language, of a module, or an injected one."""

    name: str


class Method(msgspec.Struct, frozen=True):
    receiver: Value
    name: str


class Partial(msgspec.Struct, frozen=True):
    """What `functools.partial` gives."""

    function: Value
    args: tuple[Value, ...]
    keywords: tuple[tuple[str, Value], ...]


class Module(msgspec.Struct, frozen=True):
    name: str


class Ref(msgspec.Struct, frozen=True):
    """A container: its content is a cell of the state."""

    id: int


class NewTask(msgspec.Struct, frozen=True):
    """``Task(name, …)``, or with `via` then a job, whose `name` is what it says follows."""

    name: Value
    line: int
    via: Via = Via.RETURN


class TaskView(msgspec.Struct, frozen=True):
    """The task (`whole`), or the fields of it that `**kwargs` of main has."""

    whole: bool


class Case(msgspec.Struct, frozen=True):
    label: str
    facts: tuple[tuple[str, Domain], ...]
    value: Value


class Choice(msgspec.Struct, frozen=True):
    cases: tuple[Case, ...]


Value = (
    Const | Text | Data | Lost | Fn | Native | Method | Partial | Module | Ref | NewTask | TaskView | Choice
)  # fmt: skip
NONE = Const(None, "NoneType")


class Presence(msgspec.Struct, frozen=True):
    """Under which condition something is there."""

    label: str
    facts: tuple[tuple[str, Domain], ...]


class Items(msgspec.Struct, frozen=True):
    """A list, tuple or set: elements, each with the condition under which it is there; then any number of `rest`."""

    kind: str
    items: tuple[tuple[Value, Presence | None], ...]
    rest: Value | None = None
    several: bool = False  # it stands for more than one, so nothing that is done to it holds for all

    @property
    def exact(self) -> bool:
        return self.rest is None and not self.several and all(presence is None for _, presence in self.items)


class Table(msgspec.Struct, frozen=True):
    """A dictionary: what stands under known keys; `rest` is what stands under any other."""

    items: tuple[tuple[Value, Value, Presence | None], ...]  # key (a Const), value
    rest: Value | None = None
    several: bool = False

    @property
    def exact(self) -> bool:
        return self.rest is None and not self.several and all(presence is None for _, _, presence in self.items)


class Stream(msgspec.Struct, frozen=True):
    """What gives its elements as they are asked for, by a function of the language, and what that was given."""

    name: str
    args: tuple[Value, ...]
    keywords: tuple[tuple[str, Value], ...] = ()
    label: str = ""  # how the first of them is written
    begun: bool = False  # some elements may have been taken


Object = Items | Table | Stream
Cell = Any  # Value by (frame, name), Object by the id of a Ref, int by the key of Data: how often it was changed


def const(value: Any) -> Const:
    return Const(value, type(value).__name__)


class State:
    """All that a program can reach: variables, containers, and what conditions have said about opaque values."""

    __slots__ = ("cells", "facts")

    def __init__(self, cells: dict[Any, Cell], facts: dict[str, Domain]) -> None:
        self.cells = cells
        self.facts = facts

    def copy(self) -> State:
        return State(dict(self.cells), dict(self.facts))

    def key(self, data: Data) -> str:
        """The name under which facts about `data` are kept now: a change of it begins anew."""
        version = self.cells.get(data.key)
        return data.key if version is None else f"{data.key}@{version}"

    def possible(self, facts: Iterable[tuple[str, Domain]]) -> bool:
        """Whether what a case says agrees with what is known here."""
        known = self.facts
        return all(key not in known or meet(known[key], domain) is not None for key, domain in facts)

    def assume(self, key: str, domain: Domain) -> bool:
        """Learn something about an opaque value; False where that cannot be."""
        met = meet(self.facts.get(key, ANY), domain)
        if met is None:
            return False
        self.facts[key] = met
        return True

    def narrow(self, value: Value) -> Value:
        """`value` without the cases that cannot be here."""
        if not isinstance(value, Choice) or not self.facts:
            return value
        cases = [case for case in value.cases if self.possible(case.facts)]
        if len(cases) == 1:
            return self.narrow(cases[0].value)
        return value if len(cases) == len(value.cases) or not cases else Choice(tuple(cases))


def choice(cases: Sequence[Case]) -> Value:
    """A value that depends on conditions; one that does not, where all cases are equal."""
    if not cases:
        return Lost("a value of which nothing is known")
    first = cases[0].value
    if all(case.value == first for case in cases[1:]):
        return first
    if sum(map(_size, (case.value for case in cases))) > CHOICES_MAX:
        return cover([case.value for case in cases])
    return Choice(tuple(cases))


def _size(value: Value) -> int:
    return sum(_size(case.value) for case in value.cases) if isinstance(value, Choice) else 1


def leaves(value: Value) -> Iterable[Value]:
    """The values that `value` may be."""
    if isinstance(value, Choice):
        for case in value.cases:
            yield from leaves(case.value)
    else:
        yield value


# ---- one value for several

_numbers = itertools.count()


def opaque(what: str) -> Data:
    """Data of which nothing is known, and which is equal to no other."""
    return Data(f"~{next(_numbers)}", what)


def another(value: Value) -> Value:
    """One like `value`, of which there are several: what is found out about this one holds for no other."""
    match value:
        case Data() | TaskView(whole=False):
            return opaque(value.what if isinstance(value, Data) else "a field of the task")
        case Choice():
            return Choice(tuple(Case(case.label, case.facts, another(case.value)) for case in value.cases))
    return value


def cover(values: Iterable[Value]) -> Value:
    """One value without conditions that stands for all of these."""
    every = list(dict.fromkeys(leaf for value in values for leaf in leaves(value)))
    if len(every) == 1:
        return every[0]
    texts = [text_of(value) for value in every]
    if all(isinstance(value, (Const, Text, Data, TaskView)) for value in every):
        if all(
            isinstance(value, Text) or (isinstance(value, Const) and isinstance(value.value, str)) for value in every
        ):
            return common(texts)
        return opaque("a value that is made in several places")
    return Lost("a value that is made in several places")


def alternatives(values: Iterable[Value]) -> Value:
    """One of these values, and nothing says which."""
    every = list(dict.fromkeys(leaf for value in values for leaf in leaves(value)))
    datas = [value for value in every if isinstance(value, Data)]
    if len(datas) > 1:
        every = [value for value in every if not isinstance(value, Data)] + [opaque(datas[0].what)]
    return choice([Case(EITHER, (), value) for value in every]) if every else opaque("nothing")


def text_of(value: Value) -> tuple[str | None, ...]:
    """What `str()` gives, as parts."""
    match value:
        case Const():
            return (str(value.value),) if len(repr(value.value)) < 1000 else (None,)
        case Text():
            return value.parts
    return (None,)


def text(parts: Iterable[str | None]) -> Const | Text:
    """Text of known and unknown parts, in the one way to write it."""
    joined: list[str | None] = []
    for part in parts:
        if part is None:
            if not joined or joined[-1] is not None:
                joined.append(None)
        elif part:
            if joined and joined[-1] is not None:
                joined[-1] += part
            else:
                joined.append(part)
    if len(joined) > PARTS_MAX or sum(len(part) for part in joined if part) > TEXT_MAX:
        head, tail = joined[0] or "", joined[-1] or ""
        joined = [head[:ENDS_MAX] or None, None, tail[-ENDS_MAX:] or None]
        return text(joined)
    if None not in joined:
        return const(joined[0] if joined else "")
    return Text(tuple(joined))


def pattern_of(parts: Iterable[str | None]) -> str:
    """As a pattern: each part that is not known is a ``*``."""
    return "".join("*" if part is None else part for part in parts)


def parts_of(pattern: str) -> tuple[str | None, ...]:
    """A pattern of names, as in `on`, as text with parts that are not known."""
    plain = pattern.replace(".**", "\0").replace("**.", "\0").replace("**", "\0").replace("*", "\0")
    parts: list[str | None] = []
    for at, part in enumerate(plain.split("\0")):
        parts += [None, part] if at else [part]
    return tuple(parts)


def common(texts: Sequence[tuple[str | None, ...]]) -> Const | Text:
    """Text that covers all of these: what they have in common at both ends."""
    heads = [parts[0] if parts and parts[0] is not None else "" for parts in texts]
    tails = [parts[-1] if parts and parts[-1] is not None else "" for parts in texts]
    head = _shared(heads)
    tail = _shared([one[::-1] for one in tails])[::-1]
    if min(len(one) for one in heads) < len(head) + len(tail):
        tail = ""
    return text([head, None, tail])


def _shared(words: Sequence[str]) -> str:
    low, high = min(words), max(words)
    at = 0
    while at < len(low) and at < len(high) and low[at] == high[at]:
        at += 1
    return low[:at]


def bounded(items: Items) -> Items:
    """A list, tuple or set, or what stands for one that is too long."""
    if len(items.items) <= ITEMS_MAX:
        return items
    every = [value for value, _ in items.items]
    return Items(items.kind, (), alternatives(every if items.rest is None else [*every, items.rest]), items.several)


# ---- one state for several


class Way(msgspec.Struct, frozen=True):
    """One of the ways that lead to the same place: its label, and the state in which it arrives."""

    label: str
    state: Any  # a State
    value: Value = NONE


def merge(ways: Sequence[Way], base: Mapping[str, Domain]) -> tuple[State, Value]:
    """The state, and a value, in which several ways meet.

    Args:
        ways: at least one.
        base: what was known before they parted.
    """
    if len(ways) == 1:
        return ways[0].state, ways[0].value
    presences = [
        Presence(way.label, tuple((key, fact) for key, fact in way.state.facts.items() if base.get(key) is not fact))
        for way in ways
    ]
    merged: dict[Any, Cell] = {}
    first = ways[0].state.cells
    for key in dict.fromkeys(key for way in ways for key in way.state.cells):
        found = first.get(key)
        if found is not None and all(way.state.cells.get(key) is found for way in ways):
            merged[key] = found
        else:
            merged[key] = _merge_cells(key, [way.state.cells.get(key) for way in ways], presences)
    facts = dict(ways[0].state.facts)
    for way in ways[1:]:
        facts = {key: hull(fact, way.state.facts[key]) for key, fact in facts.items() if key in way.state.facts}
    return State(merged, facts), _choose([way.value for way in ways], presences)


def _merge_cells(key: Any, cells: list[Cell], presences: list[Presence]) -> Cell:
    there = [(cell, presence) for cell, presence in zip(cells, presences, strict=True) if cell is not None]
    if isinstance(key, str):
        return next(_numbers)  # changed in one of the ways: whatever was known is no longer
    if len(there) == 1 or all(cell == there[0][0] for cell, _ in there):
        return there[0][0]
    values, kept = [cell for cell, _ in there], [presence for _, presence in there]
    if all(isinstance(cell, Items) for cell in values):
        return _merge_items(values, kept)
    if all(isinstance(cell, Table) for cell in values):
        return _merge_tables(values, kept)
    if isinstance(values[0], Stream):
        return msgspec.structs.replace(values[0], begun=True)
    return _choose(values, kept)


def _choose(values: Sequence[Value], presences: Sequence[Presence]) -> Value:
    return choice([Case(one.label, one.facts, value) for value, one in zip(values, presences, strict=True)])


def _merge_items(lists: Sequence[Items], presences: Sequence[Presence]) -> Items:
    items: list[tuple[Value, Presence | None]] = []
    for at in range(max(len(one.items) for one in lists)):
        here = [
            (one.items[at], presence) for one, presence in zip(lists, presences, strict=True) if at < len(one.items)
        ]
        value = _choose([item[0] for item, _ in here], [presence for _, presence in here])
        if len(here) == len(lists):
            conditions = {item[1] for item, _ in here}
            items.append((value, conditions.pop() if len(conditions) == 1 else Presence(EITHER, ())))
        else:
            items.append((value, here[0][1] if len(here) == 1 else Presence(EITHER, ())))
    several = any(one.several for one in lists)
    return Items(lists[0].kind, tuple(items), _rest(one.rest for one in lists), several)


def _merge_tables(tables: Sequence[Table], presences: Sequence[Presence]) -> Table:
    items: dict[Value, tuple[Value, Presence | None]] = {}
    for key in dict.fromkeys(key for table in tables for key, _, _ in table.items):
        here = [
            (value, condition, presence)
            for table, presence in zip(tables, presences, strict=True)
            for name, value, condition in table.items
            if name == key
        ]
        value = _choose([one[0] for one in here], [one[2] for one in here])
        if len(here) == len(tables):
            conditions = {one[1] for one in here}
            items[key] = (value, conditions.pop() if len(conditions) == 1 else Presence(EITHER, ()))
        else:
            items[key] = (value, here[0][2] if len(here) == 1 else Presence(EITHER, ()))
    rest = _rest(table.rest for table in tables)
    return Table(tuple((key, *item) for key, item in items.items()), rest, any(table.several for table in tables))


def _rest(rests: Iterable[Value | None]) -> Value | None:
    some = [rest for rest in rests if rest is not None]
    return alternatives(some) if some else None


# ---- whether something goes on changing


def same(one: Any, other: Any, seen: Callable[[int, int], bool]) -> bool:
    """Whether two values or objects are equal but for which opaque data they hold.

    Args:
        seen: whether two containers are equal in this sense, by id.
    """
    if one is other:
        return True
    match one, other:
        case Data(), Data():
            return True
        case Ref(), Ref():
            return one.id == other.id or seen(one.id, other.id)
        case Choice(), Choice():
            return len(one.cases) == len(other.cases) and all(
                same(a.value, b.value, seen) for a, b in zip(one.cases, other.cases, strict=True)
            )
        case Fn(), Fn():
            return one.node is other.node and one.frame == other.frame
        case Method(), Method():
            return one.name == other.name and same(one.receiver, other.receiver, seen)
        case Partial(), Partial():
            return (
                same(one.function, other.function, seen)
                and len(one.args) == len(other.args)
                and all(same(a, b, seen) for a, b in zip(one.args, other.args, strict=True))
                and [key for key, _ in one.keywords] == [key for key, _ in other.keywords]
                and all(same(a[1], b[1], seen) for a, b in zip(one.keywords, other.keywords, strict=True))
            )
        case Stream(), Stream():
            return (
                (one.name, one.begun, len(one.args)) == (other.name, other.begun, len(other.args))
                and one.keywords == other.keywords
                and all(same(a, b, seen) for a, b in zip(one.args, other.args, strict=True))
            )
        case NewTask(), NewTask():
            return same(one.name, other.name, seen)
        case Items(), Items():
            return (
                len(one.items) == len(other.items)
                and all(
                    same(a[0], b[0], seen) and (a[1] is None) == (b[1] is None)
                    for a, b in zip(one.items, other.items, strict=True)
                )
                and _same_rest(one.rest, other.rest, seen)
            )
        case Table(), Table():
            return (
                [key for key, _, _ in one.items] == [key for key, _, _ in other.items]
                and all(
                    same(a[1], b[1], seen) and (a[2] is None) == (b[2] is None)
                    for a, b in zip(one.items, other.items, strict=True)
                )
                and _same_rest(one.rest, other.rest, seen)
            )
    return bool(one == other)


def _same_rest(one: Value | None, other: Value | None, seen: Callable[[int, int], bool]) -> bool:
    return one is other or (one is not None and other is not None and same(one, other, seen))


def widen(before: Cell, after: Cell) -> Cell:
    """A cell that covers both, and that grows only a few times whatever a loop does to it."""
    match before, after:
        case Items(), Items():
            at = 0
            shorter = min(len(before.items), len(after.items))
            while at < shorter and same(before.items[at], after.items[at], lambda *_: False):
                at += 1
            tail = [value for value, _ in (*before.items[at:], *after.items[at:])]
            rests = [one.rest for one in (before, after) if one.rest is not None]
            rest = widened([*rests, *tail]) if tail or rests else None
            return Items(before.kind, before.items[:at], rest, before.several or after.several)
        case Table(), Table():
            several = before.several or after.several
            keys = {key: (value, presence) for key, value, presence in before.items}
            rests = [one.rest for one in (before, after) if one.rest is not None]
            kept: dict[Value, tuple[Value, Presence | None]] = {}
            for key, value, presence in after.items:
                if key not in keys:
                    kept[key] = (value, Presence(EITHER, ()))
                else:
                    old, condition = keys.pop(key)
                    known = old if same(old, value, lambda *_: False) else widened([old, value])
                    kept[key] = (known, condition if condition == presence else Presence(EITHER, ()))
            for key, (value, _) in keys.items():
                kept[key] = (value, Presence(EITHER, ()))
            if len(kept) > CHOICES_MAX:
                return Table((), widened([*rests, *(value for value, _ in kept.values())]), several)
            rest = widened(rests) if rests else None
            return Table(tuple((key, *item) for key, item in kept.items()), rest, several)
        case Stream(), Stream():
            return msgspec.structs.replace(before, begun=before.begun or after.begun)
        case int(), int():
            return max(before, after)
    return widened([before, after])


def widened(values: Sequence[Value]) -> Value:
    """One of these values, without conditions: few alternatives as they are, many as what covers them."""
    every = list(dict.fromkeys(leaf for value in values for leaf in leaves(value)))
    datas = [value for value in every if isinstance(value, Data)]
    if len(datas) > 1:
        every = [value for value in every if not isinstance(value, Data)] + [datas[0]]
    wide = [value for value in every if isinstance(value, Text)]
    every = [value for value in every if not any(one is not value and _covers(one, value) for one in wide)]
    return cover(every) if len(every) > ALTERNATIVES_MAX else alternatives(every)


def _covers(one: Text, other: Value) -> bool:
    """Whether a text of one gap can be whatever another text is."""
    if sum(part is None for part in one.parts) > 1 or not (
        isinstance(other, Text) or (isinstance(other, Const) and isinstance(other.value, str))
    ):
        return False
    parts = text_of(other)
    head, tail = one.parts[0] or "", one.parts[-1] or ""
    begin, end = (parts[0] or "", parts[-1] or "") if parts else ("", "")
    if len(parts) == 1 and parts[0] is not None and len(parts[0]) < len(head) + len(tail):
        return False
    return begin.startswith(head) and end.endswith(tail)


ALTERNATIVES_MAX = 6  # of a value that a loop changes
