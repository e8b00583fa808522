"""What the checkout does about every input at every stage, and that older instances end as they began."""

from __future__ import annotations

import pytest
from msgspec.structs import asdict, replace

from domains.inventory.messages import ItemQuantity, ReleaseStock, ReserveStock, StockRefused, StockReserved
from domains.notifications.messages import Purchase, SendOrderConfirmation
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
    OrderShipped,
    ShipOrder,
    ShippedItem,
)
from domains.orders.upcasters import OrderPlacedV1
from domains.payments.messages import PaymentCaptured, PaymentDeclined, RefundPayment, RequestPayment
from domains.processes.checkout import STEPS, checkout, stage_of, status_of
from domains.processes.messages import (
    LATEST,
    SECOND,
    Alarm,
    CheckoutAdvanced,
    CheckoutInput,
    CheckoutStep,
    Compensate,
    DeadlinePassed,
    Observe,
    RetryStep,
    SkipStep,
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
from tests.specification import Process, given, process, told

lines = (
    OrderLine("tea", "Green tea", "drinks", quantity=2, unit_price_cents=1_250),
    OrderLine("cup", "Cup", "kitchen", quantity=1, unit_price_cents=800, freight_cents=300),
    OrderLine("tea", "Green tea, a gift", "drinks", quantity=1, unit_price_cents=1_000),
)
items = (ItemQuantity("tea", 3), ItemQuantity("cup", 1))
parcel = (ShipmentItem("tea", 3), ShipmentItem("cup", 1))
shipped = (ShippedItem("tea", 3), ShippedItem("cup", 1))
placed = OrderPlaced("o1", "c1", "EUR", lines, 4, 4_300, 300, 4_600, "tok_slow", "orchestrated", "ship_slow")
reserved = StockReserved("o1", items)
refused = StockRefused("o1", "tea", wanted=3, available=2)
captured = PaymentCaptured("o1", "ch_1", 4_600)
declined = PaymentDeclined("o1", "card_declined")
picked_up = ShipmentPickedUp("o1", "pu_1")
not_carried = ShipmentRefused("o1", "not_carried")
called_off = ShipmentCancelled("o1")
left = OrderShipped("o1", shipped)
delivered = ShipmentDelivered("o1")
cancelled = OrderCancelled("o1", "changed my mind")
retry, skip, compensate = RetryStep("o1", "again"), SkipStep("o1", "done by hand"), Compensate("o1", "give up")
EVENTS: tuple[CheckoutInput, ...] = (
    placed,
    reserved,
    refused,
    captured,
    declined,
    picked_up,
    left,
    not_carried,
    called_off,
    delivered,
    cancelled,
)

reserve, release = ReserveStock("o1", items), ReleaseStock("o1", items)
charge, refund = RequestPayment("o1", "EUR", 4_600, "tok_slow"), RefundPayment("o1", "changed my mind")
ship, call_off = SchedulePickup("o1", parcel, "ship_slow"), CancelPickup("o1", "changed my mind")
confirm = SendOrderConfirmation("o1", Purchase("c1", "EUR", 4_600))

History = tuple[CheckoutInput, ...]
IDLE: History = ()
RESERVING: History = (placed,)
CHARGING: History = (placed, reserved)
SHIPPING: History = (placed, reserved, captured)
CONFIRMING: History = (*SHIPPING, picked_up)
COMPLETED: History = (*CONFIRMING, left)
CLOSED: History = (*COMPLETED, delivered)
RESERVING_CANCELLED: History = (placed, cancelled)
CHARGING_CANCELLED: History = (placed, reserved, cancelled)
CALLED_BACK: tuple[History, ...] = ((*SHIPPING, cancelled), (*CONFIRMING, cancelled))
ENDED: tuple[History, ...] = (
    (cancelled,),
    (placed, refused),
    (placed, reserved, declined),
    (placed, cancelled, reserved),
    (placed, cancelled, refused),
    (placed, reserved, cancelled, captured),
    (placed, reserved, cancelled, declined),
    (*SHIPPING, not_carried),
    *((*history, called_off) for history in CALLED_BACK),
    *((*history, not_carried) for history in CALLED_BACK),
)


def saw(*inputs: CheckoutInput) -> Process:
    return process(checkout).saw(*inputs)


def advanced(history: History, what: CheckoutInput) -> CheckoutAdvanced:
    (event,) = saw(*history).decide(told(what))
    return event


# -- the way that it should go -----------------------------------------------------------------------------------------


def test_a_placed_order_has_its_stock_reserved_each_sku_once() -> None:
    saw().when(placed).then(reserve)


def test_an_order_of_the_first_version_is_taken_for_what_it_is() -> None:
    """From whoever runs older code still. It is recorded in today's version."""
    first = {
        name: value for name, value in asdict(placed).items() if name not in ("units", "shipping_token", "edition")
    }
    today = replace(placed, shipping_token="ship_ok")
    event = CheckoutAdvanced("o1", today, (reserve,), LATEST, Alarm("reserve", 1, 30))
    given(checkout).when(Observe("o1", OrderPlacedV1(**first))).then(event)


def test_an_order_that_is_only_recorded_is_left_alone() -> None:
    saw().when(replace(placed, workflow="recorded")).then_ignored()


def test_another_order_does_not_count() -> None:
    saw(placed, reserved).when(replace(placed, order_id="o2")).then(ReserveStock("o2", items))


def test_reserved_stock_is_confirmed_and_the_money_asked_for() -> None:
    saw(*RESERVING).when(reserved).then(ConfirmReservation("o1"), charge)


def test_captured_money_is_confirmed_and_the_pickup_scheduled() -> None:
    saw(*CHARGING).when(captured).then(ConfirmPayment("o1", 4_600), ship)


def test_it_is_the_captured_amount_that_is_confirmed() -> None:
    less = replace(captured, amount_cents=4_000)
    saw(*CHARGING).when(less).then(ConfirmPayment("o1", 4_000), ship)


def test_goods_that_were_picked_up_are_shipped() -> None:
    saw(*SHIPPING).when(picked_up).then(ShipOrder("o1", shipped))


def test_an_order_that_is_shipped_is_confirmed_to_its_customer() -> None:
    saw(*CONFIRMING).when(left).then(confirm)


def test_goods_that_arrived_are_delivered() -> None:
    saw(*COMPLETED).when(delivered).then(DeliverOrder("o1"))


# -- what may go wrong: what was done is taken back, the last first ----------------------------------------------------


def test_refused_stock_cancels_the_order() -> None:
    saw(*RESERVING).when(refused).then(CancelOrder("o1", "out_of_stock"))


def test_a_declined_payment_gives_the_stock_back_and_cancels_the_order() -> None:
    saw(*CHARGING).when(declined).then(release, CancelOrder("o1", "payment_declined"))


def test_a_refused_shipment_gives_the_money_back_then_the_stock_and_cancels_the_order() -> None:
    why = "shipment_refused"
    saw(*SHIPPING).when(not_carried).then(RefundPayment("o1", why), release, CancelOrder("o1", why))


# -- the customer's mind may change at any moment ----------------------------------------------------------------------


def test_a_cancellation_while_reserving_waits_for_the_inventory() -> None:
    saw(*RESERVING).when(cancelled).then()


def test_stock_reserved_for_a_cancelled_order_is_given_back() -> None:
    saw(*RESERVING_CANCELLED).when(reserved).then(release)


def test_stock_refused_to_a_cancelled_order_ends_it() -> None:
    saw(*RESERVING_CANCELLED).when(refused).then()


def test_a_cancellation_while_charging_gives_the_stock_back() -> None:
    saw(*CHARGING).when(cancelled).then(release)


def test_money_captured_for_a_cancelled_order_is_given_back() -> None:
    saw(*CHARGING_CANCELLED).when(captured).then(refund)


def test_a_payment_declined_for_a_cancelled_order_ends_it() -> None:
    saw(*CHARGING_CANCELLED).when(declined).then()


@pytest.mark.parametrize("history", [SHIPPING, CONFIRMING])
def test_a_cancellation_of_a_paid_order_calls_the_pickup_off_first(history: History) -> None:
    """It may have been picked up, and the order cancelled before it was told so."""
    saw(*history).when(cancelled).then(call_off)


@pytest.mark.parametrize("history", CALLED_BACK)
@pytest.mark.parametrize("answer", [called_off, not_carried])
def test_what_the_carrier_does_not_have_is_refunded_and_given_back(history: History, answer: CheckoutInput) -> None:
    saw(*history).when(answer).then(refund, release)


def test_a_cancellation_that_is_seen_before_the_order_leaves_nothing_to_do() -> None:
    saw().when(cancelled).then()
    saw(cancelled).when(placed).then_ignored()


# -- deadlines: one alarm an instance, which finds where things are ----------------------------------------------------


def late(step: str, attempt: int = 1) -> DeadlinePassed:
    return DeadlinePassed("o1", step, attempt)


def test_the_alarm_is_set_once_and_not_wanted_any_more_when_all_is_done() -> None:
    assert advanced((), placed).alarm == Alarm("reserve", 1, 30)
    for number in range(1, len(CONFIRMING)):
        moved = advanced(CONFIRMING[:number], CONFIRMING[number])
        assert (moved.alarm, moved.over) == (None, False)
    assert advanced(CONFIRMING, left).over
    assert not advanced(COMPLETED, delivered).over  # It was over before.


@pytest.mark.parametrize("history", [(*RESERVING, refused), (*CHARGING, declined), (*CHARGING, cancelled)])
def test_nor_when_all_came_to_nothing(history: History) -> None:
    assert advanced(history[:-1], history[-1]).over


def test_an_alarm_of_a_step_that_is_done_is_set_anew_for_the_one_under_way() -> None:
    moved = advanced(CHARGING, late("reserve"))
    assert (moved.steps, moved.alarm, moved.over) == ((), Alarm("charge", 1, 60), False)


def test_a_reservation_that_does_not_come_is_asked_for_again_with_more_time_each_then_given_up() -> None:
    assert (advanced(RESERVING, late("reserve")).steps, advanced(RESERVING, late("reserve")).alarm) == (
        (reserve,),
        Alarm("reserve", 2, 60),
    )
    twice = (*RESERVING, late("reserve"))
    assert advanced(twice, late("reserve", 2)).alarm == Alarm("reserve", 3, 120)
    thrice = (*twice, late("reserve", 2))
    last = advanced(thrice, late("reserve", 3))
    assert (last.steps, last.alarm, last.over) == ((CancelOrder("o1", "inventory_timeout"),), None, True)
    saw(*thrice, late("reserve", 3)).when(reserved).then(release)


def test_an_alarm_that_rings_twice_counts_once() -> None:
    moved = advanced((*RESERVING, late("reserve")), late("reserve"))
    assert (moved.steps, moved.alarm) == ((), Alarm("reserve", 2, 60))


def test_a_payment_that_does_not_come_in_time_ends_it_and_is_refunded_when_it_comes_after_all() -> None:
    why = "payment_timeout"
    saw(*CHARGING).when(late("charge")).then(release, CancelOrder("o1", why))
    timed_out = (*CHARGING, late("charge"))
    saw(*timed_out).when(cancelled).then_ignored()  # Its own cancellation comes back to it.
    saw(*timed_out, cancelled).when(captured).then(RefundPayment("o1", why))
    saw(*timed_out, cancelled).when(declined).then()


def test_a_carrier_that_does_not_come_in_time_is_called_off() -> None:
    why = "carrier_timeout"
    saw(*SHIPPING).when(late("ship")).then(CancelPickup("o1", why), CancelOrder("o1", why))
    saw(*SHIPPING, late("ship"), cancelled).when(called_off).then(RefundPayment("o1", why), release)


@pytest.mark.parametrize("history", [IDLE, CONFIRMING, COMPLETED, CLOSED, CHARGING_CANCELLED, *CALLED_BACK, *ENDED])
def test_a_late_alarm_finds_the_process_moved_on(history: History) -> None:
    for step in STEPS:
        saw(*history).when(late(step.name)).then_ignored()


# -- an admin's hand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "commands"),
    [
        (RESERVING, (reserve,)),
        (CHARGING, (charge,)),
        (SHIPPING, (ship,)),
        (CONFIRMING, (ShipOrder("o1", shipped),)),
        (RESERVING_CANCELLED, (reserve,)),
        (CHARGING_CANCELLED, (charge,)),
        (CALLED_BACK[0], (call_off,)),
        (CALLED_BACK[1], (call_off,)),
    ],
)
def test_a_retry_sends_again_what_is_not_answered(history: History, commands: tuple[CheckoutStep, ...]) -> None:
    saw(*history).when(retry).then(*commands)


