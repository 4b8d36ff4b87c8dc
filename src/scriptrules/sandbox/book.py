"""The rulebook inside a worker: compiled sources, the index of the active ones, filters, and what to call in a run."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import Any

import msgspec

from scriptrules.diagnostics import Diagnostic, Rejected, is_warning
from scriptrules.function import FunctionSpec
from scriptrules.jobs import JobType
from scriptrules.model import Failure
from scriptrules.rulebook import breakpoints, declarative, ignores, metadata
from scriptrules.rulebook import names as checker
from scriptrules.rulebook.composing import comments as yaml_comments
from scriptrules.rulebook.files import is_declarative
from scriptrules.rulebook.index import Index, is_literal
from scriptrules.sandbox import explaining, jobs, policy, signals
from scriptrules.sandbox.formatting import scrub, to_repr, to_text
from scriptrules.sandbox.handles import NewTask
from scriptrules.sandbox.script import Program, RuleScope, line_of
from scriptrules.sandbox.tasks import EntryView, MissingField, TaskMapping
from scriptrules.sandbox.wire import Budget, Explain, Explained, Judge, Judged, Load, Problem, TaskView, with_reasons

decode = msgspec.json.decode
TABLE_SEPARATOR = ":"  # between a file's rule name and the name of an entry of its table


class Plan:
    """One rule that can match: a file with `main`, or an entry of a table."""

    __slots__ = (
        "fallback",
        "filter",
        "final",
        "limited",
        "literals",
        "patterns",
        "priority",
        "program",
        "rank",
        "rule",
        "table",
    )

    def __init__(self, program: Program, facts: metadata.Metadata, table: metadata.TableEntry | None) -> None:
        self.program = program
        self.rule = program.rule
        self.patterns = facts.on
        self.priority = facts.priority
        self.final = facts.final
        self.limited = facts.limit is not None
        self.fallback = table.nomatch if table else facts.nomatch
        self.literals = frozenset(pattern for pattern in facts.on if is_literal(pattern))
        self.rank = (-self.priority, self.rule)
        self.table = table
        self.filter: Callable[[dict[str, Any]], Any] | None = None
        if table is not None:
            column = "nomatch" if table.nomatch else "rules"
            self.filter = lambda names: names[column][table.index][1]
        elif facts.when is not None:
            self.filter = lambda names: names["when"]


class Compiled:
    """A source that the policy has accepted; `warnings` are what its author should look at."""

    def __init__(self, load: Load, words: checker.Words) -> None:
        comments = yaml_comments if is_declarative(load.file) else ignores.python_comments
        try:
            compiled, self.facts, found = (_declared if is_declarative(load.file) else _written)(load, words)
        except Rejected as error:
            raise Rejected(ignores.apply(load.text, error.diagnostics, False, comments)) from None
        libraries: dict[str, CodeType] = {}
        trees: dict[str, ast.Module | None] = {}
        texts: dict[str, str] = {}
        for name, text in load.libraries.items():
            file = f"{load.file.split('/')[0]}/lib/{name}.py"
            texts[file] = text
            try:
                library = policy.compile_source(text, file)
                libraries[name], trees[name] = library.code, library.tree
            except Rejected as error:
                found += [msgspec.structs.replace(problem, file=file) for problem in error.diagnostics]
                trees[name] = None
        found = ignores.apply(load.text, [*found, *checker.read(compiled.tree, words, trees)], comments=comments)
        if not all(is_warning(problem.code) for problem in found):
            raise Rejected(sorted(found, key=lambda problem: is_warning(problem.code)))
        self.warnings = found
        self.plans: list[Plan] = []
        for table in self.facts.table or (None,):
            rule = f"{load.rule}{TABLE_SEPARATOR}{table.name}" if table else load.rule
            enter = _enter_table(table) if table else _enter_main(self.facts)
            program = Program(rule, load.file, load.text, compiled.code, libraries, texts, enter)
            self.plans.append(Plan(program, self.facts, table))

    def plan(self, rule: str) -> Plan | None:
        """The plan with this rule's name."""
        return next((plan for plan in self.plans if plan.rule == rule), None)


def _written(load: Load, words: checker.Words) -> tuple[policy.Compiled, metadata.Metadata, list[Diagnostic]]:
    """A rule in Python: its code, what it says of itself, and what is wrong with that."""
    try:
        compiled = policy.compile_source(load.text, load.file)
    except Rejected as error:
        raise Rejected([*error.diagnostics, *_metadata_problems(load, words)]) from None
    return compiled, *_read_metadata(compiled.tree, load, words)


def _declared(load: Load, words: checker.Words) -> tuple[policy.Compiled, metadata.Metadata, list[Diagnostic]]:
    """A rule in YAML, by the tree that it stands for."""
    form = declarative.read(load.text, words.jobs)
    facts, found = metadata.read(form.make(), load.text, load.rule)
    found = [*form.problems, *map(declarative.in_yaml, found)]
    try:
        compiled = policy.compile_tree(form.make, load.file)
    except Rejected as error:
        raise Rejected([*error.diagnostics, *found]) from None
    return compiled, form.facts(facts, load.text), found


