"""Statements: the paths on which each is left, with what is generated on the way and the state in which it is left."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from scriptrules.flow.atoms import OTHERWISE
from scriptrules.flow.conditions import negated, written
from scriptrules.flow.core import Arguments, Dead, Frame, TooComplex
from scriptrules.flow.effects import (
    Breaks,
    Continues,
    Fails,
    Falls,
    Path,
    Returns,
    Split,
    doubtful,
    ends,
    flat,
    goes_on,
    maybe,
    replace,
    settle,
    state_of,
    then,
    together,
)
from scriptrules.flow.handling import Handling
from scriptrules.flow.natives import TURNS_MAX, Element
from scriptrules.flow.values import (
    EITHER,
    NONE,
    Case,
    Choice,
    Const,
    Data,
    Items,
    Module,
    Native,
    Ref,
    State,
    Table,
    Value,
    Way,
    alternatives,
    merge,
    opaque,
)
from scriptrules.function import FunctionSpec

WHILE_MAX = 30  # turns of a `while` that are followed one by one


class Interpreter(Handling):
    def __init__(self, functions: Mapping[str, FunctionSpec], libraries: Mapping[str, ast.Module]) -> None:
        super().__init__(functions)
        self.libraries = libraries
        self.loaded: dict[str, int] = {}  # library: the frame of its module

    def block(self, statements: Sequence[ast.stmt], state: State) -> Path:
        """Statements one after the other."""
        path = Path((), Falls(state))
        for statement in statements:
            if not goes_on(path):
                self.note_unreached(statement)
                break
            self.notes.reached.add(id(statement))
            path = then(path, lambda state, statement=statement: self.statement(statement, state))  # type: ignore[misc]
        return path

    def note_unreached(self, statement: ast.stmt) -> None:
        frame = self.frames[self.frame]
        if frame.own and frame.names is not None:  # a module that cannot be loaded has other findings
            self.notes.unreached.setdefault(id(statement), statement.lineno)

    def statement(self, node: ast.stmt, state: State) -> Path:
        self.step(state)
        self.at(node)
        for known in self.tries[-1:]:
            known.append(state.copy())
        match node:
            case ast.If():
                return self.if_(node, state)
            case ast.For():
                return self.for_(node, state)
            case ast.While():
                return self.while_(node, state, WHILE_MAX)
            case ast.Try():
                return self.try_(node, state)
            case ast.Match():
                return self.match_(node, state)
        path = self.simple(node, state)
        if self.tries:
            self.tries[-1] += [end.state.copy() for end in ends(path) if not isinstance(end, (Fails, Split))]
        return path

    def simple(self, node: ast.stmt, state: State) -> Path:
        """A statement that holds no others."""
        value: Value = NONE

        def execute() -> Value:
            nonlocal value
            value = self.execute_simple(node)
            return value

        before, effects, pending = self.state, self.effects, self.pending
        self.state, self.effects, self.pending = state, [], []
        try:
            end: Falls | Returns | Breaks | Continues | Fails | Split
            try:
                execute()
                end = Falls(self.state)
                match node:
                    case ast.Return():
                        end = Returns(self.state, value)
                    case ast.Break():
                        end = Breaks(self.state)
                    case ast.Continue():
                        end = Continues(self.state)
                for cases in self.pending[:1]:
                    if sum(alive for _, alive in cases) == 1:
                        base = dict(self.state.facts)
                        end = Split(tuple((label, Path((), end if alive else Fails())) for label, alive in cases), base)
            except Dead:
                end = Fails()
                self.thrown()
            return Path(tuple(self.effects), end)
        finally:
            self.state, self.effects, self.pending = before, effects, pending

    def execute_simple(self, node: ast.stmt) -> Value:
        match node:
            case ast.Expr():
                self.evaluate(node.value)
            case ast.Assign():
                assigned = self.evaluate(node.value)
                for target in node.targets:
                    self.assign(target, assigned)
            case ast.AnnAssign():
                if node.value is not None:
                    self.assign(node.target, self.evaluate(node.value))
            case ast.AugAssign():
                self.augment(node)
            case ast.Return():
                return NONE if node.value is None else self.used(node.value)
            case ast.FunctionDef():
                value: Value = self.function(node)
                for decorator in reversed(node.decorator_list):
                    value = self.call(self.evaluate(decorator), Arguments((value,)))
                self.write(node.name, value)
            case ast.Import() | ast.ImportFrom():
                self.import_(node)
            case ast.Raise():
                if node.exc is not None:
                    self.evaluate(node.exc)
                raise Dead
            case ast.Assert():
                true, _ = self.decide(node.test)
                if true is None:
                    raise Dead
                self.state = true
            case ast.Delete():
                for target in node.targets:
                    self.delete(target)
            case ast.Pass() | ast.Nonlocal() | ast.Global() | ast.Break() | ast.Continue():
                pass
            case _:
                raise TooComplex
        return NONE

    # ---- assignments

    def assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name():
                self.write(target.id, value)
            case ast.Tuple() | ast.List():
                self.unpack(target.elts, value)
            case ast.Starred():
                self.assign(target.value, value)
            case ast.Subscript():
                self.store(self.evaluate(target.value), target.slice, value)
            case ast.Attribute():
                self.evaluate(target.value)

    def unpack(self, targets: Sequence[ast.expr], value: Value) -> None:
        value = self.state.narrow(value)
        star = next((at for at, one in enumerate(targets) if isinstance(one, ast.Starred)), None)
        if isinstance(value, Choice):
            columns = self.columns(value, len(targets)) if star is None else None
            if columns is not None:
                for target, one in zip(targets, columns, strict=True):
                    self.assign(target, one)
                return
        items, rest = self.elements(value)
        exact = rest is None and all(presence is None for _, presence in items)
        if exact and star is None and len(items) == len(targets):
            for target, (item, _) in zip(targets, items, strict=True):
                self.assign(target, item)
            return
        if exact and star is not None and len(items) >= len(targets) - 1:
            behind = len(targets) - star - 1
            for target, (item, _) in zip(targets[:star], items, strict=False):
                self.assign(target, item)
            self.assign(targets[star], self.new(Items("list", items[star : len(items) - behind])))
            for target, (item, _) in zip(targets[star + 1 :], items[len(items) - behind :], strict=True):
                self.assign(target, item)
            return
        if exact and not isinstance(value, Choice):
            raise Dead
        every = [item for item, _ in items] + ([] if rest is None else [rest])
        mixed = alternatives(every) if every else opaque("a part of a value")
        for target in targets:
            inner = self.new_list([], rest=mixed) if isinstance(target, ast.Starred) else mixed
            fresh = opaque(inner.what) if isinstance(inner, Data) else inner
            self.assign(target, fresh)

    def columns(self, value: Choice, count: int) -> list[Value] | None:
        """The parts of a value that is one of several tuples, each with the conditions of the whole."""
        rows = []
        for case in value.cases:
            items = self.items(case.value)
            if items is None or not items.exact or len(items.items) != count:
                return None
            rows.append((case, items))
        return [
            Choice(tuple(Case(case.label, case.facts, items.items[at][0]) for case, items in rows))
            for at in range(count)
        ]

    def store(self, container: Value, index: ast.expr, value: Value) -> None:
        """``container[index] = value``."""
        key = self.used(index)
        container = self.state.narrow(container)
        weak = isinstance(container, Choice)
        for one in self.cases(container):
            if not isinstance(one, Ref):
                self.changed(one)
                continue
            content = self.state.cells.get(one.id)
            if isinstance(content, Table):
                put = self.put(content, key, value)
                if weak:
                    put = cast(Table, self.widened(State({0: content}, {}), State({0: put}, {})).cells[0])
                self.state.cells[one.id] = put
            elif isinstance(content, Items):
                weak = weak or content.several
                exact = isinstance(key, Const) and isinstance(key.value, int) and content.exact and not weak
                if exact and -len(content.items) <= key.value < len(content.items):  # type: ignore[union-attr]
                    items = list(content.items)
                    items[key.value] = (value, None)  # type: ignore[union-attr]
                    self.state.cells[one.id] = Items(content.kind, tuple(items), content.rest)
                else:
                    every = [item for item, _ in content.items] + ([] if content.rest is None else [content.rest])
                    more = self.elements(value) if isinstance(index, ast.Slice) else (((value, None),), None)
                    every += [item for item, _ in more[0]] + ([] if more[1] is None else [more[1]])
                    rest = alternatives(every) if every else None
                    self.state.cells[one.id] = Items(content.kind, (), rest, content.several)

    def augment(self, node: ast.AugAssign) -> None:
        load = _loaded(node.target)
        before, added = self.used(load), self.used(node.value)
        items, table = self.items(before), self.table(before)
        if items is not None and isinstance(before, Ref) and isinstance(node.op, (ast.Add, ast.BitOr)):
            more, rest = self.elements(self.state.narrow(added))
            self.state.cells[before.id] = self.extended(items, more, rest)
            return
        if table is not None and isinstance(before, Ref) and isinstance(node.op, ast.BitOr):
            other = self.table(added)
            self.state.cells[before.id] = self.updated(table, Table((), opaque("a value")) if other is None else other)
            return
        self.changed(before)
        self.assign(node.target, self.spread([before, added], lambda a, b: self.binary(node.op, a, b)))

    def delete(self, target: ast.expr) -> None:
        if isinstance(target, ast.Subscript):
            container = self.evaluate(target.value)
            self.method(container, "pop", Arguments((self.used(target.slice),), texts=(ast.unparse(target.slice),)))

    # ---- imports

    def import_(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                self.write(alias.asname or name, Module(name))
            return
        module = node.module or ""
        for alias in node.names:
            value: Value = Module(f"lib.{alias.name}") if module == "lib" else self.member(module, alias.name)
            self.write(alias.asname or alias.name, value)

    def member(self, module: str, name: str) -> Value:
        kind, _, library = module.partition(".")
        if kind != "lib":
            return Native(f"{module}.{name}")
        if not library:
            return Module(f"lib.{name}")
        if library not in self.loaded and library in self.libraries:
            self.load(library)
        value = self.state.cells.get((self.loaded.get(library), name))
        if value is None:
            raise Dead
        return value  # type: ignore[no-any-return]

    def load(self, library: str) -> None:
        """Execute the module of a library."""
        frame, effects = self.frame, self.effects
        self.frame = self.loaded[library] = self.new_id()
        self.frames[self.frame] = Frame(None, None, False)
        self.effects = []
        try:
            path = together(self.block(self.libraries[library].body, self.state))
            for end in ends(path):
                if isinstance(end, Falls):
                    self.state = end.state
        finally:
            self.frame, self.effects = frame, effects

    # ---- choices

    def if_(self, node: ast.If, state: State) -> Path:
        base = state.facts
        made, true, false = self.apart_decide(node.test, state)
        if isinstance(made.end, Fails):
            return made
        if true is None or false is None:
            inner = self.block(node.body, true) if true is not None else self.block(node.orelse, cast(State, false))
            return Path((*made.effects, *inner.effects), inner.end)
        chain = [(written(node.test), node.body, true)]
        rest, orelse = false, node.orelse
        paths: list[tuple[str | None, Path]] = []
        last = negated(node.test)
        while len(orelse) == 1 and isinstance(orelse[0], ast.If):
            inner_if = orelse[0]
            self.notes.reached.add(id(inner_if))
            self.at(inner_if)
            more, true, false = self.apart_decide(inner_if.test, rest)
            if more.effects or isinstance(more.end, Fails):
                break
            if true is not None:
                chain.append((last if false is None else written(inner_if.test), inner_if.body, true))
                last = OTHERWISE
            orelse = inner_if.orelse
            if false is None:
                rest, orelse = cast(State, None), []
                break
            rest = false
        self.doubt += 1
        try:
            for label, body, begun in chain:
                paths.append((label, self.block(body, begun)))
            if rest is not None:
                paths.append((last, self.block(orelse, rest)))
        finally:
            self.doubt -= 1
        return settle(Path(made.effects, Split(tuple(paths), base)))

    # ---- loops

    def for_(self, node: ast.For, state: State) -> Path:
        value: Value = NONE

        def evaluate() -> Value:
            nonlocal value
            value = self.state.narrow(self.evaluate(node.iter))
            return value

        done, state, effects = self.apart(state, evaluate)
        if done is None:
            return Path(effects, Fails())
        if isinstance(value, Choice):
            base = state.facts
            paths: list[tuple[str | None, Path]] = []
            for case in value.cases:
                inner = state.copy()
                if all(inner.assume(key, fact) for key, fact in case.facts):
                    paths.append((case.label, self.loop_over(node, case.value, inner)))
            if not paths:
                return Path(effects, Fails())
            return settle(Path(effects, Split(tuple(paths), base)))
        path = self.loop_over(node, value, state)
        return Path((*effects, *path.effects), path.end)

    def loop_over(self, node: ast.For, value: Value, state: State) -> Path:
        before, self.state = self.state, state
        try:
            items, rest = self.elements(self.state.narrow(value))
        except Dead:
            return Path((), Fails())
        finally:
            self.state = before
        if len(items) > TURNS_MAX:
            every = [item for item, _ in items] + ([] if rest is None else [rest])
            items, rest = (), alternatives(every)
        path = Path((), Falls(state))
        for item in items:
            if not goes_on(path):
                break
            path = then(path, lambda state, item=item: self.turn(node, item, state))  # type: ignore[misc]
        if rest is not None:
            element = rest
            label = f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}"
            path = then(
                path, lambda state: self.any_turns(lambda begun: self.turn(node, (element, None), begun), state, label)
            )
        return self.after_loop(node, path)

    def after_loop(self, node: ast.For | ast.While, path: Path) -> Path:
        """The `else` of a loop, and where `break` leads to."""
        if node.orelse:
            path = then(path, lambda state: self.block(node.orelse, state))
        return settle(replace(path, Breaks, lambda end: Path((), Falls(end.state))))  # type: ignore[union-attr]

    def turn(self, node: ast.For, element: Element, state: State) -> Path:
        """One turn of a loop; `continue` ends it as its last line does."""
        self.step()
        item, presence = element
        if isinstance(item, Data):
            item = opaque(item.what)  # another one in each turn
        there: State | None = state
        if presence is not None:
            there = state.copy()
            if not all(there.assume(key, fact) for key, fact in presence.facts):
                return Path((), Falls(state))
        before, self.state = self.state, cast(State, there)
        try:
            self.assign(node.target, item)
            begun = self.state
        except Dead:
            return Path((), Fails())
        finally:
            self.state = before
        path = settle(replace(self.block(node.body, begun), Continues, lambda end: Path((), Falls(end.state))))  # type: ignore[union-attr]
        if presence is None:
            return path
        split = Split(((presence.label, path), (None, Path((), Falls(state)))), state.facts)
        return settle(Path((), split))

    def any_turns(self, turn: Callable[[State], Path], state: State, label: str, least: int = 0) -> Path:
        """Any number of turns, at least `least` (0 or 1) of them."""

        def after(begun: State) -> list[State]:
            return [end.state for end in ends(turn(begun)) if isinstance(end, Falls)]

        self.doubt += 1
        try:
            head = self.stable(state, after)
            path = turn(head.copy())
        finally:
            self.doubt -= 1
        falls = [end.state for end in ends(path) if isinstance(end, Falls)]
        behind = head
        for one in falls:
            behind = self.widened(behind, one)
        if all(isinstance(end, (Falls, Breaks)) for end in ends(path)):
            breaks = [Way(EITHER, end.state) for end in ends(path) if isinstance(end, Breaks)]
            effects = flat(path) if least else maybe(flat(path))
            cases: list[tuple[str | None, Path]] = [] if least and not falls else [(None, Path((), Falls(behind)))]
            if breaks:
                cases.append((None, Path((), Breaks(merge(breaks, state.facts)[0]))))
            if least:
                cases = [case for case in cases if not isinstance(case[1].end, Falls)] or [(None, Path((), Fails()))]
            return Path(effects, cases[0][1].end if len(cases) == 1 else Split(tuple(cases), state.facts))
        if least:
            return replace(path, Falls, lambda end: Path((), Fails()))
        if not falls:
            none: list[tuple[str | None, Path]] = [(label, path), (OTHERWISE, Path((), Falls(behind)))]
            return Path((), Split(tuple(none), state.facts))
        return replace(doubtful(path), Falls, lambda end: Path((), Falls(behind)))

    def while_(self, node: ast.While, state: State, left: int) -> Path:
        """A loop that is followed turn by turn for as long as its condition is known."""
        made, true, false = self.apart_decide(node.test, state.copy())
        if isinstance(made.end, Fails):
            return made
        if true is None:
            return self.after_loop(node, Path(made.effects, Falls(cast(State, false))))
        label = f"while {written(node.test)}"
        if false is not None or not left:
            path = self.any_turns(lambda begun: self.while_turn(node, begun), state, label)
            return self.after_loop(node, self.left_loop(node, path))
        turn = self.while_turn(node, state.copy())
        if isinstance(turn.end, Falls) and self.repeating(state, turn.end.state):
            turn = Path(turn.effects, Fails())  # nothing has changed, so nothing ever will
        elif isinstance(turn.end, Split) and isinstance(node.test, ast.Constant):
            turn = self.any_turns(lambda begun: self.while_turn(node, begun), state, label, least=1)
        else:
            turn = then(turn, lambda after: self.while_(node, after, left - 1))
        return settle(replace(turn, Breaks, lambda end: Path((), Falls(end.state))))  # type: ignore[union-attr]

    def repeating(self, before: State, after: State) -> bool:
        """Whether a turn of a loop ends as it has begun."""
        facts = {key: fact for key, fact in before.facts.items() if key in after.facts}
        return self.equal(State(before.cells, facts), State(after.cells, facts))

    def left_loop(self, node: ast.While, path: Path) -> Path:
        """The path with what is known once the condition of the loop does not hold."""

        def ended(state: State) -> Path:
            _, _, false = self.apart_decide(node.test, state.copy())
            return Path((), Fails() if false is None else Falls(false))

        return then(path, ended)

    def while_turn(self, node: ast.While, state: State) -> Path:
        made, true, _ = self.apart_decide(node.test, state)
        if true is None:
            return Path(made.effects, Fails())
        path = replace(self.block(node.body, true), Continues, lambda end: Path((), Falls(state_of(end))))
        return settle(Path((*made.effects, *path.effects), path.end))


def _loaded(target: ast.expr) -> ast.expr:
    match target:
        case ast.Name():
            return ast.copy_location(ast.Name(target.id, ast.Load()), target)
        case ast.Subscript():
            return ast.copy_location(ast.Subscript(target.value, target.slice, ast.Load()), target)
    return target
