"""The docker executor against a real engine."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dockersite import PATIENCE, Site, next_result, outcome, refusal, request, run_inside, until, with_executor
from engine import IMAGE
from scriptrules.errors import ConfigError, HostUnavailable, InvalidRequest, PolicyRefused
from scriptrules.executors import docker as docker_executor
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
from scriptrules.plugins.executor import Executor, ExecutorContext

pytestmark = pytest.mark.docker

# ---- results


def test_output_is_the_json_of_the_last_line(site: Site) -> None:
    result = outcome(site, request("""echo working; echo '{"rows": 3}'; echo careful >&2"""))
    assert (result.status, result.exit_code, result.reason) == ("done", 0, None)
    assert result.output == {"rows": 3}
    assert result.stdout == 'working\n{"rows": 3}\n'
    assert result.stderr == "careful\n"
    assert (result.host, result.verdict) == ("locust", Verdict.ONCE)
    assert result.started is not None
    assert result.ended is not None
    assert result.started <= result.ended


@pytest.fixture(params=["here", "elsewhere"])
def anywhere(request: pytest.FixtureRequest) -> None:
    """An engine whose folders can be read, and one whose folders cannot."""
    if request.param == "elsewhere":
        request.getfixturevalue("elsewhere")


@pytest.mark.usefixtures("anywhere")
def test_the_output_file_goes_before_the_last_line(site: Site) -> None:
    result = outcome(site, request("""echo '[1, 2]' > $SCRIPTRULES_OUTPUT; echo '"no"'"""))
    assert result.output == [1, 2]


def test_any_user_can_write_the_output_file(site: Site) -> None:
    result = outcome(site, request("id -u > $SCRIPTRULES_OUTPUT", options={"user": "1234"}))
    assert result.output == 1234


def test_an_output_file_that_is_no_json_is_said(site: Site) -> None:
    result = outcome(site, request("echo '{oops' > $SCRIPTRULES_OUTPUT"))
    assert (result.status, result.output) == ("done", None)
    assert "no JSON" in str(result.reason)


@pytest.mark.usefixtures("anywhere")
def test_an_output_file_that_is_too_large_is_said(site: Site) -> None:
    result = outcome(site, request("yes 1 | head -c 2000000 > $SCRIPTRULES_OUTPUT"))
    assert result.output is None
    assert "larger than" in str(result.reason)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("other", ["ln -s /etc/hosts $SCRIPTRULES_OUTPUT", "busybox mkfifo $SCRIPTRULES_OUTPUT"])
def test_what_is_no_plain_file_is_not_read_as_output(site: Site, other: str) -> None:
    result = outcome(site, request(f"rm -f $SCRIPTRULES_OUTPUT; {other}"))
    assert (result.status, result.output) == ("done", None)
    assert "no plain file" in str(result.reason)


@pytest.mark.usefixtures("anywhere")
def test_a_program_that_moves_the_folder_of_its_output_reaches_nothing_of_the_machine(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "output.json").write_text('"of the machine"')
    move = f"busybox mv /scriptrules /tmp/s && busybox ln -s {tmp_path} /scriptrules"
    result = outcome(site, request(f"{move} && echo '\"last line\"'"))
    assert result.output == "last line"


@pytest.mark.usefixtures("anywhere")
def test_an_output_file_in_a_volume_of_the_image_is_found(site: Site) -> None:
    with site.engine.client() as client:
        plain = client.create_container(IMAGE, "true")["Id"]
        client.commit(plain, "volume", "test", changes=["VOLUME /scriptrules"])
        client.remove_container(plain)
    asked = request("test -e $SCRIPTRULES_INPUT; echo 7 > $SCRIPTRULES_OUTPUT", image="volume:test")
    assert outcome(site, asked, images=["volume:test"]).output == 7


def test_a_mount_over_input_and_output_is_refused(site: Site) -> None:
    assert "hides input and output" in refusal(site, request("true", options={"tmpfs": {"/scriptrules": 1}})).message


def test_the_program_finds_its_input_key_and_attempt(site: Site) -> None:
    script = 'cat $SCRIPTRULES_INPUT; echo; echo "[\\"$SCRIPTRULES_KEY\\", $SCRIPTRULES_ATTEMPT, \\"$COLOUR\\"]"'
    result = outcome(site, request(script, key="r9-4-2", attempt=2, input=b'{"size": 7}', env={"COLOUR": "red"}))
    assert result.stdout.splitlines()[0] == '{"size": 7}'
    assert result.output == ["r9-4-2", 2, "red"]


def test_only_the_end_of_a_long_log_is_in_the_result(site: Site) -> None:
    result = outcome(site, request("yes abcdefg | head -c 1000000; echo; echo 5"))
    assert len(result.stdout) == 64 * 1024
    assert result.output == 5


def test_a_failure_has_exit_code_and_both_streams(site: Site) -> None:
    result = outcome(site, request("echo half; echo broken >&2; exit 3"))
    assert (result.status, result.exit_code, result.reason) == ("failed", 3, "exit code 3")
    assert (result.stdout, result.stderr) == ("half\n", "broken\n")


def test_a_signal_is_named(site: Site) -> None:
    result = outcome(site, request("kill -9 $$"))
    assert (result.status, result.exit_code, result.reason) == ("failed", 137, "killed by signal 9")


def test_running_out_of_memory_is_said(site: Site) -> None:
    result = outcome(site, request("x=0123456789; while true; do x=$x$x; done", options={"memory_mb": 16}))
    assert result.status == "failed"
    assert str(result.reason).startswith("out of memory: it may use 16 MB")


def test_a_container_is_locked_down(site: Site) -> None:
    outcome(site, request("true"), memory_mb=64, pids=20)
    found = site.inspect("r1-1-1")["HostConfig"]
    assert found["CapDrop"] == ["ALL"]
    assert found["SecurityOpt"] == ["no-new-privileges"]
    assert found["NetworkMode"] == "none"
    assert (found["Memory"], found["PidsLimit"], found["Init"]) == (64 * 1024 * 1024, 20, True)
    assert not found["Privileged"]
    assert not found["Mounts"] if "Mounts" in found else True


def test_options_reach_the_container(site: Site, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "word").write_text("hello")
    options = {
        "workdir": "/tmp",
        "mounts": [f"{tmp_path}/in:/data"],
        "tmpfs": {"/scratch": 1},
        "entrypoint": ["sh", "-c"],
        "labels": {"team": "reports"},
        "cpus": 0.5,
    }
    script = 'touch /scratch/x && touch /data/x; echo "[\\"$(cat /data/word)\\", \\"$PWD\\"]"'
    asked = ExecutionRequest(key="r1-1-1", host="locust", name="job", image=IMAGE, args=[script], options=options)
    result = outcome(site, asked, mounts=[str(tmp_path)])
    assert result.output == ["hello", "/tmp"]
    assert "Read-only" in result.stderr
    assert site.inspect("r1-1-1")["Config"]["Labels"]["team"] == "reports"
    assert site.inspect("r1-1-1")["HostConfig"]["NanoCpus"] == 500_000_000


# ---- refusals


def test_an_image_that_is_not_allowed_is_refused_with_what_to_configure(site: Site) -> None:
    error = refusal(site, request("true"), images=["registry.example/**"])
    assert isinstance(error, PolicyRefused)
    assert f'images = ["{IMAGE}"]' in error.message
    assert site.names() == []


def test_no_image_is_allowed_by_default(site: Site) -> None:
    assert isinstance(refusal(site, request("true"), images=[]), PolicyRefused)


@pytest.mark.parametrize(
    ("pattern", "image", "allowed"),
    [
        ("registry.example/**", "registry.example/a/b:2", True),
        ("registry.example/*", "registry.example/a:2", True),
        ("registry.example/*", "registry.example/a/b:2", False),
        ("registry.example/**", "registryXexample/a", False),
        ("registry.example/**", "evil.example/registry.example/a", False),
        ("app:1", "app:12", False),
    ],
)
def test_image_patterns(pattern: str, image: str, allowed: bool) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path(), base_dir=Path())
    executor = docker_executor.make({"images": [pattern]}, context)
    if allowed:
        executor.validate(request("true", image=image))
    else:
        with pytest.raises(PolicyRefused):
            executor.validate(request("true", image=image))


@pytest.mark.parametrize(
    "options",
    [
        {"mounts": ["/etc:/data"]},
        {"mounts": ["/srv/database:/data"]},
        {"mounts": ["/srv/read:/data:rw"]},
        {"network": "host"},
        {"network": "container:other"},
        {"memory_mb": 100_000},
        {"cpus": 64},
    ],
)
def test_what_the_policy_does_not_allow_is_refused(options: dict[str, Any]) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path(), base_dir=Path())
    executor = docker_executor.make({"images": [IMAGE], "mounts": ["/srv/data", "/srv/read:ro"]}, context)
    executor.validate(request("true", options={"mounts": ["/srv/data/in:/a:rw", "/srv/read:/b"], "network": "none"}))
    with pytest.raises(PolicyRefused, match=r"\[hosts\.locust\]"):
        executor.validate(request("true", options=options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"memory": 5}, "has to be text"),
        ({"memroy_mb": 5}, "did you mean 'memory_mb'"),
        ({"mounts": "/srv"}, "mounts"),
        ({"mounts": ["/srv/../etc:/x"]}, "absolute"),
        ({"mounts": [5]}, "mounts"),
        ({"memory_mb": 1}, "memory_mb=1 is below 6"),
        ({"cpus": 0.001}, "below 0.01"),
        ({"labels": {"scriptrules.key": "x"}}, "belongs to scriptrules"),
        ({"privileged": True}, "unknown option"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], said: str) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path(), base_dir=Path())
    executor = docker_executor.make({"images": [IMAGE]}, context)
    with pytest.raises(InvalidRequest) as caught:
        executor.validate(request("true", options=options))
    assert said in caught.value.message


@pytest.mark.parametrize("name", ["", "A=B", "A\0", "SCRIPTRULES_KEY"])
def test_a_variable_that_cannot_be_set_is_refused(name: str) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path(), base_dir=Path())
    executor = docker_executor.make({"images": [IMAGE]}, context)
    with pytest.raises(InvalidRequest, match="is not a variable that can be set"):
        executor.validate(request("true", env={name: "x"}))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"imags": []}, "did you mean 'images'"),
        ({"images": "all"}, "images"),
        ({"pull": "sometimes"}, "never"),
        ({"url": "locust"}, "unix:///path"),
        ({"tls_ca": "ca.pem"}, "belong together"),
        ({"memory_mb": 1}, "memory_mb"),
    ],
)
def test_a_wrong_host_table_is_refused_at_start(table: dict[str, Any], said: str) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path(), base_dir=Path())
    with pytest.raises(ConfigError) as caught:
        docker_executor.make(table, context)
    assert said in caught.value.message


def test_a_missing_image_is_said_with_the_policy(site: Site) -> None:
    error = refusal(site, request("true", image="nowhere:1"), images=["**"], pull="never")
    assert 'pull = "never"' in error.message


def test_an_image_that_cannot_be_pulled_is_said_with_the_engines_words(site: Site) -> None:
    error = refusal(site, request("true", image="127.0.0.1:1/nowhere:1"), images=["**"])
    assert "cannot be pulled" in error.message
    assert "127.0.0.1:1" in error.message


def test_what_the_engine_cannot_start_is_refused_with_its_words_and_leaves_nothing(site: Site) -> None:
    error = refusal(site, request("true", options={"user": "nobody-of-that-name"}))
    assert "cannot start" in error.message
    assert "nobody-of-that-name" in error.message
    assert site.names() == []


def test_a_program_that_is_not_in_the_image_fails_and_says_which(site: Site) -> None:
    result = outcome(site, request("true", options={"entrypoint": ["/no/such/program"]}))
    assert (result.status, result.exit_code) == ("failed", 127)
    assert "/no/such/program" in result.stderr


def test_a_foreign_container_under_the_name_is_left_alone(site: Site) -> None:
    with site.engine.client() as client:
        client.create_container_from_config({"Image": IMAGE, "Cmd": ["true"]}, site.name("r1-1-1"))
        error = refusal(site, request("true"))
        assert "not ours" in error.message
        assert client.inspect_container(site.name("r1-1-1"))["State"]["Status"] == "created"
        client.remove_container(site.name("r1-1-1"))


# ---- once


def test_ensuring_twice_starts_once(site: Site) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("echo x >> /scriptrules/count; cat /scriptrules/count; sleep 0.2")
        await asyncio.gather(*(executor.ensure(asked, may_create=True) for _ in range(3)))
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert result.stdout == "x\n"
    assert result.verdict == Verdict.ONCE
    assert len(site.names()) == 1


@pytest.mark.parametrize("may_create", [True, False])
def test_a_running_container_is_adopted_after_a_restart(site: Site, may_create: bool) -> None:
    asked = request("while [ ! -e /tmp/go ]; do sleep 0.05; done; echo 7")
    with_executor(site, lambda executor: executor.ensure(asked, may_create=True))
    began = site.inspect(asked.key)["State"]["StartedAt"]

    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=may_create)
        await asyncio.to_thread(run_inside, site, asked.key, ["touch", "/tmp/go"])
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert (result.output, result.verdict) == (7, Verdict.ADOPTED)
    assert site.inspect(asked.key)["State"]["StartedAt"] == began


def test_what_was_started_before_the_policy_was_edited_is_adopted(site: Site) -> None:
    asked = request("while [ ! -e /tmp/go ]; do sleep 0.05; done; echo 7")
    with_executor(site, lambda executor: executor.ensure(asked, may_create=True))

    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=True)  # the first supervisor was killed before it could acknowledge
        await asyncio.to_thread(run_inside, site, asked.key, ["touch", "/tmp/go"])
        return (await next_result(executor))[1]

    result = with_executor(site, work, images=["another:1"])
    assert (result.output, result.verdict) == (7, Verdict.ADOPTED)


def test_what_was_only_created_before_the_policy_was_edited_is_refused_and_removed(site: Site) -> None:
    asked = request("echo 7")
    outcome(site, asked)
    labels = site.inspect(asked.key)["Config"]["Labels"]
    with site.engine.client() as client:
        client.remove_container(site.name(asked.key))
        client.create_container_from_config({"Image": IMAGE, "Cmd": ["true"], "Labels": labels}, site.name(asked.key))
    assert isinstance(refusal(site, asked, images=["another:1"]), PolicyRefused)
    assert site.names() == []


@pytest.mark.parametrize("may_create", [True, False])
def test_a_container_that_ended_meanwhile_is_adopted(site: Site, may_create: bool) -> None:
    asked = request("echo 7; exit 4")
    with_executor(site, lambda executor: executor.ensure(asked, may_create=True))
    with site.engine.client() as client:
        client.wait(site.name(asked.key))

    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=may_create)
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert (result.exit_code, result.output, result.verdict) == (4, 7, Verdict.ADOPTED)


def test_a_container_that_another_supervisor_only_created_is_started_and_never_called_once(site: Site) -> None:
    asked = request("echo 7")
    outcome(site, asked)
    labels = site.inspect(asked.key)["Config"]["Labels"]
    with site.engine.client() as client:
        client.remove_container(site.name(asked.key))
        labels["scriptrules.owner"] = "a supervisor that was killed"
        body = {"Image": IMAGE, "Cmd": asked.args, "Labels": labels, "HostConfig": {"NetworkMode": "none"}}
        client.create_container_from_config(body, site.name(asked.key))
    result = outcome(site, asked)
    assert (result.output, result.verdict) == (7, Verdict.POSSIBLY_TWICE)


def test_a_start_that_was_acknowledged_is_never_repeated(site: Site) -> None:
    asked = request("echo 7")
    outcome(site, asked)
    labels = site.inspect(asked.key)["Config"]["Labels"]
    with site.engine.client() as client:
        client.remove_container(site.name(asked.key))
        client.create_container_from_config({"Image": IMAGE, "Cmd": ["true"], "Labels": labels}, site.name(asked.key))

    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=False)
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert (result.status, result.verdict) == ("failed", Verdict.UNKNOWN)
    assert site.inspect(asked.key)["State"]["Status"] == "created"


def test_a_container_that_somebody_started_again_is_possibly_twice(site: Site) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("sleep 60")
        await executor.ensure(asked, may_create=True)
        with site.engine.client() as client:  # in the event loop on purpose: the executor sees both or nothing
            client.restart(site.name(asked.key), timeout=0)
            client.kill(site.name(asked.key))
        return (await next_result(executor))[1]

    assert with_executor(site, work).verdict == Verdict.POSSIBLY_TWICE


def test_an_acknowledged_container_that_is_gone_fails_and_is_not_made_anew(site: Site) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(request("true"), may_create=False)
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert (result.status, result.reason) == ("failed", "container was removed")
    assert result.verdict == Verdict.UNKNOWN
    assert site.names() == []


def test_a_container_removed_behind_our_back_fails(site: Site) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("sleep 60")
        await executor.ensure(asked, may_create=True)
        with site.engine.client() as client:
            await asyncio.to_thread(client.remove_container, site.name(asked.key), force=True)
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert result.status == "failed"
    assert result.reason in ("container was removed", "killed by signal 9")


# ---- stopping


def test_stop_lets_a_program_end_in_its_own_way(site: Site) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("trap 'echo bye; exit 9' TERM; echo ready; while true; do sleep 0.05; done")
        await executor.ensure(asked, may_create=True)
        async for chunk in executor.logs(asked.key, follow=True):
            if "ready" in chunk.text:
                await executor.stop(asked.key)
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert (result.status, result.exit_code, result.reason) == ("failed", 9, "stopped")
    assert result.stdout == "ready\nbye\n"


def test_stop_ends_by_force_what_does_not_listen(site: Site) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("trap '' TERM; echo ready; while true; do sleep 0.05; done")
        await executor.ensure(asked, may_create=True)
        async for chunk in executor.logs(asked.key, follow=True):
            if "ready" in chunk.text:
                await executor.stop(asked.key)
        return (await next_result(executor))[1]

    result = with_executor(site, work, grace=0.3)
    assert (result.status, result.exit_code, result.reason) == ("failed", 137, "stopped")


def test_stopping_what_is_not_known_does_nothing(site: Site) -> None:
    with_executor(site, lambda executor: executor.stop("nobody-1-1"))


def test_a_timeout_stops_it_and_says_so(site: Site) -> None:
    result = outcome(site, request("sleep 60", timeout=0.4))
    assert (result.status, result.reason) == ("failed", "timeout after 0.4 s")
    assert result.started is not None
    assert result.ended is not None
    assert result.ended - result.started >= 400_000


def test_a_program_that_ends_orderly_at_its_timeout_has_failed(site: Site) -> None:
    result = outcome(site, request("trap 'exit 0' TERM; while true; do sleep 0.05; done", timeout=0.4))
    assert (result.status, result.exit_code, result.reason) == ("failed", None, "timeout after 0.4 s")


def test_a_timeout_counts_from_the_start_of_the_container(site: Site) -> None:
    asked = request("sleep 60", timeout=1.0)
    with_executor(site, lambda executor: executor.ensure(asked, may_create=True))

    async def work(executor: Executor) -> ExecutionResult:
        await asyncio.sleep(1.0)
        began = asyncio.get_running_loop().time()
        await executor.ensure(asked, may_create=False)
        result = (await next_result(executor))[1]
        assert asyncio.get_running_loop().time() - began < 1.0
        return result

    assert with_executor(site, work).reason == "timeout after 1 s"


# ---- logs


def test_logs_are_followed_until_the_end(site: Site) -> None:
    async def work(executor: Executor) -> list[tuple[str, str]]:
        asked = request("echo one; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo two >&2")
        await executor.ensure(asked, may_create=True)
        seen = []
        async with asyncio.timeout(PATIENCE):
            async for chunk in executor.logs(asked.key, follow=True):
                seen.append((chunk.stream, chunk.text))
                if chunk.text == "one\n":
                    await asyncio.to_thread(run_inside, site, asked.key, ["touch", "/tmp/go"])
        assert [chunk.text async for chunk in executor.logs(asked.key)] == ["one\n", "two\n"]
        return seen

    assert with_executor(site, work) == [("stdout", "one\n"), ("stderr", "two\n")]


def test_logs_of_what_is_not_known_are_empty(site: Site) -> None:
    async def work(executor: Executor) -> list[str]:
        return [chunk.text async for chunk in executor.logs("nobody-1-1", follow=True)]

    assert with_executor(site, work) == []


# ---- afterwards


def test_release_removes_the_container(site: Site) -> None:
    async def work(executor: Executor) -> None:
        await executor.ensure(request("true"), may_create=True)
        key, _ = await next_result(executor)
        await executor.release(key)
        await executor.release(key)

    with_executor(site, work)
    assert site.names() == []


def test_release_leaves_a_container_that_is_to_be_kept(site: Site) -> None:
    async def work(executor: Executor) -> None:
        await executor.ensure(request("true", options={"keep": True}), may_create=True)
        await next_result(executor)
        await executor.release("r1-1-1")

    with_executor(site, work)
    assert site.names() == [site.name("r1-1-1")]


def test_a_released_container_is_kept_for_a_while_and_removed_by_the_next_supervisor(site: Site) -> None:
    async def work(executor: Executor) -> None:
        await executor.ensure(request("true"), may_create=True)
        await next_result(executor)
        await executor.release("r1-1-1")

    with_executor(site, work, keep_for=3600.0)
    assert site.names() == [site.name("r1-1-1") + "-released"]

    async def wait_for_removal(executor: Executor) -> None:
        results = asyncio.create_task(next_result(executor))
        await until(lambda: site.names() == [])
        results.cancel()
        await asyncio.gather(results, return_exceptions=True)

    with_executor(site, wait_for_removal, keep_for=0.01)


# ---- the host


def test_an_engine_that_is_not_there_is_said_with_the_reason(tmp_path: Path) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=tmp_path, base_dir=tmp_path)

    async def main() -> None:
        executor = docker_executor.make({"url": f"unix://{tmp_path}/none", "images": ["**"]}, context)
        try:
            for attempt in (executor.check(), executor.ensure(request("true"), may_create=True)):
                with pytest.raises(HostUnavailable, match=r"No such file or directory.*\[hosts\.locust\]"):
                    await attempt
        finally:
            await executor.close()

    asyncio.run(main())


def test_check_describes_the_host(site: Site) -> None:
    said = with_executor(site, lambda executor: executor.check())
    assert said.startswith("Docker ")
    assert IMAGE in said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_container_that_ends_while_the_engine_is_down_is_found_afterwards(site: Site, how: signal.Signals) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("sleep 1.5; echo 7 > $SCRIPTRULES_OUTPUT")
        await executor.ensure(asked, may_create=True)
        await asyncio.to_thread(site.engine.stop, how)
        try:
            with pytest.raises(HostUnavailable):
                await executor.ensure(request("true", key="r2-1-1"), may_create=True)
            await asyncio.sleep(2)
        finally:
            await asyncio.to_thread(site.engine.start)
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert (result.status, result.output, result.verdict) == ("done", 7, Verdict.ONCE)


def test_a_container_that_outlives_an_engine_is_watched_again(site: Site) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        asked = request("while [ ! -e /tmp/go ]; do sleep 0.05; done; echo 7")
        await executor.ensure(asked, may_create=True)
        await asyncio.to_thread(site.engine.stop)
        await asyncio.to_thread(site.engine.start)
        await asyncio.to_thread(run_inside, site, asked.key, ["touch", "/tmp/go"])
        return (await next_result(executor))[1]

    assert with_executor(site, work).output == 7


def test_a_release_while_the_engine_is_down_is_done_when_it_is_back(site: Site) -> None:
    async def work(executor: Executor) -> None:
        await executor.ensure(request("true"), may_create=True)
        await next_result(executor)
        await asyncio.to_thread(site.engine.stop)
        try:
            await executor.release("r1-1-1")
        finally:
            await asyncio.to_thread(site.engine.start)
        await until(lambda: site.names() == [])

    with_executor(site, work)


def test_twenty_containers_take_no_thread_each(site: Site) -> None:
    async def work(executor: Executor) -> None:
        keys = [f"r{number}-1-1" for number in range(20)]
        script = "while [ ! -e /scriptrules/go ]; do sleep 0.1; done; echo $SCRIPTRULES_ATTEMPT"
        async with asyncio.TaskGroup() as group:
            for number, key in enumerate(keys):
                group.create_task(executor.ensure(request(script, key=key, attempt=number), may_create=True))
        assert len(site.names()) == 20
        assert len([thread for thread in threading.enumerate() if thread.name.startswith("docker-")]) <= 8

        def let_go() -> None:
            for key in keys:
                run_inside(site, key, ["touch", "/scriptrules/go"])

        await asyncio.to_thread(let_go)
        results = dict([await next_result(executor) for _ in keys])
        assert {key: result.output for key, result in results.items()} == {key: n for n, key in enumerate(keys)}

    with_executor(site, work)


def test_the_client_library_is_imported_only_when_a_host_is_used() -> None:
    script = (
        "import sys; from pathlib import Path; from scriptrules.executors import docker;"
        "from scriptrules.plugins.executor import ExecutorContext as Context;"
        "docker.make({}, Context(host='h', store_id='s', state_dir=Path(), base_dir=Path()));"
        "sys.exit('requests' in sys.modules or 'docker' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
