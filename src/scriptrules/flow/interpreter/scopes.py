"""Which names belong to a function: read from its text."""

from __future__ import annotations

import ast
from collections.abc import Iterator

Scope = tuple[frozenset[str], bool]  # the names that belong to a function; whether no other function is made in it


def scope(node: ast.FunctionDef | ast.Lambda) -> Scope:
    """What belongs to a function."""
    inner = any(isinstance(one, (ast.FunctionDef, ast.Lambda)) for one in ast.walk(node) if one is not node)
    return _bound_names(node), not inner


def _bound_names(node: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """The names that belong to a function itself."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = {one.arg for one in every if one is not None}
    foreign: set[str] = set()
    todo: list[ast.AST] = list(node.body) if isinstance(node, ast.FunctionDef) else [node.body]
    while todo:
        one = todo.pop()
        names.update(_binds(one))
        if isinstance(one, (ast.Nonlocal, ast.Global)):
            foreign.update(one.names)
        todo += _within(one)
    return frozenset(names - foreign)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node that bind names where it stands."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        yield from node.args.defaults
        yield from (one for one in node.args.kw_defaults if one is not None)
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
        yield from (one for one in ast.walk(node) if isinstance(one, ast.NamedExpr))
    else:
        yield from ast.iter_child_nodes(node)


def _binds(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(ctx=ast.Store() | ast.Del()):
            yield node.id
        case ast.FunctionDef() | ast.ClassDef():
            yield node.name
        case ast.alias():
            yield (node.asname or node.name).partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
