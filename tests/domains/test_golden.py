"""The log's format as it was written: today's code reads each recorded event, and would write it just so again.

A line of `golden/events.json` is never changed, because logs that hold such lines are never changed either: an event
that has to look different is a new version, and what it was before gets an upcaster. A new event gets a new line here
and there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import Raw, Struct
from msgspec.structs import replace

from bus.logs.blocks import GENESIS, Commit, decoder_of, seal
from domains.billing.invoice import billing
from domains.billing.messages import (
    InvoiceCredited,
    InvoiceDrafted,
    InvoiceDropped,
    InvoiceIssued,
    InvoiceLine,
    NumberTaken,
)
from domains.catalogue.messages import ProductDefined, ProductRevised
from domains.catalogue.product import catalogue
from domains.customers.customer import customers
from domains.customers.messages import CustomerChanged, CustomerErased, CustomerRegistered
from domains.inventory.messages import (
    ItemDispatched,
    ItemQuantity,
    ItemReleased,
    ItemReserved,
    ReceiptRecorded,
    ReleaseStock,
    ReserveStock,
    StockDispatched,
    StockRanLow,
    StockReceived,
    StockRefused,
    StockReleased,
    StockReserved,
    StockWatched,
)
from domains.inventory.stock import inventory
from domains.kernel import Domain, StateStored
from domains.loyalty.messages import BuyerNoted, PointsEarned, PointsReturned
from domains.loyalty.points import loyalty
from domains.notifications.messages import (
    NoticeFailed,
    NoticeRequested,
    NoticeSent,
    OrderNoted,
    Purchase,
    SendOrderConfirmation,
)
from domains.notifications.notice import notifications
from domains.orders.messages import (
    EDITION,
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    OrderCancelled,
    OrderDelivered,
    OrderLine,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
    OrderShipped,
    ShipOrder,
    ShippedItem,
    Terms,
)
from domains.orders.order import orders
from domains.orders.upcasters import OrderPlacedV1
from domains.payments.messages import (
    PaymentAbandoned,
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
from domains.processes.checkout import checkout
from domains.processes.messages import (
    LATEST,
    SECOND,
    Alarm,
    CheckoutAdvanced,
    CheckoutAdvancedV1,
    CheckoutInput,
    CheckoutStep,
    Compensate,
    DeadlinePassed,
    RetryStep,
    SkipStep,
)
from domains.reviews.messages import DeliveryNoted, PurchaseNoted, ReviewPosted
from domains.reviews.review import reviews
from domains.shipping.messages import (
    CancelPickup,
    SchedulePickup,
    ShipmentCancelled,
    ShipmentDelivered,
    ShipmentItem,
    ShipmentPickedUp,
    ShipmentRecalled,
    ShipmentRecorded,
    ShipmentRefused,
    ShipmentScheduled,
)
from domains.shipping.shipment import shipping

GOLDEN = Path(__file__).parent / "golden" / "events.json"

items = (ItemQuantity("tea", 2), ItemQuantity("cup", 1))
lines = (
    OrderLine("tea", "Chá verde", "drinks", quantity=2, unit_price_cents=1_250, freight_cents=300),
    OrderLine("cup", "Cup", "kitchen", quantity=1, unit_price_cents=800),
)
placed_v1 = OrderPlacedV1("o1", "c1", "BRL", lines, 3_300, 300, 3_600, "tok_ok", "orchestrated")
placed = OrderPlaced("o1", "c1", "BRL", lines, 3, 3_300, 300, 3_600, "tok_ok", "orchestrated")
cancelled = OrderCancelled("o1", "changed my mind")
reserved = StockReserved("o1", items)
refused = StockRefused("o1", "tea", wanted=2, available=1)
captured = PaymentCaptured("o1", "ch_1", 3_600)
declined = PaymentDeclined("o1", "card_declined")

AnyDomain = Domain[Any, Any, Any] | StateStored[Any, Any, Any]


class Example(NamedTuple):
    """An event as it was written, and as what it is read."""

    written: Struct
    read: Struct


def today(*events: Struct) -> list[Example]:
    """What is read as it was written."""
    return [Example(event, event) for event in events]


FirstInput = OrderPlaced | OrderCancelled | StockReserved | StockRefused | PaymentCaptured | PaymentDeclined
FIRST_INPUTS_AND_STEPS: tuple[tuple[FirstInput, tuple[CheckoutStep, ...]], ...] = (
    (placed, (ReserveStock("o1", items),)),
    (reserved, (ConfirmReservation("o1"), RequestPayment("o1", "BRL", 3_600, "tok_ok"))),
    (refused, (CancelOrder("o1", "out_of_stock"),)),
    (captured, (ConfirmPayment("o1", 3_600),)),
    (declined, (ReleaseStock("o1", items), CancelOrder("o1", "payment_declined"))),
    (cancelled, (ReleaseStock("o1", items), RefundPayment("o1", "changed my mind"))),
    (cancelled, ()),
)
parcel = (ShipmentItem("tea", 2), ShipmentItem("cup", 1))
shipped = (ShippedItem("tea", 2), ShippedItem("cup", 1))
terms = Terms(shipped, "BRL", 3_600, "tok_ok", "ship_ok")
INPUTS_AND_STEPS: tuple[tuple[CheckoutInput, tuple[CheckoutStep, ...], Alarm | None, bool], ...] = (
    (placed, (ReserveStock("o1", items),), Alarm("reserve", 1, 30), False),
    (captured, (ConfirmPayment("o1", 3_600), SchedulePickup("o1", parcel, "ship_ok")), None, False),
    (ShipmentPickedUp("o1", "pu_1"), (ShipOrder("o1", shipped),), None, True),
    (ShipmentRefused("o1", "not_carried"), (CancelOrder("o1", "shipment_refused"),), None, True),
    (ShipmentCancelled("o1"), (RefundPayment("o1", "changed my mind"),), None, False),
    (ShipmentDelivered("o1"), (DeliverOrder("o1"),), None, False),
    (DeadlinePassed("o1", "reserve", 1), (ReserveStock("o1", items),), Alarm("reserve", 2, 60), False),
    (RetryStep("o1", "the card is good again"), (), None, False),
    (SkipStep("o1", "paid in cash"), (), None, False),
    (Compensate("o1", "it will not come"), (CancelPickup("o1", "it will not come"),), None, True),
)
confirm = SendOrderConfirmation("o1", Purchase("c1", "BRL", 3_600))
EXAMPLES: dict[AnyDomain, list[Example]] = {
    catalogue: today(
        ProductDefined("tea", "Chá verde", "drinks", 1_250, "BRL"),
        ProductRevised("tea", "Chá verde", "drinks", 990, "BRL"),
    ),
    customers: today(
        CustomerRegistered("c1"),
        CustomerChanged("c1", ("name", "address")),
        CustomerErased("c1"),
    ),
    inventory: today(
        ReceiptRecorded("tea", "r1", 10),
        StockReceived("tea", "r1", 10),
        reserved,
        refused,
        StockReleased("o1"),
        StockDispatched("o1"),
        ItemReserved("tea", "o1", 2),
        ItemReleased("tea", "o1", 2),
        ItemDispatched("tea", "o1", 2),
        StockWatched("tea", 5),
        StockRanLow("tea", 4, 5),
    ),
    orders: [
        Example(placed_v1, placed),
        *today(
            OrderReserved("o1"),
            OrderPaid("o1", 3_600),
            OrderShipped("o1"),
            OrderDelivered("o1"),
            cancelled,
            placed,
            OrderShipped("o1", shipped),
            replace(placed, shipping_token="ship_later"),
            replace(placed, workflow="choreographed"),
            OrderReserved("o1", terms),
            OrderPaid("o1", 3_600, terms),
            OrderCancelled("o1", "changed my mind", terms, paid=True),
            replace(placed, edition=EDITION),
            OrderShipped("o1", shipped, replace(terms, customer_id="c1")),
        ),
    ],
    payments: today(
        PaymentRequested("o1", "BRL", 3_600, "tok_ok"),
        captured,
        declined,
        RefundRequested("o1", "ch_1", 3_600, "changed my mind"),
        PaymentRefunded("o1", "re_1", 3_600),
        PaymentRecorded("o1", "BRL", 3_600, (PaymentPart("voucher", 0, 600), PaymentPart("credit_card", 3, 3_000))),
        PaymentAbandoned("o1", "changed my mind"),
    ),
    checkout: [
        *(
            Example(
                CheckoutAdvancedV1("o1", placed_v1 if isinstance(what, OrderPlaced) else what, steps),
                CheckoutAdvanced("o1", what, steps),
            )
            for what, steps in FIRST_INPUTS_AND_STEPS
        ),
        *today(*(CheckoutAdvanced("o1", what, steps) for what, steps in FIRST_INPUTS_AND_STEPS)),
        *today(
            *(CheckoutAdvanced("o1", what, steps, SECOND, alarm, over) for what, steps, alarm, over in INPUTS_AND_STEPS)
        ),
        *today(CheckoutAdvanced("o1", OrderShipped("o1", shipped), (confirm,), LATEST, over=True)),
    ],
    shipping: today(
        ShipmentScheduled("o1", parcel, "ship_ok"),
        ShipmentPickedUp("o1", "pu_1"),
        ShipmentRefused("o1", "not_carried"),
        ShipmentRecalled("o1", "changed my mind"),
        ShipmentCancelled("o1"),
        ShipmentDelivered("o1"),
        ShipmentRecorded("o1", parcel),
    ),
    billing: today(
        InvoiceDrafted("o1", "c1", "BRL", (InvoiceLine("tea", "Chá verde", 2, 1_250, 300),), 2_500, 300, 2_800),
        InvoiceDropped("o1"),
        InvoiceIssued("o1", 7, 2_800),
        InvoiceCredited("o1", 8, "changed my mind"),
        NumberTaken(7, "o1"),
    ),
    reviews: today(
        PurchaseNoted("o1", "c1", ("tea", "cup")),
        DeliveryNoted("o1"),
        ReviewPosted("tea", "c1", "o1", 5, "Muito bom"),
    ),
    loyalty: today(
        BuyerNoted("o1", "c1"),
        PointsEarned("o1", "c1", 36),
        PointsReturned("o1", "c1", 36),
    ),
    notifications: today(
        OrderNoted("o1", Purchase("c1", "BRL", 3_600)),
        NoticeRequested("o1", Purchase("c1", "BRL", 3_600)),
        NoticeSent("o1", "<order-o1@shop.example>"),
        NoticeFailed("o1", "customer_erased"),
    ),
}

of_every_domain = pytest.mark.parametrize("domain", EXAMPLES, ids=lambda domain: domain.name)


def recorded(domain: AnyDomain) -> list[bytes]:
    """The events of a domain as they stand in the file, to the byte."""
    return [bytes(event) for event in msgspec.json.decode(GOLDEN.read_bytes(), type=dict[str, list[Raw]])[domain.name]]


@of_every_domain
def test_recorded_events_are_read_as_they_were_meant(domain: AnyDomain) -> None:
    commit = b'{"id":"c","aggregate":"a","version":1,"events":[' + b",".join(recorded(domain)) + b"]}"
    (read,) = decoder_of(domain).decode(seal("e", datetime(2026, 11, 21, tzinfo=UTC), GENESIS, [commit])).commits
    assert read == Commit("c", "a", 1, [example.read for example in EXAMPLES[domain]])


@of_every_domain
def test_events_are_written_as_they_were_recorded(domain: AnyDomain) -> None:
    assert [msgspec.json.encode(example.written) for example in EXAMPLES[domain]] == recorded(domain)


@of_every_domain
def test_every_event_has_an_example_in_every_version(domain: AnyDomain) -> None:
    older = {upcaster.older for upcaster in domain.upcasters}
    assert {type(example.written) for example in EXAMPLES[domain]} == {*domain.events, *older}
    assert {type(example.read) for example in EXAMPLES[domain]} == set(domain.events)


def test_every_input_and_step_of_the_checkout_has_an_example() -> None:
    examples = [example.read for example in EXAMPLES[checkout]]
    advanced = [example for example in examples if isinstance(example, CheckoutAdvanced)]
    assert {type(each.input) for each in advanced} == set(CheckoutInput.__args__)
    assert {type(step) for each in advanced for step in each.steps} == set(CheckoutStep.__args__)


def test_the_file_holds_every_domain_and_no_other() -> None:
    assert set(msgspec.json.decode(GOLDEN.read_bytes())) == {domain.name for domain in EXAMPLES}
