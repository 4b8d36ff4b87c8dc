"""The part of the language that works because it is rewritten to guarded forms.

The guards are names in the builtins of the script (`builtins.HOOKS`); they begin with `_`, so no script can bind them.

What was tried and rejected: RestrictedPython's own hooks for item access, item assignment and unpacking. They protect
objects of the host, and scripts are never given one whose items matter: only exact containers, facades and `Opaque`
objects. Native item access is several times faster. Rejected as well: a tick as a statement of every loop body; a
loop takes its steps while it iterates, in C.
"""

from __future__ import annotations

import ast
from typing import Any, TypeVar, cast

from RestrictedPython.transformer import INSPECT_ATTRIBUTES, RestrictingNodeTransformer

from scriptrules.diagnostics import CODES, Diagnostic

# Operators whose result is never much larger than their operands; a guard bounds the others before they execute.
CALM = (ast.Sub, ast.Div, ast.FloorDiv, ast.RShift, ast.BitOr, ast.BitXor, ast.BitAnd, ast.MatMult)
GUARDS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Mult: "mul",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.LShift: "lshift",
}
SHORT_TEXT = 1000  # characters of a literal that may be appended without a guard
CLASS_PATTERNS = {"str", "int", "float", "bool", "list", "dict", "tuple", "bytes", "set", "frozenset"}
NO_CAPTURE = {"set", "frozenset"}  # patterns that cannot capture: their types are our own

Node = TypeVar("Node", bound=ast.AST)


def load(name: str) -> ast.Name:
    """Return a node that reads a name."""
    return ast.Name(name, ast.Load())


def store(name: str) -> ast.Name:
    """Return a node that binds a name."""
    return ast.Name(name, ast.Store())


def call(guard: str, *args: ast.expr) -> ast.Call:
    """Return a node that calls a guard."""
    return ast.Call(load(guard), list(args), [])


def place(new: Node, old: ast.AST) -> Node:
    """Give a node and its new children the position of the node that they replace."""
    ast.copy_location(new, old)
    return ast.fix_missing_locations(new)


def tick() -> ast.For:
    """Return the statement that takes one step."""
    return ast.For(store("_t"), load("_fuel_"), [ast.Break()], [])


def is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def is_simple(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))


def is_int(name: ast.expr) -> ast.Compare:
    return ast.Compare(call("_type_", name), [ast.Is()], [load("_int_")])


def has_slice(target: ast.expr) -> bool:
    return isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Slice)


