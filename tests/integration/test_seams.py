"""Where breakpoints, waiting, variables, limits and forks meet: against a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from scriptrules import config
from scriptrules.model import TaskState
from scriptrules.plugins.manager import Plugins
from scriptrules.store.memory import MemoryStore
from scriptrules.store.protocol import Change, Committed
from scriptrules.supervisor.supervisor import Supervisor
from scriptrules.supervisor.verbs import Ask
from serving import Problem, Server, appending_program, eventually, project


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with project() as server:
        program, record = appending_program(server)
        server.config(f'[sandbox]\nworkers = 2\n[hosts.local]\nexecutor = "process"\nprograms = ["{program}"]\n')
        server.program, server.record = program, record  # type: ignore[attr-defined]
        server.start()
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    yield shared
    for one in shared.get("/api/breakpoints")["items"]:
        shared.request("DELETE", f"/api/breakpoints/{one['name']}")


def hold_at(server: Server, on: str, at: str = "task", **more: Any) -> str:
    return str(server.post("/api/breakpoints", on=[on], at=at, **more)["name"])


def go_on(server: Server, id: str, verb: str = "resume", **body: Any) -> None:
    server.post(f"/api/{'runs' if id.startswith('r') else 'tasks'}/{id}/{verb}", **body)


def stops(server: Server, task: str, verb: str = "resume", most: int = 12) -> list[str]:
    """At which entries a run is held, each time that it goes on by a verb."""
    seen = []
    for _ in range(most):
        run = server.wait_run(task, {"held", "done", "failed", "cancelled"})
        if run["state"] != "held":
            return [*seen, run["state"]]
        entries = server.entries(run["id"])
        seen.append(f"{len(entries)}:{entries[-1]['name']}" if entries else "0")
        go_on(server, run["id"], verb)
        eventually(lambda was=run: server.get(f"/api/runs/{was['id']}")["since"] != was["since"], "it went on")
    return [*seen, "still held"]


def test_a_task_that_two_resume_at_once_has_one_run(server: Server) -> None:
    server.drop_in(once='on = "once"\ndef main(n):\n    emit("one.more", n=n)\n')
    hold_at(server, "once")
    ids = server.send_many([{"name": "once", "data": {"n": n}} for n in range(60)])
    for id in ids:
        server.wait_task(id, {"held"})
    problems = []

    def resume(id: str) -> None:
        try:
            go_on(server, id)
        except Problem as problem:
            problems.append(problem.status)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(resume, [id for id in ids for _ in range(4)]))
    for id in ids:
        server.wait_task(id)
    counts = {len(server.all("runs", task=id)) for id in ids}
    assert counts == {1}
    assert set(problems) <= {409}


def test_a_task_that_is_dropped_and_resumed_at_once_is_one_of_both(server: Server) -> None:
    server.drop_in(both='on = "both"\ndef main(n):\n    emit("one.more", n=n)\n')
    hold_at(server, "both")
    ids = server.send_many([{"name": "both", "data": {"n": n}} for n in range(60)])
    for id in ids:
        server.wait_task(id, {"held"})
    ok: dict[str, list[str]] = {id: [] for id in ids}
    problems: list[int] = []

    def do(what: tuple[str, str]) -> None:
        id, verb = what
        try:
            go_on(server, id, verb)
            ok[id].append(verb)
        except Problem as problem:
            problems.append(problem.status)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(do, [(id, verb) for id in ids for verb in ("drop", "resume", "cancel")]))
    assert set(problems) <= {409}
    for id in ids:
        task = server.wait_task(id)
        states = [run["state"] for run in server.all("runs", task=id)]
        assert ok[id] in (["drop"], ["cancel"], ["resume"], ["resume", "cancel"], ["cancel", "resume"]), task
        assert len(states) <= 1
        if len(ok[id]) == 1:
            assert (task["state"], states) in (("dropped", []), ("cancelled", []), ("done", ["done"])), ok[id]
        else:
            assert (task["state"], states) in (("cancelled", []), ("cancelled", ["cancelled"])), ok[id]


def test_steps_go_over_loads_and_saves(server: Server) -> None:
    server.request("PUT", "/api/variables/colour", b'{"value": "red"}')
    text = """on = "steps"
