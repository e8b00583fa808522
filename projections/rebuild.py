"""Rebuild read models of one stream beside the live ones, verify each, switch; or go back to the build before.

The live ones go on meanwhile, and what fails or differs leaves its live one alone. The build before stays on disk.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

from bus import tracing
from bus.announcements import RebuildProgress
from projections.batches import Batch
from projections.build import Build
from projections.feed import Feed, batches, whole
from projections.files import ReadModelFiles, remove
from projections.parking import Discarded
from projections.pipeline import pour
from projections.projection import Projection
from projections.store import OtherFormat, Position, Store
from projections.verification import Sample, checked, compared, counted, emptied

CLOSE_ENOUGH_RECORDS = 64
"""The live read model is held only for the last few records."""
TELL_EVERY_S = 0.2

log = logging.getLogger(__name__)

Tell = Callable[[str, RebuildProgress], Awaitable[None]]
"""Hears of a read model, by its name, how far it has come."""


class RebuildDiffers(Exception):
    """The rebuilt read model is not what the live one is, or not what the log says, or lacks keys."""


class NothingBefore(Exception):
    """There is no build to go back to."""


async def rebuild(
    feed: Feed,
    projections: Sequence[Projection],
    files: ReadModelFiles,
    tell: Tell,
    *,
    accept_difference: bool = False,
) -> dict[str, RebuildProgress]:
    """Build all of them in one read of the log; then verify and switch each by itself. How each ended: done or failed.

    Raises `RebuildUnderWay` before anything has begun, and what ends the reading: `LogDamaged`.
    """
    with ExitStack() as held:
        for projection in projections:
            held.enter_context(files.building(projection.name))
        candidates: list[_Candidate] = []
        try:
            for projection in projections:
                files.sweep(projection.name)
                candidates.append(_Candidate(feed, projection, files, tell, accept_difference))
            about = {"tally.read_models": ",".join(projection.name for projection in projections)}
            with tracing.span(f"rebuild {feed.source.name}", attributes=about):  # One: it is years of others' traces.
                await _build(feed, candidates)
            outcomes = await asyncio.gather(*(candidate.complete() for candidate in candidates))
        finally:
            for candidate in candidates:
                candidate.close()
    return dict(zip((projection.name for projection in projections), outcomes, strict=True))


async def roll_back(feed: Feed, projection: Projection, files: ReadModelFiles, tell: Tell) -> RebuildProgress:
    """Make the build before the live one again. Only what came since the switch is read; the same again undoes it.

    Raises `RebuildUnderWay` or `NothingBefore`; `LogDamaged` where the log is not what that build was made from.
    """
    name = projection.name
    with files.building(name):
        path = files.before(name)
        if path is None:
            raise NothingBefore(f"no build of {name} before the live one is kept")
        if not files.is_of(path, projection):
            was = f"the build of {name} before the live one, {path.name}, is of another version"
            raise NothingBefore(f"{was}: start the code of that version, and it goes on with it")
        progress = _Progress(name, tell)
        try:
            store = Store.open(projection, path)
        except OtherFormat as error:
            raise NothingBefore(f"the build of {name} before the live one cannot be gone on with: {error}") from error
        try:
            await _go_live(feed, files, store, progress)
        finally:
            if feed.stores.get(name) is not store:
                store.close()
    return await progress.say("done", store.position, detail=f"{path.name} is live again", force=True)


class _Candidate:
    """One read model's build on its way to going live."""

    def __init__(
        self, feed: Feed, projection: Projection, files: ReadModelFiles, tell: Tell, accept_difference: bool
    ) -> None:
        self.projection = projection
        self.progress = _Progress(projection.name, tell)
        self.error: Exception | None = None
        self._feed = feed
        self._files = files
        self._accept_difference = accept_difference
        self._comparable = _goes_on(feed, projection.name)
        self._sample = None if self._comparable and not accept_difference else Sample(projection)
        self._build = Build.begin(projection, files, feed.source.epoch)
        self._build.leave_out(_discarded(projection, files, feed.source.epoch))
        self._store: Store = self._build

    @property
    def position(self) -> Position:
        return self._store.position

    async def target(self) -> int:
        """How far to build: no further than it can be compared."""
        return self._feed.sequence(self.projection.name) if self._comparable else await self._feed.source.head()

    def write(self, batch: Batch) -> None:
        """In a thread. What fails here fails alone."""
        try:
            self._store.apply(batch)
            if self._sample is not None:
                self._sample.apply(batch)
        except Exception as error:  # A handler's defect or a full disk: told at the end.
            log.exception("the build of %s failed", self.projection.name)
            self.error = error

    async def complete(self) -> RebuildProgress:
        """Verify it and switch."""
        try:
            if self.error is None:
                verdict = await self._complete()
                return await self.progress.say("done", self.position, detail=verdict, force=True)
        except Exception as error:  # The live read model goes on; who asked is told why.
            if not isinstance(error, RebuildDiffers):
                log.exception("the rebuild of %s failed", self.projection.name)
            self.error = error
        return await self.progress.say("failed", detail=_reason(self.error), force=True)

    def close(self) -> None:
        """Throw it away, unless it went live."""
        if self._sample is not None:
            self._sample.close()
        self._build.close()
        name = self.projection.name
        if self._feed.stores.get(name) is not self._store and self._files.live(name) != self._build.path:
            self._store.close()
            remove(self._build.path)

    async def _complete(self) -> str:
        await self.progress.say("verifying", self.position, force=True)
        await whole(Build.finish, self._build)
        self._store = Store.open(self.projection, self._build.path)
        verdict = await self._verify()
        await _go_live(self._feed, self._files, self._store, self.progress)
        self._files.sweep(self.projection.name)
        return verdict

    async def _verify(self) -> str:
        """What it was found to be. Raises `RebuildDiffers`. The live one goes on meanwhile."""
        name, said = self.projection.name, ""
        if parked := await whole(lambda built: parked_keys("the rebuilt", built), self._store):
            if not self._accept_difference:
                raise RebuildDiffers("; ".join(parked))
            said = f"; {'; '.join(parked)}"
        if self._sample is not None:
            sample = self._sample
            if wrong := await whole(lambda built: checked(built, sample), self._store):
                raise RebuildDiffers("; ".join(wrong))
            said += f"; {len(sample)} keys are as the log has them"
        path = self._files.live(name)
        try:
            seen = Store.look(self.projection, path) if path is not None else None
        except (OtherFormat, sqlite3.DatabaseError) as error:  # What a rebuild is for.
            if self._comparable:
                raise
            log.warning("the live file of %s cannot be read: %s", name, error)
            seen = None
        if seen is None:
            return f"nothing to compare with: {await whole(counted, self._store)}{said}"
        with seen as live:
            if self._comparable:
                await _catch_up(self._feed, self._store, live.position.sequence, self.progress)
            compare = compared if self._comparable else emptied
            if found := await whole(lambda built: compare(live, built), self._store):
                found = parked_keys("the live", live) + found
        if found and not self._accept_difference:
            raise RebuildDiffers("; ".join(found))
        if found:
            return f"differs, and was accepted: {'; '.join(found)}{said}"
        equal = "equal to the live one" if self._comparable else "the live one halted or is of other code"
        return f"{equal}: {await whole(counted, self._store)}{said}"


