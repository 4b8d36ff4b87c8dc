"""What arbitrary Python can do in a confined worker after a complete escape from the language: compute, and talk."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scriptrules.sandbox import seccomp
from scriptrules.sandbox.confine import WALLS_REQUIRED, missing

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="these walls are Linux's"
)

HERE = Path(__file__).parent
SOURCES = Path(seccomp.__file__).parents[2]
USERS = ["root", "nobody"] if os.geteuid() == 0 else ["this user"]
NUMBERS = {"x86_64": {"bpf": 321, "perf": 298, "userfaultfd": 323, "pidfd_open": 434, "io_uring": 425, "clone3": 435}}
NUMBERS["aarch64"] = {"bpf": 280, "perf": 241, "userfaultfd": 282, "pidfd_open": 434, "io_uring": 425, "clone3": 435}

Run = Callable[[str], dict[str, Any]]

PRELUDE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
mmap = libc.mmap
mmap.restype = ctypes.c_long
def native(function, *args):
    answer = function(*args)
    if answer == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
"""


@contextlib.contextmanager
def supervisor(user: str, without: str = "") -> Iterator[Run]:
    """A supervisor of this user; what it yields runs Python in a fresh worker."""
    flags = ["--nobody"] if user == "nobody" else []
    flags += [f"--without={without}"] if without else []
    process = subprocess.Popen(
        [sys.executable, str(HERE / "plain_supervisor.py"), *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        extra_groups=[5, 6] if os.geteuid() == 0 else None,
        env={**os.environ, "PYTHONPATH": f"{SOURCES}{os.pathsep}{HERE}", "SECRET": "in the supervisor's environment"},
    )
    assert process.stdin
    assert process.stdout
    lines_in, lines_out = process.stdin, process.stdout

    def ask(source: str) -> dict[str, Any]:
        lines_in.write(json.dumps(source) + "\n")
        lines_in.flush()
        report: dict[str, Any] = json.loads(lines_out.readline())
        assert report["user"] == {"root": 0, "nobody": 65534, "this user": os.geteuid()}[user]
        return report

    with process:
        yield ask
        lines_in.close()
        assert process.wait(30) == 0


@pytest.fixture(scope="module", params=USERS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with supervisor(request.param) as ask:
        yield ask


def number(name: str) -> int:
    return NUMBERS[platform.machine()][name]


DEADLY = {
    "fork": "os.fork()",
    "fork natively": "native(libc.fork)",
    "vfork": "native(libc.vfork)",
    "clone a process": "native(libc.syscall, NUMBER_clone3, ctypes.create_string_buffer(88), 88)",
    "execute a program": "os.execv('/bin/true', ['true'])",
    "start a thread": "import _thread; _thread.start_new_thread(print, ())",
    "make a TCP socket": "import socket; socket.socket(socket.AF_INET)",
    "make a UDP socket": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "make an abstract socket": "import socket; socket.socket(socket.AF_UNIX).connect(chr(0) + 'x')",
    "make a pair of sockets": "import socket; socket.socketpair()",
    "connect the only socket elsewhere": "native(libc.connect, 0, bytes(110), 110)",
    "pass descriptors": "native(libc.sendmsg, 0, bytes(56), 0)",
    "trace the supervisor": "native(libc.ptrace, 16, SUPERVISOR, 0, 0)",
    "trace the zygote": "native(libc.ptrace, 16, 1, 0, 0)",
    "kill the supervisor": "os.kill(SUPERVISOR, 9)",
    "kill everybody": "os.kill(-1, 9)",
    "signal itself": "native(libc.kill, 0, 0)",
    "get a handle of a process": "native(libc.syscall, NUMBER_pidfd_open, 1, 0)",
    "read another's memory": "native(libc.process_vm_readv, SUPERVISOR, bytes(16), 1, bytes(16), 1, 0)",
    "mount": "native(libc.mount, b'none', b'/', b'tmpfs', 0, None)",
    "change the root": "os.chroot('/')",
    "enter namespaces": "native(libc.unshare, 0x10000000)",
    "change the user": "os.setuid(0)",
    "change groups": "os.setgroups([0])",
    "use io_uring": "native(libc.syscall, NUMBER_io_uring, 8, ctypes.create_string_buffer(120))",
    "load a BPF program": "native(libc.syscall, NUMBER_bpf, 0, ctypes.create_string_buffer(128), 128)",
    "watch performance events": "native(libc.syscall, NUMBER_perf, ctypes.create_string_buffer(128), 0, -1, -1, 0)",
    "handle page faults": "native(libc.syscall, NUMBER_userfaultfd, 0)",
    "make a memory file": "native(libc.memfd_create, b'x', 0)",
    "make a pipe": "os.pipe()",
    "duplicate a descriptor": "native(libc.dup, 0)",
    "map executable memory": "native(mmap, None, 4096, 5, 0x22, -1, 0)",
    "map writable executable memory": "native(mmap, None, 4096, 7, 0x22, -1, 0)",
    "map its socket": "native(mmap, None, 4096, 1, 2, 0, 0)",
    "make memory executable": "page = native(mmap, None, 4096, 3, 0x22, -1, 0)\n"
    "native(libc.mprotect, ctypes.c_long(page), 4096, 5)",
    "share memory": "native(libc.shmget, 1, 4096, 0o1600)",
    "raise its limits": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
    "read its limits": "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)",
    "call by another convention": "native(libc.syscall, 0x40000001, 0, b'x', 1)",
    "make a folder": "os.mkdir('/x')",
    "remove a file": "os.unlink('/x')",
    "set a timer": "import signal; signal.setitimer(signal.ITIMER_REAL, 1)",
    "wait with poll": "import select; poll = select.poll(); poll.register(0); poll.poll(0)",
}

REFUSED = {
    "read a file": ("open('/etc/passwd')", "FileNotFoundError"),
    "read its own source": ("open(__import__('json').__file__)", "FileNotFoundError"),
    "write a file": ("open('/tmp/breach', 'w')", "FileNotFoundError"),
    "read /proc": ("open('/proc/self/status')", "FileNotFoundError"),
    "read the supervisor's memory": ("open('/proc/SUPERVISOR/mem', 'rb')", "FileNotFoundError"),
    "read the supervisor's environment": ("open('/proc/SUPERVISOR/environ')", "FileNotFoundError"),
    "list the root": ("os.listdir('/')", "FileNotFoundError"),
    "list processes": ("os.listdir('/proc')", "FileNotFoundError"),
    "look at a file": ("os.stat('/etc/passwd')", "FileNotFoundError"),
    "read a variable of the environment": ("os.environ['PYTHONHASHSEED']", "KeyError"),
    "read the supervisor's variables": ("os.environ['SECRET']", "KeyError"),
    "write to standard output": ("os.write(1, b'x')", "OSError"),
    "write to standard error": ("os.write(2, b'x')", "OSError"),
    "read another descriptor": ("os.read(3, 1)", "OSError"),
    "close its socket": ("os.close(0)", "OSError"),
    "sleep": ("import time; time.sleep(0.01)", "PermissionError"),
    "yield the processor": ("os.sched_yield()", "PermissionError"),
    "get randomness": ("os.urandom(8)", "NotImplementedError"),
    "handle a signal": ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", "PermissionError"),
    "load a library": ("ctypes.CDLL('libanl.so.1')", "OSError"),
    "import from the disk": ("import asyncio", "ModuleNotFoundError"),
    "import what is built in": ("import faulthandler", "ModuleNotFoundError"),
    "regain privileges by prctl": ("native(libc.prctl, 4, 1, 0, 0, 0)", "PermissionError"),
    "duplicate its socket": ("os.dup(0)", "OSError"),
}


def prepared(source: str) -> str:
    for name in NUMBERS["x86_64"]:
        source = source.replace(f"NUMBER_{name}", str(number(name)))
    return PRELUDE + source


@pytest.mark.parametrize("attempt", DEADLY)
def test_a_worker_dies_when_it_tries_to(run: Run, attempt: str) -> None:
    report = run(prepared(DEADLY[attempt]))
    assert report["answer"] is None, report["answer"]
    assert report["ended"] == "killed by signal 31 (SIGSYS: a forbidden system call, or a crash)"


@pytest.mark.parametrize("attempt", REFUSED)
def test_a_worker_gets_an_error_when_it_tries_to(run: Run, attempt: str) -> None:
    source, error = REFUSED[attempt]
    report = run(prepared(source))
    assert report["answer"], report["ended"]
    assert report["answer"].get("error", "").startswith(error), report["answer"]


WORKS = {
    "switch greenlets": (
        "import greenlet\nmain = greenlet.getcurrent()\ndef other(x): return main.switch(x + 1) * 2\n"
        "g = greenlet.greenlet(other)\nresult = (g.switch(1), g.switch(5))",
        (2, 10),
    ),
    "throw across greenlets": (
        "import greenlet\ndef fail(): raise KeyError('x')\n"
        "try: greenlet.greenlet(fail).switch()\nexcept KeyError as e: result = e.args",
        ("x",),
    ),
    "park thousands of greenlets": (
        "import greenlet\nmain = greenlet.getcurrent()\n"
        "parked = [greenlet.greenlet(lambda: main.switch()) for _ in range(5000)]\n"
        "for g in parked: g.switch()\nfor g in parked: g.throw()\nresult = sum(g.dead for g in parked)",
        5000,
    ),
    "encode and decode": (
        "import msgspec\nresult = msgspec.msgpack.decode(msgspec.msgpack.encode({'a': [1, 2.5, None]}))",
        {"a": [1, 2.5, None]},
    ),
    "define and decode structs": (
        "import msgspec\nS = msgspec.defstruct('S', [('a', int)])\n"
        "try: msgspec.json.decode(b'{\"a\": \"x\"}', type=S)\nexcept msgspec.ValidationError as e: result = str(e)",
        "Expected `int`, got `str` - at `$.a`",
    ),
    "hold large objects": ("data = bytearray(50_000_000)\ndata = data * 2\nresult = len(data)\ndel data", 100_000_000),
    "hold many objects": ("data = [[i] for i in range(500_000)]\nresult = len(data)\ndel data", 500_000),
    "collect garbage": ("import gc\nx = []\nx.append(x)\ndel x\nresult = gc.collect() > 0", True),
    "run out of memory": (
        "try: data = bytearray(2_000_000_000)\nexcept MemoryError: result = 'out of memory'",
        "out of memory",
    ),
    "run out of memory slowly": (
        "data = []\ntry:\n    while True: data.append(bytearray(1_000_000))\n"
        "except MemoryError: data = None; result = 'out of memory'",
        "out of memory",
    ),
    "recurse without end": (
        "def f(): return f()\ntry: f()\nexcept RecursionError: result = 'too deep'",
        "too deep",
    ),
    "fail to compile": (
        "result = []\nfor text in ('(', 'x = = 1', 'é = $', \"f'{'\"):\n"
        "    try: compile(text, 'rules/a.py', 'exec')\n    except SyntaxError as e: result.append(e.lineno)",
        [1, 1, 1, 1],
    ),
    "format a traceback": (
        "import traceback\ntry: 1 / 0\nexcept ZeroDivisionError as e: result = traceback.format_exception(e)[-1]",
        "ZeroDivisionError: division by zero\n",
    ),
    "compute with big integers": (
        "import sys\nsys.set_int_max_str_digits(0)\nn = 7 ** 60_000\n"
        "result = int(str(n)) == n and divmod(n * n, n) == (n, 0)",
        True,
    ),
    "read times": ("import datetime\nresult = datetime.datetime.strptime('3 Nov 2026', '%d %b %Y').month", 11),
    "format times": ("import datetime\nresult = datetime.date(2026, 11, 3).strftime('%a %d %B')", "Tue 03 November"),
    "compute with decimals": ("import decimal\nresult = str(decimal.Decimal(1) / decimal.Decimal(7))[:6]", "0.1428"),
    "use identifiers that are normalised": ("ﬁne = 1\nresult = fine", 1),
    "name characters": ("import unicodedata\nresult = '\\N{EM DASH}' + unicodedata.normalize('NFKC', 'ﬀ')", "—ff"),
    "use codecs": (
        "result = ['ä'.encode(c).decode(c) for c in ('utf-8', 'utf-16', 'utf-32', 'latin-1', 'idna', 'utf-7')]",
        ["ä"] * 6,
    ),
    "hash": (
        "import hashlib\nresult = [hashlib.new(n, b'x').hexdigest()[:4] for n in ('md5', 'sha1', 'sha256', 'sha3_256')]"
        " + [hashlib.blake2b(b'x').hexdigest()[:4]]",
        ["9dd4", "11f6", "2d71", "741e", "0909"],
    ),
    "use base64": ("import base64\nresult = base64.b85decode(base64.b85encode(b'abc'))", b"abc"),
    "use statistics": ("import statistics\nresult = statistics.quantiles([1, 2, 3, 4]), statistics.stdev([1, 3])",
                       ([1.25, 2.5, 3.75], 1.4142135623730951)),
    "use fractions": ("import fractions\nresult = str(fractions.Fraction('1/3') + 1)", "4/3"),
    "use regular expressions": ("import re\nresult = re.findall(r'(?i)[a-c]+', 'xABCd')", ["ABC"]),
    "use json": ("import json\nresult = json.loads(json.dumps({'a': [1.5, 'ü']}, indent=1))", {"a": [1.5, "ü"]}),
    "wrap text": ("import textwrap\nresult = textwrap.fill('aa bb cc', 5)", "aa bb\ncc"),
    "parse addresses": (
        "import urllib.parse\nresult = urllib.parse.urlsplit('http://[::1]:8/é?q=1').hostname, urllib.parse.quote('ü')",
        ("::1", "%C3%BC"),
    ),
    "draw from a seed": ("import random\nresult = random.Random('x').random() == random.Random('x').random()", True),
    "use the rest of what is pure": (
        "import itertools, functools, collections, math, heapq, bisect, operator, string, copy, calendar, difflib\n"
        "result = collections.Counter(itertools.chain('ab', 'b'))['b'] + math.comb(5, 2) + bisect.bisect([1, 3], 2)",
        13,
    ),
    "read the clock": ("import time\nresult = time.time() > 1e9 and time.monotonic() > 0", True),
    "be interrupted by a timer set before": ("while ticks() < 3: pass\nresult = ticks() >= 3", True),
}  # fmt: skip


@pytest.mark.parametrize("what", WORKS)
def test_a_worker_can(run: Run, what: str) -> None:
    source, result = WORKS[what]
    report = run(source)
    assert report["answer"], report["ended"]
    assert report["answer"].get("result") == repr(result), report["answer"]


def test_text_hashes_the_same_in_every_zygote(run: Run) -> None:
    code = "import sys; print(hash('scriptrules'))"
    alone = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True
    )
    assert run("result = hash('scriptrules')")["answer"]["result"] == alone.stdout.strip()


def test_every_wall_stands_here(run: Run) -> None:
    walls = run("")["walls"]
    assert missing(walls) == []
    assert set(walls) == set(WALLS_REQUIRED)
    assert walls["uid"] == "on (65534)"


def test_the_kernel_confirms_what_the_walls_report(run: Run) -> None:
    report = run("")
    status = report["facts"]["status"]
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert report["user"] != 0 or status["Groups"].split() == []
    assert {int(status[kind], 16) for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["Threads"] == "1"
    assert len(status["NSpid"].split()) == 2
    limits = {line[:26].strip(): line[26:].split()[:2] for line in report["facts"]["limits"].splitlines()}
    assert limits["Max open files"] == ["1", "1"]
    assert limits["Max processes"] == ["0", "0"]
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max address space"] == [str(512 * 1024 * 1024)] * 2
    assert limits["Max cpu time"] == ["3600", "3601"]


def test_a_worker_keeps_one_descriptor_and_nothing_of_the_machine(run: Run) -> None:
    report = run("")
    facts = report["facts"]
    if report["user"] == 0:
        assert facts["open"] == ["0"]
        assert facts["root"] == []
        assert len(facts["mounts"]) == 1
        assert facts["own"] == ["pid", "net", "mnt", "ipc", "uts"]
        assert "SECRET" not in facts["environ"]
    else:
        # Not dumpable: closed even to their own user.
        assert "Permission denied" in facts["closed"]
        assert "Permission denied" in facts["zygote"]["closed"]


ALONE = {
    "_landlock": ["open('/etc/passwd')", "os.listdir('/')", "os.kill(os.getppid(), 0)",
                  "os.mkdir(f'/tmp/{os.getpid()}-wall')", "import socket; socket.create_connection(('127.0.0.1', 9))"],
    "_refuse_executable_memory": ["import mmap; mmap.mmap(-1, 4096, prot=7)"],
    "_freeze_privileges": ["if confine._LIBC.prctl(3, 0, 0, 0, 0) == 0: raise PermissionError  # not dumpable"],
    "_drop_capabilities": ["os.chroot('/')", "os.setuid(5)"],
    "_become_nobody": ["os.kill(1, 0)", "os.setuid(0)"],
}  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="root has the most to lose")
@pytest.mark.parametrize(("wall", "attempt"), [(wall, attempt) for wall, all_ in ALONE.items() for attempt in all_])
def test_each_wall_holds_alone(wall: str, attempt: str) -> None:
    code = (
        f"import os, socket, encodings.idna\nfrom scriptrules.sandbox import confine\n"
        f"confine._freeze_privileges()\nconfine.{wall}()\n"
        f"try:\n    {attempt}\nexcept PermissionError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "refused\n", done


BACKSTOPS = {
    "fork": ("os.fork()", "BlockingIOError"),
    "start a thread": ("import _thread; _thread.start_new_thread(print, ())", "RuntimeError"),
    "open a file": ("open('/etc/passwd')", "OSError: [Errno 24]"),
    "make a socket": ("import socket; socket.socket()", "OSError: [Errno 24]"),
    "make a pipe": ("os.pipe()", "OSError: [Errno 24]"),
    "make a memory file": ("native(libc.memfd_create, b'x', 0)", "OSError: [Errno 24]"),
    "raise its limits": ("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))", "ValueError"),
    "execute a program": ("os.execv('/bin/true', ['true'])", ("FileNotFoundError", "PermissionError")),
    "kill the supervisor": ("os.kill(SUPERVISOR, 9)", ("ProcessLookupError", "PermissionError")),
    "trace the supervisor": ("native(libc.ptrace, 16, SUPERVISOR, 0, 0)", ("ProcessLookupError", "PermissionError")),
    "trace the zygote": ("native(libc.ptrace, 16, os.getppid(), 0, 0)", "PermissionError"),
    "change the user": ("os.setuid(0)", ("PermissionError", "OSError: [Errno 22]")),
    "change the root": ("os.chroot('/')", "PermissionError"),
    "mount": ("native(libc.mount, b'none', b'/', b'tmpfs', 0, None)", "PermissionError"),
    "make memory executable": (
        "page = native(mmap, None, 4096, 3, 0x22, -1, 0)\nnative(libc.mprotect, ctypes.c_long(page), 4096, 5)",
        "PermissionError",
    ),
    "map executable memory": (
        "native(mmap, None, 4096, 7, 0x22, -1, 0)",
        "PermissionError",
    ),
}


@pytest.fixture(
    scope="module",
    params=[(user, lacks) for lacks in ("seccomp", "seccomp,namespaces", "seccomp,landlock") for user in USERS],
    ids="-".join,
)
def lesser_run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """As `run`, where the kernel lacks seccomp filters, and more."""
    with supervisor(*request.param) as ask:
        yield ask


@pytest.mark.parametrize("attempt", BACKSTOPS)
def test_without_the_filter_of_calls_the_other_walls_still_keep_a_worker_from(lesser_run: Run, attempt: str) -> None:
    source, error = BACKSTOPS[attempt]
    report = lesser_run(prepared(source))
    assert "seccomp (off" in missing(report["walls"])[0]
    assert report["answer"], report["ended"]
    assert report["answer"].get("error", "").startswith(error), report["answer"]


def test_without_the_filter_of_calls_a_worker_cannot_kill_its_zygote(lesser_run: Run) -> None:
    zygote = lesser_run("")["zygote"]
    for attempt in ("os.kill(os.getppid(), 9)", "os.kill(-1, 9)"):
        lesser_run(prepared(attempt))
    assert lesser_run("")["zygote"] == zygote


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("wall", ["namespaces", "seccomp", "landlock", "mdwe", "rlimits"])
def test_a_wall_that_the_kernel_refuses_is_reported_and_the_others_stand(user: str, wall: str) -> None:
    with supervisor(user, without=wall) as ask:
        report = ask("result = 1")
    off = {name: told for name, told in report["walls"].items() if not told.startswith("on")}
    if wall == "namespaces":
        assert off.pop("root") == "off: needs namespaces"
    assert set(off) == {wall}
    assert off[wall] == ("off: RLIMIT_NPROC cannot be set" if wall == "rlimits" else off[wall])
    assert missing(report["walls"])[0].startswith(wall)
    assert report["answer"] == {"result": "1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lose it")
def test_a_root_that_may_not_leave_its_namespaces_leaves_them_as_nobody() -> None:
    with supervisor("root", without="admin") as ask:
        report = ask("result = 1")
    assert report["walls"]["namespaces"] == "on (user pid net mnt ipc uts)"
    assert missing(report["walls"]) == []
    assert report["answer"] == {"result": "1"}


def test_missing_names_each_wall_that_does_not_stand_and_why() -> None:
    walls = dict.fromkeys(WALLS_REQUIRED, "on") | {"landlock": "off: Function not implemented", "uid": "on (65534)"}
    del walls["mdwe"]
    assert missing(walls) == ["landlock (off: Function not implemented)", "mdwe (off: not reported)"]


ALLOW, KILL, EBADF, ENOENT, EPERM = 0x7FFF0000, 0x80000000, 0x50000 | 9, 0x50000 | 2, 0x50000 | 1


def answer(machine: str, name: str | int, *args: int, arch: int | None = None) -> int:
    """What the filter answers to a call, worked out here, as no machine has every processor."""
    audit, numbers = seccomp.MACHINES[machine]
    call = name if isinstance(name, int) else numbers[name]
    data = struct.pack("=IIQ6Q", call, audit if arch is None else arch, 0, *args, *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    word, at = 0, 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:
            word = struct.unpack_from("=I", data, value)[0]
        elif operation == 0x06:
            return int(value)
        else:
            at += if_true if {0x15: word == value, 0x45: bool(word & value)}[operation] else if_false


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_answers_each_call_as_meant(machine: str) -> None:
    assert answer(machine, "read", 0) == ALLOW
    assert answer(machine, "write", 0) == ALLOW
    assert answer(machine, "write", 1) == EBADF
    assert answer(machine, "read", 2**32 - 1) == EBADF
    assert answer(machine, "mmap", 0, 4096, 3, 0x22) == ALLOW
    assert answer(machine, "mmap", 0, 4096, 3, 0x02) == KILL
    assert answer(machine, "mmap", 0, 4096, 4, 0x22) == KILL
    assert answer(machine, "mprotect", 0, 4096, 3) == ALLOW
    assert answer(machine, "mprotect", 0, 4096, 5) == KILL
    assert answer(machine, "rt_sigreturn") == ALLOW
    assert answer(machine, "openat") == ENOENT
    assert answer(machine, "close", 0) == EBADF
    assert answer(machine, "prctl") == EPERM
    assert answer(machine, "write", 0, arch=0x40000003) == KILL


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_kills_whatever_is_on_no_list(machine: str) -> None:
    numbers = set(seccomp.MACHINES[machine][1].values())
    for call in {*range(600), *(0x40000000 + number for number in range(600))} - numbers:
        assert answer(machine, call) == KILL


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_knows_every_call_that_it_lets_through(machine: str) -> None:
    numbers = seccomp.MACHINES[machine][1]
    assert {*seccomp.ALLOWED, *seccomp.ON_SOCKET, "mmap", "mprotect"} <= set(numbers)
    assert len(set(numbers.values())) == len(numbers)
    program = seccomp.program(machine)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096
