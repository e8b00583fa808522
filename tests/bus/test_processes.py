"""Telling domains what a process observed and decided: every trouble passes or is final."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import pytest
from nats.aio.client import Client

from bus.engines.endpoint import Endpoint
from bus.logs.blocks import Commit
from bus.logs.log import MemoryLog
from bus.reactors.processes import StepRefused, observe, relay
from bus.reactors.reactor import Occurrence
from bus.sender import Sender
from tests.bus.counter import LIMIT, Add, CounterEngine, blocks_of, counters, totals

Result = TypeVar("Result")

WHAT = Occurrence("an event", "shop", 5, 0, Commit("c1", "a", 1, []), datetime(2026, 11, 21, tzinfo=UTC))


@pytest.fixture
async def log(client: Client, unique: str) -> AsyncIterator[MemoryLog]:
    """What the engine of the counters writes, which takes commands meanwhile."""
    log = MemoryLog(unique)
    engine = CounterEngine(counters(unique), log)
    await engine.start()
    endpoint = Endpoint(client, engine, unique)
    await endpoint.start()
    yield log
    await endpoint.stop()
    await engine.stop()
    await endpoint.drain()


def _instead(result: Result, _: object) -> Result:
    """What comes of any event."""
    return result


@pytest.fixture
def sender(client: Client, unique: str) -> Sender:
    return Sender(client, {Add: unique})


async def test_what_was_told_before_as_older_code_put_it_is_not_told_again(log: MemoryLog, sender: Sender) -> None:
    for amount in (1, 2):  # The second time in other words.
        observed, steps = Add("a", amount), [Add("b", amount), Add("c", amount)]
        await observe(sender, partial(_instead, ("a", observed)))(WHAT)
        await relay(sender, partial(_instead, steps), "a process")(WHAT)
    assert totals(await blocks_of(log)) == {"a": 1, "b": 1, "c": 1}


async def test_what_is_refused_is_not_passed_over(log: MemoryLog, sender: Sender) -> None:
    with pytest.raises(StepRefused, match="limit_exceeded"):
        await observe(sender, partial(_instead, ("a", Add("a", LIMIT + 1))))(WHAT)
    with pytest.raises(StepRefused, match="limit_exceeded"):
        await relay(sender, partial(_instead, [Add("b", LIMIT + 1), Add("c", 1)]), "a process")(WHAT)
    assert totals(await blocks_of(log)) == {"c": 1}
