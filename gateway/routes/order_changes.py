"""What happened to an order: its timeline over all logs, and a stream of its changes as they happen."""

from __future__ import annotations

import asyncio
import heapq
import logging
import re
from collections.abc import Callable
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.params import HeaderParameter
from litestar.response import ServerSentEventMessage
from msgspec import Struct

from bus.logs.log import LogUnreachable
from gateway.http.gate import AnyRequest, Gate, PathId, gate_of
from gateway.http.live import EVENTS, STREAM_S_MAX, LiveStream, Messages, still_here, woken
from gateway.http.problems import Problem
from gateway.http.versions import SUPERSEDED
from gateway.routes.orders import V1, V2, visible_order
from gateway.views.orders import SHOWN_LOGS, Order, OrderCommits, order_after, order_commits
from gateway.views.orders_v2 import OrderV2, order_v2
from gateway.views.timeline import TimelineCommit, timeline_of
from projections.commit_index import commit_index
from projections.order_detail import order_detail

EVENT_ID_PATTERN = re.compile(r"(\d{1,18})\.(\d{1,18})(?:\.(\d{1,18}))?")
"""The last part came later: who has an id without it has seen no shipment."""

Versions = tuple[int, ...]
"""How many commits of each log that an order's page shows."""

Shown = Callable[["Change"], Struct]
"""How a version of the API shows a change."""

log = logging.getLogger(__name__)


class Timeline(Struct, frozen=True):
    order_id: str
    items: list[TimelineCommit]


class Change(Struct, frozen=True):
    """What happened, and the order after it. The first of a stream has neither domain nor events: it is how things are
    when it begins. `position` is where the change lies in its log."""

    position: str
    domain: str
    events: list[str]
    order: Order


class ChangeV2(Struct, frozen=True):
    position: str
    domain: str
    events: list[str]
    order: OrderV2


LastEventId = Annotated[str | None, HeaderParameter(name="Last-Event-ID", description="Go on behind this event.")]


async def get_timeline(request: AnyRequest, order_id: PathId) -> Response[Timeline]:
    """Every commit that the order caused anywhere, in the order of writing: by which one each was caused, and how many
    milliseconds after it and after the first one it was written."""
    gate = gate_of(request)
    headers = await gate.fresh(request, order_detail, *(commit_index(name) for name in gate.logs))
    await visible_order(request, order_id)
    items = timeline_of(await gate.history.of_correlation(order_id))
    return Response(Timeline(order_id, items), headers=headers)


async def stream_order(request: AnyRequest, order_id: PathId, last_event_id: LastEventId = None) -> LiveStream:
    """Server-sent events: `order` is the order as it is, then each `change` of it, its payment or its shipment, with
    the order after it. The id of an event is `<version>.<of the payment>.<of the shipment>`; with `Last-Event-ID` the
    stream goes on behind it, without a gap and without a repeat."""
    gate = gate_of(request)
    seen = None if last_event_id is None else _versions(last_event_id)
    await gate.fresh(request, order_detail, *(commit_index(log) for log in SHOWN_LOGS))
    await visible_order(request, order_id)
    gate.changes.check_room()
    shown = change_v2 if request.scope["path"].startswith(V2) else change_v1
    return LiveStream(_events(gate, order_id, seen, shown))


def _versions(event_id: str) -> Versions:
    match = EVENT_ID_PATTERN.fullmatch(event_id)
    if match is None:
        detail = f"no event has the id {event_id[:64]}; they look like 3.2.1"
        raise Problem(422, "malformed", detail, field="header:Last-Event-ID")
    return int(match[1]), int(match[2]), int(match[3] or 0)


async def _events(gate: Gate, order_id: str, seen: Versions | None, shown: Shown) -> Messages:
    ends_at = asyncio.get_running_loop().time() + STREAM_S_MAX
    try:
        with gate.changes.following(*((log, order_id) for log in SHOWN_LOGS)) as changed:
            while asyncio.get_running_loop().time() < ends_at:
                changed.clear()
                if seen is None or await _anything_new(gate, order_id, seen):
                    commits = await order_commits(gate.history, order_id)
                    now = tuple(len(of_log) for of_log in commits)
                    if seen is not None:
                        for change in _changes(commits, seen):
                            yield _message("change", change, shown)
                        seen = tuple(map(max, now, seen))
                    elif order := order_after(commits):
                        yield _message("order", Change(_positions(commits), "", [], order), shown)
                        seen = now
                if not await woken(changed):
                    yield still_here()
    except (LogUnreachable, Problem) as error:  # The client comes again and goes on where it was.
        log.info("the stream of order %s ends: %s", order_id, error)


async def _anything_new(gate: Gate, order_id: str, seen: Versions) -> bool:
    logs = zip(SHOWN_LOGS, seen, strict=True)
    return any(await asyncio.gather(*(gate.history.of_aggregate(log, order_id, after=after) for log, after in logs)))


def _changes(commits: OrderCommits, seen: Versions) -> list[Change]:
    """What comes behind these versions, by the time of writing, each with the order as it then was."""
    new = heapq.merge(
        *([(log, one) for one in of_log[after:]] for log, of_log, after in zip(SHOWN_LOGS, commits, seen, strict=True)),
        key=lambda change: change[1].written_at,
    )
    found: list[Change] = []
    upto = dict(zip(SHOWN_LOGS, seen, strict=True))
    for domain, recorded in new:
        upto[domain] += 1
        order = order_after(OrderCommits(*(of_log[: upto[log]] for log, of_log in commits._asdict().items())))
        if order is not None:
            events = [type(event).__name__ for event in recorded.commit.events]
            found.append(Change(f"{domain}={recorded.sequence}", domain, events, order))
    return found


def _message(kind: str, change: Change, shown: Shown) -> ServerSentEventMessage:
    return ServerSentEventMessage(event=kind, id=change.order.tag, data=msgspec.json.encode(shown(change)).decode())


def change_v1(change: Change) -> Struct:
    return change


def change_v2(change: Change) -> Struct:
    return ChangeV2(change.position, change.domain, change.events, order_v2(change.order))


def _positions(commits: OrderCommits) -> str:
    return ",".join(f"{log}={of_log[-1].sequence}" for log, of_log in commits._asdict().items() if of_log)


routes = [
    get(f"{V1}/{{order_id:str}}/timeline", opt=SUPERSEDED, deprecated=True, tags=["orders"])(get_timeline),
    get(f"{V2}/{{order_id:str}}/timeline", tags=["orders"])(get_timeline),
    get(f"{V1}/{{order_id:str}}/stream", opt=SUPERSEDED, deprecated=True, tags=["orders"], media_type=EVENTS)(
        stream_order
    ),
    get(f"{V2}/{{order_id:str}}/stream", tags=["orders"], media_type=EVENTS)(stream_order),
]
