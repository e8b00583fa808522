"""What an order decides: every command in every state."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from domains.kernel import CENTS_MAX, QUANTITY_MAX, Asleep, Wake
from domains.orders.messages import (
    EDITION,
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    EndOverdue,
    FollowOn,
    OrderCancelled,
    OrderDelivered,
    OrderEvent,
    OrderLine,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
    OrderShipped,
    PlaceOrder,
    ShipOrder,
    ShippedItem,
    Terms,
    Workflow,
    units_of,
)
from domains.orders.order import orders
from domains.orders.policy import timing
from tests.specification import given

lines = (
    OrderLine("tea", "Green tea", "drinks", quantity=2, unit_price_cents=1_250, freight_cents=300),
    OrderLine("cup", "Cup", "kitchen", quantity=1, unit_price_cents=800, freight_cents=50),
)
place = PlaceOrder("o1", "c1", "EUR", lines, "tok_slow")
placed = OrderPlaced("o1", "c1", "EUR", lines, 3, 3_300, 350, 3_650, "tok_slow", "orchestrated", edition=EDITION)
reserved = OrderReserved("o1")
paid = OrderPaid("o1", 3_650)
shipped = OrderShipped("o1")
delivered = OrderDelivered("o1")
cancelled = OrderCancelled("o1", "changed my mind")

History = tuple[OrderEvent, ...]
PLACED: History = (placed,)
RESERVED: History = (*PLACED, reserved)
PAID: History = (*RESERVED, paid)
SHIPPED: History = (*PAID, shipped)
DELIVERED: History = (*SHIPPED, delivered)
CANCELLED: History = (*PLACED, cancelled)


def after(*histories: History) -> pytest.MarkDecorator:
    """In each of the states that these lead to."""
    return pytest.mark.parametrize(
        "history", histories, ids=lambda history: type(given(orders, *history).state("o1")).__name__
    )


def line(quantity: int, unit_price_cents: int, freight_cents: int = 0) -> OrderLine:
    return OrderLine("tea", "Green tea", "drinks", quantity, unit_price_cents, freight_cents)


# -- placing -----------------------------------------------------------------------------------------------------------


def test_an_order_is_placed_with_its_sums() -> None:
    given(orders).when(place).then(placed)


def test_another_order_does_not_count() -> None:
    given(orders, replace(placed, order_id="o2")).when(place).then(placed)


@after(PLACED, RESERVED, PAID, SHIPPED, DELIVERED, CANCELLED)
def test_an_order_is_placed_once(history: History) -> None:
    given(orders, *history).when(place).then_rejected("order_exists", "/order_id")


def test_an_order_needs_lines() -> None:
    given(orders).when(replace(place, lines=())).then_rejected("order_has_no_lines", "/lines")


def test_an_order_must_be_worth_something_besides_its_freight() -> None:
    given(orders).when(replace(place, lines=(line(1, 0, 300),))).then_rejected("order_has_no_value", "/lines")


def test_a_gift_beside_a_paid_line_is_fine() -> None:
    given(orders).when(replace(place, lines=(line(1, 0), line(1, 100)))).then(
        replace(placed, lines=(line(1, 0), line(1, 100)), units=2, items_cents=100, freight_cents=0, total_cents=100)
    )


def test_an_order_may_be_worth_the_most_that_money_counts() -> None:
    largest = (line(1, CENTS_MAX - 1, 1),)
    given(orders).when(replace(place, lines=largest)).then(
        replace(placed, lines=largest, units=1, items_cents=CENTS_MAX - 1, freight_cents=1, total_cents=CENTS_MAX)
    )


@pytest.mark.parametrize("too_dear", [(line(1, CENTS_MAX, 1),), (line(2, CENTS_MAX),), (line(1, CENTS_MAX),) * 2])
def test_an_order_beyond_that_is_too_large(too_dear: tuple[OrderLine, ...]) -> None:
    given(orders).when(replace(place, lines=too_dear)).then_rejected("order_too_large", "/lines")


def test_an_order_may_be_for_the_most_units_that_can_be_counted() -> None:
    most = (line(QUANTITY_MAX - 1, 1), line(1, 1))
    given(orders).when(replace(place, lines=most)).then(
        replace(
            placed, lines=most, units=QUANTITY_MAX, items_cents=QUANTITY_MAX, freight_cents=0, total_cents=QUANTITY_MAX
        )
    )


def test_an_order_of_more_units_is_too_large() -> None:
    too_many = (line(QUANTITY_MAX, 1), line(1, 1))
    given(orders).when(replace(place, lines=too_many)).then_rejected("order_too_large", "/lines")


def test_a_record_may_have_lost_its_lines() -> None:
    given(orders).when(replace(place, lines=(), workflow="recorded")).then(
        replace(placed, lines=(), units=0, items_cents=0, freight_cents=0, total_cents=0, workflow="recorded")
    )


def test_a_record_may_have_lost_its_prices() -> None:
    free = (line(1, 0, 300),)
    given(orders).when(replace(place, lines=free, workflow="recorded")).then(
        replace(placed, lines=free, units=1, items_cents=0, freight_cents=300, total_cents=300, workflow="recorded")
    )


def test_a_record_can_be_too_large_as_well() -> None:
    recorded = replace(place, workflow="recorded")
    given(orders).when(replace(recorded, lines=(line(2, CENTS_MAX),))).then_rejected("order_too_large", "/lines")
    given(orders).when(replace(recorded, lines=(line(QUANTITY_MAX, 1),) * 2)).then_rejected("order_too_large", "/lines")


# -- what must exist ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ConfirmReservation("o1"),
        ConfirmPayment("o1", 3_650),
        ShipOrder("o1"),
        DeliverOrder("o1"),
        CancelOrder("o1", "again"),
    ],
    ids=lambda told: type(told).__name__,
)
def test_nothing_can_be_done_about_an_unknown_order(
    command: ConfirmReservation | ConfirmPayment | ShipOrder | DeliverOrder | CancelOrder,
) -> None:
    given(orders, replace(placed, order_id="o2")).when(command).then_rejected("order_unknown")


# -- reserving ---------------------------------------------------------------------------------------------------------


def test_a_placed_order_is_reserved() -> None:
    given(orders, *PLACED).when(ConfirmReservation("o1")).then(reserved)


@after(RESERVED, PAID, SHIPPED, DELIVERED)
def test_reserving_again_changes_nothing(history: History) -> None:
    given(orders, *history).when(ConfirmReservation("o1")).then()


def test_reserving_a_cancelled_order_changes_nothing() -> None:
    given(orders, *CANCELLED).when(ConfirmReservation("o1")).then()


# -- paying ------------------------------------------------------------------------------------------------------------


def test_a_reserved_order_is_paid() -> None:
    given(orders, *RESERVED).when(ConfirmPayment("o1", 3_650)).then(paid)


def test_an_order_is_not_paid_before_it_is_reserved() -> None:
    given(orders, *PLACED).when(ConfirmPayment("o1", 3_650)).then_rejected("order_not_reserved")


@after(PAID, SHIPPED, DELIVERED)
def test_paying_again_changes_nothing(history: History) -> None:
    given(orders, *history).when(ConfirmPayment("o1", 3_650)).then()


def test_paying_a_cancelled_order_changes_nothing() -> None:
    given(orders, *CANCELLED).when(ConfirmPayment("o1", 3_650)).then()


# -- shipping and delivering -------------------------------------------------------------------------------------------


def test_a_paid_order_is_shipped() -> None:
    given(orders, *PAID).when(ShipOrder("o1")).then(shipped)


def test_what_left_the_house_is_told() -> None:
    items = (ShippedItem("tea", 2),)
    given(orders, *PAID).when(ShipOrder("o1", items)).then(OrderShipped("o1", items))


@after(PLACED, RESERVED)
def test_an_order_that_is_not_paid_stays_in_the_house(history: History) -> None:
    given(orders, *history).when(ShipOrder("o1")).then_rejected("order_not_paid")


def test_a_cancellation_may_overtake_the_shipment() -> None:
    given(orders, *CANCELLED).when(ShipOrder("o1")).then()


@after(SHIPPED, DELIVERED)
def test_shipping_again_changes_nothing(history: History) -> None:
    given(orders, *history).when(ShipOrder("o1")).then()


def test_a_shipped_order_is_delivered() -> None:
    given(orders, *SHIPPED).when(DeliverOrder("o1")).then(delivered)


@after(PLACED, RESERVED, PAID, CANCELLED)
def test_an_order_that_was_not_shipped_is_not_delivered(history: History) -> None:
    given(orders, *history).when(DeliverOrder("o1")).then_rejected("order_not_shipped")


def test_delivering_again_changes_nothing() -> None:
    given(orders, *DELIVERED).when(DeliverOrder("o1")).then()


# -- cancelling --------------------------------------------------------------------------------------------------------


@after(PLACED, RESERVED, PAID)
def test_an_order_is_cancelled_until_it_is_shipped(history: History) -> None:
    given(orders, *history).when(CancelOrder("o1", "changed my mind")).then(cancelled)


@after(SHIPPED, DELIVERED)
def test_an_order_that_has_left_is_not_cancelled(history: History) -> None:
    given(orders, *history).when(CancelOrder("o1", "too late")).then_rejected("order_already_shipped")


@after((placed, cancelled), (*RESERVED, cancelled), (*PAID, cancelled))
def test_cancelling_twice_changes_nothing(history: History) -> None:
    given(orders, *history).when(CancelOrder("o1", "again")).then()


# -- orders that nobody conducts ---------------------------------------------------------------------------------------


ALONE: History = (replace(placed, workflow="choreographed"),)
terms = Terms(
    units_of(placed.lines), placed.currency, placed.total_cents, placed.payment_token, placed.shipping_token, "c1"
)
LIFE = (
    (ConfirmReservation("o1"), OrderReserved("o1", terms)),
    (ConfirmPayment("o1", 3_650), OrderPaid("o1", 3_650, terms)),
    (ShipOrder("o1"), OrderShipped("o1", terms.items, terms)),
    (DeliverOrder("o1"), OrderDelivered("o1")),
)


def test_what_others_did_carries_a_choreographed_order_on_and_its_events_say_what_others_must_know() -> None:
    history = ALONE
    for command, event in LIFE:
        given(orders, *history).when(FollowOn("o1", command)).then(event)
        history = (*history, event)
        given(orders, *history).when(FollowOn("o1", command)).then()


def test_it_says_when_it_is_cancelled_whether_it_was_paid() -> None:
    cancel = FollowOn("o1", CancelOrder("o1", "r"))
    given(orders, *ALONE).when(cancel).then(OrderCancelled("o1", "r", terms))
    paid_alone = (*ALONE, LIFE[0][1], LIFE[1][1])
    given(orders, *paid_alone).when(cancel).then(OrderCancelled("o1", "r", terms, paid=True))
    given(orders, *paid_alone, OrderCancelled("o1", "r", terms, paid=True)).when(cancel).then()


@pytest.mark.parametrize(
    ("answers", "reason"), [(0, "inventory_timeout"), (1, "payment_timeout"), (2, "carrier_timeout")]
)
def test_it_waits_for_each_answer_and_no_longer_than_that(answers: int, reason: str) -> None:
    """To the same ends as the checkout. What rings for an answer that came means nothing."""
    history: History = (*ALONE, *(event for _, event in LIFE[:answers]))
    wanted = timing(history[-1])
    assert isinstance(wanted, Wake)
    assert isinstance(wanted.command, EndOverdue)
    ended = OrderCancelled("o1", reason, terms, paid=answers == 2)
    given(orders, *history).when(wanted.command).then(ended)
    given(orders, *history, LIFE[answers][1]).when(wanted.command).then()
    assert timing(ended) == timing(LIFE[2][1]) == Asleep()


@pytest.mark.parametrize("workflow", ["orchestrated", "recorded"])
def test_an_order_that_is_conducted_waits_for_nothing_by_itself(workflow: Workflow) -> None:
    history: History = (replace(placed, workflow=workflow), *PAID[1:])
    assert [timing(event) for event in (*history, shipped, cancelled)] == [None] * (len(history) + 2)


@after((), PLACED, RESERVED, PAID, SHIPPED, DELIVERED, CANCELLED)
def test_of_any_other_order_it_changes_nothing(history: History) -> None:
    for event in ("OrderPlaced", "OrderReserved", "OrderPaid"):
        given(orders, *history).when(EndOverdue("o1", event)).then()
    for command, _ in LIFE:
        given(orders, *history).when(FollowOn("o1", command)).then()
    given(orders, *history).when(FollowOn("o1", CancelOrder("o1", "r"))).then()
