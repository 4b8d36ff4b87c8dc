"""What a ``process`` host may execute, as whom and within which limits: its table in scriptrules.toml, and the checks.

Tried and rejected: RLIMIT_AS for memory. It counts address space, of which Go, Java and node reserve gigabytes;
RLIMIT_DATA counts what can be written to. Either is a process's; only a cgroup could bound the processes of an
execution together, and that needs an administrator's preparation.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from scriptrules.errors import ConfigError, InvalidRequest, PolicyRefused, nearest
from scriptrules.executors import _output
from scriptrules.model import ExecutionRequest, Json

ARGUMENT_MAX = 128 * 1024 - 1  # bytes; Linux takes no longer argument or variable
ARGUMENTS_MAX = 1024 * 1024  # bytes of all of them; half of what Linux takes with a stack of 8 MB
MEGABYTE = 1024 * 1024
SECRETS = "secrets"  # the folder in the box with the files that only the program can read

_KEY = re.compile(r"[a-z0-9-]{1,63}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# they make an allowed program execute something else; the host's own table may set them
_DECISIVE = re.compile(r"(LD_|DYLD_|GLIBC_|GCONV_PATH\Z|PATH\Z|BASH_ENV\Z|ENV\Z)")
OPTIONS: dict[str, type | tuple[type, ...]] = {"stdin": str, "memory_mb": int, "cpu_seconds": int}

_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=10**9)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table of a host in scriptrules.toml; the limits are those of each process of an execution."""

    programs: list[str] = []
    user: str | int | None = None
    env: dict[str, str] = {}
    workdir: str | None = None
    max_running: _Count = 100
    memory_mb: _Count = 2048
    cpu_seconds: _Count = 3600
    processes: _Count = 4096  # all that the user runs count
    files: _Count = 1024
    file_mb: _Count = 4096
    keep_for: _Seconds = 0.0
    grace: _Seconds = 10.0


class User(msgspec.Struct, frozen=True):
    """Who executes programs."""

    name: str
    uid: int
    gid: int
    groups: list[int]
    other: bool  # than the server's own


class Policy(msgspec.Struct, frozen=True):
    """What one host allows."""

    host: str
    base_dir: Path
    settings: Settings
    programs: dict[str, str]  # as they are configured, by name or absolute path
    user: User

    @property
    def table(self) -> str:
        return f"[hosts.{self.host}]"

    @property
    def path(self) -> str:
        """The PATH on which programs are looked up, and that they get; relative parts are left out."""
        path = self.settings.env.get("PATH") or os.environ.get("PATH") or os.defpath
        return ":".join(part for part in path.split(":") if part.startswith("/"))


def read_policy(table: Mapping[str, Any], host: str, base_dir: Path) -> Policy:
    """Check the table of a host.

    Raises:
        ConfigError: an unknown key (the nearest is named) or a value that cannot be used.
    """
    where = f"[hosts.{host}]"
    fields = Settings.__struct_fields__
    for key in table:
        if key not in fields:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, fields)} Known: {', '.join(fields)}.")
    try:
        settings = msgspec.convert(dict(table), Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}. Correct it and start again.") from None
    for program in settings.programs:
        if re.search(r"[*?\[\]\0]", program) or not program or ".." in program.split("/"):
            raise ConfigError(f"{where}: {program!r} in programs is no program. List each by its name or its path.")
    for name, value in settings.env.items():
        if not _VARIABLE.match(name) or name.startswith("SCRIPTRULES_") or "\0" in value:
            raise ConfigError(f'{where}: {name!r} in env cannot be set. Write NAME = "text" with another name.')
    programs = {_program_key(program, base_dir): program for program in settings.programs}
    return Policy(host, base_dir, settings, programs, _user(settings.user, where))


def check_request(policy: Policy, request: ExecutionRequest) -> None:
    """Check a request against what a process can be and what the host allows, without looking at the machine.

    Raises:
        InvalidRequest: no process can be started like this.
        PolicyRefused: the host does not allow it.
    """
    check_key(request.key)
    _check_program(policy, request.image)
    _output.check_options(request.options, OPTIONS)
    for option in ("memory_mb", "cpu_seconds"):
        limit_of(policy, request, option)
    if request.timeout is not None and not 0 < request.timeout < 10**9:
        raise InvalidRequest(f"timeout={request.timeout} of run() has to be a number of seconds above 0.")
    for name in request.env:
        if not _VARIABLE.match(name) or name.startswith("SCRIPTRULES_"):
            raise InvalidRequest(f"env of run(): {name!r} is not a variable that can be set. Choose another name.")
        if _DECISIVE.match(name):
            raise PolicyRefused(
                f"env of run(): {name} decides what is executed, so a rule cannot set it. "
                f'Set it in {policy.table} as env = {{{name} = "…"}}.'
            )
    _check_texts("args", [request.image, *request.args])
    _check_texts("env", [*request.env, *request.env.values()])
    _check_secret_files(request)
    _check_texts("stdin", [request.options.get("stdin", "")], longest=None)
    if sum(len(text) + 9 for text in (*request.args, *request.env, *request.env.values())) > ARGUMENTS_MAX:
        raise _too_long("args and env together", ARGUMENTS_MAX)


