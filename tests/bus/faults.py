"""Real logs with faults put in between: gates, lost acknowledgements, blocks that arrive late or never."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Literal

from bus.logs.log import AppendOutcome, Log, LogUnreachable, Record, Uncertain, Unstored

Fault = Literal["", "ack_lost", "block_lost", "block_late", "block_refused"]


class FaultyLog:
    """A log that does what the one inside does, but for the faults it is told to make."""

    def __init__(self, inside: Log, faults: Iterable[Fault] = ()) -> None:
        self.inside = inside
        self.faults: deque[Fault] = deque(faults)
        """What happens to the next appends, in order; then nothing more."""
        self.gate = asyncio.Event()
        """Appends wait until it is set."""
        self.gate.set()
        self.appending = 0
        self.appending_max = 0
        self.late: list[tuple[int, bytes, str, int]] = []
        """Blocks that were given up by their writer and are still on their way."""
        self.unreachable = False

    @property
    def name(self) -> str:
        return self.inside.name

    @property
    def epoch(self) -> str:
        return self.inside.epoch

    @property
    def partitions(self) -> int:
        return self.inside.partitions

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        self.appending += 1
        self.appending_max = max(self.appending_max, self.appending)
        try:
            await self.gate.wait()
            match self.faults.popleft() if self.faults else "":
                case "ack_lost":
                    await self.inside.append(partition, block, block_hash, expected)
                    return Uncertain("the acknowledgement was lost")
                case "block_lost":
                    return Uncertain("the block was lost")
                case "block_late":
                    self.late.append((partition, block, block_hash, expected))
                    return Uncertain("the block is late")
                case "block_refused":
                    return Unstored("log_full")
                case _:
                    return await self.inside.append(partition, block, block_hash, expected)
        finally:
            self.appending -= 1

    async def deliver_late(self) -> list[AppendOutcome]:
        """Let arrive what was late."""
        late, self.late = self.late, []
        return [await self.inside.append(*block) for block in late]

    async def last(self, partition: int) -> Record | None:
        self._reach()
        return await self.inside.last(partition)

    async def head(self) -> int:
        self._reach()
        return await self.inside.head()

    async def get(self, sequence: int) -> Record | None:
        self._reach()
        return await self.inside.get(sequence)

    def read(self, after: int = 0, until: int | None = None) -> AsyncGenerator[list[Record], None]:
        return self.inside.read(after, until)

    def _reach(self) -> None:
        if self.unreachable:
            raise LogUnreachable("as the test wants it")
