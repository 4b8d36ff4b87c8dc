"""`scriptrules check`: compile rules in a worker, as the server would, and print what is wrong with them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scriptrules.cli.common import existing_folder, json_option, load_plugins, overrides, say

if TYPE_CHECKING:
    from scriptrules.cli.formats import Finding
    from scriptrules.config import Config
    from scriptrules.diagnostics import Diagnostic
    from scriptrules.flow.findings import World
    from scriptrules.flow.shapes import Facts
    from scriptrules.model import Source
    from scriptrules.plugins.manager import PluginInfo
    from scriptrules.rulebook.files import Unreadable
    from scriptrules.rulebook.metadata import Metadata
    from scriptrules.sandbox.pool import Pool
    from scriptrules.sightings import Evidence

WORKERS = 2  # starting more costs more than they save
FORMATS = ("full", "concise", "json", "github", "sarif")  # those of `formats`, which is imported when it is used


@click.command("check")
@click.argument("paths", nargs=-1, type=click.Path(exists=True))
@click.option("--rules", metavar="DIR", callback=existing_folder, help="Folder of rules.")
@click.option("--plugins", metavar="DIR", callback=existing_folder, help="Folder of plugins, whose functions count.")
@click.option("--output-format", type=click.Choice(FORMATS), help="How findings are printed; full is the default.")
@click.option("--against-store", is_flag=True, help="Compare with what runs and tasks in the store have shown.")
@json_option
def check_command(
    paths: tuple[str, ...],
    rules: str | None,
    plugins: str | None,
    output_format: str | None,
    against_store: bool,
    as_json: bool,
) -> None:
    """Compile all rules and breakpoints, or PATHS, and report what is wrong.

    PATHS are rule files or folders of them. Needs no server; no rule is executed. Exit status 1 if anything is found,
    be it a warning (SR4xx, SR5xx) with which the rule becomes active all the same. SR5xx come from all rules together:
    names that nobody handles, circles, calls that nobody answers, hosts that are not configured. `--against-store` adds
    what the store has shown: fields that no task of late had (SR511), tasks that nobody has foreseen (SR512).

    A line that ends with `# scriptrules: ignore[SR401]` (or several codes, with commas) is not reported for these.
    Only SR302, SR401 to SR404, SR407, SR408 and SR5xx can be ignored, never what the sandbox refuses. `scriptrules
    explain-code CODE` tells more of a code.
    """
    if as_json and output_format not in (None, "json"):
        raise click.UsageError(f"--json and --output-format {output_format} exclude one another. Leave one out.")
    from scriptrules import config
    from scriptrules.cli import formats

    settings = config.load(None, overrides(rules, plugins, None))
    if not paths and not settings.rules_dir.is_dir():
        say(f"scriptrules: there is no folder {settings.rules_dir}. Make it, or name one with --rules.")
        click.get_current_context().exit(1)
    sources, unreadable = select(settings.rules_dir, paths)
    if not paths:
        stops, broken_stops = breakpoints_in(settings.breakpoints_dir)
        sources, unreadable = [*sources, *stops], [*unreadable, *broken_stops]
    evidence = None
    if against_store:
        from scriptrules.store.make import evidence_of

        evidence = evidence_of(settings)
    findings, broken = asyncio.run(_check_all(settings, sources, evidence))
    findings = sorted([*map(_finding_of, unreadable), *findings], key=lambda one: (one.file, one.line, one.column))
    for plugin in broken:
        say(f"scriptrules: plugin {plugin.name} is broken, so its functions are unknown: {plugin.problem}")
    click.echo(formats.FORMATS["json" if as_json else output_format or "full"](findings), nl=False)
    say(formats.summary(len(sources), findings))
    if findings:
        click.get_current_context().exit(1)


def select(rules: Path, paths: tuple[str, ...]) -> tuple[list[Source], list[Unreadable]]:
    """What is to be checked: rules, and each library by itself (its rule is ``lib/NAME``).

    Files are named as they are found from the current folder.
    """
    import msgspec

    from scriptrules.rulebook.files import LIBRARY_FOLDER, is_declarative, make_source, read_all

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
        texts = {name: library.text for name, library in libraries.items() if not is_declarative(library.file)}
        for name, text in texts.items():
            rule = f"{LIBRARY_FOLDER}/{name}"
            sources[rule] = make_source(rule, f"{folder.name}/{rule}.py", text, texts)
        below = path.relative_to(folder).as_posix()
        for source in sources.values():
            if _is_within(source.file.partition("/")[2], below):
                file = _shown(folder.parent / source.file)
                found[file] = msgspec.structs.replace(source, file=file)
        for one in broken:
            if _is_within(one.file.partition("/")[2], below):
                file = _shown(folder.parent / one.file)
                unreadable[file] = msgspec.structs.replace(one, file=file)
    return [found[file] for file in sorted(found)], [unreadable[file] for file in sorted(unreadable)]


def breakpoints_in(folder: Path) -> tuple[list[Source], list[Unreadable]]:
    """The breakpoints that live in files, as what they are compiled as."""
    from scriptrules.rulebook.breakpoints import PREFIX
    from scriptrules.rulebook.files import Unreadable, is_declarative, make_source, read_all

    sources, unreadable = read_all(folder)
    found = []
    for name, source in sources.items():
        file = _shown(folder.parent / source.file)
        if is_declarative(file):
            unreadable.append(
                Unreadable(name, file, "is no breakpoint: these are written in Python. Rename it to .py.")
            )
        else:
            found.append(make_source(f"{PREFIX}{name}", file, source.text, source.libraries))
    return found, unreadable


def _shown(file: Path) -> str:
    here = Path.cwd().resolve()
    return file.relative_to(here).as_posix() if file.is_relative_to(here) else file.as_posix()


def _is_within(file: str, path: str) -> bool:
    return path in (".", file) or file.startswith(f"{path}/")


def _finding_of(broken: Unreadable) -> Finding:
    from scriptrules.cli.formats import finding_of
    from scriptrules.diagnostics import Diagnostic

    what, _, instead = broken.problem.partition(". ")
    return finding_of(Diagnostic("SR119", f"The file {what.rstrip('.')}.", 1, 0, hint=instead), "", broken.file)


async def _check_all(
    settings: Config, sources: list[Source], evidence: Evidence | None
) -> tuple[list[Finding], list[PluginInfo]]:
    """The findings of all sources, and the plugins that are broken."""
    from scriptrules.cli.formats import finding_of
    from scriptrules.rulebook.breakpoints import is_breakpoint
    from scriptrules.rulebook.linking import circles

    async with Compiler(settings) as compiler:
        found = await asyncio.gather(*(compiler.findings(source) for source in sources))
        in_circles = circles(compiler.facts)
        rules = [source for source in sources if not is_breakpoint(source.rule)]
        together = await of_all(compiler, rules, evidence)
    findings = [
        finding_of(problem, source.text, source.file)
        for source, problems in zip(sources, found, strict=True)
        for problem in (*problems, *in_circles.get(source.rule, ()), *together.get(source.rule, ()))
    ]
    return findings, [plugin for plugin in compiler.plugins.found() if plugin.problem]


async def of_all(
    compiler: Compiler, sources: list[Source], evidence: Evidence | None = None
) -> dict[str, list[Diagnostic]]:
    """What is wrong with rules as seen from all rules (SR5xx), by rule file.

    The others of the folder count, whichever of them are looked at.
    """
    import msgspec

    from scriptrules.diagnostics import lines_of
    from scriptrules.flow.findings import findings
    from scriptrules.rulebook.files import is_declarative
    from scriptrules.sightings import SENT

    facts = await compiler.analyse(sources)
    world = compiler.world
    if evidence is not None:
        world = msgspec.structs.replace(
            world,
            entries=world.entries | frozenset(edge.task for edge in evidence.edges if edge.via == SENT),
            fields=evidence.fields,
            seen=evidence.edges,
            digests=compiler.digests,
        )
    told = findings(facts, world)
    for source in sources:
        told[source.rule] = [_marked(one, lines_of(source.text)) for one in told.get(source.rule, [])]
        if is_declarative(source.file):  # SR707 and the job types say that of them
            told[source.rule] = [one for one in told[source.rule] if one.code not in ("SR508", "SR509")]
    return told


def _marked(problem: Diagnostic, lines: list[str]) -> Diagnostic:
    """A finding that is about a line, with the columns of what stands there."""
    import msgspec

    line = lines[problem.line - 1] if problem.line <= len(lines) else ""
    begin = len(line) - len(line.lstrip())
    end = len(line.rstrip().encode("utf-8", "replace"))
    return msgspec.structs.replace(problem, column=begin, end_line=problem.line, end_column=max(end, begin + 1))


class Compiler:
    """Workers that compile rules, without a supervisor; an ``async with`` block."""

    def __init__(self, settings: Config, workers: int = WORKERS) -> None:
        from scriptrules.sandbox import wire
        from scriptrules.sandbox.confine import Limits
        from scriptrules.sandbox.pool import Pool

        self.plugins = load_plugins(settings)
        limits = Limits(memory_mb=settings.sandbox.memory_mb)
        specs = [function.spec for function in self.plugins.functions.values()]
        jobs = list(self.plugins.job_types.values())
        self.pool: Pool = Pool(workers, limits, wire.Budget(), specs, settings.sandbox.hard_seconds, jobs=jobs)
        self.facts: dict[str, Metadata] = {}  # of each rule that was found to be one
        self.digests: dict[str, str] = {}  # of each rule that was analysed
        self._hosts = settings.host_kinds
        self._rules = settings.rules_dir
        self._entries = frozenset(one.task for one in settings.schedules)

    async def __aenter__(self) -> Compiler:
        await self.pool.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()

    @property
    def world(self) -> World:
        """What rules can ask for besides one another."""
        from scriptrules.flow.findings import World
        from scriptrules.jobs import COMMON

        types = self.plugins.job_types.values()
        options = {one.executor: frozenset(one.keys) - frozenset(COMMON) for one in types}
        return World(self._hosts, options, self._entries)

    async def analyse(self, sources: list[Source]) -> dict[str, Facts]:
        """The facts of these rules and of all others in the folder, by rule file."""
        from scriptrules.rulebook.files import read_all

        every = {**read_all(self._rules)[0], **{source.rule: source for source in sources}}
        self.digests = {rule: source.digest for rule, source in every.items()}
        rules = [source for rule, source in every.items() if not rule.startswith("lib/")]
        found = await asyncio.gather(*map(self.pool.analyse, rules))
        return {source.rule: facts for source, facts in zip(rules, found, strict=True) if facts is not None}

    async def findings(self, source: Source) -> list[Diagnostic]:
        """What is wrong with a source, but not with the libraries that it uses: each is one itself.

        A library has no `main`, so what is said of the parts of a rule does not count there; nor what it waits for,
        which a rule may have started.
        """
        from scriptrules.rulebook.linking import unknown_hosts

        loaded = await self.pool.load(source)
        problems = [problem for problem in loaded.problems if not problem.file]
        if loaded.metadata is not None:
            self.facts[source.rule] = loaded.metadata
            problems = [*unknown_hosts(loaded.metadata, self._hosts), *problems]
        if source.rule.startswith("lib/"):
            return [one for one in problems if not one.code.startswith("SR3") and one.code != "SR403"]
        return problems
