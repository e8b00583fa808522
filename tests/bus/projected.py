"""The stored states and the index of a log of counters, in real files that lag as far as a test wants."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from bus.engines.overlay import OverlaidStates, OverlayLimits
from bus.logs.blocks import Chain, block_decoder
from bus.logs.log import Log
from projections.aggregate_state import SqliteStateStore, aggregate_state
from projections.batches import Batch, ReadBlock
from projections.commit_index import commit_index
from projections.feed import Decoder
from projections.files import ReadModelFiles
from projections.store import Store
from tests.bus.counter import CounterCommand, CounterEvent, counters

DOMAIN = counters()
DECODER: Decoder = block_decoder(DOMAIN.events)
STATES, INDEX = 0, 1
TIGHT = OverlayLimits(cache_max=1)

CounterStates = OverlaidStates[int, CounterCommand, CounterEvent]


class Projected:
    def __init__(self, folder: Path, epoch: str = "memory") -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._models: list[Store] = []
        files = ReadModelFiles(folder)
        for projection in (aggregate_state(DOMAIN), commit_index(DOMAIN.name)):
            store = self._stack.enter_context(Store.create(projection, files.next_build(projection), epoch))
            files.switch(projection.name, store.path)
            self._models.append(store)

    def __enter__(self) -> Projected:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def states(self, limits: OverlayLimits = TIGHT) -> CounterStates:
        """States for an engine that reads these files."""
        store = SqliteStateStore(DOMAIN, self.folder)
        self._stack.callback(store.close)
        return OverlaidStates(DOMAIN, store, limits)

    async def project(self, log: Log, model: int, blocks: int) -> None:
        """Let one of the two come so many blocks further, or to the log's end."""
        store = self._models[model]
        position, head = store.position, await log.head()
        until = min(max(position.sequence, 1) + blocks, head)
        if until <= position.sequence:
            return
        chain = Chain(log.epoch, position.tips, whole=position.sequence == 0)
        read: list[ReadBlock] = []
        async for records in log.read(position.sequence, until):
            for record in records:
                block = chain.follow(record, DECODER.decode)
                read.append(ReadBlock(record.sequence, block.at, block.commits))
        if read:
            store.apply(Batch(read, dict(chain.tips)))

    async def project_all(self, log: Log) -> None:
        for model in (STATES, INDEX):
            await self.project(log, model, await log.head())
