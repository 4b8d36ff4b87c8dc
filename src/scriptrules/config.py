"""Configuration: ``scriptrules.toml`` or ``[tool.scriptrules]`` in pyproject.toml, then ``SCRIPTRULES_…``, then flags.

Unknown keys are errors that name the nearest; relative paths are relative to the file they stand in. The table of a
host is handed to its executor as it is (`scriptrules.plugins.executor.ExecutorFactory`), which checks it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from scriptrules.clock import SECOND
from scriptrules.errors import ConfigError, nearest
from scriptrules.incoming import HookConfig, ScheduleConfig, check_hooks, check_schedules

FILE = "scriptrules.toml"
MEGABYTE = 1024 * 1024
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}  # seconds
Positive = Annotated[int, msgspec.Meta(ge=1)]


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: str = "127.0.0.1:8765"
    body_max: Positive = 32 * MEGABYTE  # bytes of one request, such as many tasks as NDJSON
    read_timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0  # seconds in which a request has to come
    write_timeout: Annotated[float, msgspec.Meta(gt=0)] = 20.0  # seconds that a client may take nothing of an answer
    connections: Positive = 500  # at the same time
    rate: Annotated[int, msgspec.Meta(ge=0)] = 0  # requests a second of a client; 0: 1,000, and any number on loopback
    hosts: list[str] = []  # names that it is reached by besides loopback, such as that of a proxy in front
    root_path: Annotated[str, msgspec.Meta(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""  # where a proxy puts it


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "sqlite:///.scriptrules/state.db"
    retention: str = "30d"  # how long what has ended is kept: 12h, 30d; or "forever"


class SandboxConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Budgets of rule code. Each is there so that one rule cannot cost the others anything."""

    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0  # 0: one a processor, at most 8
    require: Literal["default", "full"] = "default"  # "full": refuse to start where a wall is missing
    cpu_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 1.0  # soft limit of one slice or filter
    steps: Positive = 20_000_000  # loop iterations and calls of one slice or filter
    hard_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 3.0  # CPU seconds after which the worker is killed
    memory_mb: Annotated[int, msgspec.Meta(ge=64, le=65536)] = 512  # of one worker
    entries_per_slice: Positive = 10_000
    entries_per_run: Positive = 100_000
    payload_max: Positive = 256 * 1024  # bytes of one task's data, one entry's arguments or one value
    depth_max: Positive = 64  # nested lists and objects in a payload
    log_max: Positive = 64 * 1024  # bytes that one slice may print
    warm_runs: Positive = 5_000  # suspended runs a worker keeps in memory; others are replayed when they go on


class FlowConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hop_max: Positive = 100  # generations without an outside wait before a task is held as a loop
    call_depth_max: Positive = 64
    timezone: str = "UTC"  # of schedules


class SecretsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key_file: str = ".scriptrules/secrets.key"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rules: str = "rules"
    plugins: str = "plugins"
    breakpoints: str = "breakpoints"
    server: ServerConfig = ServerConfig()
    store: StoreConfig = StoreConfig()
    sandbox: SandboxConfig = SandboxConfig()
    flow: FlowConfig = FlowConfig()
    secrets: SecretsConfig = SecretsConfig()
    hosts: dict[str, dict[str, Any]] = {}
    variables: dict[str, dict[str, Any]] = {}  # sources of variables by name, in the order in which they are asked
    schedules: list[ScheduleConfig] = []
    hooks: dict[str, HookConfig] = {}
    sources: dict[str, dict[str, Any]] = {}
    base: Any = Path()  # the folder that relative paths start from
    file: Any = None  # where it was read from, if anywhere

    @property
    def rules_dir(self) -> Path:
        return Path(self.base, self.rules)

    @property
    def breakpoints_dir(self) -> Path:
        return Path(self.base, self.breakpoints)

    @property
    def plugins_dir(self) -> Path:
        return Path(self.base, self.plugins)

    @property
    def host_kinds(self) -> dict[str, str]:
        """The kind of executor of each host."""
        return {name: table["executor"] for name, table in self.hosts.items()}

    @property
    def workers(self) -> int:
        """How many worker processes there are."""
        return self.sandbox.workers or min(os.cpu_count() or 1, 8)

    @property
    def store_path(self) -> Path | None:
        """The file of an SQLite store; None for a store in memory."""
        if self.store.url == "memory:":
            return None
        if not self.store.url.startswith("sqlite:///"):
            raise ConfigError(
                f"store url {self.store.url!r} is not one this version can use. "
                f"Write sqlite:///path/to/state.db, or memory: for a store that ends with the process."
            )
        return Path(self.base, self.store.url.removeprefix("sqlite:///"))

    @property
    def retention(self) -> int | None:
        """Microseconds that what has ended is kept; None: for ever."""
        text = self.store.retention
        if text == "forever":
            return None
        number, unit = text[:-1], text[-1:]
        if unit not in _UNITS or not number.isdigit() or not 0 < int(number) < 10**6:
            raise ConfigError(f'retention = {text!r} is no time to keep. Write "12h", "30d" or "forever".')
        return int(number) * _UNITS[unit] * SECOND

    @property
    def state_dir(self) -> Path:
        """Where executors keep what must survive a restart."""
        path = self.store_path
        return path.parent if path else Path(self.base, ".scriptrules")

    @property
    def key_file(self) -> Path | None:
        """The file with the keys of secrets; None where the store, and they with it, end with the process."""
        return Path(self.base, self.secrets.key_file) if self.store_path else None

    @property
    def listen_address(self) -> tuple[str, int]:
        host, _, port = self.server.listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ConfigError(f"listen = {self.server.listen!r} is not HOST:PORT, such as 127.0.0.1:8765.")
        return host.strip("[]"), int(port)


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "server": ServerConfig,
    "store": StoreConfig,
    "sandbox": SandboxConfig,
    "flow": FlowConfig,
    "secrets": SecretsConfig,
}
_TABLES: dict[str, type[msgspec.Struct]] = {"schedules": ScheduleConfig, "hooks": HookConfig}  # many of one shape


