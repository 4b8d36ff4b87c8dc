"""Logs of containers: followed live, across rotated files and engines that go away; the whole is kept, to a bound."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dockersite import Site, next_result, outcome, request, run_inside, until, with_executor
from engine import IMAGE, PrivateEngine
from scriptrules.executors import _docker_logs as logs
from scriptrules.executors._docker_result import LogFrame
from scriptrules.plugins.executor import Executor
from scriptrules.redaction import KNOWN
from serving import eventually, project

pytestmark = pytest.mark.docker

MEGABYTE = 1024 * 1024


def numbers(text: str) -> list[int]:
    return [int(line.split()[0]) for line in text.splitlines()]


def lines(count: int, before: str = "") -> str:
    """A script that writes `count` numbered lines of 1000 bytes."""
    return f"x=$(yes x | head -c 1990 | tr -d '\\n'); for n in $(seq {count}); do {before} echo $n $x; done"


async def whole(executor: Executor, key: str, follow: bool = False) -> str:
    async with asyncio.timeout(60):
        return "".join([chunk.text async for chunk in executor.logs(key, follow)])


def test_a_log_is_followed_over_the_files_that_the_engine_rotates(site: Site) -> None:
    async def work(executor: Executor) -> str:
        asked = request(lines(3000, "[ $((n % 100)) = 0 ] && sleep 0.02;"))
        await executor.ensure(asked, may_create=True)
        return await whole(executor, asked.key, follow=True)

    seen = with_executor(site, work, log_mb=1)  # the engine itself keeps a third of it
    assert len(seen) > 2 * MEGABYTE
    assert numbers(seen) == list(range(1, 3001))


def test_a_log_is_followed_over_a_restart_of_the_engine_and_no_line_comes_twice(site: Site) -> None:
    async def work(executor: Executor) -> str:
        asked = request("for n in 1 2 3; do echo $n; done; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo 4")
        await executor.ensure(asked, may_create=True)
        following = asyncio.create_task(whole(executor, asked.key, follow=True))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(site.engine.stop)
        await asyncio.to_thread(site.engine.start)
        await asyncio.to_thread(run_inside, site, asked.key, ["touch", "/tmp/go"])
        return await following

    assert numbers(with_executor(site, work)) == [1, 2, 3, 4]


def taken(place: logs.Place, stamps: str) -> str:
    """Which frames of these stamps are taken; one in capitals is a part of a line that goes on."""
    frames = [LogFrame("stdout", stamp.lower(), b"part" if stamp.isupper() else b"line\n") for stamp in stamps]
    return "".join(stamp for stamp, frame in zip(stamps, frames, strict=True) if place.is_new(frame))


def test_the_parts_of_a_long_line_are_told_apart_by_their_number() -> None:
    place = logs.Place()
    assert taken(place, "aBBb") == "aBBb"
    place.resume()
    assert taken(place, "BBbc") == "c"


def test_a_line_that_broke_off_in_its_middle_is_completed() -> None:
    place = logs.Place()
    assert taken(place, "aBB") == "aBB"
    place.resume()
    assert taken(place, "BBBbc") == "Bbc"


def test_what_an_engine_repeats_is_not_taken_twice_and_a_clock_set_back_loses_nothing() -> None:
    place = logs.Place()
    assert taken(place, "cdeFf") == "cdeFf"
    assert taken(place, "deFfg") == "g"
    assert taken(place, "gh") == "h"
    assert taken(place, "ab") == "ab"


def test_what_a_result_cannot_carry_is_kept_when_the_container_is_gone(site: Site) -> None:
    async def work(executor: Executor) -> str:
        asked = request(lines(1000) + "; echo error >&2")
        await executor.ensure(asked, may_create=True)
        key, result = await next_result(executor)
        assert len(result.stdout) == 64 * 1024
        await executor.release(key)
        assert site.names() == []
        return await whole(executor, key)

    seen = with_executor(site, work)
    assert numbers(seen.replace("error\n", "")) == list(range(1, 1001))
    assert "error\n" in seen

    async def look_later(executor: Executor) -> None:
        await executor.ensure(request("true", key="r2-1-1"), may_create=True)  # so that it connects
        await until(lambda: not list((site.folder / "state" / "logs").iterdir()))

    with_executor(site, look_later, logs_for=0.0)


def test_a_log_is_kept_without_secrets_and_for_nobody_else(site: Site) -> None:
    KNOWN.learn("open sesame")
    outcome(site, request(lines(100) + "; echo say open sesame"))
    (file,) = (site.folder / "state" / "logs").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    kept = gzip.decompress(file.read_bytes())
    assert b"say [secret]" in kept
    assert b"open sesame" not in kept


def test_a_short_log_needs_no_file(site: Site) -> None:
    outcome(site, request("echo 7"))
    assert not (site.folder / "state" / "logs").exists()


def test_no_more_is_kept_than_configured(site: Site) -> None:
    async def work(executor: Executor) -> str:
        asked = request(lines(4000))
        await executor.ensure(asked, may_create=True)
        key, _ = await next_result(executor)
        return await whole(executor, key)

    seen = numbers(with_executor(site, work, log_mb=1))
    assert seen[-1] == 4000
    assert len(seen) < 1100


def test_who_reads_slowly_piles_nothing_up(site: Site) -> None:
    """The reader stops after its first piece; what the container writes meanwhile stays with the engine."""

    async def work(executor: Executor) -> int:
        asked = request(lines(16_000))
        await executor.ensure(asked, may_create=True)
        chunks = executor.logs(asked.key, follow=True)
        before = _resident()
        await anext(aiter(chunks))
        key, _ = await next_result(executor)
        grown = _resident() - before
        await executor.release(key)
        return grown

    assert with_executor(site, work) < 12 * MEGABYTE  # of 16 that were written


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_followed_log_goes_on_where_it_was_when_the_server_is_back(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(f'[hosts.locust]\nexecutor = "docker"\nurl = "{engine.url}"\nimages = ["**"]\npull = "never"\n')
        script = "for n in $(seq 40); do echo line $n; sleep 0.15; done"
        arguments = f'args=["sh", "-c", {script!r}]'
        server.rule(
            "talk",
            f'on = "talk"\ndef main():\n    log("hello")\n    run("locust", "a", "{IMAGE}", {arguments})\n    wait()\n',
        )
        server.start()
        task = server.send("talk")
        run = server.wait_run(task, {"waiting"})["id"]
        environ = {"SCRIPTRULES_URL": f"http://127.0.0.1:{server.port}", "PATH": "/usr/bin:/bin"}
        told = server.folder / "told"
        with told.open("wb") as out:
            following = subprocess.Popen(
                [sys.executable, "-m", "scriptrules", "logs", run, "-f", "--json"],
                stdout=out,
                stderr=subprocess.PIPE,
                env=environ,
            )
            eventually(lambda: "line 5" in told.read_text(), "it follows")
            server.kill()
            server.start()
            _, said = following.communicate(timeout=60)
        assert following.returncode == 0
        texts = [json.loads(line)["text"] for line in told.read_text().splitlines()]
        assert texts == ["hello", *(f"line {n}" for n in range(1, 41))]
        assert said.count(b"The server does not answer") == 1


def test_the_command_follows_what_a_container_writes_and_has_all_of_it_afterwards(engine: PrivateEngine) -> None:
    with project() as server:
        server.config(f'[hosts.locust]\nexecutor = "docker"\nurl = "{engine.url}"\nimages = ["**"]\npull = "never"\n')
        script = f"echo begun; sleep 1.5; echo careful >&2; {lines(200)}"
        arguments = f'args=["sh", "-c", {script!r}]'
        server.rule(
            "talk",
            f'on = "talk"\ndef main():\n    log("hello")\n    run("locust", "a", "{IMAGE}", {arguments})\n    wait()\n',
        )
        server.start()
        task = server.send("talk")
        run = server.wait_run(task, {"waiting"})["id"]
        environ = {"SCRIPTRULES_URL": f"http://127.0.0.1:{server.port}", "PATH": "/usr/bin:/bin"}

        def command(*arguments: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-m", "scriptrules", "logs", run, *arguments],
                stdout=subprocess.PIPE,
                text=True,
                env=environ,
                cwd=server.folder,
            )

        seen: list[tuple[str, Any]] = []

        def follow() -> None:
            with command("-f") as following:
                assert following.stdout is not None
                for line in following.stdout:
                    seen.append((line, server.task(task)["state"]))

        following = threading.Thread(target=follow)
        following.start()
        eventually(lambda: any("begun" in line for line, _ in seen), "the first line is there")
        assert next(state for line, state in seen if "begun" in line) == "running"
        following.join()
        assert server.wait_task(task)["state"] == "done"
        with command() as later:
            said = later.communicate()[0].splitlines()
        for told in ([line for line, _ in seen], said):
            assert sum("stdout[1] " in line for line in told) == 201
            assert sum("stderr[1] careful" in line for line in told) == 1
            assert "hello" in told[0]
