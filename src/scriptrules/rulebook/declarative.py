"""Declarative rules: a `.yaml` file becomes the syntax tree that the same rule in Python would have.

From there on there is one path: the policy compiles the tree, metadata are read from it, the analysis follows it, and
a run replays it. A value of the file becomes a constant of the tree and never a piece of source, so that no text can be
more than a text. Each node has the place that it comes from, so that journals, traces and findings point into the file.

    on: upload.finished                          on = "upload.finished"
    type: Docker                                 def main(task):
    body: {host: locust, name: mf, …}                result = wait(run("locust", "mf", …))
    then: report.ready                               emit("report.ready", **fields)

Called in workers only. Tried and rejected: an interpreter of its own for the form (every promise of the engine would
have to be kept twice), and templates that are filled with text (a value with a quote in it is code).
"""

from __future__ import annotations

import ast
import difflib
import math
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from scriptrules.diagnostics import Diagnostic, Rejected
from scriptrules.errors import nearest
from scriptrules.jobs import COMMON, COMPUTED, REQUIRED, TEXT, TEXTS, JobType, Mistake, mistakes, unknown_type
from scriptrules.model import NAME, NAME_MAX
from scriptrules.rulebook import ignores, metadata
from scriptrules.rulebook.composing import Items, Node, Pairs, Place, Scalar, comments, compose, diagnostic, plain_value
from scriptrules.rulebook.trees import located, move, write

METADATA = tuple(name for name in metadata.KNOWN if name != "rules")
KEYS = ("description", *METADATA, "type", "body", "call", "data", "then")
VIA = "then"  # the attribute `via` of the calls of emit() that stand for a `then`
OUTCOMES = ("ok", "failed")
REFERENCES = ("data", "load", "literal", "output", "result")  # the types of what stands for a value
IN_THEN = ("output", "result")
RESULT = ("status", "reason", "exit_code", "output", "stdout", "stderr", "host", "verdict")

_PATTERN = "Segments of letters, digits, _ and - with dots between."
_CODES = {"unknown": "SR703", "missing": "SR704", "type": "SR705", "action": "SR706"}
_FIELDS = (  # of the tasks that follow: an object's own, any other value as `value`
    'fields = output if isinstance(output, dict) else {} if output is None else {"value": output}'
)


class Form(msgspec.Struct, frozen=True):
    """A declarative rule that can be compiled, as far as `problems` have only warnings."""

    make: Callable[[], ast.Module]  # a new tree each time
    problems: list[Diagnostic]
    when: str | None
    hosts: list[metadata.HostUse]
    then: list[metadata.Follow]

    def facts(self, facts: metadata.Metadata, text: str) -> metadata.Metadata:
        """What was read from the tree, with what only the form says."""
        known = ignores.lines(text, "SR408", comments)
        then = [msgspec.structs.replace(one, circle=one.line in known) for one in self.then]
        return msgspec.structs.replace(facts, when=self.when, hosts=self.hosts, then=then)


def read(text: str, types: Mapping[str, JobType] | None) -> Form:
    """The rule that a text declares.

    Args:
        text: the file.
        types: the job types by name; None: bodies are taken as they are, for who wants the tree only.

    Raises:
        Rejected: it is no YAML, or no mapping; nothing else is ever raised.
    """
    root = compose(text)
    if not isinstance(root, Pairs):
        place = root.place if root else Place(1, 0, 1, 0)
        raise Rejected([diagnostic("SR705", "a declarative rule is a mapping of keys", place, "Write `on: …` first.")])
    first = _Writer(root, text, types)
    first.module()
    return Form(
        make=lambda: _Writer(root, text, types).module(),
        problems=sorted(dict.fromkeys(first.problems), key=lambda problem: (problem.line, problem.column)),
        when=first.when,
        hosts=first.hosts,
        then=first.follows,
    )


