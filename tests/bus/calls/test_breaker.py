"""The breaker: opens by failures and by slowness, over calls and over time, and is tried before it closes."""

from __future__ import annotations

import asyncio
import logging

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from bus.calls.breaker import Breaker, State
from bus.calls.call import BreakerOpen, CallFailed, DeadlineExceeded, NoAnswer
from bus.calls.policy import BreakerPolicy, CallPolicy
from tests.bus.calls.staged import ASK, BEGINNING, DONE, Destination, StagedTime
from tests.bus.waiting import turns

FAILS = NoAnswer("d", "no answer")
LATE = DeadlineExceeded("d", "its time was up")
POLICY = BreakerPolicy(calls_min=10, window_calls=20, open_s=30, half_open_calls=5)


class Staged:
    """A breaker in front of a destination."""

    def __init__(self, policy: BreakerPolicy = POLICY, name: str = "d") -> None:
        self.staged = StagedTime()
        self.there = Destination(self.staged)
        self.breaker = Breaker(name, CallPolicy(breaker=policy), self.there, self.staged.time)

    async def calls(self, *does: float | BaseException) -> list[str]:
        """One after the other; how each ended."""
        ends: list[str] = []
        for one in does:
            self.there.does = [one]
            try:
                assert await self.staged.run(self.breaker(ASK, BEGINNING + 1e6)) is DONE
                ends.append("ok")
            except CallFailed as failure:
                ends.append(failure.code)
        return ends

    def state(self) -> State:
        return self.breaker.state

    async def opened(self) -> None:
        await self.calls(*[FAILS] * 10)
        assert self.state() is State.OPEN


async def test_it_opens_at_half_of_the_calls_and_not_before() -> None:
    one = Staged()
    await one.calls(*[0.0] * 6, *[FAILS] * 5)
    assert one.state() is State.CLOSED
    await one.calls(FAILS)
    assert one.state() is State.OPEN


async def test_fewer_calls_than_the_least_say_nothing() -> None:
    one = Staged()
    await one.calls(*[FAILS] * 9)
    assert one.state() is State.CLOSED


async def test_slow_calls_open_it_even_if_they_succeed() -> None:
    one = Staged()
    await one.calls(*[1.9] * 5, *[2.0] * 4)
    assert one.state() is State.CLOSED
    assert await one.calls(2.0) == ["ok"]
    assert one.state() is State.OPEN


@pytest.mark.parametrize("bad", [FAILS, 2.5])
async def test_only_the_last_calls_count(bad: float | CallFailed) -> None:
    one = Staged()
    await one.calls(*[0.0] * 12, *[bad] * 8, *[0.0] * 12)
    await one.calls(*[bad] * 9)
    assert one.state() is State.CLOSED, "the first ones are out of the window"
    await one.calls(bad)
    assert one.state() is State.OPEN


async def test_only_the_last_seconds_count() -> None:
    one = Staged(replace(POLICY, window_calls=None, window_s=10))
    await one.calls(*[FAILS] * 9)
    one.staged.now += 10
    await one.calls(*[FAILS] * 9)
    assert one.state() is State.CLOSED
    one.staged.now += 8.9
    await one.calls(FAILS)
    assert one.state() is State.OPEN


async def test_open_it_sends_nothing_and_says_when_to_come_again() -> None:
    one = Staged()
    await one.opened()
    sent = one.there.calls
    one.staged.now += 10
    with pytest.raises(BreakerOpen) as refused:
        await one.breaker(ASK, BEGINNING + 1e6)
    assert refused.value.retry_after_s == 20
    assert one.there.calls == sent


async def test_after_its_time_a_few_calls_try_it_and_close_it() -> None:
    one = Staged()
    await one.opened()
    one.staged.now += 30
    assert await one.calls(0.0) == ["ok"]
    assert one.state() is State.HALF_OPEN
    await one.calls(*[0.0] * 4)
    assert one.state() is State.CLOSED
    await one.calls(*[FAILS] * 9)
    assert one.state() is State.CLOSED, "what was before is forgotten"