def main():
    save("a", 1)
    c = load("colour")
    save("b", c)
    sleep(0.01)
    return load("a")
"""
    server.drop_in(steps=text)
    hold_at(server, "steps")
    id = server.send("steps")
    server.wait_task(id, {"held"})
    go_on(server, id, "step")
    assert stops(server, id, "step") == ["1:save", "2:load", "3:save", "4:sleep", "5:load", "done"]


PLACES = ["load", "save", "emit", "run", "wait", "sleep", "sleep_until", "receive", "call", "hold", "return"]


@pytest.mark.parametrize(
    "at",
    [f"before:{name}" for name in PLACES] + [f"after:{name}" for name in PLACES if name != "return"],
)
def test_every_place_holds_once(server: Server, at: str) -> None:
    server.request("PUT", "/api/variables/colour", b'{"value": "red"}')
    server.drop_in(proc='on = "proc"\ndef main(x):\n    return x\n')
    server.drop_in(
        places=f"""on = "places"
def main():
    save("a", 1)
    c = load("colour")
    h = emit("leaf", c=c)
    run("local", "job", {server.program!r}, args=[{str(server.record)!r}, "1"])
    wait("job")
    wait(h)
    sleep(0.01)
    sleep_until(now())
    r = receive("places.in")
    v = call("proc", x=r["x"])
    hold("look")
    return [Task("leaf", v=v), Task("leaf", v=2)]
