"""The projection worker: every feed of this process, and the rebuilds that it is asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import msgspec

from bus.announcements import Announcer, RebuildProgress
from bus.control import Reply
from bus.log import Log
from projections.feed import Decoder, Feed
from projections.files import ReadModelFiles, RebuildUnderWay
from projections.projection import Projection
from projections.rebuild import RebuildDiffers, rebuild

log = logging.getLogger(__name__)

REBUILD = "rebuild"
"""The control verb: parameters `name` and, to switch even though the builds differ, `accept_difference` = "yes"."""


class ProjectionWorker:
    def __init__(
        self,
        announcer: Announcer,
        logs: Mapping[str, Log],
        decoders: Mapping[str, Decoder],
        projections: Sequence[Projection],
        folder: Path,
    ) -> None:
        self.files = ReadModelFiles(folder)
        self.feeds: dict[str, Feed] = {}
        for stream in dict.fromkeys(projection.stream for projection in projections):
            of_stream = [projection for projection in projections if projection.stream == stream]
            self.feeds[stream] = Feed(logs[stream], decoders[stream], of_stream, self.files, announcer)
        self._projections = {projection.name: projection for projection in projections}
        self._rebuilds: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for feed in self.feeds.values():
                    tasks.create_task(feed.run())
        finally:
            for task in self._rebuilds.values():
                task.cancel()
            await asyncio.gather(*self._rebuilds.values(), return_exceptions=True)
            for feed in self.feeds.values():
                feed.close()

    async def begin_rebuild(self, parameters: dict[str, str]) -> Reply:
        """Begin a rebuild in the background; how it goes is announced with the read model's standing, under the id
        that the reply's `detail` gives."""
        name = parameters.get("name", "")
        projection = self._projections.get(name)
        if projection is None:
            return Reply(
                "projection_unknown", f"there is no read model {name}; there are {', '.join(self._projections)}"
            )
        feed = self.feeds[projection.stream]
        if name not in feed.stores:
            return Reply("not_ready", f"{name} is not open yet")
        running = self._rebuilds.get(name)
        if running is not None and not running.done():
            return Reply("rebuild_under_way", f"{name} is being rebuilt already")
        accept = parameters.get("accept_difference") == "yes"
        request = uuid4().hex
        feed.rebuilds[name] = RebuildProgress("building", 0, 0, 0, 0.0, None, id=request)
        self._rebuilds[name] = asyncio.get_running_loop().create_task(self._rebuild(feed, projection, request, accept))
        await feed.announce(name)
        return Reply(detail=request)

    async def _rebuild(self, feed: Feed, projection: Projection, id: str, accept_difference: bool) -> None:
        name = projection.name

        async def tell(progress: RebuildProgress) -> None:
            feed.rebuilds[name] = msgspec.structs.replace(progress, id=id)
            await feed.announce(name)

        try:
            await rebuild(feed, projection, self.files, tell, accept_difference=accept_difference)
        except Exception as error:  # The live read model goes on; who asked is told why.
            if not isinstance(error, RebuildUnderWay | RebuildDiffers):
                log.exception("the rebuild of %s failed", name)
            last = feed.rebuilds[name]
            await tell(
                RebuildProgress("failed", last.sequence, last.head, last.events, last.rate_per_s, None, str(error))
            )
