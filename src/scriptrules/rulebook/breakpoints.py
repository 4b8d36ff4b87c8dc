"""A breakpoint as a file: what it holds, read from its syntax tree like the metadata of a rule.

`on`, `when` and `enabled` are those of rules. `at` is "task" (the default), or "before:FUNCTION" or "after:FUNCTION"
for an entry of a run; there `when` sees the entry. A breakpoint's source has the rule name ``breakpoint:NAME``, which
no file below ``rules/`` can have.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

import msgspec

from scriptrules.diagnostics import Diagnostic
from scriptrules.errors import nearest
from scriptrules.rulebook import metadata
from scriptrules.rulebook.metadata import Metadata

PREFIX = "breakpoint:"
TASK = "task"
AT = re.compile(r"(task|(before|after):[A-Za-z]\w*)\Z")
RETURN = "return"  # the entry of a task that `main` returns
KNOWN = ("on", "when", "at", "enabled")
_MAIN = "def main(**kwargs): pass"  # what a rule would have, so that the same reader serves


def is_breakpoint(rule: str) -> bool:
    """Whether a source of this rule name is a breakpoint."""
    return rule.startswith(PREFIX)


def read(tree: ast.Module, text: str, functions: Collection[str]) -> tuple[Metadata, list[Diagnostic]]:
    """What a parsed breakpoint holds, and what is wrong with it.

    Args:
        functions: that rules have here, as far as they become entries.
    """
    problems: list[Diagnostic] = []
    at = TASK
    body: list[ast.stmt] = []
    for statement in tree.body:
        name = _assigned(statement)
        if name == "at" and isinstance(statement, ast.Assign):
            value = statement.value.value if isinstance(statement.value, ast.Constant) else None
            if isinstance(value, str) and AT.match(value):
                at = value
                problems += _nowhere(statement, value, functions)
            else:
                hint = 'Write at = "task", "before:run" or "after:run".'
                problems.append(_problem("SR322", statement, "`at` names no place.", hint))
            continue
        if name == "main" or (name in metadata.KNOWN and name not in KNOWN):
            message = f"A breakpoint has no `{name}`: it only holds."
            problems.append(_problem("SR321", statement, message, f"It may have {', '.join(KNOWN)}."))
            continue
        body.append(statement)
    facts, found = metadata.read(ast.Module([*body, *ast.parse(_MAIN).body], []), text)
    facts = msgspec.structs.replace(facts, at=at, parameters=[], rest=False)
    return facts, sorted([*problems, *found], key=lambda problem: (problem.line, problem.column))


def text_of(on: list[str], when: str | None, at: str) -> str:
    """The file that says the same as a breakpoint that is set while running.

    Args:
        when: an expression of `task`, or, before or after an entry, of `entry`.
    """
    lines = [f"on = {on!r}", f"at = {at!r}"]
    if when is not None:
        lines += [f"when = lambda {'task' if at == TASK else 'entry'}: (", when, ")"]
    return "\n".join(lines) + "\n"


def _nowhere(statement: ast.stmt, at: str, functions: Collection[str]) -> list[Diagnostic]:
    """What is wrong with a well-formed `at` at which nothing would ever stop."""
    side, _, function = at.partition(":")
    if side == TASK:
        return []
    known = {*functions, RETURN}
    if function not in known:
        message = f"Runs have no entry {function!r}{nearest(function, known)}"
        return [_problem("SR322", statement, message, "Name a function of rules that becomes an entry: run, emit, …")]
    if side == "after" and function == RETURN:
        message = "A run has ended with its return, so nothing is held after it."
        return [_problem("SR322", statement, message, 'Write "before:return", or hold the tasks that it generates.')]
    return []


def _assigned(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.FunctionDef):
        return statement.name
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        (target,) = statement.targets
        return target.id if isinstance(target, ast.Name) else None
    return None


def _problem(code: str, node: ast.stmt, message: str, hint: str) -> Diagnostic:
    return Diagnostic(
        code=code,
        message=message,
        line=node.lineno,
        column=node.col_offset,
        end_line=node.end_lineno,
        end_column=node.end_col_offset,
        hint=hint,
    )
