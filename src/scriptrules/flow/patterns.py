"""The patterns of `match`: what each says of its subject, which names it binds, and how people read it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from scriptrules.flow.values import Case, Choice, Const, Value, const

Test = Callable[[str, Value], Value]  # a comparison of the subject: by its operator, with what


def compiled(pattern: ast.pattern, compare: Test) -> Value | bool | None:
    """Whether a subject fits: a value that is true or false; True for always, None where nothing is known."""
    match pattern:
        case ast.MatchAs(pattern=None):
            return True
        case ast.MatchAs(pattern=ast.pattern() as inner):
            return compiled(inner, compare)
        case ast.MatchValue(value=ast.Constant(value=value)):
            return compare("Eq", const(value))
        case ast.MatchSingleton():
            return compare("Is", const(pattern.value)) if pattern.value is None else None
        case ast.MatchOr():
            return _any([compiled(one, compare) for one in pattern.patterns])
    return None


def _any(found: list[Value | bool | None]) -> Value | bool | None:
    if any(one is True or (isinstance(one, Const) and one.value is True) for one in found):
        return True
    open_ = [one for one in found if not (isinstance(one, Const) and one.value is False)]
    if not open_:
        return const(False)
    if len(open_) == 1:
        return open_[0]
    cases: list[Case] = []
    closed: list[tuple[str, object]] = []
    for one in open_:
        if not isinstance(one, Choice):
            return None
        for case in one.cases:
            if case.value == const(True):
                cases.append(case)
            else:
                closed += case.facts
    return Choice((*cases, Case("otherwise", tuple(closed), const(False))))  # type: ignore[arg-type]


def captures(pattern: ast.pattern) -> Iterator[str]:
    """The names that a pattern binds."""
    for node in ast.walk(pattern):
        match node:
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name


def label_of(case: ast.match_case, subject: str) -> str:
    """A case as a condition."""
    pattern = case.pattern
    label = f"case {ast.unparse(pattern)}"
    match pattern:
        case ast.MatchValue():
            label = f"{subject} == {ast.unparse(pattern.value)}"
        case ast.MatchSingleton():
            label = f"{subject} is {pattern.value!r}"
        case ast.MatchOr() if all(isinstance(one, ast.MatchValue) for one in pattern.patterns):
            values = ", ".join(ast.unparse(one) for one in pattern.patterns)
            label = f"{subject} in ({values})"
    return label if case.guard is None else f"{label} if {ast.unparse(case.guard)}"
