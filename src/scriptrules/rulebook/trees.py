"""Syntax trees from a text of our own and expressions from elsewhere, with the places that these came from."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, TypeVar

from scriptrules.rulebook.composing import Place

Placed = TypeVar("Placed", bound=ast.AST)


def write(template: str, place: Place, **holes: ast.expr) -> list[ast.stmt]:
    """Statements from a text of our own, all of them at one place; names in capitals are filled with expressions."""
    tree = ast.parse(template)
    for node in ast.walk(tree):
        if "lineno" in node._attributes:
            move(node, place)
    filled: ast.Module = _Filling(holes, place).visit(tree)
    return filled.body


class _Filling(ast.NodeTransformer):
    def __init__(self, holes: Mapping[str, ast.expr], place: Place) -> None:
        self.holes = holes
        self.place = place

    def visit_Name(self, node: ast.Name) -> ast.expr:
        hole = self.holes.get(node.id)
        return node if hole is None else located(hole, self.place)


def located(node: Placed, place: Place) -> Placed:
    """The node at a place, with those of its parts that are nowhere yet."""
    todo: list[ast.AST] = [node]
    while todo:
        part = todo.pop()
        if "lineno" in part._attributes:
            if hasattr(part, "lineno"):
                continue
            move(part, place)
        todo += ast.iter_child_nodes(part)
    return node


def move(node: Any, place: Place) -> None:
    """Put a node, without its parts, at a place."""
    node.lineno, node.col_offset = place.line, place.column
    node.end_lineno, node.end_col_offset = place.end_line, place.end_column
