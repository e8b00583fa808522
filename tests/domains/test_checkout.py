"""What the checkout does about every input at every stage."""

from __future__ import annotations

import pytest
from msgspec.structs import asdict, replace

from domains.inventory.messages import ItemQuantity, ReleaseStock, ReserveStock, StockRefused, StockReserved
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    OrderCancelled,
    OrderLine,
    OrderPlaced,
)
from domains.orders.upcasters import OrderPlacedV1
from domains.payments.messages import PaymentCaptured, PaymentDeclined, RefundPayment, RequestPayment
from domains.processes.checkout import CheckoutAdvanced, CheckoutInput, Observe, checkout, status_of
from tests.specification import given, process

lines = (
    OrderLine("tea", "Green tea", "drinks", quantity=2, unit_price_cents=1_250),
    OrderLine("cup", "Cup", "kitchen", quantity=1, unit_price_cents=800, freight_cents=300),
    OrderLine("tea", "Green tea, a gift", "drinks", quantity=1, unit_price_cents=1_000),
)
items = (ItemQuantity("tea", 3), ItemQuantity("cup", 1))
placed = OrderPlaced("o1", "c1", "EUR", lines, 4, 4_300, 300, 4_600, "tok_slow", "orchestrated")
reserved = StockReserved("o1", items)
refused = StockRefused("o1", "tea", wanted=3, available=2)
captured = PaymentCaptured("o1", "ch_1", 4_600)
declined = PaymentDeclined("o1", "card_declined")
cancelled = OrderCancelled("o1", "changed my mind")
INPUTS: tuple[CheckoutInput, ...] = (placed, reserved, refused, captured, declined, cancelled)

History = tuple[CheckoutInput, ...]
IDLE: History = ()
RESERVING: History = (placed,)
CHARGING: History = (placed, reserved)
DONE: History = (placed, reserved, captured)
RESERVING_CANCELLED: History = (placed, cancelled)
CHARGING_CANCELLED: History = (placed, reserved, cancelled)
ENDED: tuple[History, ...] = (
    (placed, refused),
    (placed, reserved, declined),
    (placed, reserved, captured, cancelled),
    (placed, cancelled, reserved),
    (placed, cancelled, refused),
    (placed, reserved, cancelled, captured),
    (placed, reserved, cancelled, declined),
)


# -- the way that it should go -----------------------------------------------------------------------------------------


def test_a_placed_order_has_its_stock_reserved_each_sku_once() -> None:
    process(checkout).when(placed).then(ReserveStock("o1", items))


def test_an_order_of_the_first_version_is_taken_for_what_it_is() -> None:
    """From whoever runs older code still. It is recorded in today's version."""
    fields = {name: value for name, value in asdict(placed).items() if name != "units"}
    advanced = CheckoutAdvanced("o1", placed, (ReserveStock("o1", items),))
    given(checkout).when(Observe("o1", OrderPlacedV1(**fields))).then(advanced)


def test_an_order_that_is_only_recorded_is_left_alone() -> None:
    process(checkout).when(replace(placed, workflow="recorded")).then_ignored()


def test_another_order_does_not_count() -> None:
    process(checkout).saw(placed, reserved).when(replace(placed, order_id="o2")).then(ReserveStock("o2", items))


def test_reserved_stock_is_confirmed_and_the_money_asked_for() -> None:
    process(checkout).saw(placed).when(reserved).then(
        ConfirmReservation("o1"), RequestPayment("o1", "EUR", 4_600, "tok_slow")
    )


def test_captured_money_is_confirmed() -> None:
    process(checkout).saw(placed, reserved).when(captured).then(ConfirmPayment("o1", 4_600))


def test_it_is_the_captured_amount_that_is_confirmed() -> None:
    less = replace(captured, amount_cents=4_000)
    process(checkout).saw(placed, reserved).when(less).then(ConfirmPayment("o1", 4_000))


# -- what may go wrong -------------------------------------------------------------------------------------------------


def test_refused_stock_cancels_the_order() -> None:
    process(checkout).saw(placed).when(refused).then(CancelOrder("o1", "out_of_stock"))


def test_a_declined_payment_gives_the_stock_back_and_cancels_the_order() -> None:
    process(checkout).saw(placed, reserved).when(declined).then(
        ReleaseStock("o1", items), CancelOrder("o1", "payment_declined")
    )


# -- the customer's mind may change at any moment ----------------------------------------------------------------------


def test_a_cancellation_while_reserving_waits_for_the_inventory() -> None:
    process(checkout).saw(placed).when(cancelled).then()


def test_stock_reserved_for_a_cancelled_order_is_given_back() -> None:
    process(checkout).saw(placed, cancelled).when(reserved).then(ReleaseStock("o1", items))


def test_stock_refused_to_a_cancelled_order_ends_it() -> None:
    process(checkout).saw(placed, cancelled).when(refused).then()


def test_a_cancellation_while_charging_gives_the_stock_back() -> None:
    process(checkout).saw(placed, reserved).when(cancelled).then(ReleaseStock("o1", items))


def test_money_captured_for_a_cancelled_order_is_given_back() -> None:
    process(checkout).saw(placed, reserved, cancelled).when(captured).then(RefundPayment("o1", "order_cancelled"))


def test_a_payment_declined_for_a_cancelled_order_ends_it() -> None:
    process(checkout).saw(placed, reserved, cancelled).when(declined).then()


def test_a_cancellation_after_payment_gives_stock_and_money_back() -> None:
    process(checkout).saw(placed, reserved, captured).when(cancelled).then(
        RefundPayment("o1", "changed my mind"), ReleaseStock("o1", items)
    )


def test_a_cancellation_that_is_seen_before_the_order_leaves_nothing_to_do() -> None:
    process(checkout).saw().when(cancelled).then()
    process(checkout).saw(cancelled).when(placed).then_ignored()


# -- what it does not care for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "cares_for"),
    [
        (IDLE, (placed, cancelled)),
        (RESERVING, (reserved, refused, cancelled)),
        (CHARGING, (captured, declined, cancelled)),
        (DONE, (cancelled,)),
        (RESERVING_CANCELLED, (reserved, refused)),
        (CHARGING_CANCELLED, (captured, declined)),
        *((history, ()) for history in ENDED),
    ],
    ids=lambda inputs: "-".join(type(each).__name__ for each in inputs) or "none",
)
def test_everything_else_is_ignored(history: History, cares_for: tuple[CheckoutInput, ...]) -> None:
    for what in INPUTS:
        if what not in cares_for:
            process(checkout).saw(*history).when(what).then_ignored()


# -- how it stands, for those who look ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "status"),
    [
        (IDLE, "running"),
        (RESERVING, "running"),
        (CHARGING, "waiting"),
        (DONE, "done"),
        (RESERVING_CANCELLED, "compensating"),
        (CHARGING_CANCELLED, "compensating"),
        *((history, "failed") for history in ENDED),
    ],
)
def test_a_checkout_says_how_it_stands(history: History, status: str) -> None:
    state = checkout.initial("o1")
    for happened in history:
        for event in checkout.decide({"o1": state}, Observe("o1", happened)):
            state = checkout.evolve(state, event)
    assert status_of(state) == status
