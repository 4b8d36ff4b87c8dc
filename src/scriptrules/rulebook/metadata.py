"""What a rule says about itself, read from its syntax tree: a rule never runs to be read.

Called in workers only. A problem becomes a diagnostic (SR3xx), never an exception; several are reported together.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from scriptrules.diagnostics import Diagnostic
from scriptrules.errors import nearest
from scriptrules.model import Control, Limit, Retries
from scriptrules.rulebook import control
from scriptrules.rulebook.control import Schedule, scheduled_task
from scriptrules.rulebook.index import EVERYTHING, PATTERN

CONTROLS: dict[str, tuple[str, Callable[[Any], Any]]] = {  # the code of a wrong value, and who reads it
    "retries": ("SR311", control.read_retries),
    "timeout": ("SR312", control.read_timeout),
    "limit": ("SR313", control.read_limit),
    "schedule": ("SR314", control.read_schedule),
}
KNOWN = ("on", "when", "nomatch", "priority", "final", *CONTROLS, "enabled", "rules")


class Parameter(msgspec.Struct, frozen=True):
    name: str
    required: bool


class TableEntry(msgspec.Struct, frozen=True):
    name: str
    index: int
    nomatch: bool


class HostUse(msgspec.Struct, frozen=True):
    """Where a declarative rule names the host of its job."""

    host: str
    type: str  # of the job
    executor: str  # the kind that the host must have
    line: int
    column: int
    end_line: int
    end_column: int


class Follow(msgspec.Struct, frozen=True):
    """Where the `then` of a declarative rule names a task."""

    task: str
    line: int
    column: int
    end_line: int
    end_column: int
    circle: bool = False  # its author knows that it may be part of a circle


class Metadata(msgspec.Struct, frozen=True):
    """A rule file as the rulebook knows it. `table` is empty for a rule with `main`."""

    doc: str = ""
    on: list[str] = msgspec.field(default_factory=lambda: [EVERYTHING])
    nomatch: bool = False
    priority: int = 0
    final: bool = False
    enabled: bool = True
    when: str | None = None  # its source text
    parameters: list[Parameter] = []
    rest: bool = False  # main takes **kwargs
    table: list[TableEntry] = []
    line: int = 1  # of main, or of the table
    at: str | None = None  # of a breakpoint: what it stops
    hosts: list[HostUse] = []  # of a declarative rule
    then: list[Follow] = []  # of a declarative rule
    retries: Retries | None = None
    timeout: float | None = None  # seconds
    limit: Limit | None = None
    schedule: Schedule | None = None

    @property
    def control(self) -> Control | None:
        """What a run of this rule keeps to, if anything."""
        if self.retries is None and self.timeout is None and self.limit is None:
            return None
        return Control(self.retries, self.timeout, self.limit)


def read(tree: ast.Module, text: str, rule: str = "rule") -> tuple[Metadata, list[Diagnostic]]:
    """The metadata of a parsed rule and what is wrong with them."""
    reader = _Reader(tree, text, rule)
    return reader.read(), sorted(reader.problems, key=lambda problem: (problem.line, problem.column))


class _Reader:
    def __init__(self, tree: ast.Module, text: str, rule: str) -> None:
        self.tree = tree
        self.rule = rule
        self.text = text
        self.problems: list[Diagnostic] = []
        self.assigned: dict[str, ast.expr] = {}
        self.functions: dict[str, ast.FunctionDef] = {}

    def read(self) -> Metadata:
        self._collect()
        values: dict[str, Any] = {"doc": ast.get_docstring(self.tree) or ""}
        self._read_on(values)
        for name, kind, wanted in (
            ("priority", int, "a whole number"),
            ("final", bool, "True or False"),
            ("enabled", bool, "True or False"),
        ):
            if name in self.assigned:
                self._read_literal(values, name, kind, wanted)
        for name in CONTROLS:
            if name in self.assigned:
                self._read_control(values, name)
        self._read_when(values)
        table = self._read_table("rules", False, set())
        table += self._read_nomatch(values, {entry.name for entry in table})
        main = self.functions.get("main")
        if main is not None and table:
            self._problem(
                "SR307", main, "A file has either `main` or a table, not both.", "Move one to a file of its own."
            )
        elif main is not None:
            self._read_main(values, main)
        elif table:
            values["table"] = table
            values["line"] = self.assigned["rules" if "rules" in self.assigned else "nomatch"].lineno
        elif not self.problems:
            self._problem("SR301", None, "The rule has no `main`.", "Write `def main(**kwargs): ...`.")
        return Metadata(**values)

    # ---- collecting

    def _collect(self) -> None:
        read_names = {
            node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        for statement in self.tree.body:
            if isinstance(statement, ast.FunctionDef):
                self.functions[statement.name] = statement
            for name, node, value in _assignments(statement):
                if name in self.assigned and name in KNOWN:
                    self._problem("SR310", node, f"`{name}` is assigned twice.", "Keep one assignment.")
                self._check_name(name, node, value, read_names)
                self.assigned[name] = value
            self._check_nested(statement)
            self._check_targets(statement)

    def _check_name(self, name: str, node: ast.AST, value: ast.expr, read_names: set[str]) -> None:
        if name not in KNOWN and name == name.lower() and name not in read_names and _is_literal(value):
            self._problem(
                "SR302",
                node,
                f"unknown metadata `{name}`{nearest(name, KNOWN)}",
                f"Known: {', '.join(KNOWN)}. A constant of your own is one that the rule reads, or in CAPITALS.",
            )

    def _check_nested(self, statement: ast.stmt) -> None:
        if not isinstance(statement, (ast.If, ast.For, ast.While, ast.Try)):
            return
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in KNOWN:
                self._problem(
                    "SR303", node, f"`{node.id}` is metadata and must not depend on anything.", "Assign it at the top."
                )

    def _check_targets(self, statement: ast.stmt) -> None:
        """``on, when = …`` and ``on += …`` would be overlooked, and the rule match what it should not."""
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = [target for target in statement.targets if not isinstance(target, ast.Name)]
        elif isinstance(statement, ast.AugAssign):
            targets = [statement.target]
        for node in (node for target in targets for node in ast.walk(target)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in KNOWN:
                self._problem("SR303", node, f"`{node.id}` is assigned together with others.", "Assign it by itself.")

    # ---- the single ones

    def _read_literal(self, values: dict[str, Any], name: str, kind: type, wanted: str) -> None:
        node = self.assigned[name]
        value = self._literal(name, node)
        if value is not _BAD:
            if type(value) is kind:
                values[name] = value
            else:
                self._problem("SR304", node, f"`{name}` is not {wanted}.", f"Write {wanted}.")

    def _read_on(self, values: dict[str, Any]) -> None:
        node = self.assigned.get("on")
        if node is None:
            return
        value = self._literal("on", node)
        if value is _BAD:
            return
        patterns = [value] if isinstance(value, str) else value
        if not isinstance(patterns, (list, tuple)) or not patterns or not all(isinstance(one, str) for one in patterns):
            self._problem("SR304", node, "`on` is not a name, a pattern, or a list of them.", 'Write on = "upload.*".')
            return
        for pattern in patterns:
            if not PATTERN.match(pattern) or len(pattern) > 200:
                self._problem(
                    "SR308",
                    node,
                    f"{pattern!r} is not a pattern.",
                    "Segments of letters, digits, _ and - with dots between; * is one segment, ** any number.",
                )
                return
        values["on"] = list(patterns)

    def _read_control(self, values: dict[str, Any], name: str) -> None:
        node = self.assigned[name]
        code, reader = CONTROLS[name]
        value = self._literal(name, node)
        if value is _BAD:
            return
        try:
            values[name] = reader(value)
            if name == "schedule":
                values["on"] = [*values.get("on", []), scheduled_task(self.rule)]
        except control.BadValue as error:
            self._problem(code, node, error.message, error.hint)

    def _read_when(self, values: dict[str, Any]) -> None:
        value = self.assigned.get("when")
        written = self.functions.get("when")
        node: ast.AST | None = value if value is not None else written
        if node is None:
            return
        if isinstance(value, ast.Lambda):
            arguments = value.args
            text = ast.get_source_segment(self.text, value.body) or ""
        elif written is not None:
            arguments = written.args
            text = ast.get_source_segment(self.text, written) or ""
        else:
            self._problem("SR306", node, "`when` is not a function.", 'Write when = lambda task: task["size"] > 0.')
            return
        names = [*arguments.posonlyargs, *arguments.args]
        if len(names) != 1 or arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults:
            self._problem("SR306", node, "`when` must take exactly one parameter.", "Write when = lambda task: ….")
            return
        values["when"] = text

    def _read_main(self, values: dict[str, Any], main: ast.FunctionDef) -> None:
        arguments = main.args
        if arguments.posonlyargs or arguments.vararg:
            self._problem(
                "SR305",
                main,
                "`main` gets the task's data by name; positional-only parameters and *args cannot be filled.",
                "Write def main(size, **kwargs).",
            )
            return
        plain = len(arguments.args) - len(arguments.defaults)
        parameters = [Parameter(argument.arg, at < plain) for at, argument in enumerate(arguments.args)]
        parameters += [
            Parameter(argument.arg, default is None)
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ]
        values["parameters"] = parameters
        values["rest"] = arguments.kwarg is not None
        values["line"] = main.lineno

    # ---- tables

    def _read_nomatch(self, values: dict[str, Any], taken: set[str]) -> list[TableEntry]:
        node = self.assigned.get("nomatch")
        if node is None:
            return []
        if isinstance(node, (ast.List, ast.Tuple)):
            return self._read_table("nomatch", True, taken)
        self._read_literal(values, "nomatch", bool, "True, False, or a table")
        return []

    def _read_table(self, name: str, nomatch: bool, taken: set[str]) -> list[TableEntry]:
        node = self.assigned.get(name)
        if node is None:
            return []
        shape = "Write [(name, filter, generator), …] with the name as text."
        if not isinstance(node, (ast.List, ast.Tuple)):
            self._problem("SR307", node, f"`{name}` is not a list.", shape)
            return []
        if not node.elts:
            self._problem("SR307", node, f"`{name}` is empty.", shape)
        entries: list[TableEntry] = []
        for index, row in enumerate(node.elts):
            first = row.elts[0] if isinstance(row, ast.Tuple) and len(row.elts) == 3 else None
            if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
                self._problem("SR307", row, f"entry {index + 1} of `{name}` is not (name, filter, generator).", shape)
            elif not PATTERN.match(first.value) or "*" in first.value:
                self._problem(
                    "SR307",
                    row,
                    f"{first.value!r} is not the name of a task.",
                    "Segments of letters, digits, _ and - with dots between.",
                )
            elif first.value in taken:
                self._problem("SR307", row, f"there are two entries {first.value!r}.", "Give each its own name.")
            else:
                taken.add(first.value)
                entries.append(TableEntry(first.value, index, nomatch))
        return entries

    # ---- helpers

    def _literal(self, name: str, node: ast.expr) -> Any:
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, MemoryError, RecursionError, SyntaxError):
            self._problem("SR303", node, f"`{name}` is not a literal.", "Write its value itself; it is read, not run.")
            return _BAD

    def _problem(self, code: str, node: ast.AST | None, message: str, hint: str) -> None:
        self.problems.append(
            Diagnostic(
                code=code,
                message=message,
                line=getattr(node, "lineno", 1),
                column=getattr(node, "col_offset", 0),
                end_line=getattr(node, "end_lineno", None),
                end_column=getattr(node, "end_col_offset", None),
                hint=hint,
            )
        )


_BAD = object()


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.AST, ast.expr]]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, target, statement.value
    elif (
        isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value is not None
    ):
        yield statement.target.id, statement.target, statement.value


def _is_literal(node: ast.expr) -> bool:
    return all(
        isinstance(
            part,
            (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp, ast.USub, ast.UAdd, ast.expr_context),
        )
        for part in ast.walk(node)
    )
