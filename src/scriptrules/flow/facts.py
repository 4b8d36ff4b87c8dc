"""The analysis of one file: from the text of a rule to its facts. Called in workers only, because it parses rule code.

It is total: whatever Python can parse has facts, nothing is ever raised, and what takes too long is an Unknown.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial

from scriptrules.diagnostics import CODES, Rejected
from scriptrules.flow.atoms import Atom, Branch, Case, List
from scriptrules.flow.conditions import written
from scriptrules.flow.domains import ANY, Domain
from scriptrules.flow.effects import Effect, Falls, ForkCase, Maybe, atom_of, edges_of, ends, together
from scriptrules.flow.interpreter.containers import field
from scriptrules.flow.interpreter.deciding import decide
from scriptrules.flow.interpreter.generating import generate
from scriptrules.flow.interpreter.machine import Arguments, Dead, Frame, Machine, TooComplex
from scriptrules.flow.interpreter.names import load_libraries
from scriptrules.flow.interpreter.streams import each
from scriptrules.flow.interpreter.tables import LANGUAGE
from scriptrules.flow.interpreter.truth import truths
from scriptrules.flow.shapes import Facts, RuleFacts, Start, Use, Via, given_up, unknown
from scriptrules.flow.values import (
    NONE,
    Choice,
    Const,
    Data,
    Fn,
    Lost,
    NewTask,
    State,
    TaskView,
    Value,
    const,
    opaque,
)
from scriptrules.function import FunctionSpec
from scriptrules.jobs import OUTCOMES
from scriptrules.model import Source
from scriptrules.rulebook import declarative, ignores, metadata
from scriptrules.rulebook.composing import comments as yaml_comments
from scriptrules.rulebook.files import is_declarative
from scriptrules.rulebook.index import EVERYTHING, is_literal

SOURCE_MAX = 100_000  # characters, as the policy has it
FRAMES_MAX = 4000  # of Python: a call in a rule takes about ten
TOO_COMPLEX = "the rule is too complex for the analysis"
TABLE_SEPARATOR = ":"  # between a file's rule name and the name of an entry of its table


def analyse(source: Source, functions: Mapping[str, FunctionSpec]) -> Facts:
    """What the rules of a file can generate.

    Args:
        source: the file, and the libraries that it may import.
        functions: the injected functions by name, those of plugins too.

    Returns:
        The facts; without rules where the text is no Python.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, FRAMES_MAX))
    try:
        tree = _declared(source.text) if is_declarative(source.file) else _parsed(source.text)
        if tree is None:
            return Facts([])
        libraries = {name: parsed for name, text in source.libraries.items() if (parsed := _parsed(text)) is not None}
        said, _ = metadata.read(tree, source.text, source.rule)
        entries: list[metadata.TableEntry | None] = [*said.table] or [None]
        body = _without_tables(tree) if said.table else tree.body
        rules = [_Analysis(source, functions, tree, body, libraries, said, entry).facts() for entry in entries]
        return Facts(rules, _ignored(source))
    except Exception:  # a mistake of the analysis is no reason to know nothing of the other rules
        return given_up(source.rule, TOO_COMPLEX)
    finally:
        sys.setrecursionlimit(limit)


def _parsed(text: str) -> ast.Module | None:
    if len(text) > SOURCE_MAX:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _without_tables(tree: ast.Module) -> list[ast.stmt]:
    """A module without its tables, as far as nobody reads them: each entry is analysed by itself."""
    read = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    tables = {"rules", "nomatch"} - read
    return [
        one
        for one in tree.body
        if not (isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and one.targets[0].id in tables)
    ]


def _ignored(source: Source) -> dict[str, list[int]]:
    """The lines on which comments have findings of the graph ignored."""
    comments = yaml_comments if is_declarative(source.file) else ignores.python_comments
    found = {code: sorted(ignores.lines(source.text, code, comments)) for code in CODES if code.startswith("SR5")}
    return {code: lines for code, lines in found.items() if lines}


def _declared(text: str) -> ast.Module | None:
    """The tree that a declarative rule stands for."""
    try:
        return declarative.read(text, None).make()
    except Rejected:
        return None


