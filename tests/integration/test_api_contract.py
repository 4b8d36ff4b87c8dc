"""The whole API against its own description, by Schemathesis: whatever is sent, the answer is one that is described.

Left out: that everything which fits the description is accepted, because a filter of a breakpoint has to compile and
the name of a task has to be one; streams without an end; draining and revoking, after which nothing else can be tested.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_type_hints, is_typeddict

import pytest

from scriptrules import client_types
from scriptrules.client import Client, Refused
from serving import Server, eventually, project

RULE = """
on = ["count", "ask"]

def main(n=1):
    log("seen", n=n)
    if n > 3:
        hold("too many")
    emit("counted", n=n)
    return n
"""
LEFT_OUT = ["/api/events", "/api/drain", "/api/session", "/api/tokens"]


@contextmanager
def serving() -> Iterator[Server]:
    with project() as server:
        server.rule("count", RULE)
        server.start()
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One that no other test asks: what is sent to it at random sets breakpoints that hold whatever comes later."""
    with serving() as server:
        yield server


def admin(server: Server) -> str:
    return Client(f"http://127.0.0.1:{server.port}").add_token("contract", "admin")["token"]


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return admin(server)


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_every_answer_is_one_that_is_described(own_server: Server, tmp_path: Path, examples: int) -> None:
    server, token = own_server, admin(own_server)
    client = Client(f"http://127.0.0.1:{server.port}", token=token)
    for n in range(10):
        client.send("count", {"n": n})
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"http://127.0.0.1:{server.port}/openapi.json",
        "--header", f"Authorization: Bearer {token}",
        *(word for path in LEFT_OUT for word in ("--exclude-path", path)),
        "--exclude-path-regex", "^/api/tokens/",
        "--phases", "examples,coverage,fuzzing",
        "--checks", "all",
        "--exclude-checks", "positive_data_acceptance",
        "--max-examples", str(examples),
        "--request-timeout", "30",
        "--generation-database", "none",
        "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Tested" in done.stdout
    assert not [event for event in server.events() if event.get("event") in ("http.bug", "supervisor.bug")]


def test_the_description_has_every_operation_and_what_its_answers_are(server: Server, token: str) -> None:
    client = Client(f"http://127.0.0.1:{server.port}", token=token)
    described = client.description()
    assert described["openapi"].startswith("3.1")
    lists = described["paths"]["/api/tasks"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert lists["properties"]["items"]["items"] == {"$ref": "#/components/schemas/TaskShape"}
    operations = [
        (path, method, one) for path, methods in described["paths"].items() for method, one in methods.items()
    ]
    for path, method, one in operations:
        success = next(answer for status, answer in one["responses"].items() if status.startswith("2"))
        for kind, content in success.get("content", {}).items():
            schema = json.dumps(content["schema"])
            assert kind != "application/json" or schema not in ("{}", '{"items": {}}'), (path, method)
        listed = success.get("content", {}).get("application/json", {}).get("schema", {}).get("properties", {})
        if set(listed) == {"items", "next"}:
            assert listed["items"]["items"], (path, method, "does not say what its items are")
        assert bool(one["security"]) == (one["x-role"] != "anyone")
    assert {one["x-role"] for _, _, one in operations} == {"anyone", "viewer", "operator", "admin"}


NAMED_OTHERWISE = {  # types of the client whose shape has another name
    "RuleJson": "RuleInfo",
    "RuleTextJson": "RuleText",
    "PinnedSourceJson": "scriptrules_web_runs_SourceShape",
    "SourceJson": "scriptrules_supervisor_sources_SourceShape",
    "PluginJson": "PluginInfo",
    "GraphEdgeJson": "GraphEdge",
}
NO_SHAPES = {"EventJson"}  # of a stream, which the description cannot describe


def test_the_types_of_the_client_have_the_fields_that_are_described(server: Server, token: str) -> None:
    client = Client(f"http://127.0.0.1:{server.port}", token=token)
    components = {
        name.replace(".", "_"): schema for name, schema in client.description()["components"]["schemas"].items()
    }
    types = {name: kind for name, kind in vars(client_types).items() if name.endswith("Json") and is_typeddict(kind)}
    assert len(types) > 25
    for name, kind in types.items():
        base = name.removesuffix("Json")
        found = [NAMED_OTHERWISE.get(name, f"{base}Shape"), base]
        schema = next((components[one] for one in found if one in components), None)
        if name in NO_SHAPES:
            continue
        assert schema is not None, (name, sorted(components))
        optional = {"original"}  # is left out where it does not apply
        assert set(get_type_hints(kind)) | optional == set(schema["properties"]) | optional, name


def test_the_client_asks_for_everything_that_there_is_to_read(server: Server, token: str) -> None:
    client = Client(f"http://127.0.0.1:{server.port}", token=token)
    task = client.send("ask", {"n": 1})
    run = eventually(
        lambda: next((one["id"] for one in client.runs(1, task=task) if one["state"] == "done"), None),
        "the run is done",
    )
    assert client.task(task)["state"] == "done"
    assert client.tree(task)["runs"][0]["run"]["value"] == 1
    assert client.run_source(run)["text"] == RULE == client.rule_text("count")["text"]
    assert [one["rule"] for one in client.rules()] == ["count"]
    assert client.journal(run)[0]["name"] == "emit"
    assert next(client.logs(run, follow=True))["text"].startswith("seen")
    assert client.counts()["tasks"]["done"] >= 1
    assert client.audit(1000)[-1]["who"] == "somebody"
    assert client.plugins()[0]["origin"] == "built-in"
    assert client.whoami()["role"] == "admin"
    for read in (client.breakpoints, client.variables, client.hosts, client.schedules, client.sources, client.graph):
        read()
    with pytest.raises(Refused) as refused:
        client.task("t0")
    assert refused.value.status == 404
