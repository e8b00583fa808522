"""Lives that a domain may lead: random commands about few things, so that they get in each other's way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product, starmap
from typing import Any, TypeVar

from hypothesis import strategies as st

from domains.billing.invoice import Billing, billing
from domains.billing.messages import CancelInvoice, DraftInvoice, InvoiceLine, IssueInvoice
from domains.catalogue.messages import DefineProduct
from domains.catalogue.product import Product, catalogue
from domains.inventory.messages import (
    DispatchStock,
    ItemQuantity,
    ReceiveStock,
    ReleaseStock,
    ReserveStock,
    StockRefused,
    StockReserved,
    WatchStock,
)
from domains.inventory.stock import Stock, inventory
from domains.kernel import Domain, Rejected
from domains.loyalty.messages import EarnPoints, NoteBuyer, ReturnPoints
from domains.loyalty.points import Points, loyalty
from domains.notifications.messages import (
    AttemptNotice,
    GiveUpNotice,
    NoteOrder,
    Purchase,
    RecordNoticeSent,
    SendOrderConfirmation,
)
from domains.notifications.notice import Notice, notifications
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    EndOverdue,
    FollowOn,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    OrderShipped,
    PlaceOrder,
    ShipOrder,
    ShippedItem,
)
from domains.orders.order import Order, orders
from domains.payments.messages import (
    CancelPayment,
    ConfirmCharge,
    ConfirmRefund,
    DeclineCharge,
    PaymentCaptured,
    PaymentDeclined,
    PaymentPart,
    RecordPayment,
    RefundPayment,
    RequestPayment,
)
from domains.payments.payment import Payment, payments
from domains.processes.checkout import Checkout, checkout
from domains.processes.messages import (
    CheckoutEvent,
    Compensate,
    DeadlinePassed,
    Observe,
    RetryStep,
    SkipStep,
)
from domains.reviews.messages import NoteDelivery, NotePurchase, PostReview
from domains.reviews.review import Reviews, reviews
from domains.shipping.messages import (
    CancelPickup,
    ConfirmCancellation,
    ConfirmPickup,
    RecordDelivery,
    RecordShipment,
    RefusePickup,
    SchedulePickup,
    ShipmentCancelled,
    ShipmentDelivered,
    ShipmentItem,
    ShipmentPickedUp,
    ShipmentRefused,
)
from domains.shipping.shipment import Shipment, shipping
from tests.domains.strategies import up_to
from tests.specification import Hosted

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")
AnyDomain = Domain[Any, Any, Any]
"""These properties hold whatever a domain is made of."""

COMMANDS_MAX = 60

IDS = ("a", "b")
FEW = (1, 2)
ITEMS = ((ItemQuantity("a", 1),), (ItemQuantity("b", 2),), (ItemQuantity("a", 1), ItemQuantity("b", 1)), ())
TWICE = (ItemQuantity("a", 1), ItemQuantity("a", 1))
LINES = ((OrderLine("a", "A", "x", 1, 100), OrderLine("a", "A", "x", 2, 100)), (OrderLine("b", "B", "x", 1, 0),), ())
PARTS = ((PaymentPart("voucher", 0, 1), PaymentPart("card", 3, 1)), ())
PURCHASES = (Purchase("c", "EUR", 1), Purchase("d", "EUR", 2))
WORKFLOWS = ("orchestrated", "recorded", "choreographed")


def every(kind: Callable[..., Command], *choices: Iterable[object]) -> list[Command]:
    """One of a kind for each combination of its fields."""
    return list(starmap(kind, product(*choices)))


def life_of(*kinds: Sequence[Command]) -> st.SearchStrategy[list[Command]]:
    """Some commands in a row, each kind as likely as the others."""
    return up_to(COMMANDS_MAX, st.one_of([st.sampled_from(kind) for kind in kinds]))


def observed(*inputs: CheckoutEvent) -> list[Observe]:
    return [Observe(what.order_id, what) for what in inputs]


LIVES: dict[AnyDomain, st.SearchStrategy[list[Any]]] = {
    catalogue: life_of(every(DefineProduct, IDS, IDS, IDS, FEW, ("EUR", "BRL"))),
    inventory: life_of(
        every(ReceiveStock, IDS, IDS, FEW),
        every(ReserveStock, IDS, (*ITEMS, TWICE)),
        every(ReleaseStock, IDS, ITEMS),
        every(DispatchStock, IDS, ITEMS),
        every(WatchStock, IDS, (0, 1, 2)),
    ),
    orders: life_of(
        every(PlaceOrder, IDS, IDS, ("EUR",), LINES, ("tok_ok",), WORKFLOWS),
        every(ConfirmReservation, IDS),
        every(ConfirmPayment, IDS, FEW),
        every(ShipOrder, IDS, ((ShippedItem("a", 1),), ())),
        every(DeliverOrder, IDS),
        [*every(CancelOrder, IDS, ("enough",)), *every(EndOverdue, IDS, ("OrderPlaced", "OrderReserved", "OrderPaid"))],
        [FollowOn(each.order_id, each) for each in every(ConfirmReservation, IDS)],
        [FollowOn(each.order_id, each) for each in every(ConfirmPayment, IDS, FEW)],
        [FollowOn(each.order_id, each) for each in every(ShipOrder, IDS)],
        [FollowOn(each.order_id, each) for each in every(DeliverOrder, IDS)],
        [FollowOn(each.order_id, each) for each in every(CancelOrder, IDS, ("enough",))],
    ),
    payments: life_of(
        every(RequestPayment, IDS, ("EUR",), FEW, ("tok_ok",)),
        every(ConfirmCharge, IDS, IDS, FEW),
        every(DeclineCharge, IDS, ("card_declined",)),
        every(RefundPayment, IDS, ("enough",)),
        every(CancelPayment, IDS, ("enough",)),
        every(ConfirmRefund, IDS, IDS, FEW),
        every(RecordPayment, IDS, ("EUR",), PARTS),
    ),
    checkout: life_of(
        observed(*every(OrderPlaced, IDS, ("c",), ("EUR",), LINES, FEW, (300,), (0,), (300,), ("tok_ok",), WORKFLOWS)),
        observed(*every(OrderCancelled, IDS, ("enough",))),
        observed(*every(StockReserved, IDS, ITEMS)),
        observed(*every(StockRefused, IDS, IDS, (2,), (1,))),
        observed(*every(PaymentCaptured, IDS, IDS, (300,))),
        observed(*every(PaymentDeclined, IDS, ("card_declined",))),
        observed(*every(ShipmentPickedUp, IDS, IDS), *every(OrderShipped, IDS)),
        observed(*every(ShipmentRefused, IDS, ("not_carried",))),
        observed(*every(ShipmentCancelled, IDS)),
        observed(*every(ShipmentDelivered, IDS)),
        every(DeadlinePassed, IDS, ("reserve", "charge", "ship"), FEW),
        every(RetryStep, IDS, ("look",)),
        every(SkipStep, IDS, ("done",)),
        every(Compensate, IDS, ("enough",)),
    ),
    shipping: life_of(
        every(SchedulePickup, IDS, ((ShipmentItem("a", 1),), ()), ("ship_ok",)),
        every(ConfirmPickup, IDS, IDS),
        every(RefusePickup, IDS, ("not_carried",)),
        every(CancelPickup, IDS, ("enough",)),
        every(ConfirmCancellation, IDS),
        every(RecordDelivery, IDS),
        every(RecordShipment, IDS, ((ShipmentItem("a", 1),), ())),
    ),
    billing: life_of(
        every(DraftInvoice, IDS, ("c",), ("EUR",), ((InvoiceLine("a", "A", 1, 100, 0),), ()), (100,), (0,), (100,)),
        every(IssueInvoice, IDS, FEW),
        every(CancelInvoice, IDS, ("enough",)),
    ),
    reviews: life_of(
        every(NotePurchase, IDS, ("c", "d"), (("a",), ("a", "b"), ())),
        every(NoteDelivery, IDS),
        every(PostReview, IDS, ("c", "d"), IDS, FEW, ("", "good")),
    ),
    loyalty: life_of(
        every(NoteBuyer, IDS, ("c", "d")),
        every(EarnPoints, IDS, (99, 250)),
        every(ReturnPoints, IDS),
    ),
    notifications: life_of(
        every(NoteOrder, IDS, PURCHASES),
        every(SendOrderConfirmation, IDS, (None, *PURCHASES)),
        every(AttemptNotice, IDS),
        every(RecordNoticeSent, IDS, ("<m@x>",)),
        every(GiveUpNotice, IDS, ("customer_unknown",)),
    ),
}
STATES: dict[AnyDomain, tuple[type, ...]] = {
    catalogue: Product.__args__,
    inventory: Stock.__args__,
    orders: Order.__args__,
    payments: Payment.__args__,
    checkout: Checkout.__args__,
    shipping: Shipment.__args__,
    billing: Billing.__args__,
    reviews: Reviews.__args__,
    loyalty: Points.__args__,
    notifications: Notice.__args__,
}


def lived(hosted: Hosted[State, Command, Event], commands: Sequence[Command]) -> Iterator[tuple[Command, list[Event]]]:
    """Each accepted command and its events, just after they were folded; refusals leave no trace."""
    for command in commands:
        try:
            events = hosted.handle(command)
        except Rejected:
            continue
        yield command, events
