"""What an order that goes well costs the broker when nothing else is under way, message by message."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.system import Shop

CHECKOUT = {"orders": 4, "inventory": 2, "payments": 2, "shipping": 2, "notifications": 2}
"""Placed, reserved, paid, shipped; reserved, dispatched; requested, captured; scheduled, picked up; requested, sent."""
CONDUCTED = {"checkout": 5}
"""Where there is a conductor: an input each, placed, reserved, captured, picked up, shipped."""
BESIDE = {"billing": 2, "loyalty": 2, "reviews": 1}
"""What other services note when it is placed, and do when it is paid."""


@pytest.mark.parametrize(("workflow", "conducted"), [("choreographed", {}), ("orchestrated", CONDUCTED)])
def test_an_order_that_is_shipped_takes_just_these_messages(
    shop: Shop, workflow: str, conducted: dict[str, int]
) -> None:
    sku = shop.product(units=1)
    shop.system.quiet()
    shop.system.holds_no_alarm()  # Of those who were here before.
    before, timers = shop.system.inside.heads(), shop.system.inside.timers_set()
    shop.settled(shop.place(sku, workflow=workflow)["order_id"])
    shop.system.quiet()
    now = shop.system.inside.heads()
    assert {name: now[name] - before[name] for name in now if now[name] > before[name]} == {
        **CHECKOUT,
        **conducted,
        **BESIDE,
    }
    assert shop.system.inside.timers_set() == timers


def test_a_choreographed_checkout_takes_twelve_and_a_conducted_one_five_more() -> None:
    assert (Counter(CHECKOUT).total(), Counter(CONDUCTED).total(), Counter(BESIDE).total()) == (12, 5, 5)
