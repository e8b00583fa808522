"""The checkout, orchestrated: reserve the stock, take the money, and give both back when an order comes to nothing.

A decider over the events of orders, inventory and payments. Each event that moves a checkout on is recorded together
with the commands that it caused, in one commit of the checkout's own log: inbox and outbox in one. Orders that are
only recorded (see `Workflow`) are left alone.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, assert_never

from msgspec import Struct

from domains.inventory.messages import ItemQuantity, ReleaseStock, ReserveStock, StockRefused, StockReserved
from domains.kernel import Decider, Upcaster, hosted
from domains.orders.messages import CancelOrder, ConfirmPayment, ConfirmReservation, OrderCancelled, OrderPlaced
from domains.orders.upcasters import OrderPlacedV1, placed_from_v1
from domains.payments.messages import PaymentCaptured, PaymentDeclined, RefundPayment, RequestPayment

CheckoutInput = OrderPlaced | OrderCancelled | StockReserved | StockRefused | PaymentCaptured | PaymentDeclined
CheckoutInputV1 = OrderPlacedV1 | OrderCancelled | StockReserved | StockRefused | PaymentCaptured | PaymentDeclined
CheckoutStep = (
    ReserveStock | ReleaseStock | ConfirmReservation | RequestPayment | ConfirmPayment | CancelOrder | RefundPayment
)


class Observe(Struct, frozen=True, tag=True):
    """Something happened that a checkout may care about. Who tells of it may still run older code."""

    order_id: str
    input: CheckoutInput | OrderPlacedV1


class CheckoutAdvanced(Struct, frozen=True, tag="CheckoutAdvanced.2"):
    """What happened, and what is to be done about it. It holds an event, so a new version of that is one of this."""

    order_id: str
    input: CheckoutInput
    steps: tuple[CheckoutStep, ...]


class CheckoutAdvancedV1(Struct, frozen=True, tag="CheckoutAdvanced"):
    """With the first version of `OrderPlaced`."""

    order_id: str
    input: CheckoutInputV1
    steps: tuple[CheckoutStep, ...]


def advanced_from_v1(advanced: CheckoutAdvancedV1) -> CheckoutAdvanced:
    return CheckoutAdvanced(advanced.order_id, input_of(advanced.input), advanced.steps)


def input_of(observed: CheckoutInput | CheckoutInputV1) -> CheckoutInput:
    return placed_from_v1(observed) if isinstance(observed, OrderPlacedV1) else observed


class Idle(Struct, frozen=True, tag=True): ...


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


Checkout = Idle | Reserving | Charging | Done | ReservingCancelled | ChargingCancelled | Ended


def react(checkout: Checkout, event: CheckoutInput) -> tuple[CheckoutStep, ...] | None:
    """What is to be done about an event; `None` when this checkout does not care."""
    match event, checkout:
        case OrderPlaced(workflow="orchestrated"), Idle():
            return (ReserveStock(event.order_id, items_of(event)),)
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
        case OrderCancelled(), Idle() | Reserving():
            return ()  # Before the order itself was seen: then nothing is begun for it.
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


def decide(checkout: Checkout, command: Observe) -> list[CheckoutAdvanced]:
    event = input_of(command.input)
    steps = react(checkout, event)
    return [] if steps is None else [CheckoutAdvanced(command.order_id, event, steps)]


def evolve(checkout: Checkout, event: CheckoutAdvanced) -> Checkout:
    match event.input, checkout:
        case OrderPlaced() as placed, Idle():
            return Reserving(items_of(placed), placed.currency, placed.total_cents, placed.payment_token)
        case StockReserved(), Reserving(items):
            return Charging(items)
        case PaymentCaptured(), Charging(items):
            return Done(items)
        case OrderCancelled(), Reserving():
            return ReservingCancelled()
        case OrderCancelled(), Charging():
            return ChargingCancelled()
        case (
            (
                OrderPlaced()
                | OrderCancelled()
                | StockReserved()
                | StockRefused()
                | PaymentCaptured()
                | PaymentDeclined()
            ),
            _,
        ):
            return Ended()
        case _:
            assert_never(event.input)


Status = Literal["running", "waiting", "compensating", "done", "failed"]


def status_of(checkout: Checkout) -> Status:
    """How it stands with a checkout. `waiting`: for the outside world; `compensating`: what was begun is being taken
    back; `failed`: it came to nothing, and nothing is held or owed."""
    match checkout:
        case Idle() | Reserving():
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


def items_of(placed: OrderPlaced) -> tuple[ItemQuantity, ...]:
    """The units of each SKU, summed over the order's lines."""
    units: Counter[str] = Counter()
    for line in placed.lines:
        units[line.sku] += line.quantity
    return tuple(ItemQuantity(sku, quantity) for sku, quantity in units.items())


process: Decider[Checkout, Observe, CheckoutAdvanced] = Decider("checkout", Idle(), decide, evolve)

checkout = hosted(
    process,
    commands=(Observe,),
    events=(CheckoutAdvanced,),
    states=(Idle, Reserving, Charging, Done, ReservingCancelled, ChargingCancelled, Ended),
    target=lambda command: command.order_id,
    owner=lambda event: event.order_id,
    upcasters=(Upcaster(CheckoutAdvancedV1, advanced_from_v1),),
)
