"""Declarative rules from end to end: jobs, calls, `Job(...)`, kill -9, errors with their places, check."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clihelp import Project

from scriptrules.rulebook.files import make_source
from scriptrules.sandbox import wire
from scriptrules.sandbox.confine import Limits
from scriptrules.sandbox.pool import Pool
from serving import Server, appending_program, eventually
from serving import project as served
from yamlhelp import REPORT, SPECS, TYPES

CONFIG = """
[hosts.local]
executor = "process"
programs = ["echo", "false", "sleep"]
[hosts.other]
executor = "docker"
url = "unix:///nowhere.sock"
"""
JOB = "type: Process\nbody: {host: local, name: j, image: %s, args: [%s]}\n"
RULES = {
    "good.yaml": "on: good\n" + JOB % ("echo", "'{\"rows\":3}'") + "then: {branch: {ok: went.well, failed: bad}}",
    "bad.yaml": "on: bad\n"
    + JOB % ("'false'", "")
    + "then: [never, {branch: {ok: never, failed: {task: went.badly, data: {why: {type: result, name: reason}}}}}]",
    "sorry.yaml": "on: sorry\n" + JOB % ("'false'", "") + "then: never\n",
    "number.yaml": "on: number\n" + JOB % ("echo", "42") + "then: went.well\n",
    "literal.yaml": "on: literal\n" + JOB % ("echo", "'$HOME', '`id`', '*', '; rm -rf /', '\"', \"'\""),
    "lacking.yaml": "on: lacking\ntype: Process\nbody:\n  host: local\n  name: j\n  image: echo\n  args:\n"
    "    - a\n    - {type: data, name: size}\n",
    "calling.yaml": "on: calling\ncall: double\nthen: went.well\n",
    "caught.yaml": "on: caught\ncall: raise\nthen: {branch: {failed: {task: went.badly, data: "
    "{why: {type: result, name: reason}}}}}\n",
    "double": 'on = "double"\ndef main(n):\n    return {"n": 2 * n}\n',
    "raise": 'on = "raise"\ndef main():\n    raise ValueError("no")\n',
    "saving": 'on = "saving"\ndef main():\n'
    '    save("quarter", "Q 1")\n    save("year", 2026)\n    emit("loading")\n',
    "loading.yaml": "on: loading\n"
    + JOB % ("echo", "{type: load, name: [quarter, year]}, {type: load, name: day, default: 3}")
    + "then: {task: loaded, data: {both: {type: load, name: [year, quarter]}, year: {type: load, name: year}}}\n",
    "unset.yaml": "on: unset\nthen: {task: never, data: {x: {type: load, name: nothing}}}\n",
    "spread.yaml": "on: spread\nwhen: task['n'] > 1\n"
    "then: [one, {task: two, data: {n: {type: data, name: n}, m: yes}}]\n",
    "jobs": 'on = "jobs"\ndef body(name, image, *args):\n'
    '    return {"host": "local", "name": name, "image": image, "args": list(args)}\n'
    'def main(second):\n    return [\n        Job("Process", body("a", "echo", "1"), then="went.well"),\n'
    '        Job("Process", body("b", second, "[2]"),\n            then=[Task("two", n=2), "one"]),\n    ]\n',
    "job": 'on = "job"\ndef main():\n    return Job("Process", {"host": "local", "name": "a", "image": "false"},\n'
    '               then={"branch": {"failed": "went.badly"}})\n',
    "data": 'on = "data"\ndef main(task):\n    return [{"type": "Process", "body": task["body"], "then": "never"}]\n',
    "wrong": 'on = "wrong"\ndef main(kind, key):\n'
    '    return Job(kind, {"host": "local", "name": "a", "image": "echo", key: 1})\n',
    "pair": 'on = "pair"\ndef main(kind):\n    if kind == "Task":\n        return Task("one"), Task("two")\n'
    '    if kind == "inside":\n        return {"a": Task("one")}\n'
    '    def job(name):\n'
    '        return Job("Process", {"host": "local", "name": name, "image": "echo", "args": [name]})\n'
    '    return job("1"), job("2")\n',
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("declarative"), RULES, CONFIG, plugin="")


def run(project: Project, *task: str) -> dict[str, Any]:
    """The tree of a task."""
    ended = project("run", *task, "--json")
    tree: dict[str, Any] = ended.json
    return tree


def followed(tree: dict[str, Any]) -> dict[str, Any]:
    """The tasks that were generated directly: their data by name."""
    return {child["task"]["name"]: child["task"]["data"] for branch in tree["runs"] for child in branch["tasks"]}


def test_a_job_hands_its_output_to_what_follows_a_good_end(project: Project) -> None:
    tree = run(project, "good")
    assert followed(tree) == {"went.well": {"rows": 3}}
    assert tree["runs"][0]["run"]["value"] == {"rows": 3}
    assert followed(run(project, "number")) == {"went.well": {"value": 42}}


def test_a_failure_goes_the_way_of_its_branch_or_fails_the_run(project: Project) -> None:
    tree = run(project, "bad")
    assert tree["runs"][0]["run"]["state"] == "done"
    assert followed(tree) == {"went.badly": {"why": "exit code 1"}}
    tree = run(project, "sorry")
    assert tree["runs"][0]["run"]["state"] == "failed"
    assert tree["runs"][0]["run"]["error"]["type"] == "ExecutionFailed"
    assert followed(tree) == {}


def test_arguments_reach_the_program_literally(project: Project) -> None:
    (branch,) = run(project, "literal")["runs"]
    (entry,) = [entry for entry in branch["entries"] if entry["name"] == "run"]
    assert entry["args"]["args"] == ["$HOME", "`id`", "*", "; rm -rf /", '"', "'"]
    assert entry["result"]["stdout"] == "$HOME `id` * ; rm -rf / \" '\n"
    assert entry["line"] == 2


def test_a_failure_has_the_line_and_the_text_of_the_file(project: Project) -> None:
    error = run(project, "lacking")["runs"][0]["run"]["error"]
    assert (error["type"], error["line"]) == ("MissingField", 9)
    assert 'File "rules/lacking.yaml", line 9, in main\n    - {type: data, name: size}' in error["trace"]


def test_a_call_hands_the_value_of_the_procedure_on(project: Project) -> None:
    assert followed(run(project, "calling", "n:=4"))["went.well"] == {"n": 8}
    assert "ValueError: no" in followed(run(project, "caught"))["went.badly"]["why"]


def test_a_rule_may_only_generate(project: Project) -> None:
    assert followed(run(project, "spread", "n:=2")) == {"one": {"n": 2}, "two": {"n": 2, "m": "yes"}}
    assert run(project, "spread", "n:=1")["task"]["state"] == "unmatched"


def test_variables_can_stand_wherever_a_value_can(project: Project) -> None:
    tree = run(project, "saving")["runs"][0]["tasks"][0]
    assert followed(tree) == {"loaded": {"both": [2026, "Q 1"], "year": 2026}}
    (entry,) = [entry for entry in tree["runs"][0]["entries"] if entry["name"] == "run"]
    assert entry["args"]["args"] == ["Q 1", "2026", "3"]
    (branch,) = run(project, "unset")["runs"]
    assert branch["run"]["state"] == "failed"
    assert branch["run"]["error"]["line"] == 2
    assert "nothing" in branch["run"]["error"]["message"]


# ---- Job(...)


def test_jobs_that_a_script_returns_are_done_and_give_its_value(project: Project) -> None:
    tree = run(project, "jobs", "second=echo")
    assert tree["runs"][0]["run"]["value"] == [1, [2]]
    assert followed(tree) == {"went.well": {"value": 1}, "two": {"n": 2}, "one": {"value": [2]}}
    entries = [(entry["name"], entry["line"]) for entry in tree["runs"][0]["entries"]]
    assert entries == [("run", 6), ("run", 7), ("wait", 7), ("emit", 6), ("emit", 7), ("emit", 7)]


def test_the_failure_of_a_job_fails_the_run_once_all_have_ended_and_nothing_follows(project: Project) -> None:
    tree = run(project, "jobs", "second=false")
    (branch,) = tree["runs"]
    assert branch["run"]["state"] == "failed"
    assert (branch["run"]["error"]["type"], branch["run"]["error"]["line"]) == ("ExecutionFailed", 7)
    assert [entry["state"] for entry in branch["entries"]] == ["done", "failed", "done"]
    assert followed(tree) == {}
    assert followed(run(project, "job")) == {"went.badly": {}}


def test_data_that_look_like_a_job_start_nothing(project: Project) -> None:
    body = '{"host": "local", "name": "a", "image": "echo"}'
    (branch,) = run(project, "data", f"body:={body}")["runs"]
    assert branch["run"]["state"] == "done"
    assert branch["entries"] == []
    assert branch["run"]["value"][0]["type"] == "Process"


def test_a_wrong_job_is_an_error_where_it_is_made(project: Project) -> None:
    error = run(project, "wrong", "kind=Proces", "key=timeout")["runs"][0]["run"]["error"]
    expected = "there is no job type 'Proces', did you mean 'Process'? Known: Docker, Process"
    assert error["message"].startswith(expected)
    assert error["line"] == 3
    error = run(project, "wrong", "kind=Process", "key=tiemout")["runs"][0]["run"]["error"]
    assert error["message"].startswith("Job(): a Process job has no key 'tiemout', did you mean 'timeout'?")
    error = run(project, "wrong", "kind=Docker", "key=timeout")["runs"][0]["run"]["error"]
    assert error["message"] == "Job(): a Docker job needs a host with executor 'docker', and 'local' has 'process'."


def test_a_tuple_of_jobs_or_tasks_is_a_list_of_them(project: Project) -> None:
    assert set(followed(run(project, "pair", "kind=Task"))) == {"one", "two"}
    assert run(project, "pair", "kind=Job")["runs"][0]["run"]["value"] == [1, 2]
    error = run(project, "pair", "kind=inside")["runs"][0]["run"]["error"]
    assert "the return value['a'] is a Task" in error["message"]


# ---- a server


def active(server: Server) -> list[dict[str, Any]]:
    return [info for info in server.get("/api/rules")["items"] if info["digest"]]


@pytest.fixture
def server() -> Iterator[Server]:
    with served() as server:
        server.config(CONFIG)
        yield server


def test_a_job_survives_the_death_of_the_server_and_is_started_once(server: Server) -> None:
    program, record = appending_program(server)
    server.config(f'[hosts.local]\nexecutor = "process"\nprograms = ["{program}", "sleep"]\n')
    server.rule(
        "long.yaml",
        f"on: long\ntype: Process\nbody: {{host: local, name: j, image: {program}, args: [{record}, 7]}}\n"
        "then: {task: next, data: {n: {type: output, name: n}}}\n",
    )
    server.rule(
        "next.yaml", "on: next\ntype: Process\nbody: {host: local, name: s, image: sleep, args: [2]}\nthen: end\n"
    )
    script = 'on = "next"\ndef main():\n    return Job("Process", {"host": "local", "name": "s", "image": "sleep", '
    server.rule("script", script + '"args": ["2"]}, then="end")\n')
    server.rule("end", 'on = "end"\ndef main():\n    return "reached"\n')
    server.start()
    task = server.send("long")
    server.wait_task(task)
    (child,) = server.all("tasks", name="next")
    assert child["data"] == {"n": 7}
    for rule in ("next", "script"):
        server.wait_run(child["id"], {"waiting"}, rule)
    server.kill()
    server.rule("next.yaml", "on: elsewhere\nthen: nowhere\n")  # a run keeps the source that it began with
    server.start()
    server.wait_task(child["id"])
    ends = server.all("tasks", name="end")
    assert len(ends) == 2
    assert [server.wait_task(end["id"])["state"] for end in ends] == ["done", "done"]
    assert record.read_text() == "7\n"
    for rule in ("next", "script"):
        entries = server.entries(server.run_of(child["id"], rule)["id"])
        assert [(entry["name"], entry["verdict"]) for entry in entries] == [
            ("run", "once"), ("wait", None), ("emit", None)
        ]  # fmt: skip


def test_a_file_that_breaks_leaves_the_previous_version_active_and_says_where(server: Server) -> None:
    server.rule("r.yaml", "on: r\nthen: one\n")
    server.start()
    server.rule("r.yaml", "on: r\nthn: two\n")
    (info,) = eventually(
        lambda: [info for info in server.get("/api/rules")["items"] if info["problems"]], "it is known to be broken"
    )
    assert any(
        text.startswith("rules/r.yaml:2:1: SR703 A declarative rule has no key 'thn'") for text in info["problems"]
    )
    server.wait_task(server.send("r"))
    assert server.all("tasks", name="one")
    server.rule("r.yaml", "on: r\nthen: two\n")
    eventually(lambda: [info for info in active(server) if not info["problems"]], "the new version is active")
    server.wait_task(server.send("r"))
    assert server.all("tasks", name="two")


def test_a_host_that_is_not_configured_keeps_a_rule_from_being_active(server: Server) -> None:
    server.rule("r.yaml", "on: r\ntype: Process\nbody: {host: locl, name: a, image: echo}\n")
    server.start()
    (info,) = server.get("/api/rules")["items"]
    assert info["digest"] is None
    assert "rules/r.yaml:3:14: SR707 there is no host 'locl', did you mean 'local'?" in info["problems"][0]
    assert server.wait_task(server.send("r"))["state"] == "unmatched"


def test_two_files_of_one_name_are_no_rule_and_both_are_named(server: Server) -> None:
    server.rule("billing", 'on = "r"\ndef main(): pass\n')
    server.rule("billing.yaml", "on: r\nthen: x\n")
    server.start()
    (info,) = server.get("/api/rules")["items"]
    assert info["digest"] is None
    assert "rules/billing.py and rules/billing.yaml are the same rule 'billing'" in "\n".join(info["problems"])
    (server.folder / "rules" / "billing.py").unlink()
    eventually(lambda: active(server), "the other is active")


def test_a_file_whose_form_was_mistaken_is_looked_at_again_once_it_is_renamed(server: Server) -> None:
    server.rule("r", "on: r\nthen: x\n")
    server.start()
    assert server.get("/api/rules")["items"][0]["digest"] is None
    (server.folder / "rules" / "r.py").rename(server.folder / "rules" / "r.yaml")
    eventually(lambda: active(server), "it is active")


# ---- check


def test_check_names_circles_and_hosts_with_their_places(tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        {
            "a.yaml": "on: a.*\nthen: [x, b]\n",
            "b.yaml": "on: b\ncall: p\nthen: {branch: {failed: c.d}}\n",
            "c.yaml": "on: [c.**]\nthen: {task: a.x, data: {}}\n",
            "meant.yaml": "on: m\nthen: m  # scriptrules: ignore[SR408]\n",
            "off.yaml": "on: o\nenabled: false\nthen: o\n",
            "host.yml": "on: h\ntype: Docker\nbody: {host: local, name: n, image: i}\n",
        },
        CONFIG,
        plugin="",
    )
    every = project("check", "--output-format", "concise").out.splitlines()
    assert [line for line in every if " SR5" in line] == [
        "rules/a.yaml:2:1: SR501 no rule handles 'x'.",
        "rules/b.yaml:2:1: SR505 no rule answers 'p'.",
    ]
    lines = [line for line in every if " SR5" not in line]
    assert lines == [
        "rules/a.yaml:2:11: SR408 `then` goes in a circle: a → b → c → a.",
        "rules/host.yml:3:14: SR707 a Docker job needs a host with executor 'docker', and 'local' has 'process'.",
    ]
    ended = project("check", "--output-format", "concise", "rules/host.yml")
    assert ended.out.splitlines() == lines[1:]
    assert "1 checked, 1 problem." in ended.err


def test_a_circle_that_runs_ends_at_the_limit_of_hops_and_loses_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path, {"a.yaml": "on: a\nthen: b\n", "b.yaml": "on: b\nthen: a\n"}, CONFIG, plugin="")
    ended = project("run", "a", "--json")
    assert ended.status == 1
    assert "loop" in ended.err


PLUGIN = """
from scriptrules import hookimpl
from scriptrules.jobs import job_type

