"""Wall one, the language: what a rule may say, decided node by node, and the compiler that makes code of it.

Deny by default: a node that no visitor here or in `rewriting` knows is refused, so the syntax of a newer Python is
refused until somebody has thought about it. All violations of a file are collected.

What was tried and rejected: the stock policy (30 of 234 hostile scripts reached their goal); returning what
`compile_restricted_exec` returns (it raises for five kinds of input instead); stopping at the first violation.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Callable
from types import CodeType
from typing import Any, cast

import msgspec

from scriptrules.diagnostics import CODES, Diagnostic, Rejected
from scriptrules.sandbox.facades import ABSENT_MODULES
from scriptrules.sandbox.guards import MODULES
from scriptrules.sandbox.rewriting import Rewriting, call, place, store

POLICY_VERSION = 1
MAX_SOURCE = 100_000  # characters
MAX_DEPTH = 100  # levels of the syntax tree; a worker's stack holds three times as many
MAX_NODES = 100_000
MAX_INT_BITS = 4096  # of an integer literal

INJECTED = frozenset({"run", "wait", "emit", "call", "receive", "load", "save", "sleep", "sleep_until", "hold", "fail"})

_TO_LIBRARY = "There is none inside a worker; write a plugin function for effects."
ABSENT: dict[str, str] = {
    **dict.fromkeys(("exec", "eval", "compile", "globals", "locals", "vars", "dir"), "Call the function itself."),
    **dict.fromkeys(("open", "input", "breakpoint", "exit", "quit", "help"), _TO_LIBRARY),
    **dict.fromkeys(("id", "hash"), "It differs between two executions; compare by `==`, or use hashlib."),
    **dict.fromkeys(
        ("setattr", "delattr", "object", "super", "property", "classmethod", "staticmethod"), "Use a dict."
    ),
    **dict.fromkeys(("memoryview", "bytearray"), "Use bytes, or a list of integers."),
    **dict.fromkeys(("BaseException", "BaseExceptionGroup", "ExceptionGroup"), "Catch Exception."),
    **dict.fromkeys(
        ("SystemExit", "KeyboardInterrupt", "GeneratorExit"), "To end the run, return from main() or call fail(reason)."
    ),
    **dict.fromkeys(("MemoryError", "RecursionError"), "They end the run; test the size before."),
}
_SAFE_NODES = [
    "Expr",
    "Pass",
    "BoolOp",
    "And",
    "Or",
    "UnaryOp",
    "Invert",
    "Not",
    "UAdd",
    "USub",
    "IfExp",
    "Eq",
    "NotEq",
    "Lt",
    "LtE",
    "Gt",
    "GtE",
    "Is",
    "IsNot",
    "In",
    "NotIn",
    "Tuple",
    "List",
    "Dict",
    "Load",
    "Store",
    "Del",
    "Break",
    "Continue",
    "If",
    "Return",
    "Assert",
    "Raise",
    "ListComp",
    "DictComp",
    "Match",
    "match_case",
    "MatchSingleton",
    "MatchSequence",
    "MatchOr",
]
_REFUSED = {
    "AsyncFunctionDef": ("SR104", "`async def`"),
    "AsyncFor": ("SR104", "`async for`"),
    "AsyncWith": ("SR104", "`async with`"),
    "Await": ("SR104", "`await`"),
    "ClassDef": ("SR105", "`class`"),
    "Yield": ("SR106", "`yield`"),
    "YieldFrom": ("SR106", "`yield from`"),
    "With": ("SR107", "`with`"),
    "Global": ("SR108", "`global`"),
    "TryStar": ("SR103", "`except*`"),
    "TypeAlias": ("SR103", "`type` aliases"),
    "TemplateStr": ("SR103", "template strings"),
}


class Compiled(msgspec.Struct, frozen=True):
    """A rule that may be executed: its guarded code, and the syntax tree as the author wrote it."""

    code: CodeType
    tree: ast.Module


class Policy(Rewriting):
    """Decides over every node; what passes is rewritten to guarded forms."""

    def __init__(self, bound: frozenset[str]) -> None:
        super().__init__()
        self.bound = bound

    def visit(self, node: ast.AST) -> Any:
        visitor = _VISITORS.get(type(node))
        return self.deny(node) if visitor is None else visitor(self, node)

    def deny(self, node: ast.AST) -> None:
        """Refuse a node and leave it out, with everything below it."""
        name = type(node).__name__
        code, title = _REFUSED.get(name, ("SR103", name))
        self.refuse(node, code, f"{title} is not part of the language")

    def safe(self, node: ast.AST) -> ast.AST:
        """Accept a node that is no danger by itself."""
        return self.children(node)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, int) and node.value.bit_length() > MAX_INT_BITS:
            self.refuse(node, "SR102", "the number is too large")
        node.kind = None
        return node

    def visit_Name(self, node: ast.Name) -> ast.Name:
        self.check_name(node, node.id)
        if node.id in ABSENT and node.id not in self.bound:
            self.refuse(node, "SR115", f"rules have no {node.id!r}", ABSENT[node.id])
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.Nonlocal:
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.Compare:
        operands = [node.left, *node.comparators]
        for index, operator in enumerate(node.ops):
            if isinstance(operator, (ast.Is, ast.IsNot)) and not any(
                isinstance(operand, ast.Constant)
                and operand.value in (None, True, False)
                and operand.value.__class__ is not int
                for operand in operands[index : index + 2]
            ):
                self.refuse(node, "SR201", "`is` compares the identity of two values")
        return self.children(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        for inner in ast.walk(node):
            if (
                isinstance(inner, ast.Call)
                and isinstance(inner.func, ast.Name)
                and inner.func.id in INJECTED - self.bound
            ):
                self.refuse(inner, "SR202", f"{inner.func.id}() inside a generator expression")
        return super().visit_GeneratorExp(node)

    def visit_Delete(self, node: ast.Delete) -> ast.Delete:
        return self.children(node)

    def visit_Try(self, node: ast.Try) -> ast.Try:
        for statement in node.finalbody:
            self.check_jumps(statement, in_loop=False)
        return super().visit_Try(node)

    def check_jumps(self, node: ast.AST, in_loop: bool) -> None:
        """Refuse the statements that would leave a `finally`."""
        if isinstance(node, ast.Return) or (isinstance(node, (ast.Break, ast.Continue)) and not in_loop):
            self.refuse(node, "SR110", f"`{type(node).__name__.lower()}` leaves a `finally`")
        elif isinstance(node, (ast.For, ast.While)):
            for statement in node.body:
                self.check_jumps(statement, in_loop=True)
            for statement in node.orelse:
                self.check_jumps(statement, in_loop)
        elif not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            for child in ast.iter_child_nodes(node):
                self.check_jumps(child, in_loop)

    # -- imports

    def visit_Import(self, node: ast.Import) -> Any:
        statements: list[ast.stmt] = []
        for alias in node.names:
            self.check_name(node, alias.asname)
            if self.check_module(node, alias.name):
                name = alias.asname or alias.name.partition(".")[0]
                module = alias.name if alias.asname else name
                self.check_name(node, name)
                statements.append(ast.Assign([store(name)], call("_import_", ast.Constant(module))))
        return [place(statement, node) for statement in statements]

    def check_module(self, node: ast.AST, module: str) -> bool:
        if module.partition(".")[0] == "lib":
            self.refuse(node, "SR112", f"`import {module}` is not possible", f"Write `from {module} import NAME`.")
        elif module not in MODULES:
            near = difflib.get_close_matches(module, MODULES, 1)
            hint = ABSENT_MODULES.get(module) or (f"Did you mean {near[0]!r}?" if near else "")
            self.refuse(node, "SR112", f"rules cannot import {module!r}", hint)
        else:
            return True
        return False

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        module = node.module or ""
        if node.level:
            self.refuse(node, "SR112", "relative imports are not possible")
            return None
        if module == "__future__":
            return None
        library = module == "lib" or (module.startswith("lib.") and module.count(".") == 1)
        if not library and not self.check_module(node, module):
            return None
        statements: list[ast.stmt] = []
        for alias in node.names:
            self.check_name(node, alias.name)
            self.check_name(node, alias.asname)
            if alias.name == "*":
                self.refuse(node, "SR112", "star imports are not possible", "Name what you need.")
            elif not library and alias.name not in MODULES[module].members:
                near = difflib.get_close_matches(alias.name, MODULES[module].members, 1)
                hint = f"Did you mean {near[0]!r}?" if near else MODULES[module].hint(alias.name)
                self.refuse(node, "SR112", f"{module!r} has no {alias.name!r} inside rules", hint)
            value = call("_import_", ast.Constant(module), ast.Constant(alias.name))
            statements.append(ast.Assign([store(alias.asname or alias.name)], value))
        return [place(statement, node) for statement in statements]


def _visitors() -> dict[type[ast.AST], Any]:
    """Return the one visitor of every node of the language; what is missing is denied."""
    own = {**vars(Rewriting), **vars(Policy)}
    table = {getattr(ast, name): Policy.safe for name in _SAFE_NODES}
    for name, visitor in own.items():
        if name.startswith("visit_") and hasattr(ast, name[6:]):
            table[getattr(ast, name[6:])] = visitor
    for kind in ast.operator.__subclasses__():
        table[kind] = Policy.safe
    return table


_VISITORS = _visitors()


def _bound_by(node: Any) -> str | None:
    """Return the name that a node binds, if it binds one."""
    if isinstance(node, ast.Name):
        return None if isinstance(node.ctx, ast.Load) else node.id
    if isinstance(node, ast.alias):
        return (node.asname or node.name).partition(".")[0]
    if isinstance(node, ast.arg):
        return node.arg
    return cast("str | None", node.rest if isinstance(node, ast.MatchMapping) else node.name)


_BINDERS = frozenset(
    {ast.Name, ast.alias, ast.arg, ast.FunctionDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping}
)


def _survey(tree: ast.AST) -> frozenset[str]:
    """Return all names that a tree binds; refuse one that recursive functions cannot walk."""
    level: list[ast.AST] = [tree]
    names: set[str | None] = set()
    count = 0
    for _depth in range(MAX_DEPTH):
        count += len(level)
        below: list[ast.AST] = []
        for node in level:
            if type(node) in _BINDERS:
                names.add(_bound_by(node))
            for field in node._fields:
                value = getattr(node, field, None)
                if isinstance(value, list):
                    below.extend(item for item in value if isinstance(item, ast.AST))
                elif isinstance(value, ast.AST) and not isinstance(value, _LEAVES):
                    below.append(value)
        level = below
        if not level:
            break
    else:
        deep = next((node for node in level if hasattr(node, "lineno")), tree)
        raise _rejected("SR102", f"the source is nested more than {MAX_DEPTH} levels deep", getattr(deep, "lineno", 1))
    if count > MAX_NODES:
        raise _rejected("SR102", f"the source has more than {MAX_NODES} parts")
    return frozenset(name for name in names if name)


_LEAVES = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop)


def _rejected(code: str, message: str, line: int = 1, column: int = 0) -> Rejected:
    return Rejected([Diagnostic(code, message, line, column, hint=CODES[code].instead)])


def _translate(error: Exception) -> Rejected:
    """Return the diagnostic for whatever Python's compiler raised."""
    if isinstance(error, SyntaxError):
        return _rejected("SR101", str(error.msg), error.lineno or 1, max((error.offset or 1) - 1, 0))
    if isinstance(error, (RecursionError, MemoryError)):
        return _rejected("SR102", "the source is nested too deeply for Python's compiler")
    return _rejected("SR101", f"the source is no text that Python can read ({type(error).__name__})")


