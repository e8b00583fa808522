"""What logs, provider and carrier hold of some orders, held against each other order by order and commit by commit."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.system import Json, System

CONFIRMED = {"shipped", "delivered"}


def audited(system: System, orders: Collection[Json]) -> None:
    """Of orders that are at their end. No shelf ever promised or lost what was not there; each was charged, refunded
    and picked up at most once, by us and at the provider and the carrier, which agree; and each that came to
    something was confirmed to its customer once, none that was never paid."""
    _stock_was_never_short(system)
    ids = {order["order_id"] for order in orders}
    assert len(ids) == len(orders)
    _paid_once(system, ids)
    _picked_up_once(system, ids)
    _confirmed_once(system, orders)


def _stock_was_never_short(system: System) -> None:
    """After every event of the log."""
    on_hand: Counter[str] = Counter()
    reserved: Counter[str] = Counter()
    for event in _events(system, "inventory"):
        sku, units = event.get("sku", ""), event.get("quantity", 0)
        match event["type"]:
            case "StockReceived":
                on_hand[sku] += units
            case "ItemReserved":
                reserved[sku] += units
            case "ItemReleased":
                reserved[sku] -= units
            case "ItemDispatched":
                reserved[sku] -= units
                on_hand[sku] -= units
        assert 0 <= reserved[sku] <= on_hand[sku], event


def _paid_once(system: System, ids: set[str]) -> None:
    ours: dict[str, tuple[str, int]] = {}
    for event in _events(system, "payments"):
        if event["order_id"] not in ids:
            continue
        match event["type"]:
            case "PaymentCaptured":
                key, what = f"charge-{event['order_id']}", ("captured", event["amount_cents"])
            case "PaymentDeclined":
                key, what = f"charge-{event['order_id']}", ("declined", 0)
            case "PaymentRefunded":
                key, what = f"refund-{event['order_id']}", ("refunded", event["amount_cents"])
            case _:
                continue
        assert key not in ours, f"{key} was told twice"
        ours[key] = what
    rows = _asked(system.folder / "provider.db", "SELECT key, status, amount_cents FROM operation")
    theirs = {key: (status, cents) for key, status, cents in rows if key.partition("-")[2] in ids}
    assert theirs == ours


def _picked_up_once(system: System, ids: set[str]) -> None:
    ours: Counter[str] = Counter(
        event["order_id"] for event in _events(system, "shipping") if event["type"] == "ShipmentPickedUp"
    )
    assert set(ours.values()) <= {1}
    sql = """
        SELECT order_id FROM operation WHERE kind = 'pickup' AND status = 'picked_up'
            AND order_id NOT IN (SELECT order_id FROM operation WHERE kind = 'cancellation')
    """
    theirs = {order_id for (order_id,) in _asked(system.folder / "carrier.db", sql)}
    recalled = {event["order_id"] for event in _events(system, "shipping") if event["type"] == "ShipmentCancelled"}
    assert theirs & ids <= ours.keys() - recalled


def _confirmed_once(system: System, orders: Collection[Json]) -> None:
    told: dict[str, list[str]] = defaultdict(list)
    for event in _events(system, "notifications"):
        told[event["order_id"]].append(event["type"])
    for order in orders:
        notice = [what for what in told[order["order_id"]] if what != "OrderNoted"]
        if order["status"] in CONFIRMED or notice:
            assert order["paid_at"] is not None, order
            assert notice[:1] == ["NoticeRequested"], (order, notice)
            assert notice[1:] in (["NoticeSent"], ["NoticeFailed"], ["NoticeFailed", "NoticeSent"]), (order, notice)


def _events(system: System, domain: str) -> list[Json]:
    return [event for commit in system.inside.commits(domain) for event in commit.events]


def _asked(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        return database.execute(sql).fetchall()
