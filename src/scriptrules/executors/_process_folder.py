"""The folders of a ``process`` host: one for each execution, made before its start and removed when it is released.

A key's folder holds what the supervisor and the launcher tell each other; a program with a user of its own cannot write
there. What the program sees is its *box*: ``input.json`` to read, ``work`` and ``out`` to write.

What was tried and rejected: the box always inside the key's folder. A user of its own cannot reach it where one of the
folders above is closed to it (as that of the store should be); then it is made in /var/tmp.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import shutil
import signal
import stat
from pathlib import Path

import msgspec

from scriptrules import clock
from scriptrules.errors import HostUnavailable
from scriptrules.executors import _output, launcher
from scriptrules.executors._process_policy import SECRETS, Policy, may_enter, spec_of
from scriptrules.model import ExecutionRequest, ExecutionResult, Verdict
from scriptrules.plugins.executor import ExecutorContext, Placed

READ_SIZE = 64 * 1024  # bytes
LEFT_OUT = "\n[scriptrules: what was here is no longer kept]\n"

_HINTS = {
    int(signal.SIGXCPU): " (it used up its cpu_seconds)",
    int(signal.SIGXFSZ): " (it wrote a file larger than file_mb)",
}
_BOXES = Path("/var/tmp")
_RELEASED = ".released"  # no key begins with a dot


class Left(msgspec.Struct, frozen=True):
    """What a launcher leaves in ``result.json``."""

    started: int
    ended: int
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""  # "timeout", "stopped", "terminated"
    stage: str = ""  # at which the start failed
    errno: int = 0
    lost: int = 0  # bytes of output


class Claim(msgspec.Struct, frozen=True):
    """Which process has, or had, an execution."""

    pid: int
    start: str
    boot: str


class Folders:
    """All folders of one host."""

    def __init__(self, policy: Policy, context: ExecutorContext) -> None:
        self._policy = policy
        self._context = context
        self._root = str(context.state_dir.absolute())
        self._boxes: str | None = None  # where boxes are made; None: in the key's folder
        self._made = False

    def of(self, key: str) -> str:
        return f"{self._root}/{key}"

    def make_root(self) -> None:
        """Make the host's folder, and decide where boxes are."""
        if self._made:
            return
        user, state_dir = self._policy.user, Path(self._root)
        os.makedirs(state_dir.parent, exist_ok=True)
        if user.other:
            _make_folder(self._root, 0o711)
            if not may_enter(user, state_dir):
                mark = hashlib.sha256(f"{self._context.store_id}\0{state_dir}".encode()).hexdigest()[:16]
                self._boxes = str(_BOXES / f"scriptrules-{mark}")
        else:
            _make_folder(self._root, 0o700)
        self._made = True

    def prepare(self, request: ExecutionRequest, program: str) -> bytes:
        """Make the folder of a start; whatever of it is there already is the same, and is made again.

        Args:
            program: its absolute path.

        Returns:
            The spec, which may hold secrets: it is for the launcher's standard input, and for no disk.
        """
        user, server, folder = self._policy.user, os.geteuid(), self.of(request.key)
        self.make_root()
        _make_folder(folder, 0o711 if user.other else 0o700)
        box = self._make_box(request.key)
        launcher.write_file(f"{box}/input.json", request.input, durable=False)
        if user.other:
            os.chown(f"{box}/input.json", server, user.gid)
            os.chmod(f"{box}/input.json", 0o640)
        if "stdin" in request.options:
            launcher.write_file(f"{folder}/stdin", request.options["stdin"].encode(), durable=False)
        kept = launcher.encode_spec([("box", os.fsencode(box))])
        launcher.write_file(f"{folder}/spec", kept, durable=False)
        return launcher.encode_spec(spec_of(self._policy, request, program, box))

    def ended(self, key: str) -> bool:
        return os.path.exists(f"{self.of(key)}/result.json")

    def claim(self, key: str) -> Claim | None:
        """Who claimed the folder; None where nobody did."""
        try:
            pid, start, boot = _read(f"{self.of(key)}/claim").decode().split()
            return Claim(int(pid), start, boot)
        except FileNotFoundError:
            return None
        except ValueError:
            return Claim(0, "", "")  # not ours, or damaged: claimed all the same

    def ask_to_stop(self, key: str) -> None:
        """Leave word that the execution was stopped; the folder may be gone."""
        try:
            launcher.write_file(f"{self.of(key)}/stop", b"")
        except FileNotFoundError:
            pass

    def asked_to_stop(self, key: str) -> bool:
        return os.path.exists(f"{self.of(key)}/stop")

    def inventory(self) -> list[Placed]:
        """What is there of executions, released ones that are kept for a while among them."""
        found = [self._placed(key) for key in _keys(self._root)]
        store, released = self._context.store_id, f"{self._root}/{_RELEASED}"
        return found + [Placed(key, store, f"{released}/{key}", True, False, True) for key in _keys(released)]

    def _placed(self, key: str) -> Placed:
        claim = self.claim(key)
        launching = open_launcher(claim) if claim is not None and not self.ended(key) else None
        if launching is not None:
            os.close(launching)
        return Placed(key, self._context.store_id, self.of(key), claim is not None, launching is not None, False)

    def collect(self, request: ExecutionRequest) -> ExecutionResult:
        """What became of an execution whose launcher has ended."""
        folder = self.of(request.key)
        self._remove_secrets(folder)
        if not os.path.isdir(folder):
            return _unknown("nothing of it is left on this machine; whether it was started is unknown")
        try:
            stdout, cut = _tail(folder, "stdout", _output.OUTPUT_FILE_MAX + READ_SIZE)
            stderr = _output.tail_text(_tail(folder, "stderr", _output.OUTPUT_TAIL)[0])
            stored = _read(f"{folder}/result.json") if self.ended(request.key) else None
            return self._result(request, stored, stdout, cut, stderr)
        except (OSError, msgspec.DecodeError) as error:
            return _unknown(f"what is left of it cannot be read ({error}); whether the program finished is unknown")

    def _result(
        self, request: ExecutionRequest, stored: bytes | None, stdout: bytes, cut: bool, stderr: str
    ) -> ExecutionResult:
        if stored is None:
            lost = "the launcher was lost (power cut or kill); whether the program finished is unknown"
            return _unknown(lost, _output.tail_text(stdout), stderr)
        left = msgspec.json.decode(stored, type=Left)
        problem: str | None = None
        output = _output.last_line_output(stdout, cut=cut)
        try:
            written = _read(f"{self.of(request.key)}/output")
        except FileNotFoundError:
            written = b""
        if written.strip():
            output, problem = _output.file_output(written)
        if problem:
            stderr += f"\nscriptrules: $SCRIPTRULES_OUTPUT: {problem}\n"
        if left.lost:
            stderr += f"\nscriptrules: {left.lost} bytes of output were lost: the disk did not take them.\n"
        exit_code, reason = outcome(left, request, self._policy)
        return ExecutionResult(
            status="failed" if reason else "done",
            exit_code=exit_code,
            reason=reason,
            output=output,
            started=left.started,
            ended=left.ended,
            stdout=_output.tail_text(stdout),
            stderr=stderr,
            verdict=Verdict.ONCE,
        )

    @staticmethod
    def _remove_secrets(folder: str) -> None:
        """Files with secrets that a lost launcher has left; nobody but the server can rename anything there."""
        try:
            for box in launcher.decode_spec(_read(f"{folder}/spec")).get("box", []):
                shutil.rmtree(f"{os.fsdecode(box)}/{SECRETS}", ignore_errors=True)
        except OSError:
            return

    def remove(self, key: str) -> None:
        """Take a folder out of every launcher's reach at once, and remove it when it has been kept long enough."""
        try:
            os.makedirs(f"{self._root}/{_RELEASED}", 0o700, exist_ok=True)
            # a launcher that comes late must find nothing that it could claim, not even half a folder
            os.rename(self.of(key), f"{self._root}/{_RELEASED}/{key}")
            now = self._context.clock() / clock.SECOND
            os.utime(f"{self._root}/{_RELEASED}/{key}", (now, now))
        except FileNotFoundError:
            pass
        self.sweep()

    def sweep(self) -> None:
        """Remove what was released `keep_for` ago or longer, also by an earlier supervisor."""
        released = f"{self._root}/{_RELEASED}"
        due = self._context.clock() / clock.SECOND - self._policy.settings.keep_for
        try:
            keys = os.listdir(released)
        except FileNotFoundError:
            return
        for key in keys:
            path = f"{released}/{key}"
            try:
                if os.stat(path).st_mtime > due:
                    continue
                boxes = launcher.decode_spec(_read(f"{path}/spec")).get("box", [])
                for each in (*map(os.fsdecode, boxes), path):
                    shutil.rmtree(each, ignore_errors=True)
            except FileNotFoundError:
                shutil.rmtree(path, ignore_errors=True)
            except (OSError, RecursionError):
                continue  # nested deeper than rmtree follows before Python 3.13: it stays, and harms nobody

    def check(self) -> None:
        """Raise OSError where the folder cannot be written."""
        self.make_root()
        launcher.write_file(f"{self._root}/.check", b"", durable=False)
        os.unlink(f"{self._root}/.check")

    def close(self) -> None:
        if self._boxes:
            try:
                if os.lstat(self._boxes).st_uid == os.geteuid():
                    os.rmdir(self._boxes)
            except OSError:
                pass  # executions go on in it

    def _make_box(self, key: str) -> str:
        user, server = self._policy.user, os.geteuid()
        box = f"{self.of(key)}/box"
        if self._boxes:
            try:
                os.mkdir(self._boxes, 0o711)
            except FileExistsError:
                found = os.lstat(self._boxes)  # all may write to /var/tmp: somebody may have been there first
                if found.st_uid != server or not stat.S_ISDIR(found.st_mode):
                    raise HostUnavailable(f"{self._boxes} belongs to somebody else. Remove it.") from None
            os.chmod(self._boxes, 0o711)
            box = f"{self._boxes}/{key}"
        _make_folder(box, 0o710 if user.other else 0o700, (server, user.gid) if user.other else None)
        for name in ("work", "out"):
            _make_folder(f"{box}/{name}", 0o700, (user.uid, user.gid) if user.other else None)
        return box


