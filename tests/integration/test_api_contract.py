"""The whole API against its own description, by Schemathesis: whatever is sent, the answer is one that is described.

Left out: that everything which fits the description is accepted, because a filter of a breakpoint has to compile and
the name of a task has to be one; streams without an end; draining and revoking, after which nothing else can be tested.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptrules.client import Client
from serving import Server, project

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


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        server.rule("count", RULE)
        server.start()
        yield server


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return Client(f"http://127.0.0.1:{server.port}").add_token("contract", "admin")["token"]


@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_every_answer_is_one_that_is_described(server: Server, token: str, tmp_path: Path, examples: int) -> None:
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
