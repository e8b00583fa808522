"""What asks the provider is killed between reservation and charge: before, while and after the provider does it. Orders
of both workflows come to their end by themselves, each is charged once, and no stock is lost.

`just scenario crash-mid-checkout` does so a hundred times, with the payments in a process of their own.
"""

from __future__ import annotations

import os
import signal

import pytest

from gateway.sandbox.provider import SLOW_S
from tests.journeys.books import balanced
from tests.journeys.test_crashes import pid_of
from tests.system import Shop, System, unique, until

WORKFLOWS = ("orchestrated", "choreographed")


@pytest.mark.parametrize(("moment", "token"), [("before", "tok_ok"), ("during", "tok_slow"), ("after", "tok_slow")])
def test_a_crash_between_reservation_and_charge(system: System, shop: Shop, moment: str, token: str) -> None:
    sku, customer_id = shop.product(units=5, price_cents=400), unique("customer")
    before, workers, provider = system.ledger(), [pid_of(system, "processes")], pid_of(system, "provider worker")
    if moment == "before":
        os.kill(provider, signal.SIGSTOP)
    try:
        placed = [
            shop.place(sku, 2, workflow=workflow, payment_token=token, customer_id=customer_id)["order_id"]
            for workflow in WORKFLOWS
        ]
        until(lambda: set(placed) <= _orders(system, "PaymentRequested"), "both requests for money")
        if moment == "after":
            until(lambda: _charged(system, workers[0], before["charges"] + 2), "both charges")
        else:
            until(lambda: shop.stock(sku) == (5, 4, 1), "both reservations")
        if moment == "during":
            workers.append(pid_of(system, "commands"))
        assert not _orders(system, "PaymentCaptured") & set(placed)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.kill(provider, signal.SIGCONT)
    assert [shop.settled(order_id)["status"] for order_id in placed] == ["shipped", "shipped"]
    assert len(balanced(shop, customer_id)) == 2
    after = system.ledger()
    assert (after["charges"] - before["charges"], after["captured_cents"] - before["captured_cents"]) == (2, 1_600)
    assert shop.stock(sku) == (1, 0, 1)
    assert pid_of(system, "processes") not in workers


def _charged(system: System, worker: int, charges: int) -> bool:
    """Whether the provider has made so many, while who asked for them was frozen. Where it froze too early, and has not
    asked yet, it goes on for a moment."""
    os.kill(worker, signal.SIGSTOP)
    try:
        until(lambda: system.ledger()["charges"] == charges, "the charges", patience_s=2 * SLOW_S)
    except AssertionError:
        os.kill(worker, signal.SIGCONT)
        return False
    return True


def _orders(system: System, what: str) -> set[str]:
    """Of which the payments say this."""
    events = (event for commit in system.inside.commits("payments") for event in commit.events)
    return {event["order_id"] for event in events if event["type"] == what}
