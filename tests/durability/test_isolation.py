"""A thousand honest runs beside fifty hostile ones: the hostile ones fail with reason and line, the honest ones do not.

And that each budget of a rule is what the configuration says.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from scriptrules import config
from scriptrules.model import RUN_FINAL, Run, RunState
from scriptrules.plugins.manager import Plugins
from scriptrules.store.make import make_store
from scriptrules.store.protocol import Filter
from scriptrules.supervisor.supervisor import Supervisor
from serving import Server, eventually, project

HONEST_RUNS = 1000
OF_EACH_KIND = 4
PATIENCE = 300.0  # seconds; it takes about ten where nobody else is on the machine

SANDBOX = "[sandbox]\ncpu_seconds = 0.3\nhard_seconds = 1.0\nmemory_mb = 128\nworkers = 2\n"

HONEST = """
on = "honest"
def main(n):
    drawn = random()
    sleep(0.2)
    emit("honest.note", n=n)
    doubled = call("double", n=n)
    sleep(0.2)
    opened = call("gate", n=n)
    return [n, doubled, opened, 0 <= drawn < 1]
"""
DOUBLE = 'on = "double"\ndef main(n): return 2 * n\n'
GATE = 'on = "gate"\ndef main(n): return -n\n'

RUNS = {  # what stands from line 4 of the rule on, and what the reason names
    "loops": ("while True: pass", "cpu: |steps: "),
    "hangs_in_c": ("return re.match('(a+)+$', 'a' * 64 + 'b')", "killed after|cpu: "),
    "hoards": ("x = []\n    while True: x.append([1] * 1000)", "memory: "),
    "recurses": ("main(**kwargs)", "recursion: "),
    "prints_much": ("while True: print('a' * 100)", "log: "),
    "prints_large": ("print('a' * 100_000)", "log: "),
    "emits": ("while True: emit('bad.more')", "entries: "),
    "emits_large": ("emit('bad.more', text='a' * 300_000)", "payload: "),
    "emits_deep": ("x = []\n    for _ in range(100): x = [x]\n    emit('bad.more', x=x)", "payload: "),
    "returns_large": ("return 'a' * 300_000", "payload: "),
    "catches_all": (
        "while True:\n        try:\n            while True: pass\n        except Exception: pass\n"
        "        finally:\n            emit('bad.more')",
        "cpu: |steps: ",
    ),
    "saves_itself": ("try:\n        main(**kwargs)\n    except Exception:\n        sleep(3600)", "recursion: "),
}
FILTERS = {
    "filter_loops": "while True: pass",
    "filter_hangs_in_c": "return re.match('(a+)+$', 'a' * 64 + 'b')",
}


def _prepare(server: Server) -> None:
    server.config(SANDBOX)
    for kind, (body, _) in RUNS.items():
        server.rule(kind, f'import re\non = "bad.{kind}"\ndef main(**kwargs):\n    {body}\n')
    for kind, body in FILTERS.items():
        server.rule(kind, f'import re\non = "bad.{kind}"\ndef when(task):\n    {body}\ndef main(**kwargs): pass\n')
    server.rule("honest", HONEST)
    server.rule("double", DOUBLE)
    server.start()


@pytest.mark.timeout(4 * PATIENCE)
def test_fifty_hostile_runs_beside_a_thousand_honest_ones_fail_alone() -> None:
    with project() as server:
        _prepare(server)
        honest = server.send_many([{"name": "honest", "data": {"n": n}} for n in range(HONEST_RUNS)])
        bad = [(kind, server.send(f"bad.{kind}")) for _ in range(OF_EACH_KIND) for kind in RUNS]
        caught = [(kind, server.send(f"bad.{kind}")) for kind in FILTERS]
        assert len(bad) + len(caught) == 50

        for kind, task in bad:
            assert server.wait_task(task, patience=PATIENCE)["state"] == "failed", kind
            error = server.run_of(task)["error"]
            assert any(word in error["message"] for word in RUNS[kind][1].split("|")), (kind, error)
            assert error.get("line") in range(3, 11), (kind, error)
        for kind, task in caught:
            held = server.wait_task(task, {"held", "done", "failed", "unmatched"}, PATIENCE)
            assert held["state"] == "held"
            assert held["reason"].startswith(f"match_limit: rule {kind}"), held
        assert server.get("/readyz")["worker_restarts"] >= OF_EACH_KIND

        # Nobody has answered the honest ones so far: all of them were under way beside the hostile ones.
        unanswered = {"state": "held", "reason": "unresolved"}
        eventually(lambda: len(server.all("tasks", **unanswered)) == HONEST_RUNS, "all at the gate", PATIENCE)
        assert not server.all("runs", rule="honest", state="failed")
        server.rule("gate", GATE)
        eventually(lambda: len(server.all("runs", rule="honest", state="done")) == HONEST_RUNS, "all done", PATIENCE)
        values = {run["task"]: run["value"] for run in server.all("runs", rule="honest")}
        assert values == {task: [n, 2 * n, -n, True] for n, task in enumerate(honest)}
        assert len(server.all("tasks", name="honest.note")) == HONEST_RUNS
        assert not server.all("tasks", name="bad.more"), "a slice that met a limit took effect"
        infos = {rule["rule"]: rule for rule in server.get("/api/rules")["items"]}
        assert {rule for rule, info in infos.items() if info["quarantined"]} == set(FILTERS)


# ---- each limit is what the configuration says

LOOP = "for _ in range(3_000_000): pass"
LONG_LOOP = "for _ in range(15_000_000): pass"  # thirty ticks of the clock, of which a loaded machine may lose some
SLOW = "return bool(re.match('(a+)+$', 'a' * 26 + 'b'))"
LIMITS = [  # key, a value that is too small, one that is enough, what the rule does, what the reason names
    ("steps", 1_000, 20_000_000, LOOP, "steps: "),
    ("cpu_seconds", 0.02, 60, LONG_LOOP, "cpu: "),
    ("hard_seconds", 0.1, 60, SLOW, "killed after "),
    ("memory_mb", 96, 1024, "x = [[1] * 1000 for _ in range(20_000)]", "memory: "),
    ("entries_per_slice", 5, 6, "for n in range(6): emit('a.b')", "entries: more than 5 entries in a slice"),
    ("entries_per_run", 5, 6, "for n in range(6): sleep(0)", "entries: more than 5 entries in a run"),
    ("payload_max", 1_000, 1_100, "emit('a.b', x='a' * 1_000)", "payload: "),
    ("depth_max", 5, 7, "emit('a.b', x=[[[[[]]]]])", "payload: "),
    ("log_max", 1_000, 1_100, "print('a' * 1_000)", "log: more than 1000 bytes"),
]


@pytest.mark.parametrize(("key", "small", "enough", "body", "reason"), LIMITS, ids=[limit[0] for limit in LIMITS])
def test_a_limit_is_what_the_configuration_says(
    tmp_path: Path, key: str, small: float, enough: float, body: str, reason: str
) -> None:
    refused = asyncio.run(_run(tmp_path, f"{key} = {small}", body))
    assert refused.state is RunState.FAILED
    assert refused.error is not None
    assert reason in refused.error.message
    assert refused.error.line
    done = asyncio.run(_run(tmp_path, f"{key} = {enough}", body))
    assert done.state is RunState.DONE, done.error


async def _run(folder: Path, limit: str, body: str) -> Run:
    """The run of a rule that does this under this limit, with CPU time for everything where that is not the limit."""
    (folder / "rules").mkdir(exist_ok=True)
    (folder / "rules" / "tried.py").write_text(f'import re\non = "go"\n\n\ndef main():\n    {body}\n')
    plenty = [
        line for line in ("cpu_seconds = 60", "hard_seconds = 120") if line.split()[0] != limit.split(maxsplit=1)[0]
    ]
    table = "\n".join(["[sandbox]", "workers = 1", limit, *plenty])
    (folder / config.FILE).write_text(f'[store]\nurl = "memory:"\n{table}\n')
    settings = config.load(folder, environ={})
    supervisor = Supervisor(settings, make_store(settings), Plugins(None), watch=False)
    await supervisor.start()
    try:
        (task,) = await supervisor.ingest([("go", b"{}", None)])
        while True:
            runs = await supervisor.store.runs(Filter(task=task.id, limit=2))
            if runs and runs[0].state in RUN_FINAL:
                return runs[0]
            await asyncio.sleep(0.01)
    finally:
        await supervisor.close()
