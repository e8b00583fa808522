"""One partition of a log, as its engine sees it: where it stands, what its states rest on, what is appended to it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Generic, TypeVar

from bus import metrics
from bus.engines.states import States, StoreUnreachable, fold_block
from bus.logs.blocks import GENESIS, Block, Chain, decoder_of, hash_of, read_block, seal
from bus.logs.log import Appended, AppendOutcome, Conflict, Log, LogDamaged, LogUnreachable, Uncertain
from domains.kernel import Domain

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")
Result = TypeVar("Result")

RETRY_S = 1.0

log = logging.getLogger(__name__)


class Partition(Generic[State, Command, Event]):
    """Keeps states up to date with the log. `position` is the partition's last block that they hold.

    `durable` hears of each last block that is known to be on disk, by its sequence and hash.
    """

    def __init__(
        self,
        domain: Domain[State, Command, Event],
        source: Log,
        number: int,
        states: States[State],
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
        retry_s: float = RETRY_S,
        durable: Callable[[int, str], None] = lambda sequence, block_hash: None,
    ) -> None:
        self.position = 0
        self.decode = decoder_of(domain).decode
        self._domain = domain
        self._log = source
        self._number = number
        self._states = states
        self._progress = progress
        self._retry_s = retry_s
        self._durable = durable
        self._chain = Chain(source.epoch, whole=True)
        self._read_to = 0
        """In the log, which holds other partitions' blocks as well."""

    def __str__(self) -> str:
        return f"{self._domain.name}/{self._number}"

    async def open(self) -> None:
        """Begin where the states stand, and read on to the log's end.

        Raises `LogDamaged` when the log is not what they rest on.
        """
        opened = await self._until_it_works(self._states.open)
        self._chain = Chain(self._log.epoch, opened.tips, whole=opened.sequence == 0)
        self._read_to = opened.sequence
        if opened.sequence:
            last = await self._until_it_works(lambda: self._log.last(self._number))
            tip = opened.tips.get(self._number)
            if last is None or last.sequence <= opened.sequence:
                if (None if last is None else hash_of(last.data)) != tip:
                    raise LogDamaged(f"{self._log.name} does not hold up to {opened.sequence} what its states rest on")
                self.position = 0 if last is None else last.sequence
        await self.catch_up()

    async def catch_up(self) -> None:
        """Read up to the log's end, until that succeeds. Raises `LogDamaged`."""
        await self._until_it_works(self._catch_up)
        if self.position:
            self._durable(self.position, self._chain.tips[self._number])

    async def append(self, commits: list[bytes], at: datetime) -> AppendOutcome:
        """Append a block. The states are for the caller to advance."""
        data = seal(self._log.epoch, at, self._chain.tips.get(self._number, GENESIS), commits)
        block_hash = hash_of(data)
        began = time.perf_counter()
        outcome = await self._log.append(self._number, data, block_hash, self.position)
        metrics.append_seconds.labels(self._domain.name).observe(time.perf_counter() - began)
        if isinstance(outcome, Appended):
            metrics.blocks_appended.labels(self._domain.name).inc()
            self._chain.tips[self._number] = block_hash
            self.position = self._read_to = outcome.sequence
            self._durable(outcome.sequence, block_hash)
        return outcome

    async def confirm(self) -> AppendOutcome:
        """Whether what is known is still the latest: has another owner written since?"""
        try:
            if await self._log.head() <= max(self._read_to, 1):
                return Appended(self.position)
            last = await self._log.last(self._number)
        except LogUnreachable as error:
            return Uncertain(str(error))
        return Appended(self.position) if (last.sequence if last else 0) == self.position else Conflict()

    async def still_holds(self) -> None:
        """Raise `LogDamaged` when the log does not hold the last block any more that is known of it, or has a hole, or
        is gone. It has to be so twice: after an election a server may not know better for a moment."""
        try:
            await self._look()
        except LogDamaged as error:
            log.error("%s: %s; looking again", self, error.args[0])
            await asyncio.sleep(self._retry_s)
            await self._look()

    async def _look(self) -> None:
        position, read_to, tip = self.position, self._read_to, self._chain.tips.get(self._number)
        head = await self._log.head()
        if head < read_to:
            raise LogDamaged(f"{self._log.name} ends at {head}, but {read_to} was read before")
        last = await self._log.last(self._number)
        if last is not None and last.sequence > position:
            return  # Another writer's: it is read, and checked against the chain, before the next block.
        if (None if last is None else (last.sequence, hash_of(last.data))) != ((position, tip) if position else None):
            raise LogDamaged(f"{self._log.name} does not hold block {position} of {self} any more")

    async def _catch_up(self) -> None:
        head = await self._log.head()
        if head < self._read_to:
            raise LogDamaged(f"{self._log.name} ends at {head}, but {self._read_to} was read before")
        async for batch in self._log.read(self._read_to, head):
            blocks = {one: read_block(one, self.decode) for one in batch if one.partition == self._number}
            await self._load(blocks.values())
            for record, block in blocks.items():
                await self._load([block])  # What the blocks before it touched may hide what was known to be new.
                followed = dict(self._chain.tips)
                self._chain.check(record.partition, record.sequence, record.data, block.epoch, block.prev)
                try:
                    fold_block(self._domain, self._states, record.sequence, block.commits)
                except StoreUnreachable:  # It is read again, and has to continue what came before it then, too.
                    self._chain.tips = followed
                    raise
                self.position = self._read_to = record.sequence
            self._read_to = batch[-1].sequence
            self._progress(batch[-1].sequence, head)

    async def _load(self, blocks: Collection[Block[Event]]) -> None:
        """What these blocks touch and is not in memory, in one hop."""
        touched = {commit.aggregate for block in blocks for commit in block.commits}
        await self._states.load({aggregate for aggregate in touched if self._states.get(aggregate) is None}, ())

    async def _until_it_works(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        while True:
            try:
                return await attempt()
            except (LogUnreachable, StoreUnreachable) as error:
                reason = str(error) or type(error).__name__
                log.warning("%s cannot be read (%s); trying again", self._domain.name, reason)
                await asyncio.sleep(self._retry_s * random.uniform(0.5, 1.0))
