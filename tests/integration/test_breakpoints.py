"""Breakpoints against a real server: what they hold, what passes, what people do with what is held."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from serving import Problem, Server, appending_program, eventually, project

WORK = """on = "work"

def main(n):
    run("local", "job", PROGRAM, args=[RECORD, n])
    result = wait("job")
    emit("worked", n=result.output["n"])
    return n
"""
LATER = """on = "worked"

def main(n):
    return n
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with project() as server:
        program, record = appending_program(server)
        server.config(f'[sandbox]\nworkers = 2\n[hosts.local]\nexecutor = "process"\nprograms = ["{program}"]\n')
        server.rule("work", WORK.replace("PROGRAM", repr(program)).replace("RECORD", repr(str(record))))
        server.rule("later", LATER)
        server.record = record  # type: ignore[attr-defined]
        server.start()
        yield server


def started(server: Server) -> list[str]:
    return list(server.record.read_text().split())  # type: ignore[attr-defined]


def set_breakpoint(server: Server, *on: str, **more: Any) -> str:
    return str(server.post("/api/breakpoints", on=list(on), **more)["name"])


def reason(thing: dict[str, Any]) -> str:
    return str(thing["reason"])


# ---- tasks


def test_a_task_is_held_before_its_rules_are_asked_and_goes_on_when_resumed(server: Server) -> None:
    name = set_breakpoint(server, "work", when='task["n"] > 1')
    passing, held = server.send("work", n=1), server.send("work", n=2)
    assert server.wait_task(passing)["state"] == "done"
    task = server.wait_task(held, {"held"})
    assert reason(task) == f"breakpoint:{name}"
    assert "resume" in task["exit"]
    assert server.all("runs", task=held) == []
    server.post(f"/api/tasks/{held}/resume")
    assert server.wait_task(held)["state"] == "done"
    assert started(server) == ["1", "2"]


def test_a_dropped_task_has_no_runs(server: Server) -> None:
    set_breakpoint(server, "work")
    id = server.send("work", n=1)
    server.wait_task(id, {"held"})
    assert server.post(f"/api/tasks/{id}/drop")["state"] == "dropped"
    assert server.all("runs", task=id) == []


def test_edited_data_is_what_rules_get_and_the_original_is_kept(server: Server) -> None:
    set_breakpoint(server, "work")
    id = server.send("work", n=1, more="kept")
    server.wait_task(id, {"held"})
    assert server.post(f"/api/tasks/{id}/edit", set={"n": 7}, who="ann")["data"] == {"n": 7, "more": "kept"}
    server.post(f"/api/tasks/{id}/resume", who="ann")
    server.wait_task(id)
    assert started(server) == ["7"]
    done = server.get(f"/api/audit?thing={id}")["items"]
    assert [(one["verb"], one["who"]) for one in done] == [("resume", "ann"), ("edit", "ann")]
    assert done[1]["detail"] == {"before": {"n": 1, "more": "kept"}, "after": {"n": 7, "more": "kept"}}


def test_a_resumed_task_does_not_stop_at_the_same_breakpoint_again_though_a_second_one_holds_it(server: Server) -> None:
    first = set_breakpoint(server, "work", name="a")
    id = server.send("work", n=1)
    assert reason(server.wait_task(id, {"held"})) == f"breakpoint:{first}"
    set_breakpoint(server, "*", name="b")
    server.post(f"/api/tasks/{id}/resume")
    assert reason(eventually(lambda: held_by(server, id, "breakpoint:b"), "held by b")) == "breakpoint:b"
    server.post(f"/api/tasks/{id}/resume")
    assert server.wait_task(id)["state"] == "done"


def held_by(server: Server, id: str, why: str) -> Any:
    task = server.task(id)
    return task if task["reason"] == why else None


def test_a_filter_that_raises_holds_the_task_and_says_why(server: Server) -> None:
    set_breakpoint(server, "work", name="broken", when='task["n"] / 0 > 1')
    id = server.send("work", n=1)
    task = server.wait_task(id, {"held"})
    assert reason(task).startswith("breakpoint_error:broken: line ")
    assert "ZeroDivisionError" in reason(task)
    server.post(f"/api/tasks/{id}/resume")
    assert server.wait_task(id)["state"] == "done"


