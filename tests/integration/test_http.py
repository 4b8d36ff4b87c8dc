"""The HTTP API: what it accepts, what it answers, and what it says to bad input."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptrules.store._sqlite_queries import QUERIES
from serving import Problem, Server, eventually, project


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        server.config("")
        server.rule(
            "echo",
            'on = "echo"\ndef main(**data):\n    log("seen", **data)\n    emit("echoed", **data)\n    return data\n',
        )
        server.start()
        yield server


def refused(server: Server, body: bytes, kind: str = "application/json") -> tuple[int, str]:
    """Status and detail of a refusal of POST /api/tasks."""
    with pytest.raises(Problem) as problem:
        server.request("POST", "/api/tasks", body, kind)
    assert problem.value.body["status"] == problem.value.status
    assert problem.value.body["code"].startswith("SR")
    assert "Traceback" not in json.dumps(problem.value.body)
    return problem.value.status, problem.value.body["detail"]


def test_shapes(server: Server) -> None:
    id = server.send("echo", n=1)
    task = server.wait_task(id)
    assert set(task) == {
        "id", "name", "data", "state", "since", "reason", "exit", "parent", "root", "hop", "key", "created",
    }  # fmt: skip
    run = server.run_of(id)
    assert set(run) == {
        "id", "rule", "task", "state", "since", "reason", "exit", "value", "error", "digest", "attempt", "created",
        "ended",
    }  # fmt: skip
    (entry,) = server.entries(run["id"])
    assert set(entry) == {
        "seq", "name", "args", "state", "since", "reason", "result", "error", "line", "started", "ended", "attempt",
        "verdict",
    }  # fmt: skip
    assert entry["args"] == {"name": "echoed", "data": {"n": 1}}
    tree = server.get(f"/api/tasks/{id}/tree")
    assert tree["task"]["id"] == id
    (branch,) = tree["runs"]
    assert branch["run"]["id"] == run["id"]
    assert branch["tasks"][0]["task"]["parent"] == run["id"]
    assert task["created"].endswith("Z")
    assert server.get(f"/api/runs/{run['id']}/logs")["items"][0]["fields"] == {"n": 1}


def test_lists_are_filtered_and_paged_newest_first_without_gap_or_repeat(server: Server) -> None:
    ids = server.send_many([{"name": "paged", "data": {"n": n}} for n in range(25)])
    for id in ids:
        server.wait_task(id)
    seen, cursor = [], ""
    while True:
        page = server.get(f"/api/tasks?name=paged&limit=10{cursor}")
        seen += [task["id"] for task in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == sorted(ids, reverse=True)
    assert server.get("/api/tasks?name=paged&state=done")["items"] == []
    assert len(server.get("/api/tasks?name=paged&state=unmatched&limit=100")["items"]) == 25
    created = server.task(ids[0])["created"]
    assert server.get(f"/api/tasks?name=paged&until={created}")["items"] == []


def test_ndjson_is_stored_whole_or_not_at_all(server: Server) -> None:
    before = server.get("/api/counts")["tasks"].get("unmatched", 0)
    body = b'{"name": "bulk"}\n\n{"name": "bu lk"}\n{"name": "bulk", "data": [1]}\n{"name": "bulk", "data": {}}\nxx\n'
    with pytest.raises(Problem) as problem:
        server.request("POST", "/api/tasks", body, "application/x-ndjson")
    assert problem.value.status == 400
    assert problem.value.body["lines"] == [3, 4, 6]
    assert server.all("tasks", name="bulk") == []
    assert server.get("/api/counts")["tasks"].get("unmatched", 0) == before


def test_a_key_makes_it_idempotent(server: Server) -> None:
    first = server.send("keyed", key="k-1", n=1)
    assert server.send("keyed", key="k-1", n=1) == first
    for name, n in (("keyed", 2), ("other", 1)):
        with pytest.raises(Problem) as problem:
            server.send(name, key="k-1", n=n)
        assert problem.value.status == 409
        assert "k-1" in problem.value.body["detail"]
    ids = server.send_many(
        [
            {"name": "keyed", "key": "k-2"},
            {"name": "keyed", "key": "k-2"},
            {"name": "keyed", "data": {"n": 1}, "key": "k-1"},
        ]
    )
    assert ids[0] == ids[1]
    assert ids[2] == first
    with pytest.raises(Problem):
        server.send_many([{"name": "never"}, {"name": "other", "key": "k-1"}])
    assert server.all("tasks", name="never") == []


def test_the_same_key_sent_at_once_is_stored_once(server: Server) -> None:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(server.send("racing", key="race", n=1))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 16
    assert len(set(ids)) == 1
    assert len(server.all("tasks", name="racing")) == 1


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "truncated"),
        (b"{", 400, "truncated"),
        (b'{"name": "x", }', 400, "malformed"),
        (b"[]", 400, "object"),
        (b'{"data": {}}', 400, "name"),
        (b'{"name": 3}', 400, "name"),
        (b'{"name": "a b"}', 400, "not the name of a task"),
        (b'{"name": ""}', 400, "not the name of a task"),
        (b'{"name": "a..b"}', 400, "not the name of a task"),
        (b'{"name": "' + b"a" * 201 + b'"}', 400, "not the name of a task"),
        (b'{"name": "x", "data": 3}', 400, "data"),
        (b'{"name": "x", "dta": {}}', 400, "dta"),
        (b'{"name": "x", "data": {"n": 123456789012345678901234567890}}', 400, "64 bits"),
        (b'{"name": "x", "data": {"n": NaN}}', 400, "malformed"),
        (b'{"name": "x", "data": {"n": "\xff"}}', 400, "utf-8"),
        (b'{"name": "x", "data": {"n": ' + b"[" * 100 + b"]" * 100 + b"}}", 400, "nested too deep"),
        (b'{"name": "x", "data": {"n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", 400, "nested too deep"),
        (b'{"name": "x", "data": {"n": "' + b"a" * 10_000_000 + b'"}}', 413, "at most"),
        (b'{"name": "x", "key": ""}', 400, "key"),
    ],
)  # fmt: skip
def test_bad_input_gets_a_clear_error(server: Server, body: bytes, status: int, says: str) -> None:
    got, detail = refused(server, body)
    assert got == status
    assert says.lower() in detail.lower()


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/api/tasks")
    connection.putheader("content-length", str(10**10))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    connection.close()


def test_unknown_things_and_parameters_are_named(server: Server) -> None:
    for path, status, says in (
        ("/api/tasks/t0", 404, "There is no task t0"),
        ("/api/runs/r0", 404, "There is no run r0"),
        ("/api/runs/r0/journal", 404, "There is no run"),
        ("/api/nothing", 404, "There is nothing at"),
        ("/api/tasks?stat=done", 400, "state"),
        ("/api/tasks?limit=0", 400, "limit"),
        ("/api/tasks?limit=x", 400, "limit"),
        ("/api/tasks?since=yesterday", 400, "since"),
    ):
        with pytest.raises(Problem) as problem:
            server.get(path)
        assert problem.value.status == status
        assert says in problem.value.body["detail"]


def test_verbs_say_when_they_are_not_possible(server: Server) -> None:
    id = server.send("echo", n=2)
    server.wait_task(id)
    run = server.run_of(id)["id"]
    for path in (f"tasks/{id}/cancel", f"tasks/{id}/resume", f"tasks/{id}/retry", f"runs/{run}/cancel"):
        with pytest.raises(Problem) as problem:
            server.request("POST", f"/api/{path}")
        assert problem.value.status == 409
    with pytest.raises(Problem) as problem:
        server.request("POST", f"/api/runs/{run}/retry", b'{"pined": true}')
    assert problem.value.status == 400


def test_pages_of_other_sites_and_rebound_names_are_refused(server: Server) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/api/tasks", headers=headers)
        assert connection.getresponse().status == 403
        connection.close()


def test_logs_are_followed_until_the_run_ends(server: Server) -> None:
    server.drop_in(slow='on = "slow"\ndef main(**k):\n    log("one")\n    sleep(0.5)\n    log("two")\n')
    task = server.send("slow")
    run = server.wait_run(task, {"waiting"})["id"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", f"/api/runs/{run}/logs?follow=1")
    lines = [json.loads(line)["text"] for line in connection.getresponse()]
    connection.close()
    assert lines == ["one", "two"]


# ---- a store that cannot be written


def test_a_locked_store_refuses_new_tasks_and_loses_nothing() -> None:
    with project() as server:
        server.config("")
        server.rule("naps", 'on = "nap"\ndef main(n):\n    sleep(1)\n    return n\n')
        server.start()
        id = server.send("nap", n=7)
        server.wait_run(id, {"waiting"})
        other = sqlite3.connect(server.folder / ".scriptrules" / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        status, detail = refused(server, b'{"name": "nap", "data": {"n": 8}}')
        assert status == 503
        assert "locked" in detail
        assert "Nothing was accepted" in detail
        with pytest.raises(Problem) as problem:
            server.get("/readyz")
        assert problem.value.status == 503
        other.execute("ROLLBACK")
        other.close()
        assert server.wait_task(id)["state"] == "done"
        assert server.run_of(id)["value"] == 7
        assert len(server.all("tasks")) == 1


def fill(path: Path) -> None:
    """Write to a file until there is no space left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, b"x" * 4096)
    os.close(descriptor)


