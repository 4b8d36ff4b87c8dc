"""Who gets the next free slot of a host."""

from __future__ import annotations

from scriptrules.supervisor.hosts import Queue, Waiting


def waiting(since: int, rule: str = "a", run: str = "r1") -> Waiting:
    return Waiting(since, run, 1, f"{run}-{rule}-{since}", rule, fresh=True)


def drain(queue: Queue) -> list[tuple[str, int]]:
    found = []
    while (one := queue.pop()) is not None:
        found.append((one.rule, one.since))
    return found


def test_within_a_rule_who_has_waited_longest_is_first_however_they_came() -> None:
    queue = Queue()
    for since in (3, 1, 2):
        queue.put(waiting(since))
    assert drain(queue) == [("a", 1), ("a", 2), ("a", 3)]


def test_a_rule_with_many_starts_does_not_keep_another_waiting() -> None:
    queue = Queue()
    for since in range(100):
        queue.put(waiting(since, "greedy"))
    queue.put(waiting(100, "modest"))
    assert drain(queue)[:3] == [("greedy", 0), ("modest", 100), ("greedy", 1)]


def test_who_was_taken_out_is_passed_over() -> None:
    queue = Queue()
    one, other = waiting(1), waiting(2)
    queue.put(one)
    queue.put(other)
    assert queue.remove(one.key)
    assert not queue.remove(one.key)
    assert one.key not in queue
    assert (len(queue), drain(queue)) == (1, [("a", 2)])


def test_a_full_queue_takes_nobody_and_says_so() -> None:
    queue = Queue(most=2)
    assert [queue.put(waiting(since)) for since in (1, 2, 3)] == [True, True, False]
    assert queue.overflowed
    assert drain(queue) == [("a", 1), ("a", 2)]
