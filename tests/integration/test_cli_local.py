"""The commands that need no server: run, check, plugins, doctor, help; and the demo."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clihelp import PATIENCE, ROOT, Project, environment

WITHOUT_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


def in_terminal(folder: Path, *command: str, ctrl_c_after: str = "", **variables: str) -> str:
    """What Python writes to a terminal when it executes `command`, ended by Ctrl-C once it has written that text."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment(TERM="xterm-256color", COLUMNS="100", LINES="40", **variables),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        written = b""
        pressed = not ctrl_c_after
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    written += os.read(ours, 65536)
                except OSError:  # how a terminal says that nobody has its other end any more
                    break
            if not pressed and ctrl_c_after.encode() in written:
                pressed = True
                process.send_signal(signal.SIGINT)  # as the terminal does for the process in its foreground
        os.close(ours)
        process.wait(PATIENCE)
    assert pressed, written
    return written.decode()


# ---- run


def test_run_executes_a_task_and_all_that_follows_without_a_server(project: Project) -> None:
    ended = project("run", "sort", "text=b\na\n")
    assert ended.status == 0, ended.err
    assert ended.err == ""
    assert '→ ["a", "b"]' in ended.out
    assert not (project.folder / ".scriptrules" / "state.db").exists()


def test_run_prints_the_tree_as_json(project: Project) -> None:
    tree = project("run", "greet", "name=ada", "times:=2", "--json").json
    assert tree["task"]["state"] == "done"
    assert tree["runs"][0]["run"]["value"] == "adaada"
    assert tree["runs"][0]["tasks"][0]["task"]["state"] == "unmatched"


def test_run_reads_the_data_from_standard_input(project: Project) -> None:
    ended = project("run", "greet", "--data", "-", "--json", stdin='{"name": "ada"}')
    assert ended.json["task"]["data"] == {"name": "ada"}


@pytest.mark.parametrize(("name", "says"), [("fail", "ZeroDivisionError"), ("break", "exit 1")])
def test_run_ends_with_1_where_a_task_failed(project: Project, name: str, says: str) -> None:
    ended = project("run", name)
    assert ended.status == 1
    assert says in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("name", ["hold", "wait"])
def test_run_ends_with_1_where_it_cannot_go_on_and_says_what_would_let_it(project: Project, name: str) -> None:
    ended = project("run", name)
    assert ended.status == 1
    assert re.search(r"held: run holding: hold: somebody has to look. Way out: `scriptrules resume r\w+`", ended.err)


def test_run_ends_where_the_task_itself_is_held(project: Project) -> None:
    ended = project("run", "fussy", "size=big")
    assert ended.status == 1
    assert "match_error" in ended.err
    assert "correct the rule" in ended.err
    assert "What is held here ends with this command" in ended.err


def test_run_that_came_to_no_good_end_says_which_fields_are_texts_that_look_like_numbers(project: Project) -> None:
    ended = project("run", "fussy", "size=4")
    assert ended.status == 1
    assert 'size=4 is the text "4". If that is not what is meant: size:=4' in ended.err
    assert "is the text" not in project("run", "fussy", "size:=4").err


def test_run_says_where_no_rule_matches(project: Project) -> None:
    ended = project("run", "gret")
    assert ended.status == 0
    assert "no rule matches gret, did you mean 'greet'?" in ended.err


def test_run_tells_of_broken_rules_as_check_does_and_executes_the_others(tmp_path: Path) -> None:
    project = Project(
        tmp_path, {"good": 'on = "a"\ndef main():\n    return 1\n', "bad": "import os\ndef main(): pass\n"}
    )
    ended = project("run", "a")
    assert ended.status == 0
    assert "rules/bad.py:1:" in ended.err
    assert "SR112" in ended.err
    assert '"event"' not in ended.err


def test_run_keeps_what_it_did_in_a_store_that_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "deep").mkdir()
    assert project("run", "greet", "name=ada", "--store", "sqlite:///deep/mine.db").status == 0
    with project.serving("--store", "sqlite:///deep/mine.db"):
        assert [task["name"] for task in project("tasks", "--json").json["items"]] == ["greeted", "greet"]


def test_run_ends_only_after_all_of_a_tree_that_is_too_large_to_be_shown(tmp_path: Path) -> None:
    many = 'on = "many"\ndef main():\n    for n in range(1100):\n        emit("one", n=n)\n'
    one = 'on = "one"\ndef main(n):\n    if n == 0:\n        sleep(2)\n        fail("the first one")\n'
    project = Project(tmp_path, {"many": many, "one": one})
    ended = project("run", "many", "--json")
    assert ended.status == 1
    assert 0 not in [child["task"]["data"]["n"] for child in ended.json["runs"][0]["tasks"]], "it is shown after all"
    in_terminal(tmp_path, "-m", "scriptrules", "run", "many", "--store", "sqlite:///state.db")
    with project.serving("--store", "sqlite:///state.db"):
        assert project("tasks", "--state", "failed", "--json").json["items"][0]["data"] == {"n": 0}


