"""The checkout, from an order over HTTP until it is settled: paid, or cancelled with stock and money given back."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import httpx
import pytest

from tests.journeys.books import balanced
from tests.system import Shop, System, order_of, unique


def test_a_plain_order_is_paid_and_its_stock_kept_for_it(shop: Shop) -> None:
    sku = shop.product(units=10, price_cents=250)
    order = shop.settled(shop.place(sku, 3)["order_id"])
    assert (order["status"], order["captured_cents"], order["reason"]) == ("paid", 750, None)
    assert (order["payment"]["status"], order["payment"]["captured_cents"]) == ("captured", 750)
    balanced(shop)
    assert shop.stock(sku) == (10, 3, 7)


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
    assert shop.settled(shop.place(sku, lines=one)["order_id"])["status"] == "paid"
    balanced(shop)
    assert shop.stock(sku) == (3, 3, 0)


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
    assert (order["status"], order["captured_cents"]) == ("paid", 321)
    balanced(shop)
    after = shop.system.ledger()
    assert after["charges"] - before["charges"] == 1
    assert after["captured_cents"] - before["captured_cents"] == 321


def test_a_cancelled_paid_order_is_refunded_and_its_stock_given_back(shop: Shop) -> None:
    sku = shop.product(units=4, price_cents=500)
    order_id = shop.settled(shop.place(sku, 4)["order_id"])["order_id"]
    answer = shop.http.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "changed my mind"})
    assert answer.status_code == 200
    order = shop.settled(order_id)
    assert (order["status"], order["reason"]) == ("cancelled", "changed my mind")
    assert (order["payment"]["status"], order["payment"]["refunded_cents"]) == ("refunded", 2_000)
    balanced(shop)
    assert shop.stock(sku) == (4, 0, 4)


async def test_cancelled_at_any_moment_nothing_is_held_and_nothing_is_owed(system: System, shop: Shop) -> None:
    sku, customer_id, chance = shop.product(units=1_000), unique("customer"), random.Random(2)
    tokens = ["tok_ok", "tok_ok", "tok_flaky", "tok_lost_answer", "tok_declined"]

    async with httpx.AsyncClient(**system.options("staff", "staff-1")) as http:

        async def change_of_mind(number: int, after_s: float) -> None:
            body = order_of(sku, customer_id=customer_id, payment_token=tokens[number % len(tokens)])
            placed = await http.post("/v1/orders", json=body)
            assert placed.status_code == 201
            await asyncio.sleep(after_s)
            path = f"{placed.headers['Location']}/cancellation"
            cancelled = await http.post(path, json={"reason": "changed my mind"})
            assert cancelled.status_code == 200, cancelled.text

        await asyncio.gather(
            *(change_of_mind(number, chance.choice((0, chance.uniform(0, 0.3)))) for number in range(30))
        )
    orders = await asyncio.to_thread(balanced, shop, customer_id)
    assert len(orders) == 30
    assert {order["status"] for order in orders} == {"cancelled"}
    assert shop.stock(sku) == (1_000, 0, 1_000)


async def test_64_clients_after_the_last_10_pieces_get_exactly_10(system: System, shop: Shop) -> None:
    sku, customer_id = shop.product(units=10), unique("customer")
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(**system.options("staff", "staff-1"), limits=limits) as http:
        body = order_of(sku, customer_id=customer_id)
        answers = await asyncio.gather(*(http.post("/v1/orders", json=body) for _ in range(64)))
    assert {answer.status_code for answer in answers} == {201}
    orders = await asyncio.to_thread(balanced, shop, customer_id)
    ends = Counter((order["status"], order["reason"]) for order in orders)
    assert ends == {("paid", None): 10, ("cancelled", "out_of_stock"): 54}
    assert shop.stock(sku) == (10, 10, 0)
