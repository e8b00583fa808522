"""A log, the worker that folds it, who listens to it and who reads: the whole read side in one hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from bus.announcements import Announcer, Standing, Standings
from projections.feed import Feed
from projections.files import ReadModelFiles
from projections.projection import Projection
from projections.reader import Query, Reader
from projections.worker import ProjectionWorker
from tests.bus.waiting import PATIENCE_S, until
from tests.bus.written import Written
from tests.projections.tally import DECODER, tally


class Total(Struct, frozen=True):
    counter_id: str
    total: int


@dataclass
class Shop:
    written: Written
    folder: Path
    announcer: Announcer
    standings: Standings
    reader: Reader

    @property
    def stream(self) -> str:
        return self.written.log.name

    @property
    def files(self) -> ReadModelFiles:
        return ReadModelFiles(self.folder)

    def tally(self, suffix: str = "", version: int = 1) -> Projection:
        """A read model of this log; its name is this test's own, for all tests hear each other's announcements."""
        return tally(f"tally{suffix}_{self.stream}", self.stream, version)

    def worker(self, *projections: Projection) -> ProjectionWorker:
        return ProjectionWorker(
            self.announcer, {self.stream: self.written.log}, {self.stream: DECODER}, projections, self.folder
        )

    @asynccontextmanager
    async def working(self, *projections: Projection) -> AsyncIterator[ProjectionWorker]:
        """A worker that keeps these read models, ready."""
        worker = self.worker(*projections)
        running = asyncio.create_task(worker.run())
        feed = worker.feeds[self.stream]
        await until(lambda: len(feed.stores) == len(projections) or running.done(), "the feed")
        try:
            yield worker
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait({running})

    @asynccontextmanager
    async def feeding(self, *projections: Projection) -> AsyncIterator[Feed]:
        async with self.working(*projections) as worker:
            yield worker.feeds[self.stream]

    async def reaches(self, projection: Projection, sequence: int) -> None:
        assert await self.standings.wait(projection.name, sequence, PATIENCE_S)

    async def halted(self, projection: Projection) -> Standing:
        """What is announced of a read model that halted."""
        await until(lambda: (told := self.standings.latest(projection.name)) and told.error, "the halt")
        told = self.standings.latest(projection.name)
        assert told is not None
        return told

    async def totals(self, projection: Projection) -> dict[str, int]:
        query = Query(projection, "SELECT total, counter_id FROM total", Total)
        return {row.counter_id: row.total for row in await self.reader.all(query)}
