"""Which names a rule reads that nothing defines, and which calls cannot work, read from its syntax tree (SR401 ff.).

Called in workers only, with trees that the policy has accepted: there are no classes, no `global`, no star imports.
What is found are warnings, so nothing is reported that may be right: a call with ``*`` or ``**`` is not looked at, and
names of executions only where all of them are literals.

Tried and rejected: `symtable` (it knows scopes but no places, and parses the text again); names bound anywhere in the
file as known everywhere (it overlooks the commonest slip, a helper that reads a variable of `main`).
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from scriptrules.diagnostics import CODES, Diagnostic
from scriptrules.errors import nearest
from scriptrules.function import FunctionSpec
from scriptrules.jobs import COMPUTED, JobType, mistakes, unknown_type

LIBRARY = "lib"
MOST = 50  # findings of a kind; whoever has more reads no more
CANDIDATES_MAX = 500  # for the nearest name: it takes 10 microseconds each


class Words(msgspec.Struct, frozen=True):
    """What a rule finds without defining it."""

    builtins: frozenset[str]  # everything, the injected functions too
    functions: dict[str, FunctionSpec]  # the injected functions
    jobs: dict[str, JobType] = {}  # the types that `Job(...)` knows


class _Scope:
    """The names that a module, a function or a comprehension binds."""

    __slots__ = ("function", "names", "outer")

    def __init__(self, outer: _Scope | None, comprehension: bool = False) -> None:
        self.outer = outer
        self.names: set[str] = set()
        self.function: _Scope = outer.function if comprehension and outer is not None else self

    def visible(self) -> set[str]:
        """The names that can be read here."""
        found: set[str] = set()
        scope: _Scope | None = self
        while scope is not None:
            found |= scope.names
            scope = scope.outer
        return found

    def binds(self, name: str) -> bool:
        """Whether the name is one of the file's own, seen from here."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.names:
                return True
            scope = scope.outer
        return False


class _Survey:
    """Every scope, read, call and import of a library in one tree."""

    def __init__(self, tree: ast.Module) -> None:
        self.module = _Scope(None)
        self.reads: list[tuple[ast.Name, _Scope]] = []
        self.calls: list[tuple[ast.Call, _Scope]] = []
        self.imports: list[ast.ImportFrom] = []
        self._todo: list[tuple[ast.AST | None, _Scope]] = [(tree, self.module)]
        while self._todo:  # no recursion: a worker's stack is bounded
            node, scope = self._todo.pop()
            if node is not None:
                self._visit(node, scope)

    def free(self) -> list[tuple[ast.Name, _Scope]]:
        """The reads of names that the file itself does not define."""
        return [(node, scope) for node, scope in self.reads if not scope.binds(node.id)]

    def uses(self, function: str) -> list[ast.Call]:
        """The calls of an injected function by its own name."""
        return [
            node
            for node, scope in self.calls
            if isinstance(node.func, ast.Name) and node.func.id == function and not scope.binds(function)
        ]

    def _later(self, nodes: Iterable[ast.AST | None], scope: _Scope) -> None:
        self._todo.extend((node, scope) for node in nodes)

    def _visit(self, node: ast.AST, scope: _Scope) -> None:
        match node:
            case ast.Name():
                if isinstance(node.ctx, ast.Load):
                    self.reads.append((node, scope))
                else:
                    scope.names.add(node.id)
                return
            case ast.FunctionDef():
                scope.names.add(node.name)
                self._later(node.decorator_list, scope)
                self._enter(node.args, node.body, scope)
                return
            case ast.Lambda():
                self._enter(node.args, [node.body], scope)
                return
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self._comprehend(node, scope)
                return
            case ast.NamedExpr():
                scope.function.names.add(node.target.id)
                self._later([node.value], scope)
                return
            case ast.AugAssign(target=ast.Name() as target):
                self.reads.append((target, scope))  # it changes what another statement has to bind
                self._later([node.value], scope)
                return
            case ast.AnnAssign():
                self._later([node.target, node.value], scope)  # annotations are not evaluated
                return
            case ast.Import() | ast.ImportFrom():
                scope.names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == LIBRARY:
                    self.imports.append(node)
                return
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                scope.names.add(name)
            case ast.MatchMapping(rest=str(name)):
                scope.names.add(name)
            case ast.Call():
                self.calls.append((node, scope))
        self._later(ast.iter_child_nodes(node), scope)

    def _enter(self, arguments: ast.arguments, body: Iterable[ast.AST], scope: _Scope) -> None:
        inner = _Scope(scope)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        inner.names.update(argument.arg for argument in every if argument is not None)
        self._later([*arguments.defaults, *arguments.kw_defaults], scope)
        self._later(body, inner)

    def _comprehend(self, node: Any, scope: _Scope) -> None:
        inner = _Scope(scope, comprehension=True)
        for at, generator in enumerate(node.generators):
            self._later([generator.iter], inner if at else scope)
            self._later([generator.target, *generator.ifs], inner)
        self._later([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt], inner)