def test_a_filter_on_a_missing_field_does_not_hold(server: Server) -> None:
    set_breakpoint(server, "work", when='task["colour"] == "red"')
    assert server.wait_task(server.send("work", n=1))["state"] == "done"


def test_a_filter_that_never_ends_holds_and_harms_nobody_else(server: Server) -> None:
    set_breakpoint(server, "work", name="slow", when="sum(n for n in range(10 ** 12)) > 0")
    id = server.send("work", n=1)
    other = server.send("worked", n=1)
    assert server.wait_task(other)["state"] == "done"
    assert reason(server.wait_task(id, {"held"})).startswith("breakpoint_error:")


@pytest.mark.parametrize(
    ("body", "say"),
    [
        ({"on": ["work"], "when": "task["}, "SR101"),
        ({"on": ["work"], "when": "True); X = (1"}, "one expression"),
        ({"on": ["wo rk"]}, "pattern"),
        ({"on": ["work"], "at": "around:run"}, "at"),
        ({"on": []}, "on"),
        ({"on": ["work"], "when": "open('/etc/passwd')"}, "open"),
    ],
)
def test_what_can_be_no_breakpoint_is_refused_and_says_why(server: Server, body: dict[str, Any], say: str) -> None:
    with pytest.raises(Problem) as caught:
        server.post("/api/breakpoints", **body)
    assert caught.value.status == 400
    assert say in json.dumps(caught.value.body)
    assert server.get("/api/breakpoints")["items"] == []


# ---- entries


def test_a_container_behind_a_breakpoint_before_run_was_not_started(server: Server) -> None:
    name = set_breakpoint(server, "work", at="before:run", when='entry.args["args"][1] == "1"')
    id = server.send("work", n=1)
    run = server.wait_run(id, {"held"})
    assert run["reason"] == f"breakpoint:{name}"
    (entry,) = server.entries(run["id"])
    assert (entry["name"], entry["state"], entry["reason"]) == ("run", "held", f"breakpoint:{name}")
    assert started(server) == []
    server.kill()
    server.start()
    assert server.get(f"/api/runs/{run['id']}")["state"] == "held"
    assert started(server) == []
    server.post(f"/api/runs/{run['id']}/resume")
    assert server.wait_task(id)["state"] == "done"
    assert started(server) == ["1"]


def test_edited_arguments_are_carried_out_and_replay_compares_the_original_ones(server: Server) -> None:
    set_breakpoint(server, "work", at="before:run")
    id = server.send("work", n=1)
    run = server.wait_run(id, {"held"})["id"]
    args = server.entries(run)[0]["args"]
    server.post(f"/api/runs/{run}/edit", set={"args": [args["args"][0], "9"]})
    server.kill()
    server.start()
    server.post(f"/api/runs/{run}/resume")
    server.wait_task(id)
    assert started(server) == ["9"]
    entry = server.entries(run)[0]
    assert entry["args"]["args"][1] == "9"
    assert entry["original"]["args"][1] == "1"
    (follower,) = server.all("tasks", parent=run)
    assert follower["data"] == {"n": 9}


def test_an_answer_stands_in_for_an_execution_that_is_never_started(server: Server) -> None:
    set_breakpoint(server, "work", at="before:run")
    id = server.send("work", n=1)
    run = server.wait_run(id, {"held"})["id"]
    server.post(f"/api/runs/{run}/answer", result={"n": 42})
    assert server.wait_task(id)["state"] == "done"
    assert started(server) == []
    (follower,) = server.all("tasks", parent=run)
    assert follower["data"] == {"n": 42}


def test_a_result_is_held_before_the_script_gets_it_and_can_be_another_one(server: Server) -> None:
    name = set_breakpoint(server, "work", at="after:run", when='entry.result["exit_code"] == 0')
    id = server.send("work", n=1)
    run = server.wait_run(id, {"held"})
    assert run["reason"] == f"breakpoint:{name}"
    assert started(server) == ["1"]
    server.kill()
    server.start()
    server.post(f"/api/runs/{run['id']}/answer", result={"n": 5})
    assert server.wait_task(id)["state"] == "done"
    (follower,) = server.all("tasks", parent=run["id"])
    assert follower["data"] == {"n": 5}
    assert started(server) == ["1"]


