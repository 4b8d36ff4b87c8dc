"""A supervisor in a process of its own, so that tests can be it as another user, or kill it.

It reads a line of JSON, the source of what a fresh worker is to run, and answers with a line of JSON.

``--nobody`` gives up root first: Python itself may be installed where only root can read, so it is laid open in a mount
namespace of its own. ``--without=WALL,…`` makes the kernel refuse what those walls are made of, as older kernels and
containers do.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import platform
import signal
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

NOBODY = 65534
X86 = platform.machine() == "x86_64"
PRCTL = 157 if X86 else 167
REFUSALS: dict[
    str, tuple[int, tuple[int, int] | None]
] = {  # wall: system call, and which of its arguments has which value (None: always)
    "namespaces": (272 if X86 else 97, None),
    "seccomp": (PRCTL, (0, 22)),
    "mdwe": (PRCTL, (0, 65)),
    "landlock": (444, None),
    "rlimits": (302 if X86 else 261, (1, 6)),  # of processes
}


def become_nobody() -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def mount(source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
        texts = [text.encode() if text is not None else None for text in (source, target, kind, data)]
        check(libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))

    check(libc.unshare(0x00020000))
    mount("none", "/", None, 0x4000 | 0x40000, None)
    entries = (sys.base_prefix, sys.prefix, *sys.path)
    places = {Path(entry).resolve() for entry in entries if os.path.isdir(entry)}
    outer: dict[
        Path, list[tuple[Path, str]]
    ] = {}  # the outermost folder that others may not enter: what has to be reached behind it, and where it waits
    for place in sorted(place for place in places if not places & set(place.parents)):
        closed = [folder for folder in (place, *place.parents) if not folder.stat().st_mode & 1]
        if closed:
            aside = tempfile.mkdtemp()
            mount(str(place), aside, None, 0x1000, None)
            outer.setdefault(closed[-1], []).append((place, aside))
    for folder, behind in outer.items():
        mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")
        for place, aside in behind:
            place.mkdir(parents=True)
            mount(aside, str(place), None, 0x1000, None)
            check(libc.umount2(aside.encode(), 2))
            os.rmdir(aside)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execv(sys.executable, [sys.executable, __file__, *(flag for flag in sys.argv[1:] if flag != "--nobody")])


def do_without(walls: list[str]) -> None:
    """Have the kernel answer EPERM; "admin" takes CAP_SYS_ADMIN from root instead."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = []
    for wall in walls:
        if wall == "admin":
            code_of_sys_admin = 21
            assert libc.prctl(24, code_of_sys_admin, 0, 0, 0) == 0
            header, data = struct.pack("=Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
            assert libc.capget(header, data) == 0
            words = list(struct.unpack("=6I", data.raw))
            words[:2] = [word & ~(1 << code_of_sys_admin) for word in words[:2]]
            assert libc.capset(header, struct.pack("=6I", *words)) == 0
            continue
        number, argument = REFUSALS[wall]
        checks = [] if argument is None else [(0x20, 0, 0, 16 + 8 * argument[0]), (0x15, 0, 1, argument[1])]
        body = [*checks, (0x06, 0, 0, 0x00050001)]
        code += [(0x20, 0, 0, 0), (0x15, 0, len(body), number), *body]
    code.append((0x06, 0, 0, 0x7FFF0000))
    filters = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    kept = ctypes.create_string_buffer(filters)
    program = struct.pack("@HP", len(code), ctypes.addressof(kept))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program) == 0


async def say(sock: socket.socket, source: str) -> Any:
    data = source.encode()
    await asyncio.get_running_loop().sock_sendall(sock, len(data).to_bytes(4, "little") + data)
    return await hear(sock)


async def hear(sock: socket.socket) -> Any:
    """The next message of a worker; None where it has ended."""
    head = await _exactly(sock, 4)
    body = await _exactly(sock, int.from_bytes(head, "little")) if head else b""
    return json.loads(body) if body else None


async def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            piece = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        except ConnectionResetError:
            return b""
        if not piece:
            return b""
        data += piece
    return data


def look_at(pid: int) -> dict[str, Any]:
    """What the kernel says about a process."""
    proc = Path(f"/proc/{pid}")
    facts: dict[str, Any] = {
        "status": dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line),
        "limits": (proc / "limits").read_text(),
        "session": os.getsid(pid),
    }
    try:
        facts["mounts"] = (proc / "mountinfo").read_text().splitlines()
        facts["open"] = sorted(os.listdir(proc / "fd"))
        facts["root"] = os.listdir(proc / "root")
        facts["environ"] = (proc / "environ").read_text()
        names = ("pid", "net", "mnt", "ipc", "uts")
        facts["own"] = [
            name for name in names if os.readlink(proc / "ns" / name) != os.readlink(f"/proc/self/ns/{name}")
        ]
    except PermissionError as error:
        facts["closed"] = str(error)
    return facts


async def serve() -> None:
    from scriptrules.sandbox.confine import Limits
    from scriptrules.sandbox.nursery import Nursery

    nursery = Nursery(Limits(), "plain_worker:main")
    kept = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        child = await nursery.fork()
        kept.append(child)
        told = await hear(child.sock)
        facts = look_at(child.pid) | {"zygote": look_at(nursery.pid or 0)}
        answer = await say(child.sock, json.loads(line).replace("SUPERVISOR", str(os.getpid())))
        ended = None if answer else await child.ended()
        report = {"walls": told["walls"], "answer": answer, "ended": ended, "facts": facts, "user": os.geteuid()}
        print(json.dumps(report | {"pid": child.pid, "zygote": nursery.pid}), flush=True)  # noqa: T201
    await nursery.close()
    for child in kept:
        child.sock.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "--nobody" in sys.argv:
        become_nobody()
    for flag in sys.argv[1:]:
        if flag.startswith("--without="):
            do_without(flag.removeprefix("--without=").split(","))
    asyncio.run(serve())
