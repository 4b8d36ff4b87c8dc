"""The confined process: reads requests from descriptor 0, executes rule code, answers. It can do nothing else.

Every reply goes out in one write together with the announcement of what is executed next, so that the supervisor
always knows what a worker that falls silent was doing, for the price of one system call a request.
"""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import msgspec

from scriptrules.flow.facts import analyse
from scriptrules.function import FunctionSpec
from scriptrules.sandbox import jobs, meter, signals, wire
from scriptrules.sandbox.book import Book
from scriptrules.sandbox.builtins import make_builtins
from scriptrules.sandbox.confine import Limits
from scriptrules.sandbox.intrinsics import injected
from scriptrules.sandbox.meter import Meter
from scriptrules.sandbox.policy import POLICY_VERSION
from scriptrules.sandbox.script import Script

SOCKET = 0
READ_SIZE = 256 * 1024  # bytes
RECURSION_MAX = 600  # frames of Python; each frame of a rule costs two or three with its guards


def prepare(limits: Limits) -> None:
    """Set up what the process wall forbids later."""
    meter.install()


def main(limits: Limits, walls: dict[str, str]) -> None:
    """Serve until the supervisor closes the socket."""
    sys.setrecursionlimit(RECURSION_MAX)
    Worker().serve(walls)


class Worker:
    def __init__(self) -> None:
        self._out = bytearray()
        self._budget = wire.Budget()
        self._builtins = make_builtins()
        self._book = Book(self._builtins, self._budget, self._announce_filter)
        self._functions: dict[str, FunctionSpec] = {}
        self._scripts: dict[int, Script] = {}
        self._number = 0

    def serve(self, walls: dict[str, str]) -> None:
        """Answer requests in their order."""
        version = ".".join(platform.python_version_tuple()[:2])
        self._send(wire.Ready(walls, version, POLICY_VERSION))
        self._flush()
        frames = wire.Frames(wire.FRAME_MAX)
        while True:
            data = os.read(SOCKET, READ_SIZE)
            if not data:
                return
            for body in frames.feed(data):
                self._serve(wire.decode_to_worker(body))
            self._flush()

    def _serve(self, request: wire.ToWorker) -> None:
        match request:
            case wire.Take():
                self._number = request.number
                self._send(self._take(request))
            case wire.Resume():
                self._number = request.number
                self._send(wire.Ran(request.number, self._resume(request)))
            case wire.Replay():
                self._number = request.number
                self._send(wire.Ran(request.number, self._replay(request)))
            case wire.Load():
                self._number = request.number
                self._announce(request.rule, main=False)
                self._send(self._load(request))
            case wire.Explain():
                self._number = request.number
                self._send(self._metered(lambda: self._book.explain(request)))
            case wire.Judge():
                self._number = request.number
                self._send(self._metered(lambda: self._book.judge(request)))
            case wire.Book():
                self._book.change(request.epoch, request.put, request.drop)
            case wire.Evict():
                for slot in request.slots:
                    script = self._scripts.pop(slot, None)
                    if script is not None:
                        self._metered(script.evict)
            case wire.Forget():
                self._book.forget(request.digests)
            case wire.Analyse():
                self._number = request.number
                self._announce(request.source.rule, main=False)
                self._send(wire.Analysed(request.number, analyse(request.source, self._functions)))
            case wire.Setup():
                self._budget = request.budget
                self._functions = {spec.name: spec for spec in request.functions}
                self._builtins.update(injected(request.functions))
                self._builtins["Job"] = jobs.constructor(request.jobs)
                self._book = Book(self._builtins, self._budget, self._announce_filter, request.functions, request.jobs)
                meter.allow(request.budget.cpu_seconds)

    # ---- requests

    def _load(self, request: wire.Load) -> wire.Loaded:
        facts, problems = self._book.load(request)
        return wire.Loaded(request.number, facts, problems)

    def _take(self, request: wire.Take) -> wire.Taken:
        book = self._book
        match = self._metered(lambda: book.match(request.task))
        runs = []
        reasons = match.reasons
        for at, plan in enumerate(match.plans):
            piece = None
            if plan.rule not in request.skip and not plan.limited:
                view = request.task
                if plan.fallback and reasons:
                    view = wire.with_reasons(view, reasons)
                script = Script(plan.program, view, self._builtins, self._budget, request.slot + at, request.now, 1)
                piece = self._run(script, lambda script=script: script.start([]))
            answers = request.task.name in plan.literals and not plan.fallback
            runs.append(wire.Started(plan.rule, book.digest_of(plan), answers, plan.priority, piece))
        return wire.Taken(request.number, book.epoch, runs, match.problem, reasons)

    def _replay(self, request: wire.Replay) -> wire.Slice | None:
        compiled = self._book.compiled.get(request.digest)
        plan = compiled.plan(request.rule) if compiled else None
        if plan is None:
            return None
        view = request.task if plan.fallback else msgspec.structs.replace(request.task, reasons=None)
        script = Script(plan.program, view, self._builtins, self._budget, request.slot, request.now, request.attempt)
        return self._run(script, lambda: script.start(request.past))

    def _resume(self, request: wire.Resume) -> wire.Slice | None:
        script = self._scripts.pop(request.slot, None)
        if script is None:
            return None
        return self._run(script, lambda: script.resume(request.outcome, request.now))

    def _run(self, script: Script, step: Any) -> wire.Slice:
        self._announce(script.program.rule, main=True)
        piece: wire.Slice = self._metered(step)
        if script.suspended:
            self._scripts[script.slot] = script
        return piece

    def _metered(self, step: Any) -> Any:
        """Do `step` under the CPU budget. A tick that comes after the last line of the script is nobody's fault."""
        meter.lap()
        Meter.running = True
        try:
            try:
                return step()
            finally:
                Meter.running = False
        finally:
            signals.current = signals.Scope()

    # ---- the wire

    def _announce_filter(self, rule: str) -> None:
        meter.lap()
        self._announce(rule, main=False)

    def _announce(self, rule: str, main: bool) -> None:
        self._send(wire.Ack(self._number, rule, main))
        self._flush()

    def _send(self, message: Any) -> None:
        wire.add_frame(self._out, message)

    def _flush(self) -> None:
        out = self._out
        while out:
            written = os.write(SOCKET, out)
            del out[:written]
