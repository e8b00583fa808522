"""Whether an order holds what was to be reserved for it, as REST and gRPC both tell it.

A reservation is answered once, for good: with the stock, or with the item that there was too little of. Whoever asks
again under another key learns from the log how it stands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from domains.inventory.messages import ReservationEvent, StockRefused
from domains.inventory.stock import Dispatched, Held, Refused, Released, Reservation, inventory, reservation_of
from gateway.http.commanding import Written
from gateway.http.problems import refused, unavailable
from projections.commit_index import commit_index
from projections.history import History
from projections.projection import Projection

WAIT_S = 2.0

Reached = Callable[[Projection, int, float], Awaitable[bool]]
"""Waits until a read model shows a position, for so many seconds, and says whether it does."""

_decoder = msgspec.json.Decoder(list[ReservationEvent])


async def held(order_id: str, written: Written, history: History, reached: Reached) -> bool:
    """Whether it was so before. Raises `Problem` where the order holds nothing."""
    if written.events is not None:
        for event in _decoder.decode(written.events):
            if isinstance(event, StockRefused):
                detail = f"order {order_id} wanted {event.wanted} of {event.sku}, and {event.available} were available"
                raise refused("out_of_stock", detail, "/items")
        return written.repeated
    if not await reached(commit_index(inventory.name), int(written.position.rpartition("=")[2]), WAIT_S):
        raise unavailable("position_not_reached", "how the reservation stands is not shown yet")
    match await standing(order_id, history):
        case Held():
            return True
        case Refused():
            raise refused("out_of_stock", f"order {order_id} was refused before", "/items")
        case Released() | Dispatched():
            raise refused("reservation_over", f"what order {order_id} held has gone out or was given back")
        case other:
            raise AssertionError(f"nothing had to change for order {order_id}, and it stands at {other}")


async def standing(order_id: str, history: History) -> Reservation:
    """What became of it, as far as the index of commits shows."""
    aggregate = reservation_of(order_id)
    state = inventory.initial(aggregate)
    for recorded in await history.of_aggregate(inventory.name, aggregate):
        for event in recorded.commit.events:
            state = inventory.evolve(state, event)  # type: ignore[arg-type]  # Of this log, so of this domain.
    return state  # type: ignore[return-value]  # Of a reservation's id, so a reservation's.
