"""Every imported order in every read model that has it, and every product that was sold.

A sum may be right by chance; and where it is not, this names the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import msgspec
from msgspec import Struct

from gateway.importing.differences import Difference, shown
from gateway.importing.expected import Expected, OrderFacts
from gateway.importing.olist import CURRENCY
from projections.order_detail import order_detail
from projections.order_summary import order_summary
from projections.payments import payments
from projections.products import products
from projections.reader import QUERY_ROWS_MAX, Query, Reader
from projections.sales import sales
from projections.shipments import shipments

CHUNK = QUERY_ROWS_MAX // 2
"""Asked for at once, so that no answer is cut off."""


class _Summary(Struct, frozen=True):
    order_id: str
    customer_id: str
    status: str
    currency: str
    month: str
    units: int
    total_cents: int


class _Detail(Struct, frozen=True):
    order_id: str
    customer_id: str
    status: str
    currency: str
    month: str
    items_cents: int
    freight_cents: int
    total_cents: int
    captured_cents: int
    workflow: str
    units: int
    lines_items_cents: int
    lines_freight_cents: int


class _Sale(Struct, frozen=True):
    order_id: str
    status: str
    currency: str
    month: str
    items_cents: int
    freight_cents: int
    captured_cents: int


class _Paid(Struct, frozen=True):
    order_id: str
    currency: str
    captured_cents: int
    methods: str
    """JSON: cents by payment type."""


class _Shipment(Struct, frozen=True):
    order_id: str
    status: str
    units: int
    delivered: str
    """The month, empty where it was not."""


_SUMMARIES = Query(
    order_summary,
    """
    SELECT order_id, customer_id, status, currency, substr(placed_at, 1, 7) AS month, units, total_cents
    FROM order_summary WHERE order_id IN (SELECT value FROM json_each(:ids))
    """,
    _Summary,
)
_DETAILS = Query(
    order_detail,
    """
    SELECT order_id, customer_id, status, currency, substr(placed_at, 1, 7) AS month, items_cents,
        detail.freight_cents AS freight_cents, total_cents, captured_cents, workflow,
        coalesce(sum(quantity), 0) AS units, coalesce(sum(quantity * unit_price_cents), 0) AS lines_items_cents,
        coalesce(sum(line.freight_cents), 0) AS lines_freight_cents
    FROM order_detail AS detail LEFT JOIN order_line AS line USING (order_id)
    WHERE order_id IN (SELECT value FROM json_each(:ids)) GROUP BY order_id
    """,
    _Detail,
)
_SALES = Query(
    sales,
    """
    SELECT order_id, status, currency, month, items_cents, freight_cents, captured_cents
    FROM sale WHERE order_id IN (SELECT value FROM json_each(:ids))
    """,
    _Sale,
)
_PAYMENTS = Query(
    payments,
    """
    SELECT order_id, currency, captured_cents, (
        SELECT json_group_object(method, cents) FROM (
            SELECT method, sum(amount_cents) AS cents FROM payment_part AS part
            WHERE part.order_id = payment.order_id GROUP BY method
        )
    ) AS methods
    FROM payment WHERE order_id IN (SELECT value FROM json_each(:ids))
    """,
    _Paid,
)
_SHIPMENTS = Query(
    shipments,
    """
    SELECT order_id, status, units, coalesce(substr(delivered_at, 1, 7), '') AS delivered
    FROM shipment WHERE order_id IN (SELECT value FROM json_each(:ids))
    """,
    _Shipment,
)


async def of_orders(expected: Expected, reader: Reader) -> list[Difference]:
    """Every order, field by field, in the five read models that show orders."""
    differences: list[Difference] = []
    order_ids = iter(expected.orders)
    while chunk := list(islice(order_ids, CHUNK)):
        ids = msgspec.json.encode(chunk).decode()
        summaries = {row.order_id: row for row in await reader.all(_SUMMARIES, ids=ids)}
        details = {row.order_id: row for row in await reader.all(_DETAILS, ids=ids)}
        its_sales = {row.order_id: row for row in await reader.all(_SALES, ids=ids)}
        paid = {row.order_id: row for row in await reader.all(_PAYMENTS, ids=ids)}
        shipped = {row.order_id: row for row in await reader.all(_SHIPMENTS, ids=ids)}
        for order_id in chunk:
            facts = expected.orders[order_id]
            methods = expected.methods[order_id]
            for model, row, wanted in (
                ("order_summary", summaries.get(order_id), _summary(order_id, facts)),
                ("order_detail", details.get(order_id), _detail(order_id, facts)),
                ("sales", its_sales.get(order_id), _sale(order_id, facts)),
                ("payments", paid.get(order_id), _paid(order_id, facts, methods) if methods else None),
                ("shipments", shipped.get(order_id), _shipment(order_id, facts)),
            ):
                differences.extend(_of_rows(f"order {order_id} in {model}", wanted, row))
    return differences


def _summary(order_id: str, facts: OrderFacts) -> _Summary:
    total_cents = facts.items_cents + facts.freight_cents
    return _Summary(order_id, facts.customer_id, facts.status, CURRENCY, facts.month, facts.units, total_cents)


def _detail(order_id: str, facts: OrderFacts) -> _Detail:
    return _Detail(
        order_id=order_id,
        customer_id=facts.customer_id,
        status=facts.status,
        currency=CURRENCY,
        month=facts.month,
        items_cents=facts.items_cents,
        freight_cents=facts.freight_cents,
        total_cents=facts.items_cents + facts.freight_cents,
        captured_cents=facts.captured_cents,
        workflow="recorded",
        units=facts.units,
        lines_items_cents=facts.items_cents,
        lines_freight_cents=facts.freight_cents,
    )


def _sale(order_id: str, facts: OrderFacts) -> _Sale:
    return _Sale(
        order_id, facts.status, CURRENCY, facts.month, facts.items_cents, facts.freight_cents, facts.captured_cents
    )


def _paid(order_id: str, facts: OrderFacts, methods: Mapping[str, int]) -> _Paid:
    return _Paid(order_id, CURRENCY, facts.captured_cents, _sorted_json(methods))


def _shipment(order_id: str, facts: OrderFacts) -> _Shipment | None:
    status = {"shipped": "picked_up", "delivered": "delivered"}.get(facts.status)
    return _Shipment(order_id, status, facts.units, facts.delivered) if status is not None else None


def _sorted_json(methods: Mapping[str, int]) -> str:
    return msgspec.json.encode(dict(sorted(methods.items()))).decode()


def _of_rows(where: str, wanted: Struct | None, row: Struct | None) -> Iterable[Difference]:
    """Field by field; an order that one side does not have is one difference."""
    if wanted is None or row is None:
        if wanted is not row:
            yield Difference(where, "absent" if wanted is None else "there", "absent" if row is None else "there")
        return
    if wanted == row:
        return
    for name in wanted.__struct_fields__:
        csv, read_model = getattr(wanted, name), getattr(row, name)
        if name == "methods":
            read_model = _sorted_json(msgspec.json.decode(read_model, type=dict[str, int]))
        if csv != read_model:
            if name.endswith("_cents"):
                csv, read_model = shown(csv, "cents"), shown(read_model, "cents")
            yield Difference(f"{where}, {name.removesuffix('_cents')}", str(csv), str(read_model))


class _Sku(Struct, frozen=True):
    sku: str


_SKUS = Query(products, "SELECT sku FROM product WHERE sku IN (SELECT value FROM json_each(:skus))", _Sku)


async def of_products(expected: Expected, reader: Reader) -> list[Difference]:
    """Every product that was sold is in the catalogue. What is said of it there may have been revised since."""
    differences: list[Difference] = []
    skus = iter(sorted(expected.products))
    while chunk := list(islice(skus, CHUNK)):
        there = {row.sku for row in await reader.all(_SKUS, skus=msgspec.json.encode(chunk).decode())}
        differences += [
            Difference(f"product {sku} in products", "there", "absent") for sku in chunk if sku not in there
        ]
    return differences
