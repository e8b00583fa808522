"""Shipping's public face: commands and events."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from domains.kernel import LINES_MAX, Id, Quantity, Reason


class ShipmentItem(Struct, frozen=True):
    """Some units of one product, in the parcel."""

    sku: Id
    quantity: Quantity


ShipmentItems = Annotated[tuple[ShipmentItem, ...], Meta(max_length=LINES_MAX)]


class SchedulePickup(Struct, frozen=True, tag=True):
    order_id: Id
    items: ShipmentItems
    token: Id


class ConfirmPickup(Struct, frozen=True, tag=True):
    """The carrier has the goods."""

    order_id: Id
    tracking_id: Id


class RefusePickup(Struct, frozen=True, tag=True):
    """The carrier refused, for good."""

    order_id: Id
    code: Id


class CancelPickup(Struct, frozen=True, tag=True):
    """The goods are to stay; if they have left, the carrier is to bring them back."""

    order_id: Id
    reason: Reason


class ConfirmCancellation(Struct, frozen=True, tag=True):
    """The carrier will not come, or has brought the goods back."""

    order_id: Id


class RecordDelivery(Struct, frozen=True, tag=True):
    """The customer has the goods."""

    order_id: Id


class RecordShipment(Struct, frozen=True, tag=True):
    """A pickup that took place elsewhere, as it was: no carrier is asked."""

    order_id: Id
    items: ShipmentItems


class ShipmentScheduled(Struct, frozen=True, tag=True):
    order_id: str
    items: tuple[ShipmentItem, ...]
    token: str


class ShipmentPickedUp(Struct, frozen=True, tag=True):
    order_id: str
    tracking_id: str


class ShipmentRefused(Struct, frozen=True, tag=True):
    order_id: str
    code: str


class ShipmentRecalled(Struct, frozen=True, tag=True):
    """The carrier is to be told that nothing is to be shipped."""

    order_id: str
    reason: str


class ShipmentCancelled(Struct, frozen=True, tag=True):
    order_id: str


class ShipmentDelivered(Struct, frozen=True, tag=True):
    order_id: str


class ShipmentRecorded(Struct, frozen=True, tag=True):
    order_id: str
    items: tuple[ShipmentItem, ...]


ShippingCommand = (
    SchedulePickup | ConfirmPickup | RefusePickup | CancelPickup | ConfirmCancellation | RecordDelivery | RecordShipment
)
ShippingEvent = (
    ShipmentScheduled
    | ShipmentPickedUp
    | ShipmentRefused
    | ShipmentRecalled
    | ShipmentCancelled
    | ShipmentDelivered
    | ShipmentRecorded
)
