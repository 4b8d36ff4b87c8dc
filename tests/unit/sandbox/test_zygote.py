"""The life of worker processes: forked in a moment, seen when they end, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from plain_supervisor import hear, say

from scriptrules.errors import SandboxUnavailable
from scriptrules.sandbox import nursery as nursery_module
from scriptrules.sandbox.confine import Limits
from scriptrules.sandbox.nursery import Child, Nursery, how_it_ended

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfds")
HERE = Path(__file__).parent
SOURCES = Path(nursery_module.__file__).parents[2]
USERS = ["root", "nobody"] if os.geteuid() == 0 else ["this user"]


STANDARD = Limits()


def with_nursery(
    body: Callable[[Nursery], Awaitable[None]],
    limits: Limits = STANDARD,
    entry: str = "plain_worker:main",
    kind: str = "asyncio",
) -> None:
    async def main() -> None:
        nursery = Nursery(limits, entry)
        try:
            await body(nursery)
        finally:
            await nursery.close()

    coroutine = main()
    if kind == "asyncio":
        asyncio.run(coroutine)
        return
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as run:
        run.run(coroutine)


def gone(handle: int) -> bool:
    """Whether the process of a pidfd ends within ten seconds, most often at once; if not, it is ended here."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    ended = bool(poll.poll(10_000))
    if not ended:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)
    return ended


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> str:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    kind: str = request.param
    return kind


def test_a_forked_worker_talks_over_its_socket(loop_kind: str) -> None:
    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        with child.sock:
            assert (await hear(child.sock))["walls"]
            assert await say(child.sock, "result = 6 * 7") == {"result": "42"}
            assert await say(child.sock, "result = 6 * 8") == {"result": "48"}

    with_nursery(body, kind=loop_kind)


def test_a_worker_ends_by_itself_when_its_socket_is_closed(loop_kind: str) -> None:
    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        child.sock.close()
        assert (await child.ended()).startswith("exit ")

    with_nursery(body, kind=loop_kind)


def test_a_killed_worker_is_seen_even_while_it_computes(loop_kind: str) -> None:
    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        with child.sock:
            await hear(child.sock)
            asking = asyncio.ensure_future(say(child.sock, "while True: pass"))
            await asyncio.sleep(0)
            child.kill()
            child.kill()
            assert await child.ended() == "killed by signal 9 (SIGKILL)"
            assert await asking is None
        child.kill()
        assert await child.ended() == "killed by signal 9 (SIGKILL)"

    with_nursery(body, kind=loop_kind)


def test_killing_one_worker_leaves_its_neighbours(loop_kind: str) -> None:
    async def body(nursery: Nursery) -> None:
        children = await asyncio.gather(*(nursery.fork() for _ in range(5)))
        assert len({child.pid for child in children}) == 5
        children[2].kill()
        await children[2].ended()
        for child in children:
            with child.sock:
                await hear(child.sock)
                if child is not children[2]:
                    assert await say(child.sock, "result = 1") == {"result": "1"}

    with_nursery(body, kind=loop_kind)


@linux
def test_the_process_id_is_the_one_that_this_process_sees() -> None:
    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        with child.sock:
            await hear(child.sock)
            stat = Path(f"/proc/{child.pid}/stat").read_text()
            assert int(stat.rpartition(")")[2].split()[1]) == nursery.pid, "its parent is the zygote"

    with_nursery(body)


@linux
def test_twenty_workers_forked_and_killed_leave_no_process_and_no_descriptor_behind(loop_kind: str) -> None:
    async def body(nursery: Nursery) -> None:
        await nursery.start()
        before = len(os.listdir("/proc/self/fd"))
        children = [await nursery.fork() for _ in range(20)]
        handles = [os.pidfd_open(child.pid) for child in children]
        for child in children:
            child.sock.close()
            child.kill()
        for child in children:
            await child.ended()
        assert all(gone(handle) for handle in handles)
        assert Path(f"/proc/{nursery.pid}/task/{nursery.pid}/children").read_text() == ""
        assert len(os.listdir("/proc/self/fd")) == before

    with_nursery(body, kind=loop_kind)


