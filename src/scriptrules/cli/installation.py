"""`scriptrules plugins` and `doctor`: what is installed, and whether it works."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from scriptrules import __version__
from scriptrules.cli.common import (
    Piece,
    clean,
    existing_folder,
    installation,
    json_option,
    load_plugins,
    make_client,
    overrides,
    print_json,
    print_lines,
    print_table,
    wrap,
)
from scriptrules.errors import ScriptrulesError

if TYPE_CHECKING:
    from scriptrules.config import Config
    from scriptrules.plugins.executor import Executor

HOST_TIMEOUT = 15.0  # seconds until a host that does not answer is broken
SPACE_MIN = 100  # megabytes that should be free for the store
LIBRARIES = ("click", "docker", "greenlet", "msgspec", "pluggy", "RestrictedPython", "starlette", "uvicorn")
SIGNS = {"ok": ("✓", "good"), "off": ("·", "dim"), "warning": ("!", "held"), "broken": ("✗", "bad")}


class Finding(TypedDict):
    area: str
    name: str
    state: str  # "ok" | "off" | "warning" | "broken"
    detail: str


@click.command("plugins")
@click.option("--plugins", metavar="DIR", callback=existing_folder, help="Folder of plugins.")
@json_option
def plugins_command(plugins: str | None, as_json: bool) -> None:
    """List plugins and what they add.

    They are the built-in ones, those of installed packages, and each file in plugins/.
    """
    from scriptrules import config

    settings = config.load(None, overrides(None, plugins, None))
    found = load_plugins(settings).found()
    if as_json:
        items = [
            {
                "name": info.name,
                "origin": info.origin,
                "functions": info.functions,
                "executors": info.executors,
                "job_types": info.job_types,
                "sources": info.sources,
                "task_sources": info.task_sources,
                "problem": info.problem,
            }
            for info in found
        ]
        print_json({"items": items, "next": None})
        return
    rows: list[list[str | Piece]] = []
    for info in found:
        adds = [f"{name}()" for name in info.functions] + [f"executor {name}" for name in info.executors]
        adds += [f"jobs of type {name}" for name in info.job_types]
        adds += [f"variables from {name}" for name in info.sources]
        adds += [f"tasks from {name}" for name in info.task_sources]
        first, *rest = wrap(info.problem or ", ".join(adds) or "hooks", 40)
        style = "bad" if info.problem else ""
        rows.append([(info.name, "bold"), _relative(info.origin), (first, style)])
        rows += [["", "", (line, style)] for line in rest]
    print_table(("NAME", "FROM", "ADDS"), rows)


@click.command("doctor")
@installation
@json_option
def doctor_command(rules: str | None, plugins: str | None, store: str | None, as_json: bool) -> None:
    """Check whether everything that is needed is there.

    Exit status 1 where something is broken.
    """
    from scriptrules import config

    findings: list[Finding] = _versions()
    try:
        settings = config.load(None, overrides(rules, plugins, store))
    except ScriptrulesError as error:
        findings.append(Finding(area="config", name="file", state="broken", detail=error.message))
    else:
        read_from = _relative(str(settings.file)) if settings.file else "no file; the defaults hold"
        findings.append(Finding(area="config", name="file", state="ok", detail=read_from))
        findings += asyncio.run(_look(settings))
    if as_json:
        print_json({"items": findings, "next": None})
    else:
        _print(findings)
    if any(finding["state"] == "broken" for finding in findings):
        click.get_current_context().exit(1)


def _print(findings: list[Finding]) -> None:
    area = ""
    for finding in findings:
        if finding["area"] != area:
            area = finding["area"]
            print_lines([[(area, "bold")]])
        sign, style = SIGNS[finding["state"]]
        first, *rest = wrap(clean(finding["detail"]), 22)
        print_lines([[(f"  {sign} ", style), (finding["name"].ljust(18), ""), (first, "dim")]])
        print_lines([(" " * 22 + line, "dim")] for line in rest)


def _versions() -> list[Finding]:
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    python = f"{platform.python_version()} on {platform.system()} {platform.release()} {platform.machine()}"
    return [
        Finding(area="versions", name="scriptrules", state="ok", detail=__version__),
        Finding(area="versions", name="Python", state="ok", detail=python),
        Finding(area="versions", name="libraries", state="ok", detail=libraries),
    ]


async def _look(settings: Config) -> list[Finding]:
    findings = await _sandbox_and_rules(settings)
    findings += _store(settings)
    findings.append(_secrets(settings))
    findings += [finding async for finding in _plugins_and_hosts(settings)]
    findings.append(await asyncio.to_thread(_server))
    return findings


async def _sandbox_and_rules(settings: Config) -> list[Finding]:
    """Start one worker, see which walls stand around it, and have it compile the rules."""
    from scriptrules.cli.checking import Compiler, select
    from scriptrules.diagnostics import is_warning
    from scriptrules.sandbox.confine import WALLS_REQUIRED

    findings: list[Finding] = []
    try:
        async with Compiler(settings, workers=1) as compiler:
            full = settings.sandbox.require == "full"
            for wall, status in compiler.pool.walls.items():
                lacking = wall in WALLS_REQUIRED and not status.startswith("on")
                state = "ok" if status.startswith("on") else "broken" if lacking and full else "warning"
                findings.append(Finding(area="sandbox", name=wall, state=state if lacking else "ok", detail=status))
            if not settings.rules_dir.is_dir():
                detail = f"there is no folder {_relative(str(settings.rules_dir))}; `scriptrules serve` makes it"
                return [*findings, Finding(area="rules", name="folder", state="warning", detail=detail)]
            sources, unreadable = select(settings.rules_dir, ())
            found = await asyncio.gather(*(compiler.findings(source) for source in sources))
    except ScriptrulesError as error:
        return [*findings, Finding(area="sandbox", name="worker", state="broken", detail=error.message)]
    refused = sum(any(not is_warning(problem.code) for problem in problems) for problems in found)
    broken = refused + len(unreadable)
    detail = f"{len(sources)} in {_relative(str(settings.rules_dir))}"
    detail += f", {broken} broken: see `scriptrules check`" if broken else ""
    findings.append(Finding(area="rules", name="files", state="broken" if broken else "ok", detail=detail))
    return findings


def _store(settings: Config) -> list[Finding]:
    """Whether the store's folder can be written. The store itself is not opened: a server may have it."""
    try:
        path = settings.store_path
    except ScriptrulesError as error:
        return [Finding(area="store", name="url", state="broken", detail=error.message)]
    if path is None:
        return [Finding(area="store", name="memory", state="ok", detail="it ends with the process")]
    folder = next(each for each in path.absolute().parents if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(13, "Permission denied", str(path))
        free = shutil.disk_usage(folder).free // 1024**2
    except OSError as error:
        detail = f"{_relative(str(path))} cannot be written: {error.strerror}. Correct its permissions, or --store."
        return [Finding(area="store", name="sqlite", state="broken", detail=detail)]
    state = "ok" if free >= SPACE_MIN else "warning"
    detail = f"{_relative(str(path))} can be written; {free} MB free"
    return [Finding(area="store", name="sqlite", state=state, detail=detail)]


def _secrets(settings: Config) -> Finding:
    """Whether the keys of secrets can be used, and by nobody else."""
    from scriptrules.supervisor.vault import Vault

    try:
        return Finding(area="secrets", name="key file", state="ok", detail=Vault(settings.key_file).describe())
    except ScriptrulesError as error:
        return Finding(area="secrets", name="key file", state="broken", detail=error.message)


async def _plugins_and_hosts(settings: Config) -> AsyncIterator[Finding]:
    from scriptrules.plugins.executor import ExecutorContext

    plugins = load_plugins(settings)
    for info in plugins.found():
        detail = info.problem or _relative(info.origin)
        yield Finding(area="plugins", name=info.name, state="broken" if info.problem else "ok", detail=detail)
    if not settings.hosts:
        detail = "none; rules that use run() need one: [hosts.local] in scriptrules.toml"
        yield Finding(area="hosts", name="configured", state="off", detail=detail)
    for name, table in settings.hosts.items():
        try:
            state_dir = settings.state_dir / "hosts" / name
            executor = plugins.make_executor(
                table["executor"], table, ExecutorContext(name, "doctor", state_dir, Path(settings.base))
            )
            try:
                sentence = await asyncio.wait_for(executor.check(), HOST_TIMEOUT)
                strays = await asyncio.wait_for(_strays(name, executor), HOST_TIMEOUT)
            finally:
                await executor.close()
        except TimeoutError:
            sentence = f"it does not answer within {HOST_TIMEOUT:.0f} s"
        except ScriptrulesError as error:
            sentence = error.message
        except Exception as error:
            sentence = f"the executor {table['executor']!r} failed: {error!r}"
        else:
            state = "warning" if "missing:" in sentence or "not executable" in sentence else "ok"
            yield Finding(area="hosts", name=name, state=state, detail=sentence)
            if strays:
                yield Finding(area="hosts", name=f"{name}: strays", state="warning", detail=strays)
            continue
        yield Finding(area="hosts", name=name, state="broken", detail=sentence)


async def _strays(host: str, executor: Executor) -> str:
    """What is on a host and nothing accounts for, as a sentence; only a server knows what accounts for what."""
    from scriptrules.plugins.executor import Hosting

    if not isinstance(executor, Hosting):
        return ""
    try:
        found = {one["name"]: one["strays"] for one in await asyncio.to_thread(make_client().hosts)}
    except ScriptrulesError:
        placed = [one.name for one in await executor.inventory() if not one.kept]
        return f"{len(placed)} executions are there; start the server, which knows whose they are" if placed else ""
    strays = found.get(host, [])
    return f"nothing accounts for {', '.join(strays)}; remove what nobody needs by hand" if strays else ""


def _server() -> Finding:
    client = make_client()
    try:
        state = client.ready()
    except ScriptrulesError as error:
        return Finding(area="server", name="none", state="off", detail=error.message)
    detail = f"{client.url} with {state['rules']} rules and {state['workers']} workers"
    try:
        counts = client.counts()["tasks"]
    except ScriptrulesError as error:  # it may want a token
        return Finding(area="server", name="ready", state="warning", detail=f"{detail}. {error.message}")
    tasks = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
    return Finding(area="server", name="ready", state="ok", detail=f"{detail}; tasks: {tasks}")


def _relative(path: str) -> str:
    """A path as people want to read it: below the current folder it is relative."""
    if os.path.isabs(path) and os.path.commonpath([path, os.getcwd()]) == os.getcwd():
        return os.path.relpath(path)
    return path
