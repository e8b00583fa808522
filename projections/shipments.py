"""Where the goods of each order are: promised by the carrier, on their way, called back, delivered."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from domains.shipping.messages import (
    ShipmentCancelled,
    ShipmentDelivered,
    ShipmentItem,
    ShipmentPickedUp,
    ShipmentRecalled,
    ShipmentRecorded,
    ShipmentRefused,
    ShipmentScheduled,
)
from projections.projection import Fact, Projection, Statement, bound
from projections.reader import Query

_SCHEDULED = """
INSERT INTO shipment VALUES (:order_id, 'scheduled', :units, NULL, NULL, :version, :at, NULL, NULL)
"""
_RECORDED = """
INSERT INTO shipment VALUES (:order_id, 'picked_up', :units, NULL, NULL, :version, :at, :at, NULL)
"""
_MOVE = "UPDATE shipment SET status = '{}', version = :version{} WHERE order_id = :order_id"


def _units(items: tuple[ShipmentItem, ...]) -> int:
    return sum(item.quantity for item in items)


def _scheduled(fact: Fact) -> Iterable[Statement]:
    scheduled = fact.event
    assert isinstance(scheduled, ShipmentScheduled)
    yield bound(_SCHEDULED, fact, units=_units(scheduled.items))


def _recorded(fact: Fact) -> Iterable[Statement]:
    recorded = fact.event
    assert isinstance(recorded, ShipmentRecorded)
    yield bound(_RECORDED, fact, units=_units(recorded.items))


shipments = Projection(
    name="shipments",
    version=1,
    stream="shipping",
    key="order_id",
    schema="""
    CREATE TABLE shipment (
        order_id TEXT PRIMARY KEY, status TEXT NOT NULL, units INTEGER NOT NULL, tracking_id TEXT, refusal_code TEXT,
        version INTEGER NOT NULL, scheduled_at TEXT NOT NULL, picked_up_at TEXT, delivered_at TEXT
    ) STRICT, WITHOUT ROWID;
    """,
    on={
        ShipmentScheduled: _scheduled,
        ShipmentRecorded: _recorded,
        ShipmentPickedUp: _MOVE.format("picked_up", ", tracking_id = :tracking_id, picked_up_at = :at"),
        ShipmentRefused: _MOVE.format("refused", ", refusal_code = :code"),
        ShipmentRecalled: _MOVE.format("recalled", ""),
        ShipmentCancelled: _MOVE.format("cancelled", ""),
        ShipmentDelivered: _MOVE.format("delivered", ", delivered_at = :at"),
    },
    never={
        "what was not picked up was delivered": """
            SELECT * FROM shipment WHERE status = 'delivered' AND (picked_up_at IS NULL OR delivered_at IS NULL)
        """,
    },
)


class ShipmentRow(Struct, frozen=True):
    """`status`: scheduled, picked_up, refused, recalled (the carrier has yet to answer), cancelled or delivered."""

    order_id: str
    status: str
    units: int
    tracking_id: str | None
    refusal_code: str | None
    version: int
    scheduled_at: str
    picked_up_at: str | None
    delivered_at: str | None


class DeliveredRow(Struct, frozen=True):
    month: str
    deliveries: int


SHIPMENT = Query(shipments, "SELECT * FROM shipment WHERE order_id = :order_id", ShipmentRow, by_key=True)
SHIPMENTS_OF_ORDERS = Query(
    shipments, "SELECT * FROM shipment WHERE order_id IN (SELECT value FROM json_each(:order_ids))", ShipmentRow
)
DELIVERIES = Query(
    shipments,
    "SELECT substr(delivered_at, 1, 7) AS month, count(*) AS deliveries FROM shipment"
    " WHERE status = 'delivered' GROUP BY month ORDER BY month",
    DeliveredRow,
)
