"""What `scriptrules check` finds and how it prints it, ignoring findings, codes explained, and warnings of a server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from clihelp import Project

from scriptrules.cli.checking import FORMATS
from scriptrules.cli.examples import EXAMPLES
from scriptrules.cli.flow_examples import FLOW_EXAMPLES
from scriptrules.cli.formats import FORMATS as FUNCTIONS
from scriptrules.cli.yaml_examples import YAML_EXAMPLES
from scriptrules.diagnostics import CODES, is_warning
from serving import Server, eventually
from serving import project as served

UNKNOWN = 'on = "a"\ndef main(size):\n    tab = "\t"; log(sise)\n'
BROKEN = 'on = "a"\ndef main():\n    try:\n        pass\n    finally:\n        return "ä", open\n'
NOT_TO_BE_COMPILED = {
    "SR102",
    "SR118",
    "SR119",
    "SR321",
    "SR322",
    "SR600",
    "SR601",
    "SR602",
}  # abridged, of breakpoints, or fail when run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(
        tmp_path_factory.mktemp("check"),
        {
            "unknown": UNKNOWN,
            "deep/broken": BROKEN,
            "good": 'from lib.text import short\non = "a"\ndef main(t):\n    shout(t)\n    return short(t)\n',
            "lib/text": "from lib.other import size\ndef short(t):\n    return t[:size]\n",
            "lib/other": "size = 3\n",
        },
    )


# ---- formats


def test_every_format_that_is_offered_is_there() -> None:
    assert tuple(FUNCTIONS) == FORMATS


def test_full_shows_the_line_a_caret_and_what_to_write_instead(project: Project) -> None:
    ended = project("check")
    assert ended.status == 1
    assert ended.out == (
        "rules/deep/broken.py:6:9: SR110 `return` leaves a `finally`\n"
        '    6 |         return "ä", open\n'
        "      |         ^^^^^^^^^^^^^^^^\n"
        "      = Move the jump behind the try statement.\n\n"
        "rules/deep/broken.py:6:21: SR115 rules have no 'open'\n"
        '    6 |         return "ä", open\n'
        "      |                     ^^^^\n"
        "      = There is none inside a worker; write a plugin function for effects.\n\n"
        "rules/unknown.py:3:20: SR401 `sise` is not defined, did you mean 'size'?\n"
        '    3 |     tab = "\t"; log(sise)\n'
        "      |            \t       ^^^^\n"
        "      = Correct the name, define it, or add the plugin that declares it.\n\n"
    )
    assert "5 checked, 2 problems, 1 warning." in ended.err
    assert project("check", "--output-format", "full").out == ended.out


def test_concise_is_a_line_each(project: Project) -> None:
    assert project("check", "--output-format", "concise").out.splitlines() == [
        "rules/deep/broken.py:6:9: SR110 `return` leaves a `finally`",
        "rules/deep/broken.py:6:21: SR115 rules have no 'open'",
        "rules/unknown.py:3:20: SR401 `sise` is not defined, did you mean 'size'?",
    ]


def test_json_has_places_in_characters_and_is_what_the_short_flag_means(project: Project) -> None:
    ended = project("check", "--output-format", "json")
    assert ended.status == 1
    assert ended.out == project("check", "--json").out == project("check", "--json", "--output-format=json").out
    assert [(item["code"], item["severity"], item["column"], item["end_column"]) for item in ended.json["items"]] == [
        ("SR110", "error", 9, 25),
        ("SR115", "error", 21, 25),
        ("SR401", "warning", 20, 24),
    ]
    both = project("check", "--json", "--output-format", "sarif")
    assert both.status == 2
    assert "exclude one another" in both.err


def test_github_gets_commands_whose_special_characters_are_escaped(tmp_path: Path) -> None:
    project = Project(tmp_path, {"lib/a": "import os\n", "b": UNKNOWN})
    odd = tmp_path / "50%, all: of.it.py"
    odd.write_text(BROKEN)
    lines = project("check", "--output-format", "github").out.splitlines()
    assert lines[0] == "::warning file=rules/b.py,line=3,col=20,title=SR401::`sise` is not defined, did you mean " + (
        "'size'? Correct the name, define it, or add the plugin that declares it."
    )
    assert re.fullmatch(r"::error file=rules/lib/a\.py,line=1,col=1,title=SR112::rules cannot import 'os'.*", lines[1])
    (line,) = project("check", "--output-format", "github", odd.name).out.splitlines()
    assert line.startswith("::error file=50%25%2C all%3A of.it.py,line=1,col=1,title=SR119::The file has a name")


def test_sarif_has_the_structure_that_the_standard_requires(project: Project) -> None:
    log: dict[str, Any] = json.loads(project("check", "--output-format", "sarif").out)
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "scriptrules"
    assert [rule["id"] for rule in driver["rules"]] == ["SR110", "SR115", "SR401"]
    for rule in driver["rules"]:
        assert rule["defaultConfiguration"]["level"] in ("error", "warning")
        assert all(rule[text]["text"] for text in ("shortDescription", "fullDescription", "help"))
    assert run["columnKind"] == "unicodeCodePoints"
    assert [result["level"] for result in run["results"]] == ["error", "error", "warning"]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"].startswith("rules/")
        assert (place["region"]["endLine"], place["region"]["endColumn"]) > (
            place["region"]["startLine"], place["region"]["startColumn"],
        )  # fmt: skip
    assert run["results"][1]["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 6, "startColumn": 21, "endLine": 6, "endColumn": 25,
    }  # fmt: skip


def test_rules_in_order_make_an_empty_report_in_every_format(tmp_path: Path) -> None:
    project = Project(tmp_path, {"a": "def main(): pass\n"})
    for name in FORMATS:
        ended = project("check", "--output-format", name)
        assert ended.status == 0, ended.out
        if name == "json":
            assert ended.json == {"items": [], "next": None}
        elif name == "sarif":
            assert ended.json["runs"][0]["results"] == []
        else:
            assert ended.out == ""


def test_files_are_named_as_they_are_found_from_where_one_stands(project: Project, tmp_path: Path) -> None:
    (project.folder / "sub").mkdir(exist_ok=True)
    (project.folder / "sub" / "one.py").write_text(UNKNOWN)
    assert project("check", "--output-format", "concise", "sub").out.startswith("sub/one.py:3:")
    (tmp_path / "far.py").write_text(UNKNOWN)
    shown = project("check", "--output-format", "concise", str(tmp_path)).out
    assert shown.startswith(f"{tmp_path.resolve()}/far.py:3:")


# ---- findings


def test_functions_of_plugins_are_known_and_a_broken_plugin_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path, {"a": "def main(t):\n    shout(text=t)\n    shout(t, 2)\n"})
    (item,) = project("check", "--json").json["items"]
    assert (item["code"], item["line"]) == ("SR402", 3)
    assert "shout(text: str) -> str" in item["hint"]
    (tmp_path / "plugins" / "cheers.py").write_text("raise RuntimeError('no')\n")
    ended = project("check", "--json")
    assert [item["code"] for item in ended.json["items"]] == ["SR401", "SR401"]
    assert "plugin cheers is broken" in ended.err
    assert project("check", "--plugins", "nowhere").status == 2


def test_a_missing_library_is_found_by_the_rule_and_a_broken_one_by_itself(tmp_path: Path) -> None:
    using = "from lib.{} import f\ndef main():\n    return f()\n"
    project = Project(
        tmp_path,
        {"a": using.format("missing"), "b": using.format("broken"), "c": using.format("other"),
         "lib/other": "def g(): pass\n", "lib/broken": "import os\n"},
    )  # fmt: skip
    items = project("check", "--json").json["items"]
    assert [(item["file"], item["code"]) for item in items] == [
        ("rules/a.py", "SR404"), ("rules/c.py", "SR404"), ("rules/lib/broken.py", "SR112"),
    ]  # fmt: skip


def test_a_library_may_wait_for_what_a_rule_starts(tmp_path: Path) -> None:
    project = Project(tmp_path, {"lib/a": "def result():\n    return wait('sort')\n"})
    assert project("check").status == 0


def test_findings_are_ignored_where_a_comment_says_so_but_never_what_the_sandbox_refuses(tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        {
            "fine": "note = 1  # scriptrules: ignore[SR302]\n"
            "def main(a):\n    late(a, now(1))  # scriptrules: ignore[SR401, SR402]\n",
            "refused": "import os  # scriptrules: ignore[SR112]\n"
            "def main():\n    return x  # scriptrules: ignore[SR401]\n",
            "vain": "def main():\n    return 1  # scriptrules: ignore[SR401]\n",
        },
    )
    items = project("check", "--json").json["items"]
    assert [(item["file"], item["code"], item["severity"]) for item in items] == [
        ("rules/refused.py", "SR112", "error"),
        ("rules/refused.py", "SR406", "warning"),
        ("rules/vain.py", "SR405", "warning"),
    ]
    assert "whatever a comment says" in items[1]["message"]


# ---- codes


def test_every_code_has_an_example_whose_wrong_has_that_finding_and_whose_right_has_none(tmp_path: Path) -> None:
    assert {*EXAMPLES, *YAML_EXAMPLES, *FLOW_EXAMPLES} == set(CODES)
    assert not EXAMPLES.keys() & YAML_EXAMPLES.keys()
    suffixes = dict.fromkeys(EXAMPLES, ".py") | dict.fromkeys(YAML_EXAMPLES, ".yaml")
    project = Project(
        tmp_path,
        {f"{code}-{which}{suffixes[code].removesuffix('.py')}": text
         for code, both in (EXAMPLES | YAML_EXAMPLES).items() if code not in NOT_TO_BE_COMPILED
         for which, text in zip(("wrong", "right"), both, strict=True)},
    )  # fmt: skip
    found: dict[str, set[str]] = {}
    for item in project("check", "--json").json["items"]:
        if item["code"] not in FLOW_EXAMPLES:  # what these examples generate concerns nobody
            found.setdefault(item["file"], set()).add(item["code"])
    expected = {code for code in {*EXAMPLES, *YAML_EXAMPLES} if code not in NOT_TO_BE_COMPILED}
    assert found.keys() == {f"rules/{code}-wrong{suffixes[code]}" for code in expected}, "a right one has findings"
    for code in expected:
        assert code in found[f"rules/{code}-wrong{suffixes[code]}"], found


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_explanation_is_written_in_sentences(code: str) -> None:
    info = CODES[code]
    assert info.title[0] != info.title[0].upper() or info.title == "not Python"
    for sentence in (info.why, info.instead):
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_a_code_is_explained_with_title_reason_remedy_and_example(project: Project) -> None:
    out = project("explain-code", "SR110").out
    assert out.startswith("SR110: jump out of finally\n\nWhy: It would discard")
    assert re.search(r"Instead: Move .*\n\nWrong:\n\n    def main\(\):\n(.*\n)+\nRight:\n\n    def main\(\):", out)
    assert "ignore[" not in out
    out = project("explain-code", "sr401").out
    assert "It is a warning" in out
    assert "`# scriptrules: ignore[SR401]`" in out
    assert project("explain-code", "SR110", "--json").json["wrong"] == EXAMPLES["SR110"][0]
    assert "Correct scriptrules.toml" in project("explain-code", "SR800").out


def test_all_codes_are_listed_where_none_is_named(project: Project) -> None:
    lines = project("explain-code").out.splitlines()
    assert {line.split()[0] for line in lines[1:]} > set(CODES) | {"SR800", "SR871"}
    assert len(project("explain-code", "--json").json["items"]) == len(lines) - 1


def test_an_unknown_code_is_wrong_usage_and_the_nearest_is_named(project: Project) -> None:
    ended = project("explain-code", "SR1100")
    assert ended.status == 2
    assert "did you mean 'SR110'?" in ended.err
    assert ended.out == ""


# ---- a server


def test_a_rule_with_warnings_becomes_active_and_the_server_tells_of_them_once() -> None:
    with served() as server:
        server.config("")
        server.rule("odd", 'on = "odd"\ndef main(n):\n    if n:\n        return sise\n    return "fine"\n')
        server.start()
        (info,) = server.get("/api/rules")["items"]
        assert info["digest"]
        assert info["problems"] == []
        assert "rules/odd.py:4:16: SR401 `sise` is not defined" in info["warnings"][0]
        task = server.send("odd", n=0)
        server.wait_task(task)
        assert server.run_of(task)["value"] == "fine"
        server.rule("other", "def main(): pass\n")
        eventually(lambda: len(server.get("/api/rules")["items"]) == 2, "the other rule is active")
        assert _warned(server) == 1
        server.rule("odd", 'on = "odd"\ndef main(n):\n    return sise  # scriptrules: ignore[SR401]\n')
        eventually(lambda: not _info(server, "odd")["warnings"], "no warning is left")
        assert _warned(server) == 1


def _info(server: Server, rule: str) -> Any:
    return next(info for info in server.get("/api/rules")["items"] if info["rule"] == rule)


def _warned(server: Server) -> int:
    return server.log.read_text().count("rule.warning")


def test_doctor_counts_rules_with_warnings_as_in_order(tmp_path: Path) -> None:
    project = Project(tmp_path, {"a": UNKNOWN})
    findings = project("doctor", "--json").json["items"]
    (rules,) = [finding for finding in findings if finding["area"] == "rules"]
    assert rules["state"] == "ok"


def test_the_first_digit_says_what_is_a_warning() -> None:
    assert {code[:3] for code in CODES if is_warning(code)} == {"SR4", "SR5"}
