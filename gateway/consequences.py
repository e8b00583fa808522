"""What a write led to elsewhere: whether a read model shows what the processes did upon a position of another log.

An order that is placed is answered with its place in the log of the orders; the stock that is reserved for it lies in
another log, at a place that nobody knows yet. Who asks for the stock with the order's position waits until each process
that observes the orders has been told of all up to there, its commands are done, and the read model shows them. What
the outside world has still to answer, a payment say, is not waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bus.announcements import Standings
from bus.log import EPOCH_SEQUENCE, Log
from gateway.compose import Process
from projections.projection import Projection

Reached = Callable[[Projection, int, float], Awaitable[bool]]
"""Whether a read model reaches a position in so many seconds."""


class Consequences:
    """Raises `LogUnreachable`."""

    def __init__(
        self, processes: Sequence[Process], logs: Mapping[str, Log], standings: Standings, reached: Reached
    ) -> None:
        self._processes = processes
        self._logs = logs
        self._standings = standings
        self._reached = reached

    async def shown(self, log: str, sequence: int, model: Projection, wait_s: float) -> bool:
        """Whether the read model shows, in so many seconds, what events of a log up to a position led to."""
        through = [each for each in self._processes if log in each.observes and model.stream in each.sends_to]
        return all(await asyncio.gather(*(self._through(each, log, sequence, model, wait_s) for each in through)))

    async def _through(self, process: Process, log: str, sequence: int, model: Projection, wait_s: float) -> bool:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + wait_s
        if not await self._standings.wait(process.intake(log), sequence, wait_s):
            return False
        decided = await self._logs[process.domain.name].head()
        if decided > EPOCH_SEQUENCE and not await self._standings.wait(process.relay, decided, ends_at - loop.time()):
            return False
        return await self._reached(model, await self._logs[model.stream].head(), ends_at - loop.time())
