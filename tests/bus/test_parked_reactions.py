"""Parked reactions: listed, tried again in order, given up; and what comes meanwhile waits for its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bus.control import Reply
from bus.logs.log import MemoryLog
from bus.reactors import mending
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.mending import Mending, ParkedKey, ParkedReactions, RedrivenReactions
from bus.reactors.reactor import Again, Reactor
from tests.bus.counter import Added, CounterEvent
from tests.bus.reacting import QUICK, Reacted, reactor_on, running
from tests.bus.waiting import turns, until
from tests.bus.written import AT, Written

FIRST, SECOND, THIRD = "counters-2-1", "counters-3-0", "counters-4-0"
BAD = {"reactor": "test", "key": "bad"}


class Case:
    """A reactor that gave up the first event of the key `bad`, behind which another waits."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.written = Written(MemoryLog("counters"))
        self.reacted = Reacted()
        self.reactor: Reactor[CounterEvent] = reactor_on(self.written, checkpoints, self.reacted)
        self.mending = Mending([self.reactor])  # type: ignore[list-item]  # Of any events.

    async def parked(self, **parameters: str) -> list[ParkedKey]:
        reply = await self.mending.parked(parameters)
        assert not reply.code, reply
        return msgspec.json.decode(reply.detail, type=ParkedReactions).items

    async def redriven(self) -> RedrivenReactions:
        return told(await self.mending.redrive(BAD))

    async def discard(self, sequence: int, offset: int, reason: str = "a test") -> Reply:
        place = {"sequence": str(sequence), "offset": str(offset)}
        return await self.mending.discard({**BAD, **place, "reason": reason})

    async def more(self) -> None:
        """Another event of the key."""
        sequence = await self.written.block(("bad", [Added("bad", 3)]))
        await until(lambda: self.reactor.position == sequence)


def told(reply: Reply) -> RedrivenReactions:
    assert not reply.code, reply
    return msgspec.json.decode(reply.detail, type=RedrivenReactions)


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    checkpoints = await Checkpoints.open(tmp_path / "reactors.db")
    case = Case(checkpoints)
    case.reacted.troubles[FIRST] = [ValueError("no good") for _ in range(QUICK.attempts_max)]
    await case.written.block(("good", [Added("good", 1)]), ("bad", [Added("bad", 1)]))
    await case.written.block(("bad", [Added("bad", 2)]))
    async with running(case.reactor):
        await until(lambda: case.reactor.position == 3)
        yield case
    await checkpoints.close()


async def test_what_waits_is_listed_with_its_first_and_why(case: Case) -> None:
    first = ParkedKey("test", "counters", "bad", 2, 2, 1, AT.timestamp(), "ValueError('no good')")
    assert await case.parked() == await case.parked(key="bad") == [first]
    assert await case.parked(key="good") == []
    assert case.mending.keys == 1


async def test_it_is_tried_again_in_order_and_later_ones_go_on_by_themselves(case: Case) -> None:
    assert await case.redriven() == RedrivenReactions(2, 0)
    await case.more()
    assert case.reacted.done == ["counters-2-0", FIRST, SECOND, THIRD]
    assert await case.parked() == []
    assert (await case.mending.redrive(BAD)).code == "parked_unknown"


@pytest.mark.parametrize(
    ("trouble", "why"), [(ValueError("still"), "ValueError('still')"), (Again("not there"), "it must wait: not there")]
)
async def test_what_fails_again_stays_the_first_and_says_why(case: Case, trouble: Exception, why: str) -> None:
    case.reacted.troubles[FIRST] = [trouble]
    assert await case.redriven() == RedrivenReactions(0, 2, why)
    await case.more()
    (waiting,) = await case.parked()
    assert (waiting.reactions, waiting.sequence, waiting.offset) == (3, 2, 1)
    assert await case.redriven() == RedrivenReactions(3, 0)
    assert case.reacted.done[1:] == [FIRST, SECOND, THIRD]


async def test_what_comes_while_it_is_tried_again_waits_for_its_turn(case: Case) -> None:
    gate = case.reacted.gates["bad"] = asyncio.Event()
    redriving = asyncio.create_task(case.redriven())
    await until(lambda: len(case.reacted.tried) == QUICK.attempts_max + 2)
    await case.more()
    gate.set()
    assert await redriving == RedrivenReactions(3, 0)
    assert case.reacted.done[1:] == [FIRST, SECOND, THIRD]


async def test_one_that_takes_too_long_is_cut_short_and_stays(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "REDRIVE_S", 0.05)
    case.reacted.gates["bad"] = asyncio.Event()
    outcome = await case.redriven()
    assert (outcome.redriven, outcome.left, outcome.error) == (0, 2, "it was not done within 0.05 s")
    case.reacted.gates["bad"].set()
    await turns()
    assert FIRST not in case.reacted.done


async def test_a_long_queue_is_redriven_part_by_part(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "REDRIVE_MAX", 1)
    assert [await case.redriven(), await case.redriven()] == [RedrivenReactions(1, 1), RedrivenReactions(1, 0)]


async def test_the_first_is_given_up_and_what_is_behind_it_goes_on(case: Case) -> None:
    assert (await case.discard(3, 0)).code == "not_parked"
    assert (await case.discard(2, 1, reason=" ")).code == "malformed"
    assert told(await case.discard(2, 1)) == RedrivenReactions(1, 0)
    assert case.reacted.done[1:] == [SECOND]
    assert (await case.discard(2, 1)).code == "parked_unknown"


async def test_the_only_one_is_given_up(case: Case) -> None:
    case.reacted.troubles[SECOND] = [ValueError("neither")]
    assert told(await case.discard(2, 1)) == RedrivenReactions(0, 1, "ValueError('neither')")
    assert told(await case.discard(3, 0)) == RedrivenReactions(0, 0)
    assert await case.parked() == []


async def test_what_makes_no_sense_is_refused(case: Case) -> None:
    assert (await case.mending.redrive({"reactor": "nothing", "key": "bad"})).code == "parked_unknown"
    assert (await case.mending.discard({**BAD, "reason": "r", "sequence": "x", "offset": "0"})).code == "malformed"
