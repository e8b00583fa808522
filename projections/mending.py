"""Parked keys, for whoever looks after them: listed, dealt with again, given up.

Asked over the control channel, done by the process that writes the read models.

Each request is bounded: of a long queue it deals with the first part, and says how many are left.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from hashlib import blake2b

import msgspec
from msgspec import Struct

from bus.control import Reply
from bus.logs.log import LogDamaged, LogUnreachable
from projections.feed import Feed, whole
from projections.parking import Queue, ReadModelHalts, Redriven, Waiting
from projections.projection import Recorded, recorded_of
from projections.store import Store

PARKED = "parked"
"""The control verb that lists; parameter `key`, to see no other one. Its reply's `detail` is a `ParkedKeys`."""
REDRIVE = "redrive"
"""Parameters `id` and, to change nothing, `dry_run` = "yes". Its reply's `detail` is a `Redriven`."""
DISCARD = "discard"
"""Parameters `id`, `reason` and where the commit lies, `sequence` and `offset`: so it is what was meant, and not what
came to be the first meanwhile. What waited behind it is dealt with, so the reply is that of a redrive."""
LISTED_MAX = 500
"""Keys in one list: as much as fits into one message."""
REASON_CHARS_MAX = 500

log = logging.getLogger(__name__)


class Parked(Struct, frozen=True):
    """What waits for one key of a read model: `commits` of them; the first lies at `sequence` and `offset`, is of the
    time `at`, and failed with `error`. `id` stands for the read model and the key."""

    id: str
    read_model: str
    stream: str
    key: str
    commits: int
    sequence: int
    offset: int
    at: str
    error: str


class ParkedKeys(Struct, frozen=True):
    """`left_out`: keys for which there is no room in one list."""

    items: list[Parked]
    left_out: int = 0


class Mending:
    def __init__(self, feeds: Mapping[str, Feed]) -> None:
        self._feeds = feeds

    async def parked(self, parameters: dict[str, str]) -> Reply:
        """What waits, of all read models."""
        key = parameters.get("key", "")
        found: list[Parked] = []
        keys = 0
        for feed in self._feeds.values():
            for name, store in list(feed.stores.items()):
                if not store.parked:
                    continue
                keys += len(store.parked)
                room = LISTED_MAX - len(found)
                queues = await asyncio.to_thread(_queues, store, key, room) if room else []
                found += [
                    Parked(id_of(name, queue.key), name, feed.source.name, **msgspec.structs.asdict(queue))
                    for queue in queues
                ]
        left_out = 0 if key else max(0, keys - len(found))
        return Reply(detail=msgspec.json.encode(ParkedKeys(found, left_out)).decode())

    async def redrive(self, parameters: dict[str, str]) -> Reply:
        """Deal again with the first that waits for a key, and what is behind it."""
        parked = self._find(parameters.get("id", ""))
        if parked is None:
            return _NOTHING
        feed, name, key = parked
        async with feed.lock:
            return await self._redrive(feed, name, key, dry=parameters.get("dry_run") == "yes")

    async def discard(self, parameters: dict[str, str]) -> Reply:
        """Give up the first commit that waits for a key, and deal with what is behind it."""
        parked = self._find(parameters.get("id", ""))
        if parked is None:
            return _NOTHING
        feed, name, key = parked
        reason = parameters.get("reason", "").strip()
        if not 1 <= len(reason) <= REASON_CHARS_MAX:
            return Reply("malformed", f"a reason has 1 to {REASON_CHARS_MAX} characters")
        try:
            sequence, offset = int(parameters.get("sequence", "")), int(parameters.get("offset", ""))
        except ValueError:
            return Reply("malformed", "the commit's sequence and offset are numbers")
        async with feed.lock:
            store = feed.stores[name]
            try:
                gone = await whole(lambda discarding: discarding.discard(key, sequence, offset, reason), store)
            except (ReadModelHalts, sqlite3.Error) as error:
                return _failed(error)
            if not gone:
                place = f"{feed.source.name}={sequence}, offset {offset}"
                return Reply("not_parked", f"{place} is not what waits first for {key} in {name}")
            log.warning("%s discards %s at %d, offset %d: %s", name, key, sequence, offset, reason)
            if key not in store.parked:
                await feed.announce(name)
                return _done(Redriven(0, 0))
            return await self._redrive(feed, name, key)

    async def _redrive(self, feed: Feed, name: str, key: str, *, dry: bool = False) -> Reply:
        """The caller holds the feed's lock: nothing comes in between, and no other file."""
        store = feed.stores[name]
        waiting = await whole(lambda looking: looking.waiting(key), store)
        if not waiting:
            return _NOTHING
        try:
            commits = await _read(feed, waiting)
            outcome = await whole(lambda mending: mending.redrive(key, commits, dry=dry), store)
        except (LogDamaged, LogUnreachable, msgspec.DecodeError, ReadModelHalts, sqlite3.Error) as error:
            return _failed(error)
        if not dry:
            log.info("%s: %d commits of %s redriven, %d left", name, outcome.redriven, key, outcome.left)
            await feed.announce(name)
        return _done(outcome)

    def _find(self, id: str) -> tuple[Feed, str, str] | None:
        """The read model and the key that an id stands for."""
        for feed in self._feeds.values():
            for name, store in feed.stores.items():
                for key in store.parked:
                    if id_of(name, key) == id:
                        return feed, name, key
        return None


def id_of(read_model: str, key: str) -> str:
    """Names a parked key wherever an id is asked for, whatever the key looks like."""
    return blake2b(f"{read_model}\n{key}".encode(), digest_size=10).hexdigest()


def _queues(store: Store, key: str, limit: int) -> list[Queue]:
    """On a connection of its own: the store's is for one thread at a time, and may be busy."""
    with Store.look(store.projection, store.path) as looking:
        return looking.queues(key, limit)


async def _read(feed: Feed, waiting: list[Waiting]) -> list[Recorded]:
    """These commits, from the log. Raises `LogDamaged`, `LogUnreachable`."""
    found: list[Recorded] = []
    block: list[Recorded] = []
    for place in waiting:
        if not block or block[0].sequence != place.sequence:
            record = await feed.source.get(place.sequence)
            if record is None:
                raise LogDamaged(f"{feed.source.name} holds nothing at {place.sequence}, where something was parked")
            read = feed.decoder.decode(record.data)
            block = recorded_of(place.sequence, read.at, read.commits)
        if place.offset >= len(block) or block[place.offset].commit.id != place.commit_id:
            raise LogDamaged(f"{feed.source.name} holds another block at {place.sequence} than what was parked")
        found.append(block[place.offset])
    return found


def _done(outcome: Redriven) -> Reply:
    return Reply(detail=msgspec.json.encode(outcome).decode())


def _failed(error: Exception) -> Reply:
    return Reply("not_done", f"{type(error).__name__}: {error}")


_NOTHING = Reply("parked_unknown", "nothing is parked under this id")
