"""A tour in ten seconds: a server on the embedded defaults, one task, and everything that follows from it, live.

Run by `make demo`. In a terminal the server goes on until Ctrl-C; elsewhere it is stopped at the end.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from scriptrules.cli import tree as trees
from scriptrules.cli.common import say
from scriptrules.cli.live import INTERVAL, TreeView
from scriptrules.client import Client, TreeJson
from scriptrules.errors import ScriptrulesError

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / ".scriptrules" / "demo.log"
PORT = 8765
START_TIMEOUT = 60.0  # seconds
TASK = "upload.finished"
DATA = {"file": "sales-november.csv", "content": "north,120\nsouth,80\nwest,310\nnorth,45\nsouth,9\n"}


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is stopped in any case
    LOG.parent.mkdir(exist_ok=True)
    server, address = start_server(PORT)
    if address is None and "cannot be listened on" in LOG.read_text():
        server, address = start_server(0)
    try:
        if address is None:
            say("The demo's server did not start:\n" + "\n".join(LOG.read_text().splitlines()[-3:]))
            return 1
        return show(address)
    except KeyboardInterrupt:
        return 0
    except ScriptrulesError as error:
        say(f"demo: {error.message}")
        return 1
    finally:
        stop(server)


def start_server(port: int) -> tuple[subprocess.Popen[bytes], str | None]:
    """A server, and the address that it says it has; None where it ended instead."""
    command = [sys.executable, "-m", "scriptrules", "serve", "--listen", f"127.0.0.1:{port}"]
    with LOG.open("wb") as log:  # of its own session: Ctrl-C is for the demo, which then stops it in order
        server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)
    deadline = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        found = re.search(r"scriptrules serves (http://\S+)", LOG.read_text(errors="replace"))
        if found:
            return server, found[1]
        time.sleep(0.02)
    stop(server)
    return server, None


def stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def show(address: str) -> int:
    client = Client(address)
    ready = client.ready()
    walls = sum(str(state).startswith("on") for state in ready["walls"].values())
    say(
        f"A server with {ready['rules']} rules in {ready['workers']} sandboxed workers ({walls} of "
        f"{len(ready['walls'])} walls stand), store .scriptrules/state.db, programs instead of containers.\n"
        f"One task is sent, and rules do the rest: {TASK} file={DATA['file']}\n"
    )
    began = time.monotonic()
    id = client.send(TASK, DATA)
    with TreeView() as view:
        while True:
            tree = client.tree(id)
            view.update(tree)
            if trees.outlook(tree) != "active":
                break
            time.sleep(INTERVAL)
    runs = sum(len(each["runs"]) for each in _all(tree))
    states, took = [task["state"] for task in trees.tasks_of(tree)], time.monotonic() - began
    say(f"\n{len(states)} tasks, {runs} runs, {took:.1f} s; each step was durable before it had effects.")
    if not {"failed", "cancelled"}.isdisjoint(states):
        return 1
    script = Path(sys.executable).parent / "scriptrules"
    command = os.path.relpath(script) if script.exists() else "python -m scriptrules"
    prefix = "" if address.endswith(f":{PORT}") else f"SCRIPTRULES_URL={address} "
    say(
        f"""
The server is at {address}: open it in a browser. Or try, in another terminal:
  {prefix}{command} send disk.usage mount=/ percent:=91 --wait
  {prefix}{command} tasks                   every task; then `task ID --tree`, `runs`, `show RUN`, `logs RUN`
  edit rules/uploads/verify.py and send again: it is active once saved
  {command} run {TASK} file=a.csv content=north,1     the same without a server
  {command} check                   what is wrong with the rules, if anything"""
    )
    if sys.stdin.isatty() and sys.stdout.isatty():
        say("\nCtrl-C ends it.")
        while True:
            time.sleep(3600)
    return 0


def _all(tree: TreeJson) -> list[TreeJson]:
    return [tree, *(each for branch in tree["runs"] for child in branch["tasks"] for each in _all(child))]


if __name__ == "__main__":
    sys.exit(main())
