"""Executes sources as rules, and as plain Python for comparison."""

from __future__ import annotations

from typing import Any

from scriptrules.sandbox import signals
from scriptrules.sandbox.builtins import make_builtins
from scriptrules.sandbox.policy import compile_source

BUILTINS = make_builtins()


def as_rule(source: str, *args: Any, steps: int = 100_000, scope: signals.Scope | None = None) -> Any:
    """What main() of a rule returns."""
    signals.current = scope or signals.Scope()
    signals.current.steps = steps
    names: dict[str, Any] = {"__builtins__": BUILTINS, "__name__": "rule"}
    exec(compile_source(source, "rule.py").code, names)
    return names["main"](*args)


def as_python(source: str, *args: Any) -> Any:
    """What main() of the same file returns without any guard."""
    names: dict[str, Any] = {"__name__": "rule"}
    exec(source, names)
    return names["main"](*args)