@pytest.mark.parametrize("bad", [FAILS, 2.5])
async def test_where_they_fail_or_are_slow_it_opens_again(bad: float | CallFailed) -> None:
    one = Staged()
    await one.opened()
    one.staged.now += 30
    await one.calls(0.0, 0.0, bad, bad)
    assert one.state() is State.HALF_OPEN
    await one.calls(bad)
    assert one.state() is State.OPEN
    assert await one.calls(0.0) == ["breaker_open"]


async def test_half_open_it_lets_in_no_more_than_allowed() -> None:
    one = Staged()
    await one.opened()
    one.staged.now += 30
    one.there.does = [1.0] * 9
    trying = [asyncio.ensure_future(one.breaker(ASK, BEGINNING + 1e6)) for _ in range(7)]
    await turns()
    refused = [task for task in trying if task.done()]
    assert [type(task.exception()) for task in refused] == [BreakerOpen] * 2
    for _ in range(5):
        one.staged.leap()
    await turns()
    assert one.state() is State.CLOSED


async def test_who_leaves_half_open_gives_the_place_back() -> None:
    one = Staged(replace(POLICY, half_open_calls=1))
    await one.opened()
    one.staged.now += 30
    one.there.does = [60.0]
    trying = asyncio.ensure_future(one.breaker(ASK, BEGINNING + 1e6))
    await turns()
    assert await one.calls(0.0) == ["breaker_open"]
    trying.cancel()
    await turns()
    assert await one.calls(0.0) == ["ok"]
    assert one.state() is State.CLOSED


async def test_a_caller_in_a_hurry_has_no_say() -> None:
    one = Staged()
    await one.calls(*[LATE] * 30)
    assert one.state() is State.CLOSED

    async def slow_and_late(*_: object) -> None:
        one.staged.now += 2
        raise LATE

    one.breaker._inner = slow_and_late  # type: ignore[assignment]  # It never answers.
    await one.calls(*[0.0] * 10)
    assert one.state() is State.OPEN


async def test_a_defect_of_ours_has_no_say() -> None:
    one = Staged()
    for _ in range(30):
        with pytest.raises(ZeroDivisionError):
            await one.calls(ZeroDivisionError())
    assert one.state() is State.CLOSED


async def test_what_was_begun_before_it_opened_has_no_say_in_what_comes_after() -> None:
    one = Staged()
    one.there.does = [40.0]
    before = asyncio.ensure_future(one.breaker(ASK, BEGINNING + 1e6))
    await turns()
    await one.opened()
    one.staged.now += 30
    await one.calls(0.0, 0.0)
    await one.staged.run(before)
    await one.calls(0.0, 0.0)
    assert one.state() is State.HALF_OPEN
    await one.calls(0.0)
    assert one.state() is State.CLOSED


async def test_a_new_window_begins_empty_and_another_change_keeps_it() -> None:
    one = Staged()
    await one.calls(*[FAILS] * 9)
    one.breaker.policy = CallPolicy(breaker=replace(POLICY, open_s=5))
    await one.calls(FAILS)
    assert one.state() is State.OPEN
    two = Staged()
    await two.calls(*[FAILS] * 9)
    two.breaker.policy = CallPolicy(breaker=replace(POLICY, window_calls=50))
    await two.calls(*[FAILS] * 9)
    assert two.state() is State.CLOSED


async def test_its_turns_are_in_the_metrics_and_in_the_log(caplog: pytest.LogCaptureFixture, unique: str) -> None:
    def metric(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"destination": unique, **labels})

    one = Staged(name=unique)
    assert metric("tally_breaker_state") == 0
    with caplog.at_level(logging.INFO, "bus.calls.breaker"):
        await one.opened()
        assert metric("tally_breaker_state") == 2
        one.staged.now += 30
        await one.calls(0.0)
        assert metric("tally_breaker_state") == 1
        await one.calls(*[0.0] * 4)
    assert metric("tally_breaker_state") == 0
    assert [metric("tally_breaker_transitions_total", to=to) for to in ("open", "half_open", "closed")] == [1, 1, 1]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
    assert "of 10 calls 10 failed and 0 took 2 s or longer" in caplog.text
