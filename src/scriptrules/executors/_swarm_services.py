"""The services of one store on one swarm, by the keys of their executions: made, found, ended, removed.

A service's name is unique in the whole swarm, so creating it twice cannot start it twice.

What was tried and rejected: ending a job by removing its service (engines of version 20 leave its task running, and
nobody is told what became of it; a job of zero completions has its tasks ended in order, and stays as a record of
why); marking a released service with a label (every update of a job, even of a label, runs it again).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Set
from typing import Any

from scriptrules.errors import InvalidRequest
from scriptrules.executors import _docker_marks as marks
from scriptrules.executors import _docker_policy as docker_policy
from scriptrules.executors import _swarm_policy as policy
from scriptrules.executors._docker_engine import Engine, EngineError
from scriptrules.executors._docker_registries import credentials
from scriptrules.executors._docker_result import LogFrame
from scriptrules.executors._swarm_tasks import ENDED, Nodes, nodes_of
from scriptrules.model import ExecutionRequest
from scriptrules.plugins.executor import ExecutorContext, Placed

_ONE_COMPLETION = {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}
_NO_COMPLETION = {"ReplicatedJob": {"MaxConcurrent": 0, "TotalCompletions": 0}}
_NO_QUORUM = ("code = Unavailable", "code = DeadlineExceeded", "leader", "context deadline exceeded")


class Services(marks.Marks):
    """What one supervisor does with services, each under the name that its execution's key gives it."""

    def __init__(self, engine: Engine, table: policy.SwarmTable, context: ExecutorContext) -> None:
        super().__init__("service", lambda found: found["Spec"].get("Labels"), context)
        self._engine = engine
        self._table = table
        self._creates: dict[str, int] = {}  # by key: requests to create that have, or may have, taken effect

    async def create(self, request: ExecutionRequest) -> str | None:
        """The id of a new service; None where its name is taken.

        Raises:
            InvalidRequest: the swarm refuses it, or the password of its registry is not where it is said to be.
            HostUnavailable: the manager cannot be reached; the service may exist or not.
        """
        options = policy.read_options(request)
        labels = self.labels_of(request, options.common)
        name = self.name_of(request.key)
        login = await credentials(self._engine, self._table.host, self._context, request.image)
        try:
            given = await self._attach("config", f"{name}-input", labels, request.input, docker_policy.INPUT)
            secrets = [
                await self._attach("secret", f"{name}-secret-{number}", labels, content.encode(), path)
                for number, (path, content) in enumerate(request.secret_files.items())
            ]
            template = policy.task_template(self._table, request, options, labels, given, secrets)
            return await self._create(request.key, name, labels, template, login)
        except EngineError as error:
            if error.status == 409:
                return None
            if _undecided(error):
                raise self._engine.unavailable(error.message) from None
            await self._remove_files(request.key)
            raise InvalidRequest(f"the swarm refused: {error.message}. Correct run()'s arguments.") from None

    async def _create(
        self, key: str, name: str, labels: Mapping[str, str], template: Mapping[str, Any], login: Mapping[str, str]
    ) -> str:
        # Counted before it is sent: an answer that is lost may be of a service that was created.
        self._creates[key] = self._creates.get(key, 0) + 1
        service = {"Name": name, "Labels": labels, "TaskTemplate": template, "Mode": _ONE_COMPLETION}
        try:
            return str((await self._engine.make("/services/create", service, login))["ID"])
        except EngineError as error:
            if not _undecided(error):
                self._creates[key] -= 1
            raise

    def created_once(self, key: str) -> bool:
        """Whether this object has created the service of `key`, and cannot have created a second one."""
        return self._creates.get(key) == 1

    def forget(self, key: str) -> None:
        self._creates.pop(key, None)

    async def find(self, key: str) -> dict[str, Any] | None:
        """What the swarm says of the service under the name of `key`, whosever it is; None where there is none."""
        name = self.name_of(key)
        try:
            found: dict[str, Any] = await self._engine.request(lambda client: client.inspect_service(name))
        except EngineError as error:
            if error.status == 404:
                return None
            raise self._engine.unavailable(error.message) from None
        return found

    async def tasks(self) -> dict[str, list[dict[str, Any]]]:
        """Every task of this store, by the id of its service."""
        listed = await self._engine.request(lambda client: client.tasks(filters=self.filters))
        by_service: dict[str, list[dict[str, Any]]] = {}
        for task in listed:
            by_service.setdefault(task["ServiceID"], []).append(task)
        return by_service

    async def inventory(self, released: Set[str]) -> list[Placed]:
        """The services that any store has made on this swarm; the `released` keys are only kept for a while."""
        filters = {"label": marks.LABEL_STORE}
        services = await self._engine.request(lambda client: client.services(filters=filters))
        tasks = await self._engine.request(lambda client: client.tasks(filters=filters))
        running = {task["ServiceID"] for task in tasks if task["Status"]["State"] not in ENDED}
        return [_placed(service, running, released) for service in services]

    async def nodes(self) -> Nodes:
        return nodes_of(await self._engine.request(lambda client: client.nodes()))

    def logs(self, key: str, follow: bool) -> AsyncGenerator[LogFrame, None]:
        """What the service of `key` has written, frame by frame."""
        return self._engine.logs(self.name_of(key), follow, of="services")

    async def halt(self, key: str, reason: str) -> bool:
        """Have the tasks of `key` ended in order; False where there is no such service any more."""
        found = await self.find(key)
        if found is None or not self.is_ours(found, key):
            return False
        spec = found["Spec"]
        if policy.LABEL_STOPPED in spec["Labels"]:
            return True
        labels = {**spec["Labels"], policy.LABEL_STOPPED: reason}
        version, template = found["Version"]["Index"], spec["TaskTemplate"]

        def update(client: Any) -> Any:
            name = spec["Name"]
            client.update_service(found["ID"], version, template, name=name, labels=labels, mode=_NO_COMPLETION)

        await self._engine.request(update)
        return True

    async def remove(self, key: str) -> None:
        """Remove the service of `key` with its files; nothing where it is not ours, or is to be kept."""
        found = await self.find(key)
        if found is not None and self.is_ours(found, key):
            if found["Spec"]["Labels"].get(marks.LABEL_KEEP) == "1":
                return
            await self._gone(lambda client: client.remove_service(found["ID"]))
        await self._remove_files(key)

    async def _attach(
        self, kind: str, name: str, labels: Mapping[str, str], content: bytes, path: str
    ) -> policy.Attached:
        """A file that the swarm keeps for a service: made, or found again."""
        key = labels[marks.LABEL_KEY]
        try:
            made = await self._engine.request(
                lambda client: getattr(client, f"create_{kind}")(name, content, labels=dict(labels))
            )
            return policy.Attached(made["ID"], name, path)
        except EngineError as error:
            if error.status != 409:
                raise
        for found in await self._files(kind, key):
            if found["Spec"]["Name"] == name:
                return policy.Attached(found["ID"], name, path)
        raise InvalidRequest(
            f"the name {name!r} is taken on host {self._context.host!r} by a {kind} that is not ours. Remove it."
        )

    async def _files(self, kind: str, key: str) -> list[dict[str, Any]]:
        filters = {"label": [self.filters["label"], f"{marks.LABEL_KEY}={key}"]}
        found: list[dict[str, Any]] = await self._engine.request(
            lambda client: getattr(client, f"{kind}s")(filters=filters)
        )
        return found

    async def _remove_files(self, key: str) -> None:
        for kind in ("config", "secret"):
            for file in await self._files(kind, key):
                await self._gone(lambda client: getattr(client, f"remove_{kind}")(file["ID"]))  # noqa: B023

    async def _gone(self, remove: Callable[[Any], Any]) -> None:
        try:
            await self._engine.request(remove)
        except EngineError as error:
            if error.status != 404:
                raise


def _placed(service: Mapping[str, Any], running: set[str], released: Set[str]) -> Placed:
    labels, name = service["Spec"]["Labels"], service["Spec"]["Name"]
    key = labels.get(marks.LABEL_KEY, "")
    runs = service["ID"] in running
    kept = not runs and (labels.get(marks.LABEL_KEEP) == "1" or key in released)
    return Placed(key, labels[marks.LABEL_STORE], name, True, runs, kept)


def _undecided(error: EngineError) -> bool:
    """Whether the managers could not agree, so that what was asked may still come about; else it was refused."""
    return error.status >= 500 and any(sign in error.message for sign in _NO_QUORUM)
