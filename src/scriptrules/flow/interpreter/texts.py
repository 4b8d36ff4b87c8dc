"""Text: its methods, and what `format` and ``%`` put together."""

from __future__ import annotations

import itertools
import string

from scriptrules.flow.interpreter.elements import elements, from_python, listed, python_of
from scriptrules.flow.interpreter.machine import Arguments, Dead, Machine
from scriptrules.flow.values import Choice, Const, Text, Value, const, opaque, text, text_of

TEXT_METHODS = frozenset(
    [
        "capitalize",
        "casefold",
        "count",
        "endswith",
        "find",
        "index",
        "isalnum",
        "isalpha",
        "isdigit",
        "islower",
        "isupper",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "upper",
        "zfill",
    ]
)


def text_method(machine: Machine, receiver: Value, name: str, given: Arguments) -> Value:
    """A method of text."""
    if name == "join" and given.args:
        return machine.spread(
            [receiver, listed(machine, given.args[0])], lambda one, other: _joined(machine, one, other)
        )
    if name == "format":
        return machine.spread([receiver], lambda one: _formatted(machine, one, given))
    arguments = [python_of(machine, value) for value in given.args]
    values = [value[0] for value in arguments if value is not None]
    if (
        name in TEXT_METHODS
        and isinstance(receiver, Const)
        and len(values) == len(given.args)
        and not given.keywords
        and given.rest is None
    ):
        try:
            return from_python(machine, getattr(receiver.value, name)(*values))
        except Exception:
            raise Dead from None
    parts = text_of(receiver)
    if name in ("lower", "upper", "casefold", "swapcase"):
        return text([None if part is None else getattr(part, name)() for part in parts])
    if (
        name == "startswith"
        and len(given.args) == len(values) == 1
        and isinstance(values[0], str)
        and parts
        and parts[0] is not None
    ):
        head = parts[0]
        if not head.startswith(values[0][: len(head)]):
            return const(False)
        return const(True) if head.startswith(values[0]) else opaque("whether it begins so")
    if name in ("split", "rsplit", "splitlines", "partition", "rpartition"):
        return machine.new_list([], rest=opaque("a part of text"))
    return opaque(f"what {name}() gives")


def _joined(machine: Machine, separator: Value, value: Value) -> Value:
    items, rest = elements(machine, value)
    if rest is not None or not isinstance(separator, Const) or any(presence is not None for _, presence in items):
        return Text((None,))
    between: tuple[str | None, ...] = ("",)
    parts: list[str | None] = []
    for item, _ in items:
        parts += [*between, *(text_of(item) if not isinstance(item, Choice) else (None,))]
        between = (str(separator.value),)
    return text(parts)


def _formatted(machine: Machine, template: Value, given: Arguments) -> Value:
    """``"a.{}".format(…)``, as far as the template says."""
    if not isinstance(template, Const) or not isinstance(template.value, str):
        return Text((None,))
    parts: list[str | None] = []
    named = dict(given.keywords)
    try:
        counted = itertools.count()
        for literal, field, spec, conversion in string.Formatter().parse(template.value):
            parts.append(literal)
            if field is not None:
                index = next(counted) if field == "" else int(field) if field.isdigit() else None
                value = named.get(field) if index is None else (given.args[index] if index < len(given.args) else None)
                plain = value is not None and not spec and not conversion and not isinstance(value, Choice)
                parts += text_of(value) if plain and value is not None else (None,)
    except ValueError:
        raise Dead from None
    return text(parts)


def percent(machine: Machine, template: Value, value: Value) -> Value:
    """``"a.%s" % value``."""
    if not isinstance(template, Const) or not isinstance(template.value, str):
        return opaque("what % gives")
    items = machine.items(value)
    values = [value]
    if items is not None and items.kind == "tuple":
        values = [item for item, _ in items.items] if items.exact else []
    parts: list[str | None] = []
    pieces = template.value.replace("%%", "\0").split("%")
    for at, piece in enumerate(pieces):
        if at:
            named = piece[:1] in ("s", "d")
            simple = named and at <= len(values) and not isinstance(values[at - 1], Choice)
            whole = simple and (piece[0] == "s" or getattr(values[at - 1], "kind", "") == "int")
            parts += text_of(values[at - 1]) if whole else (None,)
            piece = piece[1:] if named else piece.lstrip("0123456789.-+# ")[1:] if piece[:1] != "(" else ""
            if pieces[at][:1] == "(":
                return Text((pieces[0].replace("\0", "%") or None, None))
        parts.append(piece.replace("\0", "%"))
    return text(parts)
