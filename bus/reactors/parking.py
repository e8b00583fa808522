"""What a reactor gave up, by key: what comes later for such a key queues behind it, in order, until somebody mends it.

Kept beside the reactor's checkpoint, which goes on. Which keys wait is known in memory, so a reaction to any other key
costs a look into a set.
"""

from __future__ import annotations

import asyncio

from bus import metrics
from bus.reactors.checkpoints import Checkpoints, Place, Queue

BEHIND = "queues behind what was parked before"


class Parking:
    def __init__(self, reactor: str, checkpoints: Checkpoints) -> None:
        self._reactor = reactor
        self._checkpoints = checkpoints
        self._changing = asyncio.Lock()
        self.keys: set[str] = set()
        """For which something waits. What is tried again at a start is under way, and does not until it fails."""

    async def park(self, place: Place, key: str, error: str) -> None:
        async with self._changing:
            self.keys.add(key)
            await self._put(place, key, error)

    async def queues_behind(self, place: Place, key: str) -> bool:
        """Put it behind what waits for its key; False where nothing does."""
        if key not in self.keys:
            return False
        async with self._changing:
            if key not in self.keys:  # The last that waited was dealt with meanwhile.
                return False
            await self._put(place, key, BEHIND)
            return True

    async def failed_again(self, queue: Queue, error: str) -> None:
        """The first of it."""
        await self._checkpoints.park(self._reactor, queue.first, queue.key, error)

    async def done(self, place: Place) -> None:
        await self._checkpoints.unpark(self._reactor, place)

    async def discard(self, place: Place, key: str, reason: str) -> None:
        await self._checkpoints.note_discarded(self._reactor, place, key, reason)
        await self._checkpoints.unpark(self._reactor, place)

    async def queue(self, key: str) -> Queue | None:
        """What waits for a key. Where nothing does any more, later ones of the key go on."""
        async with self._changing:
            if key not in self.keys:
                return None
            if found := await self._checkpoints.queues(self._reactor, key):
                return found[0]
            self.keys.discard(key)
            return None

    async def queues(self, key: str = "") -> list[Queue]:
        """What waits, of all keys or of one; the longest waiting first."""
        return [queue for queue in await self._checkpoints.queues(self._reactor, key) if queue.key in self.keys]

    async def _put(self, place: Place, key: str, error: str) -> None:
        metrics.reactor_parked.labels(self._reactor).inc()
        await self._checkpoints.park(self._reactor, place, key, error)
