"""A client of the HTTP API, on the standard library alone so that a command of one request starts quickly.

It knows the paths and what they answer, and turns ``application/problem+json`` into errors that say what to do next.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from scriptrules.client_types import (
    AuditJson,
    BranchJson,
    BreakpointJson,
    CaughtJson,
    CellJson,
    DrainJson,
    EntryJson,
    EventJson,
    ExplanationJson,
    FailedJson,
    FailureJson,
    FrameJson,
    GraphEdgeJson,
    GraphJson,
    HostJson,
    Json,
    LogJson,
    MatrixJson,
    NewTokenJson,
    NextJson,
    OutcomeJson,
    PartJson,
    PinnedSourceJson,
    PluginJson,
    PreviewJson,
    RuleExplanationJson,
    RuleJson,
    RuleTextJson,
    RunJson,
    ScheduleJson,
    SessionJson,
    SourceJson,
    StackedRunJson,
    TaskJson,
    TokenJson,
    TreeJson,
    VariableJson,
)
from scriptrules.errors import ConfigError, ScriptrulesError

__all__ = [
    "DEFAULT_URL",
    "AuditJson",
    "BranchJson",
    "BreakpointJson",
    "CaughtJson",
    "CellJson",
    "Client",
    "DrainJson",
    "EntryJson",
    "EventJson",
    "ExplanationJson",
    "FailedJson",
    "FailureJson",
    "FrameJson",
    "GraphEdgeJson",
    "GraphJson",
    "HostJson",
    "Json",
    "LogJson",
    "MatrixJson",
    "NewTokenJson",
    "NextJson",
    "OutcomeJson",
    "PartJson",
    "PinnedSourceJson",
    "PluginJson",
    "PreviewJson",
    "Refused",
    "RuleExplanationJson",
    "RuleJson",
    "RuleTextJson",
    "RunJson",
    "ScheduleJson",
    "SessionJson",
    "SourceJson",
    "StackedRunJson",
    "TaskJson",
    "TokenJson",
    "TreeJson",
    "Unreachable",
    "VariableJson",
]

DEFAULT_URL = "http://127.0.0.1:8765"
TIMEOUT = 60.0  # seconds without a byte from the server
PAGE = 1000  # items of one page: the most that the server gives


class Unreachable(ScriptrulesError):
    """No server answers. Start one with `scriptrules serve`, or set SCRIPTRULES_URL."""

    code = "SR880"


class Refused(ScriptrulesError):
    """The server has refused the request."""

    code = "SR881"

    def __init__(self, status: int, problem: Mapping[str, Json]) -> None:
        super().__init__(str(problem.get("detail") or f"The server answered {status} {problem.get('title', '')}."))
        self.status = status
        self.code = str(problem.get("code") or type(self).code)


class Client:
    """Speaks to one server. Each request is a connection of its own.

    Args:
        url: of the server, such as http://127.0.0.1:8765.
        timeout: seconds without a byte after which a request is given up.
        token: that says who asks; the server at loopback asks for none while it has none.

    Raises:
        ConfigError: the URL cannot be one.
    """

    def __init__(self, url: str = DEFAULT_URL, timeout: float = TIMEOUT, token: str | None = None) -> None:
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:
            parts, self._port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is not the URL of a server. Set SCRIPTRULES_URL={DEFAULT_URL}.")
        self.url = url
        self._host = parts.hostname
        self._prefix = parts.path.rstrip("/")
        self._timeout = timeout
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection

    # ---- tasks

    def send(self, name: str, data: Mapping[str, Json], key: str | None = None) -> str:
        """Have a task stored; returns its id once it is durable."""
        body = {"name": name, "data": data, **({} if key is None else {"key": key})}
        return str(self._request("POST", "/api/tasks", _encode(body))["id"])

    def send_lines(self, lines: bytes) -> list[str]:
        """Have many tasks stored, all or none: one JSON object ``{"name": …, "data": …}`` a line. Returns their ids."""
        ids: list[str] = self._request("POST", "/api/tasks", lines, "application/x-ndjson")["ids"]
        return ids

    def tasks(self, limit: int, **filters: str | None) -> list[TaskJson]:
        """The newest tasks that fit: by state, name, parent, root, reason, since, until."""
        return self._pages("/api/tasks", limit, filters)

    def task(self, id: str) -> TaskJson:
        task: TaskJson = self._request("GET", f"/api/tasks/{quote(id, safe='')}")
        return task

    def tree(self, id: str) -> TreeJson:
        """A task, its runs with their entries, and all that follows from it."""
        tree: TreeJson = self._request("GET", f"/api/tasks/{quote(id, safe='')}/tree")
        return tree

    def next(self, id: str) -> list[NextJson]:
        """What is likely to follow from the runs of a task that are under way, the likeliest first."""
        items: list[NextJson] = self._request("GET", f"/api/tasks/{quote(id, safe='')}/next")["items"]
        return items

    def graph(self) -> GraphJson:
        """Which rules can generate which tasks, and what was seen of it."""
        graph: GraphJson = self._request("GET", "/api/graph")
        return graph

    def explain(self, id: str) -> ExplanationJson:
        """Why each rule matches a task or does not, under the rules of now."""
        found: ExplanationJson = self._request("GET", f"/api/tasks/{quote(id, safe='')}/explain")
        return found

    def explain_other(self, name: str, data: Mapping[str, Json]) -> ExplanationJson:
        """The same for a task that might come."""
        found: ExplanationJson = self._request("POST", "/api/explain", _encode({"name": name, "data": data}))
        return found

    def matrix(self, since: str | None = None) -> MatrixJson:
        """Which rules have run which, and can."""
        query = f"?{urlencode({'since': since})}" if since else ""
        matrix: MatrixJson = self._request("GET", f"/api/matrix{query}")
        return matrix

    def held(self, limit: int) -> list[TaskJson | RunJson]:
        """The tasks and runs that are held, newest first."""
        return self._pages("/api/held", limit, {})

    # ---- runs

    def runs(self, limit: int, **filters: str | None) -> list[RunJson]:
        """The newest runs that fit: by state, name, rule, task, reason, since, until."""
        return self._pages("/api/runs", limit, filters)

    def run(self, id: str) -> StackedRunJson:
        """A run, and who has called it."""
        run: StackedRunJson = self._request("GET", f"/api/runs/{quote(id, safe='')}")
        return run

    def journal(self, id: str) -> list[EntryJson]:
        """The entries of a run."""
        items: list[EntryJson] = self._request("GET", f"/api/runs/{quote(id, safe='')}/journal")["items"]
        return items

    def logs(self, id: str, follow: bool) -> Iterator[LogJson]:
        """The lines of a run's log and of its executions; with `follow` as they come, until it has ended."""
        how = "follow" if follow else "whole"
        connection, response = self._open("GET", f"/api/runs/{quote(id, safe='')}/logs?{how}=1", timeout=None)
        try:
            for line in response:
                yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    # ---- what happens

    def events(self, after: int | None = None, **filters: str | None) -> Iterator[EventJson]:
        """What happens, as it happens, until the server ends; it can be resumed after the last id.

        Args:
            after: the id of the last event that is known; None: it begins now.
            filters: kinds, name, rule, root, id.
        """
        query = {name: value for name, value in filters.items() if value is not None}
        given = urlencode(query if after is None else {**query, "after": str(after)})
        connection, response = self._open("GET", f"/api/events?{given}", timeout=None)
        fields: dict[str, str] = {}
        try:
            for line in response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    yield EventJson(id=int(fields["id"]), event=fields["event"], data=json.loads(fields["data"]))
                    fields = {}
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    # ---- rules, and the installation as a whole

    def rules(self) -> list[RuleJson]:
        """Every rule file, active or not, with what is wrong with it."""
        items: list[RuleJson] = self._request("GET", "/api/rules")["items"]
        return items

    def rule_text(self, rule: str) -> RuleTextJson:
        """What the file of a rule says now, with what is wrong with it, place by place."""
        text: RuleTextJson = self._request("GET", f"/api/rules/source?{urlencode({'rule': rule})}")
        return text

    def run_source(self, id: str) -> PinnedSourceJson:
        """The source that a run is pinned to."""
        source: PinnedSourceJson = self._request("GET", f"/api/runs/{quote(id, safe='')}/source")
        return source

    def plugins(self) -> list[PluginJson]:
        """The plugins of the server, and what each adds."""
        items: list[PluginJson] = self._request("GET", "/api/plugins")["items"]
        return items

    def counts(self) -> dict[str, dict[str, int]]:
        """How many tasks and runs are in each state, and what flow control has done."""
        counts: dict[str, dict[str, int]] = self._request("GET", "/api/counts")
        return counts

    def audit(self, limit: int, thing: str | None = None) -> list[AuditJson]:
        """What people did, newest first; to one task, run or breakpoint, where given."""
        return self._pages("/api/audit", limit, {"thing": thing})

    # ---- who may ask

    def tokens(self) -> list[TokenJson]:
        """Who may use the API."""
        items: list[TokenJson] = self._request("GET", "/api/tokens")["items"]
        return items

    def add_token(self, name: str, role: str) -> NewTokenJson:
        """Make a token of role "viewer", "operator" or "admin"; its text is told this once."""
        made: NewTokenJson = self._request("POST", "/api/tokens", _encode({"name": name, "role": role}))
        return made

    def revoke_token(self, name: str) -> TokenJson:
        """Have a token not be one any more; returns what it was."""
        token: TokenJson = self._request("DELETE", f"/api/tokens/{quote(name, safe='')}")
        return token

    def whoami(self) -> SessionJson:
        """Who asks, and whether the server asks for tokens."""
        session: SessionJson = self._request("GET", "/api/session")
        return session

    # ---- verbs, and the server itself

    def fork(self, id: str, seq: int, result: Json, pinned: bool = False, **settings: Json) -> RunJson:
        """Have a new run go on from an entry of another with another result; returns the new run.

        Args:
            settings: who, request_id.
        """
        body = _encode({"seq": seq, "result": result, "pinned": pinned, **settings})
        made: RunJson = self._request("POST", f"/api/runs/{quote(id, safe='')}/fork", body)
        return made

    def verb(self, id: str, verb: str, **settings: Json) -> TaskJson | RunJson:
        """Do something to a task or a run; returns what became of it.

        Args:
            verb: "cancel", "hold", "resume", "step", "edit", "answer", "drop" or "retry".
            settings: of any: who, request_id; of retry: pinned, from_start; of edit: data or set; of answer: result.
        """
        kind = "runs" if id.startswith("r") else "tasks"
        changed: TaskJson | RunJson = self._request(
            "POST", f"/api/{kind}/{quote(id, safe='')}/{verb}", _encode(settings)
        )
        return changed

    def bulk(self, verb: str, **settings: Json) -> OutcomeJson:
        """Do something to all that filters select: name, rule, reason, since, until; or, with all=True, to everything.

        Args:
            settings: the filters; `dry_run` only counts; the rest as of `verb`.
        """
        outcome: OutcomeJson = self._request("POST", f"/api/bulk/{verb}", _encode(settings))
        return outcome

    # ---- breakpoints

    def breakpoints(self) -> list[BreakpointJson]:
        """Those in force, and files that could not become one."""
        items: list[BreakpointJson] = self._request("GET", "/api/breakpoints")["items"]
        return items

    def set_breakpoint(self, body: Mapping[str, Json]) -> BreakpointJson:
        """Put a breakpoint in force: on, at, when, name, who."""
        made: BreakpointJson = self._request("POST", "/api/breakpoints", _encode(body))
        return made

    def preview_breakpoint(self, body: Mapping[str, Json]) -> PreviewJson:
        """What a breakpoint would have caught among the newest thousand tasks."""
        found: PreviewJson = self._request("POST", "/api/breakpoints/preview", _encode(body))
        return found

    def remove_breakpoint(self, name: str, who: str) -> None:
        self._request("DELETE", f"/api/breakpoints/{quote(name, safe='')}?{urlencode({'who': who})}")

    # ---- variables

    def variables(self) -> list[VariableJson]:
        """All variables of the store, by name; the values of secrets are None."""
        found: list[VariableJson] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self._request("GET", f"/api/variables?cursor={quote(cursor, safe='')}")
            found += page["items"]
            cursor = page["next"]
        return found

    def variable(self, name: str) -> VariableJson:
        variable: VariableJson = self._request("GET", f"/api/variables/{quote(name, safe='')}")
        return variable

    def set_variable(self, name: str, value: Json, secret: bool) -> VariableJson:
        body = _encode({"value": value, "secret": secret})
        variable: VariableJson = self._request("PUT", f"/api/variables/{quote(name, safe='')}", body)
        return variable

    def remove_variable(self, name: str) -> VariableJson:
        """Remove a variable; returns what it was."""
        variable: VariableJson = self._request("DELETE", f"/api/variables/{quote(name, safe='')}")
        return variable

    def rotate_key(self) -> int:
        """Have all secrets sealed with a new key; returns how many values there are."""
        return int(self._request("POST", "/api/variables/rotate-key", b"{}")["values"])

    def hosts(self) -> list[HostJson]:
        """The configured hosts, each as it is now."""
        items: list[HostJson] = self._request("GET", "/api/hosts")["items"]
        return items

    def schedules(self) -> list[ScheduleJson]:
        """What is sent at times, soonest first."""
        items: list[ScheduleJson] = self._request("GET", "/api/schedules")["items"]
        return items

    def sources(self) -> list[SourceJson]:
        """The configured sources of tasks, by name."""
        items: list[SourceJson] = self._request("GET", "/api/sources")["items"]
        return items

    def drain(self, on: bool | None) -> DrainJson:
        """Begin to drain the server, or end that, or (None) only ask how far it is."""
        state: DrainJson = (
            self._request("GET", "/api/drain")
            if on is None
            else self._request("POST", "/api/drain", _encode({"on": on}))
        )
        return state

    def ready(self) -> dict[str, Json]:
        """What the server says of itself: version, rules, workers, walls."""
        state: dict[str, Json] = self._request("GET", "/readyz")
        return state

    def description(self) -> dict[str, Json]:
        """The API as an OpenAPI document."""
        described: dict[str, Json] = self._request("GET", "/openapi.json")
        return described

    # ---- requests

    def _pages(self, path: str, limit: int, filters: Mapping[str, str | None]) -> list[Any]:
        query = {name: value for name, value in filters.items() if value is not None}
        items: list[Any] = []
        while len(items) < limit:
            page = self._request("GET", f"{path}?{urlencode({**query, 'limit': min(limit - len(items), PAGE)})}")
            items += page["items"]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        return items

    def _request(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Json:
        connection, response = self._open(method, path, body, kind, self._timeout)
        try:
            return json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        except ValueError:
            raise Unreachable(f"What answers at {self.url} is not scriptrules. Correct SCRIPTRULES_URL.") from None
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, body: bytes | None = None, kind: str = "", timeout: float | None = TIMEOUT
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connect(self._host, self._port, timeout=self._timeout)
        try:
            headers = {"content-type": kind} if body is not None else {}
            connection.request(method, self._prefix + path, body, self._headers | headers)
            sock = connection.sock
            response = connection.getresponse()
            if timeout is None:
                sock.settimeout(None)  # nothing may happen for a long time in what is followed
            if response.status >= 400:
                raise _refusal(response)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from None
        except BaseException:
            connection.close()
            raise
        return connection, response

    def _unreachable(self, error: Exception) -> Unreachable:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(
            f"No server answers at {self.url} ({why}). Start one with `scriptrules serve`, or set SCRIPTRULES_URL."
        )


def _refusal(response: http.client.HTTPResponse) -> Refused:
    try:
        problem = json.loads(response.read())
    except ValueError:
        problem = None
    return Refused(response.status, problem if isinstance(problem, dict) else {"title": response.reason})


def _encode(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
