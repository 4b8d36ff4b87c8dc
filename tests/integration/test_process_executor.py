from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fakeclock import FakeClock
from scriptrules.errors import ConfigError, HostUnavailable, InvalidRequest, PolicyRefused
from scriptrules.executors import launcher
from scriptrules.executors.process import ProcessExecutor, make, scriptrules_executors
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
from scriptrules.plugins.executor import Executor, ExecutorContext

ME = pwd.getpwuid(os.geteuid()).pw_name
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root can execute as another user")

Scenario = Callable[["Host"], Awaitable[None]]


class Host:
    """One supervisor's executor and the results that it has yielded."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._results = executor.results()

    async def start(self, key: str, script: str, may_create: bool = True, **more: Any) -> None:
        await self.executor.ensure(request(key, script, **more), may_create)

    async def result(self) -> tuple[str, ExecutionResult]:
        return await asyncio.wait_for(anext(self._results), 60)

    async def run(self, script: str, **more: Any) -> ExecutionResult:
        await self.start("x-1-1", script, **more)
        key, result = await self.result()
        assert key == "x-1-1"
        return result

    async def log(self, key: str, follow: bool = False) -> str:
        return "".join([chunk.text async for chunk in self.executor.logs(key, follow)])


def request(key: str, script: str, **more: Any) -> ExecutionRequest:
    fields: dict[str, Any] = {"image": "sh", "args": ["-c", script], **more}
    return ExecutionRequest(key=key, host="local", name="work", **fields)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def any_loop(request: pytest.FixtureRequest) -> Any:
    return request.param


class Site:
    """A folder with a configured host; each `serve` is another supervisor on it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.state = base / "state" / "local"
        self.clock = FakeClock()

    def make(self, **table: Any) -> Executor:
        table = {"programs": ["sh"], "user": ME, "grace": 0.3, **table}
        context = ExecutorContext("local", "store", self.state, self.base, self.clock)
        return make(table, context)

    def serve(self, scenario: Scenario, loop_factory: Any = None, **table: Any) -> None:
        async def live() -> None:
            executor = self.make(**table)
            try:
                await scenario(Host(executor))
            finally:
                await executor.close()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(live())

    def result_of(self, script: str, table: dict[str, Any] | None = None, **more: Any) -> ExecutionResult:
        found: list[ExecutionResult] = []

        async def scenario(host: Host) -> None:
            found.append(await host.run(script, **more))
            await host.executor.release("x-1-1")

        self.serve(scenario, **(table or {}))
        return found[0]

    def file(self, name: str) -> Path:
        """A file that executions of this user may write to."""
        return self.base / name


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield Site(tmp_path)
    assert not processes_of(str(tmp_path)), "an execution was left behind"


