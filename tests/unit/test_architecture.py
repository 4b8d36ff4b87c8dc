"""The house rules that a machine can check. The import contract is a step of its own (`lint-imports` in make test)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "scriptrules"
LINES_MAX = 600
MODULES = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
READING_ORDER = ROOT / "docs" / "reading-order.md"

CLOCKS = {  # who may import `time`, and why
    "clock.py": "it is the clock",
    "executors/launcher.py": "a program of its own, which imports nothing of scriptrules",
    "cli/following.py": "it sleeps between two questions to a server, and reads no time",
    "cli/hosts.py": "it sleeps between two questions to a server, and reads no time",
    "cli/sending.py": "it sleeps between two questions to a server, and reads no time",
}
DATES = {  # who may import `datetime`, and why; none of them may ask it for the present
    "clock.py": "it is the clock",
    "sandbox/facades.py": "rules may calculate with dates, through a facade without the present",
    "sandbox/facade_functions.py": "the same",
    "sandbox/intrinsics.py": "the type that now() returns",
}
PRESENT = frozenset({"utcnow", "today", "time_ns", "perf_counter", "perf_counter_ns", "process_time", "localtime"})


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


def imported(module: str) -> set[str]:
    """First names of the absolute imports, wherever in the module they stand."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", [*MODULES.values(), *PLUGINS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_is_too_long_to_be_read_at_once(path: Path) -> None:
    count = len(path.read_text("utf-8").splitlines())
    assert count <= LINES_MAX, f"{count} lines: what in it is a subject of its own?"


@pytest.mark.parametrize("module", MODULES)
def test_only_the_clock_reads_time(module: str) -> None:
    names = imported(module)
    assert "time" not in names or module in CLOCKS, "use scriptrules.clock"
    assert "datetime" not in names or module in DATES, "use the integers of scriptrules.clock"
    if module in ("clock.py", "executors/launcher.py"):
        return
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            present = node.func.attr in PRESENT or (node.func.attr == "now" and owner.endswith("datetime"))
            asked = node.func.attr in ("time", "monotonic") and ("loop" in owner or owner == "time")
            reads = present or asked
            assert not reads, f"line {node.lineno} reads the time: use scriptrules.clock"


def test_every_exception_is_still_one() -> None:
    assert {module for module in MODULES if "time" in imported(module)} == set(CLOCKS)
    assert {module for module in MODULES if "datetime" in imported(module)} == set(DATES)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(tree_of(module))


@pytest.mark.parametrize("module", ["plugins/spec.py", "plugins/executor.py"])
def test_the_contracts_of_plugins_name_each_of_their_parameters(module: str) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            doc = ast.get_docstring(node)
            assert doc, f"{node.name} has no docstring"
            if module == "plugins/spec.py" and not isinstance(node, ast.ClassDef):
                for parameter in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
                    assert re.search(rf"^\s*{parameter.arg}: ", doc, re.MULTILINE), f"{node.name}: {parameter.arg}?"


def test_the_reading_order_names_files_with_their_lengths() -> None:
    """A file is named as `supervisor/matching.py` (81 lines), or with its length in the next cell of a table."""
    if not READING_ORDER.exists():
        return  # where there is one, it is right
    named = re.findall(r"`(?:src/scriptrules/)?([\w/]+\.py)`\s*[(|]?\s*(\d+)\b", READING_ORDER.read_text("utf-8"))
    assert named, "no file is named with its length"
    for module, lines in named:
        assert module in MODULES, f"{module} is not there any more"
        count = len(MODULES[module].read_text("utf-8").splitlines())
        assert int(lines) == count, f"{module} has {count} lines"
