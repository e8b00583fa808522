"""The shipment of one order, and what inventory does by itself when goods leave."""

from __future__ import annotations

import pytest

from domains.inventory.messages import DispatchStock, ItemQuantity
from domains.inventory.policy import inventory_policy, react
from domains.orders.messages import OrderShipped, ShippedItem
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
from domains.shipping.shipment import shipping
from tests.specification import given

items = (ShipmentItem("tea", 2),)
scheduled = ShipmentScheduled("o1", items, "ship_ok")
picked_up = ShipmentPickedUp("o1", "pu_1")
refused = ShipmentRefused("o1", "not_carried")
recalled = ShipmentRecalled("o1", "changed my mind")
cancelled = ShipmentCancelled("o1")
delivered = ShipmentDelivered("o1")
recorded = ShipmentRecorded("o1", items)

schedule = SchedulePickup("o1", items, "ship_ok")
pick_up = ConfirmPickup("o1", "pu_1")
refuse = RefusePickup("o1", "not_carried")
call_off = CancelPickup("o1", "changed my mind")
confirm_cancelled = ConfirmCancellation("o1")
deliver = RecordDelivery("o1")
record = RecordShipment("o1", items)

History = tuple[ShippingEvent, ...]
NOTHING: History = ()
SCHEDULED: History = (scheduled,)
PICKED_UP: History = (scheduled, picked_up)
REFUSED: History = (scheduled, refused)
RECALLED: History = (scheduled, recalled)
BROUGHT_BACK: History = (scheduled, picked_up, recalled)
CANCELLED: History = (scheduled, recalled, cancelled)
DELIVERED: History = (scheduled, picked_up, delivered)
RECORDED: History = (recorded,)


@pytest.mark.parametrize(
    ("history", "command", "event"),
    [
        (NOTHING, schedule, scheduled),
        (SCHEDULED, pick_up, picked_up),
        (SCHEDULED, refuse, refused),
        (RECALLED, refuse, refused),
        (SCHEDULED, call_off, recalled),
        (PICKED_UP, call_off, recalled),
        (RECALLED, confirm_cancelled, cancelled),
        (BROUGHT_BACK, confirm_cancelled, cancelled),
        (PICKED_UP, deliver, delivered),
        (NOTHING, record, recorded),
        (RECORDED, deliver, delivered),
    ],
)
def test_what_happens(history: History, command: ShippingCommand, event: ShippingEvent) -> None:
    given(shipping, *history).when(command).then(event)


@pytest.mark.parametrize(
    ("history", "command"),
    [
        *((history, schedule) for history in (SCHEDULED, PICKED_UP, REFUSED, RECALLED, CANCELLED, DELIVERED)),
        *((history, pick_up) for history in (PICKED_UP, RECALLED, CANCELLED, DELIVERED)),
        *((history, refuse) for history in (REFUSED, CANCELLED)),
        *((history, call_off) for history in (RECALLED, CANCELLED, REFUSED)),
        *((history, confirm_cancelled) for history in (CANCELLED, REFUSED)),
        (DELIVERED, deliver),
        (RECORDED, record),
    ],
)
def test_what_is_so_already_is_no_error(history: History, command: ShippingCommand) -> None:
    given(shipping, *history).when(command).then()


@pytest.mark.parametrize(
    ("history", "command", "code"),
    [
        *(
            (NOTHING, command, "shipment_unknown")
            for command in (pick_up, refuse, call_off, confirm_cancelled, deliver)
        ),
        (SCHEDULED, deliver, "shipment_not_picked_up"),
        *((history, deliver, "shipment_cancelled") for history in (REFUSED, RECALLED, CANCELLED)),
        (SCHEDULED, SchedulePickup("o1", (), "ship_ok"), "shipment_differs"),
        (RECORDED, RecordShipment("o1", ()), "shipment_differs"),
        (SCHEDULED, record, "shipment_scheduled_here"),
        *((RECORDED, command, "shipment_recorded_elsewhere") for command in (schedule, pick_up, call_off)),
        (REFUSED, pick_up, "shipment_refused"),
        (PICKED_UP, refuse, "shipment_picked_up"),
        (DELIVERED, call_off, "shipment_delivered"),
        (PICKED_UP, confirm_cancelled, "nothing_recalled"),
    ],
)
def test_what_cannot_be(history: History, command: ShippingCommand, code: str) -> None:
    given(shipping, *history).when(command).then_rejected(code)


def test_another_tracking_id_is_refused() -> None:
    given(shipping, *PICKED_UP).when(ConfirmPickup("o1", "pu_2")).then_rejected("pickup_differs", "/tracking_id")


def test_what_was_shipped_leaves_the_stock() -> None:
    shipped = OrderShipped("o1", (ShippedItem("tea", 2), ShippedItem("cup", 1)))
    assert react(shipped) == [DispatchStock("o1", (ItemQuantity("tea", 2), ItemQuantity("cup", 1)))]
    assert OrderShipped in inventory_policy.observes["orders"]


def test_of_a_record_the_stock_has_a_record_of_its_own() -> None:
    assert react(OrderShipped("o1")) == []