def check_key(key: str) -> None:
    """Raise InvalidRequest where `key` could not be the name of a folder."""
    if not _KEY.match(key):
        raise InvalidRequest(f"{key!r} cannot name an execution. Use at most 63 of a-z, 0-9 and '-'.")


def find_program(policy: Policy, image: str) -> str:
    """The path of an allowed program; raises InvalidRequest where it is not there."""
    key = _program_key(image, policy.base_dir)
    path = key if "/" in key else shutil.which(key, path=policy.path)
    if path is None or not os.path.isfile(path):
        place = f"at {path}" if path else f"on PATH ({policy.path})"
        raise InvalidRequest(f"there is no program {image!r} {place}. Install it, or correct `programs`.")
    return path


def limit_of(policy: Policy, request: ExecutionRequest, option: str) -> int:
    """The host's limit, or the lower one that the request asks for; raises PolicyRefused for a higher one."""
    ceiling: int = getattr(policy.settings, option)
    asked: int = request.options.get(option, ceiling)
    if asked < 1:
        raise InvalidRequest(f"option {option!r} of run() has to be at least 1, not {asked}.")
    if asked > ceiling:
        raise PolicyRefused(
            f"option {option!r} of run() is {asked}, above the host's {ceiling}. "
            f"Ask for less, or raise {option} in {policy.table}."
        )
    return asked


