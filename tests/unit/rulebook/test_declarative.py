"""Declarative rules: the same tree as in Python, values that are nothing but values, and errors with their places."""

from __future__ import annotations

import ast
import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scriptrules.diagnostics import is_warning
from scriptrules.flow.atoms import Type, leaves
from scriptrules.flow.facts import analyse
from scriptrules.model import Source
from scriptrules.rulebook.composing import NODES_MAX, TEXT_MAX, Place, Scalar, plain_value
from scriptrules.rulebook.declarative import KEYS as KNOWN
from scriptrules.rulebook.declarative import VIA
from yamlhelp import DOCKER, REPORT, SPECS, form, found, load, python

# ---- the tree


def test_a_job_is_what_the_same_rule_in_python_would_be() -> None:
    assert (
        python(REPORT)
        == '''"""Rebuild the report."""
on = 'upload.finished'
when = lambda task: task['size'] > 0
priority = 3

def main(task):
    result = wait(run(host='locust', name='mid-mf', image='registry.example/uploads:2', \
args=['-m', 'reports.mid_mf', task['size']], env={'LEVEL': 'yes'}, cpus=2), check=False)
    output = result.output
    fields = output if isinstance(output, dict) else {} if output is None else {'value': output}
    if result.status == 'done':
        emit('report.ready', **fields)
    else:
        emit('report.failed', **fields)
        emit('ops.alert', **fields)
    return output'''
    )


def test_a_failure_that_nothing_provides_for_fails_the_run() -> None:
    assert "check=True" in python("type: Docker\nbody: {host: a, name: b, image: c}\nthen: d\n")
    assert "check=True" in python("type: Docker\nbody: {host: a, name: b, image: c}\nthen: {branch: {ok: d}}\n")
    assert "check=False" in python("type: Docker\nbody: {host: a, name: b, image: c}\nthen: {branch: {failed: []}}\n")


def test_a_call_gives_its_value_to_what_follows() -> None:
    assert python("on: a\ncall: render\ndata: {page: {type: data, name: page}}\nthen: publish\n").endswith(
        """\
    output = call('render', **{'page': task['page']})
    fields = output if isinstance(output, dict) else {} if output is None else {'value': output}
    emit('publish', **fields)
    return output"""
    )


def test_a_call_without_data_passes_the_tasks_own_and_its_failure_can_have_a_branch() -> None:
    text = python("call: a\nthen: {branch: {failed: {task: b, data: {why: {type: result, name: reason}}}}}\n")
    assert "output = call('a', **task)\n    except CallFailed as error:" in text
    assert "reason = str(error)\n        emit('b', **{'why': reason})" in text


def test_a_rule_that_only_generates_hands_the_data_on() -> None:
    body = python("on: a\nthen: [b, {task: c, data: {n: 1}}, {task: d, data: {}}]\n").partition("main(task):\n")[2]
    assert body == "    emit('b', **task)\n    emit('c', **{'n': 1})\n    emit('d')"


def test_every_value_may_be_of_the_task_or_a_variable() -> None:
    text = python("""
type: Docker
body:
  host: {type: load, name: host}
  name: {type: data, name: id, default: 7}
  image: x
  args: [{type: load, name: [quarter, year]}, {type: data, name: [a, b]}]
  env: {A: {type: load, name: x, default: none}}
  mounts: {type: load, name: [m, n]}
  labels: {deep: {type: data, name: x}, literal: {type: literal, value: {type: data, name: x}}, other: {type: bind}}
""")
    for written in (
        "host=load('host')",
        "name=task.get('id', 7)",
        "args=[load('quarter'), load('year'), task['a'], task['b']]",
        "env={'A': load('x', default='none')}",
        "mounts=[load('m'), load('n')]",
        "labels={'deep': task['x'], 'literal': {'type': 'data', 'name': 'x'}, 'other': {'type': 'bind'}}",
    ):
        assert written in text, text


def test_tasks_that_follow_can_carry_parts_of_the_output_and_of_the_result() -> None:
    text = python("""
type: Docker
body: {host: a, name: b, image: c}
then:
  - {task: d, data: {all: {type: output}, rows: {type: output, name: rows}, n: {type: output, name: n, default: 0}}}
  - {task: e, data: {status: {type: result, name: status}}}
  - {task: f, data: {type: data, name: everything}}
""")
    assert "emit('d', **{'all': result.output, 'rows': fields['rows'], 'n': fields.get('n', 0)})" in text
    assert "emit('e', **{'status': result.status})" in text
    assert "emit('f', **task['everything'])" in text


