"""The books: whether orders, payments and shipments agree about each order's money and goods.

Captured is what was given back and what shipped or open orders keep, order by order, and goods are gone where the order
says so. It joins the read models of three streams, each at a moment of its own: a row means something once nothing is
under way and all of them are up to date. Orders that are a record of what happened elsewhere are left out: what became
of their money was never told.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec
from msgspec import Struct

from projections.files import ReadModelFiles
from projections.order_detail import order_detail
from projections.payments import payments
from projections.reader import ReadModelMissing
from projections.shipments import shipments

DISCREPANCIES_MAX = 1_000

_NEVER = """
WITH book AS (
    SELECT o.order_id, o.status AS order_status, coalesce(p.status, '') AS payment_status,
        coalesce(s.status, '') AS shipment_status, o.captured_cents AS kept_cents,
        coalesce(p.captured_cents, 0) AS captured_cents, coalesce(p.refunded_cents, 0) AS refunded_cents
    FROM order_detail.order_detail AS o
    LEFT JOIN payments.payment AS p USING (order_id)
    LEFT JOIN shipments.shipment AS s USING (order_id)
    WHERE o.workflow != 'recorded'
)
SELECT *, CASE
    WHEN order_status = 'cancelled' AND captured_cents != refunded_cents THEN 'its money was not given back'
    WHEN order_status != 'cancelled' AND refunded_cents != 0 THEN 'its money was given back'
    WHEN order_status IN ('paid', 'shipped', 'delivered') AND captured_cents != kept_cents THEN 'was paid otherwise'
    WHEN order_status IN ('placed', 'reserved') AND captured_cents != 0 THEN 'does not know that it was paid'
    WHEN order_status = 'cancelled' AND shipment_status NOT IN ('', 'refused', 'cancelled') THEN 'its goods are away'
    WHEN order_status IN ('placed', 'reserved', 'paid') AND shipment_status IN ('picked_up', 'delivered')
        THEN 'does not know that its goods are away'
    WHEN order_status = 'shipped' AND shipment_status = 'delivered' THEN 'does not know that it was delivered'
END AS wrong
FROM book WHERE wrong IS NOT NULL ORDER BY order_id LIMIT ?
"""


class Discrepancy(Struct, frozen=True):
    """What is wrong with an order's money or goods, and what each read model says of it."""

    order_id: str
    order_status: str
    payment_status: str
    shipment_status: str
    kept_cents: int
    captured_cents: int
    refunded_cents: int
    wrong: str


def discrepancies(files: ReadModelFiles) -> list[Discrepancy]:
    """None once all is quiet, at most `DISCREPANCIES_MAX` otherwise. Raises `ReadModelMissing`."""
    with closing(sqlite3.connect(":memory:", isolation_level=None, uri=True)) as database:
        for model in (order_detail, payments, shipments):
            path = files.live(model.name)
            if path is None:
                raise ReadModelMissing(f"read model {model.name} is not built yet")
            database.execute(f"ATTACH ? AS {model.name}", (f"{path.absolute().as_uri()}?mode=ro",))
        database.row_factory = sqlite3.Row
        rows = database.execute(_NEVER, (DISCREPANCIES_MAX,)).fetchall()
    return [msgspec.convert(dict(row), Discrepancy) for row in rows]
