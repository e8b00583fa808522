"""How the benchmarks have read models built: the one place that calls what the product builds them with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bus.logs.log import Log
from domains.orders.order import orders
from gateway import compose
from projections.batches import Batch
from projections.build import Build
from projections.feed import whole
from projections.files import ReadModelFiles, remove
from projections.pipeline import pour
from projections.projection import Projection

OF_ORDERS = tuple(projection for projection in compose.PROJECTIONS if projection.stream == orders.name)


class Built:
    """Read models that show all of a log, in files of their own. `events`: how many each has seen."""

    def __init__(self, paths: Sequence[Path], events: int, sequence: int) -> None:
        self.paths = paths
        self.events = events
        self.sequence = sequence

    def remove(self) -> None:
        for path in self.paths:
            remove(path)


async def build(log: Log, projections: Sequence[Projection], folder: Path) -> Built:
    """Build these read models of the orders from the log's first record to its end, all from one reading."""
    files = ReadModelFiles(folder)
    builds = [Build.begin(projection, files, log.epoch) for projection in projections]

    def apply(batch: Batch) -> None:
        for one in builds:
            one.apply(batch)

    async def write(batch: Batch) -> bool:
        await whole(apply, batch)
        return True

    try:
        await pour(log, compose.decoders()[orders.name], projections, builds[0].position, await log.head(), write)
        events, sequence = builds[0].position.events, builds[0].position.sequence
        for one in builds:
            await whole(Build.finish, one)
        return Built([one.path for one in builds], events, sequence)
    finally:
        for one in builds:
            one.close()
