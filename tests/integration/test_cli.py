"""The commands that talk to a server, against a real one."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clihelp import PATIENCE, Project, environment, until

from serving import project as serving_project

SHAPE_OF_TASK = {"id", "name", "data", "state", "since", "reason", "exit", "parent", "root", "hop", "key", "created"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a running server."""
    made = Project(tmp_path_factory.mktemp("project"))
    with made.serving():
        yield made


# ---- sending


def test_send_prints_the_id_of_a_task_whose_data_are_text_and_json_fields(project: Project) -> None:
    sent = project("send", "nobody.cares", "zip=10115", "size:=3", "url=http://x/?a:=b", "tags:=[1, null]")
    assert sent.status == 0, sent.err
    task = project("task", sent.out.strip(), "--json").json
    assert set(task) == SHAPE_OF_TASK
    assert task["data"] == {"zip": "10115", "size": 3, "url": "http://x/?a:=b", "tags": [1, None]}


def test_send_takes_all_data_as_one_json_object_also_from_standard_input(project: Project) -> None:
    for arguments, stdin in ((("--data", '{"a": "ä"}'), ""), (("--data", "-"), '{"a": "ä"}')):
        sent = project("send", "nobody.cares", *arguments, "--json", stdin=stdin)
        assert project("task", sent.json["id"], "--json").json["data"] == {"a": "ä"}


def test_sending_with_the_same_key_again_gives_the_same_task_and_other_content_is_refused(project: Project) -> None:
    first = project("send", "nobody.cares", "a=1", "--key", "once")
    assert project("send", "nobody.cares", "a=1", "--key", "once").out == first.out
    refused = project("send", "nobody.cares", "a=2", "--key", "once")
    assert refused.status == 1
    assert "SR812" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_send_wait_shows_the_tree_and_fails_where_a_task_failed(project: Project) -> None:
    good = project("send", "sort", "text=b\na\n", "--wait")
    assert good.status == 0, good.err
    assert re.search(r"run local sort \(order\) → exit 0 +\d+\.\d\d s +once", good.out)
    assert '→ ["a", "b"]' in good.out
    bad = project("send", "fail", "--wait", "--json")
    assert bad.status == 1
    assert bad.json["runs"][0]["run"]["error"]["type"] == "ZeroDivisionError"


def test_send_ndjson_sends_all_or_none_and_names_the_bad_lines(project: Project) -> None:
    lines = '{"name": "many.one"}\n{"name": "many.one", "data": {"n": 2}}\n'
    sent = project("send", "--ndjson", "-", stdin=lines)
    assert len(sent.out.split()) == 2
    (project.folder / "many.ndjson").write_text(lines + "{bad\n")
    refused = project("send", "--ndjson", "many.ndjson", "--json")
    assert refused.status == 2
    assert "line 3" in refused.err
    assert len(project("tasks", "--name", "many.one", "--json").json["items"]) == 2


# ---- looking


def test_tasks_and_runs_are_listed_newest_first_as_tables_of_at_most_100_columns(project: Project) -> None:
    long = project("send", "greet", f"name={'x' * 500}", "--wait", "--json").json["task"]["id"]
    for command in ("tasks", "runs"):
        table = project(command)
        assert table.status == 0
        assert table.err == ""
        lines = table.out.splitlines()
        assert lines[0].startswith("ID ")
        assert max(map(len, lines)) <= 100
        ids = [line.split()[0] for line in lines[1:]]
        assert ids == sorted(ids, reverse=True)
    assert long in project("tasks").out


def test_lists_are_filtered_by_state_name_rule_and_time(project: Project) -> None:
    task = project("send", "greet", "name=ada", "--wait", "--json").json["task"]["id"]
    named = project("tasks", "--name", "greet", "--state", "done", "--since", "1h", "--limit", "1", "--json").json
    assert named["items"][0]["id"] == task
    assert named["next"] == task
    assert project("tasks", "--since", "2999-01-01T00:00:00Z", "--json").json == {"items": [], "next": None}
    assert {run["rule"] for run in project("runs", "--rule", "greet", "--json").json["items"]} == {"greet"}