def processes_of(mark: str) -> list[int]:
    """Processes, other than this one, that have `mark` in their environment or arguments."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = Path(f"/proc/{name}/environ").read_bytes() + Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in text and int(name) != os.getpid():
            found.append(int(name))
    return found


def until(fact: Callable[[], Any]) -> None:
    """Wait until `fact` holds; the bound is for hung tests only."""
    give_up = time.monotonic() + 30
    while not fact():
        assert time.monotonic() < give_up
        time.sleep(0.01)


# ---- what comes back


def test_the_executor_is_a_plugin_and_keeps_the_contract(site: Site) -> None:
    assert scriptrules_executors() == {"process": make}
    assert isinstance(site.make(), Executor)


def test_a_program_gives_its_exit_code_output_and_streams(site: Site, any_loop: Any) -> None:
    async def scenario(host: Host) -> None:
        result = await host.run("""echo hello; echo oops >&2; echo '{"rows": 3}'""")
        assert (result.status, result.exit_code, result.reason) == ("done", 0, None)
        assert result.output == {"rows": 3}
        assert result.stdout == 'hello\n{"rows": 3}\n'
        assert result.stderr == "oops\n"
        assert (result.host, result.verdict) == ("local", Verdict.ONCE)
        assert result.started is not None
        assert result.ended is not None
        assert result.started <= result.ended
        await host.start("y-1-1", "exit 3")
        key, result = await host.result()
        assert (key, result.status, result.exit_code, result.reason) == ("y-1-1", "failed", 3, "exit code 3")

    site.serve(scenario, any_loop)


def test_a_program_killed_by_a_signal_says_which(site: Site) -> None:
    result = site.result_of("kill -9 $$")
    assert (result.status, result.exit_code, result.reason) == ("failed", 137, "killed by signal 9")


def test_the_output_file_wins_over_the_last_line(site: Site) -> None:
    assert site.result_of("echo '{\"a\": 1}' > $SCRIPTRULES_OUTPUT; echo 2").output == {"a": 1}


def test_an_output_file_that_is_no_json_is_reported_where_its_author_looks(site: Site) -> None:
    result = site.result_of("echo '{a: 1}' > $SCRIPTRULES_OUTPUT; echo 2")
    assert (result.status, result.output) == ("done", None)
    assert "$SCRIPTRULES_OUTPUT: The output is no JSON" in result.stderr


def test_the_program_gets_its_input_its_stdin_and_its_arguments_literally(site: Site) -> None:
    result = site.result_of(
        'cat $SCRIPTRULES_INPUT; echo; cat; printf "<%s>" "$@"',
        args=["-c", 'cat $SCRIPTRULES_INPUT; echo; cat; printf "<%s>" "$@"', "sh", "a b", "$(id)", "*", "", "ü"],
        input=b'{"size": 7}',
        options={"stdin": "typed\n"},
    )
    assert result.stdout == '{"size": 7}\ntyped\n<a b><$(id)><*><><ü>'


def test_without_stdin_there_is_nothing_to_read(site: Site) -> None:
    assert site.result_of("cat; echo 1").stdout == "1\n"


def test_the_environment_holds_what_is_configured_and_nothing_of_the_server(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_TOKEN", "secret")
    monkeypatch.delenv("TZ", raising=False)
    result = site.result_of(
        "", image="env", args=[], env={"COLOR": "red"}, attempt=2, table={"programs": ["env"], "env": {"A": "1"}}
    )
    found = dict(line.split("=", 1) for line in result.stdout.splitlines())
    own = {"SCRIPTRULES_INPUT", "SCRIPTRULES_OUTPUT", "SCRIPTRULES_KEY", "SCRIPTRULES_ATTEMPT"}
    assert set(found) == {"PATH", "HOME", "LANG", "A", "COLOR", *own}
    assert (found["A"], found["COLOR"]) == ("1", "red")
    assert (found["SCRIPTRULES_KEY"], found["SCRIPTRULES_ATTEMPT"]) == ("x-1-1", "2")


def test_the_program_inherits_no_descriptor_and_has_a_session_and_a_fresh_folder_of_its_own(site: Site) -> None:
    with open("/dev/null") as file:
        os.set_inheritable(file.fileno(), True)
        result = site.result_of("ls /proc/$$/fd; ls -A; cut -d' ' -f1,5,6 /proc/$$/stat; umask")
    *descriptors, numbers, mask = result.stdout.split("\n")[:-1]
    assert set(descriptors) <= {"0", "1", "2", "3"}  # 3: the folder that ls itself reads
    assert len(set(numbers.split())) == 1
    assert mask == "0077"


def test_host_workdir_is_relative_to_the_configuration(site: Site) -> None:
    site.file("place").mkdir()
    assert site.result_of("pwd", table={"workdir": "place"}).stdout.strip() == str(site.base / "place")
    missing = Site(site.base / "other").result_of("pwd", table={"workdir": "gone"})
    assert missing.exit_code == 126
    assert missing.reason is not None
    assert "cannot enter the workdir: No such file" in missing.reason


def test_a_program_that_cannot_be_executed_fails_with_the_reason(site: Site) -> None:
    scripts = {"plain": ("echo 1", 0o755), "closed": ("#!/bin/sh\n", 0o644), "lost": ("#!/nowhere/sh\n", 0o755)}
    for name, (text, mode) in scripts.items():
        site.file(name).write_text(text)
        site.file(name).chmod(mode)
    table = {"programs": [f"./{name}" for name in scripts]}

    async def scenario(host: Host) -> None:
        for name, code, words in (("plain", 126, "#! line"), ("closed", 126, "may not"), ("lost", 127, "interpreter")):
            await host.start(f"{name}-1-1", "", image=f"./{name}")
            _, result = await host.result()
            assert (result.status, result.exit_code) == ("failed", code)
            assert words in str(result.reason)

    site.serve(scenario, **table)


# ---- limits


def test_a_timeout_ends_the_program_and_all_it_started(site: Site) -> None:
    result = site.result_of("sleep 600 & sleep 600", timeout=0.2)
    assert (result.status, result.exit_code, result.reason) == ("failed", 143, "timeout after 0.2 s")
    assert not processes_of(str(site.state))


def test_a_program_that_ignores_the_term_signal_is_killed_after_the_grace(site: Site) -> None:
    result = site.result_of("trap '' TERM; echo on; while :; do sleep 600; done", timeout=0.2)
    assert (result.exit_code, result.reason, result.stdout) == (137, "timeout after 0.2 s", "on\n")


def test_a_program_that_tidies_up_when_told_to_end_has_no_exit_code_of_success(site: Site) -> None:
    result = site.result_of("trap 'echo tidy; exit 0' TERM; sleep 600 & wait", timeout=0.2)
    assert (result.status, result.exit_code, result.stdout) == ("failed", None, "tidy\n")


def test_a_stopped_program_takes_the_timeout_too(site: Site) -> None:
    assert site.result_of("trap 'exit 4' TERM; kill -STOP $$; sleep 600 & wait", timeout=0.2).exit_code == 4


def test_cpu_seconds_memory_and_file_size_are_limited(site: Site) -> None:
    python = {"programs": [sys.executable], "file_mb": 1}
    eat = {"image": sys.executable, "args": ["-c", "print(len(bytearray(300_000_000)))"]}

    async def scenario(host: Host) -> None:
        cases: list[tuple[str, dict[str, Any], str]] = [
            ("memory", {**eat, "options": {"memory_mb": 128}}, "exit code 1"),
            ("plenty", eat, "None"),
            ("cpu", {**eat, "args": ["-c", "while 1: pass"], "options": {"cpu_seconds": 1}}, "its cpu_seconds"),
            ("file", {**eat, "args": ["-c", "open('f','w').write('x' * 2_000_000)"]}, "File too large"),
        ]
        for key, more, words in cases:
            await host.start(key, "", **more)
            _, result = await host.result()
            assert words in f"{result.reason} {result.stderr}", key

    site.serve(scenario, **python)


def test_big_output_costs_bounded_memory_and_disk_and_its_end_is_kept(site: Site) -> None:
    script = "echo first; yes 0123456789 | head -c 100000000; echo; echo 42; while ! test -e go; do sleep 0.02; done"

    async def scenario(host: Host) -> None:
        site.file("place").mkdir()
        await host.start("x-1-1", script)
        pid = int((site.state / "x-1-1" / "claim").read_text().split()[0])

        def drained() -> bool:
            last = sorted((site.state / "x-1-1").glob("stdout.*"))[-1:]
            return bool(last) and last[0].read_bytes().endswith(b"\n42\n")

        await asyncio.to_thread(until, drained)
        peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) < 40_000  # KB
        site.file("place/go").touch()
        _, result = await host.result()
        assert result.output == 42
        assert result.stdout.endswith("\n42\n")
        assert len(result.stdout) == 64 * 1024
        assert sum(file.stat().st_size for file in (site.state / "x-1-1").glob("stdout.*")) < 13_000_000
        log = await host.log("x-1-1")
        assert log.startswith("first\n0123456789\n")
        assert log.endswith("\n42\n")
        assert log.count("no longer kept") == 1

    site.serve(scenario, workdir="place")


def test_what_a_program_leaves_running_ends_with_it(site: Site) -> None:
    away = (
        "import os,time\nif not os.fork():\n os.setsid()\n os.fork() or time.sleep(600)\n os._exit(0)\ntime.sleep(.3)"
    )
    result = site.result_of(
        'sleep 600 & "$0" -c "$1"; echo 1', args=["-c", 'sleep 600 & "$0" -c "$1"; echo 1', sys.executable, away]
    )
    assert result.output == 1
    assert not processes_of(str(site.state))


# ---- what is refused


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"image": "rm"}, PolicyRefused, r'add "rm" to programs = \[...\] in \[hosts.local\]'),
        ({"image": "shh"}, PolicyRefused, "did you mean 'sh'"),
        ({"image": "/bin/sh"}, PolicyRefused, "not allowed"),
        ({"image": "bin/sh"}, PolicyRefused, "not allowed"),
        ({"image": "../sh"}, InvalidRequest, r"without '\.\.'"),
        ({"image": ""}, InvalidRequest, "names no program"),
        ({"image": "sh\0"}, InvalidRequest, "names no program"),
        ({"args": ["a\0b"]}, InvalidRequest, "NUL"),
        ({"args": ["\ud800"]}, InvalidRequest, "surrogate"),
        ({"args": [3]}, InvalidRequest, "str"),
        ({"args": ["x" * 200_000]}, InvalidRequest, "longer than"),
        ({"args": ["x" * 100_000] * 20}, InvalidRequest, "longer than"),
        ({"args": ["x"] * 200_000}, InvalidRequest, "longer than"),
        ({"env": {"A=B": "1"}}, InvalidRequest, "A=B"),
        ({"env": {"A": "1\0"}}, InvalidRequest, "NUL"),
        ({"env": {"SCRIPTRULES_KEY": "1"}}, InvalidRequest, "another name"),
        ({"env": {"LD_PRELOAD": "x.so"}}, PolicyRefused, "decides what is executed"),
        ({"env": {"PATH": "/x"}}, PolicyRefused, r"\[hosts.local\] as env"),
        ({"timeout": 0.0}, InvalidRequest, "above 0"),
        ({"timeout": float("nan")}, InvalidRequest, "above 0"),
        ({"options": {"memory": 3}}, InvalidRequest, "did you mean 'memory_mb'"),
        ({"options": {"memory_mb": "3"}}, InvalidRequest, "an integer"),
        ({"options": {"memory_mb": 0}}, InvalidRequest, "at least 1"),
        ({"options": {"memory_mb": 10**6}}, PolicyRefused, "raise memory_mb in"),
        ({"key": "../x"}, InvalidRequest, "cannot name"),
    ],
)
def test_what_cannot_or_may_not_be_started_is_refused_and_leaves_nothing(
    site: Site, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    wanted = ExecutionRequest(**{"key": "x-1-1", "host": "local", "name": "work", "image": "sh", **more})

    async def scenario(host: Host) -> None:
        with pytest.raises(error, match=words):
            host.executor.validate(wanted)
        with pytest.raises(error, match=words):
            await host.executor.ensure(wanted, True)
        assert not list(site.state.glob("*"))
        assert (await host.run("echo 1")).output == 1

    site.serve(scenario)


def test_nothing_is_allowed_by_default(site: Site) -> None:
    with pytest.raises(PolicyRefused):
        site.make(programs=[]).validate(request("x", ""))


def test_an_allowed_program_that_is_not_installed_is_an_invalid_request(site: Site) -> None:
    with pytest.raises(InvalidRequest, match="no program 'nowhere-tool' on PATH"):
        site.result_of("", image="nowhere-tool", table={"programs": ["nowhere-tool"]})


def test_a_program_by_its_path_is_relative_to_the_configuration(site: Site) -> None:
    site.file("bin").mkdir()
    site.file("bin/tool").write_text("#!/bin/sh\necho 5\n")
    site.file("bin/tool").chmod(0o755)
    assert site.result_of("", image="bin/tool", args=[], table={"programs": ["bin/tool"]}).output == 5


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"program": ["sh"]}, "unknown key 'program', did you mean 'programs'"),
        ({"programs": ["**"]}, "List each"),
        ({"programs": ["../sh"]}, "List each"),
        ({"programs": "sh"}, "programs"),
        ({"memory_mb": 0}, "memory_mb"),
        ({"max_running": True}, "max_running"),
        ({"env": {"A B": "1"}}, "cannot be set"),
        ({"user": "no-such-user"}, "no user 'no-such-user'"),
        ({"user": -1}, "no user -1"),
    ],
)
def test_a_host_table_that_cannot_be_used_is_a_configuration_error(
    site: Site, table: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        site.make(**table)


def test_doctor_is_told_user_and_programs_found_and_missing(site: Site) -> None:
    async def scenario(host: Host) -> None:
        assert await host.executor.check() == f"executes as {ME}; programs found: sh; missing: nowhere-tool."

    site.serve(scenario, programs=["sh", "nowhere-tool"])


# ---- many, in turn, and stopped


def test_a_hundred_run_at_the_same_time(site: Site, any_loop: Any) -> None:
    started = site.file("started")
    script = f"echo $SCRIPTRULES_KEY >> {started}; until [ $(wc -l < {started}) = 100 ]; do sleep 0.2; done; echo 1"

    async def scenario(host: Host) -> None:
        await asyncio.gather(*(host.start(f"k-{n}-1", script) for n in range(100)))
        results = dict([await host.result() for _ in range(100)])
        assert set(results) == {f"k-{n}-1" for n in range(100)}
        assert {(result.status, result.verdict) for result in results.values()} == {("done", Verdict.ONCE)}

    site.serve(scenario, any_loop)


def test_stopping_ends_what_runs(site: Site, any_loop: Any) -> None:
    async def scenario(host: Host) -> None:
        await host.start("a-1-1", "sleep 600")
        await host.executor.stop("unknown")
        await host.executor.stop("a-1-1")
        key, result = await host.result()
        assert (key, result.status, result.reason) == ("a-1-1", "failed", "stopped")
        assert result.exit_code in (143, None)  # None: it was stopped before the launcher began it
        await host.executor.stop("a-1-1")

    site.serve(scenario, any_loop)


def test_a_stop_during_the_start_is_not_lost(site: Site) -> None:
    async def scenario(host: Host) -> None:
        starting = asyncio.create_task(host.start("a-1-1", "sleep 600"))
        await asyncio.sleep(0)
        await host.executor.stop("a-1-1")
        await starting
        assert (await host.result())[1].reason == "stopped"

    site.serve(scenario)


def test_logs_are_followed_while_the_program_writes(site: Site) -> None:
    async def scenario(host: Host) -> None:
        go = site.file("go")
        await host.start(
            "x-1-1", f"printf 'h\\303'; until test -e {go}; do sleep 0.02; done; printf '\\244\\n'; echo e >&2"
        )
        chunks = host.executor.logs("x-1-1", follow=True)
        assert (await anext(chunks)).text == "h"
        go.touch()
        rest = [(chunk.stream, chunk.text) async for chunk in chunks]
        assert sorted(rest) == [("stderr", "e\n"), ("stdout", "ä\n")]
        await host.executor.release("x-1-1")
        assert await host.log("x-1-1") == ""

    site.serve(scenario)


def test_a_release_removes_the_folder_at_once_or_when_it_was_kept_long_enough(site: Site) -> None:
    async def scenario(host: Host) -> None:
        await host.run("echo 1")
        await host.executor.release("x-1-1")
        await host.executor.release("x-1-1")

    site.serve(scenario)
    assert not list(site.state.rglob("x-1-1"))
    site.serve(scenario, keep_for=3600)
    assert [path.parent.name for path in site.state.rglob("x-1-1")] == [".released"]
    site.clock.jump(3601)

    async def another(host: Host) -> None:
        await host.start("y-1-1", "echo 1")
        await host.result()

    site.serve(another, keep_for=3600)
    assert not list(site.state.rglob("x-1-1"))


def children_of_ours() -> set[str]:
    """Processes that this one has to reap, running or not; another fixture may have some (an engine)."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for children in lists for pid in children.read_text().split()}


