"""What a write led to elsewhere: whether a read model shows what processes and policies did upon a position of another
log.

An order that is placed is answered with its place in the log of the orders; the stock that is reserved for it lies in
another log, at a place that nobody knows yet. Who asks for the stock with the order's position waits until each process
that observes the orders has been told of all up to there, its commands are done, and the read model shows them. What
the outside world has still to answer, a payment say, is not waited for. A policy, or a process's own log, is one step
less: it has been told, and the read model shows what it wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bus.announcements import Standings
from bus.logs.log import EPOCH_SEQUENCE, Log
from bus.reactors.observers import AnyPolicy, Process, intake
from projections.projection import Projection

Reached = Callable[[Projection, int, float], Awaitable[bool]]
"""Whether a read model reaches a position in so many seconds."""


class Consequences:
    """Raises `LogUnreachable`."""

    def __init__(
        self,
        processes: Sequence[Process],
        policies: Sequence[AnyPolicy],
        logs: Mapping[str, Log],
        standings: Standings,
        reached: Reached,
    ) -> None:
        self._processes = processes
        self._observed = {policy.name: policy.observes.keys() for policy in policies}
        self._observed |= {process.domain.name: process.observes.keys() for process in processes}
        self._logs = logs
        self._standings = standings
        self._reached = reached

    async def shown(self, log: str, sequence: int, model: Projection, wait_s: float) -> bool:
        """Whether the read model shows, in so many seconds, what events of a log up to a position led to."""
        through = [each for each in self._processes if log in each.observes and model.stream in each.sends_to]
        waits = [self._through(each, log, sequence, model, wait_s) for each in through]
        if log in self._observed.get(model.stream, ()):
            waits.append(self._told(log, sequence, model, wait_s))
        return all(await asyncio.gather(*waits))

    async def _told(self, log: str, sequence: int, model: Projection, wait_s: float) -> bool:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + wait_s
        if not await self._standings.wait(intake(model.stream, log), sequence, wait_s):
            return False
        return await self._reached(model, await self._logs[model.stream].head(), ends_at - loop.time())

    async def _through(self, process: Process, log: str, sequence: int, model: Projection, wait_s: float) -> bool:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + wait_s
        if not await self._standings.wait(process.intake(log), sequence, wait_s):
            return False
        decided = await self._logs[process.domain.name].head()
        if decided > EPOCH_SEQUENCE and not await self._standings.wait(process.relay, decided, ends_at - loop.time()):
            return False
        return await self._reached(model, await self._logs[model.stream].head(), ends_at - loop.time())
