"""Runs one program and leaves what became of it in a folder, whatever happens to the supervisor meanwhile.

``python -I -S launcher.py FOLDER``, with the spec (``name=value`` records between NULs) on standard input and an
acknowledgement pipe as descriptor 3. It claims FOLDER before it starts anything, so of any number of launchers one
starts the program and the others leave without a word. It is its own session, so signals to the supervisor's group or
terminal do not reach it, and it writes nothing into FOLDER that depends on the supervisor being there.

What is in FOLDER: ``spec`` (from the supervisor: where the box is), ``claim`` (process id, start time, boot id),
``stop`` (somebody asked), ``stdout.N`` and ``stderr.N`` (segments), ``output`` (a copy of what the program left for
``$SCRIPTRULES_OUTPUT``), ``result.json``, ``launcher.log`` (this program's own standard error).

What was tried and rejected:

* The spec as a file: arguments and variables can be secrets, and what was on a disk is hard to get rid of. It comes
  from memory that has no name, and nothing keeps it once the program has begun.
* JSON for the spec: importing json costs 5 ms, as much as starting Python does. ``signal`` costs 3.5 ms (enum, re), so
  its C half is used. ctypes costs 2.5 ms, and only after the acknowledgement: it buys the subreaper, through which
  descendants that left the group are found, and the parent-death signal.
* Output straight into files: RLIMIT_FSIZE would kill a program for its chatter, and without it one program fills the
  disk. The launcher pumps instead. A ring in memory would be lost with the launcher and unseen by who follows; so it
  writes segments, and removes those between the first and the last two.
* ``open(claim, O_CREAT | O_EXCL)`` and then writing: a claim without content can be met. A link of a complete file is
  as exclusive, and complete.

The clock of `scriptrules.clock` is out of reach here: this file imports nothing of scriptrules.
"""

from __future__ import annotations

import os
import sys
from time import monotonic, sleep, time_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
else:
    try:
        import _signal as signal
    except ImportError:
        import signal

ACKNOWLEDGE = 3  # the descriptor that is told once the claim is durable
SEGMENT_SIZE = 4 * 1024 * 1024  # bytes; of each stream the first segment and the last two are kept
READ_SIZE = 64 * 1024  # bytes
RETRY_INTERVAL = 1.0  # seconds until a result that the disk refused is written again
STRAYS_TIMEOUT = 5.0  # seconds that hunting descendants may take

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38

Spec = dict[str, list[bytes]]


# ---- what supervisor and launcher both know about the folder


def segment_name(stream: str, index: int) -> str:
    """The name of the index-th segment of a stream: ``stdout.000000``."""
    return f"{stream}.{index:06}"


def encode_spec(records: list[tuple[str, bytes]]) -> bytes:
    """The spec as it is stored; neither arguments nor variables can hold the NUL that separates them."""
    return b"\0".join(name.encode() + b"=" + value for name, value in records)


def decode_spec(data: bytes) -> Spec:
    """The values of each name of a stored spec, in their order."""
    spec: Spec = {}
    for record in data.split(b"\0"):
        name, _, value = record.partition(b"=")
        spec.setdefault(name.decode(), []).append(value)
    return spec


def start_time(pid: int) -> str | None:
    """When process `pid` began, in ticks since the boot; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return stream.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return None


def boot_id() -> str:
    """Tells one boot of this machine from another, so that ticks since the boot are never mistaken."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as stream:
        return stream.read().strip().decode()