class Follower:
    """Reads one stream of an execution from its first byte on, while it is written."""

    def __init__(self, folder: str, stream: str) -> None:
        self.stream = stream
        self._folder = folder
        self._index = 0
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self) -> str | None:
        """The next text, possibly empty; None where there is no more now."""
        known = _segments(self._folder, self.stream)  # before the read: a later one ends this one
        try:
            with open(f"{self._folder}/{launcher.segment_name(self.stream, self._index)}", "rb") as stream:
                stream.seek(self._offset)
                data = stream.read(READ_SIZE)
        except FileNotFoundError:
            data = b""
        if data:
            self._offset += len(data)
            return self._decoder.decode(data)
        later = [index for index in known if index > self._index]
        if not later:
            return None
        skipped = later[0] > self._index + 1 or self._index not in known
        self._index, self._offset = later[0], 0
        return LEFT_OUT if skipped else ""


def open_launcher(claim: Claim) -> int | None:
    """A pidfd of the process that made `claim`; None where it has ended, whatever has its number now."""
    if claim.pid < 1 or claim.boot != launcher.boot_id():
        return None
    try:
        descriptor = os.pidfd_open(claim.pid)
    except ProcessLookupError:
        return None
    # compared after it is held: from here on the number cannot pass to another process unseen
    if launcher.start_time(claim.pid) != claim.start:
        os.close(descriptor)
        return None
    return descriptor


