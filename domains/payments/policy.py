"""What payments do by themselves about an order that nobody conducts: charge when it has its stock, give the money back
when it is cancelled."""

from __future__ import annotations

from typing import assert_never

from domains.kernel import Policy
from domains.orders.messages import OrderCancelled, OrderReserved, Terms
from domains.payments.messages import CancelPayment, PaymentCommand, RequestPayment

ChargedFor = OrderReserved | OrderCancelled


def react(event: ChargedFor) -> list[PaymentCommand]:
    match event:
        case OrderReserved(order_id, Terms() as terms):
            return [RequestPayment(order_id, terms.currency, terms.total_cents, terms.payment_token)]
        case OrderCancelled(order_id, reason, Terms()):
            return [CancelPayment(order_id, reason)]
        case OrderReserved() | OrderCancelled():
            return []
        case _:
            assert_never(event)


payments_policy: Policy[ChargedFor] = Policy("payments", {"orders": (OrderReserved, OrderCancelled)}, react)
