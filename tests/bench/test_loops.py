"""Closed loops keep so many in flight, and rounds take turns."""

from __future__ import annotations

import asyncio

import pytest

from bench.closed_loop import closed_loop, for_seconds, up_to
from bench.rounds import OPERATIONS_MAX, Pace, Round, lasting, take_turns


async def test_no_more_are_in_flight_than_asked_for_and_all_are_done() -> None:
    running = most = 0
    begun: list[int] = []

    async def one(number: int) -> None:
        nonlocal running, most
        begun.append(number)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    done = await closed_loop(lambda number: asyncio.ensure_future(one(number)), 3, up_to(10))
    assert (done.n, len(done.times_s), most) == (10, 10, 3)
    assert begun == list(range(10))


async def test_fewer_operations_than_places_in_flight() -> None:
    assert (await closed_loop(lambda number: asyncio.ensure_future(asyncio.sleep(0)), 100, up_to(2))).n == 2
    assert (await closed_loop(lambda number: asyncio.ensure_future(asyncio.sleep(0)), 100, up_to(0))).n == 0


async def test_what_one_raises_ends_the_loop() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await closed_loop(lambda number: asyncio.ensure_future(fail()), 1, up_to(5))


async def test_a_loop_for_a_time_begins_nothing_after_it() -> None:
    assert (await closed_loop(lambda number: asyncio.ensure_future(asyncio.sleep(0)), 4, for_seconds(0.0))).n == 0


async def test_ways_take_turns_and_the_warm_up_does_not_count() -> None:
    called: list[str] = []

    async def way(name: str) -> Round:
        called.append(name)
        return Round(1.0, [1.0], 1)

    rounds = await take_turns({"a": lambda _: way("a"), "b": lambda _: way("b")}, Pace(rounds=2, round_s=1.0))
    assert called == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(its) for name, its in rounds.items()} == {"a": 2, "b": 2}


async def test_a_round_is_as_long_as_the_rate_before_it_says_within_bounds() -> None:
    asked: list[int] = []

    async def do(n: int) -> Round:
        asked.append(n)
        return Round(n / 1_000, [], n)  # A thousand a second.

    way = lasting(do, in_flight=16)
    for seconds in (1.0, 3.0, 0.001, 1e9):
        await way(seconds)
    assert asked == [50, 3_000, 32, OPERATIONS_MAX]
