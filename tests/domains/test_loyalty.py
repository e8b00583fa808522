"""The points of an order, and what loyalty does about orders."""

from __future__ import annotations

from collections import Counter

import hypothesis
import pytest
from msgspec.structs import replace

from domains.loyalty.messages import (
    BuyerNoted,
    EarnPoints,
    LoyaltyCommand,
    LoyaltyEvent,
    NoteBuyer,
    PointsEarned,
    PointsReturned,
    ReturnPoints,
)
from domains.loyalty.points import loyalty
from domains.loyalty.policy import react
from domains.orders.messages import OrderCancelled, OrderPaid, OrderPlaced
from tests.domains.lives import LIVES, lived
from tests.specification import Hosted, given

note = NoteBuyer("o1", "c1")
earn = EarnPoints("o1", 3_650)
give_back = ReturnPoints("o1")

noted = BuyerNoted("o1", "c1")
earned = PointsEarned("o1", "c1", 36)
returned = PointsReturned("o1", "c1", 36)

History = tuple[LoyaltyEvent, ...]
NOTED: History = (noted,)
EARNED: History = (noted, earned)
RETURNED: History = (noted, earned, returned)


def after(*histories: History) -> pytest.MarkDecorator:
    """In each of the states that these lead to."""
    return pytest.mark.parametrize(
        "history", histories, ids=lambda history: type(given(loyalty, *history).state("o1")).__name__
    )


def test_a_placed_order_brings_no_points_yet() -> None:
    given(loyalty).when(note).then(noted)


@after(NOTED, EARNED, RETURNED)
def test_an_order_is_noted_once(history: History) -> None:
    given(loyalty, *history).when(note).then()


@pytest.mark.parametrize(("paid_cents", "points"), [(100, 1), (199, 1), (200, 2), (3_650, 36)])
def test_every_whole_unit_that_was_paid_is_a_point(paid_cents: int, points: int) -> None:
    given(loyalty, *NOTED).when(EarnPoints("o1", paid_cents)).then(PointsEarned("o1", "c1", points))


@pytest.mark.parametrize("paid_cents", [0, 99])
def test_less_than_that_is_none(paid_cents: int) -> None:
    given(loyalty, *NOTED).when(EarnPoints("o1", paid_cents)).then()


@after(EARNED, RETURNED)
def test_an_order_brings_points_once(history: History) -> None:
    given(loyalty, *history).when(earn).then()


def test_a_cancelled_order_takes_back_what_it_brought() -> None:
    given(loyalty, *EARNED).when(give_back).then(returned)


@after(NOTED, RETURNED)
def test_what_brought_nothing_takes_nothing_back(history: History) -> None:
    given(loyalty, *history).when(give_back).then()


@pytest.mark.parametrize("command", [earn, give_back], ids=["earn", "return"])
def test_of_an_order_that_was_not_heard_of_nothing_is_known(command: LoyaltyCommand) -> None:
    given(loyalty, replace(noted, order_id="o2")).when(command).then_rejected("buyer_unknown")


@hypothesis.settings(derandomize=True, max_examples=120, deadline=None)
@hypothesis.given(LIVES[loyalty])
def test_no_more_is_taken_back_than_was_earned(commands: list[LoyaltyCommand]) -> None:
    balance: Counter[tuple[str, str]] = Counter()
    for _, events in lived(Hosted(loyalty), commands):
        for event in events:
            match event:
                case PointsEarned(order_id, customer_id, points):
                    assert points > 0
                    assert balance[order_id, customer_id] == 0
                    balance[order_id, customer_id] += points
                case PointsReturned(order_id, customer_id, points):
                    balance[order_id, customer_id] -= points
                    assert balance[order_id, customer_id] == 0
                case _:
                    pass


# -- the policy --------------------------------------------------------------------------------------------------------


def test_orders_are_noted_paid_and_taken_back() -> None:
    assert react(OrderPlaced("o1", "c1", "EUR", (), 1, 0, 0, 0, "tok_ok", "recorded")) == [note]
    assert react(OrderPaid("o1", 3_650)) == [earn]
    assert react(OrderCancelled("o1", "no more")) == [give_back]