def load(
    folder: Path | None = None, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> Config:
    """Read the configuration that holds in `folder` (default: the current one, or the nearest above it that has one).

    Args:
        folder: where to look.
        overrides: flags, by dotted key: ``{"server.listen": "127.0.0.1:0"}``; None values are ignored.
        environ: variables; default the process's own. ``SCRIPTRULES_SERVER_LISTEN`` is ``server.listen``.

    Raises:
        ConfigError: a file, key or value that cannot be used, with where it stands and the nearest known key.
    """
    table, file = _find((folder or Path.cwd()).resolve())
    base = file.parent if file else (folder or Path.cwd()).resolve()
    where = str(file) if file else "the configuration"
    _check_keys(table, where)
    table = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
    for dotted, value in _from_environment(os.environ if environ is None else environ).items():
        _set(table, dotted, value)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _set(table, dotted, value)
    _check_keys(table, where)
    try:
        config = msgspec.structs.replace(msgspec.convert(table, Config, strict=False), base=base, file=file)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}. Correct it and start again.") from None
    check_schedules(config.schedules, config.flow.timezone, where)
    check_hooks(config.hooks, where)
    for name, source in config.sources.items():
        if not isinstance(source.get("source"), str):
            raise ConfigError(f'{where}: [sources.{name}] needs source = "folder" or another kind of source.')
    for name, host in config.hosts.items():
        if not isinstance(host.get("executor"), str):
            raise ConfigError(f'{where}: [hosts.{name}] needs executor = "process" or another kind of executor.')
    for name, source in config.variables.items():
        if not isinstance(source.get("source"), str):
            raise ConfigError(f'{where}: [variables.{name}] needs source = "environment" or another kind of source.')
    return config


def _find(folder: Path) -> tuple[dict[str, Any], Path | None]:
    for candidate in (folder, *folder.parents):
        file = candidate / FILE
        if file.is_file():
            return _read(file), file
        project = candidate / "pyproject.toml"
        if project.is_file():
            table = _read(project).get("tool", {}).get("scriptrules")
            if table is not None:
                return table, project
    return {}, None


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: {error}. Correct it and start again.") from None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}. Make it readable and start again.") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings among the variables: SCRIPTRULES_SECTION_KEY, where section and key exist."""
    found = {}
    for section, struct in _SECTIONS.items():
        for field in struct.__struct_fields__:
            value = environ.get(f"SCRIPTRULES_{section}_{field}".upper())
            if value is not None:
                found[f"{section}.{field}"] = value
    for key, dotted in (
        ("SCRIPTRULES_RULES", "rules"),
        ("SCRIPTRULES_PLUGINS", "plugins"),
        ("SCRIPTRULES_BREAKPOINTS", "breakpoints"),
    ):
        if key in environ:
            found[dotted] = environ[key]
    return found


def _set(table: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        table = table.setdefault(section, {})
    table[key] = value


def _check_keys(table: Mapping[str, Any], where: str) -> None:
    known = {"rules", "plugins", "breakpoints", "hosts", "variables", "sources", *_TABLES, *_SECTIONS}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, known)} Known: {', '.join(sorted(known))}.")
        if key in _SECTIONS:
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: {key!r} is a section; write [{key}] and its keys below.")
            _check_inner(value, _SECTIONS[key], where, f"[{key}]")
        elif key in _TABLES and isinstance(value, (dict, list)):
            named = value.items() if isinstance(value, dict) else [("", inner) for inner in value]
            for name, inner in named:
                if isinstance(inner, dict):
                    _check_inner(inner, _TABLES[key], where, f"[{key}.{name}]" if name else f"[[{key}]]")


def _check_inner(table: Mapping[str, Any], struct: type[msgspec.Struct], where: str, place: str) -> None:
    fields = struct.__struct_fields__
    for key in table:
        if key not in fields:
            raise ConfigError(
                f"{where}: unknown key {key!r} in {place}{nearest(key, fields)} Known: {', '.join(fields)}."
            )
