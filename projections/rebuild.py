"""Rebuild a read model beside the live one, compare the two at the same position, switch.

The live one goes on meanwhile, and a rebuild that fails or differs leaves it alone. The build before stays on disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from bus.announcements import RebuildProgress
from projections.feed import Decoder, Feed, batches, whole
from projections.files import ReadModelFiles, remove
from projections.projection import Projection
from projections.store import Position, Store

CLOSE_ENOUGH_RECORDS = 64
"""The live read model is held only for the last few records."""
TELL_EVERY_S = 0.2

log = logging.getLogger(__name__)

Tell = Callable[[RebuildProgress], Awaitable[None]]


class RebuildDiffers(Exception):
    """The rebuilt read model is not what the live one is, though the same code folded the same log."""


async def rebuild(
    feed: Feed, projection: Projection, files: ReadModelFiles, tell: Tell, *, accept_difference: bool = False
) -> RebuildProgress:
    """Build, compare, switch. Raises `RebuildUnderWay` or `RebuildDiffers`; `tell` hears how far it has come."""
    name = projection.name
    with files.building(name):
        store = Store.create(projection, files.next_build(projection), feed.source.epoch)
        progress = _Progress(tell)
        try:
            while True:
                until = await _live_position(feed, name)
                await _build(feed, store, until, progress)
                if await _live_position(feed, name) - until <= CLOSE_ENOUGH_RECORDS:
                    break
            async with feed.lock:
                await _build(feed, store, feed.stores[name].position.sequence, progress)
                await progress.say("verifying", store.position, force=True)
                verdict = await whole(lambda built: _compare(feed, built, accept_difference), store)
                files.switch(name, store.path)
                feed.swap(store)
        finally:
            if feed.stores[name] is not store:
                store.close()
                remove(store.path)
        files.sweep(name)
    return await progress.say("done", store.position, verdict, force=True)


async def _live_position(feed: Feed, name: str) -> int:
    """Where the live one stands: never build beyond what it can be compared with. The log's end when it halted."""
    return await feed.source.head() if name in feed.errors else feed.sequence(name)


def _compare(feed: Feed, built: Store, accept_difference: bool) -> str:
    name = built.projection.name
    if name in feed.errors:
        return "the live one had halted: nothing to compare with"
    found = differences(feed.stores[name], built)
    if found and not accept_difference:
        raise RebuildDiffers("; ".join(found))
    if found:
        return "differs, and was accepted: " + "; ".join(found)
    return "equal to the live one: " + ", ".join(f"{table} {rows} rows" for table, (rows, _) in built.digests().items())


def differences(live: Store, built: Store) -> list[str]:
    """What differs between two builds at the same position, table by table, with the first row that does."""
    found: list[str] = []
    if live.position.sequence != built.position.sequence:
        return [f"positions {live.position.sequence} and {built.position.sequence} cannot be compared"]
    old, new = live.digests(), built.digests()
    for table in sorted(old.keys() | new.keys()):
        if table not in old or table not in new:
            found.append(f"table {table} is only in the {'live' if table in old else 'rebuilt'} one")
        elif old[table] != new[table]:
            pairs = zip(live.rows(table), built.rows(table), strict=False)
            first = next((f"{a} and {b}" for a, b in pairs if a != b), "the longer one's last rows")
            found.append(f"table {table} has {old[table][0]} rows live, {new[table][0]} rebuilt; first: {first}")
    return found


async def _build(feed: Feed, store: Store, until: int, progress: _Progress) -> None:
    decoder: Decoder = feed.decoder
    async for batch, _ in batches(feed.source, decoder, store.position, until):
        await whole(store.apply, batch)
        progress.head = max(progress.head, until)
        await progress.say("building", store.position)


class _Progress:
    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._began = time.monotonic()
        self._told = 0.0
        self.head = 0

    async def say(self, state: str, position: Position, detail: str = "", *, force: bool = False) -> RebuildProgress:
        now = time.monotonic()
        spent_s = max(now - self._began, 1e-6)
        left = max(self.head - position.sequence, 0)
        progress = RebuildProgress(
            state=state,
            sequence=position.sequence,
            head=max(self.head, position.sequence),
            events=position.events,
            rate_per_s=round(position.events / spent_s, 1),
            eta_s=round(left * spent_s / position.sequence, 1) if position.sequence else None,
            detail=detail,
        )
        if force or now - self._told >= TELL_EVERY_S:
            self._told = now
            await self._tell(progress)
        return progress
