"""Faults around a Docker engine: whatever happens, a program is started once, or the verdict does not say so.

The program's own record, a line in a file of the host for each start, is the judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

import faults
from dockersite import Site, next_result, request, until, with_executor
from engine import IMAGE, PrivateEngine
from faults import Fault, Proxy
from scriptrules import clock
from scriptrules.errors import HostUnavailable, InvalidRequest
from scriptrules.executors import _docker_watch
from scriptrules.executors import docker as docker_executor
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
from scriptrules.plugins.executor import Executor, ExecutorContext

pytestmark = pytest.mark.docker

CREATE, START, ARCHIVE = "POST /containers/create", "POST /containers/[^/]+/start", "PUT /containers/[^/]+/archive"
INSPECT, LOGS, OUTPUT = "GET /containers/[^/]+/json", "GET /containers/[^/]+/logs", "GET /containers/[^/]+/archive"
EVENTS, REMOVE = "GET /events", "DELETE /containers/[^/]+"


class FaultySite(Site):
    """A store on an engine behind a proxy, with a program that records its starts."""

    def __init__(self, engine: PrivateEngine, folder: Path) -> None:
        super().__init__(engine, folder)
        self.proxy = Proxy(engine.url.removeprefix("unix://"))
        self.record = folder / "record"
        self.record.touch(mode=0o666)
        self.record.chmod(0o666)
        self.clock: clock.Clock = clock.now

    def executor(self, **table: Any) -> Executor:
        context = ExecutorContext("locust", self.store_id, self.folder / "state", self.folder, self.clock)
        given = {"url": self.proxy.url, "images": [IMAGE], "mounts": [str(self.folder)], **table}
        return docker_executor.make(given, context)

    def asked(self, script: str = "echo 7", **fields: Any) -> ExecutionRequest:
        options = {"mounts": [f"{self.record}:/record:rw"], **fields.pop("options", {})}
        return request(f"echo start >> /record; {script}", options=options, **fields)

    @property
    def starts(self) -> int:
        return len(self.record.read_text().splitlines())

    def judge(self, kind: str, result: ExecutionResult, starts: int = 1, programs: int = 1) -> None:
        """The verdict may say `once` only where the record does; `starts` is what can be guaranteed."""
        faults.CASES[kind] += 1
        assert self.starts <= starts
        if self.starts > programs:
            assert result.verdict in (Verdict.POSSIBLY_TWICE, Verdict.UNKNOWN)


@pytest.fixture
def faulty(engine: PrivateEngine, elsewhere: None, tmp_path: Path) -> Iterator[FaultySite]:
    made = FaultySite(engine, tmp_path)
    yield made
    made.proxy.close()
    with engine.client() as client:
        for name in made.names():
            with contextlib.suppress(docker.errors.APIError):  # it is just being removed
                client.remove_container(name, force=True)


async def insist(executor: Executor, asked: ExecutionRequest, may_create: bool = True) -> None:
    """Ensure as a supervisor does: again and again where the host is out of reach."""
    async with asyncio.timeout(60):
        while True:
            try:
                await executor.ensure(asked, may_create)
                return
            except HostUnavailable:
                await asyncio.sleep(0.1)


def run_it(site: FaultySite, asked: ExecutionRequest, may_create: bool = True, **table: Any) -> ExecutionResult:
    async def work(executor: Executor) -> ExecutionResult:
        await insist(executor, asked, may_create)
        return (await next_result(executor))[1]

    return with_executor(site, work, **table)


# ---- lost requests and answers


@pytest.mark.parametrize(
    ("lost", "verdict"),
    [
        (CREATE, Verdict.ONCE),
        (ARCHIVE, Verdict.ONCE),
        (START, Verdict.ONCE),
        (INSPECT, Verdict.ONCE),
        (LOGS, Verdict.ONCE),
        (OUTPUT, Verdict.ONCE),
        ("GET /version", Verdict.ONCE),
        ("GET /info", Verdict.ONCE),
    ],
)
def test_a_lost_answer_starts_nothing_twice(faulty: FaultySite, lost: str, verdict: Verdict) -> None:
    fault = faulty.proxy.add(Fault(lost))
    result = run_it(faulty, faulty.asked("sleep 0.3; echo 7"))
    assert fault.done.is_set()
    faulty.judge("lost answer", result)
    assert (result.status, result.output, result.verdict, faulty.starts) == ("done", 7, verdict, 1)


@pytest.mark.parametrize(("lost", "verdict"), [(CREATE, Verdict.ONCE), (START, Verdict.POSSIBLY_TWICE)])
def test_a_lost_request_is_made_again(faulty: FaultySite, lost: str, verdict: Verdict) -> None:
    faulty.proxy.add(Fault(lost, when="before"))
    result = run_it(faulty, faulty.asked())
    faulty.judge("lost request", result)
    assert (result.output, result.verdict, faulty.starts) == (7, verdict, 1)


def test_answers_that_are_lost_again_and_again_start_nothing_twice(faulty: FaultySite) -> None:
    for lost in (CREATE, START, LOGS):
        faulty.proxy.add(Fault(lost, times=3))
    result = run_it(faulty, faulty.asked("sleep 0.3; echo 7"))
    faulty.judge("lost answer", result)
    assert (result.output, result.verdict, faulty.starts) == (7, Verdict.ONCE, 1)


def test_the_end_is_found_where_every_event_is_lost(faulty: FaultySite) -> None:
    events = faulty.proxy.add(Fault(EVENTS, times=2))
    result = run_it(faulty, faulty.asked("sleep 0.5; echo 7"))
    assert events.done.is_set()
    faulty.judge("lost answer", result)
    assert (result.output, faulty.starts) == (7, 1)


def test_a_stop_whose_answer_is_lost_ends_it(faulty: FaultySite) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = faulty.asked("trap 'exit 3' TERM; while true; do sleep 0.05; done")
        await executor.ensure(asked, may_create=True)
        await until(lambda: faulty.starts == 1)
        faulty.proxy.add(Fault("POST /containers/[^/]+/kill"))
        faulty.proxy.add(Fault(EVENTS))
        await executor.stop(asked.key)
        return (await next_result(executor))[1]

    result = with_executor(faulty, work)
    faulty.judge("lost answer", result)
    assert result.reason == "stopped"


def test_a_release_whose_answer_is_lost_leaves_nothing(faulty: FaultySite) -> None:
    faulty.proxy.add(Fault(REMOVE))

    async def work(executor: Executor) -> None:
        asked = faulty.asked()
        await executor.ensure(asked, may_create=True)
        key, result = await next_result(executor)
        await executor.release(key)
        await until(lambda: faulty.names() == [])
        faulty.judge("lost answer", result)

    with_executor(faulty, work)


# ---- containers of others, and what others do to ours


def test_a_foreign_container_that_takes_the_name_at_the_last_moment_is_left_alone(faulty: FaultySite) -> None:
    asked = faulty.asked()
    made: list[str] = []

    def take_name() -> None:
        with faulty.engine.client() as client:
            foreign = client.create_container(IMAGE, ["true"], name=faulty.name(asked.key))
            made.append(foreign["Id"])

    faulty.proxy.add(Fault(CREATE, when="before", act=take_name, lose=False))
    with pytest.raises(InvalidRequest, match=r"is taken on host 'locust' by a container that is not ours"):
        run_it(faulty, asked)
    faults.CASES["foreign container"] += 1
    with faulty.engine.client() as client:
        assert client.inspect_container(made[0])["State"]["Status"] == "created"
        client.remove_container(made[0])
    assert faulty.starts == 0


def removal(site: FaultySite, key: str) -> Callable[[], None]:
    def remove() -> None:
        with site.engine.client() as client:
            client.remove_container(site.name(key), force=True)

    return remove


@pytest.mark.parametrize("request_", [ARCHIVE, START], ids=["before its input", "before its start"])
def test_a_container_removed_before_its_start_is_made_again(faulty: FaultySite, request_: str) -> None:
    asked = faulty.asked()
    faulty.proxy.add(Fault(request_, when="before", act=removal(faulty, asked.key), lose=False))
    result = run_it(faulty, asked)
    faulty.judge("removed container", result)
    assert (result.output, result.verdict, faulty.starts) == (7, Verdict.ONCE, 1)


def test_a_container_removed_after_a_start_whose_answer_is_lost_is_never_once(faulty: FaultySite) -> None:
    asked = faulty.asked("sleep 0.2; echo 7")

    def when_it_has_begun() -> None:
        while not faulty.starts:
            time.sleep(0.01)
        removal(faulty, asked.key)()

    faulty.proxy.add(Fault(START, act=when_it_has_begun))
    result = run_it(faulty, asked)
    faulty.judge("removed container", result, starts=2)
    assert (result.output, result.verdict, faulty.starts) == (7, Verdict.POSSIBLY_TWICE, 2)


def test_what_an_earlier_supervisor_started_and_somebody_removed_is_never_once(faulty: FaultySite) -> None:
    asked = faulty.asked()
    run_it(faulty, asked)
    removal(faulty, asked.key)()
    again = ExecutionRequest(**{name: getattr(asked, name) for name in asked.__struct_fields__} | {"fresh": False})
    result = run_it(faulty, again)
    faulty.judge("removed container", result, starts=2)
    assert (faulty.starts, result.verdict) == (2, Verdict.POSSIBLY_TWICE)


def test_a_container_removed_while_it_runs_ends_the_execution(faulty: FaultySite) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = faulty.asked("sleep 60")
        await executor.ensure(asked, may_create=True)
        await until(lambda: faulty.starts == 1)
        await asyncio.to_thread(removal(faulty, asked.key))
        return (await next_result(executor))[1]

    result = with_executor(faulty, work)
    faulty.judge("removed container", result)
    assert (result.status, faulty.starts) == ("failed", 1)


def test_a_restartable_one_is_started_again_where_it_was_removed_and_says_so(faulty: FaultySite) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = faulty.asked('[ "$(cat /record | tail -n +2)" ] && echo 7 || sleep 60', options={"restartable": True})
        await executor.ensure(asked, may_create=True)
        await until(lambda: faulty.starts == 1)
        await asyncio.to_thread(removal(faulty, asked.key))
        return (await next_result(executor))[1]

    result = with_executor(faulty, work)
    faulty.judge("removed container", result, starts=2)
    assert (result.output, result.verdict, faulty.starts) == (7, Verdict.POSSIBLY_TWICE, 2)


# ---- the engine dies


class EngineCase:
    """An engine of a test's own that may be killed."""

    def __init__(self, live_restore: bool, folder: Path) -> None:
        self.engine = PrivateEngine(live_restore=live_restore)
        self.engine.start()
        self.engine.load_image()
        self.folder = folder

    def site(self) -> FaultySite:
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        return FaultySite(self.engine, folder)