@pytest.mark.parametrize(
    ("history", "commands"),
    [
        (RESERVING, (ConfirmReservation("o1"), charge)),
        (CHARGING, (ConfirmPayment("o1", 0), ship)),
        (SHIPPING, (ShipOrder("o1", shipped),)),
        (CONFIRMING, (confirm,)),
        (CHARGING_CANCELLED, ()),
        (CALLED_BACK[0], (refund, release)),
    ],
)
def test_a_step_that_is_skipped_counts_as_done(history: History, commands: tuple[CheckoutStep, ...]) -> None:
    saw(*history).when(skip).then(*commands)


def test_a_step_that_was_skipped_is_not_taken_back() -> None:
    saw(*CHARGING, skip).when(not_carried).then(release, CancelOrder("o1", "shipment_refused"))
    saw(*SHIPPING, skip).when(cancelled).then(refund, release)


@pytest.mark.parametrize(
    ("history", "commands"),
    [
        (RESERVING, (CancelOrder("o1", "give up"),)),
        (CHARGING, (release, CancelOrder("o1", "give up"))),
        (SHIPPING, (CancelPickup("o1", "give up"), CancelOrder("o1", "give up"))),
    ],
)
def test_a_checkout_can_be_given_up(history: History, commands: tuple[CheckoutStep, ...]) -> None:
    saw(*history).when(compensate).then(*commands)


