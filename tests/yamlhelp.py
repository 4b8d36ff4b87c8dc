"""Declarative rules, compiled as a worker does it, but in this process."""

from __future__ import annotations

import ast
from typing import Any

from scriptrules.diagnostics import Diagnostic
from scriptrules.executors import _docker_policy, _process_policy
from scriptrules.jobs import job_type
from scriptrules.rulebook.declarative import Form, read
from scriptrules.rulebook.metadata import Metadata
from scriptrules.sandbox.book import Book
from scriptrules.sandbox.builtins import make_builtins
from scriptrules.sandbox.intrinsics import INTRINSICS, injected
from scriptrules.sandbox.jobs import constructor
from scriptrules.sandbox.wire import Budget, Load

DOCKER = job_type("Docker", "docker", "A container.", _docker_policy.OPTIONS)
PROCESS = job_type("Process", "process", "A program.", _process_policy.OPTIONS)
TYPES = {"Docker": DOCKER, "Process": PROCESS}
SPECS = [function.spec for function in INTRINSICS.values()]

REPORT = """\
description: Rebuild the report.
on: upload.finished
when: task["size"] > 0
priority: 3
type: Docker
body:
  action: run
  host: locust
  name: mid-mf
  image: registry.example/uploads:2
  args:
    - -m
    - reports.mid_mf
    - {type: data, name: size}
  env: {LEVEL: yes}
  cpus: 2
then:
  branch: {ok: report.ready, failed: [report.failed, ops.alert]}
"""


def form(text: str) -> Form:
    return read(text, TYPES)


def python(text: str) -> str:
    """The rule that a text declares, as one would write it in Python."""
    return ast.unparse(form(text).make())


def load(text: str, file: str = "rules/r.yaml") -> tuple[Metadata | None, list[Diagnostic]]:
    """What a worker says about a rule file."""
    names: dict[str, Any] = {**make_builtins(), **injected(SPECS), "Job": constructor(TYPES.values())}
    book = Book(names, Budget(), lambda _: None, SPECS, TYPES.values())
    return book.load(Load(1, "digest", "r", file, text, {}))


def found(text: str) -> list[tuple[str, int, int]]:
    """Code, line and column (from 0) of each finding."""
    return [(problem.code, problem.line, problem.column) for problem in load(text)[1]]
