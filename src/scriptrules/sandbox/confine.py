"""The walls around a worker process: what it can still do is compute, and talk over descriptor 0.

`isolate` is done once by the zygote (see `scriptrules.sandbox.zygote`), `confine` by each worker. Every wall reports
what it did: ``"on"``, ``"on (detail)"`` or ``"off: reason"``. None of them raises for what the platform lacks; it is
for `missing` and ``sandbox.require = "full"`` to refuse. Each is a backstop for the others:

* namespaces: no other process, network, mount or host name exists; the root folder is empty.
* uid, capabilities, privileges: nobody, with nothing, and no way to regain it.
* rlimits: one descriptor, no child, no file, bounded memory; they hold on every platform.
* landlock: no path, no TCP, no signal or abstract socket outside.
* mdwe: no memory becomes executable.
* seccomp: no system call but the few in `scriptrules.sandbox.seccomp`.

Tried and rejected:

* pysandbox libraries: ``landlock`` covers files only, ``sandlock`` starts programs (80 ms each) and cannot confine a
  forked worker.
* Asking ``/sys/kernel/security/lsm`` for Landlock: it need not be mounted; the system call knows.
* Landlock in the zygote, once: workers would share a domain, and could signal each other.
* Setting the signal on the parent's death first: a change of user clears it.
* A user namespace for root as well: a lone root cannot map another id from inside; plain namespaces and a real change
  of user are stronger. It is the fallback where plain ones are refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
import sys
from collections.abc import Callable

import msgspec

from scriptrules.sandbox import seccomp

NOBODY = 65534  # user and group id
WALLS_REQUIRED = (
    "seccomp", "rlimits", "namespaces", "root", "landlock", "mdwe", "uid", "capabilities", "privileges",
)  # fmt: skip
DESCRIPTORS = 256  # the zygote's limit, so that no higher one can exist to be closed

_MEGABYTE = 1024 * 1024
_LINUX = sys.platform == "linux"

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MDWE = 65
_MDWE_REFUSE_EXEC_GAIN = 1

_SIGKILL = 9

_NEW_USER = 0x10000000
_NAMESPACES = {  # name: unshare flag
    "pid": 0x20000000,
    "net": 0x40000000,
    "mnt": 0x00020000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
}

_MS_READ_ONLY, _MS_NO_SUID, _MS_NO_DEV, _MS_NO_EXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_UNMOUNT_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # glibc has no function for it

_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446  # the same on every machine
_LANDLOCK_VERSION = 1  # flag: answer the ABI instead
_LANDLOCK_FILES = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI: number of rights on files, of which all are taken
_CAPABILITY_VERSION = 0x20080522


class Limits(msgspec.Struct, frozen=True):
    """What one worker may use in its whole life. Budgets of a single slice are the worker's own business."""

    memory_mb: int = 512  # address space
    cpu_lifetime_seconds: int = 3600  # a backstop: a worker that lives long is replaced long before
    file_size: int = 0  # bytes
    descriptors: int = 1  # number 0 is the socket
    processes: int = 0
    core_size: int = 0  # bytes


def missing(walls: dict[str, str]) -> list[str]:
    """The walls that do not stand.

    Args:
        walls: what `isolate` and `confine` reported, together.

    Returns:
        For each that is not on, its name and why: ``"landlock (off: not Linux)"``.
    """
    return [
        f"{name} ({walls.get(name, 'off: not reported')})"
        for name in WALLS_REQUIRED
        if not walls.get(name, "").startswith("on")
    ]


def confine(limits: Limits, parent: int) -> dict[str, str]:
    """Give up, for good, everything but computing and descriptor 0.

    Args:
        limits: of this process.
        parent: process id of the zygote; where it is gone already, this process ends.

    Returns:
        What each wall did, by name.
    """
    os.closerange(1, DESCRIPTORS)
    os.environ.clear()
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()

    def restrict() -> str:
        return _set_limits(limits)

    if not _LINUX:
        walls = dict.fromkeys(("landlock", "mdwe", "capabilities", "privileges", "seccomp"), "off: not Linux")
        return walls | {"uid": _attempt(_become_nobody), "rlimits": _attempt(restrict)}
    walls = {
        "uid": _attempt(_become_nobody),
        "capabilities": _attempt(_drop_capabilities),
        "privileges": _attempt(_freeze_privileges),
    }
    die_with_parent(parent)
    walls["mdwe"] = _attempt(_refuse_executable_memory)
    walls["landlock"] = _attempt(_landlock)
    walls["rlimits"] = _attempt(restrict)
    walls["seccomp"] = _attempt(_filter_calls)
    return walls


def isolate() -> dict[str, str]:
    """Leave the machine's namespaces for empty ones of our own. The next child forked is the first of its namespace.

    Where the zygote is root and may not do that as root, it becomes nobody and tries as such.

    Returns:
        What became of the walls ``namespaces`` and ``root``.
    """
    if not _LINUX:
        return {"namespaces": "off: not Linux", "root": "off: not Linux"}
    walls = _leave()
    # Workers may have the zygote's user: not dumpable, its memory is closed to them whatever else fails.
    _prctl(_PR_SET_DUMPABLE, 0)
    return walls