def _parse(source: str, filename: str) -> ast.Module:
    if len(source) > MAX_SOURCE:
        raise _rejected("SR102", f"the source has more than {MAX_SOURCE} characters")
    return ast.parse(source, filename)


def _refuse_violations(tree: ast.AST, bound: frozenset[str]) -> None:
    """Rewrite a tree in place, or raise all of its violations."""
    policy = Policy(bound)
    try:
        policy.visit(tree)
    finally:
        if policy.found:  # rewriting may stumble over what was left out; the reason is the better message
            raise Rejected(sorted(policy.found, key=lambda found: (found.line, found.column)))


def compile_source(source: str, filename: str) -> Compiled:
    """Compile the source of a rule or of a library.

    Args:
        source: the text of the file.
        filename: what tracebacks show; the file is not opened.

    Returns:
        The guarded code, to be executed with `builtins.make_builtins()`, and the author's own syntax tree.

    Raises:
        Rejected: the text is no acceptable rule; nothing else is ever raised.
    """
    return compile_tree(lambda: _parse(source, filename), filename)


def compile_tree(make: Callable[[], ast.Module], filename: str) -> Compiled:
    """Compile a rule that is a syntax tree already.

    Args:
        make: gives the tree, a new one each time: one is rewritten, the other stays as its author knows it.
        filename: what tracebacks show.

    Returns:
        The guarded code, and a tree as `make` gives it.

    Raises:
        Rejected: the tree is no acceptable rule; nothing else is ever raised.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            original = make()
            bound = _survey(original)
            tree = make()
            _refuse_violations(tree, bound)
            return Compiled(compile(tree, filename, "exec", dont_inherit=True), original)
    except Rejected:
        raise
    except Exception as error:
        raise _translate(error) from None
