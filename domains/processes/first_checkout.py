"""The checkout as it was defined first: it ended with the payment. Instances that began under it end under it.

Nothing begins here any more. It may go when no log holds such an instance that is under way.
"""

from __future__ import annotations

from typing import Literal, assert_never

from msgspec import Struct

from domains.inventory.messages import ItemQuantity, ReleaseStock, StockRefused, StockReserved
from domains.orders.messages import CancelOrder, ConfirmPayment, ConfirmReservation, OrderCancelled, OrderPlaced
from domains.payments.messages import PaymentCaptured, PaymentDeclined, RefundPayment, RequestPayment
from domains.processes.items import items_of
from domains.processes.messages import CheckoutInput, CheckoutStep


class Reserving(Struct, frozen=True, tag=True):
    items: tuple[ItemQuantity, ...]
    currency: str
    total_cents: int
    payment_token: str


class Charging(Struct, frozen=True, tag=True):
    items: tuple[ItemQuantity, ...]


class Done(Struct, frozen=True, tag=True):
    """Paid. The items stay known: an order may still be cancelled before it is shipped."""

    items: tuple[ItemQuantity, ...]


class ReservingCancelled(Struct, frozen=True, tag=True):
    """Cancelled before the inventory answered."""


class ChargingCancelled(Struct, frozen=True, tag=True):
    """Cancelled before the provider answered."""


class Ended(Struct, frozen=True, tag=True):
    """Nothing is held and nothing is owed."""


FirstCheckout = Reserving | Charging | Done | ReservingCancelled | ChargingCancelled | Ended


def react(checkout: FirstCheckout, event: CheckoutInput) -> tuple[CheckoutStep, ...] | None:
    """What is to be done about an event; `None` when this checkout does not care."""
    match event, checkout:
        case StockReserved(order_id), Reserving():
            return (
                ConfirmReservation(order_id),
                RequestPayment(order_id, checkout.currency, checkout.total_cents, checkout.payment_token),
            )
        case StockRefused(order_id), Reserving():
            return (CancelOrder(order_id, "out_of_stock"),)
        case PaymentCaptured(order_id, _, amount_cents), Charging():
            return (ConfirmPayment(order_id, amount_cents),)
        case PaymentDeclined(order_id), Charging(items):
            return (ReleaseStock(order_id, items), CancelOrder(order_id, "payment_declined"))
        case OrderCancelled(), Reserving():
            return ()
        case OrderCancelled(order_id), Charging(items):
            return (ReleaseStock(order_id, items),)
        case OrderCancelled(order_id, reason), Done(items):
            return (RefundPayment(order_id, reason), ReleaseStock(order_id, items))
        case StockReserved(order_id, items), ReservingCancelled():
            return (ReleaseStock(order_id, items),)
        case StockRefused(), ReservingCancelled():
            return ()
        case PaymentCaptured(order_id), ChargingCancelled():
            return (RefundPayment(order_id, "order_cancelled"),)
        case PaymentDeclined(), ChargingCancelled():
            return ()
        case _:
            return None


def begun(placed: OrderPlaced) -> FirstCheckout:
    return Reserving(items_of(placed), placed.currency, placed.total_cents, placed.payment_token)


def evolve(checkout: FirstCheckout, event: CheckoutInput) -> FirstCheckout:
    match event, checkout:
        case StockReserved(), Reserving(items):
            return Charging(items)
        case PaymentCaptured(), Charging(items):
            return Done(items)
        case OrderCancelled(), Reserving():
            return ReservingCancelled()
        case OrderCancelled(), Charging():
            return ChargingCancelled()
        case _:
            return Ended()


def status_of(checkout: FirstCheckout) -> Literal["running", "waiting", "compensating", "done", "failed"]:
    match checkout:
        case Reserving():
            return "running"
        case Charging():
            return "waiting"
        case ReservingCancelled() | ChargingCancelled():
            return "compensating"
        case Done():
            return "done"
        case Ended():
            return "failed"
        case _:
            assert_never(checkout)
