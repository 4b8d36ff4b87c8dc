"""What a Docker host allows, and what a request becomes there: decisions only, nothing here talks to an engine.

What was tried and rejected: matching images after normalising them to `docker.io/library/…` (a pattern then allows
more than what is written); Docker's `Binds` for mounts (it makes a missing source as root; `Mounts` refuses it); the
network "none" by name alone (the engine starts a process of its own to set up what has nothing in it: 25 ms and a
quarter of what a container costs it; without a network of the engine's, the container has the same loopback).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from scriptrules.errors import ConfigError, InvalidRequest, PolicyRefused, nearest
from scriptrules.executors._output import check_options
from scriptrules.model import ExecutionRequest

MEGABYTE = 1024 * 1024
FOLDER = "/scriptrules"  # in the container; input is put there before the start, output is copied out after the end
INPUT = f"{FOLDER}/input.json"
OUTPUT = f"{FOLDER}/output.json"
HOSTS = "/etc/hosts"
LOG_FILES = 2  # that the engine keeps for a container; when the last is full, the first goes

OPTIONS: dict[str, type | tuple[type, ...]] = {
    "cpus": float,
    "memory": str,
    "memory_mb": int,
    "network": str,
    "mounts": list,
    "workdir": str,
    "user": str,
    "entrypoint": list,
    "tmpfs": dict,
    "labels": dict,
    "keep": bool,
    "gpus": (str, int),
    "platform": str,
    "restartable": bool,
}
NOT_BY_DEFAULT = frozenset({"gpus"})  # options that a host has to allow by name
SECRET_MAX = 1024 * 1024  # bytes of one file
LOOPBACK = ("127.", "localhost", "[::1]")
_LEAST = {"memory_mb": 6, "cpus": 0.01, "pids": 1, "max_running": 0, "keep_for": 0, "grace": 0, "log_mb": 1}
_UNITS = {"k": 1 / 1024, "m": 1, "g": 1024}  # megabytes


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Credentials of a registry: the password as it is, or where it stands."""

    username: str
    password: str | None = None
    password_file: str | None = None  # its first line
    password_env: str | None = None  # a variable of the server
    password_variable: str | None = None  # a secret, as `load` would find it in no task's tree


PASSWORDS = ("password", "password_file", "password_env", "password_variable")


class HostTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [hosts.NAME] of a Docker host."""

    url: str = "unix:///var/run/docker.sock"
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    ssh_config: str | None = None  # a file for ssh -F, where the user's own does not do
    images: list[str] = []  # patterns; `**` is anything, `*` anything without a slash
    mounts: list[str] = []  # folders of the host that rules may mount, with all below; `/path:ro` only for reading
    network: str | list[str] = "none"  # the first is the default, the others may be asked for
    memory_mb: int = 512  # what a container gets, and the most that it may ask for
    cpus: float = 1.0
    pids: int = 256
    max_running: int = 0  # containers at once; 0 is no limit
    keep_for: float = 0.0  # seconds that an ended container is kept after its end
    pull: str = "missing"  # "missing" | "never" | "always"
    grace: float = 10.0  # seconds between the polite signal and the forcible one
    log_mb: int = 32  # of one container's output, both streams together, that is kept; the oldest goes first
    logs_for: float = 30 * 86400.0  # seconds that the output of a removed container is kept
    options: list[str] | None = None  # of run() that rules may use; nothing said: all but gpus
    registries: dict[str, Registry] = {}  # by name, as images begin: "registry.example:5000"

    @property
    def networks(self) -> list[str]:
        return [self.network] if isinstance(self.network, str) else self.network


class Options(msgspec.Struct, frozen=True):
    """The options of a request, checked."""

    cpus: float | None = None
    memory: str | None = None  # "512m", "2g"; the same as memory_mb
    memory_mb: int | None = None
    network: str | None = None
    mounts: list[str] = []
    workdir: str | None = None
    user: str | None = None
    entrypoint: list[str] | None = None
    tmpfs: dict[str, int] = {}  # path: megabytes
    labels: dict[str, str] = {}
    keep: bool = False
    gpus: int | str | None = None  # how many, or "all"
    platform: str | None = None
    restartable: bool = False  # it may be started again where its container was lost


def read_table(table: Mapping[str, Any], host: str) -> HostTable:
    """Check the table of a host.

    Args:
        table: as it stands in scriptrules.toml, without `executor`.
        host: its name, for messages.

    Raises:
        ConfigError: an unknown key (naming the nearest), or a value that cannot be used.
    """
    where, known = f"[hosts.{host}]", HostTable.__struct_fields__
    for key in table:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, known)} Known: {', '.join(known)}.")
    try:
        made = msgspec.convert(dict(table), HostTable)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}. Correct it and start again.") from None
    if made.pull not in ("missing", "never", "always"):
        raise ConfigError(f'{where}: pull = "{made.pull}" is unknown. Write "missing", "never" or "always".')
    if not made.url.startswith(("unix://", "tcp://", "ssh://")):
        raise ConfigError(
            f"{where}: url = {made.url!r} is not one. Write unix:///path, tcp://host:port or ssh://user@host."
        )
    tls = [made.tls_ca, made.tls_cert, made.tls_key]
    if any(tls) and not (all(tls) and made.url.startswith("tcp://")):
        raise ConfigError(f"{where}: tls_ca, tls_cert and tls_key belong together, and to a tcp:// url.")
    if made.ssh_config and not made.url.startswith("ssh://"):
        raise ConfigError(f"{where}: ssh_config belongs to an ssh:// url. Leave it out, or correct the url.")
    if made.url.startswith("tcp://") and not any(tls) and not made.url.removeprefix("tcp://").startswith(LOOPBACK):
        raise ConfigError(
            f"{where}: url = {made.url!r} without TLS hands the host to whoever reaches it. Give tls_ca, tls_cert and "
            f"tls_key, or use ssh://user@host."
        )
    for option in made.options or ():
        if option not in OPTIONS:
            raise ConfigError(f"{where}: options: there is no {option!r}{nearest(option, OPTIONS)}")
    for name, registry in made.registries.items():
        if sum(getattr(registry, way) is not None for way in PASSWORDS) != 1:
            raise ConfigError(
                f"{where}: registries.{name!r} needs one of {', '.join(PASSWORDS)}, and no more than one. Correct it."
            )
    if not made.networks:
        raise ConfigError(f'{where}: network is empty. Write network = "none" where containers get none.')
    for bound, least in _LEAST.items():
        if getattr(made, bound) < least:
            raise ConfigError(f"{where}: {bound} is below {least}. Correct it and start again.")
    for mount in made.mounts:
        if not mount.startswith("/"):
            raise ConfigError(f"{where}: mounts: {mount!r} is not absolute. Write the folder's whole path on the host.")
    return made


def read_options(request: ExecutionRequest) -> Options:
    """The options of `request`; InvalidRequest for an unknown one (naming the nearest) or a wrong value."""
    check_options(request.options, OPTIONS)
    try:
        options = msgspec.convert(request.options, Options)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"run({request.name!r}): {error}. Correct the option.") from None
    if options.memory is not None:
        options = msgspec.structs.replace(options, memory_mb=_megabytes(options))
    for name in ("cpus", "memory_mb"):
        value = getattr(options, name)
        if value is not None and value < _LEAST[name]:
            raise InvalidRequest(f"{name}={value} is below {_LEAST[name]}. Leave it out for the host's default.")
    for path, megabytes in options.tmpfs.items():
        if not path.startswith("/") or megabytes <= 0 or set(path) & set(",:"):
            raise InvalidRequest(f"tmpfs={{{path!r}: {megabytes}}} is not {{absolute path: megabytes}}. Correct it.")
    for variable in request.env:
        if not variable or "=" in variable or "\0" in variable or variable.startswith("SCRIPTRULES_"):
            raise InvalidRequest(f"env of run(): {variable!r} is not a variable that can be set. Choose another name.")
    for label in options.labels:
        if label.startswith("scriptrules."):
            raise InvalidRequest(f"label {label!r} belongs to scriptrules. Choose one with another beginning.")
    if options.gpus is not None and re.fullmatch(r"all|[1-9][0-9]{0,3}", str(options.gpus)) is None:
        raise InvalidRequest(f'gpus={options.gpus!r} is neither a number above zero nor "all". Correct it.')
    if options.workdir is not None and not options.workdir.startswith("/"):
        raise InvalidRequest(f"workdir={options.workdir!r} is not absolute. Write the whole path in the container.")
    if (folder := _mounted_over(INPUT, options) or _mounted_over(OUTPUT, options)) is not None:
        raise InvalidRequest(
            f"what is mounted at {folder!r} hides input and output, {FOLDER}. Mount it somewhere else."
        )
    _check_secret_files(request, options)
    return options


def _megabytes(options: Options) -> int:
    text = str(options.memory)
    found = re.fullmatch(r"([0-9]{1,9})([kmg])b?", text.lower())
    if found is None or options.memory_mb is not None:
        raise InvalidRequest(f'memory={text!r} has to be such as "512m" or "2g", and without memory_mb. Correct it.')
    return int(int(found[1]) * _UNITS[found[2]])


def _check_secret_files(request: ExecutionRequest, options: Options) -> None:
    for path, content in request.secret_files.items():
        if not path.startswith("/") or path != posixpath.normpath(path) or path in (INPUT, OUTPUT, FOLDER, "/"):
            raise InvalidRequest(f"secret_files: {path!r} is no plain absolute path of a file. Correct it.")
        if len(content.encode()) > SECRET_MAX:
            raise InvalidRequest(f"secret_files: {path!r} is over {SECRET_MAX} bytes. Secrets are small; send a key.")
        if (folder := _mounted_over(path, options)) is not None:
            raise InvalidRequest(f"secret_files: {path!r} would be hidden by what is mounted at {folder!r}.")


def _mounted_over(path: str, options: Options) -> str | None:
    """Where something is mounted in the container that hides `path`; None where nothing is."""
    for folder in (*options.tmpfs, *(parse_mount(text)[1] for text in options.mounts)):
        if path == folder or path.startswith(folder.rstrip("/") + "/"):
            return folder
    return None


def check_policy(table: HostTable, request: ExecutionRequest, options: Options) -> None:
    """Raise PolicyRefused, with what would have to be configured, where the host does not allow `request`."""
    where = f"[hosts.{request.host}]"
    if not any(image_matches(pattern, request.image) for pattern in table.images):
        listed = ", ".join(table.images) or "none"
        raise PolicyRefused(
            f"host {request.host!r} does not allow the image {request.image!r} (allowed: {listed}). "
            f'Add it under {where} in scriptrules.toml: images = ["{request.image}"].'
        )
    allowed = set(OPTIONS) - NOT_BY_DEFAULT if table.options is None else set(table.options)
    for option in request.options:
        if option not in allowed:
            raise PolicyRefused(
                f"host {request.host!r} does not allow the option {option!r}. "
                f"Add it under {where} in scriptrules.toml: options = {sorted({*allowed, option})}."
            )
    if options.network is not None and options.network not in (*table.networks, "none"):
        raise PolicyRefused(
            f"host {request.host!r} does not allow the network {options.network!r}. "
            f"Add it under {where} in scriptrules.toml: network = {[*table.networks, options.network]}."
        )
    for name, most in (("memory_mb", table.memory_mb), ("cpus", table.cpus)):
        asked = getattr(options, name)
        if asked is not None and asked > most:
            raise PolicyRefused(
                f"{name}={asked} is more than host {request.host!r} allows ({most}). "
                f"Raise it under {where} in scriptrules.toml: {name} = {asked}; or ask for less."
            )
    for text in options.mounts:
        source, _, read_only = parse_mount(text)
        if not any(_mount_allowed(folder, source, read_only) for folder in table.mounts):
            written = source if not read_only else f"{source}:ro"
            raise PolicyRefused(
                f"host {request.host!r} does not allow the mount {text!r}. "
                f'Add it under {where} in scriptrules.toml: mounts = ["{written}"].'
            )


def image_matches(pattern: str, image: str) -> bool:
    """Whether `pattern` (`**` anything, `*` anything without a slash) covers the whole of `image`."""
    parts = re.split(r"(\*\*|\*)", pattern)
    wild = {"**": ".*", "*": "[^/]*"}
    return re.fullmatch("".join(wild.get(part) or re.escape(part) for part in parts), image) is not None


def parse_mount(text: str) -> tuple[str, str, bool]:
    """`SOURCE:TARGET[:ro|:rw]` as (source, target, read_only); read-only unless it says otherwise."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    plain = all(path.startswith("/") and ".." not in path.split("/") for path in (source, target))
    if not plain or mode not in ("", "ro", "rw"):
        raise InvalidRequest(
            f'mount {text!r} is not "SOURCE:TARGET" or "SOURCE:TARGET:rw" of absolute paths. Correct it.'
        )
    return posixpath.normpath(source), posixpath.normpath(target), mode != "rw"


