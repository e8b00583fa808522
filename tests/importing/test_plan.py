"""The plan: every order's life is accepted by the deciders, and depends on nothing but that order's own rows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.catalogue.messages import DefineProduct
from domains.customers.messages import SaveCustomer
from domains.inventory.messages import ItemQuantity, ReserveStock
from domains.inventory.stock import Shelf
from domains.kernel import ID_PATTERN
from domains.orders.messages import ConfirmPayment, OrderLine, OrderPlaced, PlaceOrder
from domains.payments.messages import PaymentPart, RecordPayment
from domains.reviews.messages import PostReview
from gateway import compose
from gateway.importing.expected import Expected
from gateway.importing.olist import STATUSES, Item, Order, Payment, Product, Records, read_folder
from gateway.importing.plan import cents, lives_of, order_life, people, plan, reviews
from tests.importing.dataset import BOUGHT, CARRIED, Dataset, everything
from tests.importing.shop import Shop, commands, lives


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return read_folder(everything().write(tmp_path))


def test_every_life_is_accepted_and_ends_where_its_status_says(records: Records) -> None:
    shop = Shop().imported(records)
    expected = Expected.of(records).orders
    ended = {order_id: type(state).__name__.lower() for order_id, state in shop.states("orders").items()}
    assert ended == {order_id: facts.status for order_id, facts in expected.items()}


def test_every_step_changes_something(records: Records) -> None:
    shop = Shop()
    for life in plan(records):
        for step in life.steps:
            assert shop.handle(step.command, step.id, step.occurred_at), step


def test_stock_ends_with_what_was_not_sent(records: Records) -> None:
    states = Shop().imported(records).states("inventory")
    shelves = {sku: state for sku, state in states.items() if isinstance(state, Shelf)}
    # Canceled and unavailable: given back. Invoiced, processing, approved, created and paid: held.
    assert shelves == {"p1": Shelf(6, 3), "p2": Shelf(0, 0), "p3": Shelf(1, 1)}


def test_a_delivered_order(tmp_path: Path) -> None:
    records = read_folder(Dataset().product("p1").order("o1").write(tmp_path))
    assert [step.id for step in lives(records)["o1"].steps] == [
        "olist-place-o1",
        "olist-receive-0-o1",
        "olist-reserve-o1",
        "olist-confirm-reservation-o1",
        "olist-record-payment-o1",
        "olist-confirm-payment-o1",
        "olist-dispatch-o1",
        "olist-record-shipment-o1",
        "olist-ship-o1",
        "olist-record-delivery-o1",
        "olist-deliver-o1",
    ]
    assert [step.occurred_at.strftime("%m-%d %H:%M") for step in lives(records)["o1"].steps] == [
        *["01-31 23:59"] * 4,
        *["02-01 00:10"] * 2,
        *["02-03 12:00"] * 3,
        *["02-09 18:30"] * 2,
    ]


def test_units_at_one_price_are_one_line_and_payments_keep_their_order(records: Records) -> None:
    steps = {type(step.command): step.command for step in lives(records)["several"].steps}
    assert steps[PlaceOrder] == PlaceOrder(
        order_id="several",
        customer_id="buyer-several",
        currency="BRL",
        lines=(
            OrderLine("p1", "brinquedos p1", "brinquedos", 2, 1050, 411),
            OrderLine("p2", "uncategorised p2", "uncategorised", 1, 9900, 0),
            OrderLine("p1", "brinquedos p1", "brinquedos", 1, 999, 100),
        ),
        workflow="recorded",
    )
    assert steps[ReserveStock] == ReserveStock("several", (ItemQuantity("p1", 3), ItemQuantity("p2", 1)))
    assert steps[RecordPayment] == RecordPayment(
        "several",
        "BRL",
        (PaymentPart("voucher", 1, 0), PaymentPart("voucher", 1, 3001), PaymentPart("credit_card", 1, 9709)),
    )
    assert steps[ConfirmPayment] == ConfirmPayment("several", 12710)


@pytest.mark.parametrize(
    ("order_id", "expected"),
    [
        ("created-1", ["PlaceOrder"]),
        ("canceled-empty", ["PlaceOrder", "ConfirmReservation", "CancelOrder"]),
        ("unavailable-1", ["PlaceOrder", "ConfirmReservation", "RecordPayment", "ConfirmPayment", "CancelOrder"]),
        (
            "unavailable-items",
            ["PlaceOrder", "ReceiveStock", "ReserveStock", "ConfirmReservation", "CancelOrder", "ReleaseStock"],
        ),
        (
            "shipped-no-items",
            [
                "PlaceOrder",
                "ConfirmReservation",
                "RecordPayment",
                "ConfirmPayment",
                "RecordShipment",
                "ShipOrder",
            ],
        ),
    ],
)
def test_lives_that_are_cut_short(records: Records, order_id: str, expected: list[str]) -> None:
    assert commands(lives(records)[order_id]) == expected


def test_time_never_goes_back(records: Records) -> None:
    for life in plan(records):
        assert all(before.occurred_at <= after.occurred_at for before, after in pairwise(life.steps))
    went_back = lives(records)["delivered-times-go-back"].steps
    assert went_back[-1].occurred_at == datetime.fromisoformat(f"{CARRIED}Z")
    assert went_back[0].occurred_at == datetime.fromisoformat(f"{BOUGHT}Z")


def test_ids_are_unique_and_commands_are_what_engines_take(records: Records) -> None:
    steps = [step for life in plan(records) for step in life.steps]
    assert len({step.id for step in steps}) == len(steps)
    for step in steps:
        assert msgspec.json.decode(msgspec.json.encode(step.command), type=type(step.command)) == step.command


def test_ids_fit_however_long_the_data_s_are() -> None:
    order = Order("o" * 64, "b" * 64, "delivered", NOON, None, None, None, 2, (Item(1, "p" * 64, *[Decimal(1)] * 2),))
    records = Records({"p" * 64: Product("p" * 64, "c" * 150)}, {order.order_id: order}, [])
    for life in plan(records):
        for step in life.steps:
            assert len(step.id) <= 128
            assert msgspec.json.decode(msgspec.json.encode(step.command), type=type(step.command)) == step.command


def test_an_order_s_life_depends_on_its_own_rows_only(records: Records, tmp_path: Path) -> None:
    """So a part can be imported first, and all of it later."""
    whole = lives(records)
    for order in records.orders.values():
        assert order_life(order, records.products) == whole[order.order_id]
    shuffled = everything()
    for rows in shuffled.rows.values():
        rows.reverse()
    again = lives(read_folder(shuffled.write(tmp_path / "again")))
    assert {order_id: again[order_id] for order_id in records.orders} == {
        order_id: whole[order_id] for order_id in records.orders
    }


def test_a_product_has_the_price_of_its_earliest_item(tmp_path: Path) -> None:
    data = Dataset().product("p1").product("p2")
    later = ("2018-03-01 00:00:00", "", "", "")
    part = data.order("b", items=(("p1", "12", "0"),), times=later)
    (late,) = lives(read_folder(part.write(tmp_path)))["p1"].steps
    whole = data.order("c", items=(("p1", "11", "0"), ("p1", "10", "0"))).order("d", items=(("p1", "9", "0"),))
    records = read_folder(whole.write(tmp_path))
    (early,) = lives(records)["p1"].steps
    assert early.command == DefineProduct("p1", "brinquedos p1", "brinquedos", 1100, "BRL")
    assert early.expect == late.expect == 0, "whoever defined it first is not overruled"
    assert early.id != late.id, "another definition is another command"
    assert "p2" not in lives(records), "without a price there is nothing to sell"
    assert lives_of(records) == len(lives(records)) == 4


@pytest.mark.parametrize(
    ("amount", "expected"), [("0", 0), ("0.01", 1), ("10.5", 1050), ("99", 9900), ("9999999999.99", 999_999_999_999)]
)
def test_cents_are_exact(amount: str, expected: int) -> None:
    assert cents(Decimal(amount)) == expected


def test_cents_are_never_rounded() -> None:
    with pytest.raises(ValueError, match="more than two decimals"):
        cents(Decimal("0.005"))


NOON = datetime(2018, 1, 1, 12, tzinfo=UTC)
_amounts = st.decimals(0, 10_000, places=2)
_times = st.none() | st.datetimes(datetime(2016, 1, 1), datetime(2018, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
_skus = st.sampled_from(["p1", "p2", "p3"])
_orders = st.builds(
    Order,
    order_id=st.from_regex(ID_PATTERN, fullmatch=True),
    buyer_id=st.just("b1"),
    status=st.sampled_from(STATUSES),
    purchased_at=st.just(NOON),
    approved_at=_times,
    carried_at=_times,
    delivered_at=_times,
    line=st.just(2),
    items=st.lists(st.builds(Item, st.integers(1, 9), _skus, _amounts, _amounts), max_size=6).map(tuple),
    payments=st.lists(
        st.builds(Payment, st.integers(1, 9), st.sampled_from(["voucher", "boleto"]), st.integers(0, 24), _amounts),
        max_size=4,
    ).map(tuple),
)
_products = {sku: Product(sku, "") for sku in ("p1", "p2", "p3")}


@given(st.lists(_orders, max_size=5, unique_by=lambda order: order.order_id))
def test_whatever_the_data_the_deciders_take_it_and_nothing_is_lost(orders: list[Order]) -> None:
    records = Records(_products, {order.order_id: order for order in orders}, [])
    shop = Shop().imported(records)
    for state in shop.states("inventory").values():
        if isinstance(state, Shelf):
            assert 0 <= state.reserved <= state.on_hand
    placed = [commit.events[0] for commit in shop.commits["orders"] if commit.version == 1]
    total = sum(item.price + item.freight for order in orders for item in order.items)
    assert sum(event.total_cents for event in placed if isinstance(event, OrderPlaced)) == total * 100
    assert set(shop.domains) == {domain.name for domain in compose.DOMAINS}


def test_every_person_is_known_by_an_address_that_no_mail_reaches(records: Records) -> None:
    told = {life.subject: life.steps for life in people(records)}
    assert set(told) == {order.buyer_id for order in records.orders.values()}
    for person, (step,) in told.items():
        assert isinstance(step.command, SaveCustomer)
        assert step.command.email == f"{person}@olist.invalid"
        assert step.expect == 0, "who is known already is not overruled"


def test_what_arrived_is_reviewed_by_its_first_item_and_by_nobody_twice(tmp_path: Path) -> None:
    data = Dataset().product("p1").product("p2")
    data.order("late", buyer_id="b").review("late", 1, "2018-03-02 00:00:00")
    data.order("early", buyer_id="b").review("early", 5, "2018-03-01 00:00:00")
    data.order("other", items=(("p2", "1", "0"), ("p1", "1", "0")), buyer_id="b").review("other", 4)
    data.order("on-its-way", "shipped").review("on-its-way", 2)
    data.order("empty", items=()).review("empty", 3)
    data.order("silent")
    commands = [step.command for life in reviews(read_folder(data.write(tmp_path))) for step in life.steps]
    assert {command.order_id: command for command in commands if isinstance(command, PostReview)} == {
        "early": PostReview("p1", "b", "early", 5, ""),
        "other": PostReview("p2", "b", "other", 4, ""),
    }
