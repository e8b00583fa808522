"""What the notifications do by themselves about orders: note whose each is, and confirm it when it is paid.

Records of what happened elsewhere are not noted, so nobody is told of them.
"""

from __future__ import annotations

from typing import assert_never

from domains.kernel import Policy
from domains.notifications.messages import NoteOrder, NotificationCommand, Purchase, SendOrderConfirmation
from domains.orders.messages import OrderPaid, OrderPlaced

ToldOf = OrderPlaced | OrderPaid


def react(event: ToldOf) -> list[NotificationCommand]:
    match event:
        case OrderPlaced(workflow="recorded"):
            return []
        case OrderPlaced(order_id, customer_id, currency, total_cents=total_cents):
            return [NoteOrder(order_id, Purchase(customer_id, currency, total_cents))]
        case OrderPaid(order_id):
            return [SendOrderConfirmation(order_id)]
        case _:
            assert_never(event)


notifications_policy: Policy[ToldOf] = Policy("notifications", {"orders": (OrderPlaced, OrderPaid)}, react, dated=True)
