"""The projection worker: every feed of this process, and the rebuilds that it is asked for or sees to by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import msgspec

from bus.announcements import Announcer, RebuildProgress
from bus.control import Reply
from bus.logs.log import Log
from projections.feed import Decoder, Feed
from projections.files import ReadModelFiles, RebuildUnderWay
from projections.projection import Projection
from projections.rebuild import NothingBefore, Tell, rebuild, roll_back

log = logging.getLogger(__name__)

REBUILD = "rebuild"
"""The control verb: parameters `name` (or `all`) and, to switch even though it differs from the live one,
`accept_difference` = "yes"."""
ROLL_BACK = "rollback"
"""The control verb: parameter `name`."""
ALL = "all"

Work = Callable[[Tell], Awaitable[object]]


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
        self._changes: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.to_thread(self._sweep)
        try:
            async with asyncio.TaskGroup() as tasks:
                for feed in self.feeds.values():
                    tasks.create_task(feed.run())
                    tasks.create_task(self._bring_up_to_date(feed))
        finally:
            for task in self._changes.values():
                task.cancel()
            await asyncio.gather(*self._changes.values(), return_exceptions=True)
            for feed in self.feeds.values():
                feed.close()

    async def begin_rebuild(self, parameters: dict[str, str]) -> Reply:
        """Begin a rebuild in the background; how it goes is announced with the read model's standing, under the id
        that the reply's `detail` gives. Of all: one read a stream, side by side."""
        name = parameters.get("name", "")
        names = list(self._projections) if name == ALL else [name]
        if (refusal := self._refusal(names)) is not None:
            return refusal
        accept = parameters.get("accept_difference") == "yes"
        request = uuid4().hex
        for feed in self.feeds.values():
            if wanted := [self._projections[each] for each in names if each in feed.projections]:
                await self._begin(feed, wanted, request, self._rebuilding(feed, wanted, accept))
        return Reply(detail=request)

    async def begin_roll_back(self, parameters: dict[str, str]) -> Reply:
        """The same for the way back to the build before."""
        name = parameters.get("name", "")
        if (refusal := self._refusal([name])) is not None:
            return refusal
        projection, request = self._projections[name], uuid4().hex
        feed = self.feeds[projection.stream]
        await self._begin(feed, [projection], request, lambda tell: roll_back(feed, projection, self.files, tell))
        return Reply(detail=request)

    def _refusal(self, names: list[str]) -> Reply | None:
        for name in names:
            if name not in self._projections:
                known = ", ".join(self._projections)
                return Reply("projection_unknown", f"there is no read model {name}; there are {known}")
            if not self.feeds[self._projections[name].stream].opened.is_set():
                return Reply("not_ready", f"{name} is not open yet")
            running = self._changes.get(name)
            if running is not None and not running.done():
                return Reply("rebuild_under_way", f"{name} is being rebuilt already")
        return None

    def _rebuilding(self, feed: Feed, projections: Sequence[Projection], accept_difference: bool) -> Work:
        return lambda tell: rebuild(feed, projections, self.files, tell, accept_difference=accept_difference)

    async def _begin(self, feed: Feed, projections: Sequence[Projection], request: str, work: Work) -> None:
        for projection in projections:
            feed.rebuilds[projection.name] = RebuildProgress("building", 0, 0, 0, 0.0, None, id=request)
        task = asyncio.get_running_loop().create_task(self._change(feed, projections, request, work))
        for projection in projections:
            self._changes[projection.name] = task
            await feed.announce(projection.name)

    async def _change(self, feed: Feed, projections: Sequence[Projection], request: str, work: Work) -> None:
        async def tell(name: str, progress: RebuildProgress) -> None:
            feed.rebuilds[name] = msgspec.structs.replace(progress, id=request)
            await feed.announce(name)

        try:
            await work(tell)
        except Exception as error:  # The live read models go on; who asked is told why.
            if not isinstance(error, RebuildUnderWay | NothingBefore):
                log.exception("the rebuild of %s failed", ", ".join(each.name for each in projections))
            for projection in projections:
                last = feed.rebuilds[projection.name]
                if last.state != "done":
                    detail = str(error) or type(error).__name__
                    await tell(projection.name, msgspec.structs.replace(last, state="failed", detail=detail))

    async def _bring_up_to_date(self, feed: Feed) -> None:
        """Where other code made the live file: go back to the build before, if this code made that, else build one
        beside it. Until then that file is shown."""
        await feed.opened.wait()
        outdated = [self._projections[name] for name in feed.projections if name in feed.outdated]
        for projection in outdated:
            before = self.files.before(projection.name)
            if before is not None and self.files.is_of(before, projection):
                await self.begin_roll_back({"name": projection.name})
                await asyncio.wait({self._changes[projection.name]})
        if wanted := [projection for projection in outdated if projection.name in feed.outdated]:
            names = ", ".join(projection.name for projection in wanted)
            log.info("%s: the live file is of another version, one of this is built beside it", names)
            await self._begin(feed, wanted, uuid4().hex, self._rebuilding(feed, wanted, False))
            await asyncio.wait({self._changes[wanted[0].name]})
        for name in tuple(feed.outdated):
            log.critical("read model %s cannot be brought up to date: %s", name, feed.rebuilds[name].detail)
            feed.errors[name] = f"still shown is another version's; {feed.rebuilds[name].detail}"
            await feed.announce(name)

    def _sweep(self) -> None:
        """Remove what an end in the middle of a rebuild left."""
        for name in self._projections:
            try:
                with self.files.building(name):
                    self.files.sweep(name)
            except RebuildUnderWay as error:
                log.warning("%s, by another process", error)