async def _build(feed: Feed, candidates: Sequence[_Candidate]) -> None:
    """Read the log once, for all of them, up to shortly before where the live ones stand."""
    position = candidates[0].position
    projections = [candidate.projection for candidate in candidates]
    until = 0

    def write(batch: Batch) -> None:
        for candidate in candidates:
            if candidate.error is None:
                candidate.write(batch)

    async def written(batch: Batch) -> bool:
        nonlocal position
        await whole(write, batch)
        position = Position(position.epoch, batch.last, dict(batch.tips), 0)
        for candidate in candidates:
            await candidate.progress.say("building", candidate.position, until)
        return any(candidate.error is None for candidate in candidates)

    while True:
        until = min([await candidate.target() for candidate in candidates])
        if position.sequence < until:
            await pour(feed.source, feed.decoder, projections, position, until, written)
        left = min([await candidate.target() for candidate in candidates]) - position.sequence
        if left <= CLOSE_ENOUGH_RECORDS or not any(candidate.error is None for candidate in candidates):
            return


def _goes_on(feed: Feed, name: str) -> bool:
    """Whether there is a live one that this code made, and that has not halted."""
    return name in feed.stores and name not in feed.errors


def _discarded(projection: Projection, files: ReadModelFiles, epoch: str) -> list[Discarded]:
    """What was given up in the live one, of this version and this log. Where that cannot be read it is parked again,
    and the verification says so."""
    live = files.live(projection.name)
    if live is None or not files.is_of(live, projection):
        return []
    try:
        with Store.look(projection, live) as looking:
            return looking.discarded() if looking.position.epoch == epoch else []
    except (OSError, OtherFormat, sqlite3.DatabaseError) as error:
        log.warning("what was discarded in %s is not known: %s", live.name, error)
        return []


