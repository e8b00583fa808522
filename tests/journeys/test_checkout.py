"""The checkout, from an order over HTTP until it is settled: shipped, or cancelled with stock and money given back."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import httpx
import pytest

from bus.commands import Stored
from domains.orders.messages import EndOverdue
from domains.processes.messages import DeadlinePassed
from tests.journeys.books import balanced
from tests.system import Json, Shop, System, order_of, unique, until


def test_a_plain_order_is_shipped_and_its_goods_leave_the_stock(shop: Shop) -> None:
    sku = shop.product(units=10, price_cents=250)
    order = shop.settled(shop.place(sku, 3)["order_id"])
    assert (order["status"], order["captured_cents"], order["reason"]) == ("shipped", 750, None)
    assert (order["payment"]["status"], order["payment"]["captured_cents"]) == ("captured", 750)
    assert (order["shipment"]["status"], order["shipment"]["units"]) == ("picked_up", 3)
    balanced(shop)
    assert shop.stock(sku) == (7, 0, 7)


def test_without_a_conductor_orders_come_to_the_same_ends(shop: Shop) -> None:
    sku, scarce = shop.product(units=10, price_cents=300), shop.product(units=1)
    alone: Json = {"workflow": "choreographed"}
    plain = shop.settled(shop.place(sku, 2, **alone)["order_id"])
    assert (plain["status"], plain["captured_cents"], plain["workflow"]) == ("shipped", 600, "choreographed")
    too_many = shop.settled(shop.place(scarce, 2, **alone)["order_id"])
    declined = shop.settled(shop.place(sku, payment_token="tok_declined", **alone)["order_id"])
    uncarried = shop.settled(shop.place(sku, shipping_token="ship_refused", **alone)["order_id"])
    held = shop.held(sku, 3, **alone)
    slow = shop.place(sku, payment_token="tok_slow", **alone)
    for order_id in (held["order_id"], slow["order_id"]):
        cancelled = shop.http.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "changed my mind"})
        assert cancelled.status_code == 200
    ends = [too_many, declined, uncarried, shop.settled(held["order_id"]), shop.settled(slow["order_id"])]
    assert [(order["status"], order["reason"]) for order in ends] == [
        ("cancelled", "out_of_stock"),
        ("cancelled", "payment_declined"),
        ("cancelled", "shipment_refused"),
        ("cancelled", "changed my mind"),
        ("cancelled", "changed my mind"),
    ]
    assert shop.http.post(f"/v1/shipments/{plain['order_id']}/delivery").status_code == 200
    balanced(shop)
    assert shop.order(plain["order_id"])["status"] == "delivered"
    assert shop.stock(sku) == (8, 0, 8)


def test_stock_that_comes_in_meanwhile_is_counted_and_kept_apart(shop: Shop) -> None:
    sku = shop.product(units=3)
    held = shop.held(sku, 3)
    assert shop.stock(sku) == (3, 3, 0)
    shop.receive(sku, 4)
    pickup = f"/v1/shipments/{held['order_id']}/pickup"
    assert shop.http.post(pickup, json={"tracking_id": "t-1"}).status_code == 200
    assert shop.settled(held["order_id"])["shipment"]["tracking_id"] == "t-1"
    balanced(shop)
    assert shop.stock(sku) == (4, 0, 4)


def test_a_parcel_that_nobody_carries_gives_money_and_stock_back(shop: Shop) -> None:
    sku = shop.product(units=2, price_cents=700)
    order = shop.settled(shop.place(sku, 2, shipping_token="ship_refused")["order_id"])
    assert (order["status"], order["reason"]) == ("cancelled", "shipment_refused")
    assert (order["payment"]["refunded_cents"], order["shipment"]["refusal_code"]) == (1_400, "not_carried")
    balanced(shop)
    assert shop.stock(sku) == (2, 0, 2)


@pytest.mark.parametrize("token", ["ship_lost_answer", "ship_flaky"])
def test_a_carrier_in_trouble_picks_up_once(shop: Shop, token: str) -> None:
    sku = shop.product(units=5)
    shop.system.quiet()
    before = shop.system.parcels()
    assert shop.settled(shop.place(sku, shipping_token=token)["order_id"])["status"] == "shipped"
    balanced(shop)
    assert shop.system.parcels()["picked_up"] - before["picked_up"] == 1


def test_the_carriers_call_delivers_an_order(shop: Shop) -> None:
    order_id = shop.settled(shop.place(shop.product(units=1))["order_id"])["order_id"]
    delivery = f"/v1/shipments/{order_id}/delivery"
    assert [shop.http.post(delivery).status_code for _ in range(2)] == [200, 200]
    shop.system.quiet()
    shop.caught_up()
    order = shop.order(order_id)
    assert (order["status"], order["shipment"]["status"]) == ("delivered", "delivered")
    balanced(shop)


@pytest.mark.parametrize("workflow", ["orchestrated", "choreographed"])
def test_a_checkout_that_takes_long_has_one_timer_and_one_that_ended_has_none(shop: Shop, workflow: str) -> None:
    sku, inside = shop.product(units=5), shop.system.inside
    held = shop.held(sku, workflow=workflow)["order_id"]
    shipped = shop.settled(shop.place(sku, workflow=workflow)["order_id"])["order_id"]
    declined = shop.settled(shop.place(sku, workflow=workflow, payment_token="tok_declined")["order_id"])["order_id"]
    until(lambda: held in inside.timers(), "the timer")
    assert inside.timers() & {held, shipped, declined} == {held}
    assert shop.http.post(f"/v1/orders/{held}/cancellation", json={"reason": "r"}).status_code == 200
    shop.settled(held)
    until(lambda: held not in inside.timers(), "the timer's end")


@pytest.mark.parametrize("workflow", ["orchestrated", "choreographed"])
def test_a_payment_that_is_answered_after_its_deadline_is_refunded(shop: Shop, workflow: str) -> None:
    sku = shop.product(units=1, price_cents=400)
    order_id = shop.place(sku, payment_token="tok_slow", workflow=workflow)["order_id"]
    path = f"/v1/orders/{order_id}"
    until(lambda: shop.http.get(path).json().get("status") == "reserved", "the reservation")
    conducted = workflow == "orchestrated"
    late = DeadlinePassed(order_id, "charge", 1) if conducted else EndOverdue(order_id, "OrderReserved")
    assert isinstance(shop.system.inside.send(late), Stored)
    order = shop.settled(order_id)
    assert (order["status"], order["reason"]) == ("cancelled", "payment_timeout")
    balanced(shop)
    payment = shop.order(order_id)["payment"]
    assert (payment["captured_cents"], payment["refunded_cents"]) == (400, 400)
    assert shop.stock(sku) == (1, 0, 1)


def test_an_order_for_more_than_there_is_gets_nothing(shop: Shop) -> None:
    enough, few = shop.product(units=10), shop.product(units=2)
    lines = [{"sku": enough, "quantity": 1}, {"sku": few, "quantity": 3}]
    order = shop.settled(shop.place(few, lines=lines)["order_id"])
    assert (order["status"], order["reason"], order["payment"]) == ("cancelled", "out_of_stock", None)
    balanced(shop)
    assert shop.stock(enough) == (10, 0, 10)
    assert shop.stock(few) == (2, 0, 2)


def test_two_lines_of_one_product_are_counted_together(shop: Shop) -> None:
    sku = shop.product(units=3)
    two = [{"sku": sku, "quantity": 2}, {"sku": sku, "quantity": 2}]
    assert shop.settled(shop.place(sku, lines=two)["order_id"])["reason"] == "out_of_stock"
    one = [{"sku": sku, "quantity": 1}, {"sku": sku, "quantity": 2}]
    assert shop.settled(shop.place(sku, lines=one)["order_id"])["status"] == "shipped"
    balanced(shop)
    assert shop.stock(sku) == (0, 0, 0)


def test_a_declined_card_gives_the_stock_back(shop: Shop) -> None:
    sku = shop.product(units=2)
    order = shop.settled(shop.place(sku, 2, payment_token="tok_declined")["order_id"])
    assert (order["status"], order["reason"]) == ("cancelled", "payment_declined")
    assert order["payment"]["status"] == "declined"
    balanced(shop)
    assert shop.stock(sku) == (2, 0, 2)


@pytest.mark.parametrize("token", ["tok_lost_answer", "tok_flaky"])
def test_a_provider_in_trouble_takes_the_money_once(shop: Shop, token: str) -> None:
    sku = shop.product(units=5, price_cents=321)
    shop.system.quiet()
    before = shop.system.ledger()
    order = shop.settled(shop.place(sku, payment_token=token)["order_id"])
    assert (order["status"], order["captured_cents"]) == ("shipped", 321)
    balanced(shop)
    after = shop.system.ledger()
    assert after["charges"] - before["charges"] == 1
    assert after["captured_cents"] - before["captured_cents"] == 321


def test_a_paid_order_that_is_cancelled_is_called_off_refunded_and_its_stock_given_back(shop: Shop) -> None:
    sku = shop.product(units=4, price_cents=500)
    order_id = shop.held(sku, 4)["order_id"]
    answer = shop.http.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "changed my mind"})
    assert answer.status_code == 200
    order = shop.settled(order_id)
    assert (order["status"], order["reason"]) == ("cancelled", "changed my mind")
    assert (order["payment"]["status"], order["payment"]["refunded_cents"]) == ("refunded", 2_000)
    assert order["shipment"]["status"] == "cancelled"
    balanced(shop)
    assert shop.stock(sku) == (4, 0, 4)


async def test_cancelled_at_any_moment_nothing_is_held_and_nothing_is_owed(system: System, shop: Shop) -> None:
    sku, customer_id, chance = shop.product(units=1_000), unique("customer"), random.Random(2)
    tokens = ["tok_ok", "tok_ok", "tok_flaky", "tok_lost_answer", "tok_declined"]
    carriers = ["ship_ok", "ship_later", "ship_flaky"]

    ends: Counter[int] = Counter()
    async with httpx.AsyncClient(**system.options("staff", "staff-1")) as http:

        async def change_of_mind(number: int, after_s: float) -> None:
            token, carrier = tokens[number % len(tokens)], carriers[number % len(carriers)]
            body = order_of(sku, customer_id=customer_id, payment_token=token, shipping_token=carrier)
            placed = await http.post("/v1/orders", json=body)
            assert placed.status_code == 201
            await asyncio.sleep(after_s)
            path = f"{placed.headers['Location']}/cancellation"
            cancelled = await http.post(path, json={"reason": "changed my mind"})
            too_late = cancelled.status_code == 409 and cancelled.json()["code"] == "order_already_shipped"
            assert cancelled.status_code == 200 or too_late, cancelled.text
            ends[cancelled.status_code] += 1

        await asyncio.gather(
            *(change_of_mind(number, chance.choice((0, chance.uniform(0, 0.3)))) for number in range(30))
        )
    orders = await asyncio.to_thread(balanced, shop, customer_id)
    assert len(orders) == 30
    shipped = sum(order["status"] == "shipped" for order in orders)
    assert shipped == ends[409] < 30
    assert shop.stock(sku) == (1_000 - shipped, 0, 1_000 - shipped)


async def test_64_clients_after_the_last_10_pieces_get_exactly_10(system: System, shop: Shop) -> None:
    sku, customer_id = shop.product(units=10), unique("customer")
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(**system.options("staff", "staff-1"), limits=limits) as http:
        body = order_of(sku, customer_id=customer_id)
        answers = await asyncio.gather(*(http.post("/v1/orders", json=body) for _ in range(64)))
    assert {answer.status_code for answer in answers} == {201}
    orders = await asyncio.to_thread(balanced, shop, customer_id)
    ends = Counter((order["status"], order["reason"]) for order in orders)
    assert ends == {("shipped", None): 10, ("cancelled", "out_of_stock"): 54}
    assert shop.stock(sku) == (0, 0, 0)
