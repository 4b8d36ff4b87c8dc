"""The swarm executor against a real swarm."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockerparts import PASSWORD
from dockersite import (
    PATIENCE,
    SwarmSite,
    credentials,
    image_in_registry,
    next_result,
    outcome,
    refusal,
    request,
    until,
    with_executor,
)
from engine import IMAGE, PrivateEngine
from scriptrules.errors import ConfigError, HostUnavailable, InvalidRequest, PolicyRefused
from scriptrules.executors import swarm as swarm_executor
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
from scriptrules.plugins.executor import Executor, ExecutorContext

pytestmark = pytest.mark.docker


@pytest.fixture
def site(swarm: PrivateEngine, tmp_path: Path) -> Iterator[SwarmSite]:
    made = SwarmSite(swarm, tmp_path)
    yield made
    made.clear()


# ---- results


def test_output_is_the_json_of_the_last_line_and_streams_are_separate(site: SwarmSite) -> None:
    script = (
        'cat $SCRIPTRULES_INPUT >&2; echo working; echo "[\\"$SCRIPTRULES_KEY\\", $SCRIPTRULES_ATTEMPT, \\"$COLOUR\\"]"'
    )
    asked = request(script, key="r9-1-4-2", attempt=2, input=b'{"size": 7}', env={"COLOUR": "red"})
    result = outcome(site, asked)
    assert (result.status, result.exit_code, result.reason) == ("done", 0, None)
    assert result.output == ["r9-1-4-2", 2, "red"]
    assert result.stdout.startswith("working\n")
    assert result.stderr == '{"size": 7}'
    assert (result.host, result.verdict) == ("locust", Verdict.ONCE)
    assert result.started is not None
    assert result.ended is not None
    assert result.started <= result.ended


def test_a_failure_has_exit_code_and_both_streams_and_is_not_repeated(site: SwarmSite) -> None:
    record = site.folder / "record"
    record.touch(mode=0o666)
    script = "echo start >> /record; echo half; echo broken >&2; exit 3"
    asked = request(script, options={"mounts": [f"{record}:/record:rw"]})

    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=True)
        _, result = await next_result(executor)
        await asyncio.sleep(1)
        return result

    result = with_executor(site, work, mounts=[str(site.folder)])
    assert (result.status, result.exit_code, result.reason) == ("failed", 3, "exit code 3")
    assert (result.stdout, result.stderr) == ("half\n", "broken\n")
    assert record.read_text() == "start\n"


def test_options_and_bounds_reach_the_container(site: SwarmSite) -> None:
    options = {
        "workdir": "/tmp",
        "user": "1234",
        "tmpfs": {"/scratch": 1},
        "entrypoint": ["sh", "-c"],
        "labels": {"team": "reports"},
        "cpus": 0.5,
        "memory_mb": 32,
    }
    script = 'ls -d /scratch >&2; grep CapBnd /proc/self/status >&2; echo "[\\"$PWD\\", $(id -u)]"'
    asked = ExecutionRequest(key="r1-1-1", host="locust", name="job", image=IMAGE, args=[script], options=options)
    result = outcome(site, asked, pids=20)
    assert result.output == ["/tmp", 1234]
    assert "CapBnd:\t0000000000000000" in result.stderr
    (task,) = site.tasks("r1-1-1")
    limits = {"NanoCPUs": 500_000_000, "MemoryBytes": 32 * 1024 * 1024, "Pids": 20}
    assert task["Spec"]["Resources"]["Limits"] == limits
    assert task["Spec"]["Resources"]["Reservations"]["MemoryBytes"] == 32 * 1024 * 1024


def test_secret_files_are_swarm_secrets_and_vanish_with_the_release(site: SwarmSite) -> None:
    asked = request("cat /run/token /etc/app/key >&2", secret_files={"/run/token": "hunter2", "/etc/app/key": "k"})

    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=True)
        key, result = await next_result(executor)
        assert len(site.left()) == 4
        with site.engine.client() as client:
            assert "hunter2" not in str(client.inspect_service(site.name(key)))
        await executor.release(key)
        await executor.release(key)
        return result

    assert with_executor(site, work).stderr == "hunter2k"
    assert site.left() == []


def test_a_signal_is_named_with_what_a_swarm_cannot_say(site: SwarmSite) -> None:
    result = outcome(site, request("kill -9 $$"))
    assert (result.status, result.exit_code) == ("failed", 137)
    assert "killed by signal 9" in str(result.reason)
    assert "512 MB" in str(result.reason)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image": "nowhere:1"}, "nowhere:1"),
        ({"options": {"mounts": ["/no/such/folder:/x"]}}, "/no/such/folder"),
    ],
)
def test_what_no_node_can_run_fails_with_the_swarms_words(site: SwarmSite, fields: dict[str, Any], said: str) -> None:
    result = outcome(site, request("true", **fields), images=["**"], mounts=["/"])
    assert (result.status, result.exit_code) == ("failed", None)
    assert "could not run it" in str(result.reason)
    assert said in str(result.reason)


# ---- where it runs, and from where its image comes


PLATFORM = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]


@pytest.mark.parametrize(
    ("options", "missing"),
    [({"platform": PLATFORM, "gpus": 2}, None), ({"platform": "linux/s390x"}, "platform"), ({"gpus": 3}, "resources")],
)
def test_a_job_waits_for_a_node_of_its_platform_with_as_many_gpus(
    site: SwarmSite, options: dict[str, Any], missing: str | None
) -> None:
    asked = request("echo 7", options=options)

    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=True)
        if missing:
            await until(lambda: missing in str(site.said.get(asked.key)))
            await executor.stop(asked.key)
        return (await next_result(executor))[1]

    result = with_executor(site, work, options=["platform", "gpus"], gpu_resource="gpu")
    assert (result.output, result.reason) == ((None, "stopped") if missing else (7, None))


def test_nodes_pull_with_the_credentials_of_the_table(site: SwarmSite, swarm: PrivateEngine) -> None:
    with image_in_registry(swarm) as image, swarm.client() as client:
        asked = request("echo 7", image=image)
        failed = outcome(site, request("echo 7", key="r2-1-1", image=image), images=["**"])
        assert (failed.status, failed.verdict) == ("failed", Verdict.ONCE)
        told = outcome(site, asked, images=["**"], **credentials(image, password=PASSWORD))
        assert (told.output, told.verdict) == (7, Verdict.ONCE)
        asked = request("true", key="r3-1-1", image=image)
        refused = refusal(site, asked, images=["**"], **credentials(image, password_file="nowhere"))
        assert "'nowhere'" in refused.message
        site.clear()
        client.remove_image(image, force=True)


# ---- refusals


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"constraint": ["a==b"]}, InvalidRequest, "did you mean 'constraints'"),
        ({"constraints": ["ssd"]}, InvalidRequest, "node.labels"),
        ({"constraints": ["node.labels.disk==ssd"]}, PolicyRefused, "any_constraint"),
        ({"network": "none"}, InvalidRequest, "without a network"),
        ({"network": "host"}, PolicyRefused, "network"),
        ({"mounts": ["/etc:/x"]}, PolicyRefused, "mounts"),
        ({"memory_mb": 100_000}, PolicyRefused, "memory_mb"),
        ({"restartable": True}, InvalidRequest, "retries=1"),
        ({"platform": "linux/arm/v7"}, InvalidRequest, "constraints"),
        ({"gpus": 1}, PolicyRefused, "gpu_resource"),
        ({"gpus": "all"}, InvalidRequest, "Write how many"),
        ({"gpu": 1}, InvalidRequest, "did you mean 'gpus'"),
    ],
)
def test_what_is_not_allowed_is_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path("none"), base_dir=Path())
    options_of_all = ["gpus", *swarm_executor.policy.docker_policy.OPTIONS]
    table = {"images": [IMAGE], "network": "jobs", "options": options_of_all}
    executor = swarm_executor.make(table, context)
    executor.validate(request("true", options={"network": "jobs", "cpus": 0.5, "platform": "linux/amd64"}))
    with pytest.raises(error, match=said):
        executor.validate(request("true", options=options))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"secret_files": {"token": "x"}}, "absolute"),
        ({"secret_files": {"/a": "x" * 500_001}}, "500000"),
        ({"input": b'"' + b"x" * 500_000 + b'"'}, "reference"),
    ],
)
def test_what_a_swarm_cannot_hand_over_is_refused(fields: dict[str, Any], said: str) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path("none"), base_dir=Path())
    executor = swarm_executor.make({"images": [IMAGE], "network": "jobs"}, context)
    with pytest.raises(InvalidRequest, match=said):
        executor.validate(request("true", **fields))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "network"),
        ({"network": "none"}, "default"),
        ({"network": "host"}, "no host network"),
        ({"network": "jobs", "constraint": []}, "did you mean 'constraints'"),
        ({"network": "jobs", "pull": "never"}, "a swarm has no pull: each node"),
        ({"network": "jobs", "constraints": "x"}, "constraints"),
        ({"network": "jobs", "url": "cluster"}, "unix:///path"),
    ],
)
def test_a_wrong_table_is_refused_at_start(table: dict[str, Any], said: str) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path("none"), base_dir=Path())
    with pytest.raises(ConfigError, match=said):
        swarm_executor.make(table, context)


def test_a_network_that_the_swarm_does_not_have_is_refused_and_leaves_nothing(site: SwarmSite) -> None:
    async def work(executor: Executor) -> None:
        with pytest.raises(InvalidRequest, match="nonet"):
            await executor.ensure(request("true", options={"network": "nonet"}), may_create=True)

    with_executor(site, work, network=["default", "nonet"])
    assert site.left() == []


# ---- once


def test_ensure_is_idempotent_and_another_supervisor_adopts(site: SwarmSite) -> None:
    asked = request("sleep 2; echo 7")

    async def begin(executor: Executor) -> None:
        await asyncio.gather(*(executor.ensure(asked, may_create=True) for _ in range(3)))

    with_executor(site, begin)

    async def adopt(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=False)
        return (await next_result(executor))[1]

    result = with_executor(site, adopt)
    assert (result.status, result.output, result.verdict) == ("done", 7, Verdict.ADOPTED)
    assert len(site.tasks(asked.key)) == 1
    assert with_executor(site, adopt).output == 7  # not released: its result can be had again


def test_what_ran_again_because_somebody_changed_the_service_is_possibly_twice(site: SwarmSite) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("sleep 1; echo 7")
        await executor.ensure(asked, may_create=True)

        def change() -> None:
            with site.engine.client() as client:
                found = client.inspect_service(site.name(asked.key))
                spec = found["Spec"]
                labels = {**spec["Labels"], "touched": "yes"}
                template, version = spec["TaskTemplate"], found["Version"]["Index"]
                client.update_service(
                    found["ID"], version, template, name=spec["Name"], labels=labels, mode=spec["Mode"]
                )

        await until(lambda: any(task["Status"]["State"] == "running" for task in site.tasks(asked.key)))
        await asyncio.to_thread(change)
        return (await next_result(executor))[1]

    assert with_executor(site, work).verdict == Verdict.POSSIBLY_TWICE


def test_a_request_that_an_earlier_supervisor_may_have_made_is_never_once(site: SwarmSite) -> None:
    assert outcome(site, request("true", fresh=False)).verdict == Verdict.POSSIBLY_TWICE


def test_a_service_that_is_not_ours_is_left_alone(site: SwarmSite) -> None:
    mode = {"Replicated": {"Replicas": 0}}
    with site.engine.client() as client:
        made = client.create_service({"ContainerSpec": {"Image": IMAGE}}, name=site.name("r1-1-1"), mode=mode)
    try:

        async def work(executor: Executor) -> None:
            with pytest.raises(InvalidRequest, match=r"is taken .* not ours"):
                await executor.ensure(request("true"), may_create=True)
            await executor.release("r1-1-1")

        with_executor(site, work)
        with site.engine.client() as client:
            assert client.inspect_service(made["ID"])["Spec"]["Mode"] == mode
    finally:
        with site.engine.client() as client:
            client.remove_service(made["ID"])


def test_a_service_removed_behind_our_back_fails(site: SwarmSite) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("sleep 1")
        await executor.ensure(asked, may_create=True)
        with site.engine.client() as client:
            await asyncio.to_thread(client.remove_service, site.name(asked.key))
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert result.status == "failed" or "cannot be had" in str(result.reason)
    assert "removed" in str(result.reason)


# ---- stopping


def test_stop_ends_it_and_keeps_what_it_wrote(site: SwarmSite) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("trap 'exit 9' TERM; echo ready; while true; do sleep 0.05; done")
        await executor.ensure(asked, may_create=True)
        async for chunk in executor.logs(asked.key, follow=True):
            if "ready" in chunk.text:
                await executor.stop(asked.key)
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert (result.status, result.reason) == ("failed", "stopped")
    assert result.stdout == "ready\n"
    with site.engine.client() as client:
        assert client.containers(filters={"label": f"scriptrules.store={site.store_id}"}) == []


def test_what_waits_for_a_node_can_be_stopped(site: SwarmSite) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("true", options={"constraints": ["node.labels.none==such"]})
        await executor.ensure(asked, may_create=True)
        await until(lambda: "no suitable node" in str(site.said.get(asked.key)))
        await executor.stop(asked.key)
        return (await next_result(executor))[1]

    result = with_executor(site, work, any_constraint=True)
    assert (result.status, result.reason, result.exit_code) == ("failed", "stopped", None)


def test_a_timeout_that_another_supervisor_began_is_ended_by_the_next(site: SwarmSite) -> None:
    asked = request("sleep 60", timeout=2.0)

    async def begin(executor: Executor) -> None:
        await executor.ensure(asked, may_create=True)
        await until(lambda: any(task["Status"]["State"] == "running" for task in site.tasks(asked.key)))

    with_executor(site, begin)

    async def adopt(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=False)
        return (await next_result(executor))[1]

    result = with_executor(site, adopt)
    assert (result.status, result.reason) == ("failed", "timeout after 2 s")
    assert with_executor(site, adopt).reason == "timeout after 2 s"  # the service remembers why it was ended


# ---- logs, bounds, the host


def test_logs_are_followed_until_the_end(site: SwarmSite) -> None:
    async def work(executor: Executor) -> list[tuple[str, str]]:
        asked = request("echo one; sleep 1; echo two >&2; sleep 1")
        await executor.ensure(asked, may_create=True)
        seen = []
        async with asyncio.timeout(PATIENCE):
            async for chunk in executor.logs(asked.key, follow=True):
                seen.append((chunk.stream, chunk.text))
                if chunk.text == "one\n":
                    assert asked.key in executor._jobs  # type: ignore[attr-defined]
        await next_result(executor)
        assert sorted([chunk.text async for chunk in executor.logs(asked.key)]) == ["one\n", "two\n"]
        return seen

    assert with_executor(site, work) == [("stdout", "one\n"), ("stderr", "two\n")]


def test_many_jobs_take_no_thread_each(site: SwarmSite) -> None:
    async def work(executor: Executor) -> None:
        asked = [request("sleep 0.5; echo $SCRIPTRULES_ATTEMPT", key=f"r{n}-1-1", attempt=n) for n in range(6)]
        async with asyncio.TaskGroup() as group:
            for each in asked:
                group.create_task(executor.ensure(each, may_create=True))
        assert {placed.key for placed in await executor.inventory()} == {each.key for each in asked}  # type: ignore[attr-defined]
        results = dict([await next_result(executor) for _ in asked])
        assert {key: result.output for key, result in results.items()} == {f"r{n}-1-1": n for n in range(6)}
        assert len([thread for thread in threading.enumerate() if thread.name.startswith("docker-")]) <= 8

    with_executor(site, work)


def test_a_released_service_is_kept_for_a_while_and_removed_by_the_next_supervisor(site: SwarmSite) -> None:
    async def work(executor: Executor) -> None:
        await executor.ensure(request("true"), may_create=True)
        await next_result(executor)
        await executor.release("r1-1-1")
        assert [placed.kept for placed in await executor.inventory()] == [True]  # type: ignore[attr-defined]

    with_executor(site, work, keep_for=1.0)
    assert site.name("r1-1-1") in site.left()

    async def wait_for_removal(executor: Executor) -> None:
        results = asyncio.create_task(next_result(executor))
        await until(lambda: site.left() == [])
        results.cancel()
        await asyncio.gather(results, return_exceptions=True)

    with_executor(site, wait_for_removal)


def test_check_describes_the_swarm(site: SwarmSite) -> None:
    assert "a swarm of 1 nodes" in with_executor(site, lambda executor: executor.check())


def test_an_engine_that_manages_no_swarm_is_said(engine: PrivateEngine, tmp_path: Path) -> None:
    site = SwarmSite(engine, tmp_path)

    async def work(executor: Executor) -> None:
        for attempt in (executor.check(), executor.ensure(request("true"), may_create=True)):
            with pytest.raises(HostUnavailable, match="swarm"):
                await attempt

    with_executor(site, work)


# ---- two engines


@pytest.fixture
def two_engines() -> Iterator[tuple[PrivateEngine, PrivateEngine]]:
    """A manager and a worker, each in a network namespace of its own, with a wire between them."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and ip. On Debian: apt-get install iproute2.")
    manager, worker = f"srm{os.getpid()}", f"srw{os.getpid()}"
    commands = [f"netns add {manager}", f"netns add {worker}", "link add srwire0 type veth peer name srwire1"]
    for number, name in enumerate((manager, worker)):
        commands += [f"link set srwire{number} netns {name}"]
        commands += [f"-n {name} addr add 10.99.7.{number + 1}/24 dev srwire{number}"]
        commands += [f"-n {name} link set srwire{number} up", f"-n {name} link set lo up"]
    engines = [PrivateEngine(live_restore=False, namespace=name) for name in (manager, worker)]
    try:
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True, capture_output=True)
        for engine in engines:
            engine.start()
            engine.load_image()
        with engines[0].client() as client:
            client.init_swarm(advertise_addr="10.99.7.1", listen_addr="10.99.7.1:2377")
            token = client.inspect_swarm()["JoinTokens"]["Worker"]
        with engines[1].client() as client:
            client.join_swarm(["10.99.7.1:2377"], token, advertise_addr="10.99.7.2", listen_addr="10.99.7.2:2377")
        yield engines[0], engines[1]
    finally:
        for engine in engines:
            engine.remove()
        for name in (manager, worker):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_a_node_whose_engine_was_killed_is_waited_for_and_its_job_is_not_called_once(
    two_engines: tuple[PrivateEngine, PrivateEngine], tmp_path: Path
) -> None:
    site, worker = SwarmSite(two_engines[0], tmp_path), two_engines[1]
    there = {"constraints": ["node.role==worker"]}

    async def work(executor: Executor) -> None:
        await executor.ensure(request("cat /run/t >&2; echo 7", options=there, secret_files={"/run/t": "s"}), True)
        _, result = await next_result(executor)
        assert (result.output, result.stderr, result.verdict) == (7, "s", Verdict.ONCE)
        asked = request("sleep 60", key="r2-1-1", options=there)
        await executor.ensure(asked, may_create=True)
        await until(lambda: any(task["Status"]["State"] == "running" for task in site.tasks(asked.key)))
        await asyncio.to_thread(worker.stop, signal.SIGKILL)
        await asyncio.to_thread(worker.start)
        _, result = await next_result(executor)
        assert (result.status, result.verdict) == ("failed", Verdict.POSSIBLY_TWICE)

    with_executor(site, work, any_constraint=True)
