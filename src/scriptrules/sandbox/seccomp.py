"""The system calls that a worker may make, as a seccomp filter.

Three answers exist. *Allowed*: what computing and talking over descriptor 0 need. *An errno*: what the interpreter
probes innocently (every SyntaxError opens the file that it names, every printed object looks for a terminal). *Death*:
everything else, foreign architectures included (x32 calls have numbers that no list holds). A worker that dies of
SIGSYS crashed or was taken over; either way it is not trusted further.

Tried and rejected:

* ``pyseccomp`` needs libseccomp and 45 ms of import for a list that is fixed.
* Letting `mprotect` and `mmap` pass, as MDWE refuses executable memory too: MDWE is young (Linux 6.3).
* Killing on `openat` and `getrandom`: innocent rules die of a typing error or an unseeded hash.
* Killing on `prctl`: newer runtimes name their memory maps with it.
* `sendmsg` and `recvmsg`: they carry descriptors; plain send and receive do.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_JUMP_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_ALLOW = 0x7FFF0000
_KILL = 0x80000000  # the process, not the thread
_ERRNO = 0x00050000

_NUMBER, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data; the low half of an argument comes first
_PROT_EXEC = 4
_MAP_ANONYMOUS = 0x20

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2

# Most used first: the filter is read from the top.
ALLOWED = (
    "munmap", "brk", "mremap", "madvise", "futex", "rt_sigreturn", "restart_syscall", "exit", "exit_group",
)  # fmt: skip
ON_SOCKET = ("write", "read", "sendto", "recvfrom")
ANSWERED = {
    errno.ENOENT: (
        "open", "openat", "openat2", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2",
        "readlink", "readlinkat", "getcwd", "getdents64",
    ),
    errno.EBADF: ("close", "close_range", "fstat", "lseek", "ioctl", "fcntl"),
    errno.EPERM: (
        "getrandom", "clock_gettime", "clock_getres", "gettimeofday", "time", "times", "getrusage", "nanosleep",
        "clock_nanosleep", "sched_yield", "sched_getaffinity", "getpid", "gettid", "getppid", "getuid", "geteuid",
        "getgid", "getegid", "rt_sigaction", "rt_sigprocmask", "sigaltstack", "uname", "sysinfo", "prctl",
    ),
}  # fmt: skip

_X86_64 = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16,
    "access": 21, "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "sendto": 44,
    "recvfrom": 45, "exit": 60, "uname": 63, "fcntl": 72, "getcwd": 79, "readlink": 89, "gettimeofday": 96,
    "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108,
    "getppid": 110, "sigaltstack": 131, "prctl": 157, "gettid": 186, "time": 201, "futex": 202,
    "sched_getaffinity": 204, "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "exit_group": 231, "openat": 257, "newfstatat": 262, "readlinkat": 267, "faccessat": 269,
    "getrandom": 318, "statx": 332, "close_range": 436, "openat2": 437, "faccessat2": 439,
}  # fmt: skip
_AARCH64 = {
    "getcwd": 17, "fcntl": 25, "ioctl": 29, "faccessat": 48, "openat": 56, "close": 57, "getdents64": 61, "lseek": 62,
    "read": 63, "write": 64, "readlinkat": 78, "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94,
    "futex": 98, "nanosleep": 101, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
    "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132, "rt_sigaction": 134,
    "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160, "getrusage": 165, "prctl": 167,
    "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177,
    "gettid": 178, "sysinfo": 179, "sendto": 206, "recvfrom": 207, "brk": 214, "munmap": 215, "mremap": 216,
    "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278, "statx": 291, "close_range": 436, "openat2": 437,
    "faccessat2": 439,
}  # fmt: skip

# By what the kernel calls the machine: AUDIT_ARCH and the numbers of the calls (those it lacks are left out).
MACHINES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def program(machine: str) -> bytes:
    """The filter for a kind of machine, as classic BPF.

    Args:
        machine: a key of `MACHINES`.

    Returns:
        Instructions of eight bytes each.
    """
    arch, numbers = MACHINES[machine]
    code = [
        _op(_LOAD_WORD, _ARCH),
        _op(_JUMP_EQUAL, arch, 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD_WORD, _NUMBER),
    ]
    for name in ON_SOCKET:
        code += _case(
            numbers[name],
            _op(_LOAD_WORD, _ARGS),
            _op(_JUMP_EQUAL, 0, 0, 1),
            _op(_RETURN, _ALLOW),
            _op(_RETURN, _ERRNO | errno.EBADF),
        )
    code += _case(
        numbers["mmap"],
        _op(_LOAD_WORD, _ARGS + 8 * 2),
        _op(_JUMP_ANY_BIT, _PROT_EXEC, 2, 0),
        _op(_LOAD_WORD, _ARGS + 8 * 3),
        _op(_JUMP_ANY_BIT, _MAP_ANONYMOUS, 1, 0),
        _op(_RETURN, _KILL),
        _op(_RETURN, _ALLOW),
    )
    code += _case(
        numbers["mprotect"],
        _op(_LOAD_WORD, _ARGS + 8 * 2),
        _op(_JUMP_ANY_BIT, _PROT_EXEC, 0, 1),
        _op(_RETURN, _KILL),
        _op(_RETURN, _ALLOW),
    )
    for name in ALLOWED:
        code += _case(numbers[name], _op(_RETURN, _ALLOW))
    for number, names in ANSWERED.items():
        for name in names:
            if name in numbers:
                code += _case(numbers[name], _op(_RETURN, _ERRNO | number))
    code.append(_op(_RETURN, _KILL))
    return b"".join(code)


def install(libc: ctypes.CDLL) -> None:
    """Put the filter in force for this process, for good; it needs no_new_privs set before.

    Raises:
        OSError: the kernel has no seccomp filters, or there is no list of calls for this machine.
    """
    machine = platform_machine()
    if machine not in MACHINES or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
    instructions = program(machine)
    prog = _Program(len(instructions) // 8, instructions)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(prog)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the kernel refused the filter ({errno.errorcode.get(number, number)})")


def platform_machine() -> str:
    """The machine's kind under the kernel's name."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _case(number: int, *body: bytes) -> list[bytes]:
    """`body` for one system call; each body ends in returns, so the accumulator still holds the number after it."""
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]