def spec_of(policy: Policy, request: ExecutionRequest, program: str, box: str) -> list[tuple[str, bytes]]:
    """What the launcher is told (`scriptrules.executors.launcher`), as records.

    Args:
        program: the absolute path.
        box: the folder that the program sees, with ``work``, ``out`` and ``input.json``.
    """
    settings = policy.settings
    variables = {
        "PATH": policy.path,
        "HOME": f"{box}/work",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        **({"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}),
        **settings.env,
        **request.env,
        "SCRIPTRULES_INPUT": f"{box}/input.json",
        "SCRIPTRULES_OUTPUT": f"{box}/out/output.json",
        "SCRIPTRULES_KEY": request.key,
        "SCRIPTRULES_ATTEMPT": str(request.attempt),
        **({"SCRIPTRULES_SECRETS": f"{box}/{SECRETS}"} if request.secret_files else {}),
    }
    cpu = limit_of(policy, request, "cpu_seconds")
    limits = {
        "CORE": (0, 0),
        "DATA": (limit_of(policy, request, "memory_mb") * MEGABYTE,) * 2,
        "CPU": (cpu, cpu + max(1, int(settings.grace))),
        "NPROC": (settings.processes,) * 2,
        "NOFILE": (settings.files,) * 2,
        "FSIZE": (settings.file_mb * MEGABYTE,) * 2,
    }
    texts = [
        ("program", program),
        ("box", box),
        ("workdir", str(policy.base_dir / settings.workdir) if settings.workdir else f"{box}/work"),
        ("grace", str(settings.grace)),
        ("output", variables["SCRIPTRULES_OUTPUT"]),
        ("output_max", str(_output.OUTPUT_FILE_MAX)),
        *(("arg", argument) for argument in (request.image, *request.args)),
        *(("env", f"{name}={value}") for name, value in variables.items()),
        *(("limit", f"{name}:{soft}:{hard}") for name, (soft, hard) in limits.items()),
    ]
    for path, content in request.secret_files.items():
        texts += [("secret_file", f"{box}/{SECRETS}/{path.lstrip('/')}"), ("secret", content.encode().hex())]
    if request.secret_files:
        texts.append(("secrets", f"{box}/{SECRETS}"))
    if request.timeout is not None:
        texts.append(("timeout", str(request.timeout)))
    if "stdin" in request.options:
        texts.append(("stdin", ""))
    if policy.user.other:
        texts += [("uid", str(policy.user.uid)), ("gid", str(policy.user.gid))]
        texts += [("group", str(group)) for group in policy.user.groups]
    return [(name, os.fsencode(text)) for name, text in texts]


def describe(policy: Policy) -> str:
    """A sentence for `doctor`: the user, and which programs are found, missing or not executable."""
    found, missing = [], []
    for program in policy.programs.values():
        try:
            path = Path(find_program(policy, program)).resolve()
        except InvalidRequest:
            missing.append(program)
        else:
            able = may_enter(policy.user, path.parent) and may_execute(policy.user, path)
            found.append(program if able else f"{program} (not executable by {policy.user.name})")
    text = f"executes as {policy.user.name}; programs found: {', '.join(found) or 'none'}"
    text += f"; missing: {', '.join(missing)}" if missing else ""
    return text + ("." if policy.programs else f'; allow some by programs = ["…"] in {policy.table}.')


def may_execute(user: User, path: Path) -> bool:
    """Whether the mode of the file or folder at `path` lets `user` execute or enter it."""
    found = path.stat()
    if user.uid == 0:
        return bool(found.st_mode & 0o111)
    if found.st_uid == user.uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid in (user.gid, *user.groups):
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)


def may_enter(user: User, folder: Path) -> bool:
    """Whether `user` can reach what is in `folder`: enter it and all above."""
    return all(may_execute(user, each) for each in (folder, *folder.parents))


def _check_program(policy: Policy, image: str) -> None:
    if not image or "\0" in image or ".." in image.split("/"):
        raise InvalidRequest(f"{image!r} names no program. Use one of the host's `programs`, without '..'.")
    if _program_key(image, policy.base_dir) not in policy.programs:
        close = nearest(image, policy.programs.values())
        raise PolicyRefused(
            f"program {image!r} is not allowed on host {policy.host!r}{close} "
            f"To allow it, add {msgspec.json.encode(image).decode()} to programs = [...] "
            f"in {policy.table} of scriptrules.toml."
        )


def _program_key(program: str, base_dir: Path) -> str:
    """A bare name as it is, anything else as an absolute path without detours."""
    return os.path.normpath(base_dir.absolute() / program) if "/" in program else program


def _check_texts(what: str, texts: Iterable[Json], longest: int | None = ARGUMENT_MAX) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise InvalidRequest(f"{what} of run() has to be text, not {text!r}. Write str(…) around it.")
        if "\0" in text and longest is not None:
            raise InvalidRequest(f"{what} of run() has a NUL byte, which no program can be given. Remove it.")
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise InvalidRequest(f"{what} of run() has half a surrogate pair, which is no text. Remove it.") from None
        if longest is not None and size > longest:
            raise _too_long(f"one of {what}", longest)


def _check_secret_files(request: ExecutionRequest) -> None:
    _check_texts("secret_files", request.secret_files)
    _check_texts("secret_files", request.secret_files.values(), longest=None)
    parts = [tuple(path.lstrip("/").split("/")) for path in request.secret_files]
    for path, part in zip(request.secret_files, parts, strict=True):
        if any(name in ("", ".", "..") for name in part):
            raise InvalidRequest(f'secret_files of run(): {path!r} is no path of a file. Write "/run/secrets/token".')
        if sum(other[: len(part)] == part for other in parts) > 1:
            raise InvalidRequest(f"secret_files of run(): {path!r} is a folder of another one, or there twice.")


def _too_long(what: str, most: int) -> InvalidRequest:
    return InvalidRequest(f"{what} of run() is longer than {most} bytes. Pass it as a field of the task, or as stdin.")


def _user(configured: str | int | None, where: str) -> User:
    own = os.geteuid()
    wanted: str | int = configured if configured is not None else ("nobody" if own == 0 else own)
    if isinstance(wanted, str) and wanted.isdigit():
        wanted = int(wanted)
    try:
        entry = pwd.getpwuid(wanted) if isinstance(wanted, int) else pwd.getpwnam(wanted)
        name, uid, gid = entry.pw_name, entry.pw_uid, entry.pw_gid
        groups = os.getgrouplist(name, gid)
    except (KeyError, OverflowError):
        if not isinstance(wanted, int) or not 0 <= wanted < 2**32 - 1:
            raise ConfigError(f"{where}: there is no user {wanted!r}. Make it, or name another as user = …") from None
        name, uid, gid, groups = str(wanted), wanted, wanted if wanted != own else os.getegid(), []
    if own not in (0, uid):
        raise ConfigError(f"{where}: only root can execute as {name!r}. Remove user = …, or start the server as root.")
    return User(name, uid, gid, groups, other=uid != own)