def test_metadata_are_read_as_those_of_any_rule() -> None:
    facts, problems = load("on: [a, b.*]\nnomatch: true\npriority: 5\nfinal: true\nenabled: false\nthen: c\n")
    assert problems == []
    assert facts is not None
    assert (facts.on, facts.nomatch, facts.priority, facts.final, facts.enabled) == (["a", "b.*"], True, 5, True, False)
    facts, _ = load(REPORT)
    assert facts is not None
    assert (facts.doc, facts.when) == ("Rebuild the report.", 'task["size"] > 0')
    assert [(use.host, use.type, use.executor, use.line) for use in facts.hosts] == [("locust", "Docker", "docker", 8)]
    assert [(follow.task, follow.line) for follow in facts.then] == [
        ("report.ready", 18), ("report.failed", 18), ("ops.alert", 18)
    ]  # fmt: skip


def test_the_nodes_have_the_places_of_what_they_come_from() -> None:
    lines = REPORT.splitlines()

    def text_of(node: Any) -> str:
        assert node.lineno == node.end_lineno
        return lines[node.lineno - 1][node.col_offset : node.end_col_offset]

    tree = form(REPORT).make()
    calls = {ast.unparse(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert text_of(calls["run"]) == "run"  # the action
    assert text_of(calls["emit"]) == "ops.alert"
    (compare,) = [n for n in ast.walk(tree) if isinstance(n, ast.Compare) and isinstance(n.ops[0], ast.Gt)]
    assert text_of(compare) == 'task["size"] > 0'
    assert [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value == "reports.mid_mf"] == [13]
    assert [node.value.id for node in ast.walk(tree) if isinstance(node, ast.Subscript) and node.lineno == 14] == [
        "task"
    ]
    for node in ast.walk(tree):
        if "lineno" in node._attributes:
            assert 1 <= node.lineno <= len(lines)


def test_what_stands_for_a_then_can_be_told_from_other_generated_tasks() -> None:
    emits = [n for n in ast.walk(form(REPORT).make()) if isinstance(n, ast.Call) and ast.unparse(n.func) == "emit"]
    assert {getattr(node, "via", None) for node in emits} == {VIA}


def test_the_analysis_sees_what_follows() -> None:
    functions = {spec.name: spec for spec in SPECS}
    (facts,) = analyse(Source("r", "rules/r.yaml", REPORT), functions).rules
    assert [leaf.name for leaf in leaves(facts.subsequents) if isinstance(leaf, Type)] == [
        "report.ready", "report.failed", "ops.alert"
    ]  # fmt: skip
    assert {(edge.task, edge.via, edge.line) for edge in facts.edges} == {
        ("report.ready", VIA, 18), ("report.failed", VIA, 18), ("ops.alert", VIA, 18)
    }  # fmt: skip
    assert [(start.host, start.line) for start in facts.starts] == [("locust", 7)]


# ---- values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("3", 3), ("-3", -3), ("+3", 3), ("0x1F", 31), ("0o17", 15), ("3.5", 3.5), ("1e3", 1000.0), (".5", 0.5)],
        *[("true", True), ("False", False), ("null", None), ("~", None), ("", None)],
        *[(text, text) for text in ("yes", "on", "2024-01-31", "1:30", "1_000", "0b1", ".inf", ".nan", "3,5", "=")],
        ("012", 12),
        ("9" * 50, int("9" * 40)),
    ],
)
def test_a_plain_scalar_means_what_yaml_1_2_says(text: str, value: Any) -> None:
    meant = plain_value(Scalar(Place(1, 0, 1, 0), text, plain=True))
    assert (type(meant), meant) == (type(value), value)
    assert plain_value(Scalar(Place(1, 0, 1, 0), text, plain=False)) == text