""",
    )
    hold_at(server, "places", at)
    id = server.send("places")
    server.send("places.in", x=5)
    seen = stops(server, id)
    assert seen[-1] == "done"
    assert len(seen) > 2, "the breakpoint itself, and hold()"
    assert len(server.all("tasks", parent=server.run_of(id)["id"])) == 4


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("after:return", "before:return"),
        ("before:runn", "did you mean 'run'?"),
        ("before:log", "Runs have no entry 'log'"),
    ],
)
def test_a_place_where_nothing_would_ever_stop_is_refused(server: Server, at: str, says: str) -> None:
    with pytest.raises(Problem) as caught:
        hold_at(server, "**", at)
    assert caught.value.status == 400
    assert says in caught.value.body["detail"]


def test_what_a_load_gives_is_held_before_the_script_gets_it_and_can_be_another_value(server: Server) -> None:
    server.request("PUT", "/api/variables/colour", b'{"value": "red"}')
    text = 'on = "paint"\ndef main():\n    save("a", 1)\n    c = load("colour")\n    emit("leaf", c=c)\n    return c\n'
    server.drop_in(paint=text)
    hold_at(server, "paint", "after:load", when='entry.result == "red"', name="reds")
    id = server.send("paint")
    run = server.wait_run(id, {"held"})
    assert run["reason"] == "breakpoint:reds"
    assert [(one["name"], one["state"]) for one in server.entries(run["id"])] == [("save", "done"), ("load", "done")]
    server.request("PUT", "/api/variables/colour", b'{"value": "green"}')
    assert server.entries(run["id"])[1]["result"] == "red", "it was read once"
    go_on(server, run["id"], "answer", result="blue")
    assert server.wait_run(id, {"done"})["value"] == "blue"
    assert server.wait_run(server.send("paint"), {"done"})["value"] == "green"


def test_a_second_breakpoint_holds_an_entry_that_the_first_has_let_go_on(server: Server) -> None:
    server.drop_in(two='on = "two"\ndef main():\n    emit("leaf", n=1)\n    return 1\n')
    hold_at(server, "two", "before:emit", name="first")
    id = server.send("two")
    run = server.wait_run(id, {"held"})["id"]
    hold_at(server, "two", "before:emit", name="second", when='entry.args["data"]["n"] == 2')
    go_on(server, run, "edit", set={"data": {"n": 2}})
    go_on(server, run)
    held = server.get(f"/api/runs/{run}")
    assert (held["state"], held["reason"]) == ("held", "breakpoint:second"), "it was set before the entry was committed"
    assert server.entries(run)[0]["reason"] == "breakpoint:second"
    go_on(server, run)
    assert server.wait_run(id, {"done"})["value"] == 1
    assert [task["data"] for task in server.all("tasks", parent=run)] == [{"n": 2}]


def test_a_request_that_is_repeated_while_it_is_carried_out_is_carried_out_once(server: Server) -> None:
    server.drop_in(forked='on = "forked"\ndef main():\n    sleep(0.01)\n    emit("leaf", n=1)\n')
    id = server.send("forked")
    server.wait_task(id)
    run = server.run_of(id)["id"]
    with ThreadPoolExecutor(8) as pool:
        forks = [
            pool.submit(server.post, f"/api/runs/{run}/fork", seq=2, result=None, request_id="f") for _ in range(8)
        ]
    assert len({fork.result()["id"] for fork in forks}) == 1
    assert len(server.all("runs", task=id)) == 2


@pytest.mark.parametrize("at", ["before:receive", "after:receive"])
def test_an_answer_to_receive_is_a_task_and_the_one_that_was_taken_stays_taken(server: Server, at: str) -> None:
    text = 'on = "answered"\ndef main():\n    return [receive("an.in")["n"] for _ in range(2)]\n'
    server.drop_in(answered=text)
    name = hold_at(server, "answered", at)
    id = server.send("answered")
    for n in (1, 2, 3):
        server.send("an.in", n=n)
    run = server.wait_run(id, {"held"})["id"]
    for wrong in (7, {"name": "x", "data": 5}, {"data": {}}):
        with pytest.raises(Problem) as caught:
            go_on(server, run, "answer", result=wrong)
        assert "receive() gives a task" in caught.value.body["detail"]
    go_on(server, run, "answer", result={"name": "made.up", "data": {"n": 100}})
    server.request("DELETE", f"/api/breakpoints/{name}")
    run = server.wait_run(id, {"held", "done"})
    if run["state"] == "held":
        go_on(server, run["id"])
    assert server.wait_run(id, {"done"})["value"] == [100, 1 if at == "before:receive" else 2]


def test_a_call_that_somebody_answers_leaves_no_callee_behind(server: Server) -> None:
    server.drop_in(
        narrow='on = "narrow"\nlimit = {"max": 1}\ndef main(n):\n    return call("narrow", n=n - 1) if n else 0\n',
    )
    id = server.send("narrow", n=1)
    run = server.wait_run(id, {"held"})
    assert run["reason"] == "deadlock"
    go_on(server, run["id"], "answer", result=5)
    assert server.wait_run(id, {"done"})["value"] == 5
    (callee,) = server.all("tasks", parent=run["id"])
    assert server.wait_task(callee["id"])["state"] == "cancelled"


def test_a_task_that_is_cancelled_while_it_is_matched_is_cancelled_or_was_matched_before(server: Server) -> None:
    server.drop_in(quick='on = "quick"\ndef main(n):\n    emit("leaf", n=n)\n    sleep(0.01)\n')
    cancelled: dict[str, bool] = {}

    def send(n: int) -> None:
        id = server.send("quick", n=n)
        try:
            go_on(server, id, "cancel")
            cancelled[id] = True
        except Problem:
            cancelled[id] = False

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(200)))
    for id, was in cancelled.items():
        task = server.wait_task(id)
        runs = [run["state"] for run in server.all("runs", task=id)]
        assert (task["state"] == "cancelled") == was, (task, runs)
        assert runs in ([], [task["state"]]), task


def test_only_what_the_script_has_not_got_yet_is_answered(server: Server) -> None:
    program, record = server.program, str(server.record)  # type: ignore[attr-defined]
    text = f"""on = "known"