def test_executions_leave_no_descriptor_and_no_zombie(site: Site, any_loop: Any) -> None:
    async def scenario(host: Host) -> None:
        await host.run("echo 1")
        before = len(os.listdir("/proc/self/fd"))
        children = children_of_ours()
        for n in range(10):
            await host.start(f"k-{n}-1", "echo 1")
            await host.result()
            await host.executor.release(f"k-{n}-1")
        end = asyncio.get_running_loop().time() + 30.0
        while len(os.listdir("/proc/self/fd")) > before or not children_of_ours() <= children:
            assert asyncio.get_running_loop().time() < end, "descriptors or children are left"
            await asyncio.sleep(0.02)

    site.serve(scenario, any_loop)


# ---- restarts, kills and races


def test_a_restart_finds_what_runs_and_what_has_ended(site: Site, any_loop: Any) -> None:
    lines, go = site.file("lines"), site.file("go")
    script = f"echo $SCRIPTRULES_KEY >> {lines}; until test -e {go}; do sleep 0.02; done; echo 7"

    async def first(host: Host) -> None:
        await host.start("a-1-1", script)
        await host.start("b-1-1", f"echo b >> {lines}; echo 8")
        assert (await host.result())[0] == "b-1-1"

    async def second(host: Host) -> None:
        await host.start("a-1-1", script, may_create=False)
        await host.start("b-1-1", "", may_create=False)
        key, ended = await host.result()
        assert (key, ended.output, ended.verdict) == ("b-1-1", 8, Verdict.ONCE)
        go.touch()
        key, ended = await host.result()
        assert (key, ended.output, ended.verdict) == ("a-1-1", 7, Verdict.ONCE)

    site.serve(first, any_loop)
    site.serve(second, any_loop)
    assert sorted(lines.read_text().split()) == ["a-1-1", "b"]


