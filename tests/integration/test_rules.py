"""What rules mean: patterns, filters, priority, fallbacks, tables, binding, return values, hot reload."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from serving import Server, eventually, project


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with project() as server:
        server.config("")
        server.start()
        yield server


def ran(server: Server, task: str) -> list[str]:
    """The rules that have run a task, in the order in which they were started."""
    server.wait_task(task)
    return [run["rule"] for run in reversed(server.all("runs", task=task))]


def test_patterns_match_segments(server: Server) -> None:
    server.drop_in(
        p_one='on = "pat.*.end"\ndef main(**k): pass\n',
        p_any='on = "pat.**"\ndef main(**k): pass\n',
        p_two='on = ["pat.x.end", "pat.y.end"]\ndef main(**k): pass\n',
    )
    assert ran(server, server.send("pat.x.end")) == ["p_any", "p_one", "p_two"]
    assert ran(server, server.send("pat.z.end")) == ["p_any", "p_one"]
    assert ran(server, server.send("pat.a.b.end")) == ["p_any"]
    assert ran(server, server.send("pat")) == ["p_any"]


def test_priority_orders_and_final_leaves_out_those_below(server: Server) -> None:
    server.drop_in(
        q_low='on = "prio"\npriority = -1\ndef main(**k): pass\n',
        q_mid='on = "prio"\nfinal = True\nwhen = lambda task: task["stop"]\ndef main(**k): pass\n',
        q_high='on = "prio"\npriority = 5\ndef main(**k): pass\n',
        q_equal='on = "prio"\ndef main(**k): pass\n',
        q_off='on = "prio"\nenabled = False\ndef main(**k): pass\n',
    )
    assert ran(server, server.send("prio", stop=False)) == ["q_high", "q_equal", "q_low"]
    assert ran(server, server.send("prio", stop=True)) == ["q_high", "q_equal", "q_mid"]


def test_a_fallback_runs_only_where_nothing_else_matches_and_sees_why(server: Server) -> None:
    server.drop_in(
        f_big='on = "fall"\nwhen = lambda task: task["size"] > 10\ndef main(**k): pass\n',
        f_else='on = "fall"\nnomatch = True\ndef main(task): return task.reasons\n',
    )
    assert ran(server, server.send("fall", size=11)) == ["f_big"]
    small = server.send("fall", size=1)
    assert ran(server, small) == ["f_else"]
    assert server.run_of(small)["value"] == {"f_big": "its filter does not hold"}


def test_a_fallback_that_waits_sees_the_same_reasons_after_a_replay() -> None:
    with project() as server:
        server.config("")
        server.rule("big", 'on = "fall"\nwhen = lambda task: task["size"] > 10\ndef main(**k): pass\n')
        server.rule(
            "rest",
            'on = "fall"\nnomatch = True\ndef main(task):\n'
            "    a = task.reasons\n    sleep(1.2)\n    return [a, task.reasons]\n",
        )
        server.start()
        task = server.send("fall", size=1)
        server.wait_run(task, {"waiting"})
        server.kill()
        server.start()
        server.wait_task(task)
        assert server.run_of(task)["value"] == [{"big": "its filter does not hold"}] * 2


def test_nothing_matches_and_the_task_is_kept_as_unmatched(server: Server) -> None:
    task = server.wait_task(server.send("nobody.cares"))
    assert task["state"] == "unmatched"
    assert task["reason"] == "no rule's `on` fits"


TABLE = """
def both(task):
    return [{"n": task["n"]}, {"task": "table.out", "n": 0}]