@pytest.mark.parametrize(
    ("history", "code"),
    [
        (IDLE, "process_unknown"),
        (COMPLETED, "process_ended"),
        (CLOSED, "process_ended"),
        *((history, "process_ended") for history in ENDED),
    ],
)
def test_what_has_ended_is_left_alone(history: History, code: str) -> None:
    for command in (retry, skip, compensate):
        given(checkout, *folded(history)).when(command).then_rejected(code)


def test_what_is_taken_back_already_cannot_be_given_up_again() -> None:
    given(checkout, *folded(CHARGING_CANCELLED)).when(compensate).then_rejected("process_compensating")


def test_what_has_left_the_house_cannot_be_given_up_any_more() -> None:
    """It is the order that says whether its cancellation was first."""
    given(checkout, *folded(CONFIRMING)).when(compensate).then_rejected("process_confirming")


def folded(history: History) -> list[CheckoutAdvanced]:
    """The events that a checkout wrote about these inputs."""
    hosted = process(checkout)
    return [event for what in history for event in hosted.handle(told(what))]


# -- what it does not care for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "cares_for"),
    [
        (IDLE, (placed, cancelled)),
        (RESERVING, (reserved, refused, cancelled)),
        (CHARGING, (captured, declined, cancelled)),
        (SHIPPING, (picked_up, not_carried, cancelled)),
        (CONFIRMING, (left, cancelled)),
        (COMPLETED, (delivered, cancelled)),
        (CLOSED, ()),
        (RESERVING_CANCELLED, (reserved, refused)),
        (CHARGING_CANCELLED, (captured, declined)),
        *((history, (called_off, not_carried)) for history in CALLED_BACK),
        *((history, ()) for history in ENDED),
    ],
    ids=lambda inputs: "-".join(type(each).__name__ for each in inputs) or "none",
)
def test_everything_else_is_ignored(history: History, cares_for: tuple[CheckoutInput, ...]) -> None:
    for what in EVENTS:
        if what not in cares_for:
            saw(*history).when(what).then_ignored()