def test_arguments_and_variables_are_the_texts_that_are_written() -> None:
    text = python("type: Docker\nbody: {host: 1, name: 2, image: 3.10, args: [012, yes, 1e3, null, ''], env: {A: 0x1}}")
    assert "host='1', name='2', image='3.10', args=['012', 'yes', '1e3', 'null', ''], env={'A': '0x1'}" in text


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    [
        "'",
        '"',
        "\\",
        "'''",
        '"""',
        "{type: data}",
        "task['x']",
        "\n",
        "#",
        "{{x}}",
        "%s",
        "\x00",
        "NAME",
        "RUN",
        "\u2028",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS.filter(bool), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def run_call(text: str) -> dict[str, Any]:
    """The arguments of the run() that a form stands for."""
    (call,) = [n for n in ast.walk(form(text).make()) if isinstance(n, ast.Call) and ast.unparse(n.func) == "run"]
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}


@given(
    st.lists(TEXTS, max_size=5),
    st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=3),
    TEXTS.filter(bool),
    st.sampled_from([None, "'", '"', "|", ">"]),
)
@settings(max_examples=200, deadline=None)
def test_any_text_comes_through_literally(args: list[str], env: dict[str, str], image: str, style: str | None) -> None:
    body = {"host": "h", "name": "n", "image": image, "args": args, "env": env}
    text = yaml.safe_dump({"type": "Docker", "body": body}, default_style=style, allow_unicode=True)
    assert run_call(text) == yaml.safe_load(text)["body"]
    assert run_call(json.dumps({"type": "Docker", "body": body})) == body
    assert {code for code, *_ in found(text)} <= {"SR407"}


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_any_value_comes_through_literally(value: Any) -> None:
    text = (
        f"type: Docker\nbody: {json.dumps({'host': 'h', 'name': 'n', 'image': 'i', 'labels': {'v': quoted(value)}})}\n"
    )
    assert run_call(text)["labels"] == {"v": value}


def quoted(value: Any) -> Any:
    """`value` behind the one way to say that nothing in it is a reference."""
    return {"type": "literal", "value": value}


@given(VALUES.filter(lambda value: type(value) is dict and value))
@settings(max_examples=50, deadline=None)
def test_the_data_of_tasks_are_what_is_written(value: dict[str, Any]) -> None:
    text = json.dumps({"then": {"task": "a", "data": {"v": quoted(value)}}})
    (call,) = [n for n in ast.walk(form(text).make()) if isinstance(n, ast.Call)]
    assert ast.literal_eval(call.keywords[0].value) == {"v": value}


def test_json_is_yaml_as_well() -> None:
    assert load('{"on": "a", "then": {"task": "b", "data": {"smile": "\\ud83d\\ude00"}}}')[1] == []


