"""What costs much to count is not counted again at once."""

from __future__ import annotations

import asyncio

from scriptrules import clock
from scriptrules.supervisor.sparing import PAUSE, Sparing


def test_what_is_cheap_is_counted_each_time_and_what_is_not_is_told_again() -> None:
    async def told() -> tuple[list[int], list[int], int]:
        asked = {"cheap": 0, "dear": 0}

        async def cheap() -> int:
            asked["cheap"] += 1
            return asked["cheap"]

        async def dear() -> int:
            asked["dear"] += 1
            await asyncio.sleep(0.05)
            return asked["dear"]

        quick, slow = Sparing(cheap), Sparing(dear)
        first = await asyncio.gather(*(slow.get() for _ in range(100)))
        began = clock.monotonic()
        while await slow.get() == 1:
            await asyncio.sleep(0.05)
        again = clock.monotonic() - began
        assert again > 0.02 * PAUSE
        return [await quick.get() for _ in range(3)], first, asked["dear"]

    assert asyncio.run(told()) == ([1, 2, 3], [1] * 100, 2)


def test_a_count_that_fails_is_tried_again() -> None:
    async def told() -> int:
        answers = iter([OSError("not now"), 3])

        async def count() -> int:
            match next(answers):
                case OSError() as error:
                    raise error
                case number:
                    return number

        counting = Sparing(count)
        failed, found = await asyncio.gather(counting.get(), counting.get(), return_exceptions=True)
        assert isinstance(failed, OSError)
        return int(found)  # type: ignore[call-overload,no-any-return]

    assert asyncio.run(told()) == 3