def test_a_lost_launcher_is_an_unknown_end_and_takes_its_program_with_it(site: Site) -> None:
    async def scenario(host: Host) -> None:
        await host.start("a-1-1", "echo begun; exec sleep 600")
        until(lambda: list((site.state / "a-1-1").glob("stdout.*")))
        os.kill(int((site.state / "a-1-1" / "claim").read_text().split()[0]), signal.SIGKILL)
        _, result = await host.result()
        assert (result.status, result.exit_code, result.verdict) == ("failed", None, Verdict.UNKNOWN)
        assert "the launcher was lost" in str(result.reason)
        assert result.stdout == "begun\n"
        until(lambda: not processes_of(str(site.state)))
        await host.start("a-1-1", f"touch {site.file('again')}")
        assert (await host.result())[1].verdict == Verdict.UNKNOWN

    site.serve(scenario)
    assert not site.file("again").exists()


def test_a_launcher_that_somebody_tells_to_end_records_that(site: Site) -> None:
    async def scenario(host: Host) -> None:
        await host.start("a-1-1", "sleep 600")
        os.kill(int((site.state / "a-1-1" / "claim").read_text().split()[0]), signal.SIGTERM)
        assert (await host.result())[1].reason == "ended by a SIGTERM to its launcher"

    site.serve(scenario)


