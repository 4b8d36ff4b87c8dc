"""Everything at once, in made-up time: interleavings of verbs, results, commits, kills and lost workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from invariants import Replayer, check_memory
from scriptrules.model import RUN_FINAL, RunState
from scriptrules.store.protocol import Change
from scriptrules.supervisor import bulk
from scriptrules.supervisor.verbs import Ask
from simulation import Site, made_up_time, plugins_of

RULES = {
    "flow": 'on = "flow"\ndef main(n):\n    if n > 0:\n        emit("flow", n=n - 1)\n',
    "leaf": 'on = "leaf"\ndef main(**rest):\n    return rest\n',
    "job": """
        on = "job"
        retries = {"max": 1, "backoff": 0.05}
        def main(n):
            run("local", "a", "prog", args=["0"])
            run("local", "b", "prog", args=["1" if n % 5 == 0 else "once" if n % 2 else "0"])
            wait("a")
            save("seen", n)
            wait("b", check=False)
            emit("leaf", n=n, seen=load("seen"))
            return load("seen")
        """,
    "racer": """
        on = "racer"
        def main(n):
            a = run("local", "a", "prog", args=["0"])
            b = run("local", "b", "prog", args=["once" if n % 2 else "0"])
            first = wait(a, b, any=True, check=False)
            emit("leaf", first=first.name, status=first.status, at=str(now()))
            again = wait("b", check=False)
            emit("leaf", b=again.status, output=again.output)
            both = wait(a, b)
            emit("leaf", both=[one.status for one in both])
        """,
    "unwaited": """
        on = "unwaited"
        def main(n):
            run("local", "a", "prog", args=["once"])
            emit("leaf", n=n)
        """,
    "asker": """
        on = "asker"
        def main(n):
            emit("leaf", answer=ask(n), r=random(), u=uuid())
            emit("leaf", answer=ask(n + 1), r=random(), t=str(now()))
        """,
    "narrow": """
        on = "narrow"
        limit = {"max": 1, "key": "key"}
        timeout = 5
        def main(key, n):
            sleep(0.01)
            run("local", "a", "prog", args=["0"])
            wait("a")
            emit("leaf", n=n)
        """,
    "newest": """
        on = "newest"
        limit = {"max": 2, "key": "key", "full": "cancel_oldest"}
        def main(key, n):
            sleep(0.05)
            emit("leaf", n=n)
        """,
    "hasty": """
        on = "hasty"
        timeout = 0.03
        def main(n):
            emit("leaf", n=n)
            sleep(0.01 * n)
            run("local", "a", "prog", args=["0"])
            emit("leaf", n=n, a=wait("a").status)
            sleep(0.01)
        """,
    "caller": 'on = "caller"\ndef main(n):\n    return call("proc", n=n) + 1\n',
    "proc": 'on = "proc"\ndef main(n):\n    return n if n == 0 else call("proc", n=n - 1) + 1\n',
    "taker": """
        on = "taker"
        def main(key):
            first = receive("item", {"key": key})["n"]
            try:
                second = receive("item", {"key": key}, timeout=0.1)["n"]
            except TimeoutError:
                second = None
            emit("leaf", got=[first, second])
            return [first, second]
        """,
    "tree": """
        on = "tree"
        def main(n):
            handle = emit("flow", n=n)
            one = wait(handle, check=False)
            whole = wait(handle, tree=True, check=False)
            emit("leaf", one=one.status, whole=whole.status)
        """,
    "family": """
        on = "family"
        def main(n):
            mine = [emit("fails", n=n), emit("fails", n=n + 1)]
            first = wait(*mine, any=True, check=False)
            emit("leaf", first=first.status)
            wait(*mine)
            emit("leaf", n=n)
        """,
    "fails": """
        on = "fails"
        def main(n):
            sleep(0.01)
            if load("mode", default=0) % 2 and n % 2:
                fail("the mode is odd")
            emit("leaf", n=n)
            sleep(0.01)
            if load("mode", default=0) % 2:
                raise ValueError("the mode is odd")
        """,
    "loader": """
        on = "loader"
        def main(n):
            before = load("mode", default=0)
            save("mode", n, scope="store")
            emit("leaf", before=before, mine=load("mode"), at=str(now()))
            sleep(0.01)
            emit("leaf", later=load("mode"))
        """,
    "holder": 'on = "holder"\ndef main(n):\n    emit("leaf", n=n)\n    hold("by hand")\n    emit("leaf", n=n + 1)\n',
    "curious": """
        on = "curious"
        def main(task):
            sleep(0.01)
            emit("leaf", reasons=len(task.reasons), hop=task.hop, created=str(task.created))
        """,
    "never": 'on = "curious"\nwhen = lambda task: task["n"] > 100\ndef main(n):\n    pass\n',
    "rest": 'on = "rest"\nnomatch = True\ndef main(task):\n    sleep(0.01)\n    return len(task.reasons)\n',
}
KEYED = {"narrow", "newest", "taker", "item"}
SENT = [*(name for name in RULES if name not in ("leaf", "never", "proc", "fails")), "item", "item", "nobody"]
PLACES = [
    "task", "before:run", "after:run", "before:wait", "after:wait", "before:emit", "before:call", "after:call",
    "before:receive", "after:receive", "before:sleep", "before:load", "before:save", "before:ask", "after:ask",
]  # fmt: skip
GIVEN = [1, None, {"name": "item", "data": {"n": 1}}, [2], {"status": "failed", "reason": "made up"}]


class People:
    """Ask for things at random, several at once."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.random = site.chance.random
        self.edits = 0
        self.asked = 0

    def act(self) -> None:
        acts: list[tuple[int, Callable[[], None]]] = [
            (12, self.send), (3, self.stop_at), (2, self.unset), (5, self.resume_all), (6, self.verb), (2, self.retry),
            (3, self.fork), (2, self.edit), (2, self.cancel), (1, self.hold), (1, self.edit_a_rule),
            (1, self.kill_worker), (1, self.sweep),
        ]  # fmt: skip
        (act,) = self.random.choices([act for _, act in acts], [weight for weight, _ in acts])
        act()

    def ask(self, verb: str, *args: Any, **more: Any) -> None:
        self.asked += 1
        who = Ask(verb, "somebody", f"q{self.asked}")
        self.site.ask(getattr(self.site.alive.verbs, verb)(*args, ask=who, **more))

    def send(self) -> None:
        tasks = []
        for _ in range(self.random.randint(1, 4)):
            name = self.random.choice(SENT)
            data: dict[str, int] = {"n": self.random.randint(0, 4)}
            if name in KEYED:
                data["key"] = self.random.randint(0, 1)
            if name == "taker":
                del data["n"]
            tasks.append((name, msgspec.json.encode(data), None))
        self.site.ask(self.site.alive.ingest(tasks))

    def stop_at(self) -> None:
        name, at = self.random.choice([*RULES, "item", "**"]), self.random.choice(PLACES)
        self.ask("set_breakpoint", f"b{self.asked}", [name], at, None)

    def unset(self) -> None:
        names = [one.name for one in self.site.alive.breakpoints.infos()]
        if len(names) > 2:
            self.ask("remove_breakpoint", self.random.choice(names))

    def _bulk(self, verb: str, do: Callable[[str, Ask], Coroutine[Any, Any, None]]) -> None:
        alive = self.site.alive
        self.asked += 1
        who = Ask(verb, "somebody", f"q{self.asked}")
        now = self.site.clock()
        self.site.ask(
            bulk.carry_out(alive.store, alive.verbs, bulk.Selection(), who, do, alive.driver.submit, now)  # type: ignore[arg-type]
        )

    def resume_all(self) -> None:
        verbs = self.site.alive.verbs
        self._bulk("resume", lambda id, ask: verbs.resume(id, ask, self.random.random() < 0.2))

    def retry(self) -> None:
        verbs, from_start = self.site.alive.verbs, self.random.random() < 0.3
        self._bulk("retry", lambda id, ask: verbs.retry(id, ask, from_start=from_start))

    def _some(self, *states: str) -> list[str]:
        store = self.site.durable
        things = [*store._runs.values(), *store._tasks.values()]
        return [one.id for one in things if one.state in states]

    def verb(self) -> None:
        if held := self._some("held"):
            id = self.random.choice(held)
            verb = self.random.choice(["resume", "step", "drop", "answer", "cancel", "retry", "pinned"])
            if verb == "answer":
                self.ask("answer", id, msgspec.json.encode(self.random.choice(GIVEN)), None)
            elif verb == "step":
                self.ask("resume", id, step=True)
            elif verb == "pinned":
                self.ask("retry", id, pinned=True)
            else:
                self.ask(verb, id)

    def _run(self) -> str | None:
        runs = list(self.site.durable._runs)[-30:]
        return self.random.choice(runs) if runs else None

    def fork(self) -> None:
        if run := self._run():
            value = msgspec.json.encode(self.random.choice(GIVEN))
            self.ask("fork", run, self.random.randint(1, 6), value, self.random.random() < 0.5)

    def edit(self) -> None:
        if held := self._some("held"):
            more = self.random.choice([{"n": 2}, {"seconds": 0.01}, {"args": ["0"]}, {"data": {"n": 1, "key": 1}}])
            self.ask("edit", self.random.choice(held), msgspec.json.encode(more), True)

    def cancel(self) -> None:
        if going := self._some("queued", "running", "waiting", "held", "new"):
            self.ask("cancel", self.random.choice(going))

    def hold(self) -> None:
        if going := self._some("queued", "running", "waiting"):
            self.ask("hold", self.random.choice(going))

    def edit_a_rule(self) -> None:
        name = self.random.choice(list(RULES))
        self.edits += 1
        self.site.rule(name, f"{RULES[name]}\n        # {self.edits}\n" if "\n        " in RULES[name] else RULES[name])
        self.site.ask(self.site.alive.rules.reload())

    def kill_worker(self) -> None:
        self.site.kill_worker()

    def sweep(self) -> None:
        self.site.ask(self.site.alive.retention.sweep(self.random.choice([200_000, 500_000, 1_000_000])))