def _read_metadata(tree: ast.Module, load: Load, words: checker.Words) -> tuple[metadata.Metadata, list[Diagnostic]]:
    """What a rule, or a breakpoint, in Python says of itself."""
    if breakpoints.is_breakpoint(load.rule):
        entries = [name for name, function in words.functions.items() if function.entry]
        return breakpoints.read(tree, load.text, entries)
    return metadata.read(tree, load.text, load.rule)


def _metadata_problems(load: Load, words: checker.Words) -> list[Diagnostic]:
    """What else is wrong with a file whose code is refused, so that its author hears of everything at once."""
    try:
        return _read_metadata(ast.parse(load.text), load, words)[1]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # the policy has said that it is no Python


def _enter_main(facts: metadata.Metadata) -> Callable[[dict[str, Any], TaskView], Any]:
    """Binds a task's data to the parameters of `main` by name, and calls it."""
    known = frozenset(parameter.name for parameter in facts.parameters)
    required = [parameter.name for parameter in facts.parameters if parameter.required and parameter.name != "task"]
    wants_task = "task" in known

    def enter(names: dict[str, Any], view: TaskView) -> Any:
        data = decode(view.data)
        for name in required:
            if name not in data:
                raise TypeError(f"main() needs {name!r}, and task {view.name} has no such field")
        fields = data if facts.rest else {name: value for name, value in data.items() if name in known}
        if wants_task:
            fields["task"] = TaskMapping(view)
        return jobs.perform(names["main"](**fields))

    return enter


def _enter_table(table: metadata.TableEntry) -> Callable[[dict[str, Any], TaskView], Any]:
    """Calls the generator of a table's entry; each mapping that it gives is a new task."""

    def enter(names: dict[str, Any], view: TaskView) -> Any:
        generate = names["nomatch" if table.nomatch else "rules"][table.index][2]
        generated = generate(TaskMapping(view))
        tasks = []
        for item in [generated] if type(generated) is dict else generated or ():
            if type(item) is not dict:
                raise TypeError(f"the generator of {table.name!r} gave a {type(item).__name__}; it must give dicts")
            data = dict(item)
            tasks.append(NewTask(data.pop("task", table.name), data))
        return tasks

    return enter


class Match(msgspec.Struct):
    plans: list[Plan]
    reasons: dict[str, str]
    problem: Problem | None = None