@pytest.mark.parametrize("claim", ["{pid} 1 {boot}", "{pid} {start} another-boot", "", "rubbish"])
def test_a_claim_is_not_mistaken_for_the_process_that_has_its_number_now(site: Site, claim: str) -> None:
    text = claim.format(pid=os.getpid(), start=launcher.start_time(os.getpid()), boot=launcher.boot_id())
    (site.state / "a-1-1").mkdir(parents=True)
    (site.state / "a-1-1" / "claim").write_text(text)

    async def scenario(host: Host) -> None:
        await host.start("a-1-1", "echo 1")
        assert (await host.result())[1].verdict == Verdict.UNKNOWN

    site.serve(scenario)


def test_an_acknowledged_start_of_which_nothing_is_left_is_unknown_and_not_repeated(site: Site) -> None:
    async def scenario(host: Host) -> None:
        await host.start("a-1-1", f"touch {site.file('again')}", may_create=False)
        _, result = await host.result()
        assert (result.status, result.verdict) == ("failed", Verdict.UNKNOWN)
        assert "nothing of it is left" in str(result.reason)

    site.serve(scenario)
    assert not site.file("again").exists()


def test_two_supervisors_start_a_key_once_and_both_learn_its_end(site: Site) -> None:
    lines = site.file("lines")

    async def scenario(host: Host) -> None:
        other = Host(site.make())
        for n in range(20):
            script = f"echo {n} >> {lines}; echo {n}"
            await asyncio.gather(host.start(f"k-{n}-1", script), other.start(f"k-{n}-1", script))
            for each in (host, other):
                key, result = await each.result()
                assert (key, result.output, result.verdict) == (f"k-{n}-1", n, Verdict.ONCE)
        await other.executor.close()

    site.serve(scenario)
    assert [int(line) for line in lines.read_text().split()] == list(range(20))