def test_a_resumed_run_does_not_stop_at_the_same_place_again(server: Server) -> None:
    for at in ("before:run", "before:wait", "after:run", "after:wait", "before:emit"):
        set_breakpoint(server, "work", at=at, name=at.replace(":", "-"))
    id = server.send("work", n=1)
    stops = []
    for _ in range(10):
        run = server.wait_run(id, {"held", "done"})
        if run["state"] == "done":
            break
        stops.append(run["reason"])
        server.kill()
        server.start()
        server.post(f"/api/runs/{run['id']}/resume")
        eventually(lambda was=run: server.get(f"/api/runs/{was['id']}")["since"] != was["since"], "it went on")
    assert sorted(stops) == sorted(
        f"breakpoint:{name}" for name in ("before-run", "before-wait", "after-run", "after-wait", "before-emit")
    )
    assert server.wait_task(id)["state"] == "done"
    assert started(server) == ["1"]


def test_a_breakpoint_in_the_middle_of_a_slice_commits_what_stands_before_it(server: Server) -> None:
    text = 'on = "many"\ndef main():\n    for n in range(5):\n        emit("worked", n=n)\n    return "end"\n'
    server.drop_in(many=text)
    set_breakpoint(server, "many", at="before:emit", when='entry.args["data"]["n"] == 3')
    id = server.send("many")
    run = server.wait_run(id, {"held"})["id"]
    eventually(lambda: len(server.all("tasks", parent=run)) == 3, "three tasks")
    assert [entry["state"] for entry in server.entries(run)] == ["done", "done", "done", "held"]
    server.post(f"/api/runs/{run}/resume")
    assert server.wait_task(id)["state"] == "done"
    assert sorted(task["data"]["n"] for task in server.all("tasks", parent=run)) == [0, 1, 2, 3, 4]


def test_steps_stop_at_every_entry_and_at_every_generated_task(server: Server) -> None:
    set_breakpoint(server, "work")
    id = server.send("work", n=1)
    server.wait_task(id, {"held"})
    server.post(f"/api/tasks/{id}/step")
    seen = []
    for _ in range(3):
        run = server.wait_run(id, {"held"})
        seen.append(server.entries(run["id"])[-1]["name"])
        assert run["reason"] == "step"
        server.kill()
        server.start()
        server.post(f"/api/runs/{run['id']}/step")
        eventually(lambda was=run: server.get(f"/api/runs/{was['id']}")["since"] != was["since"], "it went on")
    assert seen == ["run", "wait", "emit"]
    assert server.wait_run(id, {"done"})["value"] == 1
    (child,) = server.all("tasks", parent=server.run_of(id)["id"])
    assert (child["state"], child["reason"]) == ("held", "step")
    server.post(f"/api/tasks/{child['id']}/resume")
    assert server.wait_task(child["id"])["state"] == "done"


def test_a_cancelled_run_that_is_held_before_an_execution_ends_at_once(server: Server) -> None:
    set_breakpoint(server, "work", at="before:run")
    id = server.send("work", n=1)
    run = server.wait_run(id, {"held"})["id"]
    assert server.post(f"/api/runs/{run}/drop")["state"] == "cancelled"
    assert [entry["state"] for entry in server.entries(run)] == ["cancelled"]
    assert started(server) == []


def test_a_retried_run_that_is_held_before_an_entry_comes_to_it_again(server: Server) -> None:
    name = set_breakpoint(server, "work", at="before:run")
    id = server.send("work", n=1)
    run = server.wait_run(id, {"held"})["id"]
    server.request("DELETE", f"/api/breakpoints/{name}")
    server.post(f"/api/runs/{run}/retry")
    assert server.wait_task(id)["state"] == "done"
    assert started(server) == ["1"]


