"""Projects in temporary folders, and the command line as people start it: a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 60.0  # seconds until something that must happen is given up
ADDRESS = re.compile(r"scriptrules serves (http://\S+)")

CONFIG = """
[hosts.local]
executor = "process"
programs = ["sort", "false", "sleep"]
"""
RULES = {
    "greet": 'on = "greet"\ndef main(name, times=1):\n    log("hello " + name, to=name)\n'
    '    emit("greeted", name=name)  # scriptrules: ignore[SR501]\n    return name * times\n',
    "sorted": 'on = "sort"\ndef main(text):\n    run("local", "order", "sort", stdin=text)\n'
    '    return wait("order").stdout.split()\n',
    "failing": 'on = "fail"\ndef main():\n    x = 1 // 0\n',
    "breaking": 'on = "break"\ndef main():\n    run("local", "no", "false")\n    wait("no")\n',
    "holding": 'on = "hold"\ndef main():\n    hold("somebody has to look")\n    return "went on"\n',
    "waiting": 'on = "wait"\ndef main():\n    return wait(emit("hold")).value\n',
    "long": 'on = "long"\ndef main():\n    log("before")\n    sleep(3600)\n',
    "fussy": 'on = "fussy"\nwhen = lambda task: task["size"] > 3\ndef main():\n    pass\n',
}
PLUGIN = '''
import click
from scriptrules import function, hookimpl

@function
async def shout(text: str) -> str:
    """Upper case."""
    return text.upper()

@hookimpl
def scriptrules_functions():
    return [shout]

@hookimpl
def scriptrules_commands():
    @click.command("cheer", help="Cheer.")
    def cheer():
        click.echo("hooray")
    return [cheer]
'''


class Ended:
    """A command that has ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr
        assert "Traceback" not in self.err, self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**variables: str) -> dict[str, str]:
    """Ours without what would configure the command, plus `variables`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SCRIPTRULES_")}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        own.pop(name, None)
    return {**own, "PYTHONPATH": str(ROOT / "src"), **variables}


class Project:
    """A folder with rules, a plugin and a configuration."""

    def __init__(self, folder: Path, rules: dict[str, str] = RULES, config: str = CONFIG, plugin: str = PLUGIN) -> None:
        self.folder = folder
        (folder / "rules").mkdir()
        (folder / "plugins").mkdir()
        for name, text in rules.items():
            file = folder / "rules" / (name if name.endswith((".yaml", ".yml")) else f"{name}.py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (folder / "scriptrules.toml").write_text(config)
        if plugin:
            (folder / "plugins" / "cheers.py").write_text(plugin)
        self.url = "http://127.0.0.1:1"  # where nobody listens

    def __call__(self, *arguments: str, stdin: str = "", **variables: str) -> Ended:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "scriptrules", *arguments],
            cwd=self.folder,
            env=environment(SCRIPTRULES_URL=self.url, **variables),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
        return Ended(done)

    @contextlib.contextmanager
    def serving(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A server of this project, on a port of its own; it must end cleanly."""
        log = self.folder / "server.log"
        with log.open("w") as stream:
            server = subprocess.Popen(
                [sys.executable, "-m", "scriptrules", "serve", "--listen", "127.0.0.1:0", *arguments],
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        try:
            address = until(lambda: ADDRESS.search(log.read_text()) or server.poll() is not None)
            assert isinstance(address, re.Match), log.read_text()
            self.url = address[1]
            yield server
            server.terminate()
            out, _ = server.communicate(timeout=PATIENCE)
            assert server.returncode == 0, log.read_text()
            assert out == ""
            assert "Traceback" not in log.read_text()
        finally:
            if server.poll() is None:
                server.kill()
            server.communicate()

    def until_state(self, id: str, state: str) -> Any:
        """The task or run, once it has this state."""
        command = ("show", id, "--json") if id.startswith("r") else ("task", id, "--json")

        def look() -> Any:
            shown = self(*command).json
            thing = shown.get("run", shown)
            return thing if thing["state"] == state else None

        return until(look)

    def run_of(self, task: str) -> str:
        """The id of a task's run, once there is one."""
        id: str = until(lambda: self("runs", "--task", task, "--json").json["items"])[0]["id"]
        return id


def until(look: Any) -> Any:
    """What `look` returns, once that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)
    return found