def test_of_many_launchers_one_starts_the_program_and_a_late_one_finds_nothing(site: Site) -> None:
    lines = site.file("lines")

    async def scenario(host: Host) -> None:
        asked = request("b-1-1", f"echo 1 >> {lines}")
        spec = host.executor._folders.prepare(asked, shutil.which("sh"))
        command = [sys.executable, "-I", "-S", launcher.__file__, str(site.state / "b-1-1")]
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
        running = [subprocess.Popen(command, **pipes) for _ in range(12)]
        said = await asyncio.to_thread(lambda: [each.communicate(spec, timeout=60)[1] for each in running])
        assert (set(said), {each.returncode for each in running}) == ({b""}, {0})
        await host.executor.ensure(asked, may_create=True)
        assert (await host.result())[1].status == "done"
        await host.executor.release("b-1-1")
        late = await asyncio.to_thread(subprocess.run, command, input=spec, capture_output=True, timeout=60)
        assert (late.returncode, late.stderr) == (0, b"")

    site.serve(scenario)
    assert lines.read_text() == "1\n"


SUPERVISOR = """
import asyncio, json, os, sys
from pathlib import Path
from scriptrules.executors.process import make
from scriptrules.model import ExecutionRequest
from scriptrules.plugins.executor import ExecutorContext

base, user, count, release = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

def note(name, text):
    with open(base / name, "a") as file:
        file.write(text + "\\n")
        file.flush()
        os.fsync(file.fileno())

def noted(name):
    return (base / name).read_text().splitlines() if (base / name).exists() else []

async def main():
    table = {"programs": ["sh"], **({} if user is None else {"user": user})}
    executor = make(table, ExecutorContext("local", "store", base / "state", base))
    ended = {line.split()[0] for line in noted("ended")}
    async def collect():
        if len(ended) == count:
            return
        async for key, result in executor.results():
            if key not in ended:
                ended.add(key)
                note("ended", f"{key} {result.status} {result.verdict} {result.output}")
                if release:
                    await executor.release(key)
            if len(ended) == count:
                return
    collecting = asyncio.create_task(collect())
    for n in range(count):
        key = f"k-{n}-1"
        if key not in ended:
            script = f"echo {n} >> {base}/lines; sleep 0.0{n % 10}; echo {n}"
            request = ExecutionRequest(key=key, host="local", name="n", image="sh", args=["-c", script])
            may_create = key not in noted("started")
            await executor.ensure(request, may_create)
            if may_create:
                note("started", key)
    print("all started", flush=True)
    await collecting
    await executor.close()

asyncio.run(main())
"""


def supervisor(base: Path, user: str | None, count: int, release: bool, prefix: tuple[str, ...] = ()) -> Any:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [*prefix, sys.executable, "-c", SUPERVISOR, str(base), json.dumps(user), str(count), str(int(release))]
    return subprocess.Popen(command, env=environ, start_new_session=True, stdout=subprocess.PIPE, text=True)