rules = [("table.copy", lambda t: t.name == "table.in" and t["n"] > 1, both)]
nomatch = [("table.small", lambda t: t.name == "table.in", lambda t: {"id": t["n"]})]
"""


def test_tables_generate_tasks_and_never_match_what_they_generated_themselves(server: Server) -> None:
    server.drop_in(table=TABLE)
    big = server.send("table.in", n=2)
    assert ran(server, big) == ["table:table.copy"]
    children = {(task["name"], task["data"]["n"]) for task in server.all("tasks", root=big) if task["id"] != big}
    assert children == {("table.copy", 2), ("table.out", 0)}
    small = server.send("table.in", n=1)
    assert ran(server, small) == ["table:table.small"]
    server.drop_in(selfish='rules = [("self.made", lambda t: t.name == "self.made", lambda t: {"n": t["n"] + 1})]\n')
    first = server.send("self.made", n=0)
    server.wait_task(first)
    second = next(task for task in server.all("tasks", root=first) if task["id"] != first)
    assert second["data"] == {"n": 1}
    assert server.wait_task(second["id"])["state"] == "unmatched"


def test_main_is_bound_by_name(server: Server) -> None:
    server.drop_in(
        b_all='on = "bind"\ndef main(size, unit="kB", **rest): return [size, unit, rest]\n',
        b_some='on = "bind"\ndef main(size): return size\n',
        b_task='on = "bind"\ndef main(task): return [task["odd-key"], task.name, task.id, task.hop, "size" in task]\n',
    )
    task = server.send("bind", **{"size": 3, "odd-key": 1})
    server.wait_task(task)
    values = {run["rule"]: run["value"] for run in server.all("runs", task=task)}
    assert values == {
        "b_all": [3, "kB", {"odd-key": 1}],
        "b_some": 3,
        "b_task": [1, "bind", task, 0, True],
    }
    missing = server.send("bind", **{"odd-key": 1})
    assert server.wait_task(missing)["state"] == "failed"
    error = server.run_of(missing, "b_some")["error"]
    assert error["message"] == "main() needs 'size', and task bind has no such field"


def test_returned_tasks_are_generated_and_data_that_looks_like_one_is_not(server: Server) -> None:
    server.drop_in(
        r_tasks='on = "ret"\ndef main(**k): return [Task("ret.a", n=1), Task("ret.b", n=2)]\n',
        r_data='on = "ret"\ndef main(**k): return {"task": "ret.c", "name": "ret.d"}\n',
        r_mixed='on = "ret"\ndef main(**k): return [Task("ret.e"), 1]\n',
    )
    task = server.send("ret")
    assert server.wait_task(task)["state"] == "failed"
    assert {one["name"] for one in server.all("tasks", root=task)} == {"ret", "ret.a", "ret.b"}
    assert "tasks only, or values only" in server.run_of(task, "r_mixed")["error"]["message"]


def test_a_slice_that_raises_takes_no_effect_and_fail_keeps_what_it_did(server: Server) -> None:
    server.drop_in(
        s_raise='on = "slice"\ndef main(**k):\n    emit("slice.lost")\n    log("kept")\n    [][1]\n',
        s_fail='on = "slice"\ndef main(**k):\n    emit("slice.kept")\n    fail("no stock")\n',
    )
    task = server.send("slice")
    assert server.wait_task(task)["state"] == "failed"
    assert {one["name"] for one in server.all("tasks", root=task)} == {"slice", "slice.kept"}
    raised = server.run_of(task, "s_raise")
    assert raised["error"]["type"] == "IndexError"
    assert raised["error"]["line"] == 5
    assert 'File "rules/s_raise.py", line 5, in main' in raised["error"]["trace"]
    assert "site-packages" not in raised["error"]["trace"]
    assert "scriptrules/sandbox" not in raised["error"]["trace"]
    assert [line["text"] for line in server.get(f"/api/runs/{raised['id']}/logs")["items"]] == ["kept"]
    assert server.run_of(task, "s_fail")["error"]["message"] == "no stock"


def test_calls_return_values_and_failures(server: Server) -> None:
    server.drop_in(
        c_caller="""
on = "calls"
def main(n):
    try:
        return call("math.double", n=n)
    except CallFailed as error:
        return str(error)
""",
        c_double='on = "math.double"\ndef main(n):\n    if n < 0: raise ValueError("negative")\n    return 2 * n\n',
        c_audit='on = "math.*"\npriority = 9\ndef main(**k): return "audit"\n',
    )
    good, bad = server.send("calls", n=4), server.send("calls", n=-1)
    assert server.wait_task(good)["state"] == "done"
    assert server.run_of(good)["value"] == 8
    server.wait_task(bad)
    assert "negative" in server.run_of(bad)["value"]


def test_a_call_that_nobody_answers_is_held_until_the_procedure_is_dropped_in(server: Server) -> None:
    server.drop_in(u_caller='on = "asks"\ndef main(**k): return call("answer.me", n=1)\n')
    task = server.send("asks")
    run = server.wait_run(task, {"waiting"})
    callee = eventually(lambda: server.all("tasks", name="answer.me", state="held"), "the callee is held")[0]
    assert callee["reason"] == "unresolved"
    server.drop_in(u_other='on = "asked.by.nobody"\ndef main(**k): return 1\n')
    assert server.wait_task(server.send("asked.by.nobody"))["state"] == "done"
    assert server.task(callee["id"])["since"] == callee["since"], "a rule that does not name it changes nothing"
    server.drop_in(u_answer='on = "answer.me"\ndef main(n): return n + 41\n')
    assert server.wait_task(task)["state"] == "done"
    assert server.get(f"/api/runs/{run['id']}")["value"] == 42


def test_emitted_tasks_can_be_waited_for(server: Server) -> None:
    server.drop_in(
        w_parent="""