def test_run_in_a_terminal_shows_the_tree_live_and_in_colour_unless_that_is_not_wanted(project: Project) -> None:
    shown = in_terminal(project.folder, "-m", "scriptrules", "run", "sort", "text=a")
    assert "\x1b[32m" in shown
    plain = WITHOUT_COLOURS.sub("", shown)
    assert "✓ run local sort (order) → exit 0" in plain
    assert "\x1b[?25l" in shown, "the cursor is hidden while the tree grows"
    plain = in_terminal(project.folder, "-m", "scriptrules", "run", "sort", "text=a", NO_COLOR="1")
    assert "\x1b[32m" not in plain
    assert "\x1b" not in project("run", "sort", "text=a").out


def test_symbols_that_the_terminal_cannot_show_become_plain_ones(project: Project) -> None:
    ended = project("run", "greet", "name=ä", PYTHONIOENCODING="ascii")
    assert ended.status == 0, ended.err
    assert ended.out.startswith('+ greet {"name": "?"}\n`- + rule greet')


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("run",), 2, "Missing argument"),
        (("run", "a..b"), 2, "not the name of a task"),
        (("run", "a", "--rules", "nowhere"), 2, "there is no folder nowhere"),
        (("run", "a", "--store", "mysql://x"), 1, "SR800"),
    ],
)
def test_what_run_cannot_do_is_told_clearly(
    project: Project, arguments: tuple[str, ...], status: int, says: str
) -> None:
    ended = project(*arguments)
    assert ended.status == status
    assert says in ended.err


def test_a_configuration_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    project = Project(tmp_path, config="[server]\nlitsen = 1\n")
    for command in (("run", "a"), ("check",), ("serve",), ("plugins",)):
        ended = project(*command)
        assert ended.status == 1
        assert "did you mean 'listen'" in ended.err
        assert len(ended.err.splitlines()) == 1


# ---- check

BROKEN = 'on = "a"\ndef main():\n    return open("x")\n\nclass A:\n    pass\n'


def test_check_is_content_with_rules_that_are_in_order(project: Project) -> None:
    ended = project("check")
    assert ended.status == 0, ended.out
    assert ended.out == ""
    assert "8 checked, no problems." in ended.err


def test_check_prints_each_problem_with_file_line_and_caret(tmp_path: Path) -> None:
    project = Project(tmp_path, {"good": 'on = "a"\ndef main():\n    return 1\n', "bad": BROKEN})
    ended = project("check")
    assert ended.status == 1
    assert re.search(r"^rules/bad\.py:5:1: SR105 ", ended.out, re.M)
    assert "^^^^" in ended.out
    items = project("check", "--json").json["items"]
    assert {(item["file"], item["line"], item["code"]) for item in items} >= {("rules/bad.py", 5, "SR105")}
    places = {"file", "line", "column", "end_line", "end_column"}
    assert set(items[0]) == {*places, "code", "severity", "message", "hint"}


def test_check_looks_at_single_files_folders_and_libraries(tmp_path: Path) -> None:
    using = 'from lib.shared import f\non = "a"\ndef main():\n    return f()\n'
    libraries = {"lib/shared": "def f():\n    return 1\n", "lib/broken": "import os\n"}
    project = Project(tmp_path, {"good": using, "deep/bad": BROKEN, **libraries})
    assert project("check", "rules/good.py").status == 0
    assert project("check", "rules/lib/shared.py").status == 0
    library = project("check", "rules/lib/broken.py")
    assert library.status == 1
    assert library.out.startswith("rules/lib/broken.py:1:")
    assert project("check", "rules/deep").status == 1
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(BROKEN)
    assert project("check", "elsewhere.py").status == 1
    assert "elsewhere.py:5:1" in project("check", "elsewhere.py").out
    assert project("check", "missing.py").status == 2


def test_check_reports_a_file_that_is_no_text(tmp_path: Path) -> None:
    project = Project(tmp_path, {})
    (tmp_path / "rules" / "binary.py").write_bytes(b"\xff\xfe")
    ended = project("check", "--json")
    assert ended.status == 1
    assert "not UTF-8" in ended.json["items"][0]["message"]


def test_check_says_where_there_are_no_rules(tmp_path: Path) -> None:
    ended = Project(tmp_path)("check", SCRIPTRULES_RULES="nowhere")
    assert ended.status == 1
    assert "there is no folder" in ended.err