def test_a_list_that_is_longer_than_a_page_is_read_page_by_page(project: Project) -> None:
    project("send", "--ndjson", "-", stdin='{"name": "page.one"}\n' * 1500)
    items = project("tasks", "--name", "page.one", "--limit", "1400", "--json").json["items"]
    assert len({item["id"] for item in items}) == 1400


def test_task_shows_one_task_for_people_and_its_tree(project: Project) -> None:
    task = project("send", "greet", "name=ada", "--wait", "--json").json["task"]["id"]
    shown = project("task", task).out
    assert "greet" in shown
    assert '{"name": "ada"}' in shown
    tree = project("task", task, "--tree")
    assert tree.out.startswith('✓ greet {"name": "ada"}\n')
    assert "emit · greeted" in tree.out or "emit ○ greeted" in tree.out
    assert project("task", task, "--tree", "--json").json["runs"][0]["tasks"][0]["task"]["name"] == "greeted"


def test_show_prints_the_journal_in_columns_and_the_trace_of_an_error(project: Project) -> None:
    task = project("send", "sort", "text=b\na\n", "--wait", "--json").json["task"]["id"]
    shown = project("show", project.run_of(task))
    assert re.search(r"^1 +3 +✓ done .*run \{.*exit 0", shown.out, re.M)
    assert re.search(r"^2 +4 +✓ done .*wait ", shown.out, re.M)
    assert max(map(len, shown.out.splitlines())) <= 100
    failed = project("send", "fail", "--wait", "--json").json["task"]["id"]
    assert "ZeroDivisionError" in project("show", project.run_of(failed)).out.splitlines()[-1]
    as_json = project("show", project.run_of(task), "--json").json
    assert [entry["name"] for entry in as_json["entries"]] == ["run", "wait"]


def test_logs_are_what_the_rule_logged_and_what_its_executions_wrote(project: Project) -> None:
    task = project("send", "greet", "name=ada", "--wait", "--json").json["task"]["id"]
    assert re.search(r'hello ada +to="ada"$', project("logs", project.run_of(task)).out.strip())
    task = project("send", "sort", "text=b\na\n", "--wait", "--json").json["task"]["id"]
    lines = project("logs", project.run_of(task), "--json").json["items"]
    assert [(line["stream"], line["text"]) for line in lines] == [("stdout", "a"), ("stdout", "b")]


def test_logs_can_be_followed_until_the_run_ends(project: Project) -> None:
    run = project.run_of(project("send", "long").out.strip())
    project.until_state(run, "waiting")
    following = subprocess.Popen(
        [sys.executable, "-m", "scriptrules", "logs", "-f", "--json", run],
        env=environment(SCRIPTRULES_URL=project.url),
        stdout=subprocess.PIPE,
        text=True,
    )
    with following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["text"] == "before"
        assert following.poll() is None
        project("cancel", run)
        assert following.wait(PATIENCE) == 0


def test_what_steers_a_terminal_is_shown_and_not_obeyed(project: Project) -> None:
    nasty = "\x07\x9b2J\x7f\u202e\U000e0001"
    task = project("send", "greet", f"name={nasty}", "--wait", "--json").json["task"]["id"]
    run = project.run_of(task)
    for command in (("tasks",), ("task", task, "--tree"), ("runs",), ("show", run), ("logs", run), ("logs", "-f", run)):
        for options in ((), ("--json",)):
            ended = project(*command, *options)
            assert ended.status == 0, ended.err
            assert not set(nasty) - set("2J") & set(ended.out), command
    assert project("task", task, "--json").json["data"] == {"name": nasty}


# ---- acting


def test_a_held_run_is_listed_with_its_way_out_and_goes_on_when_it_is_resumed(project: Project) -> None:
    task = project("send", "hold").out.strip()
    run = project.run_of(task)
    project.until_state(run, "held")
    listed = project("held")
    assert "hold: somebody has to look" in listed.out
    assert f"scriptrules resume {run}" in listed.out
    assert run in [item["id"] for item in project("held", "--json").json["items"]]
    resumed = project("resume", run)
    assert resumed.status == 0, resumed.err
    assert resumed.out.startswith(run)
    assert project.until_state(run, "done")["value"] == "went on"
    again = project("resume", run)
    assert again.status == 1
    assert "not held" in again.err


