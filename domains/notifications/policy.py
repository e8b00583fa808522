"""What the notifications do by themselves about orders: confirm those that nobody conducts when they are shipped.

Orders of the first edition, in either workflow, are noted when they are placed and confirmed by that note, unless their
checkout was first. Records of what happened elsewhere are not noted, so nobody is told of them.
"""

from __future__ import annotations

from typing import assert_never

from domains.kernel import Policy
from domains.notifications.messages import NoteOrder, NotificationCommand, Purchase, SendOrderConfirmation
from domains.orders.messages import OrderPlaced, OrderShipped, Terms

ToldOf = OrderPlaced | OrderShipped


def react(event: ToldOf) -> list[NotificationCommand]:
    match event:
        case OrderPlaced(order_id, customer_id, currency, total_cents=total_cents, workflow=workflow, edition=edition):
            if edition > 1 or workflow == "recorded":
                return []
            return [NoteOrder(order_id, Purchase(customer_id, currency, total_cents))]
        case OrderShipped(order_id, terms=Terms(currency=currency, total_cents=total_cents, customer_id=str(customer))):
            return [SendOrderConfirmation(order_id, Purchase(customer, currency, total_cents))]
        case OrderShipped(order_id):
            return [SendOrderConfirmation(order_id)]
        case _:
            assert_never(event)


notifications_policy: Policy[ToldOf] = Policy(
    "notifications", {"orders": (OrderPlaced, OrderShipped)}, react, dated=True
)
