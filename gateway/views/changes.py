"""Who follows an aggregate is woken when something happened to it. One task a log looks, however many follow.

Nothing is queued for anyone: who is woken reads for itself what is new to it, so a slow follower costs no memory.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bus.announcements import Standings
from gateway.http.problems import unavailable
from projections.commit_index import changed_since, commit_index, json_array
from projections.reader import Reader, ReadModelMissing

FOLLOWERS_MAX = 2_000
"""In one process."""
PAUSE_S = 0.02
"""Between two looks at one log: what happens meanwhile is found by one query."""
PATIENCE_S = 10.0

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""A log and an aggregate of it."""


class Changes:
    def __init__(self, standings: Standings, reader: Reader) -> None:
        self._standings = standings
        self._reader = reader
        self._followers: dict[str, dict[str, set[asyncio.Event]]] = {}
        self._count = 0
        self._looking: dict[str, asyncio.Task[None]] = {}

    def check_room(self) -> None:
        """Raises `Problem` 503 when too many follow already."""
        if self._count >= FOLLOWERS_MAX:
            raise unavailable("overloaded", f"{FOLLOWERS_MAX} streams are open already", 5.0)

    @contextmanager
    def room(self) -> Iterator[None]:
        """A place among those who follow anything. Raises as `check_room` does."""
        self.check_room()
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    @contextmanager
    def following(self, *keys: Key) -> Iterator[asyncio.Event]:
        """An event that is set whenever something happened to one of these. Raises as `check_room` does.

        What happened before this call is to be read after it: then nothing falls between the two.
        """
        with self.room():
            yield from self._following(keys)

    def _following(self, keys: Sequence[Key]) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        for name, aggregate in keys:
            self._followers.setdefault(name, {}).setdefault(aggregate, set()).add(changed)
            if name not in self._looking:
                self._looking[name] = asyncio.get_running_loop().create_task(self._look(name))
        try:
            yield changed
        finally:
            for name, aggregate in keys:
                followers = self._followers[name]
                followers[aggregate].discard(changed)
                if not followers[aggregate]:
                    del followers[aggregate]

    async def close(self) -> None:
        for task in self._looking.values():
            task.cancel()
        await asyncio.gather(*self._looking.values(), return_exceptions=True)

    async def _look(self, name: str) -> None:
        index = commit_index(name).name
        latest = self._standings.latest(index)
        seen = latest.sequence if latest else 0
        while True:
            if not await self._standings.wait(index, seen + 1, PATIENCE_S):
                continue
            standing = self._standings.latest(index)
            reached = max(standing.sequence if standing else 0, seen)
            wake = await self._changed(name, seen)
            for aggregate in wake:
                for changed in self._followers[name].get(aggregate, ()):
                    changed.set()
            seen = reached
            await asyncio.sleep(PAUSE_S)

    async def _changed(self, name: str, after: int) -> list[str]:
        followed = list(self._followers[name])
        if not followed:
            return []
        try:
            rows = await self._reader.all(changed_since(name), aggregates=json_array(followed), after=after)
        except (ReadModelMissing, sqlite3.Error) as error:
            log.warning("%s; all who follow %s look for themselves", error, name)
            return followed
        return [row.aggregate for row in rows]
