"""What the inventory decides over shelves, reservations and receipts."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from domains.inventory.messages import (
    DispatchStock,
    InventoryEvent,
    ItemDispatched,
    ItemQuantity,
    ItemReleased,
    ItemReserved,
    ReceiptRecorded,
    ReceiveStock,
    ReleaseStock,
    ReserveStock,
    StockDispatched,
    StockRanLow,
    StockReceived,
    StockRefused,
    StockReleased,
    StockReserved,
    StockWatched,
    WatchStock,
)
from domains.inventory.stock import (
    ON_HAND_MAX,
    NotReceived,
    NotReserved,
    Shelf,
    Watched,
    inventory,
    receipt_of,
    reservation_of,
)
from domains.kernel import QUANTITY_MAX
from tests.specification import given

History = tuple[InventoryEvent, ...]


def received(sku: str, quantity: int, receipt_id: str = "r1") -> History:
    return StockReceived(sku, receipt_id, quantity), ReceiptRecorded(sku, receipt_id, quantity)


items = (ItemQuantity("tea", 3), ItemQuantity("cup", 1))
other_items = (ItemQuantity("tea", 1),)
reserve = ReserveStock("o1", items)
release = ReleaseStock("o1", items)
dispatch = DispatchStock("o1", items)
reserved: History = (StockReserved("o1", items), ItemReserved("tea", "o1", 3), ItemReserved("cup", "o1", 1))
released: History = (StockReleased("o1"), ItemReleased("tea", "o1", 3), ItemReleased("cup", "o1", 1))
dispatched: History = (StockDispatched("o1"), ItemDispatched("tea", "o1", 3), ItemDispatched("cup", "o1", 1))
refused = StockRefused("o1", "tea", wanted=3, available=2)

STOCKED: History = (*received("tea", 5), *received("cup", 1))
HELD: History = (*STOCKED, *reserved)
RELEASED: History = (*HELD, *released)
DISPATCHED: History = (*HELD, *dispatched)
REFUSED: History = (*received("tea", 2), refused)


def after(*histories: History) -> pytest.MarkDecorator:
    """In each of the states that these lead to."""
    return pytest.mark.parametrize(
        "history", histories, ids=lambda history: type(given(inventory, *history).state(reservation_of("o1"))).__name__
    )


def test_what_nothing_happened_to_is_empty_each_after_its_kind() -> None:
    assert inventory.initial("tea") == Shelf(on_hand=0, reserved=0)
    assert inventory.initial(receipt_of("tea", "r1")) == NotReceived()
    assert inventory.initial(reservation_of("o1")) == NotReserved()


# -- receiving ---------------------------------------------------------------------------------------------------------


def test_a_receipt_puts_units_on_the_shelf() -> None:
    given(inventory).when(ReceiveStock("tea", "r1", 5)).then(*received("tea", 5))


def test_a_receipt_is_counted_once() -> None:
    given(inventory, *received("tea", 5)).when(ReceiveStock("tea", "r1", 5)).then()


def test_a_receipt_is_counted_once_even_when_its_units_are_gone() -> None:
    given(inventory, *DISPATCHED).when(ReceiveStock("cup", "r1", 1)).then()


def test_a_receipt_does_not_change() -> None:
    differing = ReceiveStock("tea", "r1", 6)
    given(inventory, *received("tea", 5)).when(differing).then_rejected("receipt_differs", "/quantity")


def test_another_receipt_counts() -> None:
    given(inventory, *received("tea", 5)).when(ReceiveStock("tea", "r2", 5)).then(*received("tea", 5, "r2"))


def test_a_receipt_may_be_of_several_skus() -> None:
    given(inventory, *received("tea", 5)).when(ReceiveStock("cup", "r1", 6)).then(*received("cup", 6))


def test_a_shelf_may_be_filled_to_the_brim() -> None:
    given(inventory, StockReceived("tea", "r1", ON_HAND_MAX - QUANTITY_MAX)).when(
        ReceiveStock("tea", "r2", QUANTITY_MAX)
    ).then(*received("tea", QUANTITY_MAX, "r2"))


def test_nothing_is_put_on_a_full_shelf() -> None:
    full = StockReceived("tea", "r1", ON_HAND_MAX)
    given(inventory, full).when(ReceiveStock("tea", "r2", 1)).then_rejected("shelf_full", "/quantity")


# -- reserving ---------------------------------------------------------------------------------------------------------


def test_all_items_of_an_order_are_reserved_together() -> None:
    given(inventory, *STOCKED).when(reserve).then(*reserved)


def test_the_last_unit_can_be_reserved() -> None:
    given(inventory, *received("tea", 3), *received("cup", 1)).when(reserve).then(*reserved)


def test_too_little_of_one_item_refuses_all_of_them() -> None:
    given(inventory, *received("tea", 5)).when(reserve).then(StockRefused("o1", "cup", wanted=1, available=0))


def test_a_refusal_names_the_first_item_that_there_is_too_little_of() -> None:
    given(inventory, *received("tea", 2)).when(reserve).then(refused)


def test_what_is_promised_to_others_is_not_available() -> None:
    others: History = (StockReserved("o2", (ItemQuantity("tea", 3),)), ItemReserved("tea", "o2", 3))
    given(inventory, *STOCKED, *others).when(reserve).then(refused)


def test_what_others_gave_back_is_available() -> None:
    others: History = (
        StockReserved("o2", (ItemQuantity("tea", 3),)),
        ItemReserved("tea", "o2", 3),
        StockReleased("o2"),
        ItemReleased("tea", "o2", 3),
    )
    given(inventory, *STOCKED, *others).when(reserve).then(*reserved)


def test_what_was_dispatched_to_others_is_not_available() -> None:
    given(inventory, *DISPATCHED).when(ReserveStock("o2", items)).then(StockRefused("o2", "tea", 3, available=2))


@after(HELD, RELEASED, DISPATCHED, REFUSED)
def test_an_order_reserves_once_whatever_became_of_it(history: History) -> None:
    given(inventory, *history).when(reserve).then()


def test_a_refused_order_stays_refused_when_goods_come_in() -> None:
    given(inventory, *REFUSED, *received("tea", 100, "r2"), *received("cup", 100)).when(reserve).then()


def test_a_reservation_does_not_change() -> None:
    given(inventory, *HELD).when(ReserveStock("o1", other_items)).then_rejected("reservation_differs", "/items")


@after(STOCKED, HELD, REFUSED)
def test_a_sku_stands_once_in_a_reservation(history: History) -> None:
    twice = (ItemQuantity("tea", 1), ItemQuantity("cup", 1), ItemQuantity("tea", 1))
    given(inventory, *history).when(ReserveStock("o1", twice)).then_rejected("sku_repeated", "/items")


# -- releasing ---------------------------------------------------------------------------------------------------------


def test_what_is_held_is_released() -> None:
    given(inventory, *HELD).when(release).then(*released)


@after(RELEASED, REFUSED)
def test_releasing_what_is_not_held_any_more_changes_nothing(history: History) -> None:
    given(inventory, *history).when(release).then()


@after(STOCKED, DISPATCHED)
def test_what_was_never_held_or_has_left_is_not_released(history: History) -> None:
    given(inventory, *history).when(release).then_rejected("nothing_reserved")


def test_other_items_than_those_held_are_not_released() -> None:
    given(inventory, *HELD).when(replace(release, items=other_items)).then_rejected("reservation_differs", "/items")


def test_the_reservation_of_another_order_is_not_released() -> None:
    given(inventory, *HELD).when(replace(release, order_id="o2")).then_rejected("nothing_reserved")


# -- dispatching -------------------------------------------------------------------------------------------------------


def test_what_is_held_is_dispatched() -> None:
    given(inventory, *HELD).when(dispatch).then(*dispatched)


def test_dispatching_again_changes_nothing() -> None:
    given(inventory, *DISPATCHED).when(dispatch).then()


@after(STOCKED, RELEASED, REFUSED)
def test_what_is_not_held_is_not_dispatched(history: History) -> None:
    given(inventory, *history).when(dispatch).then_rejected("nothing_reserved")


def test_other_items_than_those_held_are_not_dispatched() -> None:
    given(inventory, *HELD).when(replace(dispatch, items=other_items)).then_rejected("reservation_differs", "/items")


# -- running low -------------------------------------------------------------------------------------------------------

WATCHED: History = (*received("tea", 5), StockWatched("tea", 3))
"""Five units of which somebody wants there to be three."""


def taken(order_id: str, quantity: int) -> History:
    return StockReserved(order_id, (ItemQuantity("tea", quantity),)), ItemReserved("tea", order_id, quantity)


def take(order_id: str, quantity: int) -> ReserveStock:
    return ReserveStock(order_id, (ItemQuantity("tea", quantity),))


def test_nobody_is_told_of_a_shelf_that_nobody_watches() -> None:
    given(inventory, *received("tea", 5)).when(take("o1", 5)).then(*taken("o1", 5))


def test_watching_is_changed_and_ended() -> None:
    given(inventory, *received("tea", 5)).when(WatchStock("tea", 3)).then(StockWatched("tea", 3))
    given(inventory, *WATCHED).when(WatchStock("tea", 3)).then()
    given(inventory, *WATCHED).when(WatchStock("tea", 4)).then(StockWatched("tea", 4))
    given(inventory, *WATCHED).when(WatchStock("tea", 0)).then(StockWatched("tea", 0))
    given(inventory, *WATCHED, StockWatched("tea", 0)).when(WatchStock("tea", 0)).then()
    given(inventory, *WATCHED, StockWatched("tea", 0)).when(take("o1", 5)).then(*taken("o1", 5))


def test_a_shelf_runs_low_when_fewer_are_available_than_wanted() -> None:
    given(inventory, *WATCHED).when(take("o1", 2)).then(*taken("o1", 2))
    given(inventory, *WATCHED).when(take("o1", 3)).then(*taken("o1", 3), StockRanLow("tea", 2, 3))


def test_a_shelf_that_is_low_already_when_it_is_watched_is_told_of() -> None:
    given(inventory, *received("tea", 5)).when(WatchStock("tea", 6)).then(
        StockWatched("tea", 6), StockRanLow("tea", 5, 6)
    )
    given(inventory).when(WatchStock("tea", 1)).then(StockWatched("tea", 1), StockRanLow("tea", 0, 1))


LOW: History = (*WATCHED, *taken("o1", 3), StockRanLow("tea", 2, 3))


def test_what_stays_low_is_told_once() -> None:
    given(inventory, *LOW).when(take("o2", 1)).then(*taken("o2", 1))
    given(inventory, *LOW).when(WatchStock("tea", 4)).then(StockWatched("tea", 4))


@pytest.mark.parametrize(
    "enough",
    [received("tea", 1, "r2"), (StockReleased("o1"), ItemReleased("tea", "o1", 3))],
    ids=["received", "released"],
)
def test_what_was_enough_in_between_is_told_again(enough: History) -> None:
    again = given(inventory, *LOW, *enough)
    available = again.state("tea").available  # type: ignore[union-attr]  # A shelf.
    wanted = available - 2
    again.when(take("o2", wanted)).then(*taken("o2", wanted), StockRanLow("tea", 2, 3))


def test_each_shelf_of_an_order_is_told_of() -> None:
    both = (*STOCKED, StockWatched("tea", 3), StockWatched("cup", 1))
    given(inventory, *both).when(reserve).then(*reserved, StockRanLow("tea", 2, 3), StockRanLow("cup", 0, 1))


def test_what_is_watched_is_counted_as_any_shelf_is() -> None:
    shelf = given(inventory, *LOW, StockDispatched("o1"), ItemDispatched("tea", "o1", 3)).state("tea")
    assert shelf == Watched(on_hand=2, reserved=0, low_at=3)
