"""Credentials of registries, as engines want them with what is to be pulled, on a single host and on a swarm."""

from __future__ import annotations

import os
from pathlib import Path

from scriptrules.errors import InvalidRequest
from scriptrules.executors._docker_engine import Engine
from scriptrules.executors._docker_policy import HostTable, Registry
from scriptrules.plugins.executor import ExecutorContext


async def credentials(engine: Engine, table: HostTable, context: ExecutorContext, image: str) -> dict[str, str]:
    """The header with the credentials for the registry of `image`: configured for the host, or of `docker login`.

    Raises:
        InvalidRequest: the password is not where it is said to be.
        SecretsUnavailable: it is a variable that cannot be read.
        HostUnavailable: the engine cannot be reached.
    """
    from docker import auth
    from docker.utils import parse_repository_tag

    registry, _ = auth.resolve_repository_name(parse_repository_tag(image)[0])
    configured = table.registries.get(registry)
    if configured is None:
        header = await engine.request(lambda client: auth.get_config_header(client, registry))
    else:
        if configured.password_variable is not None:
            password = await context.secret(configured.password_variable)
        else:
            password = await engine.in_thread(lambda: _password(configured, registry, context.base_dir))
        known = {"username": configured.username, "password": password, "serveraddress": registry}
        header = auth.encode_header(known)
    return {"X-Registry-Auth": header.decode() if isinstance(header, bytes) else header} if header else {}


def _password(registry: Registry, name: str, base_dir: Path) -> str:
    """The password of a registry, from where it stands now."""
    if registry.password is not None:
        return registry.password
    try:
        if registry.password_file is not None:
            return (base_dir / registry.password_file).read_text().split("\n", 1)[0]
        return os.environ[registry.password_env or ""]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        where = registry.password_file or registry.password_env
        raise InvalidRequest(
            f"the password of registry {name!r} is not in {where!r} ({error!r}). Put it there."
        ) from None