def test_a_held_call_can_be_answered(server: Server) -> None:
    server.drop_in(caller='on = "caller"\ndef main():\n    return call("nobody", x=1) + 1\n')
    id = server.send("caller")
    callee = eventually(lambda: server.all("tasks", name="nobody", state="held"), "held callee")[0]
    server.post(f"/api/tasks/{callee['id']}/answer", result=41)
    assert server.wait_run(id, {"done"})["value"] == 42
    assert server.task(callee["id"])["state"] == "dropped"


# ---- files


def test_breakpoints_live_in_files_and_are_reloaded(server: Server) -> None:
    folder = server.folder / "breakpoints"
    folder.mkdir()
    (folder / "big.py").write_text('"""Look at these."""\non = "work"\nwhen = lambda task: task["n"] > 100\n')
    eventually(lambda: server.get("/api/breakpoints")["items"], "a breakpoint")
    id = server.send("work", n=101)
    assert reason(server.wait_task(id, {"held"})) == "breakpoint:big"
    with pytest.raises(Problem) as caught:
        server.request("DELETE", "/api/breakpoints/big")
    assert "breakpoints/big.py" in caught.value.body["detail"]
    (folder / "big.py").write_text("on = 5\n")
    eventually(lambda: server.get("/api/breakpoints")["items"][0]["problems"], "a problem")
    assert server.get("/api/breakpoints")["items"][0]["on"] == ["work"], "the version before stays in force"
    (folder / "big.py").unlink()
    eventually(lambda: not server.get("/api/breakpoints")["items"], "none")
    assert server.wait_task(server.send("work", n=102))["state"] == "done"


@pytest.mark.parametrize("broken", [b"on = 5\n", b'on = "work" # \xff\n'])
def test_a_file_that_is_broken_when_the_server_begins_again_leaves_its_last_version_in_force(
    server: Server, broken: bytes
) -> None:
    folder = server.folder / "breakpoints"
    folder.mkdir()
    (folder / "big.py").write_text('on = "work"\nwhen = lambda task: task["n"] > 100\n')
    eventually(lambda: server.get("/api/breakpoints")["items"], "a breakpoint")
    (folder / "big.py").write_bytes(broken)
    eventually(lambda: server.get("/api/breakpoints")["items"][0]["problems"], "a problem")
    assert reason(server.wait_task(server.send("work", n=101), {"held"})) == "breakpoint:big"
    server.kill()
    (folder / "new.py").write_text("on = 5\n")
    server.start()
    listed = {one["name"]: one for one in server.get("/api/breakpoints")["items"]}
    assert (listed["big"]["on"], listed["new"]["on"]) == (["work"], []), "nothing is known of one that never was right"
    assert listed["big"]["problems"]
    assert listed["new"]["problems"]
    assert reason(server.wait_task(server.send("work", n=102), {"held"})) == "breakpoint:big"
    server.kill()
    (folder / "big.py").unlink()
    server.start()
    assert server.wait_task(server.send("work", n=103))["state"] == "done", "who takes it away does not want it"


def test_a_file_stands_back_for_a_breakpoint_that_was_set_until_that_is_removed(server: Server) -> None:
    set_breakpoint(server, "worked", name="big")
    folder = server.folder / "breakpoints"
    folder.mkdir()
    (folder / "big.py").write_text('on = "work"\n')
    eventually(lambda: server.get("/api/breakpoints")["items"][0]["problems"], "a problem")
    server.request("DELETE", "/api/breakpoints/big")
    (one,) = server.get("/api/breakpoints")["items"]
    assert (one["on"], one["file"], one["problems"]) == (["work"], True, [])


# ---- in bulk, and while everything moves


def test_in_bulk_with_a_dry_run_and_once_for_a_request(server: Server) -> None:
    name = set_breakpoint(server, "work")
    ids = server.send_many([{"name": "work", "data": {"n": n}} for n in range(20)])
    for id in ids:
        server.wait_task(id, {"held"})
    where = {"name": "work", "reason": f"breakpoint:{name}"}
    assert server.post("/api/bulk/resume", dry_run=True, **where) == {"matched": 20, "changed": 0, "failed": []}
    assert len(server.all("tasks", state="held")) == 20
    first = server.post("/api/bulk/drop", request_id="r-1", who="ann", **where)
    assert first == {"matched": 20, "changed": 20, "failed": []}
    again = server.send("work", n=99)
    server.wait_task(again, {"held"})
    assert server.post("/api/bulk/drop", request_id="r-1", who="ann", **where) == first
    assert server.task(again)["state"] == "held", "the repeated request does nothing more"