# -- instances that began under the first definition end under it, with the payment ------------------------------------


FIRST_CHARGING = (
    CheckoutAdvanced("o1", placed, (reserve,)),
    CheckoutAdvanced("o1", reserved, (ConfirmReservation("o1"), charge)),
)
FIRST_CANCELLED = (*FIRST_CHARGING, CheckoutAdvanced("o1", cancelled, (release,)))
FIRST_DONE = (*FIRST_CHARGING, CheckoutAdvanced("o1", captured, (ConfirmPayment("o1", 4_600),)))


@pytest.mark.parametrize(
    ("history", "what", "commands"),
    [
        (FIRST_CHARGING[:1], reserved, (ConfirmReservation("o1"), charge)),
        (FIRST_CHARGING[:1], refused, (CancelOrder("o1", "out_of_stock"),)),
        (FIRST_CHARGING, captured, (ConfirmPayment("o1", 4_600),)),
        (FIRST_CHARGING, declined, (release, CancelOrder("o1", "payment_declined"))),
        (FIRST_CHARGING, cancelled, (release,)),
        (FIRST_DONE, cancelled, (refund, release)),
        (FIRST_CANCELLED, captured, (RefundPayment("o1", "order_cancelled"),)),
    ],
)
def test_an_instance_in_flight_ends_as_it_began(
    history: tuple[CheckoutAdvanced, ...], what: CheckoutInput, commands: tuple[CheckoutStep, ...]
) -> None:
    given(checkout, *history).when(told(what)).then(CheckoutAdvanced("o1", what, commands))


