"""Who follows a list of orders is handed each change of it. One reader of the log a process, however many follow.

It reads while anyone follows, behind the read model that the lists are of: so what a list showed when somebody began to
follow, and what he is handed from then on, meet without a gap. What waits for one who is slow is bounded; who falls
behind further is told that he is lost, and ends. Who was away reads what he missed from the log, as far as that is
little; else he begins anew with the list as it is.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import cached_property

import msgspec
from msgspec import Struct

from bus.announcements import Standings
from bus.logs.log import Log, LogDamaged, Record
from domains.orders.messages import OrderPlaced
from gateway.views.changes import Changes
from gateway.views.orders_v2 import OrderSummaryV2, summary_v2
from projections.commit_index import PLACES, json_array
from projections.feed import Decoder
from projections.order_summary import MOVES_FROM, SUMMARIES_OF_KEYS, SUMMARY, OrderSummary, order_summary
from projections.projection import Recorded, recorded_of
from projections.reader import Reader

WAITING_MAX = 4_096
"""Changes that wait for one follower, each of them once for all: more than a block holds, and what is read with it."""
MISSED_RECORDS_MAX = 512
MISSED_CHANGES_MAX = 4_096
"""That are read again from the log for one who was away; more of either, and he begins anew."""
COMMITS_AT_ONCE = 500
KEYS_AT_ONCE = 1_000
PATIENCE_S = 10.0

log = logging.getLogger(__name__)


class OrderFilter(Struct, frozen=True):
    """Which orders a list is of; None: of all."""

    customer_id: str | None
    status: str | None

    def takes(self, change: ListChange) -> bool:
        """Whether it is of an order that belongs, or may have belonged until then."""
        if self.customer_id not in (None, change.order.customer_id):
            return False
        return self.status in (None, change.order.status) or self.status in change.moved_from


class ListChange(Struct, frozen=True, dict=True):
    """A commit of an order, and the order after it. `place` is the commit's in the log, `moved_from` the statuses that
    the order may have been in before."""

    place: int
    events: list[str]
    order: OrderSummary
    moved_from: tuple[str, ...]

    @property
    def sequence(self) -> int:
        return self.place // PLACES

    @property
    def id(self) -> str:
        """By which a stream goes on behind it."""
        return f"{self.sequence}.{self.place % PLACES}"

    @cached_property
    def encoded(self) -> str:
        """What is sent, made once for all who follow."""
        return self._said(self.order)

    @cached_property
    def encoded_v2(self) -> str:
        """The same in the second version of the API."""
        return self._said(summary_v2(self.order))

    def _said(self, order: OrderSummary | OrderSummaryV2) -> str:
        return msgspec.json.encode(_Said(f"orders={self.sequence}", "orders", self.events, order)).decode()


class _Said(Struct, frozen=True):
    position: str
    domain: str
    events: list[str]
    order: OrderSummary | OrderSummaryV2


class Follower:
    """What waits for one who follows. `begins`: the position behind which he is handed everything."""

    def __init__(self, wanted: OrderFilter, begins: int) -> None:
        self.wanted = wanted
        self.begins = begins
        self.changed = asyncio.Event()
        self.lost = False
        """He is not handed everything any more."""
        self._waiting: deque[ListChange] = deque()

    def hand(self, change: ListChange) -> None:
        if self.lost or not self.wanted.takes(change):
            return
        if len(self._waiting) >= WAITING_MAX:
            self.lose()
        else:
            self._waiting.append(change)
            self.changed.set()

    def lose(self) -> None:
        self.lost = True
        self._waiting.clear()
        self.changed.set()

    def taken(self, behind: int) -> list[ListChange]:
        """All that waits, without what lies up to a place: that he had before."""
        self.changed.clear()
        waiting = [change for change in self._waiting if change.place > behind]
        self._waiting.clear()
        return waiting


class OrderLists:
    """Raises as the reader and the log do."""

    def __init__(self, source: Log, decoder: Decoder, standings: Standings, reader: Reader, changes: Changes) -> None:
        self._source = source
        self._decoder = decoder
        self._standings = standings
        self._reader = reader
        self._changes = changes
        self._followers: dict[str | None, set[Follower]] = {}
        """By the customer whose orders they follow; None: everybody's."""
        self._handed = 0
        """Everything up to here has been handed to those who followed, or is being handed now."""
        self._tail: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._after = SummaryAfter()

    @asynccontextmanager
    async def following(self, wanted: OrderFilter) -> AsyncIterator[Follower]:
        """Raises `Problem` 503 when too many follow already."""
        with self._changes.room():
            await self._start()
            follower = Follower(wanted, self._handed)
            of_customer = self._followers.setdefault(wanted.customer_id, set())
            of_customer.add(follower)
            try:
                yield follower
            finally:
                of_customer.discard(follower)
                if not of_customer:
                    del self._followers[wanted.customer_id]
                if not self._followers:
                    self._stop()

    async def missed(self, wanted: OrderFilter, after: int, until: int) -> list[ListChange] | None:
        """The changes behind a place, up to and with a position; None when it is too long ago."""
        first = after // PLACES
        if until - first > MISSED_RECORDS_MAX:
            return None
        found: list[ListChange] = []
        if until > max(first - 1, 1):
            async for records in self._source.read(max(first - 1, 1), until):
                for some in self._commits(records):
                    changes = await self._of(some, lambda customer_id: wanted.customer_id in (None, customer_id))
                    found += [change for change in changes if change.place > after and wanted.takes(change)]
                    if len(found) > MISSED_CHANGES_MAX:
                        return None
        return found

    async def close(self) -> None:
        tail = self._tail
        self._stop()
        if tail is not None:
            await asyncio.wait({tail})

    async def _start(self) -> None:
        async with self._starting:
            if self._tail is None or self._tail.done():
                self._handed = await self._reader.sequence(order_summary.name)
                self._tail = asyncio.get_running_loop().create_task(self._read(self._handed))

    def _stop(self) -> None:
        if self._tail is not None:
            self._tail.cancel()
            self._tail = None

    async def _read(self, after: int) -> None:
        """Hand on what is written behind a position."""
        try:
            async for records in self._source.read(after):
                last = records[-1].sequence
                while not await self._standings.wait(order_summary.name, last, PATIENCE_S):
                    log.debug("%s does not show %d yet", order_summary.name, last)
                for some in self._commits(records):
                    changes = await self._of(some, self._is_followed)
                    self._handed = some[-1].sequence
                    for change in changes:
                        for follower in self._who_follow(change.order.customer_id):
                            follower.hand(change)
        except (LogDamaged, msgspec.DecodeError, sqlite3.Error) as error:
            log.error("nobody is told of changes of orders any more: %s", error)
        finally:
            if self._tail is asyncio.current_task():  # It ends by itself, and not because nobody follows any more.
                for followers in self._followers.values():
                    for follower in followers:
                        follower.lose()

    def _who_follow(self, customer_id: str) -> Iterator[Follower]:
        for key in (customer_id, None):
            yield from self._followers.get(key, ())

    def _is_followed(self, customer_id: str) -> bool:
        return None in self._followers or customer_id in self._followers

    def _commits(self, records: Sequence[Record]) -> Iterator[list[Recorded]]:
        """Those of whole blocks, a few blocks at a time, so that others get their turn between."""
        some: list[Recorded] = []
        for record in records:
            block = self._decoder.decode(record.data)
            some += recorded_of(record.sequence, block.at, block.commits)
            if len(some) >= COMMITS_AT_ONCE:
                yield some
                some = []
        if some:
            yield some

    async def _of(self, recorded: Sequence[Recorded], of_customer: Callable[[str], bool]) -> list[ListChange]:
        """What these commits did to the orders of the customers that are asked for."""
        rows = await self._rows({each.commit.aggregate for each in recorded})
        return [
            ListChange(
                place=each.sequence * PLACES + each.offset,
                events=[type(event).__name__ for event in each.commit.events],
                order=self._after.commit(rows[each.commit.aggregate], each),
                moved_from=tuple(status for event in each.commit.events for status in MOVES_FROM.get(type(event), ())),
            )
            for each in recorded
            if each.commit.aggregate in rows and of_customer(rows[each.commit.aggregate].customer_id)
        ]

    async def _rows(self, order_ids: Iterable[str]) -> dict[str, OrderSummary]:
        wanted = sorted(order_ids)
        found: dict[str, OrderSummary] = {}
        for begin in range(0, len(wanted), KEYS_AT_ONCE):
            keys = json_array(wanted[begin : begin + KEYS_AT_ONCE])
            found |= {row.order_id: row for row in await self._reader.all(SUMMARIES_OF_KEYS, order_ids=keys)}
        return found


_COLUMNS = OrderSummary.__struct_fields__
_INSERT = f"INSERT INTO order_summary ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"  # noqa: S608  # Our own names.


class SummaryAfter:
    """An order's summary as it was after a commit, by the very statements of the read model.

    The row may be of a later moment: of it only what never changes is used.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript(order_summary.schema)

    def commit(self, row: OrderSummary, recorded: Recorded) -> OrderSummary:
        run = self._connection.execute
        run("DELETE FROM order_summary")
        if not any(isinstance(event, OrderPlaced) for event in recorded.commit.events):
            run(_INSERT, msgspec.structs.asdict(row))
        for sql, parameters in order_summary.statements(recorded):
            run(sql, parameters)
        after = run(SUMMARY.sql, {"order_id": row.order_id}).fetchone()
        return msgspec.convert(dict(after), OrderSummary)
