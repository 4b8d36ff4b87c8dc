"""scriptrules: a rule engine for containerised jobs. Rules are Python files one drops in, sandboxed and durable.

What plugins import is here; everything else has its own module (docs/reading-order.md). The names are looked up when
they are used (PEP 562), so that `scriptrules --help` does not pay for them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scriptrules.function import function as function
    from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
    from scriptrules.plugins.spec import hookimpl

__all__ = ["ExecutionRequest", "ExecutionResult", "Verdict", "function", "hookimpl"]
__version__ = "0.1.0"

_HOMES = {
    "ExecutionRequest": "scriptrules.model",
    "ExecutionResult": "scriptrules.model",
    "Verdict": "scriptrules.model",
    "hookimpl": "scriptrules.plugins.spec",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


class _Package(ModuleType):
    """Keeps `scriptrules.function` the decorator: importing the module of that name would put the module there."""

    @property
    def function(self) -> Any:
        return importlib.import_module("scriptrules.function").function

    @function.setter
    def function(self, _: ModuleType) -> None:
        return


sys.modules[__name__].__class__ = _Package