def sync_folder(folder: str) -> None:
    """Make the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: str, data: bytes, *, durable: bool = True) -> None:
    """Replace the file at `path` by one with `data`, at once and for all readers."""
    temporary = f"{path}.{os.getpid()}-{time_ns()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            _write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise
    if durable:
        sync_folder(os.path.dirname(path))


def claim(folder: str) -> bool:
    """Claim `folder` for this process; durable when it returns.

    Returns:
        False where another process has it, or it has been released.
    """
    pid = os.getpid()
    mine = f"{folder}/claim.{pid}-{time_ns()}"
    try:
        write_file(mine, f"{pid} {start_time(pid)} {boot_id()}\n".encode())
        try:
            # by its path: a folder that was renamed away (released) cannot be claimed any more
            os.link(mine, f"{folder}/claim")
        finally:
            os.unlink(mine)
        sync_folder(folder)
        sync_folder(os.path.dirname(folder))
    except (FileExistsError, FileNotFoundError):
        return False
    return True


# ---- the launcher


def main(folder: str) -> None:
    """Claim the folder, run its program to the end, and leave the result."""
    os.umask(0o077)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > ACKNOWLEDGE:
            _ignoring_errors(lambda name=name: os.close(int(name)))  # type: ignore[misc]
    try:
        os.fstat(ACKNOWLEDGE)
    except OSError:
        os.open("/dev/null", os.O_WRONLY)  # started by hand: nothing else may get that number
    os.chdir("/")
    asked: list[int] = []
    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(woken)
    with open(0, "rb", closefd=False) as stream:
        spec = decode_spec(stream.read())
    empty = os.open("/dev/null", os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    if "program" not in spec or not claim(folder):
        return
    _ignoring_errors(lambda: os.write(ACKNOWLEDGE, b"1"))
    _ignoring_errors(lambda: os.close(ACKNOWLEDGE))
    Program(folder, spec, asked, wake).run()


class Program:
    """The life of one program: started once, watched, ended, recorded."""

    def __init__(self, folder: str, spec: Spec, asked: list[int], wake: int) -> None:
        self.folder = folder
        self.spec = spec
        self.asked = asked  # signals that told the launcher to end
        self.wake = wake  # readable after each signal
        self.sinks = {name: Sink(folder, name) for name in ("stdout", "stderr")}
        self.streams: dict[int, Sink] = {}  # by the descriptor of their pipe
        self.prctl = _prctl()
        self.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.report = -1  # the pipe on which the child says what went wrong before the program began
        self.trouble = ""  # "STAGE ERRNO" where the program could not be started
        self.stage = "launch"  # what the launcher itself is doing before the program begins
        self.reason = ""  # "timeout", "stopped" or "terminated" where it was made to end

    def run(self) -> None:
        started, status = time_ns() // 1000, None
        if self.asked or os.path.exists(f"{self.folder}/stop"):
            self.reason = self._why_asked()
        else:
            try:
                status = self._watch(self._start())
            except OSError as error:
                self.trouble = f"{self.stage} {error.errno}"
        remove_secrets(self.spec)
        for sink in self.sinks.values():
            sink.close()
        self._leave_result(started, status)

    def _start(self) -> int:
        self.stage = "secrets"
        _write_secrets(self.spec)
        self.stage = "launch"
        ends = {name: os.pipe() for name in ("stdout", "stderr", "report")}
        stdin = os.open(f"{self.folder}/stdin" if "stdin" in self.spec else "/dev/null", os.O_RDONLY)
        launcher = os.getpid()
        # a signal that reaches the child while it still has the launcher's handlers would be taken and forgotten
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        pid = os.fork()
        if not pid:
            writing = {name: pair[1] for name, pair in ends.items()}
            _become(self.spec, (stdin, writing["stdout"], writing["stderr"]), writing["report"], self.prctl, launcher)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        for name in ("arg", "env", "secret"):
            self.spec.pop(name, None)  # the program has them, and nobody else needs them any more
        os.close(stdin)
        for _, writing_end in ends.values():
            os.close(writing_end)
        self.streams = {ends[name][0]: sink for name, sink in self.sinks.items()}
        self.report = ends["report"][0]
        return pid

    def _watch(self, pid: int) -> int:
        """Pump and wait until the program has ended and nothing is left of it; return its wait status."""
        import select

        poll = select.poll()
        for descriptor in (self.wake, self.report, *self.streams):
            poll.register(descriptor, select.POLLIN)
        timeout = float(self.spec["timeout"][0]) if "timeout" in self.spec else None
        due = monotonic() + timeout if timeout is not None else None  # the next step against the program
        while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            pause = None if due is None else min(max(0.0, due - monotonic()) * 1000 + 1, 1e9)
            for descriptor, _ in poll.poll(pause):
                if descriptor == self.wake:
                    os.read(descriptor, READ_SIZE)
                elif not self._read(descriptor):
                    poll.unregister(descriptor)
            late = due is not None and monotonic() >= due
            if not self.reason and (self.asked or late):
                self.reason = self._why_asked() if self.asked else "timeout"
                due = monotonic() + float(self.spec["grace"][0])
                _signal_group(pid, signal.SIGTERM)
                _signal_group(pid, signal.SIGCONT)  # a stopped program could not take the other one
            elif late:
                due = None
                _signal_group(pid, signal.SIGKILL)
        _signal_group(pid, signal.SIGKILL)  # before it is reaped, while its number is nobody else's
        status = os.waitpid(pid, 0)[1]
        _end_strays()
        for descriptor in (self.report, *self.streams):
            os.set_blocking(descriptor, False)
            while self._read(descriptor):
                pass
        return status

    def _read(self, descriptor: int) -> bool:
        """Take what is there; False at the end of the stream (where it was made non-blocking: of what is there)."""
        try:
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            return False
        if descriptor == self.report:
            self.trouble += data.decode()
        elif data:
            self.streams[descriptor].write(data)
        else:
            del self.streams[descriptor]
        return bool(data)

    def _why_asked(self) -> str:
        return "stopped" if os.path.exists(f"{self.folder}/stop") else "terminated"

    def _leave_result(self, started: int, status: int | None) -> None:
        exit_code = os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None
        number = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None
        stage, _, errno = self.trouble.partition(" ")
        ended = max(started, time_ns() // 1000)
        lost = sum(sink.lost for sink in self.sinks.values())
        fields = (
            f'"exit_code": {_json(exit_code)}, "signal": {_json(number)}, "reason": "{self.reason}", '
            f'"stage": "{stage}", "errno": {int(errno or 0)}, "started": {started}, "ended": {ended}, "lost": {lost}'
        )
        while True:
            try:
                self._keep_output()
                write_file(f"{self.folder}/result.json", f"{{{fields}}}\n".encode())
                return
            except FileNotFoundError:
                return  # the folder was taken away: nobody waits for the result
            except OSError:
                sleep(RETRY_INTERVAL)  # a full disk; whoever frees it gets the result

    def _keep_output(self) -> None:
        """Copy the output file out of the program's reach, so that nothing changes it after the result is there."""
        try:
            descriptor = os.open(self.spec["output"][0], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return
        found = os.fstat(descriptor)
        owner = int(self.spec["uid"][0]) if "uid" in self.spec else os.geteuid()
        # a link to somebody else's file would make the launcher, which may be root, read it out
        if found.st_mode & 0o170000 == 0o100000 and found.st_uid == owner:
            with open(descriptor, "rb") as stream:
                write_file(f"{self.folder}/output", stream.read(int(self.spec["output_max"][0]) + 1))


class Sink:
    """Where one stream of output goes: segments on disk, the first and the last two of which are kept."""

    def __init__(self, folder: str, stream: str) -> None:
        self.folder = folder
        self.stream = stream
        self.index = -1
        self.size = SEGMENT_SIZE  # of the segment that is being written
        self.open: list[int] = []  # descriptors of the last two segments
        self.lost = 0  # bytes that the disk did not take

    def write(self, data: bytes) -> None:
        try:
            if self.size >= SEGMENT_SIZE:
                self._next_segment()
            self.size += len(data)
            _write_all(self.open[-1], data)
        except OSError:
            self.lost += len(data)

    def _next_segment(self) -> None:
        path = f"{self.folder}/{segment_name(self.stream, self.index + 1)}"
        self.open.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        self.index += 1
        self.size = 0
        if len(self.open) > 2:
            os.close(self.open.pop(0))
            if self.index > 2:
                os.unlink(f"{self.folder}/{segment_name(self.stream, self.index - 2)}")

    def close(self) -> None:
        """Make the end of the stream durable: a result must not survive a power cut that its output did not."""
        for descriptor in self.open:
            _ignoring_errors(lambda descriptor=descriptor: os.fsync(descriptor))  # type: ignore[misc]
            os.close(descriptor)


def _write_secrets(spec: Spec) -> None:
    """Write the program's files with secrets: its own, in folders where it can make and rename nothing."""
    owner, server = int(spec["uid"][0]) if "uid" in spec else os.geteuid(), os.geteuid()
    for path, content in zip(spec.get("secret_file", ()), spec.get("secret", ()), strict=True):
        _make_folders(os.path.dirname(path), spec["secrets"][0], 0o711 if owner != server else 0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            _write_all(descriptor, bytes.fromhex(content.decode()))
            if owner != server:
                os.fchown(descriptor, owner, int(spec["gid"][0]))
        finally:
            os.close(descriptor)


def _make_folders(folder: bytes, root: bytes, mode: int) -> None:
    if folder != root and not os.path.isdir(os.path.dirname(folder)):
        _make_folders(os.path.dirname(folder), root, mode)
    if not os.path.isdir(folder):
        os.mkdir(folder)
        os.chmod(folder, mode)


def remove_secrets(spec: Spec) -> None:
    """Remove the program's files with secrets, and their folders as far as nothing else is in them."""
    for path in spec.get("secret_file", ()):
        _ignoring_errors(lambda path=path: os.unlink(path))  # type: ignore[misc]
        while path != spec["secrets"][0]:
            path = os.path.dirname(path)
            _ignoring_errors(lambda path=path: os.rmdir(path))  # type: ignore[misc]


def _become(
    spec: Spec, streams: tuple[int, int, int], report: int, prctl: Callable[[int, int], None], launcher: int
) -> None:
    """In the forked child: turn into the program, or report at which stage that failed and why."""
    stage = "launch"
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for target, descriptor in enumerate(streams):
            os.dup2(descriptor, target)
        stage = "limits"
        _limit(spec)
        stage = "user"
        if "uid" in spec:
            uid, gid = int(spec["uid"][0]), int(spec["gid"][0])
            os.setgroups([int(group) for group in spec.get("group", [])])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody would hold an orphan to its timeout
        if os.getppid() != launcher:
            os._exit(127)
        stage = "workdir"
        os.chdir(spec["workdir"][0])
        stage = "program"
        environment = dict(pair.split(b"=", 1) for pair in spec.get("env", []))
        os.execve(spec["program"][0], spec["arg"], environment)
    except OSError as error:
        os.write(report, f"{stage} {error.errno}".encode())
    except BaseException:
        os.write(report, f"{stage} 0".encode())
    finally:
        os._exit(127)


def _limit(spec: Spec) -> None:
    import resource

    for record in spec.get("limit", []):
        name, _, value = record.decode().partition(":")
        kind = getattr(resource, f"RLIMIT_{name}")
        soft, hard = (int(part) for part in value.split(":"))
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))


def _end_strays() -> None:
    """Kill and reap every descendant that is left: as their subreaper, the launcher inherits those that went away."""
    pid = os.getpid()
    give_up = monotonic() + STRAYS_TIMEOUT
    while monotonic() < give_up:
        try:
            with open(f"/proc/self/task/{pid}/children", "rb") as stream:
                for child in stream.read().split():
                    _ignoring_errors(lambda child=child: os.kill(int(child), signal.SIGKILL))  # type: ignore[misc]
        except OSError:
            return
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        sleep(0.002)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # it has not made its group yet
        _ignoring_errors(lambda: os.kill(pid, number))
    except PermissionError:
        pass


def _prctl() -> Callable[[int, int], None]:
    """The system call, or nothing where Python was built without ctypes: these are extra walls, not the house."""
    try:
        import ctypes

        library = ctypes.CDLL(None)
        return lambda option, value: library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) and None
    except (ImportError, OSError):
        return lambda option, value: None


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _json(number: int | None) -> str:
    return "null" if number is None else str(number)


def _ignoring_errors(action: Callable[[], object]) -> None:
    try:
        action()
    except OSError:
        pass


if __name__ == "__main__":
    main(sys.argv[1])
