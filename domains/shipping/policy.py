"""What shipping does by itself about an order that nobody conducts: schedule the pickup when it is paid, call it off
when it is cancelled."""

from __future__ import annotations

from typing import assert_never

from domains.kernel import Policy
from domains.orders.messages import OrderCancelled, OrderPaid, Terms
from domains.shipping.messages import CancelPickup, SchedulePickup, ShipmentItem, ShippingCommand

ShippedFor = OrderPaid | OrderCancelled


def react(event: ShippedFor) -> list[ShippingCommand]:
    match event:
        case OrderPaid(order_id, terms=Terms() as terms):
            parcel = tuple(ShipmentItem(item.sku, item.quantity) for item in terms.items)
            return [SchedulePickup(order_id, parcel, terms.shipping_token)]
        case OrderCancelled(order_id, reason, Terms(), True):
            return [CancelPickup(order_id, reason)]
        case OrderPaid() | OrderCancelled():
            return []
        case _:
            assert_never(event)


shipping_policy: Policy[ShippedFor] = Policy("shipping", {"orders": (OrderPaid, OrderCancelled)}, react)
