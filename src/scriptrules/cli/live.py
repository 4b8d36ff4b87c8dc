"""A tree that changes under the reader's eyes in a terminal; elsewhere only its end is printed."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING

from scriptrules.cli import tree as trees
from scriptrules.cli.common import has_colour, paint, print_json, print_lines, width

if TYPE_CHECKING:
    from rich.live import Live

    from scriptrules.client import TreeJson

INTERVAL = 0.1  # seconds between two looks at a tree


def pause_after(took: float) -> float:
    """Seconds until the next look at a tree, so that looking at a large one costs a fraction of its progress."""
    return max(INTERVAL, 4 * took)


class TreeView:
    """Shows a tree as it grows, within a ``with`` block.

    Args:
        as_json: show nothing until the end, and then JSON.
    """

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self._live: Live | None = None
        self._tree: TreeJson | None = None

    def __enter__(self) -> TreeView:
        if sys.stdout.isatty() and not self._as_json and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=sys.stdout), auto_refresh=False, transient=True)
            self._live.start()
        return self

    @property
    def live(self) -> bool:
        """Whether anybody sees the tree before its end."""
        return self._live is not None

    def update(self, tree: TreeJson) -> None:
        """Show the tree as it is now."""
        self._tree = tree
        if self._live is not None:
            from rich.text import Text

            lines = [paint(line, has_colour()) for line in trees.lines_of(tree, width())]
            height = max(4, self._live.console.height - 1)
            if len(lines) > height:
                lines = [*lines[:1], f"   … {len(lines) - height + 1} lines above", *lines[2 - height :]]
            self._live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._tree is not None and (kind is None or self._live is not None):
            if self._as_json:
                print_json(self._tree)
            else:
                print_lines(trees.lines_of(self._tree, width()))
