"""The stock: a shelf a SKU, a reservation an order, a receipt a delivery of goods.

Reserving all items of an order is one unit of work over its reservation and every shelf that it touches: decided
together, committed together. A shelf's state is two numbers however old it grows; what makes a repeat harmless (this
receipt was counted, this order was served) are small aggregates of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from domains.inventory.messages import (
    DispatchStock,
    InventoryCommand,
    InventoryEvent,
    ItemDispatched,
    ItemQuantity,
    ItemReleased,
    ItemReserved,
    ReceiptRecorded,
    ReceiveStock,
    ReleaseStock,
    ReserveStock,
    ShelfEvent,
    StockDispatched,
    StockRanLow,
    StockReceived,
    StockRefused,
    StockReleased,
    StockReserved,
    StockWatched,
    WatchStock,
)
from domains.kernel import QUANTITY_MAX, Domain, Rejected

ON_HAND_MAX = 1_000 * QUANTITY_MAX


class Shelf(Struct, frozen=True, tag=True):
    """Units in the house, and how many of them are promised to orders."""

    on_hand: int = 0
    reserved: int = 0

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


class Watched(Shelf, frozen=True, tag=True):
    """A shelf of which somebody wants to know when fewer units are available."""

    low_at: int = 0


class NotReceived(Struct, frozen=True, tag=True): ...


class Received(Struct, frozen=True, tag=True):
    quantity: int


class NotReserved(Struct, frozen=True, tag=True): ...


class Held(Struct, frozen=True, tag=True):
    items: tuple[ItemQuantity, ...]


class Refused(Struct, frozen=True, tag=True): ...


class Released(Struct, frozen=True, tag=True): ...


class Dispatched(Struct, frozen=True, tag=True): ...


Receipt = NotReceived | Received
Reservation = NotReserved | Held | Refused | Released | Dispatched
Stock = Shelf | Watched | Receipt | Reservation


def receipt_of(sku: str, receipt_id: str) -> str:
    return f"receipt:{sku}:{receipt_id}"


def reservation_of(order_id: str) -> str:
    return f"reservation:{order_id}"


def targets(command: InventoryCommand) -> tuple[str, ...]:
    match command:
        case ReceiveStock(sku, receipt_id):
            return sku, receipt_of(sku, receipt_id)
        case WatchStock(sku):
            return (sku,)
        case ReserveStock() | ReleaseStock() | DispatchStock():
            return reservation_of(command.order_id), *(item.sku for item in command.items)
        case _:
            assert_never(command)


def owner(event: InventoryEvent) -> str:
    match event:
        case ReceiptRecorded():  # The frequent ones first, for cases are tried in their order.
            return receipt_of(event.sku, event.receipt_id)
        case StockReceived() | ItemReserved() | ItemReleased() | ItemDispatched() | StockWatched() | StockRanLow():
            return event.sku
        case StockReserved() | StockRefused() | StockReleased() | StockDispatched():
            return reservation_of(event.order_id)
        case _:
            assert_never(event)


def initial(aggregate: str) -> Stock:
    kind, colon, _ = aggregate.partition(":")
    if not colon:
        return Shelf()
    return NotReceived() if kind == "receipt" else NotReserved()


def decide(states: Mapping[str, Stock], command: InventoryCommand) -> list[InventoryEvent]:
    match command:
        case ReceiveStock():
            return _receive(states, command)
        case WatchStock():
            return _watch(states, command)
        case ReserveStock():
            return _reserve(states, command)
        case ReleaseStock(order_id, items):
            match states[reservation_of(order_id)]:
                case Held(held) if held == items:
                    return [StockReleased(order_id), *(ItemReleased(i.sku, order_id, i.quantity) for i in items)]
                case Refused() | Released():
                    return []  # Nothing of it is held any more.
                case other:
                    raise _unlike(order_id, other)
        case DispatchStock(order_id, items):
            match states[reservation_of(order_id)]:
                case Held(held) if held == items:
                    return [StockDispatched(order_id), *(ItemDispatched(i.sku, order_id, i.quantity) for i in items)]
                case Dispatched():
                    return []
                case other:
                    raise _unlike(order_id, other)
        case _:
            assert_never(command)


def evolve(state: Stock, event: InventoryEvent) -> Stock:
    match event:
        case ReceiptRecorded(quantity=quantity):
            return Received(quantity)
        case StockReceived() | ItemReserved() | ItemReleased() | ItemDispatched() | StockWatched() | StockRanLow():
            return _evolve_shelf(state if isinstance(state, Shelf) else Shelf(), event)
        case StockReserved(items=items):
            return Held(items)
        case StockRefused():
            return Refused()
        case StockReleased():
            return Released()
        case StockDispatched():
            return Dispatched()
        case _:
            assert_never(event)


def _evolve_shelf(shelf: Shelf, event: ShelfEvent) -> Shelf:
    match event:
        case StockReceived(quantity=quantity):
            return replace(shelf, on_hand=shelf.on_hand + quantity)
        case ItemReserved(quantity=quantity):
            return replace(shelf, reserved=shelf.reserved + quantity)
        case ItemReleased(quantity=quantity):
            return replace(shelf, reserved=shelf.reserved - quantity)
        case ItemDispatched(quantity=quantity):
            return replace(shelf, on_hand=shelf.on_hand - quantity, reserved=shelf.reserved - quantity)
        case StockWatched(low_at=0):
            return Shelf(shelf.on_hand, shelf.reserved)
        case StockWatched(low_at=low_at):
            return Watched(shelf.on_hand, shelf.reserved, low_at)
        case StockRanLow():
            return shelf  # What is available says so itself.
        case _:
            assert_never(event)


def _receive(states: Mapping[str, Stock], command: ReceiveStock) -> list[InventoryEvent]:
    sku, receipt_id, quantity = command.sku, command.receipt_id, command.quantity
    match states[receipt_of(sku, receipt_id)]:
        case Received(counted) if counted == quantity:
            return []
        case Received(counted):
            raise Rejected("receipt_differs", f"receipt {receipt_id} was counted with {counted} units", "/quantity")
        case _:
            if _shelf(states, sku).on_hand + quantity > ON_HAND_MAX:
                raise Rejected("shelf_full", f"a shelf holds at most {ON_HAND_MAX} units", "/quantity")
            return [StockReceived(sku, receipt_id, quantity), ReceiptRecorded(sku, receipt_id, quantity)]


def _reserve(states: Mapping[str, Stock], command: ReserveStock) -> list[InventoryEvent]:
    order_id, items = command.order_id, command.items
    if len({item.sku for item in items}) != len(items):
        raise Rejected("sku_repeated", "each SKU may stand only once in a reservation", "/items")
    match states[reservation_of(order_id)]:
        case NotReserved():
            for sku, quantity in ((item.sku, item.quantity) for item in items):
                available = _shelf(states, sku).available
                if available < quantity:
                    return [StockRefused(order_id, sku, quantity, available)]
            taken = [ItemReserved(item.sku, order_id, item.quantity) for item in items]
            return [StockReserved(order_id, items), *taken, *_ran_low(states, taken)]
        case Held(held) if held != items:
            raise Rejected("reservation_differs", f"order {order_id} holds other items", "/items")
        case _:
            return []  # Answered before, whatever became of it.


def _watch(states: Mapping[str, Stock], command: WatchStock) -> list[InventoryEvent]:
    shelf = _shelf(states, command.sku)
    if command.low_at == (shelf.low_at if isinstance(shelf, Watched) else 0):
        return []
    watched = StockWatched(command.sku, command.low_at)
    return [watched, *_ran_low(states, [watched])]


def _ran_low(states: Mapping[str, Stock], events: Sequence[ItemReserved | StockWatched]) -> list[StockRanLow]:
    """What these events, one a shelf, take below where somebody wants to be told. What was there before is no news."""
    found: list[StockRanLow] = []
    for event in events:
        before = _shelf(states, event.sku)
        after = _evolve_shelf(before, event)
        if isinstance(after, Watched) and _is_low(after) and not _is_low(before):
            found.append(StockRanLow(event.sku, after.available, after.low_at))
    return found


def _is_low(shelf: Shelf) -> bool:
    return isinstance(shelf, Watched) and shelf.available < shelf.low_at


def _shelf(states: Mapping[str, Stock], sku: str) -> Shelf:
    shelf = states[sku]
    return shelf if isinstance(shelf, Shelf) else Shelf()


def _unlike(order_id: str, reservation: Stock) -> Rejected:
    if isinstance(reservation, Held):
        return Rejected("reservation_differs", f"order {order_id} holds other items", "/items")
    return Rejected("nothing_reserved", f"order {order_id} holds no stock")


inventory: Domain[Stock, InventoryCommand, InventoryEvent] = Domain(
    name="inventory",
    commands=(ReceiveStock, ReserveStock, ReleaseStock, DispatchStock, WatchStock),
    events=(
        ReceiptRecorded,
        StockReceived,
        StockReserved,
        StockRefused,
        StockReleased,
        StockDispatched,
        ItemReserved,
        ItemReleased,
        ItemDispatched,
        StockWatched,
        StockRanLow,
    ),
    states=(Shelf, Watched, NotReceived, Received, NotReserved, Held, Refused, Released, Dispatched),
    targets=targets,
    owner=owner,
    initial=initial,
    decide=decide,
    evolve=evolve,
)
