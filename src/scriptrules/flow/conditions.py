"""Conditions as people read them: the source, without needless negations."""

from __future__ import annotations

import ast
from functools import lru_cache

from scriptrules.jobs import OUTCOMES

_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.In: ast.NotIn, ast.Is: ast.IsNot,
}  # fmt: skip
_OPPOSITES |= {opposite: operator for operator, opposite in _OPPOSITES.items()}
LENGTH_MAX = 300  # characters of a label


def written(test: ast.expr) -> str:
    """A condition in its one way to be written."""
    if "outcome" in vars(test):  # that of a job, which its author has not written like this
        return OUTCOMES[0]
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return negated(test.operand)
    return _cut(ast.unparse(test))


def negated(test: ast.expr) -> str:
    """What holds where `test` does not."""
    if "outcome" in vars(test):
        return OUTCOMES[1]
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return written(test.operand)
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        opposite = _OPPOSITES[type(test.ops[0])]()
        return _cut(ast.unparse(ast.Compare(test.left, [opposite], test.comparators)))
    return _cut(ast.unparse(ast.UnaryOp(ast.Not(), test)))


@lru_cache(maxsize=4096)
def opposes(one: str, other: str) -> bool:
    """Whether a condition is the negation of another one, both as they are written."""
    if {one, other} == set(OUTCOMES):
        return True
    try:
        return negated(ast.parse(one, mode="eval").body) == other
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _cut(text: str) -> str:
    text = " ".join(text.split("\n")) if "\n" in text else text
    return text if len(text) <= LENGTH_MAX else text[: LENGTH_MAX - 1] + "…"
