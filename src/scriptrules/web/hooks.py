"""Signed webhooks over HTTP: what others tell us becomes a task, once for each delivery."""

from __future__ import annotations

import structlog
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import errors, incoming, intake
from scriptrules.clock import SECOND
from scriptrules.incoming import HookConfig
from scriptrules.web import signatures
from scriptrules.web.answers import answer
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import read_body
from scriptrules.web.tasks import OneId

log = structlog.get_logger(__name__)

PREFIX = "/hooks/"


def operations(site: Site) -> list[Operation]:
    """What others may tell us; the signature says that it is them."""
    hooks = _Hooks(site)
    summary = "A signed delivery, which becomes a task."
    return [Operation("POST", f"{PREFIX}{{name}}", hooks.post, summary, answer=OneId, status=202, role="anyone")]


class _Hooks:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor
        config = site.supervisor.config
        self._payload_max, self._depth_max = config.sandbox.payload_max, config.sandbox.depth_max
        self._hooks = {name: (hook, incoming.secret_of(name, hook, config.base)) for name, hook in config.hooks.items()}

    async def post(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._hooks:
            raise errors.NotFound(f"There is no hook {name[:60]!r}. Add [hooks.{name[:60]}] to scriptrules.toml.")
        hook, secret = self._hooks[name]
        if hook.secret_variable:
            secret = await self._secret(name, hook.secret_variable)
        body = await read_body(request, self._payload_max, "payload_max under [sandbox]")
        headers = {key.lower(): value for key, value in request.headers.items()}
        now = self._supervisor.clock() // SECOND
        counters = self._supervisor.counters
        try:
            delivery = signatures.check(hook, secret, headers, body, now)
        except errors.BadSignature as error:
            counters["hook_refused"] += 1
            log.warning("hook.refused", hook=name, problem=error.message)
            raise
        except signatures.BadBody:
            counters["hook_refused"] += 1
            raise errors.BadTask(
                "The body is no JSON. Have the sender use the content type application/json."
            ) from None
        task = intake.check(
            _task_name(name, hook, delivery.event),
            _data(hook, headers, delivery.content),
            f"hooks/{name}/{delivery.id}",
            self._payload_max,
            self._depth_max,
        )
        (ingested,) = await self._supervisor.ingest([task])
        counters["hook_accepted" if ingested.new else "hook_repeated"] += 1
        return answer(OneId(ingested.id), 202)

    async def _secret(self, name: str, variable: str) -> str:
        try:
            return await self._supervisor.variables.secret(variable)
        except errors.SecretsUnavailable as error:
            self._supervisor.counters["hook_refused"] += 1
            log.error("hook.no_secret", hook=name, problem=error.message)
            raise errors.SecretsUnavailable(
                f"The secret of the hook {name} cannot be read. Whoever runs this server finds the reason in its log."
            ) from None


def _task_name(name: str, hook: HookConfig, event: str | None) -> str:
    """The name of the task, with the event at its end where that can be part of one."""
    base = hook.task or f"webhook.{name}"
    full = f"{base}.{event}"
    return full if event and incoming.is_name(full) else base


def _data(hook: HookConfig, headers: dict[str, str], content: object) -> dict[str, object]:
    data = dict(content) if isinstance(content, dict) else {"body": content}
    if hook.headers:
        data["headers"] = {wanted: headers.get(wanted.lower()) for wanted in hook.headers}
    return data