def read(tree: ast.Module, words: Words, libraries: Mapping[str, ast.Module | None]) -> list[Diagnostic]:
    """The warnings about a rule, or about a library by itself.

    Args:
        tree: the file as its author wrote it.
        words: what there is besides.
        libraries: the tree of each library that the file uses, directly or not; None for one that is refused.

    Returns:
        The findings in the order of their places.
    """
    survey = _Survey(tree)
    shared = {name: _Survey(library) if library is not None else None for name, library in libraries.items()}
    found = [
        *islice(_unknown_names(survey, words), MOST),
        *islice(_wrong_calls(survey, words), MOST),
        *islice(_wrong_jobs(survey, words), MOST),
        *islice(_missing_imports(survey, shared), MOST),
        *islice(_vain_waits(survey, shared), MOST),
    ]
    return sorted(found, key=lambda problem: (problem.line, problem.column, problem.code))


def _unknown_names(survey: _Survey, words: Words) -> Iterator[Diagnostic]:
    for node, scope in sorted(survey.free(), key=lambda read: (read[0].lineno, read[0].col_offset)):
        if node.id not in words.builtins:
            near = _nearest(node.id, scope.visible() | words.builtins)
            yield _finding("SR401", node, f"`{node.id}` is not defined{near}")


# ---- calls of injected functions


def _wrong_calls(survey: _Survey, words: Words) -> Iterator[Diagnostic]:
    for call, scope in survey.calls:
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name in words.functions and not scope.binds(name):
            spec = words.functions[name]
            mistake = _mistake(call, spec)
            if mistake is not None:
                place, message = mistake
                yield _finding("SR402", place, message, f"It is declared as {name}{spec.signature}.")


def _mistake(call: ast.Call, spec: FunctionSpec) -> tuple[ast.AST, str] | None:
    """What is wrong with the arguments of a call as far as the declaration tells, and where."""
    if any(isinstance(argument, ast.Starred) for argument in call.args) or any(
        one.arg is None for one in call.keywords
    ):
        return None
    kinds = {parameter.name: parameter.kind for parameter in spec.parameters}
    places = [name for name, kind in kinds.items() if kind in ("positional", "both")]
    if len(call.args) > len(places) and "args" not in kinds.values():
        count = f"{len(places)} argument{'' if len(places) == 1 else 's'} by position"
        return call.args[len(places)], f"{spec.name}() takes at most {count}, not {len(call.args)}."
    given = set(places[: len(call.args)])
    named = [name for name, kind in kinds.items() if kind in ("both", "keyword")]
    for keyword in call.keywords:
        assert keyword.arg is not None
        if keyword.arg in named:
            if keyword.arg in given:
                return keyword, f"{spec.name}() is given `{keyword.arg}` twice, by position and by name."
            given.add(keyword.arg)
        elif "kwargs" not in kinds.values():
            return keyword, f"{spec.name}() has no parameter `{keyword.arg}`{nearest(keyword.arg, named)}"
    missing = [f"`{one.name}`" for one in spec.parameters if one.required and one.name not in given]
    if missing:
        return call.func, f"{spec.name}() is called without {' and '.join(missing)}."
    return None