def test_a_full_disk_refuses_new_tasks_and_goes_on_when_there_is_space() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill")
    with project() as server:
        server.config("")
        server.rule("naps", 'on = "nap"\ndef main(n):\n    sleep(2)\n    emit("rested", n=n, text="x" * 100000)\n')
        state = server.folder / ".scriptrules"
        state.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(state)], check=True)
        try:
            server.start()
            id = server.send("nap", n=7)
            server.wait_run(id, {"waiting"})
            ballast = state / "ballast"
            fill(ballast)
            status, detail = refused(server, b'{"name": "nap", "data": {"n": 8, "text": "' + b"x" * 200_000 + b'"}}')
            assert status == 503
            assert "full" in detail
            assert server.process is not None
            assert server.process.poll() is None
            ballast.unlink()
            assert server.wait_task(id)["state"] == "done"
            assert len(server.all("tasks", name="rested")) == 1
            assert server.send("nap", n=9)
            server.stop()
        finally:
            server.kill()
            subprocess.run(["umount", str(state)], check=True)


def start_and_read(server: Server) -> str:
    """What a server that cannot start says; it must end by itself with status 1."""
    server.start(wait=False)
    assert server.process is not None
    assert server.process.wait(60) == 1
    server.process = None
    said = server.log.read_text()
    assert "Traceback" not in said
    return said


