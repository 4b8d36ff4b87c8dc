"""Rules as files, Python or declarative (YAML): which there are, their text, and the digest that a run is pinned to.

A rule's name is its path below ``rules/`` without suffix. ``rules/lib/NAME.py`` is shared code; what a rule imports
from it is part of its digest, so that editing it never changes a run under way. Which libraries belong to a source is
read off its text (``lib.NAME``) and not off its syntax tree, because the supervisor never parses rule code: a mention
in a comment adds a library too many, which does no harm.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from scriptrules.model import Source

LIBRARY_FOLDER = "lib"
PYTHON = ".py"
DECLARATIVE = (".yaml", ".yml")
SUFFIXES = (PYTHON, *DECLARATIVE)
SOURCE_MAX = 256 * 1024  # bytes of one file
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*\Z")
_MENTION = re.compile(r"\blib\s*\.\s*([A-Za-z]\w*)")


class Unreadable(msgspec.Struct, frozen=True):
    """A file that should be a rule and cannot be read as text."""

    rule: str
    file: str
    problem: str


def read_all(folder: Path) -> tuple[dict[str, Source], list[Unreadable]]:
    """Every rule below `folder`, by name, and the files that cannot be one."""
    libraries, problems = _read_libraries(folder)
    sources: dict[str, Source] = {}
    files: dict[str, list[str]] = {}
    for path in _rule_files(folder):
        relative = path.relative_to(folder)
        if relative.parts[0] == LIBRARY_FOLDER or any(part.startswith((".", "_")) for part in relative.parts):
            continue
        name = relative.with_suffix("").as_posix()
        text = _read(path)
        file = f"{folder.name}/{relative.as_posix()}"
        files.setdefault(name, []).append(file)
        if not _NAME.match(name):
            text = ("has a name with other characters than letters, digits, _, - and dots. Rename it.",)
        if isinstance(text, str):
            sources[name] = make_source(name, file, text, libraries)
        else:
            problems.append(Unreadable(name, file, text[0]))
    for name, same in files.items():
        if len(same) > 1:
            sources.pop(name, None)
            for file in same:
                others = " and ".join(one for one in same if one != file)
                problems.append(Unreadable(name, file, f"and {others} are the same rule {name!r}. Rename one of them."))
    return sources, problems


def is_declarative(file: str) -> bool:
    """Whether a rule file of this name has the declarative form."""
    return file.endswith(DECLARATIVE)


def _rule_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for suffix in SUFFIXES for path in folder.rglob(f"*{suffix}"))


def stamp_of(folder: Path) -> frozenset[tuple[str, int, int]]:
    """What differs once any rule file was added, changed or removed: path, time of change and size of each."""
    stamps = set()
    for path in _rule_files(folder):
        try:
            status = path.stat()
        except OSError:
            continue
        stamps.add((str(path), status.st_mtime_ns, status.st_size))
    return frozenset(stamps)


def make_source(rule: str, file: str, text: str, libraries: dict[str, str]) -> Source:
    """The source of `rule` with those of `libraries` that its text mentions, also through one another."""
    used: dict[str, str] = {}
    todo = [] if is_declarative(file) else [text]
    while todo:
        for name in sorted(set(_MENTION.findall(todo.pop()))):
            if name in libraries and name not in used:
                used[name] = libraries[name]
                todo.append(libraries[name])
    used = dict(sorted(used.items()))
    named = f"{rule}{DECLARATIVE[0]}" if is_declarative(file) else rule  # the same text means something else in YAML
    return Source(rule, file, text, used, digest_of(named, text, used))


def digest_of(rule: str, text: str, libraries: dict[str, str]) -> str:
    """The first 32 hexadecimal digits of the SHA-256 over name, text and libraries, each with its length.

    The name is part of it because workers know a rule by its digest: the copy of a file is another rule.
    """
    digest = hashlib.sha256()
    for part in (rule, text, *(piece for item in libraries.items() for piece in item)):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.hexdigest()[:32]


def _read_libraries(folder: Path) -> tuple[dict[str, str], list[Unreadable]]:
    libraries: dict[str, str] = {}
    problems: list[Unreadable] = []
    for path in sorted((folder / LIBRARY_FOLDER).glob("*.py")):
        if path.name.startswith((".", "_")):
            continue
        text = _read(path)
        if isinstance(text, str):
            libraries[path.stem] = text
        else:
            problems.append(Unreadable(f"lib/{path.stem}", f"{folder.name}/lib/{path.name}", text[0]))
    for path in (path for path in _rule_files(folder / LIBRARY_FOLDER) if is_declarative(path.name)):
        file = path.relative_to(folder)
        why = "is no library: lib/ is for code in Python. Move it out of lib/."
        problems.append(Unreadable(file.with_suffix("").as_posix(), f"{folder.name}/{file.as_posix()}", why))
    return libraries, problems


def _read(path: Path) -> str | tuple[str]:
    """The text of a file, or, in a tuple, why it has none."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(SOURCE_MAX + 1)
    except OSError as error:
        return (f"cannot be read: {error.strerror}. Make it readable for the server.",)
    if len(raw) > SOURCE_MAX:
        return (
            f"is larger than {SOURCE_MAX // 1024} KB. Put data into variables or files, and shared code into lib/.",
        )
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        return (f"is not UTF-8 at byte {error.start}. Save it as UTF-8.",)
