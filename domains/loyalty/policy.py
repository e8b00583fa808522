"""What loyalty does by itself about orders: remember whose it is, give points when it is paid, take them back."""

from __future__ import annotations

from typing import assert_never

from domains.kernel import Policy
from domains.loyalty.messages import EarnPoints, LoyaltyCommand, NoteBuyer, ReturnPoints
from domains.orders.messages import OrderCancelled, OrderPaid, OrderPlaced

RewardedFor = OrderPlaced | OrderPaid | OrderCancelled


def react(event: RewardedFor) -> list[LoyaltyCommand]:
    match event:
        case OrderPlaced(order_id, customer_id):
            return [NoteBuyer(order_id, customer_id)]
        case OrderPaid(order_id, captured_cents):
            return [EarnPoints(order_id, captured_cents)]
        case OrderCancelled(order_id):
            return [ReturnPoints(order_id)]
        case _:
            assert_never(event)


loyalty_policy: Policy[RewardedFor] = Policy("loyalty", {"orders": (OrderPlaced, OrderPaid, OrderCancelled)}, react)