class _Analysis:
    """The analysis of one rule: of a file with `main`, or of an entry of a table."""

    def __init__(
        self,
        source: Source,
        functions: Mapping[str, FunctionSpec],
        tree: ast.Module,
        body: list[ast.stmt],
        libraries: Mapping[str, ast.Module],
        said: metadata.Metadata,
        entry: metadata.TableEntry | None,
    ) -> None:
        self.name = f"{source.rule}{TABLE_SEPARATOR}{entry.name}" if entry else source.rule
        self.body = body
        self.said = said
        self.entry = entry
        self.assigned = {
            target.id: one
            for one in tree.body
            if isinstance(one, ast.Assign)
            for target in one.targets
            if isinstance(target, ast.Name)
        }
        self.defined = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef)}
        self.machine = Machine(LANGUAGE, functions, libraries)
        self.fields: dict[str, int] = {}
        self.only: list[str] | None = None

    def facts(self) -> RuleFacts:
        """What there is to know."""
        machine, said = self.machine, self.said
        label = self._label()
        effects: list[Effect] = []
        atom: Atom
        try:
            matches = self._enter()
            if matches:
                effects = self._run()
            atom = atom_of(effects)
            if label and atom != List([]):
                atom = Branch([Case(label, atom)])
            edges = edges_of(effects, label)
        except (TooComplex, RecursionError):
            atom, edges = unknown(TOO_COMPLEX, self._line())
        notes = machine.notes
        return RuleFacts(
            rule=self.name,
            subsequents=atom,
            edges=edges,
            line=self._line(),
            on=said.on,
            only=self.only,
            has_on="on" in self.assigned or "schedule" in self.assigned,
            filtered=bool(label),
            fallback=self.entry.nomatch if self.entry else said.nomatch,
            priority=said.priority,
            enabled=said.enabled,
            scheduled="schedule" in self.assigned,
            fields=[Use(name, line) for name, line in self.fields.items()],
            received=[Use(name, line) for name, line in notes.received.items()],
            starts=[Start(host, options, line) for (host, line), options in notes.started.items()],
            unreached=sorted(line for one, line in notes.unreached.items() if one not in notes.reached),
            endless=[Use(name, line) for name, line in notes.endless.items()],
        )

    def _line(self) -> int:
        row = self._row()
        return self.said.line if row is None else row.lineno

    def _row(self) -> ast.Tuple | None:
        """The entry of the table."""
        if self.entry is None:
            return None
        table = self.assigned["nomatch" if self.entry.nomatch else "rules"].value
        row = table.elts[self.entry.index] if isinstance(table, (ast.List, ast.Tuple)) else None
        return row if isinstance(row, ast.Tuple) else None

    def _label(self) -> str:
        """The filter as the label around everything."""
        row = self._row()
        test: ast.expr | None
        if row is not None:
            test = row.elts[1]
        elif "when" in self.assigned:
            test = self.assigned["when"].value
        elif "when" in self.defined:
            body = [one for one in self.defined["when"].body if not _is_text(one)]
            only = body[0] if len(body) == 1 else None
            return written(only.value) if isinstance(only, ast.Return) and only.value is not None else "when(task)"
        else:
            return ""
        if isinstance(test, ast.Lambda):
            test = test.body
            return "" if isinstance(test, ast.Constant) and test.value is True else written(test)
        return f"{ast.unparse(test)}(task)"

    # ---- execution

    def _enter(self) -> bool:
        """Load the module, and take its filter to hold; returns whether it ever can."""
        machine = self.machine
        machine.frame = machine.new_id()
        machine.frames[machine.frame] = Frame(None, None, True)
        patterns = self.said.on
        if all(map(is_literal, patterns)):
            machine.state.facts["task.name"] = Domain(only=frozenset(patterns))
        elif EVERYTHING not in patterns:
            machine.state.facts["task.name"] = Domain(fits=tuple(patterns))
        load_libraries(machine)
        path = together(machine.block(self.body, machine.state))
        states = [end.state for end in ends(path) if isinstance(end, Falls)]
        if not states:
            return False
        machine.state = states[0]
        filter_ = self._filter()
        if filter_ is None:
            return True
        machine.notes.fields = self.fields
        try:
            true = self._holds(filter_)
        finally:
            machine.notes.fields = {}
        if true is None:
            return False
        machine.state = true
        named = true.facts.get("task.name", ANY)
        if named.only is not None:
            self.only = sorted(name for name in named.only if isinstance(name, str))
        return True

    def _filter(self) -> Value | None:
        machine = self.machine
        row = self._row()
        if row is not None:
            machine.at(row)
            return machine.evaluate(row.elts[1])
        return machine.state.cells.get((machine.frame, "when"))

    def _holds(self, filter_: Value) -> State | None:
        """The state in which a filter holds."""
        machine = self.machine
        if isinstance(filter_, Fn) and isinstance(filter_.node, ast.Lambda) and len(filter_.node.args.args) == 1:
            name = filter_.node.args.args[0].arg
            outer = machine.frame
            machine.frame = machine.new_id()
            machine.frames[machine.frame] = Frame(filter_.frame, frozenset({name}), True)
            machine.state.cells[machine.frame, name] = TaskView(True)
            machine.at(filter_.node)
            try:
                return decide(machine, filter_.node.body)[0]
            except Dead:
                return None
            finally:
                machine.frame = outer
        try:
            return truths(machine, machine.call(filter_, Arguments((TaskView(True),))))[0]
        except Dead:
            return None

    def _run(self) -> list[Effect]:
        machine = self.machine
        machine.effects = []
        row = self._row()
        try:
            if row is not None and self.entry is not None:
                machine.at(row)
                generator = machine.evaluate(row.elts[2])
                self._generate(machine.call(generator, Arguments((TaskView(True),))), self.entry)
            elif (main := machine.state.cells.get((machine.frame, "main"))) is not None:
                value = machine.call(main, self._arguments())
                machine.line = self.said.line
                self._tasks(value)
        except Dead:
            pass
        return machine.effects

    def _arguments(self) -> Arguments:
        """The task's data, by name."""
        machine = self.machine
        keywords: list[tuple[str, Value]] = []
        main = self.defined.get("main")
        for parameter in self.said.parameters:
            if parameter.name == "task":
                keywords.append(("task", TaskView(True)))
            else:
                data = field(parameter.name)
                known = machine.state.facts.get(data.key)
                there = parameter.required or (known is not None and known.truth is True)
                keywords.append((parameter.name, data if there else opaque(data.what)))
        rest = TaskView(False) if main is not None and main.args.kwarg is not None else None
        return Arguments(keywords=tuple(keywords), keyword_rest=rest)

    # ---- what was returned

    def _tasks(self, value: Value) -> None:
        """The tasks, and what follows the jobs, that `main` has returned."""
        machine = self.machine
        value = machine.state.narrow(value)
        match value:
            case Choice():
                self._fork(value, self._tasks)
            case NewTask():
                machine.line = value.line
                self._one(value)
            case Lost():
                effects = machine.effects
                machine.effects = []
                generate(machine, value, Via.RETURN, "what main returns")
                machine.effects = [*effects, Maybe(tuple(machine.effects))]
            case _:
                if machine.items(value) is not None:
                    each(machine, value, self._none(self._tasks))

    def _none(self, what: Callable[[Value], None]) -> Callable[[Value], Value]:
        def done(value: Value) -> Value:
            what(value)
            return NONE

        return done

    def _fork(self, value: Choice, what: Callable[[Value], None]) -> None:
        machine = self.machine
        cases = []
        for case in value.cases:
            state = machine.state.copy()
            if all(state.assume(key, domain) for key, domain in case.facts):
                done, _, effects = machine.apart(state, partial(self._none(what), case.value))
                cases.append(ForkCase(case.label, effects, done is None))
        machine.fork_effects(cases)

    def _one(self, task: NewTask) -> None:
        if task.via == Via.THEN:
            self.machine.waits()
            self._then(task.name)
        else:
            generate(self.machine, task.name, Via.RETURN, "the name of a returned task")

    def _then(self, value: Value) -> None:
        """What follows a job: a name, a task, a list of them, or a branch on its outcome."""
        machine = self.machine
        value = machine.state.narrow(value)
        table = machine.table(value)
        if isinstance(value, Choice):
            self._fork(value, self._then)
        elif isinstance(value, NewTask):
            generate(machine, value.name, Via.THEN, "the name of a task in `then`")
        elif table is not None:
            branch = machine.table(next((one for key, one, _ in table.items if key == const("branch")), NONE))
            cases = []
            for outcome in OUTCOMES:
                found = next((one for key, one, _ in branch.items if key == const(outcome)), None) if branch else None
                if found is not None:
                    _, _, effects = machine.apart(machine.state.copy(), partial(self._none(self._then), found))
                    cases.append(ForkCase(outcome, effects))
            machine.fork_effects(cases, total=len(cases) == 2)
        elif machine.items(value) is not None:
            each(machine, value, self._none(self._then))
        elif value != NONE:
            generate(machine, value, Via.THEN, "`then`")

    def _generate(self, value: Value, entry: metadata.TableEntry) -> None:
        """The tasks that the generator of a table's entry gives."""
        machine = self.machine
        via = Via.NOMATCH if entry.nomatch else Via.RETURN

        def make(value: Value) -> None:
            value = machine.state.narrow(value)
            table = machine.table(value)
            if isinstance(value, Choice):
                self._fork(value, make)
            elif table is not None:
                name = next(((one, there) for key, one, there in table.items if key == const("task")), None)
                if name is None or name[1] is not None:
                    generate(machine, const(entry.name), via, "task")
                if name is not None:
                    generate(machine, name[0], via, 'the key "task"')
                elif table.rest is not None:
                    generate(machine, opaque("whatever the key says"), via, 'the key "task"')
            elif machine.items(value) is not None:
                each(machine, value, self._none(make))
            elif not isinstance(value, Const):
                anything = Lost("whatever its key says") if not isinstance(value, Data) else value
                effects = machine.effects
                machine.effects = []
                generate(machine, anything, via, 'the key "task"')
                machine.effects = [*effects, Maybe(tuple(machine.effects))]

        make(value)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
