"""What is foreseen beside what was seen: the status of each edge, what is likely next, the matrix."""

from __future__ import annotations

from typing import Any

import pytest

from scriptrules.flow.atoms import Type
from scriptrules.flow.matrix import matrix, reach
from scriptrules.flow.online import Status, fits, joined, likely, predicts
from scriptrules.flow.shapes import Certainty, Edge, Facts, RuleFacts, Via
from scriptrules.sightings import FURTHER, OUTSIDE, SENT, Cell, Generated, SeenEdge, class_of
from scriptrules.supervisor.sightings import AWAITED_MAX, Surprises

SECOND = 1_000_000  # microseconds


def edge(task: str, certainty: Certainty = Certainty.POSSIBLE, via: Via = Via.EMIT, condition: str = "") -> Edge:
    return Edge(task, via, Certainty.UNKNOWN if "*" in task else certainty, condition, 7)


def rule(*edges: Edge, name: str = "rule") -> RuleFacts:
    return RuleFacts(name, Type("x"), list(edges))


def seen(task: str, via: str = "emit", count: int = 1, digest: str = "new", **more: Any) -> SeenEdge:
    return SeenEdge("rule", task, via, count, **{"runs": count, "first": 10, "last": 20, "digest": digest, **more})


def statuses(facts: RuleFacts, *edges: SeenEdge) -> dict[tuple[str, str], tuple[Status, int]]:
    return {(one.task, one.via): (one.status, one.seen) for one in joined([(facts, "new")], edges)}


# ---- patterns


@pytest.mark.parametrize(
    ("pattern", "name", "fitting"),
    [
        ("report.*", "report.x", True),
        ("report.*", "report.x.y", True),
        ("report.*", "reports.x", False),
        ("report.*.done", "report..done", True),
        ("*", "anything.at.all", True),
        ("a*b", "ab", True),
        ("a.b", "a.b", True),
        ("a.b", "axb", False),
        ("a+*", "a+x", True),
    ],
)
def test_a_star_of_a_pattern_is_any_text(pattern: str, name: str, fitting: bool) -> None:
    assert fits(pattern, name) is fitting


def test_a_name_is_foreseen_by_its_own_edge_before_a_pattern() -> None:
    exact, pattern = edge("report.x"), edge("report.*")
    facts = rule(pattern, exact)
    assert predicts(facts, "report.x", "emit") is exact
    assert predicts(facts, "report.y", "emit") is pattern
    assert predicts(facts, "report.x", "call") is None


def test_what_tables_and_jobs_generate_is_foreseen_as_journals_call_it() -> None:
    facts = rule(edge("copy", via=Via.NOMATCH), edge("after", via=Via.THEN))
    assert predicts(facts, "copy", "return") is not None
    assert predicts(facts, "after", "emit") is not None
    assert predicts(facts, "copy", "emit") is None


# ---- status


def test_each_edge_has_a_status() -> None:
    facts = rule(edge("a"), edge("b"), edge("c.*"))
    found = statuses(facts, seen("a", count=3), seen("c.x", count=2), seen("c.y"), seen("d"))
    assert found == {
        ("a", "emit"): (Status.SEEN, 3),
        ("b", "emit"): (Status.NEVER_SEEN, 0),
        ("c.*", "emit"): (Status.RESOLVED, 3),
        ("c.x", "emit"): (Status.RESOLVED, 2),
        ("c.y", "emit"): (Status.RESOLVED, 1),
        ("d", "emit"): (Status.NOT_PREDICTED, 1),
    }


def test_what_only_an_older_source_has_generated_is_neither_an_edge_nor_a_surprise() -> None:
    assert statuses(rule(edge("a")), seen("old", digest="old")) == {("a", "emit"): (Status.NEVER_SEEN, 0)}


def test_another_way_to_generate_the_same_task_is_a_surprise() -> None:
    found = statuses(rule(edge("a")), seen("a", via="call"))
    assert found[("a", "call")] == (Status.NOT_PREDICTED, 1)
    assert found[("a", "emit")] == (Status.NEVER_SEEN, 0)


def test_names_that_were_counted_together_count_for_a_pattern_and_surprise_nobody() -> None:
    assert statuses(rule(edge("c.*")), seen(FURTHER, count=900)) == {
        ("c.*", "emit"): (Status.RESOLVED, 900),
        (FURTHER, "emit"): (Status.RESOLVED, 900),
    }
    assert statuses(rule(edge("a")), seen(FURTHER)) == {("a", "emit"): (Status.NEVER_SEEN, 0)}


def test_an_edge_says_when_it_was_seen_first_and_last() -> None:
    (one,) = joined([(rule(edge("a", condition="x > 0")), "new")], [seen("a", first=5, last=9)])
    assert (one.first_seen, one.last_seen, one.condition, one.line) == (5, 9, "x > 0", 7)
    (never,) = joined([(rule(edge("a")), "new")], [])
    assert (never.first_seen, never.last_seen) == (None, None)


# ---- what is likely next


def chances(facts: RuleFacts | None, *edges: SeenEdge, runs: int, **more: Any) -> dict[str, float]:
    found = likely(facts, edges, runs, more.get("generated", {}), more.get("elapsed", 0))
    return {one.task: one.probability for one in found}


