"""What ends a script from outside, and what the guards know about the script that executes now.

The signals derive from BaseException: no handler of a rule matches them, and every handler and every `finally` of a
rule first asks `guards` whether one of them is in flight.

What was tried and rejected: a counter that Python code decrements (10 times the cost of a plain loop), and a tick
shared by the whole worker that is refilled at each switch (a suspended loop holds on to it and burns the neighbour's
steps). Each scope has an iterator of its own instead, which loops consume in C; it is refilled in chunks and never
ends: when no step is left, it raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

DEFAULT_STEPS = 200_000  # steps a slice, where the interpreter sets nothing else
_CHUNK = 512  # steps between two refills
_TICKS = [True] * _CHUNK  # true, so that `itertools.compress` takes every element


class ControlSignal(BaseException):
    """The script that executes is over; no rule can catch this."""


class Ended(ControlSignal):
    """The run was cancelled, or its script was evicted from memory."""


class LimitExceeded(ControlSignal):
    """The script used up one of its budgets.

    Args:
        kind: which budget: "steps", "cpu", "memory", "recursion", "log", "entries", "payload" …
        message: what happened and what to do about it, for the author of the rule.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


class _Tank:
    """Hands out steps by the chunk; is itself the chunk of last resort, which raises."""

    __slots__ = ("chunk", "left")

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.chunk = iter(_TICKS)
        self.chunk.__setstate__(_CHUNK)  # type: ignore[attr-defined]

    def chunks(self) -> Iterator[Iterator[bool]]:
        while True:
            yield self.refill()

    def refill(self) -> Iterator[bool]:
        size = min(self.left, _CHUNK)
        if size <= 0:
            return self
        self.left -= size
        self.chunk = iter(_TICKS)
        self.chunk.__setstate__(_CHUNK - size)  # type: ignore[attr-defined]
        return self.chunk

    def __iter__(self) -> _Tank:
        return self

    def __next__(self) -> bool:
        if self.left > 0:
            raise StopIteration
        raise out_of_steps()


def out_of_steps() -> LimitExceeded:
    """Return the signal for a slice that has used all of its steps."""
    return LimitExceeded(
        "steps", "the rule used all of its steps; split the work by wait(), sleep() or emit(), or raise the limit"
    )


class Scope:
    """What the guards ask about the script that executes now; the interpreter derives from it, one for each run.

    The module code of a rule binds the `fuel` of the scope that is current while it executes, so the functions of a
    module must always be called under the scope under which the module was executed (give a filter a scope of its own
    and set `steps` before every use).

    Args:
        steps: loop iterations and function calls until LimitExceeded("steps"); set the attribute to refill.
    """

    __slots__ = ("_tank", "dead", "fuel")

    def __init__(self, steps: int = DEFAULT_STEPS) -> None:
        self.dead = False
        self._tank = _Tank(steps)
        self.fuel: Iterator[bool] = chain.from_iterable(self._tank.chunks())

    @property
    def steps(self) -> int:
        """The number of steps left in this slice."""
        return self._tank.left + self._tank.chunk.__length_hint__()  # type: ignore[attr-defined, no-any-return]

    @steps.setter
    def steps(self, steps: int) -> None:
        self._tank.chunk.__setstate__(_CHUNK)  # type: ignore[attr-defined]
        self._tank.left = steps

    def charge(self, steps: int) -> None:
        """Take the steps of an operation that loops inside one call.

        Args:
            steps: how many; nothing happens for none.

        Raises:
            LimitExceeded: fewer are left.
        """
        if steps > 0:
            left = self.steps
            self.steps = max(left - steps, 0)
            if steps > left:
                raise out_of_steps()

    def library(self, name: str) -> object:
        """Return the namespace of `lib.NAME` for `from lib.NAME import f`.

        Args:
            name: the part after `lib.`.

        Returns:
            A `guards.Namespace`.

        Raises:
            ImportError: there is no such library, or none can be imported here.
        """
        raise ImportError(f"lib.{name} cannot be imported here")

    def write(self, text: str) -> None:
        """Take one text that the script printed, line end included."""
        raise RuntimeError("print() is not possible here; use it inside main()")


current: Scope = Scope()
