"""What the installation as a whole is like, over HTTP: rules, counts, health."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import __version__, errors
from scriptrules.diagnostics import Diagnostic
from scriptrules.flow.graph import Graph
from scriptrules.plugins.manager import PluginInfo
from scriptrules.supervisor import shapes
from scriptrules.supervisor.rules import RuleInfo
from scriptrules.web.answers import Page, Problem, answer, refuse
from scriptrules.web.operations import Operation, Site
from scriptrules.web.requests import Moment, read_moment, read_query


class Health(msgspec.Struct):
    status: str
    version: str


class Readiness(msgspec.Struct):
    status: str
    version: str
    rules: int
    workers: int
    worker_restarts: int
    walls: dict[str, str]


class MatrixQuery(msgspec.Struct, frozen=True):
    since: Moment | None = None  # RFC 3339; its whole day counts (UTC)


class RuleQuery(msgspec.Struct, frozen=True):
    rule: str


class RuleText(msgspec.Struct, frozen=True):
    """What the file of a rule says now, and what is wrong with it: lines from 1, columns from 0 in UTF-8 bytes."""

    rule: str
    file: str
    digest: str
    active: bool  # this version is what tasks are matched with
    text: str
    diagnostics: list[Diagnostic]


def operations(site: Site) -> list[Operation]:
    """What concerns no single task."""
    overview = _Overview(site)
    counts = dict[str, dict[str, int]]
    return [
        Operation(
            "GET", "/api/rules", overview.rules, "Rules, with what is wrong with them.", answer=Page, items=RuleInfo
        ),
        Operation(
            "GET",
            "/api/rules/source",
            overview.source,
            "What the file of a rule says now, with what is wrong with it, place by place.",
            answer=RuleText,
            query=RuleQuery,
        ),
        Operation(
            "GET", "/api/plugins", overview.plugins, "Plugins, and what each adds.", answer=Page, items=PluginInfo
        ),
        Operation("GET", "/api/counts", overview.counts, "Tasks and runs by state, and flow control.", answer=counts),
        Operation("GET", "/api/graph", overview.graph, "Which rules can generate which tasks.", answer=Graph),
        Operation(
            "GET",
            "/api/matrix",
            overview.matrix,
            "Which rules have run which, and can.",
            answer=shapes.MatrixShape,
            query=MatrixQuery,
        ),
        Operation("GET", "/healthz", overview.health, "Whether it lives.", answer=Health, role="anyone"),
        Operation("GET", "/readyz", overview.readiness, "Whether it works.", answer=Readiness, role="anyone"),
    ]


class _Overview:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor

    async def rules(self, _: Request) -> Response:
        return answer(Page(self._supervisor.rules.infos()))

    async def source(self, request: Request) -> Response:
        rule = read_query(request, RuleQuery).rule
        found = self._supervisor.rules.reading(rule)
        if found is None:
            raise errors.NotFound(f"There is no readable rule {rule[:60]!r}. List them at /api/rules.")
        source, findings = found
        active = self._supervisor.rules.active.get(rule)
        is_active = active is not None and active.digest == source.digest
        return answer(RuleText(rule, source.file, source.digest, is_active, source.text, findings))

    async def plugins(self, _: Request) -> Response:
        return answer(Page(self._supervisor.plugins.found()))

    async def counts(self, _: Request) -> Response:
        """How many tasks and runs are in each state."""
        supervisor = self._supervisor
        waiting = {"limit_waiting": supervisor.limits.queued()}
        return answer(await supervisor.counts.get() | {"flow": {**supervisor.counters, **waiting}})

    async def graph(self, _: Request) -> Response:
        return answer(await self._supervisor.foresight.graph())

    async def matrix(self, request: Request) -> Response:
        since = read_moment("since", read_query(request, MatrixQuery).since)
        return answer(await self._supervisor.foresight.matrix(since))

    async def health(self, _: Request) -> Response:
        return answer(Health("ok", __version__))

    async def readiness(self, _: Request) -> Response:
        supervisor = self._supervisor
        failing = getattr(supervisor.store, "failing", None)
        if failing or not supervisor.ready or not supervisor.pool.workers:
            why = failing or ("no worker is running" if supervisor.ready else "the server is starting")
            return refuse(Problem("Not ready", 503, f"{why}.", "SR830" if failing else "SR840"))
        if supervisor.drained().draining:
            return refuse(Problem("Draining", 503, errors.Draining().message, errors.Draining.code))
        pool = supervisor.pool
        return answer(
            Readiness("ready", __version__, len(supervisor.rules.active), len(pool.workers), pool.restarts, pool.walls)
        )