@hookimpl
def scriptrules_job_types():
    return [job_type("Backup", "process", "A backup.", {"stdin": str})]
"""


def test_a_plugin_adds_job_types_to_rules_check_and_schema(tmp_path: Path) -> None:
    rules = {
        "a.yaml": "on: a\ntype: Backup\nbody: {host: local, name: b, image: echo, stdin: x}\n",
        "b.yaml": "on: b\ntype: Backup\nbody: {host: local, name: b, image: echo, cpu_seconds: 3}\n",
    }
    project = Project(tmp_path, rules, CONFIG, plugin=PLUGIN)
    (line,) = project("check", "--output-format", "concise").out.splitlines()
    assert line.startswith("rules/b.yaml:3:43: SR703 a Backup job has no key 'cpu_seconds'")
    assert run(project, "a")["runs"][0]["run"]["state"] == "done"
    assert "Backup" in project("schema").json["properties"]["type"]["enum"]
    assert "jobs of type Backup" in " ".join(project("plugins").out.split())


# ---- workers


def test_no_file_takes_its_worker_along() -> None:
    texts = [
        "[" * 60_000,
        "- " * 30_000,
        "a: &a [x, x, x]\nb: &b [*a, *a, *a]\n" * 400,
        "when: " + "(" * 3_000 + ")" * 3_000 + "\nthen: a",
        "when: " + "task[" * 90 + "]" * 90 + "\nthen: a",
        "then: {task: a, data: {x: " + "[" * 15 + "]" * 15 + "}}",
        "\x00\ud800",
        *(REPORT[:at] for at in range(0, len(REPORT), 7)),
    ]

    async def load_all() -> tuple[int, int]:
        pool = Pool(1, Limits(), wire.Budget(), SPECS, 3.0, jobs=list(TYPES.values()))
        await pool.start()
        try:
            sources = [make_source(f"r{at}", f"rules/r{at}.yaml", text, {}) for at, text in enumerate(texts)]
            loaded = [await pool.load(source) for source in sources if source.text.isprintable() or "\n" in source.text]
            assert all(one.metadata is not None or one.problems for one in loaded)
            return len(loaded), pool.restarts
        finally:
            await pool.close()

    loaded, restarts = asyncio.run(load_all())
    assert loaded >= len(texts) - 1
    assert restarts == 0