# ---- what is wrong


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("on: a\nwen: b\nthen: c", [("SR703", 2, 0)]),
        ("on: a\non: b\nthen: c", [("SR310", 2, 0)]),
        ("on: a\nthen: {branch: {ok: a, faild: b}}", [("SR703", 2, 23)]),
        ("on: a\nthen: {brnch: {ok: b}}", [("SR703", 2, 7)]),
        ("on: a\nthen: {data: {}}", [("SR704", 2, 6)]),
        ("on: a\nthen: no name", [("SR705", 2, 6)]),
        ("on: a\nthen: {branch: {ok: b}, task: c}", [("SR703", 2, 24)]),
        ("on: a\nthen: {branch: {}}", [("SR705", 2, 15)]),
        ("on: a\nthen: {task: b, data: 3}", [("SR705", 2, 22)]),
        ("on: a", [("SR704", 1, 0)]),
        ("", [("SR705", 1, 0)]),
        ("- a", [("SR705", 1, 0)]),
        ("on: a..b\nthen: c", [("SR308", 1, 4)]),
        ("priority: high\nthen: c", [("SR304", 1, 10)]),
        ("when: task[\nthen: c", [("SR101", 1, 10)]),
        ("when: task['x'] >\nthen: c", [("SR101", 1, 6)]),
        ('when: tsk["x"] > 0\nthen: c', [("SR401", 1, 6)]),
        ("when: 'tsk > 0'\nthen: c", [("SR401", 1, 7)]),
        ("when: >\n  tsk\n  > 0\nthen: c", [("SR401", 1, 6)]),
        ("when: '[x async for x in task]'\nthen: c", [("SR104", 1, 20)]),
        ("when: task.__class__\nthen: c", [("SR111", 1, 6)]),
        ("when: []\nthen: c", [("SR705", 1, 6)]),
        ("body: {}\nthen: c", [("SR703", 1, 0)]),
        ("data: {}\nthen: c", [("SR703", 1, 0)]),
        ("call: a\ntype: Docker\nbody: {host: a, name: b, image: c}", [("SR703", 1, 0)]),
        ("type: Docker", [("SR704", 1, 6)]),
        ("type: Dokker\nbody: {host: a, name: b, image: c}", [("SR706", 1, 6)]),
        ("type: Docker\nbody: {host: a, name: b}", [("SR704", 2, 0)]),
        ("type: Docker\nbody: {hots: a, host: a, name: b, image: c}", [("SR703", 2, 7)]),
        ("type: Docker\nbody: {action: stop, host: a, name: b, image: c}", [("SR706", 2, 15)]),
        ("type: Docker\nbody: {host: a, name: b, image: c, retries: x}", [("SR705", 2, 44)]),
        ("type: Docker\nbody: {host: a, name: b, image: c, args: [[d]]}", [("SR705", 2, 42)]),
        ("type: Docker\nbody: {host: a, name: b, image: c, args: [-m x]}", [("SR407", 2, 42)]),
        ("type: Docker\nbody: {host: a, name: b, image: c, args: [{type: dta, name: x}]}",
         [("SR705", 2, 42), ("SR706", 2, 49)]),
        ("type: Docker\nbody: {host: a, name: b, image: {type: output}}", [("SR705", 2, 32)]),
        ("type: Docker\nbody: {host: a, name: b, image: {type: data, nme: x}}", [("SR704", 2, 32), ("SR703", 2, 45)]),
        ("type: Docker\nbody: {host: a, name: b, image: c}\nthen: {task: d, data: {x: {type: result, name: stat}}}",
         [("SR703", 3, 47)]),
        ("call: a\nthen: {task: d, data: {x: {type: result, name: status}}}", [("SR703", 2, 47)]),
        ("then: {task: d, data: {x: 9223372036854775808}}", [("SR705", 1, 26)]),
        ("then: {task: d, data: {x: 1e999}}", [("SR705", 1, 26)]),
        ("on: !!python/object:os.system x", [("SR702", 1, 4)]),
        ("on: !!binary x", [("SR702", 1, 4)]),
        ("a: &x [*x]", [("SR702", 1, 7)]),
        ("on: *x", [("SR702", 1, 4)]),
        ("<<: {on: a}", [("SR702", 1, 0)]),
        ("[a]: b", [("SR702", 1, 0)]),
        ("? {a: b}\n: c", [("SR702", 1, 2)]),
        ("on: a\n---\non: b", [("SR702", 2, 0)]),
        ('on: "\\ud800"', [("SR702", 1, 4)]),
        ('on: "\\U99999999"', [("SR701", 1, 0)]),
        ("on: a\x08", [("SR701", 1, 5)]),
        ('x: 1\non: "a', [("SR701", 2, 4)]),
        ("ü: [ä, {ö: é]", [("SR701", 1, 16)]),
    ],
)  # fmt: skip
def test_each_mistake_has_its_place(text: str, findings: list[tuple[str, int, int]]) -> None:
    assert found(text) == findings


def test_a_mistake_names_what_was_meant() -> None:
    for text, meant in (
        ("wen: b\nthen: c", "'when'"),
        ("type: docker\nbody: {}", "'Docker'"),
        ("type: Docker\nbody: {image: a, host: b, name: c, evn: {}}", "'env'"),
        ("then: {branch: {okay: a}}", "'ok'"),
        ("then: {task: a, data: {x: {type: lod, name: y}}}", "'load'"),
    ):
        assert any(f"did you mean {meant}?" in problem.message for problem in load(text)[1]), text


def test_everything_that_is_wrong_is_told_at_once_and_once() -> None:
    text = (
        "on: a..b\nwen: x\ntype: Dockr\nbody: {host: h, name: n, image: i, args: [{type: dat, name: x}]}\nthen: a b\n"
    )
    assert found(text) == [
        ("SR703", 2, 0), ("SR706", 3, 6), ("SR705", 4, 42), ("SR706", 4, 49), ("SR705", 5, 6), ("SR308", 1, 4)
    ]  # fmt: skip


def test_hints_about_metadata_are_in_yaml() -> None:
    (problem,) = load("on: 3\nthen: c")[1]
    assert problem.hint == 'Write on: "upload.*".'


