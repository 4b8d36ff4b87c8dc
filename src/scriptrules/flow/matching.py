"""Conditions of statements, and `match`: which cases can be taken, and what each binds."""

from __future__ import annotations

import ast

from scriptrules.flow.atoms import OTHERWISE
from scriptrules.flow.conditions import negated
from scriptrules.flow.core import Dead
from scriptrules.flow.effects import Effect, Fails, Falls, Path, Split, settle
from scriptrules.flow.expressions import Expressions
from scriptrules.flow.patterns import captures, compiled, label_of
from scriptrules.flow.values import EITHER, NONE, Lost, State, Value, Way, merge, opaque


class Matching(Expressions):
    def apart_decide(self, test: ast.expr, state: State) -> tuple[Path, State | None, State | None]:
        """The effects of a condition, and the states in which it is true and false."""
        before, effects, pending = self.state, self.effects, self.pending
        self.state, self.effects, self.pending = state, [], []
        try:
            try:
                true, false = self.decide(test)
            except Dead:
                self.thrown()
                return Path(tuple(self.effects), Fails()), None, None
            return Path(tuple(self.effects), Falls(state)), true, false
        finally:
            self.state, self.effects, self.pending = before, effects, pending

    def match_(self, node: ast.Match, state: State) -> Path:
        base = state.facts
        subject: Value = NONE

        def evaluate() -> Value:
            nonlocal subject
            subject = self.used(node.subject)
            return subject

        value, state, effects = self.apart(state, evaluate)
        if value is None:
            return Path(effects, Fails())
        named = ast.unparse(node.subject)
        paths: list[tuple[str | None, Path]] = []
        rest: State | None = state
        labels: list[str] = []
        for case in node.cases:
            if rest is None:
                break
            made, true, false = self.apart_decide_case(case, named, subject, rest)
            if true is not None:
                anything = false is None
                label = label_of(case, named)
                if anything:
                    label = self.closing(labels)
                paths.append((label, self.captured(case, subject, true, made)))
                labels.append(label)
            rest = false
        if rest is not None:
            paths.append((self.closing(labels), Path((), Falls(rest))))
        if len(paths) == 1:
            return Path((*effects, *paths[0][1].effects), paths[0][1].end)
        return settle(Path(effects, Split(tuple(paths), base)))

    def closing(self, labels: list[str]) -> str:
        """The label of the last case."""
        if len(labels) != 1 or labels[0].startswith("case "):
            return OTHERWISE if len(labels) != 1 else f"not {labels[0]}"
        return negated(ast.parse(labels[0], mode="eval").body)

    def apart_decide_case(
        self, case: ast.match_case, named: str, subject: Value, state: State
    ) -> tuple[tuple[Effect, ...], State | None, State | None]:
        """Whether a case is taken: the states in which it is, and in which it is not."""
        before = self.state
        self.state = state.copy()
        try:
            test = compiled(
                case.pattern, lambda name, one: self.spread([subject], lambda a: self.compare(name, a, one))
            )
            true: State | None
            false: State | None
            if test is True or test is None:
                true, false = self.state.copy(), None if test is True else self.state.copy()
            else:
                assert not isinstance(test, bool)
                true, false = self.truths(test)
        except Dead:
            true, false = None, state
        finally:
            self.state = before
        if true is None or case.guard is None:
            return (), true, false
        for name in captures(case.pattern):
            self.bind_in(true, name, subject, case.pattern)
        made, held, failed = self.apart_decide(case.guard, true)
        others = [one for one in (false, failed) if one is not None]
        rest = merge([Way(EITHER, one) for one in others], state.facts)[0] if others else None
        return made.effects, held, rest

    def bind_in(self, state: State, name: str, subject: Value, pattern: ast.pattern) -> None:
        before, self.state = self.state, state
        try:
            whole = isinstance(pattern, ast.MatchAs) and pattern.name == name
            self.write(name, subject if whole else self.part_of(subject, pattern, name))
        finally:
            self.state = before

    def part_of(self, subject: Value, pattern: ast.pattern, name: str) -> Value:
        """What a name in a pattern gets."""
        items = self.items(subject)
        if isinstance(pattern, ast.MatchSequence) and items is not None and items.exact:
            found = items.items if len(pattern.patterns) == len(items.items) else ()
            for inner, (item, _) in zip(pattern.patterns, found, strict=False):
                if isinstance(inner, ast.MatchAs) and inner.name == name and inner.pattern is None:
                    return item
        if isinstance(pattern, ast.MatchMapping):
            for key, inner in zip(pattern.keys, pattern.patterns, strict=True):
                if isinstance(inner, ast.MatchAs) and inner.name == name and inner.pattern is None:
                    try:
                        return self.spread(
                            [subject, self.evaluate(key)],
                            lambda one, at: self.subscript(one, at, ast.unparse(key)),  # noqa: B023
                        )
                    except Dead:
                        return opaque("a part of what was matched")
        return Lost("a part of what was matched") if self.carries(subject) else opaque("a part of what was matched")

    def captured(self, case: ast.match_case, subject: Value, state: State, made: tuple[Effect, ...]) -> Path:
        if case.guard is None:
            for name in captures(case.pattern):
                self.bind_in(state, name, subject, case.pattern)
        path = self.block(case.body, state)
        return Path((*made, *path.effects), path.end)