@linux
def test_a_closed_nursery_leaves_no_process_and_no_descriptor_behind() -> None:
    handles: list[int] = []
    children: list[Child] = []

    async def body(nursery: Nursery) -> None:
        for _ in range(3):
            children.append(await nursery.fork())
        assert nursery.pid
        handles.extend(os.pidfd_open(child.pid) for child in children)
        handles.append(os.pidfd_open(nursery.pid))

    before = len(os.listdir("/proc/self/fd"))
    with_nursery(body)
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    assert len(poll.poll(0)) == 4, "close() returns only when all are gone"
    for handle in handles:
        os.close(handle)
    for child in children:
        child.sock.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fork_under_way_when_the_nursery_is_closed_starts_nothing_anew() -> None:
    async def body(nursery: Nursery) -> None:
        await nursery.start()
        asked = asyncio.ensure_future(nursery.fork())
        await asyncio.sleep(0)
        await nursery.close()
        with pytest.raises(SandboxUnavailable, match="closed"):
            await asked
        assert nursery.pid is None

    with_nursery(body)


def test_how_a_worker_ended_is_told_in_words() -> None:
    assert how_it_ended(0) == "exit 0"
    assert how_it_ended(3 << 8) == "exit 3"
    assert how_it_ended(70 << 8) == "exit 70 (the worker's code raised an exception)"
    assert how_it_ended(signal.SIGKILL) == f"killed by signal {signal.SIGKILL:d} (SIGKILL)"
    assert "processor seconds" in how_it_ended(signal.SIGXCPU)


@linux
def test_a_worker_that_uses_up_its_lifetime_is_ended_by_the_kernel() -> None:
    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        with child.sock:
            await hear(child.sock)
            assert await say(child.sock, "while True: pass") is None
            assert "its lifetime of processor seconds is over" in await child.ended()

    with_nursery(body, Limits(cpu_lifetime_seconds=1))


@linux
def test_a_worker_has_the_memory_that_it_is_given() -> None:
    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        with child.sock:
            await hear(child.sock)
            assert "result" in await say(child.sock, "result = len(bytearray(20_000_000))")
            assert (await say(child.sock, "bytearray(200_000_000)"))["error"].startswith("MemoryError")

    with_nursery(body, Limits(memory_mb=150))


# ---- what ends everything


@linux
def test_workers_die_with_a_killed_zygote_and_the_next_fork_starts_another(loop_kind: str) -> None:
    async def body(nursery: Nursery) -> None:
        children = [await nursery.fork() for _ in range(3)]
        handles = [os.pidfd_open(child.pid) for child in children]
        first = nursery.pid
        assert first
        os.kill(first, signal.SIGKILL)
        for child in children:
            assert await child.ended() == "killed (the zygote ended)"
            child.sock.close()
        assert all(gone(handle) for handle in handles)
        child = await nursery.fork()
        with child.sock:
            await hear(child.sock)
            assert await say(child.sock, "result = 1") == {"result": "1"}
        assert nursery.pid not in (None, first)

    with_nursery(body, kind=loop_kind)


@linux
def test_a_fork_asked_of_a_zygote_that_dies_meanwhile_is_answered_by_the_next_one() -> None:
    async def body(nursery: Nursery) -> None:
        await nursery.start()
        assert nursery.pid
        os.kill(nursery.pid, signal.SIGSTOP)
        asked = asyncio.ensure_future(nursery.fork())
        await asyncio.sleep(0)
        os.kill(nursery.pid, signal.SIGKILL)
        child = await asked
        with child.sock:
            assert (await hear(child.sock))["walls"]

    with_nursery(body)


def test_a_cancelled_fork_leaves_no_worker_behind() -> None:
    async def body(nursery: Nursery) -> None:
        await nursery.start()
        asked = asyncio.ensure_future(nursery.fork())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        child = await nursery.fork()
        child.sock.close()
        await child.ended()
        if sys.platform == "linux":
            children = f"/proc/{nursery.pid}/task/{nursery.pid}/children"
            while Path(children).read_text():
                await asyncio.sleep(0.01)

    with_nursery(body)


LOSSES = [(user, without) for user in USERS for without in ("", "namespaces", "admin")]
LOSSES = [(user, without) for user, without in LOSSES if without != "admin" or user == "root"]  # who has it to lose


