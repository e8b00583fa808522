"""What an order is for, as the services that handle goods want to know it."""

from __future__ import annotations

from domains.inventory.messages import ItemQuantity
from domains.orders.messages import OrderPlaced, units_of


def items_of(placed: OrderPlaced) -> tuple[ItemQuantity, ...]:
    """The units of each SKU, summed over the order's lines."""
    return tuple(ItemQuantity(item.sku, item.quantity) for item in units_of(placed.lines))
