"""What billing does by itself about orders: draft when one is placed, issue when it is paid, cancel when it is."""

from __future__ import annotations

from typing import assert_never

from domains.billing.messages import BillingCommand, CancelInvoice, DraftInvoice, InvoiceLine, IssueInvoice
from domains.kernel import Policy
from domains.orders.messages import OrderCancelled, OrderPaid, OrderPlaced

BilledFor = OrderPlaced | OrderPaid | OrderCancelled


def react(event: BilledFor) -> list[BillingCommand]:
    match event:
        case OrderPlaced():
            return [_draft(event)]
        case OrderPaid(order_id, captured_cents):
            return [IssueInvoice(order_id, captured_cents)]
        case OrderCancelled(order_id, reason):
            return [CancelInvoice(order_id, reason)]
        case _:
            assert_never(event)


def _draft(placed: OrderPlaced) -> DraftInvoice:
    return DraftInvoice(
        order_id=placed.order_id,
        customer_id=placed.customer_id,
        currency=placed.currency,
        lines=tuple(
            InvoiceLine(line.sku, line.name, line.quantity, line.unit_price_cents, line.freight_cents)
            for line in placed.lines
        ),
        items_cents=placed.items_cents,
        freight_cents=placed.freight_cents,
        total_cents=placed.total_cents,
    )


billing_policy: Policy[BilledFor] = Policy("billing", {"orders": (OrderPlaced, OrderPaid, OrderCancelled)}, react)
