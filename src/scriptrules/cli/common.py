"""What commands share: how data is written on a command line, and how answers are printed.

Imports stay light; a module that some command needs alone is imported where it is used.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from scriptrules import clock

if TYPE_CHECKING:
    from scriptrules.client import Client, FailureJson
    from scriptrules.config import Config
    from scriptrules.plugins.manager import Plugins

Json = Any
Piece = tuple[str, str]  # text and its style
Command = TypeVar("Command", bound=Callable[..., Any])

WIDTH = 100  # columns of what is not printed to a terminal
STYLES: dict[str, dict[str, Any]] = {
    "": {},
    "bold": {"bold": True},
    "dim": {"dim": True},
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "busy": {"fg": "cyan"},
    "held": {"fg": "yellow"},
}
STATES = {  # state: symbol, style
    "new": ("○", "busy"),
    "queued": ("○", "busy"),
    "pending": ("○", "busy"),
    "running": ("●", "busy"),
    "started": ("●", "busy"),
    "waiting": ("◌", "busy"),
    "held": ("‖", "held"),
    "done": ("✓", "good"),
    "failed": ("✗", "bad"),
    "unmatched": ("·", "dim"),
    "dropped": ("·", "dim"),
    "cancelled": ("⊘", "dim"),
}
_PLAIN = str.maketrans("○●◌‖✓✗·⊘├└│─→…", "oo.=+x.-|`|->~")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


# ---- what comes in


def read_data(pairs: Sequence[str], data: str | None) -> dict[str, Json]:
    """The data of a task as it was given on the command line.

    Args:
        pairs: ``k=v`` (text) and ``k:=JSON``.
        data: the text after --data; "-" reads standard input.

    Raises:
        click.UsageError: what is wrong with it.
    """
    if data is not None:
        if pairs:
            raise click.UsageError("Give the data either as k=v … or by --data, not both.")
        text = read_stdin() if data == "-" else data
        value = read_json(text, "--data")
        if not isinstance(value, dict):
            raise click.UsageError("--data is not a JSON object. Write --data '{\"size\": 3}'.")
        return value
    fields: dict[str, Json] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        raw = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name:
            raise click.UsageError(f"{pair!r} is no field. Write name=text, or name:=JSON: customer=ada size:=3")
        if name in fields:
            raise click.UsageError(f"The field {name!r} is given twice. Leave one out; a list is {name}:='[1, 2]'.")
        fields[name] = read_json(text, pair) if raw else text
    return fields


def hint_at_texts(pairs: Sequence[str]) -> None:
    """Where a task came to no good end: say which of its fields are texts that look like something else."""
    for pair in pairs:
        name, _, text = pair.partition("=")
        if not name.endswith(":") and (text in ("true", "false", "null") or _is_number(text)):
            say(f"scriptrules: {pair} is the text {json.dumps(text)}. If that is not what is meant: {name}:={text}")


def _is_number(text: str) -> bool:
    try:
        return isinstance(json.loads(text), (int, float))
    except ValueError:
        return False


def read_stdin() -> str:
    """All of standard input, as text."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"Standard input is not UTF-8 at byte {error.start}.") from None


def read_json(text: str, where: str) -> Json:
    """JSON from the command line; `where` it stands is for the message about what is none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        quoted = " Text is written with its quotes: '\"text\"'."
        hints = {"--data": "", "--result": quoted, "--set": quoted, "VALUE": " For text, leave --json-value out."}
        hint = hints.get(where, " For text, write = instead of :=.")
        raise click.UsageError(f"{where}: this is no JSON: {error}.{hint}") from None


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not a value of JSON")


def read_since(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A time as RFC 3339, from one, or from an age such as 10m, 2h, 1d."""
    if value is None:
        return None
    number, unit = value[:-1], value[-1:]
    if unit in _UNITS and number.isdigit() and len(number) < 9:
        return clock.text(clock.now() - int(number) * _UNITS[unit] * clock.SECOND)
    try:
        return clock.text(clock.parse(value))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time. Write 10m, 2h, 1d, or 2026-01-31T12:00:00Z.") from None


def check_id(_: click.Context, __: click.Parameter, value: str) -> str:
    """An id of a task or a run."""
    if value[:1] not in ("t", "r") or not value.isalnum():
        raise click.BadParameter(f"{value!r} is no id. Those of tasks begin with t, those of runs with r.")
    return value


