"""What a swarm allows, and what a request becomes there: decisions only, nothing here talks to an engine.

A swarm's table and the options of its requests are those of a Docker host where both have them, so that a rule can
move from one to the other; what a swarm cannot do is refused, never left out silently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from scriptrules.errors import ConfigError, InvalidRequest, PolicyRefused, nearest
from scriptrules.executors import _docker_policy as docker_policy
from scriptrules.executors._docker_policy import HostTable, Options
from scriptrules.executors._output import check_options
from scriptrules.model import ExecutionRequest

NODE_DEFAULT = "default"  # the name under which [hosts.NAME] and rules ask for what each node gives by itself
FILE_MAX = 500 * 1000  # bytes of one configuration or secret that a swarm keeps
LABEL_STOPPED = "scriptrules.stopped"  # on a service that was told to end: why

_LEFT_OUT = {  # keys of a Docker host's table
    "pull": "each node pulls by itself what it does not have",
    "logs_for": "logs go with their service; write keep_for",
}
_REFUSED = {"restartable": "a swarm starts a job once; write retries=1 of run()"}  # options of a Docker host
OPTIONS: dict[str, Any] = {
    **{name: kind for name, kind in docker_policy.OPTIONS.items() if name not in _REFUSED},
    "constraints": list,
}


class SwarmTable(msgspec.Struct, frozen=True):
    """The table [hosts.NAME] of a swarm."""

    host: HostTable  # what a swarm has in common with a Docker host; `url` is that of a manager
    constraints: list[str] = []  # where nothing else may run: "node.labels.jobs==yes"
    any_constraint: bool = False  # whether rules may add constraints of their own
    gpu_resource: str | None = None  # what nodes offer their GPUs as: `node-generic-resources` of their engines


class SwarmOptions(msgspec.Struct, frozen=True):
    """The options of a request, checked."""

    common: Options
    constraints: list[str] = []


def read_table(table: Mapping[str, Any], host: str) -> SwarmTable:
    """Check the table of a swarm.

    Args:
        table: as it stands in scriptrules.toml, without `executor`.
        host: its name, for messages.

    Raises:
        ConfigError: an unknown key (naming the nearest), or a value that cannot be used.
    """
    where = f"[hosts.{host}]"
    own = SwarmTable.__struct_fields__[1:]
    known = [*own, *(name for name in HostTable.__struct_fields__ if name not in _LEFT_OUT)]
    for key in table:
        if key in _LEFT_OUT:
            raise ConfigError(f"{where}: a swarm has no {key}: {_LEFT_OUT[key]}. Remove it.")
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, known)} Known: {', '.join(sorted(known))}.")
    common = docker_policy.read_table({key: value for key, value in table.items() if key not in own}, host)
    if "network" not in table or "none" in common.networks:
        raise ConfigError(
            f"{where}: a swarm gives every container a network. Say which: the name of a swarm network, best one made "
            f'with --internal, or network = "{NODE_DEFAULT}" for what each node gives by itself.'
        )
    if "host" in common.networks:
        raise ConfigError(f"{where}: rules get no host network. Name another one under network.")
    try:
        read = msgspec.convert({"host": {}, **{key: table[key] for key in own if key in table}}, SwarmTable)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}. Correct it and start again.") from None
    return msgspec.structs.replace(read, host=common)


def read_options(request: ExecutionRequest) -> SwarmOptions:
    """The options of `request`; InvalidRequest for an unknown one (naming the nearest) or a wrong value."""
    for name, why in _REFUSED.items():
        if name in request.options:
            raise InvalidRequest(f"option {name!r} of run(): {why}. Leave it out.")
    check_options(request.options, OPTIONS)
    constraints = request.options.get("constraints", [])
    if not all(isinstance(each, str) and ("==" in each or "!=" in each) for each in constraints):
        raise InvalidRequest(
            f'constraints={constraints!r} is not a list such as ["node.labels.disk==ssd"]. Correct it.'
        )
    common = docker_policy.read_options(_without_own(request))
    if common.platform is not None and re.fullmatch(r"[a-z0-9]+/[a-z0-9_]+", common.platform) is None:
        raise InvalidRequest(
            f'platform={common.platform!r} is not the platform of a node, such as "linux/arm64". Correct it, or use '
            f"constraints."
        )
    if common.gpus == "all":
        raise InvalidRequest('gpus="all": a swarm keeps a number of GPUs free for a job. Write how many.')
    return SwarmOptions(common, constraints)


def _without_own(request: ExecutionRequest) -> ExecutionRequest:
    """The request as a Docker host could be asked it."""
    common = {name: value for name, value in request.options.items() if name in docker_policy.OPTIONS}
    return msgspec.structs.replace(request, options=common)


def check_policy(table: SwarmTable, request: ExecutionRequest, options: SwarmOptions) -> None:
    """Raise PolicyRefused or InvalidRequest, with what would have to be changed, where `request` cannot run there."""
    network = options.common.network
    if network == "none":
        raise InvalidRequest(
            f"a swarm cannot leave a container without a network. Name one of {', '.join(table.host.networks)}."
        )
    docker_policy.check_policy(table.host, _without_own(request), options.common)
    if options.constraints and not table.any_constraint:
        raise PolicyRefused(
            f"host {request.host!r} does not let rules choose nodes. Allow it under [hosts.{request.host}] in "
            f"scriptrules.toml: any_constraint = true; or leave out constraints."
        )
    if options.common.gpus is not None and table.gpu_resource is None:
        raise PolicyRefused(
            f"host {request.host!r} does not know what its nodes offer GPUs as. Say it under [hosts.{request.host}] in "
            f'scriptrules.toml: gpu_resource = "gpu", as node-generic-resources of their engines does.'
        )
    for path, content in request.secret_files.items():
        if not content or len(content.encode()) > FILE_MAX:
            raise InvalidRequest(f"secret_files: {path!r} has to have 1 to {FILE_MAX} bytes on a swarm. Split it.")
    if len(request.input) > FILE_MAX:
        raise InvalidRequest(
            f"the task's data has {len(request.input)} bytes; a swarm hands over {FILE_MAX} at most. "
            f"Put the bulk somewhere else and send a reference to it."
        )


class Attached(msgspec.Struct, frozen=True):
    """A file that the swarm hands to a container: its id and name there, and its path in the container."""

    id: str
    name: str
    path: str


def task_template(
    table: SwarmTable,
    request: ExecutionRequest,
    options: SwarmOptions,
    labels: Mapping[str, str],
    input_file: Attached,
    secrets: list[Attached],
) -> dict[str, Any]:
    """The TaskTemplate of the service for `request`: locked down, with the host's bounds, never restarted.

    Args:
        table: what the host allows; `check_policy` has passed.
        request: what to start.
        options: its options, checked.
        labels: of the container.
        input_file: the configuration with the task's data.
        secrets: those of `secret_files`.

    Returns:
        A JSON object as the Engine API takes it.
    """
    common = options.common
    environment = {
        **request.env,
        "SCRIPTRULES_KEY": request.key,
        "SCRIPTRULES_ATTEMPT": str(request.attempt),
        "SCRIPTRULES_INPUT": input_file.path,
    }
    mounts: list[dict[str, Any]] = [
        {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
        for source, target, read_only in map(docker_policy.parse_mount, common.mounts)
    ]
    for path, megabytes in common.tmpfs.items():
        size = {"SizeBytes": megabytes * docker_policy.MEGABYTE}
        mounts.append({"Type": "tmpfs", "Target": path, "TmpfsOptions": size})
    container: dict[str, Any] = {
        "Image": request.image,
        "Args": list(request.args),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": dict(labels),
        "Init": True,
        "Mounts": mounts,
        "StopGracePeriod": int(table.host.grace * 1e9),
        "CapabilityDrop": ["ALL"],
        "Privileges": {"NoNewPrivileges": True},  # engines before 25 do not know it, and ignore it
        "Configs": [{"File": _file(input_file.path, 0o444), "ConfigID": input_file.id, "ConfigName": input_file.name}],
        "Secrets": [
            {"File": _file(each.path, 0o444), "SecretID": each.id, "SecretName": each.name} for each in secrets
        ],
    }
    for name, value in (("Command", common.entrypoint), ("Dir", common.workdir), ("User", common.user)):
        if value is not None:
            container[name] = value
    # What a rule asks for is kept free for it on a node; a mere default is only the bound.
    reserved: dict[str, Any] = {
        "NanoCPUs": int((common.cpus or 0) * 1e9),
        "MemoryBytes": (common.memory_mb or 0) * docker_policy.MEGABYTE,
    }
    if common.gpus is not None:
        gpus = {"Kind": table.gpu_resource, "Value": int(common.gpus)}
        reserved["GenericResources"] = [{"DiscreteResourceSpec": gpus}]
    placement: dict[str, Any] = {"Constraints": [*table.constraints, *options.constraints]}
    if common.platform is not None:
        system, _, processor = common.platform.partition("/")
        placement["Platforms"] = [{"OS": system, "Architecture": processor}]
    network = common.network or table.host.networks[0]
    return {
        "ContainerSpec": container,
        "Resources": {
            "Limits": {
                "NanoCPUs": int((common.cpus or table.host.cpus) * 1e9),
                "MemoryBytes": (common.memory_mb or table.host.memory_mb) * docker_policy.MEGABYTE,
                "Pids": table.host.pids,
            },
            "Reservations": reserved,
        },
        "RestartPolicy": {"Condition": "none", "MaxAttempts": 0},
        "Placement": placement,
        "Networks": [] if network == NODE_DEFAULT else [{"Target": network}],
        "LogDriver": {"Name": "json-file", "Options": docker_policy.log_bounds(table.host)},
    }


def _file(path: str, mode: int) -> dict[str, Any]:
    return {"Name": path, "UID": "0", "GID": "0", "Mode": mode}