class Rewriting(RestrictingNodeTransformer):
    """Rewrites what can be made safe; collects a diagnostic for what cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Diagnostic] = []

    def refuse(self, node: ast.AST, code: str, message: str, hint: str = "") -> None:
        """Record why the source is refused at this place."""
        self.found.append(
            Diagnostic(
                code,
                message,
                getattr(node, "lineno", 1),
                getattr(node, "col_offset", 0),
                getattr(node, "end_lineno", None),
                getattr(node, "end_col_offset", None),
                hint or CODES[code].instead,
            )
        )

    def error(self, node: ast.AST, info: str) -> None:
        self.refuse(node, "SR103", info)

    def check_name(self, node: Any, name: str | None, allow_magic_methods: bool = False) -> None:
        if name is not None and name.startswith("_") and name != "_":
            self.refuse(node, "SR111", f"the name {name!r} begins with an underscore")

    def children(self, node: Node) -> Node:
        """Visit all children of a node that needs no guard itself."""
        return self.node_contents_visit(node)

    def expr(self, node: ast.expr) -> ast.expr:
        return cast(ast.expr, self.visit(node)) or ast.Constant(None)

    def body(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for statement in statements:
            new = self.visit(statement)
            if isinstance(new, list):
                result.extend(new)
            elif new is not None:
                result.append(new)
        return result or [ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)]

    # -- modules and functions

    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = self.body(node.body)
        begin = ast.Assign([store("_fuel_")], call("_begin_"), lineno=1, col_offset=0)
        node.body.insert(0, ast.fix_missing_locations(begin))
        return node

    def visit_Expression(self, node: ast.Expression) -> ast.Expression:
        body = self.expr(node.body)
        begin = ast.NamedExpr(store("_fuel_"), call("_begin_"))
        node.body = place(ast.Subscript(ast.Tuple([begin, body], ast.Load()), ast.Constant(1), ast.Load()), node.body)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.check_name(node, node.name)
        if getattr(node, "type_params", None):
            self.refuse(node, "SR103", "type parameters are not part of the language")
        node.returns = None
        node.type_comment = None
        node.args = self.visit(node.args)
        node.decorator_list = [self.expr(decorator) for decorator in node.decorator_list]
        node.body = [place(tick(), node), *self.body(node.body)]
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        node.args = self.visit(node.args)
        body = self.expr(node.body)
        node.body = place(ast.IfExp(call("_next_", load("_fuel_")), body, ast.Constant(None)), body)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        return self.children(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        self.check_name(node, node.arg)
        node.annotation = None
        return node

    # -- loops

    def visit_For(self, node: ast.For) -> ast.For:
        node.iter = self.loop(node.target, node.iter)
        node.target = self.target(node.target)
        node.body = self.body(node.body)
        node.orelse = self.body(node.orelse) if node.orelse else []
        return node

    def loop(self, target: ast.expr, iterable: ast.expr) -> ast.expr:
        new: ast.expr = call("_loop_", self.expr(iterable), load("_fuel_"))
        if self.starred(target):
            new = call("_stars_", new)
        return place(new, iterable)

    def visit_While(self, node: ast.While) -> ast.stmt:
        test = self.expr(node.test)
        body = self.body(node.body)
        if node.orelse:
            return place(ast.While(test, [tick(), *body], self.body(node.orelse)), node)
        if not (isinstance(test, ast.Constant) and test.value):
            body.insert(0, place(ast.If(ast.UnaryOp(ast.Not(), test), [ast.Break()], []), node))
        return place(ast.For(store("_t"), load("_fuel_"), body, []), node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        if node.is_async:
            self.refuse(node.target, "SR104", "`async` is not part of the language")
        node.iter = self.loop(node.target, node.iter)
        node.target = self.target(node.target)
        node.ifs = [self.expr(test) for test in node.ifs]
        return node

    def visit_SetComp(self, node: ast.SetComp) -> ast.expr:
        return place(call("_set_", ast.ListComp(self.expr(node.elt), [self.visit(g) for g in node.generators])), node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        return place(call("_iter_", ast.ListComp(self.expr(node.elt), [self.visit(g) for g in node.generators])), node)

    # -- assignments

    def starred(self, target: ast.expr) -> bool:
        return isinstance(target, (ast.Tuple, ast.List)) and any(isinstance(e, ast.Starred) for e in target.elts)

    def target(self, node: ast.expr, depth: int = 0) -> ast.expr:
        """Check what is bound by a statement, and visit the expressions in it."""
        if isinstance(node, (ast.Tuple, ast.List)):
            if depth and self.starred(node):
                self.refuse(node, "SR117", "a star inside a nested target is not part of the language")
            node.elts = [self.target(element, depth + 1) for element in node.elts]
        elif isinstance(node, ast.Starred):
            node.value = self.target(node.value, depth)
        else:
            return self.expr(node)
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        node.type_comment = None
        value = self.expr(node.value)
        if any(self.starred(target) for target in node.targets):
            value = place(call("_star_", value), node.value)
        node.value = value
        if not any(has_slice(target) for target in node.targets):
            node.targets = [self.target(target) for target in node.targets]
            return node
        name = self.gen_tmp_name()
        statements: list[ast.stmt] = [ast.Assign([store(name)], value)]
        for target in node.targets:
            if has_slice(target):
                statements.append(self.set_slice(cast(ast.Subscript, target), load(name)))
            else:
                statements.append(ast.Assign([self.target(target)], load(name)))
        return [place(statement, node) for statement in statements]

    def set_slice(self, target: ast.Subscript, value: ast.expr) -> ast.Expr:
        return ast.Expr(call("_setslice_", self.expr(target.value), self.key(target.slice), value))

    def key(self, node: ast.expr) -> ast.expr:
        if not isinstance(node, ast.Slice):
            return self.expr(node)
        parts = [ast.Constant(None) if part is None else self.expr(part) for part in self.bounds(node)]
        return place(call("_slice_", *parts), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is None:
            self.target(node.target)
            return place(ast.Pass(), node)
        return self.visit(place(ast.Assign([node.target], node.value), node))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.NamedExpr:
        return self.children(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        if isinstance(node.target, ast.Subscript):
            return self.augmented_item(node, node.target)
        target, value, calm = self.target(node.target), self.expr(node.value), self.is_calm(node)
        if calm or not isinstance(target, ast.Name):
            return place(ast.AugAssign(cast(ast.Name, target), node.op, value), node)
        name, guard = target.id, f"_i{GUARDS[type(node.op)]}_"
        guarded = ast.Assign([store(name)], call(guard, load(name), value))
        if isinstance(node.op, ast.Add) and is_simple(value):
            plain = ast.AugAssign(store(name), node.op, value)
            return place(ast.If(is_int(load(name)), [plain], [guarded]), node)
        return place(guarded, node)

    def augmented_item(self, node: ast.AugAssign, target: ast.Subscript) -> Any:
        if not has_slice(target) and self.is_calm(node):
            target.value, target.slice, node.value = (
                self.expr(target.value),
                self.key(target.slice),
                self.expr(node.value),
            )
            return node
        base, key = self.gen_tmp_name(), self.gen_tmp_name()
        item: ast.expr = ast.Subscript(load(base), load(key), ast.Load())
        if has_slice(target):
            item = call("_getpart_", load(base), load(key))
        statements: list[ast.stmt] = [
            ast.Assign([store(base)], self.expr(target.value)),
            ast.Assign([store(key)], self.key(target.slice)),
        ]
        guard = f"_i{GUARDS.get(type(node.op), 'sub')}_"
        if has_slice(target) and not isinstance(node.op, (ast.Add, ast.Mult)):
            self.refuse(node, "SR103", "this operator cannot be applied to a slice", "Assign the new slice itself.")
            return place(ast.Pass(), node)
        value = call(guard, item, self.expr(node.value))
        if has_slice(target):
            statements.append(ast.Expr(call("_setslice_", load(base), load(key), value)))
        else:
            statements.append(ast.Assign([ast.Subscript(load(base), load(key), ast.Store())], value))
        return [place(statement, node) for statement in statements]

    def is_calm(self, node: ast.AugAssign) -> bool:
        """Say whether an augmented assignment needs no guard."""
        if isinstance(node.op, CALM):
            return True
        if not isinstance(node.op, ast.Add) or not isinstance(node.value, ast.Constant):
            return False
        return not isinstance(node.value.value, (str, bytes)) or len(node.value.value) <= SHORT_TEXT

    # -- operators, calls, attributes, text

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = node.left, node.right
        node.left, node.right = self.expr(left), self.expr(right)
        if isinstance(node.op, CALM):
            return node
        if isinstance(node.op, ast.Add):
            if is_number(left) or is_number(right):
                return node
        elif isinstance(node.op, ast.Mod):
            if is_number(left):
                return node
        elif isinstance(node.op, ast.Mult) and any(
            isinstance(e, ast.Constant) and type(e.value) is float for e in (left, right)
        ):
            return node
        guard = call(f"_{GUARDS[type(node.op)]}_", node.left, node.right)
        calm = self.calm_if_int(node)
        return place(guard if calm is None else ast.IfExp(is_int(calm), node, guard), node)

    def calm_if_int(self, node: ast.BinOp) -> ast.Name | None:
        """Return the operand that spares the guard if it is an int; both are written twice, so both are simple."""
        left, right = node.left, node.right
        if isinstance(node.op, (ast.Add, ast.Mod)) and isinstance(left, ast.Name) and is_simple(right):
            return left
        if isinstance(node.op, ast.Mult):
            if isinstance(left, ast.Name) and is_number(right):
                return left
            if is_number(left) and isinstance(right, ast.Name):
                return right
        return None

    def visit_Call(self, node: ast.Call) -> ast.Call:
        return self.children(node)

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        self.check_name(node, node.arg)
        return self.children(node)

    def visit_Starred(self, node: ast.Starred) -> ast.Starred:
        node.value = place(call("_star_", self.expr(node.value)), node.value)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if not isinstance(node.slice, ast.Slice):
            return self.children(node)
        if isinstance(node.ctx, ast.Store):
            self.refuse(
                node, "SR103", "a slice cannot be a part of this target", "Assign to the slice in its own statement."
            )
            return node
        parts = [ast.Constant(None) if part is None else self.expr(part) for part in self.bounds(node.slice)]
        if isinstance(node.ctx, ast.Del):
            return place(ast.Subscript(self.expr(node.value), ast.Slice(*parts), ast.Del()), node)
        return place(call("_getslice_", self.expr(node.value), *parts), node)

    def bounds(self, node: ast.Slice) -> list[ast.expr | None]:
        return [node.lower, node.upper, node.step]

    def visit_Set(self, node: ast.Set) -> ast.expr:
        return place(call("_set_", ast.List([self.expr(element) for element in node.elts], ast.Load())), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.check_name(node, node.attr)
        if node.attr in INSPECT_ATTRIBUTES:
            self.refuse(
                node, "SR115", f"the attribute {node.attr!r} leads to frames and code", "There is no replacement."
            )
        if not isinstance(node.ctx, ast.Load):
            self.refuse(node, "SR114", f"the attribute {node.attr!r} cannot be assigned or deleted")
            return node
        return place(call("_getattr_", self.expr(node.value), ast.Constant(node.attr)), node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        if not node.values:
            return place(ast.Constant(""), node)
        if len(node.values) == 1 and isinstance(node.values[0], ast.Constant):
            return node.values[0]
        return place(call("_fstr_", *[self.expr(value) for value in node.values]), node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        value = self.expr(node.value)
        if node.conversion == -1 and node.format_spec is None:
            return value
        spec = ast.Constant("") if node.format_spec is None else self.expr(node.format_spec)
        return place(call("_fmt_", value, ast.Constant(node.conversion), spec), node)

    # -- exceptions

    def visit_Try(self, node: ast.Try) -> ast.Try:
        node.body = self.body(node.body)
        node.handlers = [self.visit(handler) for handler in node.handlers]
        node.orelse = self.body(node.orelse) if node.orelse else []
        if node.finalbody:
            first = node.finalbody[0]
            node.finalbody = [place(ast.Expr(call("_fin_")), first), *self.body(node.finalbody)]
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        self.check_name(node, node.name)
        if node.type is None:
            self.refuse(node, "SR109", "a bare `except:` catches everything")
        else:
            names = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if not all(isinstance(name, ast.Name) for name in names):
                hint = (
                    "Import the exception: `from json import JSONDecodeError`."
                    if isinstance(names[0], ast.Attribute)
                    else ""
                )
                self.refuse(node.type, "SR113", "the exception of a handler is an expression", hint)
            node.type = place(call("_exc_", self.expr(node.type)), node.type)
        node.body = self.body(node.body)
        return node

    # -- match

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.MatchValue:
        node.value = self.pattern_value(node.value)
        return node

    def pattern_value(self, node: ast.expr) -> ast.expr:
        if not isinstance(node, ast.Attribute):
            return node
        return place(ast.Attribute(call("_box_", self.expr(node)), "value", ast.Load()), node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.MatchMapping:
        self.check_name(node, node.rest)
        node.keys = [self.pattern_value(key) for key in node.keys]
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        return node

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.MatchClass:
        name = node.cls.id if isinstance(node.cls, ast.Name) else ""
        if name not in CLASS_PATTERNS:
            self.refuse(
                node, "SR116", "this class cannot be a pattern", f"Use one of {', '.join(sorted(CLASS_PATTERNS))}."
            )
        elif node.kwd_attrs or len(node.patterns) > (name not in NO_CAPTURE):
            self.refuse(node, "SR116", "a class pattern cannot look into the object")
        node.cls = place(load(f"_cls_{name}_"), node.cls)
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        return node

    def visit_MatchAs(self, node: ast.MatchAs) -> ast.MatchAs:
        self.check_name(node, node.name)
        return self.children(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> ast.MatchStar:
        self.check_name(node, node.name)
        return node
