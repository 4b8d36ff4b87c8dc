"""What declarative rules say that a single file cannot tell: hosts that are not there, and circles among files.

They are looked at outside of workers, where the configuration and the other rules are known, from metadata that hold
names and places and no code.
"""

from __future__ import annotations

from collections.abc import Mapping

from scriptrules.diagnostics import CODES, Diagnostic
from scriptrules.errors import nearest
from scriptrules.jobs import elsewhere
from scriptrules.rulebook.index import Index
from scriptrules.rulebook.metadata import Follow, Metadata


def unknown_hosts(facts: Metadata, kinds: Mapping[str, str]) -> list[Diagnostic]:
    """What is wrong with the hosts of a rule's jobs.

    Args:
        facts: of the rule.
        kinds: the kind of executor of each configured host.
    """
    found = []
    for use in facts.hosts:
        place = use.line, use.column, use.end_line, use.end_column
        kind = kinds.get(use.host)
        if kind is None:
            known = ", ".join(sorted(kinds)) or "none"
            message = f"there is no host {use.host!r}{nearest(use.host, kinds)}"
            hint = f"Add [hosts.{use.host}] to scriptrules.toml. Configured: {known}."
        elif kind != use.executor:
            message = elsewhere(use.type, use.executor, use.host, kind)
            fitting = ", ".join(sorted(host for host in kinds if kinds[host] == use.executor)) or "none"
            hint = f"Hosts of this kind: {fitting}."
        else:
            continue
        found.append(Diagnostic("SR707", message, *place, hint=hint))
    return found


def circles(rules: Mapping[str, Metadata]) -> dict[str, list[Diagnostic]]:
    """Circles in what the `then` of declarative rules names: a warning for each, by the rule where it is told.

    Args:
        rules: what each rule says of itself.
    """
    forms = {rule: facts for rule, facts in rules.items() if facts.then and facts.enabled and not facts.nomatch}
    index = Index(((facts.on, rule) for rule, facts in forms.items()), rank=str)
    edges = {
        rule: {after: follow for follow in reversed(facts.then) for after in index.candidates(follow.task)}
        for rule, facts in forms.items()
    }
    found: dict[str, list[Diagnostic]] = {}
    told: set[str] = set()
    for rule in sorted(forms):
        circle = _shortest(rule, edges) if rule not in told else []
        told.update(circle)
        follows = [edges[one][after] for one, after in zip(circle, [*circle[1:], rule], strict=True)] if circle else []
        if follows and not any(follow.circle for follow in follows):
            found[rule] = [_warning(circle, follows[0])]
    return found


def _shortest(rule: str, edges: Mapping[str, Mapping[str, Follow]]) -> list[str]:
    """The rules of the shortest circle that begins with `rule`; empty where there is none."""
    before: dict[str, str] = {}
    todo = [rule]
    for one in todo:
        for after in edges[one]:
            if after == rule:
                path = [one]
                while path[-1] != rule:
                    path.append(before[path[-1]])
                return path[::-1]
            if after not in before:
                before[after] = one
                todo.append(after)
    return []


def _warning(circle: list[str], follow: Follow) -> Diagnostic:
    way = " → ".join([*circle, circle[0]])
    message = f"`then` goes in a circle: {way}." if len(circle) > 1 else f"`then` starts this rule again: {way}."
    place = follow.line, follow.column, follow.end_line, follow.end_column
    return Diagnostic("SR408", message, *place, hint=CODES["SR408"].instead)
