"""Money is conserved whatever happens to orders, all at once and at random moments."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import httpx

from tests.journeys.books import balanced
from tests.system import Shop, System, order_of, tally, unique

ORDERS = 60
PAYMENTS = ("tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_lost_answer", "tok_flaky")
CARRIERS = ("ship_ok", "ship_ok", "ship_refused", "ship_later", "ship_lost_answer", "ship_flaky")


async def test_what_was_captured_is_given_back_or_kept_by_shipped_or_open_orders(system: System, shop: Shop) -> None:
    chance, customer_id = random.Random(5), unique("customer")
    skus = [shop.product(units=30, price_cents=100 + number) for number in range(4)]

    async with httpx.AsyncClient(**system.options("admin", "admin-1")) as http:

        async def one() -> None:
            body = order_of(
                chance.choice(skus),
                chance.randint(1, 2),
                customer_id=customer_id,
                payment_token=chance.choice(PAYMENTS),
                shipping_token=chance.choice(CARRIERS),
            )
            order_id = (await http.post("/v1/orders", json=body)).json()["order_id"]
            await asyncio.sleep(chance.uniform(0, 0.3))
            calls: tuple[tuple[str, dict[str, str]], ...] = (
                (f"/v1/orders/{order_id}/cancellation", {"reason": "r"}),
                (f"/v1/processes/{order_id}/compensate", {"reason": "r"}),
                (f"/v1/processes/{order_id}/retry", {"reason": "r"}),
            )
            if body["shipping_token"] == "ship_later":  # The others' carrier has a number of its own for it.
                calls += ((f"/v1/shipments/{order_id}/pickup", {"tracking_id": "t"}),)
            path, reason = chance.choice(calls)
            for _ in range(chance.randint(0, 2)):
                assert (await http.post(path, json=reason)).status_code in (200, 404, 409)

        await asyncio.gather(*(one() for _ in range(ORDERS)))
    orders = await asyncio.to_thread(balanced, shop, customer_id)
    assert len(orders) == ORDERS
    ends = Counter(order["status"] for order in orders)
    assert set(ends) >= {"shipped", "cancelled"}
    told = tally(system.folder, "doctor", "books")
    assert (told.returncode, told.stdout) == (0, "the books are balanced\n")