def parked_keys(which: str, store: Store) -> list[str]:
    """What a build could not handle, in one line, if there is such a thing. It does not show these keys as they are."""
    if not store.parked:
        return []
    first = store.queues(limit=1)[0]
    commits, keys = sum(store.parked.values()), len(store.parked)
    where = f"the first is {first.key} at {store.projection.stream}={first.sequence}"
    return [f"{which} one has {commits} commits of {keys} keys parked, {where}: {first.error or 'not tried yet'}"]


async def _target(feed: Feed, name: str) -> int:
    """Where the live one stands: nobody shall see less than before. The log's end where none goes on."""
    return feed.sequence(name) if _goes_on(feed, name) else await feed.source.head()


async def _go_live(feed: Feed, files: ReadModelFiles, store: Store, progress: _Progress) -> None:
    """Catch up with the live one, which is held only for the last few records, and take its place."""
    name = store.projection.name
    while (until := await _target(feed, name)) - store.position.sequence > CLOSE_ENOUGH_RECORDS:
        await _catch_up(feed, store, until, progress)
    async with feed.lock:
        until = feed.stores[name].position.sequence if _goes_on(feed, name) else until
        await _catch_up(feed, store, until, progress)
        with feed.owned(name):
            files.switch(name, store.path)
        feed.swap(store)


async def _catch_up(feed: Feed, store: Store, until: int, progress: _Progress) -> None:
    async for batch, _ in batches(feed.source, feed.decoder, store.position, until):
        await whole(store.apply, batch)
        await progress.say("catching up", store.position, until)


def _reason(error: Exception | None) -> str:
    return str(error) or type(error).__name__


class _Progress:
    """What is told of one read model's rebuild: not too often, but whenever its state changes."""

    def __init__(self, name: str, tell: Tell) -> None:
        self._name = name
        self._tell = tell
        self._began = time.monotonic()
        self._built_s = 0.0
        self._told = 0.0
        self._head = 0
        self._position = Position("", 0, {}, 0)

    async def say(
        self, state: str, position: Position | None = None, until: int = 0, *, detail: str = "", force: bool = False
    ) -> RebuildProgress:
        """Without a position it is where it was."""
        now = time.monotonic()
        self._position = position = position or self._position
        if state == "building" or not self._built_s:
            self._built_s = max(now - self._began, 1e-6)
        self._head = max(self._head, until, position.sequence)
        left = self._head - position.sequence
        progress = RebuildProgress(
            state=state,
            sequence=position.sequence,
            head=self._head,
            events=position.events,
            rate_per_s=round(position.events / self._built_s, 1),
            eta_s=round(left * self._built_s / position.sequence, 1) if position.sequence else None,
            detail=detail,
            percent=round(100 * position.sequence / self._head, 1) if self._head else 100.0,
        )
        if force or now - self._told >= TELL_EVERY_S:
            self._told = now
            await self._tell(self._name, progress)
        return progress
