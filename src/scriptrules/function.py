"""Functions that rules may call: declared once, as an ordinary function with a signature and a docstring.

That one declaration serves the runtime (a worker builds the injected function from it), the checker (its name and
parameters), the editor stub and the docs.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from scriptrules.errors import PluginError, nearest


class Parameter(msgspec.Struct, frozen=True):
    name: str
    kind: str  # "positional" | "both" | "args" | "keyword" | "kwargs"
    required: bool
    default: str = ""  # as it is written; only JSON values may be defaults of plugin functions
    annotation: str = ""


class FunctionSpec(msgspec.Struct, frozen=True):
    """The declaration as data; this is all that a worker learns of a function."""

    name: str
    parameters: list[Parameter]
    blocks: bool
    entry: bool  # whether a use of it is an entry of the journal
    doc: str
    intrinsic: bool = False  # the interpreter itself implements it
    returns: str = ""
    secrets: list[str] = []  # parameters that accept secrets, anywhere within their value

    @property
    def signature(self) -> str:
        """As it is written in Python: `(url: str, timeout: float = 10.0) -> dict`."""
        parts: list[str] = []
        kinds = [parameter.kind for parameter in self.parameters]
        starred = False
        for index, parameter in enumerate(self.parameters):
            if parameter.kind == "keyword" and not starred:
                parts.append("*")
                starred = True
            starred = starred or parameter.kind == "args"
            stars = {"args": "*", "kwargs": "**"}.get(parameter.kind, "")
            text = stars + parameter.name + (f": {parameter.annotation}" if parameter.annotation else "")
            if not parameter.required and not stars:
                text += (" = " if parameter.annotation else "=") + parameter.default
            parts.append(text)
            last_positional = parameter.kind == "positional" and "positional" not in kinds[index + 1 :]
            if last_positional:
                parts.append("/")
        return f"({', '.join(parts)})" + (f" -> {self.returns}" if self.returns else "")


_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "both",
    inspect.Parameter.VAR_POSITIONAL: "args",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
    inspect.Parameter.VAR_KEYWORD: "kwargs",
}


class Function:
    """A declared function: its `spec` and the callable that does it."""

    def __init__(
        self,
        call: Callable[..., Any],
        *,
        blocks: bool,
        entry: bool,
        retries: int,
        timeout: float,
        intrinsic: bool,
        secrets: Sequence[str] = (),
    ) -> None:
        self.call = call
        self.retries = retries
        self.timeout = timeout  # seconds
        self.spec = spec_of(call, blocks=blocks, entry=entry, intrinsic=intrinsic, secrets=secrets)
        self.__name__ = self.spec.name
        self.__doc__ = call.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


def function(
    call: Callable[..., Any] | None = None,
    *,
    blocks: bool = True,
    retries: int = 0,
    timeout: float = 60.0,
    secrets: Sequence[str] = (),
) -> Any:
    """Declare an ``async def`` as a function that rules may call.

    A use of it is an entry of the journal; the supervisor awaits the function after the entry is committed, and the
    rule gets its JSON result. It is called at least once: take the keyword argument `key`, if it is declared, to make
    an outside effect idempotent (rules do not see this parameter).

    Args:
        blocks: the rule waits for the result; otherwise it gets a handle for `wait()`.
        retries: how many further attempts a failing call gets.
        timeout: seconds for one attempt.
        secrets: the parameters that accept secrets, anywhere within their value. The function gets the text itself
            there; in the journal there is only its name and version. What it returns and raises is redacted.
    """

    def declare(call: Callable[..., Any]) -> Function:
        if not inspect.iscoroutinefunction(call):
            raise PluginError(f"function {call.__name__!r} is not a coroutine function. Declare it with `async def`.")
        for parameter in inspect.signature(call).parameters.values():
            if parameter.name != "key" and not _is_json(parameter.default, inspect.Parameter.empty):
                raise PluginError(
                    f"function {call.__name__!r}: the default of {parameter.name!r} is no JSON value, and workers know "
                    f"no other. Use None, and put the real default in its place inside the function."
                )
        for name in secrets:
            if name not in inspect.signature(call).parameters:
                raise PluginError(
                    f"function {call.__name__!r} accepts secrets in {name!r}, and has no such parameter"
                    f"{nearest(name, inspect.signature(call).parameters)}"
                )
        return Function(
            call, blocks=blocks, entry=True, retries=retries, timeout=timeout, intrinsic=False, secrets=secrets
        )

    return declare if call is None else declare(call)


def spec_of(
    call: Callable[..., Any], *, blocks: bool, entry: bool, intrinsic: bool, secrets: Sequence[str] = ()
) -> FunctionSpec:
    """The declaration of `call` as data; the parameter `key` of a plugin function belongs to the engine."""
    signature = inspect.signature(call)
    parameters = [
        Parameter(
            name=parameter.name,
            kind=_KINDS[parameter.kind],
            required=parameter.default is inspect.Parameter.empty
            and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD),
            default="" if parameter.default is inspect.Parameter.empty else _written(parameter.default),
            annotation=_annotation(parameter.annotation),
        )
        for parameter in signature.parameters.values()
        if intrinsic or parameter.name != "key"
    ]
    return FunctionSpec(
        name=call.__name__,
        parameters=parameters,
        blocks=blocks,
        entry=entry,
        doc=inspect.getdoc(call) or "",
        intrinsic=intrinsic,
        returns=_annotation(signature.return_annotation),
        secrets=list(secrets),
    )


def _written(default: object) -> str:
    return "..." if default is ... or type(default) is object else repr(default)


def _is_json(value: Any, *also: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if type(value) in (list, tuple):
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, str) or value in also


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    if isinstance(annotation, str):
        return annotation
    return getattr(annotation, "__name__", None) or str(annotation)