def outcome(left: Left, request: ExecutionRequest, policy: Policy) -> tuple[int | None, str | None]:
    """The exit code, as a shell counts it, and why the execution failed.

    Returns:
        ``(0, None)`` where it succeeded. A program that was told to end and then returned 0 has no exit code.
    """
    code = 128 + left.signal if left.signal else left.exit_code
    if left.stage:
        absent = left.stage == "program" and left.errno == errno.ENOENT
        return 127 if absent else 126, _why_not_started(left, request, policy)
    if left.reason == "timeout":
        return code or None, f"timeout after {request.timeout or 0:g} s"
    if left.reason:
        return code or None, "stopped" if left.reason == "stopped" else "ended by a SIGTERM to its launcher"
    if left.signal:
        return code, f"killed by signal {left.signal}{_HINTS.get(left.signal, '')}"
    return code, f"exit code {code}" if code else None


def _why_not_started(left: Left, request: ExecutionRequest, policy: Policy) -> str:
    program, user = request.image, policy.user.name
    if left.stage == "workdir":
        return f"user {user} cannot enter the workdir: {os.strerror(left.errno)}. Correct workdir in {policy.table}."
    if left.stage == "secrets":
        return f"its secret_files could not be written: {os.strerror(left.errno)}. Give each a path of its own."
    known = {
        errno.ENOENT: f"{program!r}, or the interpreter in its #! line, is not there. Install it.",
        errno.EACCES: f"user {user} may not execute {program!r}. Make it executable, and the folders above enterable.",
        errno.ENOEXEC: f"{program!r} cannot be executed. Give it a #! line.",
        errno.E2BIG: "args and env are too long together. Pass the bulk as a field of the task, or as stdin.",
        errno.EAGAIN: f"user {user} runs too many processes. Raise `processes` in {policy.table}.",
    }
    if left.errno in known:
        return known[left.errno]
    return f"{program!r} could not be started: {left.stage}: {os.strerror(left.errno)}. See `scriptrules doctor`."


def _unknown(reason: str, stdout: str = "", stderr: str = "") -> ExecutionResult:
    return ExecutionResult(status="failed", reason=reason, stdout=stdout, stderr=stderr, verdict=Verdict.UNKNOWN)


def _keys(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def _segments(folder: str, stream: str) -> list[int]:
    """The numbers of the segments that are there, in order."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(int(name[len(stream) + 1 :]) for name in names if name.startswith(f"{stream}."))


def _tail(folder: str, stream: str, size: int) -> tuple[bytes, bool]:
    """The last `size` bytes of a stream, and whether there were more."""
    data = b""
    for index in reversed(_segments(folder, stream)):
        if len(data) > size:
            break
        with open(f"{folder}/{launcher.segment_name(stream, index)}", "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size - 1))
            data = file.read() + data
    return data[-size:], len(data) > size


def _make_folder(path: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise HostUnavailable(f"{path} is no folder. Remove it, then it will be made anew.") from None
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)
    os.chmod(path, mode)


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()
