"""A reactor on counters whose reactions note what they are called for, and fail as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus.logs.blocks import decoder_of
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.reactor import Occurrence, Reaction, Reactor, ReactorLimits
from tests.bus.counter import Added, CounterEvent, counters
from tests.bus.written import Written

QUICK = ReactorLimits(backoff_s=0.0, checkpoint_every_s=0.005)


class Reacted:
    """A reaction that notes what it is called for, and fails as it is told."""

    def __init__(self) -> None:
        self.tried: list[tuple[str, str]] = []
        self.done: list[str] = []
        self.troubles: dict[str, list[Exception]] = {}
        self.gates: dict[str, asyncio.Event] = {}

    async def __call__(self, what: Occurrence) -> None:
        self.tried.append((what.commit.aggregate, what.id))
        if gate := self.gates.get(what.commit.aggregate):
            await gate.wait()
        if troubles := self.troubles.get(what.id):
            raise troubles.pop(0)
        self.done.append(what.id)


def reactor_on(
    written: Written, checkpoints: Checkpoints, reaction: Reaction, limits: ReactorLimits = QUICK
) -> Reactor[CounterEvent]:
    return Reactor("test", written.log, decoder_of(counters()), {Added: reaction}, checkpoints, limits)


@asynccontextmanager
async def running(reactor: Reactor[CounterEvent]) -> AsyncIterator[Reactor[CounterEvent]]:
    task = asyncio.create_task(reactor.run())
    yield reactor
    task.cancel()
    await asyncio.wait({task})
