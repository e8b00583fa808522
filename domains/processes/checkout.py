"""The checkout, orchestrated: reserve the stock, take the money, have the goods picked up, confirm it by mail, and the
way back from each.

A decider over the events of orders, inventory, payments and shipping. What it does is the table `STEPS`, how a table is
run is in `saga.py`. Each event that moves a checkout on is recorded together with the commands that it caused, in one
commit of the checkout's own log: inbox and outbox in one. Orders that are only recorded (see `Workflow`) are left
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from msgspec import Struct

from domains.inventory.messages import ReleaseStock, ReserveStock, StockRefused, StockReserved
from domains.kernel import Decider, Rejected, Upcaster, hosted
from domains.notifications.messages import Purchase, SendOrderConfirmation
from domains.orders.messages import (
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    ShipOrder,
    ShippedItem,
)
from domains.payments.messages import PaymentCaptured, PaymentDeclined, RefundPayment, RequestPayment
from domains.processes import first_checkout
from domains.processes.first_checkout import (
    Charging,
    ChargingCancelled,
    Done,
    Ended,
    FirstCheckout,
    Reserving,
    ReservingCancelled,
)
from domains.processes.items import items_of
from domains.processes.messages import (
    FIRST,
    LATEST,
    SECOND,
    CheckoutAdvanced,
    CheckoutAdvancedV1,
    CheckoutInput,
    Compensate,
    DeadlinePassed,
    Observe,
    RetryStep,
    SkipStep,
    advanced_from_v1,
    input_of,
)
from domains.processes.saga import (
    Closed,
    Completed,
    Deadline,
    Facts,
    Failed,
    Move,
    Saga,
    Step,
    Underway,
    Undoing,
    begin,
    move,
)
from domains.shipping.messages import (
    CancelPickup,
    SchedulePickup,
    ShipmentCancelled,
    ShipmentDelivered,
    ShipmentItem,
    ShipmentPickedUp,
    ShipmentRefused,
)

STEPS = (
    Step(
        "reserve",
        do=lambda of: (ReserveStock(of.order_id, of.items),),
        done=StockReserved,
        failed=StockRefused,
        reason="out_of_stock",
        then=lambda of, _: (ConfirmReservation(of.order_id),),
        undo=lambda of, _: (ReleaseStock(of.order_id, of.items),),
        deadline=Deadline(after_s=30, tries=3, reason="inventory_timeout"),
    ),
    Step(
        "charge",
        do=lambda of: (RequestPayment(of.order_id, of.currency, of.total_cents, of.payment_token),),
        done=PaymentCaptured,
        failed=PaymentDeclined,
        reason="payment_declined",
        then=lambda of, captured: (ConfirmPayment(of.order_id, _captured_cents(captured)),),
        undo=lambda of, reason: (RefundPayment(of.order_id, reason),),
        deadline=Deadline(after_s=60, reason="payment_timeout"),
        outside=True,
    ),
    Step(
        "ship",
        do=lambda of: (SchedulePickup(of.order_id, _parcel(of), of.shipping_token),),
        done=ShipmentPickedUp,
        failed=ShipmentRefused,
        reason="shipment_refused",
        undo=lambda of, reason: (CancelPickup(of.order_id, reason),),
        undone_by=ShipmentCancelled,
        deadline=Deadline(after_s=86_400, reason="carrier_timeout"),
        outside=True,
    ),
    Step(
        "confirm",
        do=lambda of: (ShipOrder(of.order_id, _shipped(of)),),
        done=OrderShipped,
        then=lambda of, _: (SendOrderConfirmation(of.order_id, _purchase(of)),),
    ),
)
"""An order that is shipped is confirmed, and its customer told: asynchronously, so what becomes of the mail is not
waited for. Whether it is shipped or was cancelled meanwhile the order says."""
DEFINITIONS: Mapping[int, tuple[Step, ...]] = {
    SECOND: (*STEPS[:2], replace(STEPS[2], then=lambda of, _: (ShipOrder(of.order_id, _shipped(of)),))),
    LATEST: STEPS,
}
"""What instances run by that may be under way. Of the second the notifications confirm the orders by themselves."""


class Idle(Struct, frozen=True, tag=True): ...


Checkout = Idle | Saga | FirstCheckout
CheckoutCommand = Observe | DeadlinePassed | RetryStep | SkipStep | Compensate


def decide(checkout: Checkout, command: CheckoutCommand) -> list[CheckoutAdvanced]:
    event = input_of(command.input) if isinstance(command, Observe) else command
    match checkout:
        case Idle() | Underway() | Undoing() | Completed() | Closed() | Failed():
            definition = _definition(checkout)
            moved = _moved(checkout, event, definition)
            if moved is not None:
                over = isinstance(checkout, Underway) and not isinstance(moved.saga, Underway)
                return [CheckoutAdvanced(command.order_id, event, moved.commands, definition, moved.alarm, over)]
        case _:
            steps = first_checkout.react(checkout, event)
            if steps is not None:
                return [CheckoutAdvanced(command.order_id, event, steps)]
    if isinstance(command, RetryStep | SkipStep | Compensate):
        raise _nothing_to_do(checkout, command.order_id)
    return []


def evolve(checkout: Checkout, event: CheckoutAdvanced) -> Checkout:
    match checkout:
        case Idle() if event.definition == FIRST:
            return first_checkout.begun(event.input) if isinstance(event.input, OrderPlaced) else Ended()
        case Idle() | Underway() | Undoing() | Completed() | Closed() | Failed():
            moved = _moved(checkout, event.input, event.definition)
            return checkout if moved is None else moved.saga
        case _:
            return first_checkout.evolve(checkout, event.input)


def _definition(checkout: Idle | Saga) -> int:
    match checkout:
        case Underway(facts) | Undoing(facts) | Completed(facts):
            return facts.definition
        case Idle() | Closed() | Failed():
            return LATEST  # Nothing is under way by another.


def _moved(checkout: Idle | Saga, event: CheckoutInput, definition: int) -> Move | None:
    match event, checkout:
        case OrderPlaced(workflow="orchestrated"), Idle():
            return begin(_steps(definition), _facts(event, definition))
        case OrderCancelled(), Idle():
            return Move(Failed(), ())  # Before the order itself was seen: then nothing is begun for it.
        case ShipmentDelivered(order_id), Completed():
            return Move(Closed(), (DeliverOrder(order_id),))
        case _, Idle():
            return None
        case _:
            return move(_steps(definition), checkout, event)


def _steps(definition: int) -> tuple[Step, ...]:
    """One that is not known here is of later code: the latest that is known comes closest."""
    return DEFINITIONS.get(definition, STEPS)


def _facts(placed: OrderPlaced, definition: int) -> Facts:
    return Facts(
        order_id=placed.order_id,
        items=items_of(placed),
        currency=placed.currency,
        total_cents=placed.total_cents,
        payment_token=placed.payment_token,
        shipping_token=placed.shipping_token,
        customer_id=placed.customer_id,
        definition=definition,
    )


def _captured_cents(captured: object) -> int:
    """Nothing where the step was skipped."""
    return captured.amount_cents if isinstance(captured, PaymentCaptured) else 0


def _purchase(of: Facts) -> Purchase:
    return Purchase(of.customer_id, of.currency, of.total_cents)


def _parcel(of: Facts) -> tuple[ShipmentItem, ...]:
    return tuple(ShipmentItem(item.sku, item.quantity) for item in of.items)


def _shipped(of: Facts) -> tuple[ShippedItem, ...]:
    return tuple(ShippedItem(item.sku, item.quantity) for item in of.items)


def _nothing_to_do(checkout: Checkout, order_id: str) -> Rejected:
    match checkout:
        case Idle():
            return Rejected("process_unknown", f"there is no checkout of order {order_id}")
        case Completed() | Closed() | Failed() | Done() | Ended():
            return Rejected("process_ended", f"the checkout of order {order_id} has ended")
        case Undoing():
            return Rejected("process_compensating", f"the checkout of order {order_id} is being taken back already")
        case Underway():
            return Rejected("process_confirming", f"the goods of order {order_id} have left; there is no way back")
        case _:
            detail = f"the checkout of order {order_id} began under a definition that knows no interventions"
            return Rejected("process_too_old", detail)


Status = Literal["running", "waiting", "compensating", "done", "failed"]


def status_of(checkout: Checkout) -> Status:
    """How it stands with a checkout. `waiting`: for the outside world; `compensating`: what was begun is being taken
    back; `failed`: it came to nothing, and nothing is held or owed."""
    match checkout:
        case Idle():
            return "running"
        case Underway():
            return "waiting" if STEPS[checkout.step].outside else "running"
        case Undoing():
            return "compensating"
        case Completed() | Closed():
            return "done"
        case Failed():
            return "failed"
        case _:
            return first_checkout.status_of(checkout)


def stage_of(checkout: Checkout) -> str:
    """The step that is under way, or what it has come to."""
    return STEPS[checkout.step].name if isinstance(checkout, Underway) else type(checkout).__name__.lower()


process: Decider[Checkout, CheckoutCommand, CheckoutAdvanced] = Decider("checkout", Idle(), decide, evolve)

checkout = hosted(
    process,
    commands=(Observe, DeadlinePassed, RetryStep, SkipStep, Compensate),
    events=(CheckoutAdvanced,),
    states=(
        Idle,
        Underway,
        Undoing,
        Completed,
        Closed,
        Failed,
        Reserving,
        Charging,
        Done,
        ReservingCancelled,
        ChargingCancelled,
        Ended,
    ),
    target=lambda command: command.order_id,
    owner=lambda event: event.order_id,
    upcasters=(Upcaster(CheckoutAdvancedV1, advanced_from_v1),),
)
