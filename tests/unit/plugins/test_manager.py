"""Plugins are found, asked, and left out by name where they are broken; the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from scriptrules.errors import ConfigError
from scriptrules.plugins.executor import Executor, ExecutorContext
from scriptrules.plugins.manager import PluginInfo, Plugins
from scriptrules.sandbox.intrinsics import INTRINSICS

GREET = """
from scriptrules import function, hookimpl

@function(retries=2)
async def greet(name: str, loud: bool = False, key: str = "") -> str:
    \"\"\"Greets somebody.\"\"\"
    return f"hello {name}"

@hookimpl
def scriptrules_functions():
    return [greet]
"""


def plugins_with(tmp_path: Path, **files: str) -> Plugins:
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    return Plugins(tmp_path)


def found(plugins: Plugins, name: str) -> PluginInfo:
    (info,) = [info for info in plugins.found() if info.name == name]
    return info


def test_the_built_in_ones_are_plugins_like_any_other() -> None:
    plugins = Plugins(None)
    assert set(plugins.functions) >= set(INTRINSICS)
    assert {"process", "docker", "swarm"} <= set(plugins.executors)
    assert [info.problem for info in plugins.found() if info.origin == "built-in"] == [None] * 5


def test_a_file_in_the_folder_is_a_plugin(tmp_path: Path) -> None:
    plugins = plugins_with(tmp_path, greetings=GREET)
    assert plugins.functions["greet"].retries == 2
    assert found(plugins, "greetings") == PluginInfo("greetings", str(tmp_path / "greetings.py"), ["greet"], [])


def test_hidden_and_private_files_are_none_and_neither_is_a_missing_folder(tmp_path: Path) -> None:
    plugins = plugins_with(tmp_path, _draft="1/0", **{".hidden": "1/0"})
    assert len(plugins.found()) == len(Plugins(tmp_path / "nowhere").found()) == len(Plugins(None).found())


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("x = 1\n1 / 0\n", "ZeroDivisionError", 2),
        ("def broken(:\n", "SyntaxError", 1),
        ("import nothing_of_this_name\n", "ModuleNotFoundError", 1),
        ("def scriptrules_functions():\n    raise ValueError('no')\n", "ValueError: no", 2),
        ("def scriptrules_functions():\n    return [print]\n", "Declare it with @scriptrules.function", 0),
        ("def scriptrules_executors():\n    return 5\n", "TypeError", 0),
        (GREET.replace("async def", "def"), "Declare it with `async def`", 4),
        (GREET.replace("greet", "print"), "cannot be the name of a function for rules", 0),
        (GREET.replace("greet", "_greet"), "cannot be the name of a function for rules", 0),
        (GREET.replace("loud: bool = False", "since: float = float('inf')"), "is no JSON value", 4),
        (GREET.replace("loud: bool = False", "how: object = object()"), "is no JSON value", 4),
    ],
)
def test_a_broken_plugin_is_named_with_its_line_and_left_out(tmp_path: Path, text: str, says: str, line: int) -> None:
    plugins = plugins_with(tmp_path, broken=text, good=GREET.replace("greet", "wave"))
    info = found(plugins, "broken")
    assert info.problem is not None
    assert says in info.problem
    assert line == 0 or f"broken.py:{line}" in info.problem
    assert (info.functions, info.executors) == ([], [])
    assert "wave" in plugins.functions
    assert {"greet", "print", "_greet"} & set(plugins.functions) == set()


def test_a_name_that_is_taken_is_refused_with_who_has_it(tmp_path: Path) -> None:
    plugins = plugins_with(tmp_path, first=GREET, second=GREET, third=GREET.replace("greet", "wait"))
    assert found(plugins, "first").problem is None
    assert "the function 'greet' is that of plugin 'first'" in str(found(plugins, "second").problem)
    assert "the function 'wait' is that of plugin 'builtin'" in str(found(plugins, "third").problem)
    assert plugins.functions["wait"] is INTRINSICS["wait"]


def test_observers_of_a_plugin_that_was_left_out_are_not_called(tmp_path: Path) -> None:
    observer = (
        "from scriptrules import hookimpl\n"
        "@hookimpl\ndef scriptrules_run_changed(run):\n    raise AssertionError('called')\n"
        "def scriptrules_functions():\n    1 / 0\n"
    )
    plugins = plugins_with(tmp_path, observer=observer)
    assert found(plugins, "observer").problem is not None
    assert plugins.hook.scriptrules_run_changed.get_hookimpls() == []


def test_hooks_may_leave_out_parameters(tmp_path: Path) -> None:
    text = "from scriptrules import hookimpl\n@hookimpl\ndef scriptrules_stopping():\n    return None\n"
    plugins = plugins_with(tmp_path, quiet=text)
    assert found(plugins, "quiet").problem is None
    plugins.hook.scriptrules_stopping(config=None)


def test_an_executor_is_made_from_its_table_without_the_kind(tmp_path: Path) -> None:
    plugins = Plugins(None)
    context = ExecutorContext("local", "store", tmp_path, tmp_path)
    seen = {}

    def factory(table: dict[str, object], given: ExecutorContext) -> Executor:
        seen.update(table)
        assert given is context
        return None  # type: ignore[return-value]

    plugins.executors["own"] = factory
    plugins.make_executor("own", {"executor": "own", "x": 1}, context)
    assert seen == {"x": 1}
    with pytest.raises(ConfigError, match=r"\[hosts.local\]: there is no executor 'dokcer', did you mean 'docker'\?"):
        plugins.make_executor("dokcer", {}, context)