@pytest.fixture(scope="module", params=[True, False], ids=["with live-restore", "without live-restore"])
def mortal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineCase]:
    case = EngineCase(request.param, tmp_path_factory.mktemp("mortal"))
    yield case
    case.engine.remove()


def again(case: EngineCase) -> None:
    case.engine.stop(signal.SIGKILL)
    case.engine.start()


def killed_while_running(case: EngineCase) -> None:
    site = case.site()

    async def work(executor: Executor) -> ExecutionResult:
        asked = site.asked("i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 0.1; done; echo 7 > $SCRIPTRULES_OUTPUT")
        await executor.ensure(asked, may_create=True)
        await until(lambda: site.starts == 1)
        await asyncio.to_thread(again, case)
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    site.proxy.close()
    site.judge("engine killed", result)
    assert site.starts == 1
    if result.status == "done":
        assert (result.output, result.verdict) == (7, Verdict.ONCE)
    else:
        assert result.reason


def killed_at(case: EngineCase, step: str, when: str, delay: float = 0.0) -> ExecutionResult:
    site = case.site()

    def kill() -> None:
        case.engine.stop(signal.SIGKILL)

    def kill_soon() -> None:
        threading.Timer(delay, kill).start()

    act = kill if not delay else kill_soon
    fault = site.proxy.add(Fault(step, when=when, act=act, lose=not delay))

    async def work(executor: Executor) -> ExecutionResult:
        going = asyncio.create_task(insist(executor, site.asked("sleep 0.5; echo 7 > $SCRIPTRULES_OUTPUT")))
        await until(fault.done.is_set)
        await asyncio.sleep(delay)
        await until(lambda: not case.engine.running)
        await asyncio.to_thread(case.engine.start)
        await going
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    site.proxy.close()
    site.judge("engine killed", result, starts=2)
    if site.starts == 1 and result.status == "done":
        assert result.output == 7
    return result