def main():
    a = run("local", "a", {program!r}, args=[{record!r}, "1"])
    b = run("local", "b", {program!r}, args=[{record!r}, "2"])
    first = wait(a, b, any=True)
    both = wait(a, b)
    return [first.output, sorted([str(one.output) for one in both])]
"""
    server.drop_in(known=text)
    hold_at(server, "known", "after:run")
    id = server.send("known")
    run = server.wait_run(id, {"held"})["id"]
    go_on(server, run, "answer", result="first")
    eventually(lambda: len(server.entries(run)) == 4, "the second wait")
    server.wait_run(id, {"held"})
    (given,) = server.entries(run)[2]["result"]["ready"]
    with pytest.raises(Problem):
        go_on(server, run, "answer", result="too late", seq=given)
    go_on(server, run, "answer", result="second")
    assert server.wait_run(id, {"done"})["value"] == ["first", ["first", "second"]]


def test_a_breakpoint_holds_what_a_declarative_rule_calls_and_what_jobs_start(server: Server) -> None:
    server.drop_in(proc2='on = "proc2"\ndef main(n):\n    return n + 1\n')
    server.drop_in(**{"said.yaml": "on: said\ncall: proc2\ndata:\n  n: {type: data, name: n}\nthen: leaf\n"})
    for at in ("before:call", "after:call"):
        hold_at(server, "said", at)
    id = server.send("said", n=1)
    assert stops(server, id) == ["1:call", "1:call", "done"]
    (leaf,) = server.all("tasks", parent=server.run_of(id)["id"], name="leaf")
    assert leaf["data"] == {"value": 2}

    body = {"host": "local", "image": server.program, "args": [str(server.record), "3"]}  # type: ignore[attr-defined]
    jobs = ", ".join(f"Job('Process', {body | {'name': name}!r})" for name in ("a", "b"))
    server.drop_in(jobs=f'on = "jobs"\ndef main():\n    return [{jobs}]\n')
    hold_at(server, "jobs", "before:run")
    id = server.send("jobs")
    assert stops(server, id) == ["1:run", "2:run", "done"]


def test_a_held_run_keeps_its_slot_and_its_time_and_makes_way_where_the_oldest_does(server: Server) -> None:
    body = 'def main(n):\n    save("x", n)\n    emit("leaf", n=n)\n    sleep(0.01)\n    return n\n'
    server.drop_in(oldest=f'on = "oldest"\nlimit = {{"max": 1, "full": "cancel_oldest"}}\n{body}')
    hold_at(server, "oldest", "before:emit")
    first = server.send("oldest", n=1)
    server.wait_run(first, {"held"})
    second = server.send("oldest", n=2)
    assert server.wait_task(first)["state"] == "cancelled"
    assert stops(server, second, "step") == ["2:emit", "3:sleep", "done"]

    server.drop_in(queue=f'on = "queue"\nlimit = {{"max": 1}}\ntimeout = 0.5\n{body}')
    hold_at(server, "queue", "before:emit")
    first, second = server.send("queue", n=1), server.send("queue", n=2)
    server.wait_run(first, {"held"})
    assert server.wait_run(second, {"queued"})["reason"] == "limit"
    time.sleep(0.7)  # longer than the timeout
    assert server.run_of(first)["state"] == "held"
    assert stops(server, first, "step") == ["2:emit", "3:sleep", "done"]
    go_on(server, server.wait_run(second, {"held"})["id"], "answer", result=1)
    assert server.wait_task(second)["state"] == "done"


def test_a_rule_that_is_edited_while_breakpoints_are_asked_about_it_is_cut_by_what_it_does_now(server: Server) -> None:
    server.drop_in(edited='on = "edited"\ndef main():\n    for n in range(40):\n        emit("leaf", n=n)\n')
    hold_at(server, "edited", "before:emit", when='entry.args["data"]["n"] == 39')
    ids = server.send_many([{"name": "edited", "data": {}} for _ in range(120)])
    server.rule("edited", 'on = "edited"\ndef main():\n    emit("leaf", n=1)\n')
    states = [server.wait_run(id, {"held", "done"}) for id in ids]
    held, done = ({run["digest"] for run in states if run["state"] == state} for state in ("held", "done"))
    assert not held & done
    server.post("/api/bulk/drop", name="edited")


def test_a_run_that_is_retried_in_the_moment_in_which_it_fails_goes_on_once(server: Server) -> None:
    server.request("PUT", "/api/variables/mode", b'{"value": "bad"}')
    text = """on = "failing"
