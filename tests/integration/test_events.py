"""Events over HTTP: whoever follows misses nothing and gets nothing twice, whatever dies in between."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from scriptrules.client import Client, EventJson, Unreachable
from serving import Problem, Server, eventually, project

RULE = """
on = "count"

def main(n):
    if n % 5 == 0:
        sleep(0.05)
    emit("counted", n=n)
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with project() as server:
        server.rule("count", RULE)
        server.start()
        yield server


def client_of(server: Server) -> Client:
    return Client(f"http://127.0.0.1:{server.port}")


class Follower:
    """Collects events in a thread, and comes back where it was cut off."""

    def __init__(self, server: Server, after: int | None = None, **filters: str) -> None:
        self.events: list[EventJson] = []
        self.ended = False
        self._server = server
        self._filters = filters
        self._after = after
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(Unreachable):
                for event in client_of(self._server).events(self._after, **self._filters):
                    self._after = event["id"]
                    self.events.append(event)
                self.ended = True
            self._stopped.wait(0.05)

    def names(self) -> list[str]:
        return [event["event"] for event in list(self.events)]

    def stop(self) -> None:
        self._stopped.set()


def settled(server: Server, sent: int) -> bool:
    counts = server.get("/api/counts")["tasks"]
    return bool(counts.get("done") == sent and counts.get("unmatched") == sent and len(counts) == 2)