def test_a_second_server_on_the_same_store_is_refused() -> None:
    with project() as server:
        server.config("")
        server.start()
        other = Server(server.folder)
        other.log = server.folder / "other.log"
        assert "Another scriptrules serves" in start_and_read(other)


def test_a_read_only_store_is_a_clear_error() -> None:
    with project() as server:
        server.config('[store]\nurl = "sqlite:////proc/nowhere/state.db"\n')
        assert "cannot be opened" in start_and_read(server)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("[servr]\n", "did you mean 'server'?"),
        ("[server]\nlisten_on = 1\n", "did you mean 'listen'?"),
        ('[server]\nlisten = "0.0.0.0:8765"\n', ""),
        ("[sandbox]\nmemory_mb = 'much'\n", "memory_mb"),
        ('[hosts.a]\nexecutor = "proces"\n', "did you mean 'process'?"),
        ('[hosts.a]\nexecutor = "process"\nprogram = ["x"]\n', "did you mean 'programs'?"),
        ("[hosts.a]\n", "needs executor"),
        ("[", "scriptrules.toml"),
        ('[store]\nurl = "mysql://x"\n', "sqlite:///"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_a_clear_error(config: str, says: str) -> None:
    with project() as server:
        server.config(config)
        if "0.0.0.0" in config:
            server.start(wait=False)  # the flag names loopback, and flags outrank files
            server.wait_ready()
            return
        assert says in start_and_read(server)


def test_a_stop_in_order_ends_with_status_0_and_keeps_what_waits() -> None:
    with project() as server:
        server.config("")
        server.rule("naps", 'on = "nap"\ndef main(n):\n    sleep(1)\n    return n\n')
        server.start()
        id = server.send("nap", n=7)
        server.wait_run(id, {"waiting"})
        assert server.stop() == 0
        server.start()
        assert server.wait_task(id)["state"] == "done"


def test_workers_that_were_killed_are_replaced() -> None:
    with project() as server:
        server.config("")
        server.start()
        killed = set(server.worker_pids())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: server.worker_pids() and not killed & set(server.worker_pids()), "replaced")
        assert server.wait_task(server.send("x"))["state"] == "unmatched"