def in_yaml(problem: Diagnostic) -> Diagnostic:
    """A finding about metadata with its hint as one writes it here."""
    written = rf"\b({'|'.join(METADATA)}) = (lambda task: )?"
    return msgspec.structs.replace(problem, hint=re.sub(written, r"\1: ", problem.hint))


class _Task(msgspec.Struct, frozen=True):
    """One task of a `then`."""

    name: str
    data: Node | None
    place: Place


class _Writer:
    """Writes the tree of one form, and collects what is wrong with it."""

    def __init__(self, root: Pairs, text: str, types: Mapping[str, JobType] | None) -> None:
        self.root = root
        self.lines = re.split(r"\r\n?|\n", text)
        self.types = types
        self.problems: list[Diagnostic] = []
        self.when: str | None = None
        self.hosts: list[metadata.HostUse] = []
        self.follows: list[metadata.Follow] = []
        self.then: dict[str, str] = {}  # what `output` and the parts of `result` are here; empty outside of `then`

    def module(self) -> ast.Module:
        self.check_keys(self.root, KEYS, "A declarative rule")
        body: list[ast.stmt] = []
        for key, (name, node) in self.root.pairs.items():
            if key == "description":
                body.insert(0, located(ast.Expr(ast.Constant(self.text(node, "`description`") or "")), node.place))
            elif key == "when":
                body += self.filter(name, node)
            elif key in METADATA:
                target = ast.Name(key, ast.Store())
                body.append(located(ast.Assign([target], self.literal(node)), name.place))
        return ast.Module([*body, *self.main()], [])

    # ---- what it does

    def main(self) -> list[ast.stmt]:
        deed = next((key for key in ("type", "call", "then") if key in self.root.pairs), None)
        for key, needs in (("body", "type"), ("data", "call"), ("call", None)):
            if key in self.root.pairs and (deed == "type" if needs is None else deed != needs):
                what = "`type` and `call` exclude one another" if needs is None else f"`{key}` belongs to `{needs}`"
                self.problem("SR703", self.root.pairs[key][0], f"{what}.", "Remove one, or make two rules of it.")
        if deed is None:
            does_nothing = "the rule does nothing: it has neither `type`, nor `call`, nor `then`"
            self.problems.append(diagnostic("SR704", does_nothing, Place(1, 0, 1, 0)))
            return write("def main(task): pass", self.root.place)
        name, node = self.root.pairs[deed]
        (main,) = write("def main(task): pass", name.place)
        assert isinstance(main, ast.FunctionDef)
        main.body = {"type": self.job, "call": self.call, "then": self.forward}[deed](node)
        return [main]

    def job(self, node: Node) -> list[ast.stmt]:
        kind = self.job_type(node)
        name, body = self.root.pairs.get("body", (None, None))
        if not isinstance(body, Pairs):
            self.problem("SR704", body or node, "a job has a `body`: host, name, image, args …")
            return write("pass", node.place)
        assert name is not None
        if kind is not None:
            literals = {key: self.known(value, kind.keys.get(key)) for key, (_, value) in body.pairs.items()}
            for mistake in mistakes(kind, literals):
                self.mistake(mistake, name, body)
        place = (body.get("action") or node).place
        run = located(ast.Call(ast.Name("run", ast.Load()), [], self.arguments(body, kind)), place)
        ok, failed = self.tasks_then()
        check = ast.Constant(failed is None)
        written = write("result = wait(RUN, check=CHECK)", place, RUN=run, CHECK=check)
        written += write("output = result.output", place)
        written += write(_FIELDS, place) if ok or failed else []
        self.then = {part: f"result.{part}" for part in RESULT}
        if failed is None:
            written += self.emits(ok)
        else:
            (choice,) = write("if result.status == 'done': pass\nelse: pass", self.root.pairs["then"][0].place)
            assert isinstance(choice, ast.If)
            vars(choice.test)["outcome"] = True  # for the analysis: `ok` and `failed` are what is written here
            choice.body = self.emits(ok) or choice.body
            choice.orelse = self.emits(failed) or choice.orelse
            written.append(choice)
        return [*written, *write("return output", place)]

    def call(self, node: Node) -> list[ast.stmt]:
        name = self.task_name(node)
        data = self.root.get("data")
        fields: ast.expr = ast.Name("task", ast.Load())
        if data is not None:
            fields = self.fields(data)
        value = located(_with_fields("call", name, fields), node.place)
        ok, failed = self.tasks_then()
        written = write("output = CALL", node.place, CALL=value)
        after = write(_FIELDS, node.place) if ok else []
        self.then = {"output": "output"}
        after += self.emits(ok)
        after += write("return output", node.place)
        if failed is None:
            return [*written, *after]
        (guarded,) = write("try: pass\nexcept CallFailed as error: pass\nelse: pass", node.place)
        assert isinstance(guarded, ast.Try)
        reasons = write("fields = {}\nreason = str(error)", node.place)
        self.then = {"reason": "reason"}
        guarded.body, guarded.orelse = written, after
        guarded.handlers[0].body = [*reasons, *self.emits(failed)]
        return [guarded]

    def forward(self, node: Node) -> list[ast.stmt]:
        """No job and no call: the task's own data go on."""
        ok, failed = self.tasks_then()
        if failed is not None:
            self.problem("SR705", node, "there is no outcome to branch on.", "Add `type` or `call`, or list the tasks.")
        return self.emits(ok, "task") or write("pass", node.place)

    # ---- jobs

    def job_type(self, node: Node) -> JobType | None:
        name = self.text(node, "`type`")
        if name is None or self.types is None:
            return None
        if name not in self.types:
            self.problem("SR706", node, *unknown_type(name, self.types))
        return self.types.get(name)

    def mistake(self, mistake: Mistake, name: Scalar, body: Pairs) -> None:
        key, value = body.pairs[mistake.key] if mistake.key is not None else (name, name)
        where = key if mistake.kind in ("unknown", "missing") else value
        self.problem(_CODES[mistake.kind], where, mistake.message, mistake.hint)

    def known(self, node: Node, wanted: str | None) -> Any:
        """A value as far as it is known now."""
        if isinstance(node, Pairs):
            return COMPUTED if self.reference_of(node) else {}
        if isinstance(node, Items):
            return []
        assert isinstance(node, Scalar)
        value = plain_value(node)
        return node.text if wanted == TEXT and value is not None else value

    def arguments(self, body: Pairs, kind: JobType | None) -> list[ast.keyword]:
        """The body as the keyword arguments of run()."""
        found = []
        kinds = kind.keys if kind is not None else COMMON
        for key, (name, node) in body.pairs.items():
            if key == "action" or (kind is not None and key not in kinds) or not key.isidentifier():
                continue
            if key == "host" and isinstance(node, Scalar) and kind is not None:
                self.hosts.append(metadata.HostUse(node.text, kind.name, kind.executor, *_ends(node.place)))
            value = self.texts(key, node) if key in TEXTS else self.value(node, as_text=kinds.get(key) == TEXT)
            found.append(located(ast.keyword(key, value), name.place))
        lacking = [key for key in REQUIRED if key not in body.pairs]  # which is told, but not as a wrong call of run()
        return found + [located(ast.keyword(key, ast.Constant("")), body.place) for key in lacking]

    def texts(self, key: str, node: Node) -> ast.expr:
        """`args`, `env` and `secret_files`: each scalar is the text that is written there."""
        if key == "args" and isinstance(node, Items):
            items: list[ast.expr] = []
            for item in node.items:
                items += self.argument(item)
            return located(ast.List(items, ast.Load()), node.place)
        if key != "args" and isinstance(node, Pairs) and not self.reference_of(node):
            keys: list[ast.expr | None] = []
            values: list[ast.expr] = []
            for variable, (name, value) in node.pairs.items():
                keys.append(located(ast.Constant(variable), name.place))
                values.append(self.one_text(value, f"a value of `{key}`"))
            return located(ast.Dict(keys, values), node.place)
        return self.value(node)

    def argument(self, node: Node) -> list[ast.expr]:
        if isinstance(node, Pairs) and (kind := self.reference_of(node)):
            return self.reference(node, kind)
        if isinstance(node, Scalar) and re.search(r"\s", node.text):
            message = "this argument has a space in it: an item of `args` is one argument, literally."
            self.problem("SR407", node, message, "Write one item for each argument.")
        return [self.one_text(node, "an argument")]

    def one_text(self, node: Node, what: str) -> ast.expr:
        if isinstance(node, Pairs) and self.reference_of(node):
            return self.value(node)
        if not isinstance(node, Scalar) or (node.plain and not node.text):
            message = f"{what} is a text, a number, or one of {{type: data|load, …}}."
            self.problem("SR705", node, message, "Write one value here, and no list or mapping.")
            return located(ast.Constant(""), node.place)
        return located(ast.Constant(node.text), node.place)

    # ---- what follows

    def tasks_then(self) -> tuple[list[_Task], list[_Task] | None]:
        """The tasks after a good end, and those after a failure; None where a failure is not provided for."""
        ok: list[_Task] = []
        failed: list[_Task] | None = None
        todo = [self.root.pairs["then"][1]] if "then" in self.root.pairs else []
        while todo:
            node = todo.pop(0)
            branch = node.get("branch") if isinstance(node, Pairs) else None
            if isinstance(node, Pairs) and branch is not None:
                self.check_keys(node, ("branch",), "A branch")
                if not isinstance(branch, Pairs) or not branch.pairs:
                    self.problem("SR705", branch, "a branch has `ok`, `failed`, or both.", "Write {ok: …, failed: …}.")
                    continue
                self.check_keys(branch, OUTCOMES, "A branch")
                ok += self.tasks(branch.get("ok"))
                if "failed" in branch.pairs:
                    failed = (failed or []) + self.tasks(branch.get("failed"))
            elif isinstance(node, Items):
                todo[:0] = node.items
            else:
                ok += self.tasks(node)
        return ok, failed

    def tasks(self, node: Node | None) -> list[_Task]:
        """The tasks of a Type or of a List."""
        if node is None:
            return []
        if isinstance(node, Items):
            return [task for item in node.items for task in self.tasks(item)]
        data = None
        name: Node | None = node
        if isinstance(node, Pairs):
            name, data = node.get("task"), node.get("data")
            known = ("task", "data") if name is not None else ("task", "data", "branch")
            if self.check_keys(node, known, "A task of `then`") and name is None:
                self.problem("SR704", node, "a task of `then` has a `task`: its name.", "Write {task: NAME, data: …}.")
            if name is None:
                return []
        assert name is not None
        text = self.task_name(name)
        self.follows.append(metadata.Follow(text, *_ends(name.place)))
        return [_Task(text, data, name.place)]

    def task_name(self, node: Node) -> str:
        name = self.text(node, "the name of a task")
        if name is not None and (not NAME.match(name) or len(name) > NAME_MAX):
            self.problem("SR705", node, f"{name[:80]!r} is not the name of a task.", _PATTERN)
        return name or ""

    def emits(self, tasks: list[_Task], otherwise: str = "fields") -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for task in tasks:
            fields = self.fields(task.data) if task.data is not None else ast.Name(otherwise, ast.Load())
            emit = _with_fields("emit", task.name, fields)
            emit.via = VIA  # type: ignore[attr-defined]
            found.append(located(ast.Expr(emit), task.place))
        return found

    # ---- values

    def reference_of(self, node: Pairs) -> str | None:
        """Which reference a mapping is, if it is one; one that is nearly one is a slip."""
        kind = node.get("type")
        if not isinstance(kind, Scalar):
            return None
        if kind.text in REFERENCES:
            return kind.text
        if node.pairs.keys() <= {"type", "name", "default"} and difflib.get_close_matches(kind.text, REFERENCES, 1):
            message = f"there is no value of type {kind.text!r}{nearest(kind.text, REFERENCES)}"
            self.problem("SR706", kind, message, "An object that is meant so is {type: literal, value: {…}}.")
        return None

    def value(self, node: Node, as_text: bool = False) -> ast.expr:
        """A value with its references; several names give a list."""
        if isinstance(node, Scalar):
            return located(self.constant(node, as_text), node.place)
        if isinstance(node, Items):
            return located(ast.List([self.value(item) for item in node.items], ast.Load()), node.place)
        assert isinstance(node, Pairs)
        kind = self.reference_of(node)
        if kind is None:
            return self.mapping(node, self.value)
        values = self.reference(node, kind)
        several = isinstance(node.get("name"), Items)
        return located(ast.List(values, ast.Load()), node.place) if several else values[0]

    def fields(self, node: Node) -> ast.expr:
        """The data of a task."""
        if not isinstance(node, Pairs):
            self.problem("SR705", node, "`data` is not a mapping.", "Write {field: value}.")
        return self.value(node)

    def mapping(self, node: Pairs, value: Callable[[Node], ast.expr]) -> ast.expr:
        keys: list[ast.expr | None] = [located(ast.Constant(key), name.place) for key, (name, _) in node.pairs.items()]
        return located(ast.Dict(keys, [value(one) for _, one in node.pairs.values()]), node.place)

    def reference(self, node: Pairs, kind: str) -> list[ast.expr]:
        """The values that a reference stands for, one for each of its names."""
        nothing: list[ast.expr] = [located(ast.Constant(None), node.place)]
        if kind == "literal":
            self.check_keys(node, ("type", "value"), "A literal")
            value = node.get("value")
            if value is None:
                self.problem("SR704", node, "a literal has a `value`.", "Write {type: literal, value: …}.")
            return nothing if value is None else [self.literal(value)]
        if kind in IN_THEN and not self.then:
            self.problem("SR705", node, f"`{kind}` is known in `then` only.", "Use {type: data, …} or {type: load, …}.")
            return nothing
        optional = ("default",) if kind != "result" else ()
        self.check_keys(node, ("type", "name", *optional), f"A value of type `{kind}`")
        names = node.get("name")
        if names is None:
            if kind == "output":
                return [self.known_in_then("output", node)]
            self.problem("SR704", node, f"a value of type `{kind}` has a `name`.", f"Write {{type: {kind}, name: …}}.")
            return nothing
        if isinstance(names, Items) and names.items:
            return [self.referred(kind, one, node) for one in names.items]
        return [self.referred(kind, names, node)]

    def referred(self, kind: str, name: Node, node: Pairs) -> ast.expr:
        text = self.text(name, "`name`")
        if text is None:
            return located(ast.Constant(None), name.place)
        if kind == "result":
            return self.known_in_then(text, name)
        written = {
            ("data", False): "task[NAME]",
            ("data", True): "task.get(NAME, DEFAULT)",
            ("load", False): "load(NAME)",
            ("load", True): "load(NAME, default=DEFAULT)",
            ("output", False): "fields[NAME]",
            ("output", True): "fields.get(NAME, DEFAULT)",
        }[kind, "default" in node.pairs]
        default = node.get("default")
        (statement,) = write(
            written,
            name.place,
            NAME=ast.Constant(text),
            DEFAULT=self.literal(default) if default is not None else ast.Constant(None),
        )
        assert isinstance(statement, ast.Expr)
        return statement.value

    def known_in_then(self, name: str, node: Node) -> ast.expr:
        found = self.then.get(name)
        if found is None:
            known = ", ".join(self.then)
            self.problem("SR703", node, f"nothing here has a {name!r}{nearest(name, self.then)}", f"Known: {known}.")
            return located(ast.Constant(None), node.place)
        (statement,) = write(found, node.place)
        assert isinstance(statement, ast.Expr)
        return statement.value

    def literal(self, node: Node) -> ast.expr:
        """A value in which nothing is a reference."""
        if isinstance(node, Scalar):
            return located(self.constant(node, False), node.place)
        if isinstance(node, Items):
            return located(ast.List([self.literal(item) for item in node.items], ast.Load()), node.place)
        assert isinstance(node, Pairs)
        return self.mapping(node, self.literal)

    def constant(self, node: Scalar, as_text: bool) -> ast.Constant:
        value = plain_value(node)
        if as_text and value is not None:
            value = node.text
        if type(value) is int and not -(2**63) <= value < 2**63:
            self.problem("SR705", node, "the number has more than 64 bits.", "Write it in quotes, as a text.")
            value = 0
        elif type(value) is float and not math.isfinite(value):
            self.problem("SR705", node, "the number is too large.", "Write it in quotes, as a text.")
            value = 0.0
        return ast.Constant(value)

    def text(self, node: Node, what: str) -> str | None:
        if isinstance(node, Scalar) and node.text:
            return node.text
        self.problem("SR705", node, f"{what} is not a text.", "Write a text.")
        return None

    # ---- the filter

    def filter(self, name: Scalar, node: Node) -> list[ast.stmt]:
        text = self.text(node, "`when`")
        if text is None:
            return []
        assert isinstance(node, Scalar)
        self.when = text.strip()
        start = self.start_of(node)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expression = ast.parse(self.when, mode="eval").body
        except SyntaxError as error:
            line, column = error.lineno or 1, max((error.offset or 1) - 1, 0)
            at = _shifted(Place(line, column, line, column + 1), node.place, start)
            hint = 'Write a condition, such as task["size"] > 0.'
            self.problems.append(diagnostic("SR101", f"{error.msg}, in `when`", at, hint))
            return []
        except (ValueError, RecursionError, MemoryError):
            self.problem("SR102", node, "the condition cannot be read: it is nested too deep.")
            return []
        for part in ast.walk(expression):
            if isinstance(part, (ast.expr, ast.arg, ast.keyword)):
                ends = part.end_lineno or part.lineno, part.end_col_offset or part.col_offset
                move(part, _shifted(Place(part.lineno, part.col_offset, *ends), node.place, start))
        (assigned,) = write("when = lambda task: CONDITION", name.place, CONDITION=expression)
        return [assigned]

    def start_of(self, node: Scalar) -> int | None:
        """The column in which the condition begins; None where the file has it in another way, such as with escapes."""
        assert self.when is not None
        line = self.lines[node.place.line - 1].encode("utf-8", "replace")
        start = line.find(self.when.encode("utf-8", "replace"), node.place.column)
        return None if start < 0 or "\n" in self.when else start

    # ---- problems

    def check_keys(self, node: Pairs, known: tuple[str, ...], what: str) -> bool:
        """Whether a mapping has only keys that are known; one that is not is told."""
        for key, (name, _) in node.pairs.items():
            if key not in known:
                message = f"{what} has no key {key[:80]!r}{nearest(key[:80], known)}"
                self.problem("SR703", name, message, f"Known: {', '.join(known)}.")
        return node.pairs.keys() <= set(known)

    def problem(self, code: str, node: Node | None, message: str, hint: str = "") -> None:
        self.problems.append(diagnostic(code, message, node.place if node else Place(1, 0, 1, 0), hint))


def _shifted(place: Place, whole: Place, start: int | None) -> Place:
    """A place within a condition that begins in a column as one of the file; else that of the whole."""
    if start is None or place.line != 1 or place.end_line != 1:
        return whole
    return Place(whole.line, start + place.column, whole.line, start + place.end_column)


def _with_fields(function: str, name: str, fields: ast.expr) -> ast.Call:
    """A call with a task's name, and its fields."""
    nothing = isinstance(fields, ast.Dict) and not fields.keys
    keywords = [] if nothing else [ast.keyword(None, fields)]
    return ast.Call(ast.Name(function, ast.Load()), [ast.Constant(name)], keywords)


def _ends(place: Place) -> tuple[int, int, int, int]:
    return place.line, place.column, place.end_line, place.end_column
