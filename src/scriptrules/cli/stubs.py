"""`scriptrules stubs`: the functions that rules have, as editors read them."""

from __future__ import annotations

import ast
import builtins
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from scriptrules.cli.common import existing_folder, load_plugins, overrides

if TYPE_CHECKING:
    from scriptrules.function import FunctionSpec

TYPES = """\
# The names that every rule has. Made by `scriptrules stubs`; make it anew when plugins change.
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

class Secret:
    def __add__(self, text: str) -> Secret: ...
    def __radd__(self, text: str) -> Secret: ...

class ExecutionHandle:
    name: str

class TaskHandle:
    name: str

class Result:
    name: str
    status: str
    ok: bool
    reason: str | None
    host: str | None
    verdict: str | None
    started: datetime | None
    ended: datetime | None
    exit_code: int | None
    output: Any
    stdout: str
    stderr: str
    value: Any
    values: list[Any]

class TaskMapping(dict[str, Any]):
    name: str
    id: str
    parent: str | None
    root: str
    hop: int
    created: datetime
    reasons: dict[str, str]

class ExecutionFailed(Exception):
    results: list[Result]
    result: Result | None

class CallFailed(ExecutionFailed):
    trace: str | None

class Task:
    name: str
    def __init__(self, name: str, /, **data: Any) -> None: ...

class Job:
    def __init__(self, type: str, body: dict[str, Any], then: Any = None) -> None: ...
"""


@click.command("stubs")
@click.option("--plugins", metavar="DIR", callback=existing_folder, help="Folder of plugins, whose functions count.")
def stubs_command(plugins: str | None) -> None:
    """Print the functions that rules have as a stub, for editors.

    Editors with Pyright (Pylance, basedpyright) then know run(), wait() and the others, in this folder and below:

    \b
    scriptrules stubs > __builtins__.pyi
    """
    from scriptrules import config

    settings = config.load(None, overrides(None, plugins, None))
    click.echo(stub(function.spec for function in load_plugins(settings).functions.values()), nl=False)


def stub(functions: Iterable[FunctionSpec]) -> str:
    """The text of a stub with these functions."""
    return "\n".join([TYPES, *(_declaration(spec) for spec in functions)])


def _declaration(spec: FunctionSpec) -> str:
    signature, _, returns = spec.signature.rpartition(" -> ") if spec.returns else (spec.signature, "", "Any")
    known = _defined() | set(dir(builtins))
    if "|" in returns or not _names(returns) <= known:
        returns = "Any"  # of several, a rule knows which; what only a plugin imports has no name here
    if not _names(f"def f{signature}: ...") - {"f"} <= known | {one.name for one in spec.parameters}:
        signature = "(*args: Any, **kwargs: Any)"
    doc = textwrap.indent(f'"""{spec.doc}"""', "    ")
    return f"def {spec.name}{signature} -> {returns}:\n{doc}\n"


def _defined() -> set[str]:
    tree = ast.parse(TYPES)
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return imported | {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
