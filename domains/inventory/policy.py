"""What inventory does by itself about orders: what was shipped leaves the books; for an order that nobody conducts the
stock is reserved when it is placed, and given back when it is cancelled."""

from __future__ import annotations

from typing import assert_never

from domains.inventory.messages import DispatchStock, InventoryCommand, ItemQuantity, ReleaseStock, ReserveStock
from domains.kernel import Policy
from domains.orders.messages import OrderCancelled, OrderPlaced, OrderShipped, ShippedItem, Terms, units_of

StockedFor = OrderPlaced | OrderShipped | OrderCancelled


def react(event: StockedFor) -> list[InventoryCommand]:
    match event:
        case OrderPlaced(order_id, workflow="choreographed"):
            return [ReserveStock(order_id, _quantities(units_of(event.lines)))]
        case OrderShipped(order_id, items) if items:
            return [DispatchStock(order_id, _quantities(items))]
        case OrderCancelled(order_id, terms=Terms(items)):
            return [ReleaseStock(order_id, _quantities(items))]
        case OrderPlaced() | OrderShipped() | OrderCancelled():
            return []
        case _:
            assert_never(event)


def _quantities(items: tuple[ShippedItem, ...]) -> tuple[ItemQuantity, ...]:
    return tuple(ItemQuantity(item.sku, item.quantity) for item in items)


inventory_policy: Policy[StockedFor] = Policy(
    "inventory", {"orders": (OrderPlaced, OrderShipped, OrderCancelled)}, react
)
