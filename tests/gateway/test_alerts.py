"""Stock that runs low: the administrators are told by mail, once until there was enough in between."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from bus.queues.work_queue import Job
from bus.reactors.reactor import Again
from gateway.effects.alerts import AlertMails, LowStock
from gateway.effects.mail import Mailer
from tests.gateway.asserts import problem
from tests.gateway.test_mail import SHOP, Post, mailer, post
from tests.system import Json, Shop, tally, unique, until

__all__ = ["mailer", "post"]

low = LowStock("tea", 2, 3, datetime(2026, 11, 21, tzinfo=UTC))
job = Job("inventory-7-2", msgspec.json.encode(low))


def mails_about(shop: Shop, sku: str) -> list[Json]:
    told = tally(shop.system.folder, "mail", "list", "--limit", "10000", "--json")
    assert told.returncode == 0, told.stderr
    return [each for each in json.loads(told.stdout) if each["subject"] == f"Low stock: {sku}"]


def told(shop: Shop, sku: str) -> list[int]:
    """How many units were available each time that the inventory said that they are few."""
    commits = shop.system.inside.commits("inventory")
    events = [event for commit in commits for event in commit.events if event["type"] == "StockRanLow"]
    return [event["available"] for event in events if event["sku"] == sku]


def test_the_administrators_are_told_once_until_there_was_enough_in_between(shop: Shop, staff: httpx.Client) -> None:
    sku = shop.product(units=4)
    answer = staff.put(f"/v1/stock/{sku}/alert", json={"low_at": 3})
    assert (answer.status_code, answer.json()) == (200, {"sku": sku, "low_at": 3})
    for quantity in (1, 1, 1):  # Three are left, two, one.
        shop.settled(shop.place(sku, quantity)["order_id"])
    assert told(shop, sku) == [2]
    (mail,) = until(lambda: mails_about(shop, sku), "the mail")
    assert mail["recipient"] == "admin@tallystream.example"

    assert staff.post(f"/v1/stock/{sku}/receipts", json={"receipt_id": "more", "quantity": 9}).status_code == 201
    shop.settled(shop.place(sku, 10)["order_id"])
    assert told(shop, sku) == [2, 0]
    until(lambda: len(mails_about(shop, sku)) == 2, "the second mail")
    assert len({each["message_id"] for each in mails_about(shop, sku)}) == 2
    shop.system.quiet()
    assert shop.stock(sku) == (0, 0, 0)


def test_who_watches_is_staff_and_what_is_a_product(staff: httpx.Client, customer: httpx.Client, shop: Shop) -> None:
    path = f"/v1/stock/{shop.product()}/alert"
    problem(customer.put(path, json={"low_at": 3}), 403, "forbidden")
    problem(staff.put(path, json={"low_at": -1}), 422, "malformed", "/low_at")
    problem(staff.put(path, json={}), 422, "malformed")
    problem(staff.put(f"/v1/stock/{unique('no')}/alert", json={"low_at": 3}), 404, "product_unknown")


async def test_an_alert_says_the_same_each_time_and_to_all_who_can_be_reached(mailer: Mailer, post: Post) -> None:
    alerts = AlertMails(mailer, SHOP, ("a@x.example", "refused@x.example", "b@x.example"))
    with pytest.raises(Again):
        await alerts.send(job)
    await post.open()
    await alerts.send(job)
    await alerts.send(job)
    got = [(mail.recipient, mail.message_id) for mail in post.got()]
    assert got == [(f"{who}@x.example", "<alert.inventory-7-2@shop.example>") for who in ("a", "b", "a", "b")]


async def test_where_nobody_is_named_or_can_be_reached_the_job_is_done_and_told(
    mailer: Mailer, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await post.open()
    await AlertMails(mailer, SHOP, ()).send(job)
    assert "TALLY_ALERTS_TO" in caplog.text
    await AlertMails(mailer, SHOP, ("refused@x.example",)).send(job)
    assert "nobody could be told that tea runs low" in caplog.text
    assert post.got() == []
