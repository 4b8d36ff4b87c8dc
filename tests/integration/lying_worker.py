"""A worker that is honest until it meets a task ``lie.take.KIND`` or ``lie.ran.KIND``: then it tells that lie.

It is what an attacker has after an escape from the language: the socket, and nothing else. It goes on afterwards, so
that only its supervisor can end it. ``never_ready`` is another entry.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from scriptrules.journal import Intent
from scriptrules.sandbox import meter, wire
from scriptrules.sandbox.confine import Limits
from scriptrules.sandbox.worker import SOCKET, Worker

Request = wire.Take | wire.Resume | wire.Replay
replace = msgspec.structs.replace


def prepare(limits: Limits) -> None:
    meter.install()


def main(limits: Limits, walls: dict[str, str]) -> None:
    Liar().serve(walls)


def never_ready(limits: Limits, walls: dict[str, str]) -> None:
    while os.read(SOCKET, 1 << 16):
        pass


class Liar(Worker):
    def _serve(self, request: wire.ToWorker) -> None:
        lie = self._lie_about(request)
        if lie is None:
            super()._serve(request)
        else:
            assert isinstance(request, Request)
            self._number = request.number
            self._announce("liar", main=True)  # an escape is made by a rule, and so after its announcement
            lie(self, request)

    def _lie_about(self, request: wire.ToWorker) -> Lie | None:
        match request:
            case wire.Take(skip=[_, *_]):
                return None
            case wire.Take() | wire.Replay():
                name = request.task.name
            case wire.Resume():
                name = self._scripts[request.slot].task.name
            case _:
                return None
        what, _, kind = name.removeprefix("lie.").partition(".")
        asked = "take" if isinstance(request, wire.Take) else "ran"
        return LIES[kind] if name.startswith("lie.") and what == asked else None

    def honest(self, request: Request) -> wire.Taken | wire.Ran:
        """What an honest worker would answer."""
        self._number = request.number
        if isinstance(request, wire.Take):
            return self._take(request)
        piece = self._replay(request) if isinstance(request, wire.Replay) else self._resume(request)
        return wire.Ran(request.number, piece)

    def say(self, *messages: object) -> None:
        for message in messages:
            self._send(message)
        self._flush()

    def say_raw(self, data: bytes) -> None:
        self._out += data
        self._flush()

    def say_slice(self, request: Request, **changes: object) -> None:
        """An honest answer but for one slice."""
        answer = self.honest(request)
        if isinstance(answer, wire.Taken):
            (started,) = answer.runs
            assert started.slice
            self.say(replace(answer, runs=[replace(started, slice=replace(started.slice, **changes))]))
        else:
            assert answer.slice
            self.say(replace(answer, slice=replace(answer.slice, **changes)))

    def say_started(self, request: Request, **changes: object) -> None:
        answer = self.honest(request)
        assert isinstance(answer, wire.Taken)
        self.say(replace(answer, runs=[replace(answer.runs[0], **changes)]))


Lie = Callable[[Liar, Request], None]
LIES: dict[str, Lie] = {}


def lie(function: Lie) -> Lie:
    LIES[function.__name__] = function
    return function


# ---- no messages at all


@lie
def garbage(liar: Liar, request: Request) -> None:
    liar.say_raw(wire.HEADER.pack(256) + bytes(range(256)))


@lie
def oversized_header(liar: Liar, request: Request) -> None:
    liar.say_raw(wire.HEADER.pack(wire.REPLY_MAX + 1))


@lie
def endless_stream(liar: Liar, request: Request) -> None:
    liar.say_raw(b"\xff" * (1 << 22))


@lie
def empty_frames(liar: Liar, request: Request) -> None:
    liar.say_raw(wire.HEADER.pack(0) * 10_000)


@lie
def truncated_frame(liar: Liar, request: Request) -> None:
    liar.say_raw(wire.HEADER.pack(1000) + b"\x94")
    never_ready(Limits(), {})


@lie
def nested_a_million_deep(liar: Liar, request: Request) -> None:
    body = b"\x95\x04\x01\x00" + b"\x91" * 1_000_000 + b"\xc0"
    liar.say_raw(wire.HEADER.pack(len(body)) + body)


@lie
def no_utf8(liar: Liar, request: Request) -> None:
    liar.say_raw(wire.frame(wire.Ack(request.number, "XXXX", True)).replace(b"XXXX", b"\xff\xfe\xfd\xfc"))


@lie
def a_request(liar: Liar, request: Request) -> None:
    liar.say(request)


# ---- messages out of order


@lie
def another_kind_of_reply(liar: Liar, request: Request) -> None:
    other = wire.Ran(request.number, None) if isinstance(request, wire.Take) else wire.Taken(request.number, 1, [])
    liar.say(other)


@lie
def reply_to_a_load(liar: Liar, request: Request) -> None:
    liar.say(wire.Loaded(request.number, None, []))


@lie
def wrong_number(liar: Liar, request: Request) -> None:
    liar.say(replace(liar.honest(request), number=request.number + 1))


@lie
def answers_twice(liar: Liar, request: Request) -> None:
    answer = liar.honest(request)
    liar.say(answer, answer)


@lie
def answers_what_nobody_asked(liar: Liar, request: Request) -> None:
    liar.say(liar.honest(request), wire.Ran(request.number + 1000, None))


@lie
def ready_again(liar: Liar, request: Request) -> None:
    liar.say(wire.Ready({}, "3.11", 1))


@lie
def announces_what_nobody_asked(liar: Liar, request: Request) -> None:
    liar.say(liar.honest(request), wire.Ack(request.number, "honest", True))


@lie
def announces_without_end(liar: Liar, request: Request) -> None:
    acks = wire.frame(wire.Ack(request.number, "liar", True)) * 1000
    while True:
        liar.say_raw(acks)


@lie
def accuses_the_filter_of_another(liar: Liar, request: Request) -> None:
    liar.say(wire.Ack(request.number, "honest", False))
    os._exit(1)


@lie
def accuses_the_run_of_another(liar: Liar, request: Request) -> None:
    liar.say(wire.Ack(request.number, "honest", True))
    os._exit(1)


# ---- nothing at all


@lie
def burns(liar: Liar, request: Request) -> None:
    while True:
        pass


@lie
def burns_after_its_answer(liar: Liar, request: Request) -> None:
    liar.say(liar.honest(request))
    while True:
        pass


@lie
def is_silent(liar: Liar, request: Request) -> None:
    never_ready(Limits(), {})


@lie
def hangs_up_and_lives_on(liar: Liar, request: Request) -> None:
    os.close(SOCKET)
    while True:
        pass


# ---- lies about runs


@lie
def a_slot_of_another(liar: Liar, request: Request) -> None:
    liar.say_slice(request, slot=request.slot + (1 << 16))


@lie
def an_end_that_does_not_exist(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="well")


@lie
def waits_for_nothing(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="blocked", entries=[Intent("emit", b'{"name":"x","data":{}}', 1)])


@lie
def waits_for_the_future(liar: Liar, request: Request) -> None:
    args = b'{"what":[1000000],"timeout":null,"any":false,"check":true}'
    liar.say_slice(request, end="blocked", entries=[Intent("wait", args, 1)])


@lie
def a_function_that_does_not_exist(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="returned", entries=[Intent("system", b"{}", 1)])


@lie
def arguments_that_are_no_json(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="returned", entries=[Intent("emit", b'{"name":"x","data":{', 1)])


@lie
def arguments_nested_deep(liar: Liar, request: Request) -> None:
    data = b'{"a":' * 20_000 + b"1" + b"}" * 20_000
    liar.say_slice(request, end="returned", entries=[Intent("emit", b'{"name":"x","data":' + data + b"}", 1)])


@lie
def a_task_of_an_impossible_name(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="returned", entries=[Intent("emit", b'{"name":"../../x","data":{}}', 1)])


@lie
def a_value_that_is_no_json(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="returned", entries=[], value=b"\xff")


@lie
def a_huge_value(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="returned", entries=[], value=b'"' + b"a" * 7_000_000 + b'"')


@lie
def a_huge_log(liar: Liar, request: Request) -> None:
    liar.say_slice(request, logs=[wire.LogEntry(0, "a" * 7_000_000)])


@lie
def too_many_entries(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="returned", entries=[Intent("emit", b'{"name":"x","data":{}}', 1)] * 100_000)


@lie
def a_moment_before_all_others(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="blocked", entries=[Intent("sleep", b'{"seconds":-1e300}', 1)])


# ---- lies about variables and secrets


@lie
def a_load_that_was_not_asked(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="returned", entries=[Intent("load", b'{"name":"x"}', 1)])


@lie
def a_load_of_nothing(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="load", entries=[])


@lie
def a_load_after_an_emit(liar: Liar, request: Request) -> None:
    entries = [Intent("emit", b'{"name":"x","data":{}}', 1), Intent("load", b'{"name":"x"}', 1)]
    liar.say_slice(request, end="load", entries=entries)


@lie
def a_load_of_an_impossible_name(liar: Liar, request: Request) -> None:
    liar.say_slice(request, end="load", entries=[Intent("load", b'{"name":"../key"}', 1)])


@lie
def a_secret_that_was_not_loaded(liar: Liar, request: Request) -> None:
    args = (
        b'{"host":"local","name":"x","image":"sh","args":[],"timeout":null,"retries":0,"options":{},'
        b'"env":{"A":{"$secret":[{"name":"token","version":1}]}}}'
    )
    liar.say_slice(request, end="returned", entries=[Intent("run", args, 1)])


# ---- lies about rules (only where a task was matched)


@lie
def a_run_of_another_rule(liar: Liar, request: Request) -> None:
    active = liar._book._active
    liar.say_started(request, rule="honest", digest=active["honest"])


@lie
def a_rule_that_does_not_exist(liar: Liar, request: Request) -> None:
    liar.say_started(request, rule="ghost")


@lie
def a_source_that_does_not_exist(liar: Liar, request: Request) -> None:
    liar.say_started(request, digest="0" * 32)


@lie
def the_same_run_twice(liar: Liar, request: Request) -> None:
    answer = liar.honest(request)
    assert isinstance(answer, wire.Taken)
    (started,) = answer.runs
    assert started.slice
    second = replace(started, slice=replace(started.slice, slot=request.slot + 1))
    liar.say(replace(answer, runs=[started, second]))


@lie
def a_run_that_it_was_not_to_skip(liar: Liar, request: Request) -> None:
    liar.say_started(request, slice=None)


@lie
def an_epoch_that_has_passed(liar: Liar, request: Request) -> None:
    answer = liar.honest(request)
    assert isinstance(answer, wire.Taken)
    liar.say(replace(answer, epoch=0))


@lie
def a_filter_of_another_rule(liar: Liar, request: Request) -> None:
    answer = liar.honest(request)
    assert isinstance(answer, wire.Taken)
    problem = wire.Problem("honest", "match_limit", wire.Failure("LimitExceeded", "it is slow"))
    liar.say(replace(answer, runs=[], problem=problem))


@lie
def a_problem_of_no_kind(liar: Liar, request: Request) -> None:
    answer = liar.honest(request)
    assert isinstance(answer, wire.Taken)
    liar.say(replace(answer, runs=[], problem=wire.Problem("liar", "whim", wire.Failure("X", "y"))))


ABOUT_RULES = list(LIES)[list(LIES).index("a_run_of_another_rule") :]
