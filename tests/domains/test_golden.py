"""The log's format as it was written: today's code reads each recorded event, and would write it just so again.

A line of `golden/events.json` is never changed, because logs that hold such lines are never changed either: an event
that has to look different is a new type, or gets an upcaster. A new event gets a new line here and there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

import msgspec
import pytest
from msgspec import Raw, Struct

from domains.catalogue.messages import ProductDefined, ProductRevised
from domains.catalogue.product import catalogue
from domains.inventory.messages import (
    ItemDispatched,
    ItemQuantity,
    ItemReleased,
    ItemReserved,
    ReceiptRecorded,
    ReleaseStock,
    ReserveStock,
    StockDispatched,
    StockReceived,
    StockRefused,
    StockReleased,
    StockReserved,
)
from domains.inventory.stock import inventory
from domains.kernel import Domain
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    OrderCancelled,
    OrderDelivered,
    OrderLine,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
    OrderShipped,
)
from domains.orders.order import orders
from domains.payments.messages import (
    PaymentCaptured,
    PaymentDeclined,
    PaymentPart,
    PaymentRecorded,
    PaymentRefunded,
    PaymentRequested,
    RefundPayment,
    RefundRequested,
    RequestPayment,
)
from domains.payments.payment import payments
from domains.processes.checkout import CheckoutAdvanced, CheckoutInput, CheckoutStep, checkout

GOLDEN = Path(__file__).parent / "golden" / "events.json"

items = (ItemQuantity("tea", 2), ItemQuantity("cup", 1))
lines = (
    OrderLine("tea", "Chá verde", "drinks", quantity=2, unit_price_cents=1_250, freight_cents=300),
    OrderLine("cup", "Cup", "kitchen", quantity=1, unit_price_cents=800),
)
placed = OrderPlaced("o1", "c1", "BRL", lines, 3_300, 300, 3_600, "tok_ok", "orchestrated")
cancelled = OrderCancelled("o1", "changed my mind")
reserved = StockReserved("o1", items)
refused = StockRefused("o1", "tea", wanted=2, available=1)
captured = PaymentCaptured("o1", "ch_1", 3_600)
declined = PaymentDeclined("o1", "card_declined")

AnyDomain = Domain[Any, Any, Any]
EXAMPLES: dict[AnyDomain, list[Struct]] = {
    catalogue: [
        ProductDefined("tea", "Chá verde", "drinks", 1_250, "BRL"),
        ProductRevised("tea", "Chá verde", "drinks", 990, "BRL"),
    ],
    inventory: [
        ReceiptRecorded("tea", "r1", 10),
        StockReceived("tea", "r1", 10),
        reserved,
        refused,
        StockReleased("o1"),
        StockDispatched("o1"),
        ItemReserved("tea", "o1", 2),
        ItemReleased("tea", "o1", 2),
        ItemDispatched("tea", "o1", 2),
    ],
    orders: [
        placed,
        OrderReserved("o1"),
        OrderPaid("o1", 3_600),
        OrderShipped("o1"),
        OrderDelivered("o1"),
        cancelled,
    ],
    payments: [
        PaymentRequested("o1", "BRL", 3_600, "tok_ok"),
        captured,
        declined,
        RefundRequested("o1", "ch_1", 3_600, "changed my mind"),
        PaymentRefunded("o1", "re_1", 3_600),
        PaymentRecorded("o1", "BRL", 3_600, (PaymentPart("voucher", 0, 600), PaymentPart("credit_card", 3, 3_000))),
    ],
    checkout: [
        CheckoutAdvanced("o1", placed, (ReserveStock("o1", items),)),
        CheckoutAdvanced("o1", reserved, (ConfirmReservation("o1"), RequestPayment("o1", "BRL", 3_600, "tok_ok"))),
        CheckoutAdvanced("o1", refused, (CancelOrder("o1", "out_of_stock"),)),
        CheckoutAdvanced("o1", captured, (ConfirmPayment("o1", 3_600),)),
        CheckoutAdvanced("o1", declined, (ReleaseStock("o1", items), CancelOrder("o1", "payment_declined"))),
        CheckoutAdvanced("o1", cancelled, (ReleaseStock("o1", items), RefundPayment("o1", "changed my mind"))),
        CheckoutAdvanced("o1", cancelled, ()),
    ],
}

of_every_domain = pytest.mark.parametrize("domain", EXAMPLES, ids=lambda domain: domain.name)


def recorded(domain: AnyDomain) -> list[bytes]:
    """The events of a domain as they stand in the file, to the byte."""
    return [bytes(event) for event in msgspec.json.decode(GOLDEN.read_bytes(), type=dict[str, list[Raw]])[domain.name]]


@of_every_domain
def test_recorded_events_are_read_as_they_were_meant(domain: AnyDomain) -> None:
    read = [msgspec.json.decode(event, type=Union[domain.events]) for event in recorded(domain)]  # noqa: UP007
    assert read == EXAMPLES[domain]


@of_every_domain
def test_events_are_written_as_they_were_recorded(domain: AnyDomain) -> None:
    assert [msgspec.json.encode(event) for event in EXAMPLES[domain]] == recorded(domain)


@of_every_domain
def test_every_event_has_an_example(domain: AnyDomain) -> None:
    assert set(map(type, EXAMPLES[domain])) == set(domain.events)


def test_every_input_and_step_of_the_checkout_has_an_example() -> None:
    advances = [event for event in EXAMPLES[checkout] if isinstance(event, CheckoutAdvanced)]
    assert {type(advanced.input) for advanced in advances} == set(CheckoutInput.__args__)
    assert {type(step) for advanced in advances for step in advanced.steps} == set(CheckoutStep.__args__)


def test_the_file_holds_every_domain_and_no_other() -> None:
    assert set(msgspec.json.decode(GOLDEN.read_bytes())) == {domain.name for domain in EXAMPLES}
