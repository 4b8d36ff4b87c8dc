"""What a Docker host allows, and what a request becomes there: decisions only, nothing here talks to an engine.

What was tried and rejected: matching images after normalising them to `docker.io/library/…` (a pattern then allows
more than what is written); Docker's `Binds` for mounts (it makes a missing source as root; `Mounts` refuses it).
"""

from __future__ import annotations

import hashlib
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
LOG_SIZE = "16m"  # of one file; the engine keeps LOG_FILES of them for a container
LOG_FILES = "2"

LABEL_STORE = "scriptrules.store"
LABEL_KEY = "scriptrules.key"
LABEL_RUN = "scriptrules.run"
LABEL_SEQ = "scriptrules.seq"
LABEL_ATTEMPT = "scriptrules.attempt"
LABEL_SPEC = "scriptrules.spec"
LABEL_OWNER = "scriptrules.owner"
LABEL_KEEP = "scriptrules.keep"

OPTIONS: dict[str, type] = {
    "cpus": float,
    "memory_mb": int,
    "network": str,
    "mounts": list,
    "workdir": str,
    "user": str,
    "entrypoint": list,
    "tmpfs": dict,
    "labels": dict,
    "keep": bool,
}


class HostTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table [hosts.NAME] of a Docker host."""

    url: str = "unix:///var/run/docker.sock"
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    images: list[str] = []  # patterns; `**` is anything, `*` anything without a slash
    mounts: list[str] = []  # folders of the host that rules may mount, with all below; `/path:ro` only for reading
    network: str | list[str] = "none"  # the first is the default, the others may be asked for
    memory_mb: int = 512  # what a container gets, and the most that it may ask for
    cpus: float = 1.0
    pids: int = 256
    max_running: int = 0  # containers at once; 0 is no limit
    keep_for: float = 0.0  # seconds that an ended container is kept after its end
    pull: str = "missing"  # "missing" | "never" | "always"

    @property
    def networks(self) -> list[str]:
        return [self.network] if isinstance(self.network, str) else self.network


class Options(msgspec.Struct, frozen=True):
    """The options of a request, checked."""

    cpus: float | None = None
    memory_mb: int | None = None
    network: str | None = None
    mounts: list[str] = []
    workdir: str | None = None
    user: str | None = None
    entrypoint: list[str] | None = None
    tmpfs: dict[str, int] = {}  # path: megabytes
    labels: dict[str, str] = {}
    keep: bool = False


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
    if not made.networks:
        raise ConfigError(f'{where}: network is empty. Write network = "none" where containers get none.')
    for bound, least in (("memory_mb", 6), ("cpus", 0.01), ("pids", 1), ("max_running", 0), ("keep_for", 0)):
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
    for name in ("cpus", "memory_mb"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise InvalidRequest(f"{name}={value} is not above zero. Leave it out for the host's default.")
    for path, megabytes in options.tmpfs.items():
        if not path.startswith("/") or megabytes <= 0 or set(path) & set(",:"):
            raise InvalidRequest(f"tmpfs={{{path!r}: {megabytes}}} is not {{absolute path: megabytes}}. Correct it.")
    for label in options.labels:
        if label.startswith("scriptrules."):
            raise InvalidRequest(f"label {label!r} belongs to scriptrules. Choose one with another beginning.")
    if options.workdir is not None and not options.workdir.startswith("/"):
        raise InvalidRequest(f"workdir={options.workdir!r} is not absolute. Write the whole path in the container.")
    return options


def check_policy(table: HostTable, request: ExecutionRequest, options: Options) -> None:
    """Raise PolicyRefused, with what would have to be configured, where the host does not allow `request`."""
    where = f"[hosts.{request.host}]"
    if not any(image_matches(pattern, request.image) for pattern in table.images):
        allowed = ", ".join(table.images) or "none"
        raise PolicyRefused(
            f"host {request.host!r} does not allow the image {request.image!r} (allowed: {allowed}). "
            f'Add it under {where} in scriptrules.toml: images = ["{request.image}"].'
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
        if not any(_mount_allowed(allowed, source, read_only) for allowed in table.mounts):
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


def spec_digest(request: ExecutionRequest) -> str:
    """What was asked for, as a digest: tells a container of another request under the same name."""
    parts = [request.image, request.args, request.env, request.options, request.input]
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


def labels_of(request: ExecutionRequest, options: Options, store_id: str, owner: str) -> dict[str, str]:
    """The labels by which a container is found and known again."""
    return {
        **options.labels,
        LABEL_STORE: store_id,
        LABEL_KEY: request.key,
        LABEL_RUN: request.run,
        LABEL_SEQ: str(request.seq),
        LABEL_ATTEMPT: str(request.attempt),
        LABEL_SPEC: spec_digest(request),
        LABEL_OWNER: owner,
        LABEL_KEEP: "1" if options.keep else "0",
    }


def container_body(
    table: HostTable, request: ExecutionRequest, options: Options, labels: Mapping[str, str]
) -> dict[str, Any]:
    """The body of the engine's `create` for `request`: locked down, with the host's bounds.

    Args:
        table: what the host allows; `check_policy` has passed.
        request: what to start.
        options: its options, checked.
        labels: from `labels_of`.

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
            "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_SIZE, "max-file": LOG_FILES}},
            "Mounts": mounts,
            "Tmpfs": {path: f"rw,nosuid,nodev,size={size}m" for path, size in options.tmpfs.items()},
        },
    }
    if options.entrypoint is not None:
        body["Entrypoint"] = options.entrypoint
    if options.workdir is not None:
        body["WorkingDir"] = options.workdir
    if options.user is not None:
        body["User"] = options.user
    return body