def test_check_imports_nothing_of_web_or_docker(project: Project) -> None:
    code = (
        "import sys; from scriptrules.cli.root import cli; cli.main(['check'], standalone_mode=False); "
        "print([name for name in ('docker', 'starlette', 'uvicorn', 'scriptrules.web') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_our_own_examples_are_in_order() -> None:
    for command in ("check", "plugins"):
        done = subprocess.run(
            [sys.executable, "-m", "scriptrules", command, "--json"],
            cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert '"problem": "' not in done.stdout


# ---- plugins and doctor


def test_plugins_lists_what_each_adds_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "plugins" / "broken.py").write_text("print('noise')\nraise RuntimeError('no')\n")
    listed = project("plugins", "--json")
    assert listed.status == 0
    found = {item["name"]: item for item in listed.json["items"]}
    assert found["cheers"]["functions"] == ["shout"]
    assert found["process"]["executors"] == ["process"]
    assert "RuntimeError: no" in found["broken"]["problem"]
    table = project("plugins").out
    assert "shout()" in table
    assert max(map(len, table.splitlines())) <= 100


def test_doctor_says_what_there_is_and_ends_with_1_where_something_is_broken(tmp_path: Path) -> None:
    project = Project(tmp_path)
    good = project("doctor", "--json")
    assert good.status == 0, good.out
    areas = {finding["area"] for finding in good.json["items"]}
    assert areas == {"versions", "config", "sandbox", "rules", "store", "secrets", "plugins", "hosts", "server"}
    (tmp_path / "rules" / "bad.py").write_text(BROKEN)
    (tmp_path / "plugins" / "bad.py").write_text("raise RuntimeError('no')\n")
    bad = project("doctor", "--store", "sqlite:////proc/no/state.db")
    assert bad.status == 1
    broken = [line.split()[1] for line in bad.out.splitlines() if line.strip().startswith("✗")]
    assert broken == ["files", "sqlite", "bad", "local"], "a host keeps what is its own beside the store"
    assert max(map(len, bad.out.splitlines())) <= 100


def test_doctor_names_a_host_that_cannot_be_used(tmp_path: Path) -> None:
    project = Project(tmp_path, config='[hosts.far]\nexecutor = "docker"\nurl = "unix:///nowhere.sock"\n')
    ended = project("doctor", "--json")
    assert ended.status == 1
    (host,) = [finding for finding in ended.json["items"] if finding["area"] == "hosts"]
    assert host["state"] == "broken"
    assert "nowhere.sock" in host["detail"]


# ---- help


def test_help_is_quick_because_it_imports_click_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from scriptrules.cli.root import cli; cli.main(['--help'], standalone_mode=False); "
        "heavy = ('rich', 'msgspec', 'pluggy', 'structlog', 'asyncio', 'http.client', 'importlib.metadata', "
        "'scriptrules.config', 'scriptrules.function'); "
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    for folder in (tmp_path, ROOT):  # our own project has plugins, but none with commands
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.stderr == "[]\n"
        assert "Commands:" in done.stdout


def test_commands_of_plugins_are_found_by_name_and_in_the_help_of_their_project(project: Project) -> None:
    assert project("cheer").out == "hooray\n"
    assert re.search(r"^  cheer +Cheer\.$", project("--help").out, re.M)
    assert "did you mean 'cheer'" in project("chear").err


def test_version_and_each_command_has_help(project: Project) -> None:
    assert re.match(r"scriptrules \d+\.\d+", project("--version").out)
    assert "--pinned" in project("retry", "--help").out


# ---- the demo


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the demo needs, so that it disturbs no server of this checkout."""
    for name in ("rules", "plugins", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "scriptrules.toml", tmp_path)
    return tmp_path


def test_the_demo_runs_through_the_examples_and_ends_by_itself_where_nobody_watches(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/demo.py"],
        cwd=checkout, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "✓ rule uploads/verify" in done.stdout
    assert '{"regions": 3, "total": 564}' in done.stdout
    assert re.search(r"The server is at http://127\.0\.0\.1:\d+", done.stderr)
    assert "Traceback" not in done.stderr
    assert '"event": "server.stopped"' in (checkout / ".scriptrules" / "demo.log").read_text()


def test_the_demo_in_a_terminal_serves_until_ctrl_c_and_stops_its_server_then(checkout: Path) -> None:
    shown = in_terminal(checkout, "scripts/demo.py", ctrl_c_after="Ctrl-C ends it.")
    assert "\x1b[?25l" in shown, "the tree was live"
    assert "Traceback" not in shown
    assert '"event": "server.stopped"' in (checkout / ".scriptrules" / "demo.log").read_text()
