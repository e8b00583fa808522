"""Retries: only of what may be repeated and what passes, bounded in number, time and share."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bus.calls.call import AnswerTooLarge, Busy, Call, CallFailed, NoAnswer, Unreachable, http_call
from bus.calls.policy import CallPolicy
from bus.calls.retry import Retry
from tests.bus.calls.staged import ASK, BEGINNING, DONE, TELL, Destination, StagedTime

POLICY = CallPolicy(timeout_s=100, retries=3, backoff_s=0.1, backoff_max_s=0.3, retry_share=0.2, retry_burst=10)
LATER = BEGINNING + 100


class Staged:
    def __init__(self, *does: float | BaseException, policy: CallPolicy = POLICY, chance: float = 1.0) -> None:
        self.staged = StagedTime()
        self.there = Destination(self.staged, *does)
        self.retry = Retry("d", policy, self.there, self.staged.time, lambda: chance)

    async def call(self, call: Call = ASK, deadline: float = LATER) -> str:
        try:
            assert await self.staged.run(self.retry(call, deadline)) is DONE
        except CallFailed as failure:
            return failure.code
        return "ok"


@pytest.mark.parametrize("passing", [NoAnswer("d", ""), Unreachable("d", ""), Busy("d", 503)])
async def test_what_passes_is_tried_again_until_it_has_passed(passing: CallFailed) -> None:
    one = Staged(passing, passing, passing)
    assert await one.call() == "ok"
    assert one.there.calls == 4


async def test_not_more_often_than_it_may_and_the_last_failure_is_told() -> None:
    one = Staged(*[NoAnswer("d", "")] * 3, Busy("d", 502), NoAnswer("d", ""))
    assert await one.call() == "busy"
    assert one.there.calls == 4


async def test_what_may_have_a_second_effect_is_not_sent_twice() -> None:
    one = Staged(NoAnswer("d", ""))
    assert await one.call(TELL) == "no_answer"
    assert one.there.calls == 1


@pytest.mark.parametrize("error", [AnswerTooLarge("d", ""), ZeroDivisionError()])
async def test_what_stays_is_not_tried_again(error: Exception) -> None:
    one = Staged(error)
    with pytest.raises(type(error)):
        await one.retry(ASK, LATER)
    assert one.there.calls == 1


@pytest.mark.parametrize(("chance", "pauses"), [(1.0, [0.1, 0.2, 0.3]), (0.5, [0.05, 0.1, 0.15]), (0.0, [0, 0, 0])])
async def test_pauses_are_by_chance_below_a_ceiling_that_doubles(chance: float, pauses: list[float]) -> None:
    one = Staged(*[NoAnswer("d", "")] * 3, chance=chance)
    await one.call()
    assert one.staged.pauses == pytest.approx(pauses)


async def test_retry_after_is_waited_for() -> None:
    one = Staged(Busy("d", 429, retry_after_s=7.0))
    assert await one.call() == "ok"
    assert one.staged.pauses == [7.1]


async def test_a_pause_beyond_the_deadline_is_not_begun() -> None:
    one = Staged(Busy("d", 429, retry_after_s=7.0))
    assert await one.call(deadline=BEGINNING + 7) == "busy"
    assert one.staged.now == BEGINNING


async def test_retries_are_a_share_of_all_calls() -> None:
    policy = replace(POLICY, retry_burst=2)
    one = Staged(*[NoAnswer("d", "")] * 1_000, policy=policy)
    for _ in range(100):
        assert await one.call() == "no_answer"
    assert one.there.calls == 100 + 2 + 19  # The burst, and a fifth of the calls after the first.


async def test_calls_that_go_well_earn_no_more_than_the_burst() -> None:
    one = Staged(policy=replace(POLICY, retry_burst=2))
    for _ in range(100):
        assert await one.call() == "ok"
    one.there.does = [NoAnswer("d", "")] * 9
    assert await one.call() == "no_answer"
    assert one.there.calls == 101 + 2


async def test_without_a_budget_there_are_no_retries() -> None:
    one = Staged(NoAnswer("d", ""), policy=replace(POLICY, retry_burst=0))
    assert await one.call() == "no_answer"


def test_over_http_it_is_the_method_or_the_key_that_makes_a_call_repeatable() -> None:
    assert [http_call(method, "/").repeatable for method in ("GET", "HEAD", "OPTIONS")] == [True] * 3
    assert [http_call(method, "/").repeatable for method in ("POST", "PUT", "PATCH", "DELETE")] == [False] * 4
    assert http_call("POST", "/", headers={"Idempotency-Key": "k"}).repeatable