def test_an_engine_killed_while_it_runs_starts_nothing_twice(mortal: EngineCase) -> None:
    killed_while_running(mortal)


@pytest.mark.parametrize(("step", "when"), [(CREATE, "after"), (START, "before"), (START, "after")])
def test_an_engine_killed_around_a_start_starts_nothing_twice_without_saying_so(
    mortal: EngineCase, step: str, when: str
) -> None:
    killed_at(mortal, step, when)


@pytest.mark.soak
@pytest.mark.parametrize("delay", [0.01, 0.03, 0.05, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3])
def test_an_engine_killed_in_the_midst_of_a_start_starts_nothing_twice_without_saying_so(
    mortal: EngineCase, delay: float
) -> None:
    killed_at(mortal, START, "before", delay)


def test_what_is_written_while_the_engine_is_dead_is_kept_or_said_to_be_lost(mortal: EngineCase) -> None:
    site = mortal.site()
    told = 'echo 1; until [ "$(tail -n +3 /record)" ]; do sleep 0.05; done; echo 2'
    ending = site.asked(told)
    lasting = site.asked(f"{told}; sleep 4", key="r2-1-1")

    def both_have_written() -> bool:
        with mortal.engine.client() as client:
            return all(client.logs(site.name(asked.key)) for asked in (ending, lasting))

    def say(word: str) -> None:
        with site.record.open("a") as record:
            record.write(f"{word}\n")

    async def work(executor: Executor) -> dict[str, ExecutionResult]:
        for asked in (ending, lasting):
            await executor.ensure(asked, may_create=True)
        await until(both_have_written)
        await asyncio.to_thread(mortal.engine.stop, signal.SIGKILL)
        await asyncio.to_thread(say, "now")
        await asyncio.sleep(1)
        await asyncio.to_thread(mortal.engine.start)
        return dict([await next_result(executor) for _ in range(2)])

    results = with_executor(site, work)
    site.proxy.close()
    ended, went_on = results[ending.key], results[lasting.key]
    assert (ended.status, ended.output, ended.stdout) == ("done", None, "1\n")
    assert "may be lost" in str(ended.reason)
    if went_on.status == "done":  # without live-restore the next engine has ended it
        assert (went_on.output, went_on.stdout) == (2, "1\n2\n")


