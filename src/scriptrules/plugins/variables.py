"""The contract of a source of variables: where `load` looks after the tree of tasks and the store.

A source is configured like a host, ``[variables.NAME]`` with ``source = "KIND"`` and the kind's own keys; they are
asked in the order in which they stand there. Nothing is a variable that no source was configured to give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec


class Found(msgspec.Struct, frozen=True):
    """A variable that a source has."""

    value: Any  # JSON; text where it is a secret
    secret: bool = False


class SourceContext(msgspec.Struct, frozen=True):
    """What a source learns of the installation it works for."""

    name: str  # of its table under [variables]
    base_dir: Path  # relative paths in the configuration are relative to this


class VariableSource(Protocol):
    """Somewhere variables come from. All methods are called in the supervisor's event loop; none may block it."""

    async def find(self, name: str) -> Found | None:
        """The variable of this name; None where the source has none.

        What it raises fails the `load` that asked, with the source's name: a source that cannot be reached is not one
        that has nothing. The supervisor keeps a secret sealed, so that a replay sees the value that the run saw.
        """

    def names(self) -> Iterable[str]:
        """The names it is known to have, for messages about unknown ones; may be empty."""

    async def close(self) -> None:
        """The supervisor stops."""


SourceFactory = Callable[[Mapping[str, Any], SourceContext], VariableSource]
"""Makes a source from its table in scriptrules.toml (without the key `source`).

Raises ConfigError for an unknown key (naming the nearest) or a wrong value.
"""