def test_all_that_no_rule_has_matched_is_matched_again_where_that_is_said(server: Server) -> None:
    ids = [server.send("orphan", n=n) for n in range(3)]
    for id in ids:
        server.wait_task(id, {"unmatched"})
    server.rule("late", 'on = "orphan"\ndef main(n):\n    return n\n')
    eventually(lambda: any(one["rule"] == "late" for one in server.get("/api/rules")["items"]), "active")
    assert server.post("/api/bulk/resume", name="orphan")["matched"] == 0, "only what is held"
    assert server.post("/api/bulk/resume", name="orphan", reason="unmatched")["changed"] == 3
    for id in ids:
        assert server.wait_task(id, {"done"})["state"] == "done"


def test_a_pattern_is_refused_where_a_name_is_meant(server: Server) -> None:
    asks = (
        lambda: server.post("/api/bulk/resume", name="wo*"),
        lambda: server.get("/api/tasks?name=wo*"),
        lambda: server.get("/api/runs?rule=wo*"),
    )
    for ask in asks:
        with pytest.raises(Problem, match="is a pattern"):
            ask()


def test_in_bulk_without_a_filter_it_has_to_be_said_that_all_is_meant(server: Server) -> None:
    set_breakpoint(server, "work")
    id = server.send("work", n=1)
    server.wait_task(id, {"held"})
    for body in ({}, {"dry_run": True}, {"all": False}, {"all": True, "name": "work"}, {"name": None}):
        with pytest.raises(Problem, match='"all": true') as problem:
            server.post("/api/bulk/drop", **body)
        assert problem.value.status == 400
    assert server.task(id)["state"] == "held"
    assert server.post("/api/bulk/drop", all=True, dry_run=True)["matched"] == 1
    assert server.post("/api/bulk/drop", all=True)["changed"] == 1


def test_a_repeated_request_changes_nothing_more(server: Server) -> None:
    set_breakpoint(server, "work", name="one")
    id = server.send("work", n=1)
    server.wait_task(id, {"held"})
    set_breakpoint(server, "work", name="two")
    server.post(f"/api/tasks/{id}/resume", request_id="x")
    eventually(lambda: held_by(server, id, "breakpoint:two"), "held again")
    server.post(f"/api/tasks/{id}/resume", request_id="x")
    assert held_by(server, id, "breakpoint:two")


def test_each_task_committed_after_a_breakpoint_was_set_is_caught_while_500_flow(server: Server) -> None:
    server.drop_in(flow='on = "flow"\ndef main(n):\n    if n > 0:\n        emit("flow", n=n - 1)\n')
    stop = threading.Event()
    sent: list[str] = []

    def send() -> None:
        while not stop.is_set():
            sent.extend(server.send_many([{"name": "flow", "data": {"n": 3}} for _ in range(25)]))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        eventually(lambda: len(sent) >= 500, "a flow of tasks")
        name = set_breakpoint(server, "flow")
        later = server.send_many([{"name": "flow", "data": {"n": 1}} for _ in range(50)])
        time.sleep(0.2)  # the flow goes on meanwhile
    finally:
        stop.set()
        thread.join()
    server.kill()
    server.start()
    for id in later:
        assert reason(server.wait_task(id, {"held"})) == f"breakpoint:{name}"
    eventually(lambda: not server.all("tasks", state="new") and not server.all("tasks", state="running"), "quiet")
    states = {task["state"] for task in server.all("tasks", name="flow")}
    assert states == {"done", "held"}
    runs = {run["task"] for run in server.all("runs")}
    held = {task["id"] for task in server.all("tasks", state="held")}
    assert not runs & held, "what is held has had no run"