def main():
    sleep(0.01)
    if load("mode") == "bad":
        raise ValueError("bad")
    emit("leaf", n=1)
    sleep(0.01)
    emit("leaf", n=2)
"""
    server.drop_in(failing=text)
    ids = server.send_many([{"name": "failing", "data": {}} for _ in range(16)])
    runs = [server.wait_run(id, {"failed"})["id"] for id in ids]
    end = time.monotonic() + 2

    def retry(run: str) -> None:
        while time.monotonic() < end:
            with suppress(Problem):
                go_on(server, run, "retry")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(retry, runs))
    server.request("PUT", "/api/variables/mode", b'{"value": "good"}')
    for id in ids:
        if server.wait_task(id)["state"] == "failed":
            go_on(server, id, "retry")
        server.wait_run(id, {"done"})
        assert [leaf["data"]["n"] for leaf in server.all("tasks", parent=server.run_of(id)["id"])] == [2, 1]
    assert not [event for event in server.events() if event["event"] in ("supervisor.bug", "asyncio.bug")]


class LookedAtMeanwhile(MemoryStore):
    """A store in which somebody begins to look for new tasks in the very moment in which one is released."""

    look: Callable[[], None]

    def submit(self, change: Change, then: Callable[[Committed], None]) -> None:
        def durable(committed: Committed) -> None:
            if any(move.state is TaskState.NEW for move in change.moves):
                self.look()
            then(committed)

        super().submit(change, durable)


def test_a_task_that_is_released_while_somebody_begins_to_look_is_in_somebodys_hands(tmp_path: Path) -> None:
    async def scenario() -> str:
        (tmp_path / "rules").mkdir()
        (tmp_path / "rules" / "free.py").write_text('on = "free"\ndef main():\n    pass\n')
        (tmp_path / config.FILE).write_text('[store]\nurl = "memory:"\n[sandbox]\nworkers = 1\n')
        store = LookedAtMeanwhile()
        supervisor = Supervisor(config.load(tmp_path, environ={}), store, Plugins(None), watch=False)
        matcher = supervisor.matcher

        def look() -> None:
            matcher._behind = True  # as where another task was let go of just now
            matcher.refill()

        store.look = look
        await supervisor.start()
        try:
            await supervisor.verbs.set_breakpoint("all", ["free"], "task", None, Ask("break", "ann"))
            (sent,) = await supervisor.ingest([("free", b"{}", None)])
            await _reaches(store, sent.id, TaskState.HELD)
            await supervisor.verbs.resume(sent.id, Ask("resume", "ann"))
            return await _reaches(store, sent.id, TaskState.DONE)
        finally:
            await supervisor.close()

    assert asyncio.run(scenario()) == "done"


async def _reaches(store: MemoryStore, id: str, state: TaskState) -> str:
    """The state of a task once it is this one, or after a while."""
    for _ in range(500):
        task = await store.task(id)
        if task is not None and task.state is state:
            break
        await asyncio.sleep(0.02)
    return str(task and task.state)
