"""What an order is for, as the services that handle goods want to know it."""

from __future__ import annotations

from collections import Counter

from domains.inventory.messages import ItemQuantity
from domains.orders.messages import OrderPlaced


def items_of(placed: OrderPlaced) -> tuple[ItemQuantity, ...]:
    """The units of each SKU, summed over the order's lines."""
    units: Counter[str] = Counter()
    for line in placed.lines:
        units[line.sku] += line.quantity
    return tuple(ItemQuantity(sku, quantity) for sku, quantity in units.items())