def test_a_preview_says_what_it_would_have_caught_and_holds_nothing(server: Server) -> None:
    ids = [server.send("work", n=n) for n in range(4)]
    for id in ids:
        server.wait_task(id)
    found = server.post("/api/breakpoints/preview", on=["work"], when='task["n"] >= 2')
    assert found["caught"] == 2
    assert {item["task"] for item in found["items"]} == set(ids[2:])
    found = server.post("/api/breakpoints/preview", on=["*"], at="before:emit", when='entry.args["data"]["n"] == 3')
    assert [item["task"] for item in found["items"]] == [ids[3]]
    assert server.get("/api/breakpoints")["items"] == []


# ---- the command line


def command(server: Server, *words: str, code: int = 0) -> str:
    ended = server.command(*words)
    assert ended.returncode == code, ended.stderr + ended.stdout
    return ended.stdout if code == 0 else ended.stderr


def test_breakpoints_by_the_command_line(server: Server) -> None:
    name = command(server, "break", "add", "work", "--when", 'task["n"] > 1').strip()
    assert name in command(server, "break", "list")
    one, two, three = (server.send("work", n=n) for n in (2, 3, 4))
    for id in (one, two, three):
        server.wait_task(id, {"held"})
    assert f"breakpoint:{name}" in command(server, "held")
    command(server, "edit", one, "n:=7")
    command(server, "resume", one)
    assert server.wait_task(one)["data"] == {"n": 7}
    assert command(server, "drop", "--reason", f"breakpoint:{name}", "--dry-run") == "2 would be meant\n"
    assert command(server, "drop", "--reason", f"breakpoint:{name}") == "2 of 2\n"
    assert server.task(two)["state"] == "dropped"
    assert "Give either an id, or filters" in command(server, "resume", code=2)
    command(server, "break", "rm", name)
    assert json.loads(command(server, "break", "list", "--json")) == {"items": [], "next": None}
    assert command(server, "break", "add", "work", "--preview").startswith("3 of the newest")
    who = {audit["who"] for audit in server.get("/api/audit")["items"]}
    assert who, "each has a name"
    assert "-" not in who


def test_an_answer_by_the_command_line(server: Server) -> None:
    set_breakpoint(server, "work", at="before:run")
    id = server.send("work", n=1)
    run = server.wait_run(id, {"held"})["id"]
    command(server, "answer", run, "--result", '{"n": 11}')
    assert server.wait_run(id, {"done"})["value"] == 1
    assert started(server) == []


def test_check_looks_at_the_files_of_breakpoints_too(server: Server) -> None:
    folder = server.folder / "breakpoints"
    folder.mkdir()
    (folder / "wrong.py").write_text('on = "work"\nat = "around:run"\n')
    (folder / "right.py").write_text('on = "work"\nwhen = lambda task: task["n"] > 1\n')
    ended = subprocess.run(
        [sys.executable, "-m", "scriptrules", "check", "--json"],
        cwd=server.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [(one["file"], one["code"]) for one in json.loads(ended.stdout)["items"]]
    assert ("breakpoints/wrong.py", "SR322") in found
    assert not [file for file, _ in found if file == "breakpoints/right.py"]


def test_a_run_that_is_told_to_hold_stops_at_its_next_entry_even_after_a_kill(server: Server) -> None:
    server.drop_in(slow='on = "slow"\ndef main(n):\n    sleep(n)\n    emit("slept")\n    return 1\n')
    run = server.wait_run(server.send("slow", n=4), {"waiting"})["id"]
    server.post(f"/api/runs/{run}/hold", who="ada")
    server.kill()
    server.start()
    held = eventually(lambda: next(iter(server.all("runs", state="held")), None), "held")
    assert (held["id"], reason(held)) == (run, "step")
    assert server.all("tasks", name="slept") == []
    with pytest.raises(Problem, match="held already"):
        server.post(f"/api/runs/{run}/hold")
    server.post(f"/api/runs/{run}/resume")
    eventually(lambda: server.get(f"/api/runs/{run}")["state"] == "done", "done")
    assert len(server.all("tasks", name="slept")) == 1
