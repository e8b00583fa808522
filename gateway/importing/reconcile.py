"""The reconciliation: what the rows of a folder add up to, against what the read models say, to the cent.

The read models' side is about the imported orders only, whatever else the shop holds; where it holds nothing else the
figures are those of the very reports that the gateway serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec
from msgspec import Struct

from gateway.importing.differences import Kind, Line, Reconciliation, Table
from gateway.importing.expected import Expected, Sums, in_cents
from gateway.importing.olist import CURRENCY, Records
from gateway.importing.one_by_one import of_orders, of_products
from projections.customers import customer_status
from projections.invoices import invoices
from projections.order_detail import order_detail
from projections.order_summary import order_summary
from projections.payments import METHOD_TOTALS, MethodTotal, payments
from projections.products import products
from projections.reader import Query, Reader
from projections.reviews import reviews
from projections.sales import SALES_BY_CATEGORY, SALES_BY_MONTH, SALES_BY_STATUS, SalesRow, sales
from projections.shipments import DELIVERIES, DeliveredRow, shipments

READ_MODELS = (products, order_summary, order_detail, sales, payments, shipments)
"""What is compared, and so has to be up to date."""
READ_MODELS_AFTER = (customer_status, invoices, reviews)
"""The same, of what is sent after the orders or follows from them."""

Figures = Mapping[str, int]
Result = TypeVar("Result", bound=Struct)

_SALES: dict[str, Kind] = {"orders": "count", "items": "cents", "freight": "cents", "captured": "cents"}
_SALES_OF_CATEGORY: dict[str, Kind] = {"orders": "count", "items": "cents", "freight": "cents"}
_INVOICES: dict[str, Kind] = {"invoices": "count", "billed": "cents"}
_REVIEWS: dict[str, Kind] = {"reviews": "count"}
_CUSTOMERS: dict[str, Kind] = {"customers": "count"}
_PAYMENTS: dict[str, Kind] = {"payments": "count", "amount": "cents"}
_DELIVERIES: dict[str, Kind] = {"deliveries": "count"}


async def reconcile(records: Records, reader: Reader) -> Reconciliation:
    """Compare. The read models must have reached the positions of the import before."""
    expected = Expected.of(records)
    found = await _Found(reader, list(records.orders)).read()
    tables = [
        _table("status", _SALES, expected.by_status, found.by_status),
        _table("month", _SALES, expected.by_month, found.by_month),
        _table("category", _SALES_OF_CATEGORY, expected.by_category, found.by_category),
        _table("payment type", _PAYMENTS, expected.by_type, found.by_type),
        _table("delivery", _DELIVERIES, expected.by_delivery, found.by_delivery),
        _table("invoice", _INVOICES, expected.by_invoice, await _invoices(reader, records)),
        _table("review score", _REVIEWS, expected.by_score, await _scores(reader, records)),
        _table(
            "person",
            _CUSTOMERS,
            {"known": {"customers": Decimal(len(expected.customers))}},
            await _customers(reader, expected),
        ),
    ]
    differences = [difference for table in tables for difference in table.differences()]
    differences += await of_orders(expected, reader)
    differences += await of_products(expected, reader)
    return Reconciliation(len(records.orders), found.others, tables, differences)


class _Count(Struct, frozen=True):
    orders: int


_SALES_NOT_OURS = Query(
    sales, "SELECT count(*) AS orders FROM sale WHERE order_id NOT IN (SELECT value FROM json_each(:ids))", _Count
)
_PAYMENTS_NOT_OURS = Query(
    payments, "SELECT count(*) AS orders FROM payment WHERE order_id NOT IN (SELECT value FROM json_each(:ids))", _Count
)
_SHIPMENTS_NOT_OURS = Query(
    shipments,
    "SELECT count(*) AS orders FROM shipment WHERE order_id NOT IN (SELECT value FROM json_each(:ids))",
    _Count,
)
_BY_STATUS = Query(
    sales,
    """
    SELECT status AS key, currency, count(*) AS orders, sum(items_cents) AS items_cents,
        sum(freight_cents) AS freight_cents, sum(captured_cents) AS captured_cents
    FROM sale WHERE order_id IN (SELECT value FROM json_each(:ids)) GROUP BY status, currency
    """,
    SalesRow,
)
_BY_MONTH = Query(
    sales,
    """
    SELECT month AS key, currency, count(*) AS orders, sum(items_cents) AS items_cents,
        sum(freight_cents) AS freight_cents, sum(captured_cents) AS captured_cents
    FROM sale WHERE order_id IN (SELECT value FROM json_each(:ids)) GROUP BY month, currency
    """,
    SalesRow,
)
_BY_CATEGORY = Query(
    sales,
    """
    SELECT category AS key, currency, count(*) AS orders, sum(items_cents) AS items_cents,
        sum(freight_cents) AS freight_cents, NULL AS captured_cents
    FROM sale_category WHERE order_id IN (SELECT value FROM json_each(:ids)) GROUP BY category, currency
    """,
    SalesRow,
)
_BY_METHOD = Query(
    payments,
    """
    SELECT method, count(*) AS payments, sum(amount_cents) AS amount_cents
    FROM payment_part WHERE order_id IN (SELECT value FROM json_each(:ids)) GROUP BY method
    """,
    MethodTotal,
)
_BY_DELIVERY = Query(
    shipments,
    """
    SELECT substr(delivered_at, 1, 7) AS month, count(*) AS deliveries
    FROM shipment WHERE status = 'delivered' AND order_id IN (SELECT value FROM json_each(:ids)) GROUP BY month
    """,
    DeliveredRow,
)


class _Invoiced(Struct, frozen=True):
    status: str
    invoices: int
    paid_cents: int


class _Scored(Struct, frozen=True):
    score: int
    reviews: int


class _Known(Struct, frozen=True):
    customers: int


_INVOICED = Query(
    invoices,
    """
    SELECT status, count(*) AS invoices, sum(paid_cents) AS paid_cents FROM invoice
    WHERE number IS NOT NULL AND order_id IN (SELECT value FROM json_each(:ids)) GROUP BY status
    """,
    _Invoiced,
)
_SCORED = Query(
    reviews,
    """
    SELECT score, count(*) AS reviews FROM review WHERE order_id IN (SELECT value FROM json_each(:ids)) GROUP BY score
    """,
    _Scored,
)
_KNOWN = Query(
    customer_status,
    "SELECT count(*) AS customers FROM customer_status WHERE customer_id IN (SELECT value FROM json_each(:ids))",
    _Known,
)


async def _invoices(reader: Reader, records: Records) -> dict[str, Figures]:
    rows = await reader.all(_INVOICED, ids=_json(records.orders))
    return {row.status: {"invoices": row.invoices, "billed": row.paid_cents} for row in rows}


async def _scores(reader: Reader, records: Records) -> dict[str, Figures]:
    rows = await reader.all(_SCORED, ids=_json(records.orders))
    return {str(row.score): {"reviews": row.reviews} for row in rows}


async def _customers(reader: Reader, expected: Expected) -> dict[str, Figures]:
    """Whoever is known, or was erased since."""
    found = await reader.one(_KNOWN, ids=_json(sorted(expected.customers)))
    return {"known": {"customers": found.customers if found else 0}}


def _json(ids: Iterable[str]) -> str:
    return msgspec.json.encode(list(ids)).decode()


class _Found:
    """The sums of the read models over some orders: from the reports, or the same about these orders only."""

    def __init__(self, reader: Reader, order_ids: Sequence[str]) -> None:
        self._reader = reader
        self._ids = msgspec.json.encode(order_ids).decode()
        self.others = 0
        self.by_status: dict[str, Figures] = {}
        self.by_month: dict[str, Figures] = {}
        self.by_category: dict[str, Figures] = {}
        self.by_type: dict[str, Figures] = {}
        self.by_delivery: dict[str, Figures] = {}

    async def read(self) -> _Found:
        self.others = await self._count(_SALES_NOT_OURS)
        self.by_status = await self._sales(SALES_BY_STATUS, _BY_STATUS)
        self.by_month = await self._sales(SALES_BY_MONTH, _BY_MONTH)
        self.by_category = await self._sales(SALES_BY_CATEGORY, _BY_CATEGORY)
        alone = not await self._count(_PAYMENTS_NOT_OURS)
        methods = await self._rows(METHOD_TOTALS if alone else _BY_METHOD, alone=alone)
        self.by_type = {row.method: {"payments": row.payments, "amount": row.amount_cents} for row in methods}
        alone = not await self._count(_SHIPMENTS_NOT_OURS)
        months = await self._rows(DELIVERIES if alone else _BY_DELIVERY, alone=alone)
        self.by_delivery = {row.month: {"deliveries": row.deliveries} for row in months}
        return self

    async def _count(self, query: Query[_Count]) -> int:
        counted = await self._reader.one(query, ids=self._ids)
        return counted.orders if counted else 0

    async def _rows(self, query: Query[Result], *, alone: bool) -> list[Result]:
        return await self._reader.all(query) if alone else await self._reader.all(query, ids=self._ids)

    async def _sales(self, report: Query[SalesRow], ours: Query[SalesRow]) -> dict[str, Figures]:
        alone = not self.others
        found: dict[str, Figures] = {}
        for row in await self._rows(report if alone else ours, alone=alone):
            figures = {"orders": row.orders, "items": row.items_cents, "freight": row.freight_cents}
            if row.captured_cents is not None:
                figures["captured"] = row.captured_cents
            found[row.key if row.currency == CURRENCY else f"{row.key} in {row.currency}"] = figures
        return found


def _table(by: str, columns: dict[str, Kind], expected: Sums, found: Mapping[str, Figures]) -> Table:
    return Table(
        by,
        columns,
        [
            Line(key, _figures(columns, expected.get(key)), dict(found.get(key, {})))
            for key in sorted({*expected, *found})
        ],
    )


def _figures(columns: dict[str, Kind], sums: Mapping[str, Decimal] | None) -> dict[str, int]:
    if sums is None:
        return {}
    return {name: in_cents(sums[name]) if kind == "cents" else int(sums[name]) for name, kind in columns.items()}
