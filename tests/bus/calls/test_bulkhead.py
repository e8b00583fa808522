"""The bulkhead: so many at a time, so many more waiting in order, and a place is never lost."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from bus.calls.bulkhead import Bulkhead
from bus.calls.call import Call, DeadlineExceeded, Overloaded, Reply
from bus.calls.policy import CallPolicy
from tests.bus.calls.staged import ASK, BEGINNING, DONE, StagedTime
from tests.bus.waiting import turns, until

POLICY = CallPolicy(concurrency=2, queue=2)
LATER = BEGINNING + 10


class Held:
    """A destination whose calls last until they are let go."""

    def __init__(self) -> None:
        self.inside: list[asyncio.Future[Reply]] = []
        self.begun: list[str] = []

    async def __call__(self, call: Call, deadline: float) -> Reply:
        self.begun.append(call.target)
        done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.inside.append(done)
        return await done

    async def let_go(self) -> None:
        self.inside.pop(0).set_result(DONE)
        await turns()


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def staged() -> StagedTime:
    return StagedTime()


@pytest.fixture
def bulkhead(held: Held, staged: StagedTime) -> Bulkhead:
    return Bulkhead("d", POLICY, held, staged.time)


async def begun(bulkhead: Bulkhead, *names: str) -> list[asyncio.Task[Reply]]:
    async def one(name: str) -> Reply:
        return await bulkhead(Call(name), LATER)

    tasks = [asyncio.create_task(one(name)) for name in names]
    await turns()
    return tasks


async def test_no_more_than_allowed_are_under_way_and_the_others_follow_in_order(
    bulkhead: Bulkhead, held: Held
) -> None:
    tasks = await begun(bulkhead, "a", "b", "c", "d")
    assert held.begun == ["a", "b"]
    await held.let_go()
    assert held.begun == ["a", "b", "c"]
    for _ in range(3):
        await held.let_go()
    assert held.begun == ["a", "b", "c", "d"]
    assert [task.result() for task in tasks] == [DONE] * 4
    assert bulkhead.under_way == 0


async def test_beyond_the_queue_it_says_no_at_once(bulkhead: Bulkhead, held: Held) -> None:
    tasks = await begun(bulkhead, "a", "b", "c", "d")
    with pytest.raises(Overloaded) as refused:
        await bulkhead(ASK, LATER)
    assert refused.value.retry_after_s > 0
    for _ in range(4):
        await held.let_go()
    assert all(task.done() for task in tasks)


async def test_who_waits_until_the_deadline_never_begins(bulkhead: Bulkhead, held: Held, staged: StagedTime) -> None:
    tasks = await begun(bulkhead, "a", "b", "c")
    staged.leap()
    await turns()
    assert staged.now == LATER
    with pytest.raises(DeadlineExceeded):
        tasks[2].result()
    await held.let_go()
    await held.let_go()
    assert held.begun == ["a", "b"]
    assert bulkhead.under_way == 0


async def test_a_place_given_to_one_who_leaves_goes_to_the_next(bulkhead: Bulkhead, held: Held) -> None:
    tasks = await begun(bulkhead, "a", "b", "c", "d")
    held.inside.pop(0).set_result(DONE)
    await until(lambda: len(bulkhead._waiting) == 1)  # "c" was given the place, and has not taken it yet.
    assert held.begun == ["a", "b"]
    tasks[2].cancel()
    await turns()
    assert held.begun == ["a", "b", "d"]
    await held.let_go()
    await held.let_go()
    assert bulkhead.under_way == 0


async def test_who_leaves_the_queue_makes_room_in_it(bulkhead: Bulkhead, held: Held) -> None:
    tasks = await begun(bulkhead, "a", "b", "c", "d")
    tasks[2].cancel()
    await turns()
    more = await begun(bulkhead, "e")
    for _ in range(4):
        await held.let_go()
    assert held.begun == ["a", "b", "d", "e"]
    assert more[0].result() is DONE


async def test_a_failing_call_gives_its_place_back(staged: StagedTime) -> None:
    async def defect(call: Call, deadline: float) -> Reply:
        raise ZeroDivisionError

    bulkhead = Bulkhead("d", POLICY, defect, staged.time)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await bulkhead(ASK, LATER)
    assert bulkhead.under_way == 0


async def test_a_wider_policy_lets_in_who_waits(bulkhead: Bulkhead, held: Held) -> None:
    await begun(bulkhead, "a", "b", "c", "d")
    bulkhead.policy = replace(POLICY, concurrency=3)
    await turns()
    assert held.begun == ["a", "b", "c"]
    bulkhead.policy = replace(POLICY, concurrency=1)
    await held.let_go()
    await held.let_go()
    assert held.begun == ["a", "b", "c"]
    await held.let_go()
    assert held.begun == ["a", "b", "c", "d"]
    await held.let_go()