@pytest.mark.parametrize(("history", "status"), [(FIRST_CHARGING, "waiting"), (FIRST_DONE, "done")])
def test_and_says_how_it_stands(history: tuple[CheckoutAdvanced, ...], status: str) -> None:
    assert status_of(given(checkout, *history).state("o1")) == status
    given(checkout, *history).when(late("charge")).then()
    code = "process_ended" if status == "done" else "process_too_old"
    given(checkout, *history).when(retry).then_rejected(code)


# -- and those of the second without a confirmation, which the notifications send by themselves -----------------------


SECOND_SHIPPING = (
    CheckoutAdvanced("o1", placed, (reserve,), SECOND, Alarm("reserve", 1, 30)),
    CheckoutAdvanced("o1", reserved, (ConfirmReservation("o1"), charge), SECOND),
    CheckoutAdvanced("o1", captured, (ConfirmPayment("o1", 4_600), ship), SECOND),
)
SECOND_DONE = (
    *SECOND_SHIPPING,
    CheckoutAdvanced("o1", picked_up, (ShipOrder("o1", shipped),), SECOND, over=True),
)


def test_the_second_definition_ended_with_the_pickup() -> None:
    given(checkout, *SECOND_SHIPPING).when(told(picked_up)).then(SECOND_DONE[-1])
    given(checkout, *SECOND_DONE).when(told(left)).then()
    given(checkout, *SECOND_DONE).when(compensate).then_rejected("process_ended")
    delivering = CheckoutAdvanced("o1", delivered, (DeliverOrder("o1"),), SECOND)
    given(checkout, *SECOND_DONE).when(told(delivered)).then(delivering)


def test_and_is_taken_back_as_it_was() -> None:
    calling_back = CheckoutAdvanced("o1", cancelled, (call_off,), SECOND)
    given(checkout, *SECOND_DONE).when(told(cancelled)).then(calling_back)
    back = CheckoutAdvanced("o1", called_off, (refund, release), SECOND)
    given(checkout, *SECOND_DONE, calling_back).when(told(called_off)).then(back)


# -- how it stands, for those who look ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "status", "stage"),
    [
        (IDLE, "running", "idle"),
        (RESERVING, "running", "reserve"),
        (CHARGING, "waiting", "charge"),
        (SHIPPING, "waiting", "ship"),
        (CONFIRMING, "running", "confirm"),
        (COMPLETED, "done", "completed"),
        (CLOSED, "done", "closed"),
        (RESERVING_CANCELLED, "compensating", "undoing"),
        (CHARGING_CANCELLED, "compensating", "undoing"),
        *((history, "compensating", "undoing") for history in CALLED_BACK),
        *((history, "failed", "failed") for history in ENDED),
    ],
)
def test_a_checkout_says_how_it_stands(history: History, status: str, stage: str) -> None:
    state = given(checkout, *folded(history)).state("o1")
    assert (status_of(state), stage_of(state)) == (status, stage)
