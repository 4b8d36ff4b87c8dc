"""A host for hostile scripts: executes each in a process of its own, under limits, and reports what became of it.

Used as a program: `python host.py CORPUS.py [--stable]` writes one JSON object a line: `{"id", "outcome", "shown"}`.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import select
import signal
import sys
import time
from typing import Any

import greenlet

from scriptrules.diagnostics import Rejected
from scriptrules.sandbox import payload, signals
from scriptrules.sandbox.builtins import make_builtins
from scriptrules.sandbox.facades import MODULES
from scriptrules.sandbox.formatting import scrub
from scriptrules.sandbox.guards import Opaque
from scriptrules.sandbox.policy import compile_source

MEMORY = 512 * 1024 * 1024  # bytes of address space
CPU = 3  # seconds
PATIENCE = 6.0  # seconds until a silent script is killed
STEPS = 200_000
ENTRIES = 2000
SECRET = "CANARY-of-the-host"


class Context(Opaque):
    """The `ctx` of the scripts: one readable attribute, one secret."""

    visible = frozenset({"name"})

    def __init__(self) -> None:
        self.name = "context"
        self.secret = SECRET


class Run(signals.Scope):
    """One execution of a script, with the injected functions it may call."""

    def __init__(self, source: str, cancel: bool, builtins: dict[str, Any]) -> None:
        super().__init__(STEPS)
        self.source = source
        self.cancel = cancel
        self.emitted: list[str] = []
        self.written = 0
        self.entries = 0
        self.in_main = False
        self.greenlet = greenlet.greenlet(self.body)
        builtins.update(run=self.run, emit=self.emit, wait=self.wait)
        self.builtins = builtins

    def body(self) -> tuple[str, str]:
        try:
            value = self.execute()
        except Rejected as error:
            return "rejected_at_load", str(error)
        except (signals.LimitExceeded, MemoryError, RecursionError) as error:
            return "killed_by_limit", f"{type(error).__name__}: {error}"
        except signals.Ended:
            return "error_at_run", "ended"
        except Exception as error:
            return "error_at_run", scrub(f"{type(error).__name__}: {error}")
        return "harmless", value

    def execute(self) -> str:
        code = compile_source(self.source, "rule.py").code
        names: dict[str, Any] = {"__builtins__": self.builtins, "__name__": "rule"}
        exec(code, names)
        self.in_main = True
        main = names["main"]
        if not hasattr(main, "__code__") or main.__code__.co_filename != "rule.py":
            raise TypeError("main is not a function of the rule")
        event = {"id": 1, "name": "door", "tags": ["a", "b"]}
        value = main(event=event, ctx=Context())
        return payload.encode(value, "the return value", 65536, 32).decode()

    def use(self, name: str, data: Any) -> str:
        if self.dead:
            raise signals.Ended
        if not self.in_main or greenlet.getcurrent() is not self.greenlet:
            raise RuntimeError(f"{name}() can be used inside main only")
        self.entries += 1
        if self.entries > ENTRIES:
            raise signals.LimitExceeded("entries", "too many entries")
        return payload.encode(data, name, 65536, 32).decode()

    def run(self, action: str, /, **data: Any) -> Any:
        self.use("run", data)
        if type(action) is not str or action != "light.on":
            raise PermissionError("no such action")
        return {"ok": True, "n": self.entries, "tags": ["a"]}

    def emit(self, kind: str, /, **data: Any) -> None:
        if type(kind) is not str:
            raise TypeError("the kind is a text")
        self.emitted.append(kind + self.use("emit", data))

    def wait(self, what: Any) -> None:
        self.use("wait", {"what": what})
        self.greenlet.parent.switch()
        if self.dead:
            raise signals.Ended
        self.steps = STEPS

    def write(self, text: str) -> None:
        self.written += len(text)
        if self.written > 100_000:
            raise signals.LimitExceeded("log", "too much printed")

    def to_the_end(self) -> tuple[str, str]:
        signals.current = self
        result = self.greenlet.switch()
        while not self.greenlet.dead:
            if self.cancel:
                self.dead = True
                result = self.greenlet.throw(signals.Ended)
            else:
                result = self.greenlet.switch()
        return result


def judge(entry: dict[str, Any]) -> dict[str, str]:
    """Execute a script, and the honest one after it, as one worker does."""
    builtins: dict[str, Any] = {**make_builtins(), **{name: MODULES[name] for name in MODULES if "." not in name}}
    first = Run(entry["source"], bool(entry.get("cancel")), builtins)
    outcome, shown = first.to_the_end()
    texts = [shown, *first.emitted]
    if entry.get("then"):
        honest = entry["source"] if entry["then"] == "same" else entry["then"]
        second = Run(honest, False, builtins)
        texts.extend([second.to_the_end()[1], *second.emitted])
    if any(text.lstrip('"').startswith("PWNED") or SECRET in text for text in texts):
        outcome = "PWNED"
    return {"outcome": outcome, "shown": "|".join(texts)[:2000]}


def in_child(entry: dict[str, Any]) -> dict[str, str]:
    """Judge a script in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ["TZ"] = entry.get("zone", "UTC0")
        time.tzset()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with os.fdopen(writer, "w") as answer:
            json.dump(judge(entry), answer)
        os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + PATIENCE
    received = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([reader], [], [], left)[0]:
        piece = os.read(reader, 65536)
        if not piece:
            break
        received += piece
    else:
        os.kill(child, signal.SIGKILL)
    os.close(reader)
    status = os.waitpid(child, 0)[1]
    if received and status == 0:
        return json.loads(received)
    return {"outcome": "killed_by_limit" if os.WIFSIGNALED(status) else "worker_died", "shown": f"status {status}"}


def main() -> None:
    corpus = runpy.run_path(sys.argv[1])["CORPUS"]
    for entry in corpus:
        if sys.version_info[:2] < tuple(map(int, str(entry.get("min_py", "3.11")).split("."))):
            continue
        if entry.get("stable") or "--stable" not in sys.argv:
            print(json.dumps({"id": entry["id"], **in_child(entry)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
