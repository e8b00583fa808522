"""States over a store on disk: in memory is what the store does not have yet, and a bounded cache of what it has.

The store is a read model, kept by whoever projects and never written here. It lags; what it has not seen yet is the
overlay. What was never seen at all needs no look into the store: a filter says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from bus.engines.seen import Seen
from bus.engines.states import NEVER, UNSURE, Known, Opened, StoreUnreachable
from bus.logs.log import Log, LogUnreachable
from domains.kernel import Domain

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")

KEEP_EVERY_S = 0.2
TAIL_BLOCKS_MAX = 256
"""What an engine reads of the log when it starts, at most 128 MiB."""

log = logging.getLogger(__name__)


class Stored(Struct, Generic[State], frozen=True):
    """What a store held of what was asked for, at one moment: everything up to `sequence` is in it."""

    sequence: int
    states: dict[str, Known[State]]
    answered: dict[str, int]


class StateStore(Protocol[State]):
    """Reads stored states, and which block answered which command. All of it raises `StoreUnreachable`."""

    async def opened(self) -> Opened:
        """Where the store stands; at 0 when there is none yet."""
        ...

    async def read(self, aggregates: Collection[str], command_ids: Collection[str]) -> Stored[State]: ...

    def count(self) -> int:
        """About how many keys `scan` gives. Blocks, too."""
        ...

    def scan(self) -> Iterator[list[str]]:
        """All aggregates and command ids, some at a time. Blocks: for a thread of its own."""
        ...


async def nearly_whole(
    store: StateStore[State], source: Log, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Wait until a store lacks no more of its log than an engine reads by itself when it starts."""
    while True:
        try:
            done, total = (await store.opened()).sequence, await source.head()
        except (StoreUnreachable, LogUnreachable) as error:
            log.warning("how far the states of %s are cannot be seen: %s", source.name, error)
        else:
            if total - done <= TAIL_BLOCKS_MAX:
                return
            progress(done, total)
        await asyncio.sleep(KEEP_EVERY_S)


@dataclass(frozen=True, slots=True)
class OverlayLimits:
    commits_max: int = 200_000
    """Commits and command ids in the overlay; when it is full, commands are refused as `overloaded` until the store has
    caught up."""
    cache_max: int = 100_000
    """Aggregates that are in the store as well."""


class _Durable(NamedTuple, Generic[State]):
    sequence: int
    touched: Mapping[str, Known[State]]
    answered: Collection[str]


class OverlaidStates(Generic[State, Command, Event]):
    def __init__(
        self, domain: Domain[State, Command, Event], store: StateStore[State], limits: OverlayLimits | None = None
    ) -> None:
        self._name = domain.name
        self._initial = domain.initial
        self._store = store
        self._limits = limits or OverlayLimits()
        self._begin(Opened())

    def _begin(self, opened: Opened) -> None:
        self.forgotten = 0
        self._stored = opened.sequence
        self._overlay: dict[str, Known[State]] = {}
        self._answered: dict[str, int] = {}
        self._blocks: deque[_Durable[State]] = deque()
        self._commits = 0
        self._cache: dict[str, Known[State]] = {}
        self._found: dict[str, int] = {}
        self._seen = Seen()
        self._complete = opened.sequence == 0
        """Whether the filter holds all that the store holds: until then everything may have been seen."""

    @property
    def room(self) -> bool:
        return self._commits < self._limits.commits_max

    async def open(self) -> Opened:
        opened = await self._store.opened()
        self._begin(opened)
        return opened

    def get(self, aggregate: str) -> Known[State] | None:
        known = self._overlay.get(aggregate) or self._cache.get(aggregate)
        if known is None and self._complete and aggregate not in self._seen:
            return Known(0, self._initial(aggregate))
        return known

    def answered(self, command_id: str) -> int:
        sequence = self._answered.get(command_id) or self._found.get(command_id)
        if sequence is None:
            return NEVER if self._complete and command_id not in self._seen else UNSURE
        return sequence

    async def load(self, aggregates: Collection[str], command_ids: Collection[str]) -> None:
        if not aggregates and not command_ids:
            return
        stored = await self._store.read(aggregates, command_ids)
        if stored.sequence < self._stored:
            raise StoreUnreachable(f"the states of {self._name} are at {stored.sequence}, were at {self._stored}")
        for aggregate in aggregates:  # What is in the overlay, which is newer, is asked first.
            found = stored.states.get(aggregate)
            self._cache[aggregate] = Known(0, self._initial(aggregate)) if found is None else found
        self._found.update(stored.answered)

    def advance(self, sequence: int, touched: Mapping[str, Known[State]], answered: Collection[str]) -> None:
        self._overlay.update(touched)
        self._answered.update(dict.fromkeys(answered, sequence))
        self._seen.add(touched)
        self._seen.add(answered)
        # Of the commands only their ids: what an engine keeps under them, all of their events, need not live on here.
        self._blocks.append(_Durable(sequence, touched, tuple(answered)))
        self._commits += len(touched) + len(answered)

    async def keep(self) -> None:
        """Until cancelled: `tidy`, over and over."""
        while True:
            try:
                await self.tidy()
            except StoreUnreachable as error:
                log.warning("the states of %s cannot be read: %s", self._name, error)
            await asyncio.sleep(KEEP_EVERY_S)

    async def tidy(self) -> None:
        """Let go what the store has by now; once, fill the filter. Raises `StoreUnreachable`."""
        if not self._complete:
            await self._fill()
        if self._blocks:
            self._let_go((await self._store.opened()).sequence)
        self._evict()

    async def _fill(self) -> None:
        """What comes while this runs is added by `advance`."""

        def scan() -> Seen:
            seen = Seen.of(self._store.count())
            for keys in self._store.scan():
                seen.add(keys)
            return seen

        self._seen.merge(await asyncio.to_thread(scan))
        self._complete = True

    def _let_go(self, stored: int) -> None:
        """Everything up to `stored` is in the store: it may be forgotten, and is cached as long as there is room."""
        if stored <= self._stored:
            return
        self._stored = stored
        self.forgotten += 1
        while self._blocks and self._blocks[0].sequence <= self._stored:
            block = self._blocks.popleft()
            self._commits -= len(block.touched) + len(block.answered)
            for aggregate, known in block.touched.items():
                if self._overlay.get(aggregate) is known:  # Else a later block touched it.
                    self._cache.pop(aggregate, None)  # To the end: the newest goes last.
                    self._cache[aggregate] = self._overlay.pop(aggregate)
            for command_id in block.answered:
                self._answered.pop(command_id, None)

    def _evict(self) -> None:
        for key in list(islice(self._cache, max(0, len(self._cache) - self._limits.cache_max))):
            del self._cache[key]
        if len(self._found) > self._limits.cache_max:
            self._found.clear()
            self.forgotten += 1