def _leave() -> dict[str, str]:
    if os.geteuid() == 0:
        namespaces = _attempt(_enter_namespaces)
        if not namespaces.startswith("on"):
            _attempt(_become_nobody)
            namespaces = _attempt(_enter_user_namespace)
    else:
        namespaces = _attempt(_enter_user_namespace)
    if not namespaces.startswith("on"):
        return {"namespaces": namespaces, "root": "off: needs namespaces"}
    return {"namespaces": namespaces, "root": _attempt(_empty_root)}


def die_with_parent(parent: int | None) -> None:
    """Have the kernel kill this process when its parent ends; end now where that has happened already.

    Args:
        parent: the process id that the parent must still have; None where it is not visible from here.
    """
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(0)


def set_limit(kind: int, soft: int, hard: int) -> None:
    """Set a resource limit of this process, or the most that it may still have."""
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:
        hard = min(hard, ceiling)
    resource.setrlimit(kind, (min(soft, hard), hard))


def _attempt(step: Callable[[], str]) -> str:
    try:
        detail = step()
    except (OSError, ValueError, AttributeError) as error:
        return f"off: {(isinstance(error, OSError) and error.strerror) or error}"
    return f"on ({detail})" if detail else "on"


# ---- what a worker gives up


def _become_nobody() -> str:
    if os.geteuid() == 0:
        os.setgroups([])
        if _LINUX:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        else:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
    return str(os.geteuid())


def _drop_capabilities() -> str:
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _call("capset", header, bytes(24))
    return ""


def _freeze_privileges() -> str:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    return ""


def _refuse_executable_memory() -> str:
    _prctl(_PR_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN)
    return ""


def _landlock() -> str:
    abi = _call("syscall", ctypes.c_long(_LANDLOCK_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint(_LANDLOCK_VERSION))
    files = (1 << _LANDLOCK_FILES.get(abi, 16)) - 1
    handled = struct.pack("=Q", files)
    if abi >= 4:
        handled += struct.pack("=Q", 0b11)  # bind and connect TCP
    if abi >= 6:
        handled += struct.pack("=Q", 0b11)  # abstract sockets and signals
    ruleset = _call(
        "syscall", ctypes.c_long(_LANDLOCK_CREATE), handled, ctypes.c_size_t(len(handled)), ctypes.c_uint(0)
    )
    try:
        _call("syscall", ctypes.c_long(_LANDLOCK_RESTRICT), ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        os.close(ruleset)
    return f"abi {abi}"


def _set_limits(limits: Limits) -> str:
    wanted = {
        "RLIMIT_CORE": limits.core_size,
        "RLIMIT_FSIZE": limits.file_size,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_AS": limits.memory_mb * _MEGABYTE,
        "RLIMIT_CPU": limits.cpu_lifetime_seconds,
        "RLIMIT_NOFILE": limits.descriptors,
    }
    refused = []
    for name, value in wanted.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        # One second between them, so that the end is a SIGXCPU that names its cause and no nameless SIGKILL.
        hard = value + 1 if name == "RLIMIT_CPU" else value
        try:
            set_limit(kind, value, hard)
        except (OSError, ValueError):
            refused.append(name)
    if refused:
        raise OSError(errno.EPERM, f"{', '.join(refused)} cannot be set")
    return ""


def _filter_calls() -> str:
    seccomp.install(_LIBC)
    return ""


# ---- what the zygote leaves


def _enter_namespaces() -> str:
    flags = 0
    for flag in _NAMESPACES.values():
        flags |= flag
    _call("unshare", flags)
    return " ".join(_NAMESPACES)


def _enter_user_namespace() -> str:
    user, group = os.geteuid(), os.getegid()
    flags = _NEW_USER
    for flag in _NAMESPACES.values():
        flags |= flag
    # A process that changed its user is not dumpable, and may then not write its own maps.
    _prctl(_PR_SET_DUMPABLE, 1)
    _call("unshare", flags)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{NOBODY} {user} 1")
    _write("/proc/self/gid_map", f"{NOBODY} {group} 1")
    return " ".join(("user", *_NAMESPACES))


def _empty_root() -> str:
    """Make an empty, read-only folder the root. The old one is stacked under it for a moment, then let go."""
    machine = seccomp.platform_machine()
    if machine not in _PIVOT_ROOT:
        raise OSError(errno.ENOSYS, f"no system call numbers for {machine}")
    place = next(path for path in (b"/tmp", b"/proc", b"/var", b"/usr") if os.path.isdir(path))
    harmless = _MS_NO_SUID | _MS_NO_DEV | _MS_NO_EXEC
    _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    _mount(b"tmpfs", place, b"tmpfs", harmless, b"size=4k,nr_inodes=2,mode=555")
    os.chdir(place)
    _call("syscall", ctypes.c_long(_PIVOT_ROOT[machine]), b".", b".")
    _call("umount2", b".", _UNMOUNT_DETACH)
    os.chdir("/")
    _mount(b"none", b"/", None, _MS_REMOUNT | _MS_BIND | _MS_READ_ONLY | harmless, None)
    return ""


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    _call("mount", source, target, kind, ctypes.c_ulong(flags), data)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


# ---- the C library


_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(function: str, *args: object) -> int:
    result: int = getattr(_LIBC, function)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _prctl(option: int, value: int) -> None:
    _call("prctl", option, *(ctypes.c_ulong(argument) for argument in (value, 0, 0, 0)))
