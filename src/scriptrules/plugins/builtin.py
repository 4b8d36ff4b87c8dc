"""The functions that every rule has, as a plugin like any other."""

from __future__ import annotations

from scriptrules.function import Function
from scriptrules.plugins.spec import hookimpl
from scriptrules.sandbox.intrinsics import INTRINSICS


@hookimpl
def scriptrules_functions() -> list[Function]:
    return list(INTRINSICS.values())