def states_of(events: list[EventJson]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for event in events:
        if "id" in event["data"]:
            found.setdefault(event["data"]["id"], []).append(event["data"]["state"])
    return found


def test_each_transition_is_an_event_with_the_shape_and_state_of_that_moment(server: Server) -> None:
    follower = Follower(server, after=0)
    task = server.send("count", n=5)
    server.wait_task(task)
    eventually(lambda: "task.unmatched" in follower.names(), "all events are there")
    mine = [event for event in follower.events if event["data"].get("root") == task]
    names = [event["event"] for event in mine if event["data"]["id"] == task]
    assert names == ["task.new", "task.running", "task.done"]
    assert mine[0]["data"] | {"state": "done", "exit": None, "since": 0} == server.task(task) | {"since": 0}
    runs = [event for event in follower.events if event["event"].startswith("run.")]
    assert [event["event"] for event in runs] == ["run.waiting", "run.running", "run.done"]
    assert runs[0]["data"]["reason"] == "sleep"
    assert runs[-1]["data"] == server.run_of(task)
    assert [event["id"] for event in follower.events] == sorted({event["id"] for event in follower.events})


def test_following_begins_now_or_after_an_event_and_the_header_wins(server: Server) -> None:
    server.wait_task(server.send("other"))
    follower = Follower(server)
    eventually(lambda: _metric(server) == 1, "somebody follows")
    second = server.send("other")
    eventually(lambda: len(follower.events) == 2, "both events of the second task")
    assert {event["data"]["id"] for event in follower.events} == {second}
    first = follower.events[0]["id"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/api/events?after=0", headers={"last-event-id": str(first)})
    response = connection.getresponse()
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [response.readline() for _ in range(6)]
    assert f"id: {first + 1}\n".encode() in lines
    connection.close()
    for wrong in ("after=x", "after=-1", "kinds=task,rum", "kind=task"):
        with pytest.raises(Problem) as refused:
            server.get(f"/api/events?{wrong}")
        assert refused.value.status == 400


def test_filters_narrow_what_is_heard(server: Server) -> None:
    only = {
        "kinds": Follower(server, 0, kinds="run"),
        "name": Follower(server, 0, kinds="task", name="count"),
        "rule": Follower(server, 0, kinds="task,run", rule="count"),
    }
    one, two = server.send("count", n=1), server.send("count", n=2)
    server.send("other")
    root = Follower(server, 0, kinds="task,run", root=two)
    thing = Follower(server, 0, kinds="task,run", id=one)
    eventually(lambda: settled_with(server, {"done": 2, "unmatched": 3}), "all have ended")
    eventually(lambda: only["kinds"].names() == ["run.done", "run.done"], "runs only")
    eventually(lambda: only["rule"].names() == ["run.done", "run.done"], "runs of the rule only")
    eventually(lambda: sorted(only["name"].names()) == ["task.done"] * 2 + ["task.new"] * 2, "tasks of the name only")
    eventually(lambda: len(root.events) == 5, "a tree only")
    eventually(lambda: thing.names() == ["task.new", "task.done"], "one task only")


def settled_with(server: Server, states: dict[str, int]) -> bool:
    return bool(server.get("/api/counts")["tasks"] == states)


def test_changed_rules_and_breakpoints_are_events(server: Server) -> None:
    follower = Follower(server, kinds="rules,breakpoints")
    eventually(lambda: _metric(server) == 1, "somebody follows")
    server.rule("another", "def main(task):\n    pass\n")
    eventually(lambda: follower.names() == ["rules.changed"], "a rule that was dropped in")
    server.rule("another", "def main(:\n")
    eventually(lambda: follower.names() == ["rules.changed"] * 2, "a rule that was broken")
    server.request("POST", "/api/breakpoints", b'{"on": ["a"], "name": "b"}')
    eventually(lambda: follower.names()[2:] == ["breakpoints.changed"], "a breakpoint that was set")


@pytest.mark.parametrize("kills", [3])
def test_nothing_is_missed_or_repeated_though_the_server_is_killed(server: Server, kills: int) -> None:
    follower = Follower(server, after=0, kinds="task,run")
    sent: list[str] = []
    for round in range(kills + 1):
        sent += server.send_many([{"name": "count", "data": {"n": n}} for n in range(200)])
        if round < kills:
            server.kill()
            server.start()
    eventually(lambda: settled(server, len(sent)), "all have ended")
    eventually(lambda: follower.names().count("task.unmatched") == len(sent), "all events are there")
    ids = [event["id"] for event in follower.events]
    assert ids == sorted(set(ids))
    again = Follower(server, after=0, kinds="task,run")
    eventually(lambda: len(again.events) == len(follower.events), "the log, read once more")
    assert [event["id"] for event in again.events] == ids
    assert [event["event"] for event in again.events] == follower.names()
    states = states_of(follower.events)
    assert all(states[id][0] == "new" and states[id][-1] == "done" for id in sent)
    assert "reset" not in follower.names()


def test_a_client_that_reads_nothing_is_dropped_and_harms_nobody() -> None:
    with project() as server:
        server.config("[server]\nwrite_timeout = 1.0\nread_timeout = 0.5\n")  # neither ends a stream that is read
        server.start()
        slow = socket.create_connection(("127.0.0.1", server.port))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /api/events?after=0 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        follower = Follower(server, after=0, kinds="task")
        eventually(lambda: _metric(server) == 2, "both follow")
        many = [{"name": "x", "data": {"text": "y" * 2000}} for _ in range(1000)]
        for _ in range(3):
            server.send_many(many)
        eventually(lambda: follower.names().count("task.unmatched") == 3000, "who reads gets all")
        eventually(lambda: _metric(server) == 1, "who does not is dropped")
        follower.stop()
        slow.close()


def test_open_streams_end_when_the_server_stops(server: Server) -> None:
    followers = [Follower(server) for _ in range(3)]
    eventually(lambda: _metric(server) == 3, "all follow")
    server.drop_in(wait='on = "wait"\ndef main():\n    log("here")\n    receive("never")\n')
    run = server.wait_run(server.send("wait"), {"waiting"})["id"]
    lines = client_of(server).logs(run, follow=True)
    assert next(lines)["text"] == "here"
    assert server.stop() == 0
    assert list(lines) == []
    eventually(lambda: all(follower.ended for follower in followers), "every stream has an end")
    assert not [event for event in server.events() if event.get("level") == "error"]
    for follower in followers:
        follower.stop()


def test_who_asks_for_what_is_not_kept_is_told_to_begin_anew(server: Server) -> None:
    follower = Follower(server, after=10**9)
    eventually(lambda: follower.names() == ["reset"], "told")
    told = follower.events[0]
    assert told["data"]["last"] == told["id"] < 10**9
    server.send("other")
    eventually(lambda: follower.names() == ["reset", "task.new", "task.unmatched"], "it goes on")


def _metric(server: Server) -> int:
    """How many follow."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return int(float(next(line.split()[1] for line in text.splitlines() if line.startswith("scriptrules_followers "))))
