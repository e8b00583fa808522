"""The inventory's public face: commands and events."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from domains.kernel import LINES_MAX, QUANTITY_MAX, Id, Quantity


class ItemQuantity(Struct, frozen=True):
    sku: Id
    quantity: Quantity


ItemQuantities = Annotated[tuple[ItemQuantity, ...], Meta(max_length=LINES_MAX)]


class ReceiveStock(Struct, frozen=True, tag=True):
    """Goods came in. A receipt is counted once, whoever reports it however often."""

    sku: Id
    receipt_id: Id
    quantity: Quantity


class ReserveStock(Struct, frozen=True, tag=True):
    """Promise all of these items to an order, or none of them."""

    order_id: Id
    items: ItemQuantities


class ReleaseStock(Struct, frozen=True, tag=True):
    """Give back what was promised to an order and has not left the house."""

    order_id: Id
    items: ItemQuantities


class DispatchStock(Struct, frozen=True, tag=True):
    """What was promised to an order leaves the house."""

    order_id: Id
    items: ItemQuantities


class WatchStock(Struct, frozen=True, tag=True):
    """Somebody is to be told when fewer than so many units are available; 0: nobody is."""

    sku: Id
    low_at: Annotated[int, Meta(ge=0, le=QUANTITY_MAX)]


class ReceiptRecorded(Struct, frozen=True, tag=True):
    sku: str
    receipt_id: str
    quantity: int


class StockReceived(Struct, frozen=True, tag=True):
    sku: str
    receipt_id: str
    quantity: int


class StockReserved(Struct, frozen=True, tag=True):
    """All of an order's items are promised to it."""

    order_id: str
    items: tuple[ItemQuantity, ...]


class StockRefused(Struct, frozen=True, tag=True):
    """An order got nothing: this item was the first that there was too little of."""

    order_id: str
    sku: str
    wanted: int
    available: int


class StockReleased(Struct, frozen=True, tag=True):
    order_id: str


class StockDispatched(Struct, frozen=True, tag=True):
    order_id: str


class ItemReserved(Struct, frozen=True, tag=True):
    sku: str
    order_id: str
    quantity: int


class ItemReleased(Struct, frozen=True, tag=True):
    sku: str
    order_id: str
    quantity: int


class ItemDispatched(Struct, frozen=True, tag=True):
    sku: str
    order_id: str
    quantity: int


class StockWatched(Struct, frozen=True, tag=True):
    sku: str
    low_at: int


class StockRanLow(Struct, frozen=True, tag=True):
    """Fewer units are available than somebody wants there to be: once, until there were enough in between."""

    sku: str
    available: int
    low_at: int


InventoryCommand = ReceiveStock | ReserveStock | ReleaseStock | DispatchStock | WatchStock
ReceiptEvent = ReceiptRecorded
ReservationEvent = StockReserved | StockRefused | StockReleased | StockDispatched
ShelfEvent = StockReceived | ItemReserved | ItemReleased | ItemDispatched | StockWatched | StockRanLow
InventoryEvent = ReceiptEvent | ReservationEvent | ShelfEvent