def sending_and_waiting(url: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scriptrules", "send", name, "--wait", "--json"],
        env=environment(SCRIPTRULES_URL=url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_send_wait_says_what_is_held_and_goes_on_once_somebody_resumes_it(project: Project) -> None:
    with sending_and_waiting(project.url, "wait") as sending:
        assert sending.stdout is not None
        assert sending.stderr is not None
        told = sending.stderr.readline()
        assert "held: run holding: hold: somebody has to look" in told
        found = re.search(r"scriptrules resume (\w+)", told)
        assert found is not None
        project("resume", found[1])
        assert sending.wait(PATIENCE) == 0
        assert json.load(sending.stdout)["runs"][0]["run"]["value"] == "went on"


def test_send_wait_goes_on_waiting_while_the_server_is_killed_and_started_again() -> None:
    with serving_project() as server:
        server.rule("asking", 'on = "ask"\ndef main():\n    hold("somebody has to look")\n    return 5\n')
        server.start()
        with sending_and_waiting(f"http://127.0.0.1:{server.port}", "ask") as sending:
            assert sending.stdout is not None
            assert sending.stderr is not None
            assert "somebody has to look" in sending.stderr.readline()
            server.kill()
            assert "this goes on when one does" in sending.stderr.readline()
            server.start()
            (run,) = server.all("runs", state="held")
            server.request("POST", f"/api/runs/{run['id']}/resume", b"{}")
            assert sending.wait(PATIENCE) == 0
            assert json.load(sending.stdout)["runs"][0]["run"]["value"] == 5


def test_cancel_ends_a_waiting_run(project: Project) -> None:
    task = project("send", "long").out.strip()
    project.until_state(project.run_of(task), "waiting")
    assert project("cancel", task, "--json").json["id"] == task
    assert project.until_state(task, "cancelled")


def test_retry_does_a_failed_run_again_with_the_newest_source(project: Project) -> None:
    rule = project.folder / "rules" / "mended.py"
    rule.write_text('on = "mend"\ndef main():\n    return 1 // 0\n')
    until(lambda: project("send", "mend", "--wait", "--json").json["runs"])
    task = project("send", "mend", "--wait", "--json").json["task"]["id"]
    run = project.run_of(task)
    assert project("retry", run, "--pinned").status == 0
    project.until_state(run, "failed")
    rule.write_text('on = "mend"\ndef main():\n    return "mended"\n')
    until(lambda: project("send", "mend", "--wait").status == 0)
    assert project("retry", run, "--from-start").status == 0
    assert project.until_state(run, "done")["value"] == "mended"


def test_fork_goes_on_with_another_result_and_show_prints_who_has_called(project: Project) -> None:
    rules = project.folder / "rules"
    (rules / "forked.py").write_text('on = "fork.me"\ndef main():\n    return call("fork.callee", n=1)\n')
    (rules / "callee.py").write_text('on = "fork.callee"\ndef main(n):\n    hold("look")\n    return n\n')
    callee = until(lambda: project("send", "fork.me") and project("runs", "--rule", "callee", "--json").json["items"])
    callee = callee[-1]["id"]
    project.until_state(callee, "held")
    stack = project("show", callee, "--json").json["run"]["stack"]
    assert [(frame["rule"], frame["line"], frame["seq"]) for frame in stack] == [("forked", 3, 1), ("callee", 3, 1)]
    run = stack[0]["run"]
    shown = project("show", callee).out
    assert "CALLED BY" in shown
    assert shown.index("forked") < shown.index("callee", shown.index("CALLED BY"))
    fork = project("fork", f"{run}@1", "--set", '{"n": 5}', "--json").json
    assert project.until_state(fork["id"], "done")["value"] == {"n": 5}
    assert project.until_state(run, "waiting")["id"] == run
    for arguments, says in (
        ((run, "--set", "1"), "names no entry"),
        ((f"{run}@0", "--set", "1"), "names no entry"),
        ((f"{run}@1", "--set", "text"), "no JSON"),
        ((f"{run}@9", "--set", "1"), "has no entry 9"),
    ):
        refused = project("fork", *arguments)
        assert refused.status != 0
        assert says in refused.err
    project("resume", callee)
    assert project.until_state(run, "done")["value"] == 1


def test_doctor_sees_the_server_and_the_host(project: Project) -> None:
    assert project("send", "greet", "name=ada", "--wait").status == 0
    told = project("doctor", "--json")
    assert told.status == 0, told.out
    found = {(finding["area"], finding["name"]): finding for finding in told.json["items"]}
    assert found["server", "ready"]["state"] == "ok"
    assert re.search(r"tasks: .*\d+ done", found["server", "ready"]["detail"])
    assert found["hosts", "local"]["state"] == "ok"


# ---- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("send",), "Name the task"),
        (("send", "a", "b"), "'b' is no field"),
        (("send", "a", "b:=x"), "this is no JSON"),
        (("send", "a", "b:=NaN"), "NaN is not a value of JSON"),
        (("send", "a", "b=1", "b=2"), "given twice"),
        (("send", "a", "=1"), "is no field"),
        (("send", "a", "--data", "[]"), "not a JSON object"),
        (("send", "a", "b=1", "--data", "{}"), "not both"),
        (("send", "a..b"), "not the name of a task"),
        (("send", "a", "n:=9223372036854775808"), "64 bits"),
        (("send", "--ndjson", "-", "--wait"), "leave out"),
        (("sned", "a"), "did you mean 'send'?"),
        (("task", "x1"), "no id"),
        (("task", "r1"), "scriptrules show r1"),
        (("show", "t1"), "scriptrules runs --task t1"),
        (("show", "r/../x"), "no id"),
        (("tasks", "--state", "asleep"), "'asleep' is not one of"),
        (("tasks", "--since", "yesterday"), "no time"),
        (("tasks", "--limit", "0"), "0 is not in the range"),
    ],
)
def test_bad_input_is_told_clearly_and_ends_with_2(project: Project, arguments: tuple[str, ...], says: str) -> None:
    ended = project(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert says in ended.err


@pytest.mark.parametrize(
    "arguments", [("task", "t1"), ("show", "r1"), ("logs", "r1"), ("logs", "-f", "r1"), ("cancel", "t1")]
)
def test_an_id_that_does_not_exist_is_told_in_one_line_and_ends_with_1(
    project: Project, arguments: tuple[str, ...]
) -> None:
    ended = project(*arguments)
    assert ended.status == 1
    assert re.fullmatch(r"scriptrules: SR820 There is no \w+ \w+\. List them with `scriptrules \w+`\.\n", ended.err)


@pytest.mark.parametrize("command", [("tasks",), ("send", "a"), ("logs", "-f", "r1"), ("held", "--json")])
def test_without_a_server_one_line_says_how_to_start_it(tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = Project(tmp_path)(*command)
    assert ended.status == 1
    assert ended.out == ""
    assert "Start one with `scriptrules serve`" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_second_server_for_the_same_store_is_refused_in_one_line(project: Project) -> None:
    second = project("serve", "--listen", "127.0.0.1:0")
    assert second.status == 1
    assert second.err.startswith("scriptrules: SR831 ")
    assert len(second.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--listen", "nowhere"), "SR800"),
        (("--listen", "0.0.0.0:0"), "SR800"),
        (("--store", "mysql://x"), "SR800"),
        (("--store", "sqlite:////proc/no/state.db"), "SR830"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], code: str) -> None:
    ended = Project(tmp_path)("serve", *arguments)
    assert ended.status == 1
    assert ended.err.startswith(f"scriptrules: {code} "), ended.err
    assert len(ended.err.splitlines()) == 1


def test_ctrl_c_ends_a_server_cleanly_and_the_flags_are_relative_to_the_current_folder(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "only.py").write_text('on = "only"\ndef main():\n    return 1\n')
    with project.serving("--rules", "other", "--store", "sqlite:///here.db", "--workers", "1") as server:
        assert project("send", "only", "--wait").status == 0
        assert (tmp_path / "here.db").exists()
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == 0