@linux
@pytest.mark.parametrize(("user", "without"), LOSSES)
@pytest.mark.parametrize("stopped", [False, True], ids=["", "while all of them are stopped"])
def test_zygote_and_workers_die_with_a_killed_supervisor(user: str, stopped: bool, without: str) -> None:
    flags = [*(["--nobody"] if user == "nobody" else []), *([f"--without={without}"] if without else [])]
    with subprocess.Popen(
        [sys.executable, str(HERE / "plain_supervisor.py"), *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{SOURCES}{os.pathsep}{HERE}"},
    ) as process:
        assert process.stdin
        assert process.stdout
        pids = []
        for _ in range(3):
            process.stdin.write('"result = 1"\n')
            process.stdin.flush()
            report = json.loads(process.stdout.readline())
            pids.append(report["pid"])
        pids.append(report["zygote"])
        handles = [os.pidfd_open(pid) for pid in pids]
        if stopped:  # they cannot see their sockets end: only the kernel can end them
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
        process.kill()
        process.wait()
        left = [handle for handle in handles if not gone(handle)]
        assert not left


# ---- what goes wrong at the start


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> str:
    (tmp_path / "odd_worker.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    return "odd_worker:main"


def test_a_zygote_that_cannot_start_says_why_and_what_to_do() -> None:
    async def body(nursery: Nursery) -> None:
        for _ in range(2):
            with pytest.raises(SandboxUnavailable, match=r"No module named 'no_such_worker'.*scriptrules doctor"):
                await nursery.fork()

    with_nursery(body, entry="no_such_worker:main")


def test_an_interpreter_that_cannot_be_run_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))

    async def body(nursery: Nursery) -> None:
        with pytest.raises(SandboxUnavailable, match=r"no-python.*scriptrules doctor"):
            await nursery.fork()

    with_nursery(body)


def test_a_worker_that_cannot_be_prepared_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = module(
        tmp_path,
        monkeypatch,
        """
        def prepare(limits):
            raise ValueError("no timer")
        def main(limits, walls):
            pass
        """,
    )

    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        child.sock.close()
        assert await child.ended() == "exit 71 (it could not be prepared or confined): ValueError: no timer"

    with_nursery(body, entry=entry)


def test_an_exception_of_the_entry_ends_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = module(tmp_path, monkeypatch, "def main(limits, walls):\n    raise ValueError\n")

    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        child.sock.close()
        assert await child.ended() == "exit 70 (the worker's code raised an exception)"

    with_nursery(body, entry=entry)


def test_where_there_are_no_pidfds_the_zygote_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = module(
        tmp_path,
        monkeypatch,
        """
        import os
        from plain_worker import main
        vars(os).pop("pidfd_open", None)
        """,
    )

    async def body(nursery: Nursery) -> None:
        first, second = await nursery.fork(), await nursery.fork()
        with first.sock, second.sock:
            await hear(first.sock)
            await hear(second.sock)
            first.kill()
            assert await first.ended() == "killed by signal 9 (SIGKILL)"
            assert await say(second.sock, "result = 1") == {"result": "1"}
            await nursery.close()
            assert await hear(second.sock) is None
            assert await second.ended() == "killed (its nursery was closed)"

    with_nursery(body, entry=entry)


def test_an_entry_that_returns_ends_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = module(tmp_path, monkeypatch, "def main(limits, walls):\n    pass\n")

    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        child.sock.close()
        assert await child.ended() == "exit 0"

    with_nursery(body, entry=entry)


def test_the_zygote_has_one_thread_and_no_event_loop_when_it_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = module(
        tmp_path,
        monkeypatch,
        """
        import os, sys
        def main(limits, walls):
            heavy = {"asyncio", "ssl", "http", "multiprocessing", "subprocess", "docker", "starlette"}
            os.write(0, repr(sorted(heavy & set(sys.modules))).encode())
        """,
    )

    async def body(nursery: Nursery) -> None:
        child = await nursery.fork()
        with child.sock:
            assert await asyncio.get_running_loop().sock_recv(child.sock, 100) == b"[]"
        if sys.platform == "linux":
            assert len(os.listdir(f"/proc/{nursery.pid}/task")) == 1

    with_nursery(body, entry=entry)