# ---- clocks


@pytest.mark.parametrize("hours", [-24.0, 24.0])
def test_a_jump_of_our_clock_ends_nothing_early_and_nothing_late(
    faulty: FaultySite, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    monkeypatch.setattr(_docker_watch, "COMPARE_INTERVAL", 0.1)  # each comparison looks at the timeout anew
    jump = 0.0
    faulty.clock = lambda: clock.now() + int(jump * 3600 * clock.SECOND)

    async def work(executor: Executor) -> None:
        nonlocal jump
        short, long = faulty.asked("sleep 60", timeout=1.5), faulty.asked("sleep 3; echo 7", key="r2-1-1", timeout=40)
        await executor.ensure(short, may_create=True)
        await executor.ensure(long, may_create=True)
        jump = hours
        results = dict([await next_result(executor) for _ in range(2)])
        assert results[short.key].reason == "timeout after 1.5 s"
        assert (results[long.key].output, results[long.key].verdict) == (7, Verdict.ONCE)
        faulty.judge("clocks", results[long.key], starts=2, programs=2)

    with_executor(faulty, work)


@pytest.mark.parametrize("hours", [-1.0, 1.0])
def test_an_engine_whose_clock_is_another_is_adopted_with_the_right_timeout(faulty: FaultySite, hours: float) -> None:
    faulty.clock = lambda: clock.now() + int(hours * 3600 * clock.SECOND)
    asked = faulty.asked("sleep 60", timeout=1.5)
    with_executor(faulty, lambda executor: executor.ensure(asked, may_create=True))

    async def adopt(executor: Executor) -> ExecutionResult:
        began = asyncio.get_running_loop().time()
        await executor.ensure(asked, may_create=False)
        result = (await next_result(executor))[1]
        assert asyncio.get_running_loop().time() - began < 30
        return result

    result = with_executor(faulty, adopt)
    faulty.judge("clocks", result)
    assert (result.reason, result.verdict, faulty.starts) == ("timeout after 1.5 s", Verdict.ADOPTED, 1)