def test_comments_ignore_what_can_be_ignored_and_texts_are_no_comments() -> None:
    job = "type: Docker\nbody:\n  host: a\n  name: b\n  image: c\n  args:\n  - -m x{}\n"
    assert found(job.format("")) == [("SR407", 7, 4)]
    assert found(job.format("  # scriptrules: ignore[SR407]")) == []
    assert found(job.format(" y # scriptrules: ignore[SR401]")) == [("SR407", 7, 4), ("SR405", 7, 11)]
    assert found(job.format("\n  - '# scriptrules: ignore[SR407]'")) == [("SR407", 7, 4), ("SR407", 8, 4)]
    assert found("then: a b # scriptrules: ignore[SR705]") == [("SR705", 1, 6), ("SR406", 1, 10)]
    (follow,) = load("on: a\nthen: a # scriptrules: ignore[SR408]")[0].then  # type: ignore[union-attr]
    assert follow.circle


@pytest.mark.parametrize(
    ("job", "findings"),
    [
        ('Job("Docker", {"host": h, "name": "n", "image": "i", "args": [x for x in h]}, then="a")', []),
        ('Job("Docker", {**h, "cpus": 2})', []),
        ("Job(h, {})", []),
        ('Job("Dokker", {})', [("SR402", 15)]),
        ('Job("Docker", {"host": h, "name": "n"})', [("SR402", 25)]),
        ('Job("Docker", body={"hots": h, **h})', [("SR402", 31)]),
        ('Job("Docker", {"args": "x", **h})', [("SR402", 34)]),
    ],
)
def test_a_job_of_a_script_is_checked_as_far_as_it_is_written_there(job: str, findings: list[tuple[str, int]]) -> None:
    _, problems = load(f"def main(h):\n    return {job}\n", "rules/r.py")
    assert [(problem.code, problem.column) for problem in problems] == findings


# ---- hostile files


BOMB = "then:\n  task: t\n  data:\n    a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"    {name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "then: " + "[" * 200 + "]" * 200,
        "[" * 60_000,
        "{a: " * 5_000,
        "- " * 30_000,
        "? " * 30_000,
        "a: " * 20_000,
        "x" * (TEXT_MAX + 1),
        "then: [" + "a, " * NODES_MAX + "]",
        "&a " * 20_000,
        "!" * 60_000,
        "\n" * 60_000,
        "'" * 60_001,
        "when: " + "(" * 3_000 + ")" * 3_000 + "\nthen: a",
        "when: " + "-" * 3_000 + "1\nthen: a",
        "when: '" + "task + " * 5_000 + "1'\nthen: a",
        "#" * 60_000,
        "%YAML 9.9\n---\na: b",
        "%TAG ! tag:x,2000:\n---\n!y b",
    ],
)
def test_what_is_too_much_is_refused_soon(text: str) -> None:
    began = time.process_time()
    facts, problems = load(text)
    assert facts is None
    assert problems
    assert time.process_time() - began < 3.0


def test_what_only_yaml_counts_as_the_end_of_a_line_moves_no_place() -> None:
    assert found("on: a\x85then: b c\u2028when: tsk") == [("SR705", 1, 13), ("SR401", 1, 25)]


MUTANTS = st.tuples(st.integers(0, len(REPORT)), st.integers(0, 30), st.text(max_size=12) | TEXTS).map(
    lambda cut: REPORT[: cut[0]] + cut[2] + REPORT[cut[0] + cut[1] :]
)
KEYS = st.sampled_from([*KNOWN, *DOCKER.keys, "branch", "ok", "failed", "task", "default", "value", "action"])
WORDS = st.sampled_from(
    ["Docker", "Process", "run", "data", "load", "output", "result", "literal", "a.b", "task", "on"]
)
FORMS = st.recursive(
    WORDS | VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@given(st.text(max_size=200) | MUTANTS | FORMS.map(yaml.safe_dump) | st.dictionaries(KEYS, FORMS).map(yaml.safe_dump))
@settings(max_examples=500, deadline=None)
def test_whatever_is_in_a_file_it_is_a_rule_or_has_findings(text: str) -> None:
    facts, problems = load(text)
    assert (facts is None) == any(not is_warning(problem.code) for problem in problems)
    lines = text.count("\n") + text.count("\r") + 1
    for problem in problems:
        assert 1 <= problem.line <= lines
        assert problem.column >= 0