def _mount_allowed(allowed: str, source: str, read_only: bool) -> bool:
    folder, _, mode = allowed.partition(":")
    folder = posixpath.normpath(folder)
    inside = source == folder or source.startswith(folder.rstrip("/") + "/")
    return inside and (mode != "ro" or read_only)


def log_bounds(table: HostTable) -> dict[str, str]:
    return {"max-size": f"{table.log_mb * 1024 // LOG_FILES}k", "max-file": str(LOG_FILES)}


def is_without_network(table: HostTable, options: Options) -> bool:
    """Whether the engine need not know of any network of the container; then it gives it no HOSTS, and we have to.

    Not where HOSTS is mounted over: what is put there would be written to a folder of the host.
    """
    return (options.network or table.networks[0]) == "none" and _mounted_over(HOSTS, options) is None


def container_body(
    table: HostTable, request: ExecutionRequest, options: Options, labels: Mapping[str, str]
) -> dict[str, Any]:
    """The body of the engine's `create` for `request`: locked down, with the host's bounds.

    Args:
        table: what the host allows; `check_policy` has passed.
        request: what to start.
        options: its options, checked.
        labels: by which it is known again.

    Returns:
        A JSON object as the Engine API takes it.
    """
    memory = (options.memory_mb or table.memory_mb) * MEGABYTE
    environment = {
        **request.env,
        "SCRIPTRULES_KEY": request.key,
        "SCRIPTRULES_ATTEMPT": str(request.attempt),
        "SCRIPTRULES_INPUT": INPUT,
        "SCRIPTRULES_OUTPUT": OUTPUT,
    }
    mounts = [
        {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
        for source, target, read_only in map(parse_mount, options.mounts)
    ]
    body: dict[str, Any] = {
        "Image": request.image,
        "Cmd": list(request.args) or None,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": dict(labels),
        "NetworkDisabled": is_without_network(table, options),
        "HostConfig": {
            "NetworkMode": options.network or table.networks[0],
            "Memory": memory,
            "MemorySwap": memory,
            "NanoCpus": int((options.cpus or table.cpus) * 1e9),
            "PidsLimit": table.pids,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Init": True,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": log_bounds(table)},
            "Mounts": mounts,
            "Tmpfs": {path: f"rw,nosuid,nodev,size={size}m" for path, size in options.tmpfs.items()},
        },
    }
    if options.gpus is not None:
        count = -1 if options.gpus == "all" else int(options.gpus)
        body["HostConfig"]["DeviceRequests"] = [{"Driver": "", "Count": count, "Capabilities": [["gpu"]]}]
    if options.entrypoint is not None:
        body["Entrypoint"] = options.entrypoint
    if options.workdir is not None:
        body["WorkingDir"] = options.workdir
    if options.user is not None:
        body["User"] = options.user
    return body