def test_before_anything_was_seen_the_analysis_says_what_is_likely() -> None:
    found = chances(rule(edge("sure", Certainty.CERTAIN), edge("maybe"), edge("some.*")), runs=0)
    assert found == {"sure": 1.0, "maybe": 0.5, "some.*": 0.5}


def test_what_was_seen_outweighs_the_analysis_in_the_end() -> None:
    facts = rule(edge("often"), edge("rarely"), edge("never"))
    found = chances(facts, seen("often", count=90), seen("rarely", count=5), runs=99)
    assert found == {"often": 0.905, "rarely": 0.055, "never": 0.005}


def test_names_that_run_time_has_shown_are_told_beside_their_pattern() -> None:
    found = chances(rule(edge("c.*")), seen("c.x", count=4), runs=9)
    assert found == {"c.x": 0.45, "c.*": 0.05}


def test_a_rule_without_analysis_has_what_was_seen() -> None:
    assert chances(None, seen("a", count=3), runs=3) == {"a": 0.75}


def test_what_a_run_has_generated_comes_again_only_where_runs_repeat_it() -> None:
    facts = rule(edge("once", Certainty.CERTAIN), edge("poll", Certainty.CERTAIN))
    edges = seen("once", count=4), seen("poll", count=40, runs=4)
    found = chances(facts, *edges, runs=4, generated={("once", "emit"): 1, ("poll", "emit"): 3})
    assert found == {"poll": 0.878}


def test_the_expected_time_is_what_is_left_of_the_usual_one() -> None:
    delays = {class_of(10 * SECOND): 9, class_of(100 * SECOND): 1}
    facts = rule(edge("a"))

    def left(elapsed: int) -> int | None:
        (one,) = likely(facts, [seen("a", count=10, delays=delays)], 10, {}, elapsed)
        return one.remaining

    assert left(0) == pytest.approx(10 * SECOND, rel=0.1)
    assert left(4 * SECOND) == pytest.approx(6 * SECOND, rel=0.2)
    assert left(50 * SECOND) == pytest.approx(50 * SECOND, rel=0.2)
    assert left(500 * SECOND) is None


def test_the_likeliest_comes_first_and_the_soonest_of_equals() -> None:
    facts = rule(edge("rare"), edge("late"), edge("soon"))
    edges = [seen("late", count=5, delays={40: 5}), seen("soon", count=5, delays={4: 5})]
    assert [one.task for one in likely(facts, edges, 5, {}, 0)] == ["soon", "late", "rare"]


# ---- the matrix


def test_the_matrix_has_what_was_counted_and_what_is_foreseen() -> None:
    cells = [Cell("a", "b", 3, 99, {class_of(SECOND): 3}), Cell(OUTSIDE, "a", 1, 5), Cell("b", "gone", 0, 0, {3: 1})]
    found = {(cell.by, cell.rule): cell for cell in matrix(cells, {("a", "b"), ("a", "c")})}
    assert set(found) == {("a", "b"), (OUTSIDE, "a"), ("a", "c")}
    assert found["a", "b"].predicted
    assert found["a", "b"].durations["p50"] == pytest.approx(SECOND, rel=0.1)
    assert not found[OUTSIDE, "a"].predicted
    assert (found["a", "c"].count, found["a", "c"].last, found["a", "c"].durations["p99"]) == (0, None, None)


def test_a_rule_can_run_those_that_its_tasks_reach() -> None:
    assert reach([("a", "x"), ("b", "y")], [("x", "b"), ("x", "c"), ("z", "a")]) == {("a", "b"), ("a", "c")}


# ---- surprises


def told() -> tuple[list[Generated], Surprises]:
    heard: list[Generated] = []
    return heard, Surprises(heard.append)


def generated(task: str, digest: str = "new", name: str = "rule", via: str = "emit") -> Generated:
    return Generated(name, task, via, digest, 10)


def test_a_task_that_nobody_has_foreseen_is_told_of_once() -> None:
    heard, surprises = told()
    surprises.learn("new", Facts([rule(edge("a"), edge("b.*"))]))
    surprises.look([generated("a"), generated("b.x"), generated("c"), generated("c"), generated("a", via="call")])
    surprises.look([generated("c"), generated("d", name=OUTSIDE, via=SENT)])
    assert [(one.task, one.via) for one in heard] == [("c", "emit"), ("a", "call")]
    assert surprises.count == 2


def test_what_is_generated_before_the_facts_are_there_is_looked_at_then() -> None:
    heard, surprises = told()
    surprises.expect("new")
    surprises.look([generated("a"), generated("c")])
    surprises.look([generated(f"n{number}") for number in range(2 * AWAITED_MAX)])
    assert heard == []
    surprises.learn("new", Facts([rule(edge("a"), edge("n*"))]))
    assert [one.task for one in heard] == ["c"]


def test_sources_without_facts_surprise_nobody() -> None:
    heard, surprises = told()
    surprises.expect("hard")
    surprises.look([generated("a", "hard"), generated("a", "pinned by an old run")])
    surprises.learn("hard", None)
    surprises.learn("new", Facts([rule(edge("a"))]))
    surprises.forget("new")
    surprises.look([generated("z", "hard"), generated("z", "new")])
    assert heard == []
