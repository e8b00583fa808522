"""Who may review what, and what reviews learn from orders."""

from __future__ import annotations

import hypothesis
import pytest
from msgspec.structs import replace

from domains.orders.messages import OrderDelivered, OrderLine, OrderPlaced
from domains.reviews.messages import (
    DeliveryNoted,
    NoteDelivery,
    NotePurchase,
    PostReview,
    PurchaseNoted,
    ReviewCommand,
    ReviewEvent,
    ReviewPosted,
)
from domains.reviews.policy import react
from domains.reviews.review import reviews
from tests.domains.lives import LIVES, lived
from tests.specification import Hosted, given

note = NotePurchase("o1", "c1", ("tea", "cup"))
noted = PurchaseNoted("o1", "c1", ("tea", "cup"))
arrived = DeliveryNoted("o1")
post = PostReview("tea", "c1", "o1", 4, "Good")
posted = ReviewPosted("tea", "c1", "o1", 4, "Good")

History = tuple[ReviewEvent, ...]
BOUGHT: History = (noted,)
RECEIVED: History = (noted, arrived)
WRITTEN: History = (*RECEIVED, posted)


# -- what is learnt ----------------------------------------------------------------------------------------------------


def test_a_purchase_is_noted_once() -> None:
    given(reviews).when(note).then(noted)
    for history in (BOUGHT, RECEIVED):
        given(reviews, *history).when(note).then()


def test_a_delivery_is_noted_once() -> None:
    given(reviews, *BOUGHT).when(NoteDelivery("o1")).then(arrived)
    given(reviews, *RECEIVED).when(NoteDelivery("o1")).then()


def test_what_nobody_ordered_does_not_arrive() -> None:
    given(reviews, replace(noted, order_id="o2")).when(NoteDelivery("o1")).then_rejected("purchase_unknown")


# -- who may write -----------------------------------------------------------------------------------------------------


def test_who_received_a_product_reviews_it() -> None:
    given(reviews, *RECEIVED).when(post).then(posted)


@pytest.mark.parametrize("history", [(), BOUGHT], ids=["never ordered", "not delivered"])
def test_who_did_not_receive_it_does_not(history: History) -> None:
    given(reviews, *history).when(post).then_rejected("not_received", "/order_id")


@pytest.mark.parametrize(
    "other",
    [replace(post, sku="pot"), replace(post, customer_id="c2"), replace(post, order_id="o2")],
    ids=["another product", "another customer", "another order"],
)
def test_a_delivery_gives_the_right_to_its_products_and_its_customer_only(other: PostReview) -> None:
    given(reviews, *RECEIVED).when(other).then_rejected("not_received", "/order_id")


def test_the_same_review_again_changes_nothing() -> None:
    given(reviews, *WRITTEN).when(post).then()


@pytest.mark.parametrize("other", [replace(post, score=5), replace(post, text="")], ids=["score", "text"])
def test_a_product_is_reviewed_once(other: PostReview) -> None:
    given(reviews, *WRITTEN).when(other).then_rejected("reviewed_before")


def test_a_product_that_came_twice_is_reviewed_once_all_the_same() -> None:
    again = replace(noted, order_id="o2"), DeliveryNoted("o2")
    given(reviews, *WRITTEN, *again).when(replace(post, order_id="o2")).then_rejected("reviewed_before")


def test_each_product_of_an_order_is_reviewed_for_itself() -> None:
    given(reviews, *WRITTEN).when(replace(post, sku="cup")).then(replace(posted, sku="cup"))


def test_each_customer_reviews_for_itself() -> None:
    others = PurchaseNoted("o2", "c2", ("tea",)), DeliveryNoted("o2")
    theirs = replace(post, customer_id="c2", order_id="o2")
    given(reviews, *WRITTEN, *others).when(theirs).then(replace(posted, customer_id="c2", order_id="o2"))


@hypothesis.settings(derandomize=True, max_examples=120, deadline=None)
@hypothesis.given(LIVES[reviews])
def test_every_review_has_a_delivery_and_no_second(commands: list[ReviewCommand]) -> None:
    bought: dict[str, PurchaseNoted] = {}
    received: set[str] = set()
    written: set[tuple[str, str]] = set()
    for _, events in lived(Hosted(reviews), commands):
        for event in events:
            match event:
                case PurchaseNoted():
                    bought[event.order_id] = event
                case DeliveryNoted():
                    received.add(event.order_id)
                case ReviewPosted(sku, customer_id, order_id):
                    assert order_id in received
                    assert customer_id == bought[order_id].customer_id
                    assert sku in bought[order_id].skus
                    assert (customer_id, sku) not in written
                    written.add((customer_id, sku))


# -- the policy --------------------------------------------------------------------------------------------------------


def test_a_placed_order_is_a_purchase_of_each_of_its_products() -> None:
    lines = tuple(OrderLine(sku, sku, "things", 1, 100) for sku in ("tea", "cup", "tea"))
    placed = OrderPlaced("o1", "c1", "EUR", lines, 3, 300, 0, 300, "tok_ok", "recorded")
    assert react(placed) == [note]


def test_a_delivered_order_arrived() -> None:
    assert react(OrderDelivered("o1")) == [NoteDelivery("o1")]
