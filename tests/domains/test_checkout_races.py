"""However its messages race each other, a checkout ends with goods paid and gone, or with nothing of either."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st

from domains.inventory.stock import Dispatched, Held, Shelf, reservation_of
from domains.orders.messages import CancelOrder, OrderLine, PlaceOrder, Workflow
from domains.orders.order import Cancelled, Paid, Placed, Reserved, Shipped
from domains.payments.payment import Captured, Declined, Refunded, Unasked
from domains.processes.checkout import Idle
from domains.processes.saga import Completed, Failed
from domains.shipping.shipment import PickedUp
from tests.domains.shop import Shop
from tests.domains.strategies import up_to

MOVES_TYPICAL = 60
MOVES_MAX = 500
SCHEDULES_MAX = 50_000
ORDERS = ("o1", "o2", "o3")
SKUS = ("a", "b")

SHIPPED = "paid and shipped"
UNCHARGED = "cancelled, never charged"
REFUNDED = "cancelled, charged and refunded"


WORKFLOWS: tuple[Workflow, ...] = ("orchestrated", "choreographed")
of_both_workflows = pytest.mark.parametrize("workflow", WORKFLOWS)


def place(order_id: str, quantities: tuple[int, ...] = (1,), workflow: Workflow = "orchestrated") -> PlaceOrder:
    lines = zip(SKUS, quantities, strict=False)
    return PlaceOrder(
        order_id,
        "c1",
        "EUR",
        tuple(OrderLine(sku, "Tea", "drinks", quantity, 100) for sku, quantity in lines),
        workflow=workflow,
    )


def end_of(shop: Shop, order_id: str) -> str:
    """How an order ended, when all is quiet. Fails when that is none of the three ways in which it may."""
    order, process, payment = (each.state(order_id) for each in (shop.orders, shop.checkout, shop.payments))
    reservation = shop.inventory.state(reservation_of(order_id))
    gone, held = isinstance(reservation, Dispatched), isinstance(reservation, Held)
    carried = order_id in shop.carried
    away = gone or held or carried
    total, captured, refunded = shop.total[order_id], shop.captured[order_id], shop.refunded[order_id]
    assert not shop.deliveries(), "it is not quiet yet"
    told = shop.confirmed[order_id]
    assert told == isinstance(order, Shipped), f"{order_id} is {order}, and was confirmed {told} times"
    match order, process, payment:
        case Shipped(), Completed() | Idle(), Captured() if gone and carried and captured == total and refunded == 0:
            return SHIPPED
        case Cancelled(), Failed() | Idle(), Refunded() if not away and captured == refunded == total:
            return REFUNDED
        case Cancelled(), Failed() | Idle(), Unasked() | Declined() if not (away or captured or refunded):
            return UNCHARGED
        case _:
            figures = f"{reservation}, carried: {carried}, total: {total}, captured: {captured}, refunded: {refunded}"
            states = f"{order}, {process}, {payment}"
            raise AssertionError("\n".join([*shop.story, f"{order_id} is stuck: {states}, {figures}"]))


def check_shelves(shop: Shop) -> None:
    """What the shelves promise is what the reservations hold."""
    held: Counter[str] = Counter()
    for state in shop.inventory.states.values():
        if isinstance(state, Held):
            held.update({item.sku: item.quantity for item in state.items})
    shelves = {sku: state for sku, state in shop.inventory.states.items() if isinstance(state, Shelf)}
    assert {sku: shelf.reserved for sku, shelf in shelves.items()} == {sku: held[sku] for sku in shelves}
    assert all(shelf.available >= 0 for shelf in shelves.values())


def every_schedule(open_shop: Callable[[], Shop], crashes_max: int) -> Iterator[Shop]:
    """The shop at the end of each order in which its readers can deliver, and crash."""
    choices: list[int] = []  # Which of the possible moves was made, one after the other.
    for _ in range(SCHEDULES_MAX):
        shop, options = open_shop(), list[int]()
        crashes = 0
        while moves := shop.deliveries():
            deliveries = len(moves)
            if crashes < crashes_max:
                moves += shop.crashes()
            if len(options) == len(choices):
                choices.append(0)
            choice = choices[len(options)]
            moves[choice]()
            crashes += choice >= deliveries
            options.append(len(moves))
        yield shop
        while choices and choices[-1] + 1 == options[len(choices) - 1]:
            choices.pop()
        if not choices:
            return
        choices[-1] += 1
    raise AssertionError(f"more than {SCHEDULES_MAX} schedules")


@pytest.mark.parametrize(
    ("trouble", "cancels", "crashes_max", "ends"),
    [
        ("", False, 0, {SHIPPED}),
        ("no card", False, 1, {UNCHARGED}),
        ("no stock", False, 1, {UNCHARGED}),
        ("no carrier", False, 0, {REFUNDED}),
        ("no card", True, 0, {UNCHARGED}),
        ("no stock", True, 1, {UNCHARGED}),
    ],
)
def test_one_order_ends_well_in_every_possible_schedule(
    trouble: str, cancels: bool, crashes_max: int, ends: set[str]
) -> None:
    def open_shop() -> Shop:
        stock = {} if trouble == "no stock" else {"a": 1}
        declining = ("o1",) if trouble == "no card" else ()
        shop = Shop(stock, declining, uncarried=("o1",) if trouble == "no carrier" else ())
        shop.customer(place("o1"), cancels=cancels)
        return shop

    reached = set()
    for shop in every_schedule(open_shop, crashes_max):
        reached.add(end_of(shop, "o1"))
        check_shelves(shop)
    assert reached == ends


@pytest.mark.parametrize(("is_carried", "ends"), [(True, {REFUNDED, SHIPPED}), (False, {REFUNDED})])
def test_a_paid_order_that_is_cancelled_ends_well_in_every_possible_schedule(is_carried: bool, ends: set[str]) -> None:
    def open_shop() -> Shop:
        shop = Shop({"a": 1}, uncarried=() if is_carried else ("o1",))
        shop.customer(place("o1"))
        while not isinstance(shop.orders.state("o1"), Paid):
            shop.deliveries()[0]()
        shop.customer_cancels("o1")
        return shop

    reached = set()
    for shop in every_schedule(open_shop, crashes_max=0):
        reached.add(end_of(shop, "o1"))
        check_shelves(shop)
    assert reached == ends


class Fate(NamedTuple):
    """What becomes of one order: by the world outside, by its customer, who may cancel it when it is so far, and by who
    answers nothing until every deadline is over."""

    in_stock: bool
    card_is_good: bool
    is_carried: bool
    cancelled_when: type | None
    silent: str


class End(NamedTuple):
    """What counts. A charge that was given back, or a pickup that was called off, may with the other workflow never
    have been asked for: how far the services are when an order is cancelled is a race."""

    order: type
    reservation: type
    shelf: Shelf
    kept_cents: int
    shipped: bool
    carried: bool
    confirmed: int


def lived(fate: Fate, workflow: Workflow, schedule: list[int]) -> End:
    shop = Shop(
        {"a": 1} if fate.in_stock else {},
        declining=() if fate.card_is_good else ("o1",),
        uncarried=() if fate.is_carried else ("o1",),
        silent=(fate.silent,) if fate.silent else (),
    )
    shop.customer(place("o1", workflow=workflow))
    cancels, late = fate.cancelled_when, 0
    for choice in chain(schedule, repeat(0, MOVES_MAX)):
        moves = shop.deliveries()
        if not moves and shop.late():
            late += 1
            continue
        if not moves and shop.silent:
            shop.wake_up()
            continue
        if not moves:
            break
        moves[choice % len(moves)]()
        if cancels is not None and type(shop.orders.state("o1")) is cancels:
            shop.orders_hears(CancelOrder("o1", "no more"))
            cancels = None
    end_of(shop, "o1")
    assert not late or fate.silent, "whoever answers is not waited for in vain"
    check_shelves(shop)
    shelf = shop.inventory.state("a")
    assert isinstance(shelf, Shelf)
    return End(
        order=type(shop.orders.state("o1")),
        reservation=type(shop.inventory.state(reservation_of("o1"))),
        shelf=shelf,
        kept_cents=shop.captured["o1"] - shop.refunded["o1"],
        shipped=isinstance(shop.shipping.state("o1"), PickedUp),
        carried="o1" in shop.carried,
        confirmed=shop.confirmed["o1"],
    )


fates = st.builds(
    Fate,
    in_stock=st.booleans(),
    card_is_good=st.booleans(),
    is_carried=st.booleans(),
    cancelled_when=st.sampled_from([None, None, Placed, Reserved, Paid]),
    silent=st.sampled_from(["", "inventory", "provider", "carrier"]),
)


@hypothesis.settings(derandomize=True, max_examples=120, deadline=None)
@hypothesis.given(fate=fates, schedules=st.tuples(*[up_to(MOVES_TYPICAL, st.integers(0, 99))] * 2))
def test_with_and_without_a_conductor_an_order_comes_to_the_same_end(
    fate: Fate, schedules: tuple[list[int], list[int]]
) -> None:
    orchestrated, choreographed = (lived(fate, *each) for each in zip(WORKFLOWS, schedules, strict=True))
    assert orchestrated == choreographed


@of_both_workflows
@pytest.mark.parametrize("silent", ["inventory", "provider", "carrier"])
def test_an_answer_that_does_not_come_in_time_ends_the_order_and_comes_to_nothing_when_it_comes(
    workflow: Workflow, silent: str
) -> None:
    end = lived(Fate(True, True, True, None, silent), workflow, [])
    assert (end.order, end.kept_cents, end.carried, end.confirmed) == (Cancelled, 0, False, 0)
    assert end.shelf == Shelf(on_hand=1, reserved=0)


class Customer(NamedTuple):
    quantities: tuple[int, ...]
    """Of each SKU."""
    cancels: bool
    card_is_good: bool
    is_carried: bool


quantities = st.sampled_from([(1,), (2,), (1, 1), (2, 1), (1, 2)])
customer = st.builds(Customer, quantities, st.booleans(), st.booleans(), st.booleans())


@of_both_workflows
def test_orders_that_compete_for_stock_end_well_whatever_crashes(workflow: Workflow) -> None:
    reached: set[str] = set()

    @hypothesis.settings(derandomize=True, max_examples=400, deadline=None)
    @hypothesis.given(
        stock=st.fixed_dictionaries({sku: st.integers(1, 4) for sku in SKUS}),
        customers=st.fixed_dictionaries(dict.fromkeys(ORDERS, customer)),
        schedule=up_to(MOVES_TYPICAL, st.integers(0, 99)),
        crashes=st.sets(st.integers(0, MOVES_TYPICAL), max_size=3),
    )
    def race(stock: dict[str, int], customers: dict[str, Customer], schedule: list[int], crashes: set[int]) -> None:
        shop = Shop(
            stock,
            declining=[order_id for order_id, each in customers.items() if not each.card_is_good],
            uncarried=[order_id for order_id, each in customers.items() if not each.is_carried],
        )
        for order_id, each in customers.items():
            shop.customer(place(order_id, each.quantities, workflow), cancels=each.cancels)
        for number, choice in enumerate(chain(schedule, repeat(0, MOVES_MAX))):
            moves = shop.deliveries()
            if not moves:
                break
            if number in crashes:
                moves = shop.crashes() or moves
            moves[choice % len(moves)]()
        reached.update(end_of(shop, order_id) for order_id in ORDERS)
        check_shelves(shop)

    race()
    assert reached == {SHIPPED, UNCHARGED, REFUNDED}
