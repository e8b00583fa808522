"""What inventory does by itself about orders: what was shipped leaves the books."""

from __future__ import annotations

from domains.inventory.messages import DispatchStock, InventoryCommand, ItemQuantity
from domains.kernel import Policy
from domains.orders.messages import OrderShipped


def react(event: OrderShipped) -> list[InventoryCommand]:
    items = tuple(ItemQuantity(item.sku, item.quantity) for item in event.items)
    return [DispatchStock(event.order_id, items)] if items else []


inventory_policy: Policy[OrderShipped] = Policy("inventory", {"orders": (OrderShipped,)}, react)
