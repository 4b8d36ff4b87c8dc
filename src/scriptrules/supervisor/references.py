"""Where secrets stand in the arguments of an entry: found, and filled in. Pure.

In `run`'s arguments a mark stands where otherwise only text can, and in those of a function that accepts secrets the
worker has given each key that begins with ``$`` another one; so data never is a mark. A worker that writes marks of its
own gains nothing: only what the same run has loaded is ever filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from scriptrules.model import SecretRef
from scriptrules.sandbox.wire import Outcome
from scriptrules.supervisor.arguments import RunArgs, SecretText, WorkerLied, run_args, secret_text

MARK = SecretText.__struct_encode_fields__[0]
_MARK_BYTES = MARK.encode()

Answer = tuple[bytes, Outcome]  # the arguments of a load, and what the script was told
Fill = Callable[[SecretText], str]


def answer_to(args: bytes, answer: Answer | None) -> Outcome:
    """What a load was told; raises WorkerLied where it was never asked for."""
    if answer is None or answer[0] != args:
        raise WorkerLied("a load that was not asked for")
    return answer[1]


def secrets_in(name: str, args: bytes, accepting: Mapping[str, list[str]]) -> set[SecretRef]:
    """The secrets in the arguments of an entry.

    Args:
        accepting: parameters that accept secrets, by function.
    """
    if _MARK_BYTES not in args:
        return set()
    if name == "run":
        return references(in_run(run_args(args)))
    return references(in_function(msgspec.json.decode(args), accepting.get(name, ())))


def in_run(args: RunArgs) -> list[SecretText]:
    """The secrets in the arguments of a `run`."""
    values = (*args.args, *args.env.values(), *args.secret_files.values())
    return [value for value in values if isinstance(value, SecretText)]


def in_function(arguments: dict[str, Any], accepting: Iterable[str]) -> list[SecretText]:
    """The secrets in the arguments of a function, in the parameters that accept them.

    Raises:
        WorkerLied: there is a mark that no honest worker makes.
    """
    found: list[SecretText] = []

    def note(text: SecretText) -> str:
        found.append(text)
        return ""

    for name in accepting:
        _walk(arguments.get(name), note)
    return found


def fill_function(arguments: dict[str, Any], accepting: Iterable[str], fill: Fill) -> dict[str, Any]:
    """The arguments as the function gets them: the text of each secret in its place."""
    filled = {name: _walk(arguments[name], fill) for name in accepting if name in arguments}
    return {**arguments, **filled}


def filled(value: str | SecretText, fill: Fill) -> str:
    """A text of `run`'s arguments as the executor gets it."""
    return value if isinstance(value, str) else fill(value)


def references(texts: Iterable[SecretText]) -> set[SecretRef]:
    """The secrets that texts are made of."""
    return {part for text in texts for part in text.parts if isinstance(part, SecretRef)}


def _walk(value: Any, fill: Fill) -> Any:
    if type(value) is list:
        return [_walk(item, fill) for item in value]
    if type(value) is not dict:
        return value
    if MARK in value:
        try:
            return fill(secret_text(value))
        except msgspec.ValidationError:
            raise WorkerLied("a secret that cannot be one") from None
    return {key[1:] if key.startswith("$") else key: _walk(item, fill) for key, item in value.items()}