def finish(base: Path, user: str | None, count: int, release: bool, prefix: tuple[str, ...] = ()) -> None:
    with supervisor(base, user, count, release, prefix) as process:
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("release", [True, False])
def test_a_supervisor_that_is_killed_at_any_point_starts_each_key_exactly_once(site: Site, release: bool) -> None:
    count, chance = 40, random.Random(7)
    for _ in range(20):
        with supervisor(site.base, ME, count, release) as process:
            try:
                process.wait(chance.uniform(0.15, 0.7))
            except subprocess.TimeoutExpired:
                process.kill()
    finish(site.base, ME, count, release)
    assert sorted(map(int, site.file("lines").read_text().split())) == list(range(count))
    ended = [line.split() for line in site.file("ended").read_text().splitlines()]
    assert sorted(ended) == sorted([f"k-{n}-1", "done", "once", str(n)] for n in range(count))
    until(lambda: not processes_of(str(site.base)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_signals_to_the_group_of_the_supervisor_do_not_reach_executions(site: Site, number: int) -> None:
    with supervisor(site.base, ME, 8, False) as process:
        assert process.stdout.readline() == "all started\n"
        os.killpg(process.pid, number)
        process.wait(60)
    finish(site.base, ME, 8, False)
    assert sorted(map(int, site.file("lines").read_text().split())) == list(range(8))
    assert {line.split()[2] for line in site.file("ended").read_text().splitlines()} == {"once"}


# ---- users


@as_root
def test_a_server_of_root_executes_as_nobody_who_can_touch_only_its_box(site: Site) -> None:
    script = """
        id -u; id -G; cat $SCRIPTRULES_INPUT > /dev/null && echo read
        for path in "$SCRIPTRULES_INPUT" ../new "$0/claim" "$0/result.json" "$0/new"; do
            (echo x >> "$path") 2>/dev/null && echo "wrote $path"
        done
        cat "$0/spec" 2>/dev/null && echo spec
        echo work > file; echo 5 > $SCRIPTRULES_OUTPUT
    """
    folder = str(site.state / "x-1-1")
    result = site.result_of("", args=["-c", script, folder], table={"user": None})
    nobody = pwd.getpwnam("nobody")
    assert result.stdout.split() == [str(nobody.pw_uid), str(nobody.pw_gid), "read"]
    assert (result.status, result.output) == ("done", 5)


@as_root
@pytest.mark.parametrize("link", ["ln -s /etc/shadow", "ln -s", "mkfifo", "mkdir"])
def test_an_output_file_that_leads_elsewhere_is_not_read_by_root(site: Site, link: str) -> None:
    secret = site.file("secret")
    secret.write_text('"secret"')
    site.base.chmod(0o755)
    secret.chmod(0o600)
    target = f"{link} {secret}" if link == "ln -s" else link
    result = site.result_of(f"{target} $SCRIPTRULES_OUTPUT; echo 6", table={"user": None})
    assert (result.status, result.output) == ("done", 6)


@as_root
def test_the_box_is_reachable_and_closed_to_others_whether_or_not_the_state_folder_is(tmp_path: Path) -> None:
    script = "pwd; stat -c %a . ..; echo 1"
    hidden, open_to_all = Site(tmp_path / "hidden"), Path("/var/tmp") / f"test-{os.getpid()}"
    hidden.base.mkdir(0o700)
    open_to_all.mkdir(0o755)
    try:
        inside = Site(open_to_all).result_of(script, table={"user": None}).stdout.split()
        outside = hidden.result_of(script, table={"user": None}).stdout.split()
    finally:
        shutil.rmtree(open_to_all)
    assert inside == [f"{open_to_all}/state/local/x-1-1/box/work", "700", "710", "1"]
    assert outside[0].startswith("/var/tmp/scriptrules-")
    assert outside[1:] == ["700", "710", "1"]
    assert not Path(outside[0]).parents[1].exists()


@as_root
def test_a_box_outside_the_state_folder_is_removed_with_the_release(site: Site) -> None:
    boxes: list[Path] = []

    async def scenario(host: Host) -> None:
        result = await host.run("pwd; mkdir -p a/b/c; touch a/b/c/d; chmod 0 a")
        boxes.append(Path(result.stdout.split()[0]).parent)
        assert boxes[0].exists()
        await host.executor.release("x-1-1")

    site.base.chmod(0o700)
    site.serve(scenario, user=None)
    assert not boxes[0].exists()
    assert not boxes[0].parent.exists()


@as_root
def test_somebody_elses_folder_in_the_place_of_the_boxes_is_refused(site: Site) -> None:
    site.base.chmod(0o700)
    folder: list[Path] = []

    async def scenario(host: Host) -> None:
        result = await host.run("pwd")
        folder.append(Path(result.stdout.strip()).parents[1])
        await host.executor.release("x-1-1")

    site.serve(scenario, user=None)
    folder[0].mkdir(mode=0o777)
    nobody = pwd.getpwnam("nobody")
    os.chown(folder[0], nobody.pw_uid, nobody.pw_gid)
    try:
        with pytest.raises(HostUnavailable, match="belongs to somebody else"):
            site.result_of("pwd", table={"user": None})
        assert folder[0].stat().st_mode & 0o777 == 0o777 & ~_umask()
    finally:
        folder[0].rmdir()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@as_root
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv starts the server as another user")
def test_a_server_of_an_ordinary_user_executes_as_itself(site: Site) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(site.base, nobody.pw_uid, nobody.pw_gid)
    # the one capability lets it reach a Python below root's home, and the folders of the tests
    caps = "+dac_read_search"
    prefix = (
        "setpriv",
        "--reuid=nobody",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        f"--inh-caps={caps}",
        f"--ambient-caps={caps}",
    )
    finish(site.base, None, 5, True, prefix)
    assert len(site.file("ended").read_text().splitlines()) == 5
    assert site.file("lines").stat().st_uid == nobody.pw_uid
    with supervisor(site.base, "root", 5, True, prefix) as process:
        assert process.wait(60) == 1


def test_the_launcher_needs_nothing_but_the_standard_library_and_little_of_it(site: Site) -> None:
    command = [sys.executable, "-I", "-S", "-X", "importtime", launcher.__file__, str(site.base / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "os" in imported
    assert not {"json", "re", "enum", "signal", "subprocess", "ctypes", "scriptrules"} & imported


def test_a_full_disk_is_waited_for_and_the_result_is_kept(site: Site) -> None:
    """The result's name is taken by a folder, which refuses it as a full disk would."""

    async def scenario(host: Host) -> None:
        assert isinstance(host.executor, ProcessExecutor)
        await host.start("x-1-1", f"until test -e {site.file('go')}; do sleep 0.02; done; echo 4")
        blocked = site.state / "x-1-1" / "result.json"
        (blocked / "full").mkdir(parents=True)
        site.file("go").touch()
        await asyncio.sleep(0.3)
        shutil.rmtree(blocked)
        assert (await host.result())[1].output == 4

    site.serve(scenario)


# ---- secrets

SECRET = "gk-7421-very-secret"


def files_with(text: str, folder: Path) -> list[Path]:
    """Files below `folder` that have `text`."""
    return [file for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


@pytest.mark.parametrize("user", [ME, pytest.param(None, marks=as_root)])
def test_secret_files_are_the_programs_own_and_gone_when_it_ends(site: Site, user: str | None) -> None:
    script = 'cd "$SCRIPTRULES_SECRETS"; stat -c %a run/token; sha256sum < run/token; id -u; stat -c %u run/token'

    async def scenario(host: Host) -> None:
        result = await host.run(script, secret_files={"/run/token": SECRET, "key": "1\n2"})
        mode, digest, _, user, owner = result.stdout.split()
        assert (mode, digest, owner) == ("600", hashlib.sha256(SECRET.encode()).hexdigest(), user)
        assert not list(site.base.rglob("secrets")) + list(Path("/var/tmp").glob("scriptrules-*/*/secrets"))

    site.serve(scenario, user=user)


def test_secrets_are_on_no_disk_but_in_their_files(site: Site) -> None:
    async def scenario(host: Host) -> None:
        await host.start("x-1-1", 'echo $A "$0" > /dev/null; sleep 600', env={"A": SECRET}, secret_files={"b": SECRET})
        box = site.state / "x-1-1" / "box" / "secrets" / "b"
        await asyncio.to_thread(until, lambda: files_with(SECRET, site.base) == [box])
        command_lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(str(site.base))]
        assert not any(SECRET.encode() in line for line in command_lines)
        await host.executor.stop("x-1-1")
        await host.result()
        assert not files_with(SECRET, site.base)

    site.serve(scenario)


def test_a_lost_launcher_leaves_no_secret_behind(site: Site) -> None:
    async def scenario(host: Host) -> None:
        await host.start("x-1-1", "exec sleep 600", secret_files={"a/b": SECRET})
        await asyncio.to_thread(until, lambda: files_with(SECRET, site.base))
        claim = host.executor._folders.claim("x-1-1")
        os.kill(claim.pid, signal.SIGKILL)
        _, result = await host.result()
        assert result.verdict is Verdict.UNKNOWN
        assert not files_with(SECRET, site.base)

    site.serve(scenario)
    until(lambda: not processes_of(str(site.base)))


@pytest.mark.parametrize("path", ["", "/", "../x", "a//b", "a/./b", "a/", "a\0b"])
def test_a_path_of_a_secret_file_stays_in_its_folder(site: Site, path: str) -> None:
    async def scenario(host: Host) -> None:
        with pytest.raises(InvalidRequest, match="secret_files") as caught:
            host.executor.validate(request("x-1-1", "true", secret_files={path: SECRET}))
        assert SECRET not in str(caught.value)
        with pytest.raises(InvalidRequest, match="folder of another"):
            host.executor.validate(request("x-1-1", "true", secret_files={"a": "1", "/a/b": "2"}))

    site.serve(scenario)
