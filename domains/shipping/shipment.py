"""The shipment of one order: scheduled, picked up or refused, delivered; until then it may be called back."""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from domains.kernel import Decider, Rejected, hosted
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
    ShipmentRecalled,
    ShipmentRecorded,
    ShipmentRefused,
    ShipmentScheduled,
    ShippingCommand,
    ShippingEvent,
)


class Unscheduled(Struct, frozen=True, tag=True): ...


class Scheduled(Struct, frozen=True, tag=True):
    items: tuple[ShipmentItem, ...]
    token: str


class PickedUp(Struct, frozen=True, tag=True):
    tracking_id: str


class Refused(Struct, frozen=True, tag=True): ...


class Recalled(Struct, frozen=True, tag=True):
    """The carrier has yet to say that it will not come, or that the goods are back."""


class Cancelled(Struct, frozen=True, tag=True): ...


class Delivered(Struct, frozen=True, tag=True): ...


class Recorded(Struct, frozen=True, tag=True):
    items: tuple[ShipmentItem, ...]


Shipment = Unscheduled | Scheduled | PickedUp | Refused | Recalled | Cancelled | Delivered | Recorded


def decide(shipment: Shipment, command: ShippingCommand) -> list[ShippingEvent]:
    match command, shipment:
        case SchedulePickup(order_id, items, token), Unscheduled():
            return [ShipmentScheduled(order_id, items, token)]
        case SchedulePickup(_, items, token), Scheduled():
            if shipment != Scheduled(items, token):
                raise Rejected("shipment_differs", f"something else was to be shipped for order {command.order_id}")
            return []
        case RecordShipment(order_id, items), Unscheduled():
            return [ShipmentRecorded(order_id, items)]
        case RecordShipment(_, items), Recorded(recorded):
            if items != recorded:
                raise Rejected("shipment_differs", f"another shipment of order {command.order_id} was recorded before")
            return []
        case _, Unscheduled():
            raise Rejected("shipment_unknown", f"nothing is to be shipped for order {command.order_id}")
        case RecordDelivery(order_id), PickedUp() | Recorded():
            return [ShipmentDelivered(order_id)]
        case RecordDelivery() | RecordShipment(), Delivered():
            return []
        case RecordDelivery(), Scheduled():
            raise Rejected("shipment_not_picked_up", f"the goods of order {command.order_id} were not picked up yet")
        case RecordDelivery(), _:
            raise Rejected("shipment_cancelled", f"the goods of order {command.order_id} are not to be delivered")
        case _, Recorded():
            raise Rejected("shipment_recorded_elsewhere", f"order {command.order_id} was shipped elsewhere")
        case RecordShipment(), _:
            raise Rejected("shipment_scheduled_here", f"order {command.order_id} is shipped here")
        case SchedulePickup(), _:
            return []  # Asked, and answered since.
        case ConfirmPickup(order_id, tracking_id), Scheduled():
            return [ShipmentPickedUp(order_id, tracking_id)]
        case ConfirmPickup(_, tracking_id), PickedUp(before):
            if tracking_id != before:
                raise Rejected("pickup_differs", f"it was picked up as {before} before", "/tracking_id")
            return []
        case ConfirmPickup(), Refused():
            raise Rejected("shipment_refused", f"the carrier refused order {command.order_id} before")
        case ConfirmPickup(), _:
            return []  # Called back meanwhile: the carrier hears of it, and brings the goods back.
        case RefusePickup(order_id, code), Scheduled() | Recalled():
            return [ShipmentRefused(order_id, code)]
        case RefusePickup(), Refused() | Cancelled():
            return []
        case RefusePickup(), _:
            raise Rejected("shipment_picked_up", f"the goods of order {command.order_id} were picked up before")
        case CancelPickup(order_id, reason), Scheduled() | PickedUp():
            return [ShipmentRecalled(order_id, reason)]
        case CancelPickup(), Delivered():
            raise Rejected("shipment_delivered", f"the customer has the goods of order {command.order_id}")
        case CancelPickup(), _:
            return []
        case ConfirmCancellation(order_id), Recalled():
            return [ShipmentCancelled(order_id)]
        case ConfirmCancellation(), Cancelled() | Refused():
            return []
        case ConfirmCancellation(), _:
            raise Rejected("nothing_recalled", f"the shipment of order {command.order_id} was not called back")
        case _:
            assert_never(command)


def evolve(shipment: Shipment, event: ShippingEvent) -> Shipment:
    match event:
        case ShipmentScheduled(items=items, token=token):
            return Scheduled(items, token)
        case ShipmentPickedUp(tracking_id=tracking_id):
            return PickedUp(tracking_id)
        case ShipmentRefused():
            return Refused()
        case ShipmentRecalled():
            return Recalled()
        case ShipmentCancelled():
            return Cancelled()
        case ShipmentDelivered():
            return Delivered()
        case ShipmentRecorded(items=items):
            return Recorded(items)
        case _:
            assert_never(event)


shipment: Decider[Shipment, ShippingCommand, ShippingEvent] = Decider("shipping", Unscheduled(), decide, evolve)

shipping = hosted(
    shipment,
    commands=(
        SchedulePickup,
        ConfirmPickup,
        RefusePickup,
        CancelPickup,
        ConfirmCancellation,
        RecordDelivery,
        RecordShipment,
    ),
    events=(
        ShipmentScheduled,
        ShipmentPickedUp,
        ShipmentRefused,
        ShipmentRecalled,
        ShipmentCancelled,
        ShipmentDelivered,
        ShipmentRecorded,
    ),
    states=(Unscheduled, Scheduled, PickedUp, Refused, Recalled, Cancelled, Delivered, Recorded),
    target=lambda command: command.order_id,
    owner=lambda event: event.order_id,
)
