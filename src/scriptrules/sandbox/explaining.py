"""Why a filter holds or does not: its parts, each evaluated by itself for one task.

The parts of `when` become functions of a module that is the rule's own and is compiled by the same policy, so that
they see what the filter sees: constants, helper functions, imports. Nothing that was compiled for matching is touched.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

from scriptrules.diagnostics import Rejected
from scriptrules.rulebook.metadata import TableEntry
from scriptrules.sandbox import signals
from scriptrules.sandbox.formatting import scrub, to_repr, to_text
from scriptrules.sandbox.policy import compile_tree
from scriptrules.sandbox.script import RuleScope
from scriptrules.sandbox.tasks import MissingField, TaskMapping
from scriptrules.sandbox.wire import FilterPart, TaskView

PARTS_MAX = 50
SHOWN = 200  # characters of a value
_PARTS = "EXPLAINED_PARTS"  # the rule cannot see it: it is compiled for the explanation only


def explain(
    make: Callable[[], ast.Module],
    file: str,
    table: TableEntry | None,
    view: TaskView,
    scope: Callable[[], RuleScope],
) -> list[FilterPart]:
    """The parts of a rule's filter with their values for a task, outermost first; none where it is no expression.

    Args:
        make: gives the rule's syntax tree, a new one each time.
        file: as messages name it.
        table: the entry whose filter it is.
        scope: makes a fresh scope for executing the module in.
    """
    listed = [(ast.unparse(node), depth) for node, depth in _parts(_filter_of(make(), table))][:PARTS_MAX]
    if not listed:
        return []
    try:
        compiled = compile_tree(lambda: _with_parts(make(), table), file)
    except Rejected:
        return []
    explained = []
    for at, (text, depth) in enumerate(listed):
        value, error = _evaluate(scope(), compiled.code, at, view)
        explained.append(FilterPart(text, depth, value, error))
    return explained


def _with_parts(tree: ast.Module, table: TableEntry | None) -> ast.Module:
    """The rule with a list of functions, one for each part of its filter."""
    filter = _filter_of(tree, table)
    if filter is None:
        return tree
    parameters = filter.args
    functions: list[ast.expr] = []
    for node, _ in [*_parts(filter)][:PARTS_MAX]:
        functions.append(ast.Lambda(copy.deepcopy(parameters), copy.deepcopy(node)))  # the compiler rewrites in place
    assign = ast.Assign([ast.Name(_PARTS, ast.Store())], ast.List(functions, ast.Load()))
    tree.body.append(ast.fix_missing_locations(ast.copy_location(assign, filter)))
    return tree


def _filter_of(tree: ast.Module, table: TableEntry | None) -> ast.Lambda | None:
    """The filter of a rule as a lambda, if that is what it is, or what it amounts to."""
    wanted = "when" if table is None else "nomatch" if table.nomatch else "rules"
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == wanted and table is None:
            body = [one for one in statement.body if not _is_docstring(one)]
            if len(body) == 1 and isinstance(body[0], ast.Return) and body[0].value is not None:
                return ast.copy_location(ast.Lambda(statement.args, body[0].value), statement)
        if not isinstance(statement, ast.Assign):
            continue
        if any(isinstance(target, ast.Name) and target.id == wanted for target in statement.targets):
            value: ast.expr | None = statement.value
            if table is not None:
                row = value.elts[table.index] if isinstance(value, (ast.List, ast.Tuple)) else None
                value = row.elts[1] if isinstance(row, ast.Tuple) else None
            return value if isinstance(value, ast.Lambda) else None
    return None


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _parts(filter: ast.Lambda | None) -> Iterator[tuple[ast.expr, int]]:
    """What is worth showing: the operands of and, or and not, and both sides of comparisons."""
    if filter is not None:
        yield from _below(filter.body, 0)


def _below(node: ast.expr, depth: int) -> Iterator[tuple[ast.expr, int]]:
    if isinstance(node, ast.Constant):
        return
    yield node, depth
    inner: list[ast.expr] = []
    if isinstance(node, ast.BoolOp):
        inner = node.values
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = [node.operand]
    elif isinstance(node, ast.Compare):
        inner = [node.left, *node.comparators]
    for one in inner:
        yield from _below(one, depth + 1)


def _evaluate(scope: RuleScope, code: Any, at: int, view: TaskView) -> tuple[str | None, str | None]:
    """The value of a part as text, or why there is none."""
    signals.current = scope
    try:
        value = scope.execute(code)[_PARTS][at](TaskMapping(view))
        return to_repr(value)[:SHOWN], None
    except MissingField as error:
        return None, f"the task has no field {to_repr(error.args[0])[:SHOWN]}"
    except (signals.LimitExceeded, MemoryError, RecursionError) as error:
        return None, f"a limit was exceeded: {type(error).__name__}"
    except Exception as error:
        return None, f"{type(error).__name__}: {scrub(to_text(error))[:SHOWN]}"
    finally:
        scope.dead = True
