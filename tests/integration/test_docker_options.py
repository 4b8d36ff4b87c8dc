"""What a rule may ask of a container besides its image, and what a host allows of it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dockersite import Site, next_result, outcome, refusal, request, with_executor
from engine import IMAGE
from scriptrules.errors import ConfigError, InvalidRequest, PolicyRefused
from scriptrules.executors import docker as docker_executor
from scriptrules.model import ExecutionResult, Verdict
from scriptrules.plugins.executor import Executor, ExecutorContext

pytestmark = pytest.mark.docker

SECRET = "correct horse battery staple"


def checked(asked: dict[str, Any], **table: Any) -> None:
    """Validate a request with these options, without any engine."""
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path(), base_dir=Path())
    docker_executor.make({"images": [IMAGE], **table}, context).validate(request("true", options=asked))


# ---- options


def test_memory_is_written_as_docker_writes_it(site: Site) -> None:
    outcome(site, request("true", options={"memory": "48m"}))
    assert site.inspect("r1-1-1")["HostConfig"]["Memory"] == 48 * 1024 * 1024


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"memory": "48"}, '"512m" or "2g"'),
        ({"memory": "1g", "memory_mb": 5}, "without memory_mb"),
        ({"gpus": "some"}, 'neither a number above zero nor "all"'),
        ({"gpus": 0}, "neither a number"),
        ({"plattform": "linux/arm64"}, "did you mean 'platform'"),
        ({"restartable": "yes"}, "true or false"),
    ],
)
def test_wrong_values_are_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked(options, options=["memory", "memory_mb", "gpus", "restartable"])
    assert said in caught.value.message


def test_an_option_that_the_host_does_not_allow_is_refused_with_what_to_configure() -> None:
    with pytest.raises(PolicyRefused, match=r"options = .*'gpus'"):
        checked({"gpus": "all"})
    checked({"gpus": 1, "memory": "64m"}, options=["gpus", "memory"])
    with pytest.raises(PolicyRefused, match="'user'"):
        checked({"user": "0"}, options=["memory"])
    with pytest.raises(PolicyRefused, match="memory_mb=600"):
        checked({"memory": "600m"})
    with pytest.raises(ConfigError, match="did you mean 'memory'"):
        checked({}, options=["memorry"])


def test_gpus_are_asked_for_and_an_engine_without_any_says_so(site: Site) -> None:
    error = refusal(site, request("true", options={"gpus": "all"}), options=["gpus"])
    assert "gpu" in error.message
    assert site.names() == []


def test_a_platform_that_the_image_is_not_for_is_refused(site: Site) -> None:
    error = refusal(site, request("true", options={"platform": "linux/s390x"}), pull="never")
    assert "s390x" in error.message or "not on host" in error.message


def test_without_a_network_a_container_has_a_loopback_of_its_own_and_a_name_for_it(site: Site) -> None:
    script = """
        (echo hello | busybox nc -l -p 8080 &)
        until busybox nc localhost 8080 < /dev/null; do sleep 0.1; done
        busybox ls /sys/class/net
        busybox readlink /proc/self/ns/net
    """
    result = outcome(site, request(script, timeout=30))
    assert result.stdout.split()[:2] == ["hello", "lo"], "it reaches itself by name, and there is nothing else"
    assert result.stdout.split()[2] != os.readlink("/proc/self/ns/net"), "not the host's own"


def test_the_name_of_the_loopback_is_not_written_to_a_mounted_folder(site: Site) -> None:
    etc = site.folder / "etc"
    etc.mkdir()
    (etc / "hosts").write_text("192.0.2.1 ours\n")
    options = {"mounts": [f"{etc}:/etc:rw"]}
    result = outcome(site, request("cat /etc/hosts", options=options), mounts=[str(site.folder)])
    assert "localhost" in result.stdout
    assert (etc / "hosts").read_text() == "192.0.2.1 ours\n"


# ---- restartable


def lose(site: Site, asked: Any, **table: Any) -> ExecutionResult:
    """What becomes of an execution whose container is removed behind our back, once it has written to /data."""

    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(asked, may_create=True)
        record = site.folder / "data" / "record"
        async with asyncio.timeout(60):
            while not record.exists():
                await asyncio.sleep(0.05)
        with site.engine.client() as client:
            await asyncio.to_thread(client.remove_container, site.name(asked.key), force=True)
        return (await next_result(executor))[1]

    return with_executor(site, work, mounts=[str(site.folder)], **table)


@pytest.mark.parametrize("restartable", [True, False])
def test_only_what_is_restartable_is_started_again_where_its_container_was_lost(site: Site, restartable: bool) -> None:
    (site.folder / "data").mkdir()
    (site.folder / "data").chmod(0o777)
    options = {"restartable": restartable, "mounts": [f"{site.folder}/data:/data:rw"]}
    script = "if [ -e /data/record ]; then echo 2; exit 0; fi; echo started >> /data/record; sleep 60"
    result = lose(site, request(script, options=options))
    if restartable:
        assert (result.status, result.output, result.verdict) == ("done", 2, Verdict.POSSIBLY_TWICE)
    else:
        assert (result.status, result.verdict in (Verdict.UNKNOWN, Verdict.ONCE)) == ("failed", True)


def test_a_restartable_execution_that_is_gone_after_a_restart_is_started_again(site: Site) -> None:
    async def work(executor: Executor) -> ExecutionResult:
        await executor.ensure(request("echo 7", options={"restartable": True}), may_create=False)
        return (await next_result(executor))[1]

    result = with_executor(site, work)
    assert (result.output, result.verdict) == (7, Verdict.POSSIBLY_TWICE)


# ---- files with secrets


def test_a_secret_file_is_there_and_nowhere_in_the_containers_configuration(site: Site) -> None:
    files = {"/run/secrets/token": SECRET, "/etc/deep/er/key": "two"}
    script = "cat /run/secrets/token /etc/deep/er/key | sed 's/^/\"/; s/$/\"/'; ls -ld /tmp | head -c 10"
    result = outcome(site, request(script, secret_files=files, options={"user": "1234"}))
    assert result.stdout.startswith(f'"{SECRET}two"')
    assert "drwxrwxrwt" in result.stdout
    assert SECRET not in json.dumps(site.inspect("r1-1-1"))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("token", "no plain absolute path"),
        ("/a/../b", "no plain absolute path"),
        ("/scriptrules/input.json", "no plain absolute path"),
        ("/scratch/token", "would be hidden by"),
    ],
)
def test_a_path_where_no_secret_can_be_is_refused(path: str, said: str) -> None:
    context = ExecutorContext(host="locust", store_id="s", state_dir=Path(), base_dir=Path())
    executor = docker_executor.make({"images": [IMAGE]}, context)
    with pytest.raises(InvalidRequest) as caught:
        executor.validate(request("true", secret_files={path: SECRET}, options={"tmpfs": {"/scratch": 1}}))
    assert said in caught.value.message
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("how", [{"keep": True}, {"keep_for": 3600.0}])
def test_a_container_that_is_kept_keeps_no_secrets(site: Site, how: dict[str, Any]) -> None:
    options = {name: value for name, value in how.items() if name == "keep"}
    table = {name: value for name, value in how.items() if name != "keep"}

    async def work(executor: Executor) -> None:
        await executor.ensure(request("true", secret_files={"/token": SECRET}, options=options), may_create=True)
        key, _ = await next_result(executor)
        await executor.release(key)

    with_executor(site, work, **table)
    (name,) = site.names()
    with site.engine.client() as client:
        chunks, _ = client.get_archive(name, "/token")
        packed = b"".join(chunks)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.getmembers()[0].size == 0
