"""The whole path: the steps in their order, faults on purpose, fallbacks, metrics, a policy changed on the way."""

from __future__ import annotations

import asyncio
import random

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from bus.calls.breaker import State
from bus.calls.call import BreakerOpen, Busy, CallFailed, DeadlineExceeded, NoAnswer, Overloaded, Reply
from bus.calls.path import CallPath
from bus.calls.policy import BreakerPolicy, CallPolicy, FaultPolicy
from tests.bus.calls.staged import ASK, BEGINNING, DONE, Destination, StagedTime
from tests.bus.waiting import turns

POLICY = CallPolicy(
    timeout_s=5,
    try_timeout_s=2,
    concurrency=2,
    queue=0,
    breaker=BreakerPolicy(calls_min=4, window_calls=4, slow_s=3, open_s=30),
)
FAILS = NoAnswer("d", "")


class Staged:
    def __init__(self, *does: float | BaseException, policy: CallPolicy = POLICY, name: str = "d") -> None:
        self.staged = StagedTime()
        self.there = Destination(self.staged, *does)
        self.path = CallPath(name, policy, self.there, self.staged.time, random.Random(1).random)

    async def call(self, deadline: float = BEGINNING + 1e6) -> Reply:
        return await self.staged.run(self.path.call(ASK, deadline=deadline))


async def test_a_slow_try_is_cut_and_another_one_brings_the_answer() -> None:
    one = Staged(9.0, 1.0)
    assert await one.call() is DONE
    assert one.there.calls == 2
    assert 3 <= one.staged.now - BEGINNING < 3.2


async def test_all_tries_together_end_with_the_policys_time() -> None:
    one = Staged(9.0, 9.0, 9.0, 9.0)
    with pytest.raises(DeadlineExceeded):
        await one.call()
    assert one.staged.now == BEGINNING + 5
    assert one.there.deadlines[-1] == BEGINNING + 5


async def test_the_breaker_counts_calls_not_tries() -> None:
    one = Staged(*(FAILS, FAILS, 0.0) * 4)
    for _ in range(4):
        assert await one.call() is DONE
    assert one.there.calls == 12
    assert one.path.breaker.state is State.CLOSED


async def test_calls_that_fail_open_the_breaker_and_then_nothing_is_sent() -> None:
    one = Staged(*[FAILS] * 100)
    for _ in range(4):
        with pytest.raises(NoAnswer):
            await one.call()
    sent = one.there.calls
    with pytest.raises(BreakerOpen):
        await one.call()
    assert one.there.calls == sent


async def test_the_bulkhead_stands_before_the_breaker_and_says_nothing_about_the_destination() -> None:
    one = Staged(1.0, 1.0)
    inside = [asyncio.ensure_future(one.path.call(ASK)) for _ in range(2)]
    await turns()
    for _ in range(10):
        with pytest.raises(Overloaded):
            await one.path.call(ASK)
    for _ in range(2):
        one.staged.leap()
    await turns()
    assert [each.result() for each in inside] == [DONE] * 2
    assert one.path.breaker.state is State.CLOSED
    assert one.path.bulkhead.under_way == 0


async def test_a_fallback_is_the_answer_where_there_is_none() -> None:
    cached = Reply(200, b"yesterday's")
    why: list[CallFailed] = []

    def fallback(failure: CallFailed) -> Reply:
        why.append(failure)
        return cached

    one = Staged(*[FAILS] * 4, 0.0)
    assert await one.staged.run(one.path.call(ASK, fallback=fallback)) is cached
    assert why == [FAILS]
    assert await one.staged.run(one.path.call(ASK, fallback=fallback)) is DONE


async def test_faults_on_purpose_come_to_the_share_that_is_asked_for() -> None:
    faults = FaultPolicy(delay_share=0.1, delay_s=1.0, abort_share=0.3, abort_status=502)
    one = Staged(policy=replace(POLICY, retries=0, faults=faults, breaker=BreakerPolicy(slow_s=60, failure_rate=1.0)))
    aborted = 0
    for _ in range(1_000):
        try:
            await one.call()
        except Busy as failure:
            aborted += failure.status == 502
    assert one.there.calls == 1_000 - aborted
    assert 250 < aborted < 350
    assert 70 < one.staged.pauses.count(1.0) < 130


async def test_a_delay_on_purpose_is_cut_like_any_other_and_tried_again() -> None:
    one = Staged(policy=replace(POLICY, faults=FaultPolicy(delay_share=1.0, delay_s=9.0)))
    with pytest.raises(DeadlineExceeded):
        await one.call()
    assert one.there.calls == 0
    assert one.staged.now == BEGINNING + 5


async def test_a_changed_policy_holds_for_the_next_call_and_what_was_learnt_stays() -> None:
    one = Staged(*[FAILS] * 16)
    for _ in range(4):
        with pytest.raises(NoAnswer):
            await one.call()
    one.path.policy = replace(POLICY, retries=0, timeout_s=9.0, try_timeout_s=9.0)
    with pytest.raises(BreakerOpen):
        await one.call()
    one.staged.now += 30
    before = one.there.calls
    one.there.does = [FAILS, 8.0]
    with pytest.raises(NoAnswer):
        await one.call()
    assert one.there.calls == before + 1
    assert await one.call() is DONE


async def test_calls_are_counted_by_what_became_of_them(unique: str) -> None:
    def metric(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"destination": unique, **labels})

    one = Staged(0.0, FAILS, 0.0, *[FAILS] * 4, name=unique)
    await one.call()
    await one.call()
    with pytest.raises(NoAnswer):
        await one.call()
    await one.path.call(ASK, deadline=BEGINNING, fallback=lambda failure: DONE)
    assert metric("tally_calls_total", outcome="ok") == 2
    assert metric("tally_calls_total", outcome="no_answer") == 1
    assert metric("tally_calls_total", outcome="deadline_exceeded") == 1
    assert metric("tally_call_retries_total") == 1 + 3
    assert metric("tally_call_fallbacks_total") == 1
    assert metric("tally_call_seconds_count") == 4