def simulate(folder: Path, seed: int, lives: int, steps: int) -> Counter[str]:
    """Live through some lives of an installation; returns what happened how often."""
    happened: Counter[str] = Counter()
    with made_up_time(seed) as loop:

        async def live() -> None:
            def committed() -> None:
                happened["commits"] += 1
                if happened["commits"] % 7 == 0:
                    check_memory(site.durable)

            site = Site(folder, seed, RULES, committed)
            people = People(site)
            for _ in range(lives):
                await site.start()
                for _ in range(site.chance.random.randint(1, steps)):
                    people.act()
                    await site.chance.pause()
                if site.chance.random.random() < 0.8:
                    await site.kill()
                else:
                    await site.close()
                happened["lives"] += 1
                check_memory(site.durable)
            await site.start()
            for one in site.alive.breakpoints.infos():
                await site.alive.verbs.remove_breakpoint(one.name, Ask("break rm", "somebody"))

            async def help_on() -> None:
                store = site.durable
                people.resume_all()
                left = [run for run in store._runs.values() if run.state not in RUN_FINAL]
                waiting = [run for run in left if run.reason == "receive"]
                if waiting and len(waiting) == len(left):
                    data = [msgspec.json.encode({"n": 1, "key": key}) for key in (0, 1)]
                    site.ask(site.alive.ingest([("item", one, None) for one in data]))

            await site.settle(300.0, help_on)
            await asyncio.sleep(1)
            await site.alive.driver.submit(Change())
            tables = check_memory(site.durable, settled=True)
            assert not site.failures, repr(site.failures[0])
            assert not site.durable._wakes, site.durable._wakes
            happened["replays"] += Replayer(plugins_of(site.world)).check(tables)
            happened["tasks"] += len(tables.tasks)
            happened["runs"] += len(tables.runs)
            happened["done"] += sum(run.state is RunState.DONE for run in tables.runs.values())
            happened["executions"] += len(site.world.started)
            assert not [key for key, count in site.world.started.items() if count > 1]
            await site.close()

        loop.run_until_complete(live())
    return happened


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_doubled_or_stuck_in_any_interleaving(tmp_path: Path, seed: int) -> None:
    assert simulate(tmp_path, seed, lives=5, steps=40)["done"] > 20


@pytest.mark.soak
def test_nothing_is_lost_doubled_or_stuck_in_many_interleavings(tmp_path: Path) -> None:
    for seed in range(1000, 1300):
        folder = tmp_path / str(seed)
        folder.mkdir()
        simulate(folder, seed, lives=6, steps=60)
