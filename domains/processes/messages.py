"""The messages of processes: what a checkout is told, and what it records."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from domains.inventory.messages import ReleaseStock, ReserveStock, StockRefused, StockReserved
from domains.kernel import Id, Reason
from domains.notifications.messages import SendOrderConfirmation
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    ShipOrder,
)
from domains.orders.upcasters import OrderPlacedV1, placed_from_v1
from domains.payments.messages import PaymentCaptured, PaymentDeclined, RefundPayment, RequestPayment
from domains.shipping.messages import (
    CancelPickup,
    SchedulePickup,
    ShipmentCancelled,
    ShipmentDelivered,
    ShipmentPickedUp,
    ShipmentRefused,
)

DEADLINE_S_MAX = 86_400
FIRST, SECOND, LATEST = 1, 2, 3
"""The definitions of the checkout: the first ended with the payment, the second did not confirm by mail."""


class DeadlinePassed(Struct, frozen=True, tag=True):
    """The time that was given to a step is over."""

    order_id: Id
    step: Id
    attempt: int


class RetryStep(Struct, frozen=True, tag=True):
    """An admin has the commands sent again that are not answered."""

    order_id: Id
    reason: Reason


class SkipStep(Struct, frozen=True, tag=True):
    """An admin says that what is waited for was seen to otherwise."""

    order_id: Id
    reason: Reason


class Compensate(Struct, frozen=True, tag=True):
    """An admin has the checkout given up, and what was done taken back."""

    order_id: Id
    reason: Reason


Intervention = RetryStep | SkipStep | Compensate
CheckoutEvent = (
    OrderPlaced
    | OrderShipped
    | OrderCancelled
    | StockReserved
    | StockRefused
    | PaymentCaptured
    | PaymentDeclined
    | ShipmentPickedUp
    | ShipmentRefused
    | ShipmentCancelled
    | ShipmentDelivered
)
CheckoutInput = CheckoutEvent | DeadlinePassed | RetryStep | SkipStep | Compensate
CheckoutInputV1 = OrderPlacedV1 | OrderCancelled | StockReserved | StockRefused | PaymentCaptured | PaymentDeclined
CheckoutStep = (
    ReserveStock
    | ReleaseStock
    | ConfirmReservation
    | RequestPayment
    | ConfirmPayment
    | CancelOrder
    | RefundPayment
    | SchedulePickup
    | CancelPickup
    | ShipOrder
    | DeliverOrder
    | SendOrderConfirmation
)


class Observe(Struct, frozen=True, tag=True):
    """Something happened that a checkout may care about. Who tells of it may still run older code."""

    order_id: str
    input: CheckoutEvent | OrderPlacedV1


class Alarm(Struct, frozen=True):
    """When a checkout wants to be told that a step's time is over, from its commit on. It has one alarm at most."""

    step: Id
    attempt: int
    after_s: Annotated[int, Meta(ge=1, le=DEADLINE_S_MAX)]


class CheckoutAdvanced(Struct, frozen=True, tag="CheckoutAdvanced.2", omit_defaults=True):
    """What happened, and what is to be done about it. It holds an event, so a new version of that is one of this.

    `definition` is the version of the process by which this instance runs, from its beginning to its end. `alarm`: to
    be set; `over`: none is wanted any more. An intervention is here with its reason, and the commit says whose it was.
    """

    order_id: str
    input: CheckoutInput
    steps: tuple[CheckoutStep, ...]
    definition: int = FIRST
    alarm: Alarm | None = None
    over: bool = False


class CheckoutAdvancedV1(Struct, frozen=True, tag="CheckoutAdvanced"):
    """With the first version of `OrderPlaced`."""

    order_id: str
    input: CheckoutInputV1
    steps: tuple[CheckoutStep, ...]


def advanced_from_v1(advanced: CheckoutAdvancedV1) -> CheckoutAdvanced:
    return CheckoutAdvanced(advanced.order_id, input_of(advanced.input), advanced.steps)


def input_of(observed: CheckoutInput | CheckoutInputV1) -> CheckoutInput:
    return placed_from_v1(observed) if isinstance(observed, OrderPlacedV1) else observed
