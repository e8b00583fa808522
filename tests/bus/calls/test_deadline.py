"""Deadlines: the nearest one holds, what is late is not begun, and what travels on is less at each hop."""

from __future__ import annotations

import math

import pytest

from bus.calls.call import DeadlineExceeded, NoAnswer
from bus.calls.deadline import HEADER, Attempt, Deadline, deadline_of, header_of
from bus.calls.policy import CallPolicy
from tests.bus.calls.staged import ASK, BEGINNING, DONE, Destination, StagedTime

POLICY = CallPolicy(timeout_s=5, try_timeout_s=2)


@pytest.fixture
def staged() -> StagedTime:
    return StagedTime()


@pytest.mark.parametrize(("asked", "holds"), [(math.inf, 5.0), (60.0, 5.0), (3.0, 3.0)])
async def test_the_nearer_of_the_callers_and_the_policys_holds(staged: StagedTime, asked: float, holds: float) -> None:
    there = Destination(staged)
    assert await Deadline("d", POLICY, there, staged.time)(ASK, BEGINNING + asked) is DONE
    assert there.deadlines == [BEGINNING + holds]


@pytest.mark.parametrize("late_s", [0.0, 1.0])
async def test_what_is_late_is_not_begun(staged: StagedTime, late_s: float) -> None:
    there = Destination(staged)
    for step in (Deadline("d", POLICY, there, staged.time), Attempt("d", POLICY, there, staged.time)):
        with pytest.raises(DeadlineExceeded):
            await step(ASK, BEGINNING - late_s)
    assert there.calls == 0


async def test_a_try_that_takes_too_long_leaves_time_for_another(staged: StagedTime) -> None:
    there = Destination(staged, 2.1, 1.9)
    attempt = Attempt("d", POLICY, there, staged.time)
    with pytest.raises(NoAnswer, match="within 2 s"):
        await staged.run(attempt(ASK, BEGINNING + 5))
    assert staged.now == BEGINNING + 2
    assert await staged.run(attempt(ASK, BEGINNING + 5)) is DONE
    assert there.deadlines == [BEGINNING + 2, BEGINNING + 4]


async def test_the_last_try_ends_with_the_call(staged: StagedTime) -> None:
    there = Destination(staged, 9.0)
    with pytest.raises(DeadlineExceeded):
        await staged.run(Attempt("d", POLICY, there, staged.time)(ASK, BEGINNING + 1))
    assert staged.now == BEGINNING + 1
    assert there.deadlines == [BEGINNING + 1]


def test_it_travels_as_what_is_left() -> None:
    assert header_of(BEGINNING + 4.2509, BEGINNING) == "4250"
    assert deadline_of({HEADER: "4250"}, 77.0) == 81.25
    assert header_of(deadline_of({HEADER: "4250"}, 77.0), 79.0) == "2250"
    assert header_of(BEGINNING - 1, BEGINNING) == "0"
    assert deadline_of({}, 77.0) == math.inf


@pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "²", "99999999999"])
def test_a_header_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=HEADER):
        deadline_of({HEADER: text}, 0.0)