def test_the_lock_of_the_store_is_that_of_the_kernel_and_ends_with_the_process() -> None:
    with project() as server:
        server.config("")
        server.start()
        server.kill()
        with Path(server.folder, ".scriptrules", "state.db.lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_held_things_come_in_pages_without_gap_or_repeat_while_others_arrive() -> None:
    with project() as server:
        server.rule("stop", 'on = "stop"\ndef main(n):\n    hold("enough")\n')
        server.start()
        server.request("POST", "/api/breakpoints", b'{"on": ["held"]}')
        server.send_many([{"name": name, "data": {"n": n}} for n in range(15) for name in ("stop", "held")])
        eventually(lambda: len(server.get("/api/held?limit=100")["items"]) == 30, "all are held")
        before = {one["id"] for one in server.get("/api/held?limit=100")["items"]}
        found: list[str] = []
        query = "limit=7"
        while query:
            page = server.get(f"/api/held?{query}")
            found += [one["id"] for one in page["items"]]
            query = f"limit=7&cursor={page['next']}" if page["next"] else ""
            server.send("held", n=99)
        assert set(found) >= before
        assert len(found) == len(set(found))
        assert {one["id"][0] for one in server.get("/api/held?rule=stop")["items"]} == {"r"}


def test_a_tree_is_found_by_its_root_and_says_where_it_is_cut() -> None:
    with project() as server:
        server.rule("many", 'on = "many"\ndef main(n):\n    for i in range(n):\n        emit("one", i=i)\n')
        server.start()
        small, big = server.send("many", n=3), server.send("many", n=1001)
        server.wait_task(small)
        server.wait_task(big)
        assert len(server.all("tasks", root=small)) == 4
        assert len(server.all("tasks", root=big)) == 1002
        child = server.all("tasks", parent=server.run_of(small)["id"])[0]
        assert server.all("tasks", root=child["id"]) == []
        tree = server.get(f"/api/tasks/{small}/tree")
        assert not tree["cut"]
        assert server.get(f"/api/tasks/{big}/tree")["cut"]


def test_the_index_of_trees_is_used(server: Server) -> None:
    store = sqlite3.connect(f"file:{server.folder}/.scriptrules/state.db?mode=ro", uri=True)
    plan = store.execute(
        f"EXPLAIN QUERY PLAN {QUERIES['tasks']} {QUERIES['in_tree']} ORDER BY id DESC LIMIT 5", ("t1",)
    )
    steps = " ".join(str(row[3]) for row in plan)
    store.close()
    assert "tasks_root" in steps
    assert "SCAN tasks" not in steps


def test_counts_stay_true_through_failures_retries_and_releases(server: Server) -> None:
    def counted() -> dict[str, dict[str, int]]:
        store = sqlite3.connect(f"file:{server.folder}/.scriptrules/state.db?mode=ro", uri=True)
        try:
            return {
                kind: dict(store.execute(f"SELECT state, count(*) FROM {kind} GROUP BY state"))
                for kind in ("tasks", "runs")
            }
        finally:
            store.close()

    server.drop_in(sometimes='on = "sometimes"\ndef main(n):\n    fail("no") if n else None\n')
    tasks = [server.send("sometimes", n=n % 2) for n in range(10)] + [server.send("nobody") for _ in range(3)]
    for task in tasks:
        server.wait_task(task)
    failed = next(run for run in server.all("runs", state="failed"))
    server.request("POST", f"/api/runs/{failed['id']}/retry", b'{"from_start": true}')
    server.wait_task(failed["task"])
    server.request("POST", f"/api/tasks/{tasks[-1]}/resume", b"{}")
    server.wait_task(tasks[-1])
    server.request("POST", "/api/bulk/retry", b'{"rule": "sometimes"}')

    def equal() -> bool:
        counts = server.get("/api/counts")
        return {"tasks": counts["tasks"], "runs": counts["runs"]} == counted()

    eventually(equal, f"{counted()} is what is counted: {server.get('/api/counts')}")


def test_who_stops_following_a_log_leaves_nothing_behind(server: Server) -> None:
    server.drop_in(patient='on = "patient"\ndef main():\n    log("here")\n    receive("never")\n')
    run = server.wait_run(server.send("patient"), {"waiting"})["id"]
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", f"/api/runs/{run}/logs?follow=1")
        assert b"here" in connection.getresponse().readline()
        connection.close()
    server.request("POST", f"/api/runs/{run}/cancel", b"{}")
    assert not [event for event in server.events() if event.get("level") == "error"]


def test_positions_that_no_store_can_have_are_refused(server: Server) -> None:
    server.wait_task(server.send("echo", n=1))
    run = server.all("runs")[0]
    for path in ("/api/audit?cursor=", f"/api/runs/{run['id']}/logs?after="):
        for position in ("-1", str(2**63), "9" * 40):
            with pytest.raises(Problem) as problem:
                server.get(f"{path}{position}")
            assert problem.value.status == 400
        server.get(f"{path}{2**63 - 1}")