def _wrong_jobs(survey: _Survey, words: Words) -> Iterator[Diagnostic]:
    """`Job(...)` with a type that is not there, or a body that it cannot have, as far as they are written there."""
    for call in survey.uses("Job"):
        given = dict(zip(("type", "body"), call.args, strict=False))
        given.update((keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg is not None)
        kind, body = given.get("type"), given.get("body")
        if not isinstance(kind, ast.Constant) or not isinstance(kind.value, str):
            continue
        if kind.value not in words.jobs:
            message, hint = unknown_type(kind.value, words.jobs)
            yield _finding("SR402", kind, message, hint)
        elif isinstance(body, ast.Dict):
            yield from _wrong_body(body, words.jobs[kind.value])


def _wrong_body(body: ast.Dict, kind: JobType) -> Iterator[Diagnostic]:
    pairs = {
        key.value: (key, value)
        for key, value in zip(body.keys, body.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    for mistake in mistakes(kind, {key: _known(value) for key, (_, value) in pairs.items()}):
        if mistake.key is not None:
            yield _finding("SR402", pairs[mistake.key][mistake.kind != "unknown"], mistake.message, mistake.hint)
        elif len(pairs) == len(body.keys):  # nothing else can be in it
            yield _finding("SR402", body, mistake.message, mistake.hint)


def _known(node: ast.expr) -> Any:
    """A value of a body as far as it is known before it runs."""
    match node:
        case ast.Constant():
            return node.value
        case ast.List() | ast.Tuple() | ast.ListComp():
            return []
        case ast.Dict() | ast.DictComp():
            return {}
    return COMPUTED


# ---- libraries


def _missing_imports(survey: _Survey, shared: Mapping[str, _Survey | None]) -> Iterator[Diagnostic]:
    for statement in survey.imports:
        library = (statement.module or "").partition(".")[2]
        if not library:  # from lib import NAME
            yield from (_no_library(alias, alias.name) for alias in statement.names if alias.name not in shared)
        elif library not in shared:
            yield _no_library(statement, library)
        elif (there := shared[library]) is not None:
            names = there.module.names
            for alias in statement.names:
                if alias.name not in names:
                    near = _nearest(alias.name, names)
                    yield _finding("SR404", alias, f"rules/lib/{library}.py defines no `{alias.name}`{near}")


def _no_library(node: ast.AST, name: str) -> Diagnostic:
    return _finding(
        "SR404", node, f"There is no rules/lib/{name}.py.", f"Add it, and write `from lib.{name} import NAME`."
    )


# ---- executions


def _vain_waits(survey: _Survey, shared: Mapping[str, _Survey | None]) -> Iterator[Diagnostic]:
    started: set[str] = set()
    for one in (survey, *shared.values()):
        names = _started(one) if one is not None else None
        if names is None:
            return
        started |= names
    known = ", ".join(f'"{name}"' for name in sorted(started)[:10])
    for argument in (argument for call in survey.uses("wait") for argument in call.args):
        name = argument.value if isinstance(argument, ast.Constant) else None
        if isinstance(name, str) and name and name not in started:
            message = f'No execution "{name}" is ever started{_nearest(name, started)}'
            yield _finding("SR403", argument, message, f"run() starts {known or 'nothing in this rule'}.")


def _started(survey: _Survey) -> set[str] | None:
    """The names of the executions that a file starts; None where they cannot be read."""
    calls = survey.uses("run")
    if len(calls) != sum(node.id == "run" for node, _ in survey.free()):
        return None  # run itself is passed on, under another name perhaps
    names: set[str] = set()
    for call in calls:
        before = call.args[:2]
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        if None in keywords or any(isinstance(argument, ast.Starred) for argument in before):
            return None
        name = before[1] if len(before) == 2 else keywords.get("name")
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return None
        names.add(name.value)
    return names


def _nearest(name: str, known: Collection[str]) -> str:
    return nearest(name, known) if len(known) <= CANDIDATES_MAX else "."


def _finding(code: str, node: Any, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(
        code, message, node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, hint or CODES[code].instead
    )