def check_task_id(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if check_id(context, parameter, value).startswith("r"):
        raise click.BadParameter(f"{value} is the id of a run. Look at it with `scriptrules show {value}`.")
    return value


def check_run_id(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if check_id(context, parameter, value).startswith("t"):
        raise click.BadParameter(f"{value} is the id of a task. Its runs: `scriptrules runs --task {value}`.")
    return value


def make_client() -> Client:
    """A client of the server at SCRIPTRULES_URL."""
    from scriptrules.client import DEFAULT_URL, Client

    token = os.environ.get("SCRIPTRULES_TOKEN") or None
    return Client(os.environ.get("SCRIPTRULES_URL") or DEFAULT_URL, token=token)


def installation(command: Command) -> Command:
    """The options that say where rules, plugins and the store are."""
    command = click.option("--store", metavar="URL", help="Store: sqlite:///path/to/state.db, or memory:.")(command)
    command = click.option("--plugins", metavar="DIR", callback=existing_folder, help="Folder of plugins.")(command)
    return click.option("--rules", metavar="DIR", callback=existing_folder, help="Folder of rules.")(command)


def overrides(rules: str | None, plugins: str | None, store: str | None) -> dict[str, str | None]:
    """These flags as overrides of the configuration; paths in flags are relative to the current folder."""
    if store is not None and store.startswith("sqlite:///"):
        store = f"sqlite:///{Path(store.removeprefix('sqlite:///')).absolute()}"
    return {
        "rules": rules and str(Path(rules).absolute()),
        "plugins": plugins and str(Path(plugins).absolute()),
        "store.url": store,
    }


def existing_folder(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A folder that a flag names."""
    if value is not None and not Path(value).is_dir():
        raise click.BadParameter(f"there is no folder {value}. Make it, or name another.")
    return value


def load_plugins(config: Config, quiet: bool = True) -> Plugins:
    """The plugins of an installation. What they print while they are imported is no data: it goes to standard error.

    Args:
        quiet: leave it to the caller to say which plugins are broken.
    """
    import contextlib

    from scriptrules import log
    from scriptrules.plugins.manager import Plugins

    log.configure("critical" if quiet else "info")
    with contextlib.redirect_stdout(sys.stderr):
        return Plugins(config.plugins_dir)


# ---- what goes out


def say(message: str) -> None:
    """A message for people: to standard error."""
    click.echo(_printable(message, sys.stderr), err=True)


def print_json(value: Json) -> None:
    """Data for programs: one JSON document, indented on a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json_text(value, indent))


def json_text(value: Json, indent: int | None = None) -> str:
    """JSON for programs that may be looked at in a terminal: what could steer it is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def print_lines(lines: Iterable[Sequence[Piece]]) -> None:
    """Lines of styled pieces for people, in colour where that is wanted."""
    for line in lines:
        click.echo(paint(line, has_colour()))


def paint(line: Sequence[Piece], colour: bool) -> str:
    text = "".join(click.style(text, **STYLES[style]) if colour and style and text else text for text, style in line)
    return _printable(text, sys.stdout)


def has_colour() -> bool:
    """Whether standard output is a terminal that is not asked to stay plain (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int:
    """Columns that there are."""
    return max(60, shutil.get_terminal_size((WIDTH, 24)).columns) if sys.stdout.isatty() else WIDTH


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str | Piece]], columns: int | None = None) -> None:
    """A table for people; what does not fit is cut off the widest column but the first."""
    columns = columns or width()
    cells = [[cell if isinstance(cell, tuple) else (cell, "") for cell in row] for row in rows]
    cells = [[(clean(text), style) for text, style in row] for row in cells]
    widths = [max(len(title), *(len(row[at][0]) for row in cells), 0) for at, title in enumerate(titles)]
    while sum(widths) + 2 * (len(widths) - 1) > columns:
        widest = max(range(1, len(widths)), key=lambda at: widths[at])
        if widths[widest] <= 4:
            break
        widths[widest] -= 1
    lines = [[(title, "dim") for title in titles], *cells]
    for line in lines:
        sized = zip(line, widths, strict=True)
        padded = [(shorten(text, size).ljust(size) + "  ", style) for (text, style), size in sized]
        padded[-1] = (padded[-1][0].rstrip(), padded[-1][1])
        print_lines([padded])


def state_piece(state: str) -> Piece:
    """A state with its symbol, in its colour."""
    symbol, style = STATES.get(state, ("?", ""))
    return f"{symbol} {state}", style


def shorten(text: str, size: int) -> str:
    return text if len(text) <= size else text[: max(0, size - 1)] + "…"


def compact(value: Json, size: int = 10_000) -> str:
    """A JSON value on one line, at most `size` characters."""
    return shorten(json_text(value), size)


def clean(text: str) -> str:
    """`text` without characters that could steer a terminal."""
    return "".join(character if character.isprintable() else _visible(character) for character in text)


def _visible(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()


def age(stamp: str, now: int | None = None) -> str:
    """How long ago an RFC 3339 time is, in one unit: "12 s"."""
    return duration_text(((now or clock.now()) - clock.parse(stamp)) / clock.SECOND, whole=True)


def duration_between(start: str, end: str | None) -> str:
    """How long something took, or has taken by now: "0.31 s"."""
    ended = clock.now() if end is None else clock.parse(end)
    return duration_text((ended - clock.parse(start)) / clock.SECOND)


def duration_text(seconds: float, whole: bool = False) -> str:
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if whole else f"{seconds:.2f} s"


def error_text(error: FailureJson) -> str:
    """A failure as one sentence."""
    where = f" (line {error['line']})" if error.get("line") else ""
    return clean(f"{error.get('type')}: {error.get('message')}{where}")


def reason_text(thing: Mapping[str, Json]) -> str:
    """Why a task or a run is as it is."""
    reason, error = str(thing["reason"] or thing["state"]), thing.get("error")
    if not error:
        return clean(reason)
    return error_text(error) if error["type"].lower() == reason else clean(f"{reason}: {error_text(error)}")


def way_out(thing: Mapping[str, Json]) -> str:
    """What ends the state of a task or a run, with its id in the command; empty where that is final."""
    return str(thing["exit"] or "").replace(" ID", f" {thing['id']}")


def wrap(text: str, indent: int = 0) -> list[str]:
    """`text` as lines that fit, leaving room for an indentation."""
    import textwrap

    return textwrap.wrap(text, width() - indent, break_on_hyphens=False) or [""]


def _printable(text: str, stream: Any) -> str:
    """`text` as far as the stream's encoding has it."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    except LookupError:
        pass
    return text