class Book:
    """The active rules of an epoch, and every source that runs may still be pinned to."""

    def __init__(
        self,
        builtins: dict[str, Any],
        budget: Budget,
        announce: Callable[[str], None],
        functions: Iterable[FunctionSpec] = (),
        types: Iterable[JobType] = (),
    ) -> None:
        self.epoch = 0
        self.compiled: dict[str, Compiled] = {}
        self._builtins = builtins
        self._types = {one.name: one for one in types}
        self._words = checker.Words(frozenset(builtins), {spec.name: spec for spec in functions}, self._types)
        self._budget = budget
        self._announce = announce  # called with a rule's name before its filter is executed
        self._active: dict[str, str] = {}
        self._index: tuple[Index[Plan], Index[Plan]] | None = None
        self._digests: dict[int, str] = {}
        self._pure: dict[int, tuple[RuleScope, Any]] = {}  # filters that can be kept, by plan

    def load(self, load: Load) -> tuple[metadata.Metadata | None, list[Diagnostic]]:
        """Compile a source and keep it under its digest.

        Returns:
            What it says of itself, and warnings; or None, and what is wrong with it.
        """
        try:
            compiled = Compiled(load, self._words)
        except Rejected as error:
            return None, error.diagnostics[:100]
        self.compiled[load.digest] = compiled
        return compiled.facts, compiled.warnings[:100]

    def change(self, epoch: int, put: dict[str, str], drop: list[str]) -> None:
        """Make rules active, or inactive."""
        self.epoch = epoch
        self._active.update(put)
        for rule in drop:
            self._active.pop(rule, None)
        self._index = None

    def forget(self, digests: list[str]) -> None:
        for digest in digests:
            if digest not in self._active.values():
                self.compiled.pop(digest, None)

    def digest_of(self, plan: Plan) -> str:
        return self._digests[id(plan)]

    def match(self, view: TaskView) -> Match:
        """The rules that match a task, best first; fallbacks where no other rule does."""
        index, fallbacks = self._index or self._build()
        match = self._match(index.candidates(view.name), view, {})
        if not match.plans and match.problem is None:
            reasons = match.reasons
            if fallback_plans := fallbacks.candidates(view.name):
                told = with_reasons(view, reasons) if reasons else view
                match = self._match(fallback_plans, told, reasons)
        return match

    def _build(self) -> tuple[Index[Plan], Index[Plan]]:
        plans = []
        self._digests = {}
        self._pure = {}
        for digest in self._active.values():
            compiled = self.compiled[digest]
            if compiled.facts.enabled:
                for plan in compiled.plans:
                    self._digests[id(plan)] = digest
                    plans.append(plan)
        self._index = (
            Index(((plan.patterns, plan) for plan in plans if not plan.fallback), rank=_rank),
            Index(((plan.patterns, plan) for plan in plans if plan.fallback), rank=_rank),
        )
        return self._index

    def _match(self, candidates: list[Plan], view: TaskView, reasons: dict[str, str]) -> Match:
        matched: list[Plan] = []
        floor: int | None = None  # the priority of a final rule that matched
        for plan in candidates:
            if floor is not None and plan.priority < floor:
                break
            if plan.table is not None and view.by == plan.rule:
                reasons[plan.rule] = "it generated this task itself"
                continue
            if plan.filter is not None:
                self._announce(plan.rule)
                reason = self._evaluate(plan, lambda: TaskMapping(view))
                if isinstance(reason, Problem):
                    return Match([], reasons, reason)
                if reason is not None:
                    reasons[plan.rule] = reason
                    continue
            matched.append(plan)
            if plan.final:
                floor = plan.priority
        return Match(matched, reasons)

    def explain(self, request: Explain) -> Explained:
        """Whether a rule's filter holds for a task, part by part."""
        compiled = self.compiled.get(request.digest)
        plan = compiled.plan(request.rule) if compiled else None
        if plan is None:
            return Explained(request.number, "it does not compile any more")
        if plan.filter is None:
            return Explained(request.number, None)
        self._announce(plan.rule)
        reason = self._evaluate(plan, lambda: TaskMapping(request.task))
        problem = None
        if isinstance(reason, Problem):
            problem, reason = reason.kind, f"{reason.error.type}: {reason.error.message}"
        program = plan.program

        def scope() -> RuleScope:
            return RuleScope(self._builtins, program.libraries, self._budget.steps)

        parts = explaining.explain(self._tree_of(program), program.file, plan.table, request.task, scope)
        return Explained(request.number, reason, parts, problem)

    def _tree_of(self, program: Program) -> Callable[[], ast.Module]:
        text = program.texts[program.file]
        if is_declarative(program.file):
            return declarative.read(text, self._types).make
        return lambda: ast.parse(text)

    def judge(self, request: Judge) -> Judged:
        """Whether a breakpoint holds a task, or an entry of a run."""
        compiled = self.compiled.get(request.digest)
        if compiled is None:
            lost = Failure("Refused", "it does not compile any more")
            return Judged(request.number, False, Problem(request.name, "match_error", lost))
        (plan,) = compiled.plans
        if plan.filter is None:
            return Judged(request.number, True)
        entry = request.entry
        self._announce(plan.rule)
        reason = self._evaluate(plan, lambda: EntryView(request.task, entry) if entry else TaskMapping(request.task))
        if isinstance(reason, Problem):
            return Judged(request.number, False, reason)
        return Judged(request.number, reason is None)

    def _evaluate(self, plan: Plan, subject: Callable[[], Any]) -> str | Problem | None:
        """None where the filter holds; why it does not; or why it cannot be said."""
        scope, predicate = self._pure.get(id(plan), (None, None))
        kept = scope is not None
        if scope is None:
            scope = RuleScope(self._builtins, plan.program.libraries, self._budget.steps)
        signals.current = scope
        scope.steps = self._budget.steps
        try:
            if predicate is None:
                names = scope.execute(plan.program.code, plan.rule)
                assert plan.filter is not None
                predicate = plan.filter(names)
                if _is_pure(predicate, names):
                    self._pure[id(plan)] = scope, predicate
                    kept = True
            return None if predicate(subject()) else "its filter does not hold"
        except MissingField as error:
            return f"the task has no field {to_repr(error.args[0])[:200]}"
        except signals.LimitExceeded as error:
            return self._problem(plan, "match_limit", error, f"{error.kind}: {error.message}")
        except MemoryError as error:
            return self._problem(plan, "match_limit", error, "memory: more memory than a worker has", fatal=True)
        except RecursionError as error:
            return self._problem(plan, "match_limit", error, "recursion: nested too deep")
        except Exception as error:
            return self._problem(plan, "match_error", error, scrub(to_text(error))[:1000])
        finally:
            scope.dead = not kept

    @staticmethod
    def _problem(plan: Plan, kind: str, error: BaseException, message: str, fatal: bool = False) -> Problem:
        name = "LimitExceeded" if kind == "match_limit" else type(error).__name__
        line = line_of(error.__traceback__, plan.program.file)
        return Problem(plan.rule, kind, Failure(name, message, line=line), fatal)


def _rank(plan: Plan) -> tuple[int, str]:
    return plan.rank


def _is_pure(predicate: Any, names: dict[str, Any]) -> bool:
    """Whether a filter can be kept from one task to the next: it reaches nothing that could remember the last one."""
    if not isinstance(predicate, FunctionType) or predicate.__globals__ is not names:
        return False  # such as a filter of a library, whose globals are its own
    if predicate.__defaults__ or predicate.__kwdefaults__ or predicate.__closure__:
        return False
    todo = [predicate.__code__]
    while todo:
        code = todo.pop()
        if any(name == "_import_" or (name in names and name != "_fuel_") for name in code.co_names):
            return False
        todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return True
