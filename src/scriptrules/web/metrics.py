"""What Prometheus asks for: counted as it happens, found by an index, or counted as sparingly as `sparing` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import Response

from scriptrules import __version__
from scriptrules.clock import SECOND
from scriptrules.web.operations import Operation, Site

PREFIX = "scriptrules"
Counts = dict[tuple[str, ...], int]  # by the values of labels


def operations(site: Site) -> list[Operation]:
    """What is measured."""
    metrics = _Metrics(site)
    media = CONTENT_TYPE_LATEST
    return [Operation("GET", "/metrics", metrics.get, "What is measured, for Prometheus.", media=media)]


class _Metrics:
    def __init__(self, site: Site) -> None:
        self._supervisor = site.supervisor
        self._requests = site.requests

    async def get(self, _: Request) -> Response:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected([*await self._kept(), *self._counted()]))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def _kept(self) -> Iterable[Metric]:
        """What the store has."""
        supervisor, store = self._supervisor, self._supervisor.store
        counts = await supervisor.counts.get()
        outstanding = await supervisor.outstanding.get()
        oldest = [("task", one.created) for one in await store.new_tasks("", 1)]
        oldest += [("run", one.created) for one in await store.unfinished_runs("", 1)]
        ages = {"task": 0.0, "run": 0.0} | {kind: (supervisor.clock() - at) / SECOND for kind, at in oldest}
        return [
            _gauge("tasks", "Tasks in each state.", ["state"], {(s,): n for s, n in counts["tasks"].items()}),
            _gauge("runs", "Runs in each state.", ["state"], {(s,): n for s, n in counts["runs"].items()}),
            _gauge("outstanding", "What runs wait for.", ["kind"], {(kind,): n for kind, n in outstanding.items()}),
            _gauge(
                "queue_age_seconds", "Age of the oldest new task, and of the oldest run that is to be executed.",
                ["kind"], {(kind,): age for kind, age in ages.items()},
            ),
        ]  # fmt: skip

    def _counted(self) -> Iterator[Metric]:
        """What has been counted since the start."""
        supervisor = self._supervisor
        moves: dict[str, Counter[tuple[str, ...]]] = {"task": Counter(), "run": Counter()}
        for name, number in dict(supervisor.store.seen).items():
            kind, _, state = name.partition(".")
            if kind in moves:
                moves[kind][state,] += number
        calls: Counts = {(state,): number for state, number in supervisor.driver.calls.items()}
        ended = supervisor.executions.verdicts if supervisor.executions is not None else {}
        unpredicted = supervisor.foresight.unpredicted
        flow: Counts = {(event,): number for event, number in supervisor.counters.items()}
        yield _counter("task_transitions", "Transitions of tasks.", ["state"], moves["task"])
        yield _counter("run_transitions", "Transitions of runs, and writes of their journals.", ["state"], moves["run"])
        yield _counter("calls", "Calls that were answered.", ["state"], calls)
        yield _counter("executions", "Executions that have ended.", ["host", "verdict"], ended)
        yield _counter("worker_restarts", "Workers that had to be replaced.", [], {(): supervisor.pool.restarts})
        yield _counter("unpredicted_edges", "Edges that no analysis foresaw.", [], {(): unpredicted})
        yield _counter("http_requests", "Requests.", ["method", "status"], self._requests)
        yield _counter("flow", "Flow control, schedules, hooks and sources.", ["event"], flow)
        yield _gauge("followers", "Clients that follow events.", [], {(): supervisor.feed.followers})
        yield _gauge("workers", "Workers.", [], {(): len(supervisor.pool.workers)})
        yield _gauge("rules", "Active rules.", [], {(): len(supervisor.rules.active)})
        yield _gauge("build_info", "The version.", ["version"], {(__version__,): 1})
        latency = supervisor.store.commit_seconds
        buckets = [("+Inf" if bound == float("inf") else str(bound), float(n)) for bound, n in latency.cumulated()]
        yield HistogramMetricFamily(
            f"{PREFIX}_commit_seconds", "Time of a commit.", buckets=buckets, sum_value=latency.sum
        )


class _Collected:
    """Metrics as a collector gives them."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _gauge(name: str, text: str, labels: list[str], values: dict[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for place, value in sorted(values.items()):
        family.add_metric(place, value)
    return family


def _counter(name: str, text: str, labels: list[str], values: dict[tuple[str, ...], int]) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for place, value in sorted(values.items()):
        family.add_metric(place, value)
    return family
