"""What the HTTP API answers, as types: the shapes are a contract (scriptrules.supervisor.shapes)."""

from __future__ import annotations

from typing import Any, TypedDict

Json = Any


class TaskJson(TypedDict):
    id: str
    name: str
    data: dict[str, Json]
    state: str
    since: str
    reason: str | None
    exit: str | None
    parent: str | None
    root: str
    hop: int
    key: str | None
    created: str


class VariableJson(TypedDict):
    name: str
    value: Json
    secret: bool
    version: int | None
    since: str
    by: str | None


class FailureJson(TypedDict, total=False):
    type: str
    message: str
    line: int | None
    trace: str | None
    code: str | None


class RunJson(TypedDict):
    id: str
    rule: str
    task: str
    state: str
    since: str
    reason: str | None
    exit: str | None
    value: Json
    error: FailureJson | None
    digest: str
    attempt: int
    created: str
    ended: str | None


class FrameJson(TypedDict):
    run: str
    rule: str
    task: str
    name: str
    seq: int | None
    line: int | None


class StackedRunJson(RunJson):
    stack: list[FrameJson]


class EntryJson(TypedDict):
    seq: int
    name: str
    args: dict[str, Json]
    state: str
    since: str
    reason: str | None
    result: Json
    error: FailureJson | None
    line: int
    started: str
    ended: str | None
    attempt: int
    verdict: str | None


class LogJson(TypedDict):
    at: str
    seq: int
    stream: str
    text: str
    fields: dict[str, Json] | None


class ScheduleJson(TypedDict):
    name: str
    task: str
    cron: str
    timezone: str
    catch_up: str
    last: str | None
    next: str | None


class SourceJson(TypedDict):
    name: str
    source: str
    state: str  # "running" | "failed" | "ended"
    tasks: int
    problem: str | None


class HostJson(TypedDict):
    name: str
    executor: str
    reachable: bool
    version: str | None
    detail: str
    running: int
    waiting: int
    max_running: int | None
    free: int | None
    strays: list[str]


class DrainJson(TypedDict):
    draining: bool
    running: int
    waiting: int


class BranchJson(TypedDict):
    run: RunJson
    entries: list[EntryJson]
    tasks: list[TreeJson]


class TreeJson(TypedDict):
    task: TaskJson
    runs: list[BranchJson]
    cut: bool  # there is more of it here, or (at the root) anywhere


class NextJson(TypedDict):
    run: str
    rule: str
    task: str
    via: str
    certainty: str
    condition: str
    probability: float
    seen: int
    generated: int
    remaining: float | None
    expected: str | None


class CellJson(TypedDict):
    by: str | None
    rule: str
    count: int
    last: str | None
    p50: float | None
    p90: float | None
    p99: float | None
    predicted: bool


class GraphEdgeJson(TypedDict):
    rule: str
    task: str
    via: str
    certainty: str
    condition: str
    line: int | None
    seen: int
    first_seen: str | None
    last_seen: str | None
    status: str | None
    reason: str
    returns: list[str]


class GraphJson(TypedDict):
    nodes: list[dict[str, str]]
    edges: list[GraphEdgeJson]
    matches: list[dict[str, str]]
    subsequents: dict[str, Json]


class MatrixJson(TypedDict):
    since: str | None
    cells: list[CellJson]


class PartJson(TypedDict):
    text: str
    depth: int
    value: str | None
    error: str | None


class RuleExplanationJson(TypedDict):
    rule: str
    file: str
    line: int
    on: list[str]
    when: str | None
    priority: int
    fallback: bool
    final: bool
    runs: bool
    reason: str | None
    parts: list[PartJson]
    problem: str | None


class ExplanationJson(TypedDict):
    name: str
    data: dict[str, Json]
    held_by: str | None
    rules: list[RuleExplanationJson]


class FailedJson(TypedDict):
    id: str
    detail: str


class OutcomeJson(TypedDict):
    matched: int
    changed: int
    failed: list[FailedJson]


class BreakpointJson(TypedDict):
    name: str
    on: list[str]
    at: str
    when: str | None
    created: str | None
    by: str
    file: bool
    problems: list[str]


class CaughtJson(TypedDict):
    task: str
    name: str
    run: str | None
    seq: int | None
    error: str | None


class PreviewJson(TypedDict):
    looked_at: int
    caught: int
    items: list[CaughtJson]


class EventJson(TypedDict):
    id: int  # the position in the log
    event: str
    data: Json


class AuditJson(TypedDict):
    id: int
    at: str
    who: str
    verb: str
    thing: str
    request_id: str | None
    detail: Json


class RuleJson(TypedDict):
    rule: str
    file: str
    digest: str | None  # of the active version
    metadata: dict[str, Json] | None
    problems: list[str]  # of the newest version, if it is not the active one
    quarantined: str | None
    warnings: list[str]


class RuleTextJson(TypedDict):
    rule: str
    file: str
    digest: str
    active: bool
    text: str
    diagnostics: list[dict[str, Json]]


class PinnedSourceJson(TypedDict):
    rule: str
    file: str
    digest: str
    text: str
    libraries: dict[str, str]
    newest: str | None


class PluginJson(TypedDict):
    name: str
    origin: str
    functions: list[str]
    executors: list[str]
    job_types: list[str]
    sources: list[str]
    task_sources: list[str]
    problem: str | None


class TokenJson(TypedDict):
    name: str
    role: str
    created: str


class NewTokenJson(TokenJson):
    token: str  # shown this once


class SessionJson(TypedDict):
    name: str | None
    role: str
    tokens: bool
