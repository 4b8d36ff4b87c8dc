"""`scriptrules check`: compile rules in a worker, as the server would, and print what is wrong with them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scriptrules.cli.common import json_option, print_json, say

if TYPE_CHECKING:
    from scriptrules.config import Config
    from scriptrules.diagnostics import Diagnostic
    from scriptrules.model import Source
    from scriptrules.rulebook.files import Unreadable
    from scriptrules.sandbox.pool import Pool

WORKERS = 2  # starting more costs more than they save


@click.command("check")
@click.argument("paths", nargs=-1, type=click.Path(exists=True))
@click.option("--rules", metavar="DIR", type=click.Path(exists=True, file_okay=False), help="Folder of rules.")
@json_option
def check_command(paths: tuple[str, ...], rules: str | None, as_json: bool) -> None:
    """Compile all rules, or PATHS, and report what is wrong.

    PATHS are rule files or folders of them. Needs no server; no rule is executed. Exit status 1 if anything is wrong.
    """
    from scriptrules import config
    from scriptrules.diagnostics import render

    settings = config.load(None, {"rules": rules and str(Path(rules).absolute())})
    if not paths and not settings.rules_dir.is_dir():
        say(f"scriptrules: there is no folder {settings.rules_dir}. Make it, or name one with --rules.")
        click.get_current_context().exit(1)
    sources, unreadable = select(settings.rules_dir, paths)
    findings = asyncio.run(_compile_all(settings, sources))
    if as_json:
        items: list[dict[str, Any]] = [
            {"file": broken.file, "line": 1, "column": 1, "code": "SR102", "message": broken.problem, "hint": ""}
            for broken in unreadable
        ]
        items += [_as_json(source, problem) for source, problem in findings]
        print_json({"items": items, "next": None})
    else:
        for broken in unreadable:
            click.echo(f"{broken.file}: {broken.problem}\n")
        for source, problem in findings:
            click.echo(f"{render(problem, source.text, source.file)}\n")
    count = len(findings) + len(unreadable)
    say(f"{len(sources)} checked, {count or 'no'} problem{'' if count == 1 else 's'}.")
    if count:
        click.get_current_context().exit(1)


def select(rules: Path, paths: tuple[str, ...]) -> tuple[list[Source], list[Unreadable]]:
    """What is to be checked: rules, and each library by itself (its rule is ``lib/NAME``)."""
    import msgspec

    from scriptrules.rulebook.files import LIBRARY_FOLDER, read_all

    found: dict[str, Source] = {}
    unreadable: dict[str, Unreadable] = {}
    for path in [Path(path).resolve() for path in paths] or [rules.resolve()]:
        folder = path if path.is_dir() else path.parent
        if path.is_relative_to(rules.resolve()):
            folder = rules.resolve()
        elif folder.name == LIBRARY_FOLDER:
            folder = folder.parent
        sources, broken = read_all(folder)
        libraries, _ = read_all(folder / LIBRARY_FOLDER)  # `broken` has theirs
        for name, source in libraries.items():
            rule, file = f"{LIBRARY_FOLDER}/{name}", f"{folder.name}/{LIBRARY_FOLDER}/{name}.py"
            sources[rule] = msgspec.structs.replace(source, rule=rule, file=file)
        below = path.relative_to(folder).as_posix()
        found |= {source.file: source for source in sources.values() if _is_within(f"{source.rule}.py", below)}
        unreadable |= {one.file: one for one in broken if _is_within(f"{one.rule}.py", below)}
    return [found[file] for file in sorted(found)], [unreadable[file] for file in sorted(unreadable)]


def _is_within(file: str, path: str) -> bool:
    return path in (".", file) or file.startswith(f"{path}/")


async def _compile_all(settings: Config, sources: list[Source]) -> list[tuple[Source, Diagnostic]]:
    """The findings of all sources, in their order."""
    async with Compiler(settings) as compiler:
        found = await asyncio.gather(*(compiler.findings(source) for source in sources))
    return [(source, problem) for source, problems in zip(sources, found, strict=True) for problem in problems]


class Compiler:
    """Workers that compile rules, without a supervisor; an ``async with`` block."""

    def __init__(self, settings: Config, workers: int = WORKERS) -> None:
        from scriptrules.sandbox import wire
        from scriptrules.sandbox.confine import Limits
        from scriptrules.sandbox.intrinsics import INTRINSICS
        from scriptrules.sandbox.pool import Pool

        limits = Limits(memory_mb=settings.sandbox.memory_mb)
        specs = [function.spec for function in INTRINSICS.values()]
        self.pool: Pool = Pool(workers, limits, wire.Budget(), specs, settings.sandbox.hard_seconds)

    async def __aenter__(self) -> Compiler:
        await self.pool.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()

    async def findings(self, source: Source) -> list[Diagnostic]:
        """What is wrong with a source, but not with the libraries that it uses: each is one itself.

        A library has no `main`, so what is said of the parts of a rule does not count there.
        """
        import msgspec

        loaded = await self.pool.load(msgspec.structs.replace(source, libraries={}))
        if source.rule.startswith("lib/"):
            return [problem for problem in loaded.problems if not problem.code.startswith("SR3")]
        return list(loaded.problems)


def _as_json(source: Source, problem: Diagnostic) -> dict[str, Any]:
    line = source.text.splitlines()[problem.line - 1] if problem.line <= len(source.text.splitlines()) else ""
    column = len(line.encode("utf-8", "replace")[: problem.column].decode("utf-8", "replace")) + 1
    return {
        "file": source.file,
        "line": problem.line,
        "column": column,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
    }