on = "family"
def main(**k):
    handles = [emit("child", n=n) for n in range(3)]
    results = wait(*handles)
    return [[r.status, r.value] for r in results]
""",
        w_child='on = "child"\ndef main(n):\n    sleep(0.1 * n)\n    return n * n\n',
    )
    task = server.send("family")
    server.wait_task(task)
    assert server.run_of(task)["value"] == [["done", 0], ["done", 1], ["done", 4]]


def test_wait_times_out_and_any_gives_the_first(server: Server) -> None:
    server.drop_in(
        t_wait="""
on = "timing"
def main(**k):
    slow, quick = emit("nap", s=30), emit("nap", s=0.1)
    first = wait(slow, quick, any=True)
    try:
        wait(slow, timeout=0.2)
    except TimeoutError as error:
        return [first.value, "timed out" in str(error)]
""",
        t_nap='on = "nap"\ndef main(s):\n    sleep(s)\n    return s\n',
    )
    task = server.send("timing")
    server.wait_run(task, {"done"})
    assert server.run_of(task)["value"] == [0.1, True]


def test_hold_and_resume(server: Server) -> None:
    server.drop_in(h_hold='on = "holding"\ndef main(**k):\n    hold("look at it")\n    return "went on"\n')
    task = server.send("holding")
    run = server.wait_run(task, {"held"})
    assert run["reason"] == "hold: look at it"
    assert "resume" in run["exit"]
    assert run["id"] in {item["id"] for item in server.get("/api/held")["items"]}
    server.request("POST", f"/api/runs/{run['id']}/resume")
    assert server.wait_task(task)["state"] == "done"
    assert server.run_of(task)["value"] == "went on"


def test_a_loop_of_tasks_is_held(server: Server) -> None:
    server.drop_in(l_loop='on = "loop"\ndef main(n): emit("loop", n=n + 1)\n')
    first = server.send("loop", n=0)
    held = eventually(lambda: server.all("tasks", root=first, state="held"), "the loop is held")[0]
    assert held["reason"] == "loop"
    assert held["data"]["n"] == 101


def test_shared_code_is_imported_and_part_of_the_digest(server: Server) -> None:
    server.rule("lib/units", 'SCALE = {"kB": 1000}\ndef to_bytes(n, unit): return n * SCALE[unit]\n')
    server.drop_in(i_lib='from lib.units import to_bytes\non = "units"\ndef main(n): return to_bytes(n, "kB")\n')
    task = server.send("units", n=3)
    server.wait_task(task)
    first = server.run_of(task)
    assert first["value"] == 3000
    server.rule("lib/units", "def to_bytes(n, unit): return n * 1024\n")

    def changed() -> bool:
        task = server.send("units", n=3)
        server.wait_task(task)
        return bool(server.run_of(task)["value"] == 3072)

    eventually(changed, "the changed library is active")


def test_a_saved_file_is_active_soon_and_a_broken_one_leaves_the_previous_version(server: Server) -> None:
    server.drop_in(hot='on = "hot"\ndef main(**k): return 1\n')

    def value() -> object:
        task = server.send("hot")
        server.wait_task(task)
        return server.run_of(task)["value"]

    assert value() == 1
    server.rule("hot", 'on = "hot"\ndef main(**k): return 2\n')
    saved = time.monotonic()
    eventually(lambda: value() == 2, "the saved file is active")
    assert time.monotonic() - saved < 20  # the benchmark says how long it takes; this only says that it happens
    server.rule("hot", 'on = "hot"\ndef main(**k):\n    import os\n    return 3\n')

    def problems() -> list[str]:
        rule = next(rule for rule in server.get("/api/rules")["items"] if rule["rule"] == "hot")
        return list(rule["problems"])

    (problem,) = eventually(problems, "the broken file is reported")
    assert problem.startswith("rules/hot.py:3:5: SR")
    assert "^" in problem
    assert value() == 2
    server.drop_in(neighbour='on = "neighbour"\ndef main(**k): return "fine"\n')
    assert ran(server, server.send("neighbour")) == ["neighbour"]
    (server.folder / "rules" / "hot.py").unlink()
    eventually(lambda: server.wait_task(server.send("hot"))["state"] == "unmatched", "the deleted rule is inactive")


def test_divergence_holds_with_expected_and_got() -> None:
    with project() as server:
        server.config("")
        rule = 'on = "odd"\ndef main(**k):\n    emit("one", long="x" * 500, n=1)\n    hold("wait")\n'
        server.rule("odd", rule)
        server.start()
        task = server.send("odd")
        run = server.wait_run(task, {"held"})
        server.rule("odd", rule.replace("n=1", "n=2"))
        digest = run["digest"]
        eventually(
            lambda: [r for r in server.get("/api/rules")["items"] if r["digest"] not in (None, digest)], "the edit"
        )
        server.request("POST", f"/api/runs/{run['id']}/retry")
        eventually(lambda: server.run_of(task)["reason"] == "divergence", "held")
        held = server.run_of(task)
        assert held["state"] == "held"
        expected, got = held["error"]["message"].split(", got ")
        assert expected.endswith('x","n":1})'), "what differs is seen, however long the rest is"
        assert got.endswith('x","n":2})')
        assert "name" not in got, "only what differs"
        assert held["error"]["line"] == 3
        many = server.request("POST", "/api/bulk/retry", b'{"reason": "divergence", "from_start": true}')
        assert (many["matched"], many["changed"]) == (1, 1), "its way out is there for many, too"
        eventually(lambda: server.run_of(task)["reason"] == "hold: wait", "begun again")
        assert [one["name"] for one in server.all("tasks", root=task)] == ["one", "one", "odd"]


def test_retry_starts_the_failed_execution_again_and_keeps_the_rest() -> None:
    with project() as server:
        server.config('[hosts.local]\nexecutor = "process"\nprograms = ["test"]\n')
        flag = server.folder / "flag"
        server.rule(
            "retried",
            f'on = "go"\ndef main(**k):\n    emit("once")\n    run("local", "t", "test", args=["-e", "{flag}"])\n'
            '    wait("t")\n    return "well"\n',
        )
        server.start()
        task = server.send("go")
        assert server.wait_task(task)["state"] == "failed"
        run = server.run_of(task)
        assert run["error"]["type"] == "ExecutionFailed"
        assert run["error"]["line"] == 5
        flag.touch()
        server.request("POST", f"/api/runs/{run['id']}/retry")
        assert server.wait_task(task, {"done"})["state"] == "done"
        assert server.run_of(task)["value"] == "well"
        assert len(server.all("tasks", name="once")) == 1
        assert [entry["attempt"] for entry in server.entries(run["id"]) if entry["name"] == "run"] == [2]


def test_a_failed_task_is_retried_with_all_its_failed_runs_and_ends_once_more() -> None:
    with project() as server:
        server.config('[hosts.local]\nexecutor = "process"\nprograms = ["test"]\n')
        flag = server.folder / "flag"
        text = f'on = "go"\ndef main(**k):\n    run("local", "t", "test", args=["-e", "{flag}"])\n    wait("t")\n'
        for n in range(5):
            server.rule(f"needs{n}", text)
        server.rule("fine", 'on = "go"\ndef main(**k): return 1\n')
        server.start()
        tasks = [server.send("go") for _ in range(4)]
        for task in tasks:
            assert server.wait_task(task)["state"] == "failed"
        flag.touch()
        for task in tasks:
            server.request("POST", f"/api/tasks/{task}/retry")
        for task in tasks:
            assert server.wait_task(task, {"done", "failed"})["state"] == "done"
            assert {run["state"] for run in server.all("runs", task=task)} == {"done"}


def test_cancel_stops_the_execution_and_ends_the_run() -> None:
    with project() as server:
        server.config('[hosts.local]\nexecutor = "process"\nprograms = ["sleep"]\n')
        server.rule(
            "long",
            'on = "go"\ndef main(**k):\n    run("local", "s", "sleep", args=[300])\n    wait("s")\n    emit("never")\n',
        )
        server.start()
        task = server.send("go")
        run = server.wait_run(task, {"waiting"})
        eventually(lambda: server.entries(run["id"])[0]["state"] == "started", "the execution runs")
        server.request("POST", f"/api/runs/{run['id']}/cancel")
        assert server.wait_task(task)["state"] == "cancelled"
        assert server.run_of(task)["state"] == "cancelled"
        assert server.all("tasks", name="never") == []


def test_a_refused_host_or_program_is_raised_at_wait_and_says_what_to_do() -> None:
    with project() as server:
        server.config('[hosts.local]\nexecutor = "process"\nprograms = ["true"]\n')
        for name, host, program in (("host", "lokal", "true"), ("program", "local", "rm")):
            server.rule(name, f'on = "{name}"\ndef main(**k):\n    run("{host}", "x", "{program}")\n    wait("x")\n')
        server.start()
        bad_host = server.send("host")
        assert server.wait_task(bad_host)["state"] == "failed"
        message = server.run_of(bad_host)["error"]["message"]
        assert "there is no host 'lokal', did you mean 'local'?" in message
        bad_program = server.send("program")
        assert server.wait_task(bad_program)["state"] == "failed"
        message = server.run_of(bad_program)["error"]["message"]
        assert "programs" in message
        assert "[hosts.local]" in message
