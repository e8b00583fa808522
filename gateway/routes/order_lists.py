"""A list of orders that one follows: the list as it is, then each change of one that belongs to it."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3

import msgspec
from litestar import get
from litestar.response import ServerSentEventMessage
from msgspec import Struct

from bus.logs.log import LogUnreachable
from gateway.http.gate import AnyRequest, Gate, QueryId, gate_of
from gateway.http.live import EVENTS, STREAM_S_MAX, LiveStream, Messages, still_here, woken
from gateway.http.pages import LIMIT, Limit, cursor_of
from gateway.http.problems import Problem
from gateway.http.versions import SUPERSEDED
from gateway.routes.order_changes import LastEventId
from gateway.routes.orders import V1, V2, OrderStatus, listable
from gateway.views.order_lists import ListChange, OrderFilter
from gateway.views.orders_v2 import OrderSummaryV2, summary_v2
from projections.commit_index import PLACES
from projections.order_summary import OrderSummary, order_summary, summaries_of
from projections.reader import ReadModelMissing, at_its_position

EVENT_ID_PATTERN = re.compile(r"(\d{1,15})(?:\.(\d{1,4}))?")

log = logging.getLogger(__name__)


class ListedOrders(Struct, frozen=True):
    """The list as it is at a position; its first page, and how to go on from there on `/v1/orders`."""

    position: str
    items: list[OrderSummary]
    next: str | None = None


class ListedOrdersV2(Struct, frozen=True):
    position: str
    items: list[OrderSummaryV2]
    next: str | None = None


async def stream_orders(
    request: AnyRequest,
    customer_id: QueryId = None,
    status: OrderStatus | None = None,
    limit: Limit = LIMIT,
    last_event_id: LastEventId = None,
) -> LiveStream:
    """Server-sent events: `orders` is a page of the list as it is, then each `change` of an order that belongs to it,
    or did until then, with its summary after it. Of one customer, of one status, or both; a customer follows its own.

    The id of an event is where it lies in the log; with `Last-Event-ID` the stream goes on behind it, without a gap and
    without a repeat, or, when that is long ago, begins anew with `orders`."""
    gate = gate_of(request)
    wanted = OrderFilter(listable(request, customer_id), status)
    last = None if last_event_id is None else _place(last_event_id)
    if last is not None and last // PLACES > await gate.logs[order_summary.stream].head():
        raise Problem(422, "malformed", "no event has come so far yet", field="header:Last-Event-ID")
    await gate.fresh(request, order_summary)
    gate.changes.check_room()
    return LiveStream(_events(gate, wanted, limit, last, second=request.scope["path"].startswith(V2)))


def _place(event_id: str) -> int:
    match = EVENT_ID_PATTERN.fullmatch(event_id)
    if match is None or (match[2] is not None and int(match[2]) >= PLACES):
        detail = f"no event has the id {event_id[:64]}; they look like 17 or 17.3"
        raise Problem(422, "malformed", detail, field="header:Last-Event-ID")
    return int(match[1]) * PLACES + (PLACES - 1 if match[2] is None else int(match[2]))


async def _events(gate: Gate, wanted: OrderFilter, limit: int, last: int | None, *, second: bool) -> Messages:
    """`second`: as the second version of the API shows it."""
    ends_at = asyncio.get_running_loop().time() + STREAM_S_MAX
    try:
        async with gate.lists.following(wanted) as follower:
            if last is None or (missed := await gate.lists.missed(wanted, last, follower.begins)) is None:
                listed, at = await _listed(gate, wanted, limit)
                told = msgspec.json.encode(_listed_v2(listed) if second else listed).decode()
                yield ServerSentEventMessage(event="orders", id=str(at), data=told)
                seen = at * PLACES + PLACES - 1
            else:
                seen = last
                for change in missed:
                    yield _message(change, second)
                    seen = change.place
            while not follower.lost and asyncio.get_running_loop().time() < ends_at:
                for change in follower.taken(seen):
                    yield _message(change, second)
                    seen = change.place
                if not await woken(follower.changed):
                    yield still_here()
    except (LogUnreachable, ReadModelMissing, sqlite3.Error, Problem) as error:  # The client comes again.
        log.info("a stream of orders ends: %s", error)


async def _listed(gate: Gate, wanted: OrderFilter, limit: int) -> tuple[ListedOrders, int]:
    """The list, and the position that it shows."""
    query = at_its_position(summaries_of(wanted.customer_id, wanted.status))
    moment = await gate.reader.one(
        query, customer_id=wanted.customer_id, status=wanted.status, after="", limit=limit + 1
    )
    if moment is None:
        raise ReadModelMissing(f"{order_summary.name} has no position")
    rows = msgspec.json.decode(moment.rows, type=list[OrderSummary])
    more = cursor_of(rows[limit - 1].order_id) if len(rows) > limit else None
    return ListedOrders(f"{order_summary.stream}={moment.sequence}", rows[:limit], more), moment.sequence


def _listed_v2(listed: ListedOrders) -> ListedOrdersV2:
    return ListedOrdersV2(listed.position, [summary_v2(order) for order in listed.items], listed.next)


def _message(change: ListChange, second: bool) -> ServerSentEventMessage:
    return ServerSentEventMessage(event="change", id=change.id, data=change.encoded_v2 if second else change.encoded)


routes = [
    get(f"{V1}/stream", opt=SUPERSEDED, deprecated=True, tags=["orders"], media_type=EVENTS)(stream_orders),
    get(f"{V2}/stream", tags=["orders"], media_type=EVENTS)(stream_orders),
]
