"""Recommendations: for a customer's homepage, what others bought together with what the customer bought."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Literal, NamedTuple

import msgspec
from litestar import Response, get
from litestar.exceptions import PermissionDeniedException
from litestar.params import Parameter
from msgspec import Struct

from gateway.http.degraded import headers_of, unless_missing
from gateway.http.gate import AnyRequest, Gate, QueryId, gate_of
from projections.bought_together import BOUGHT_WITH, MOST_BOUGHT, bought_together
from projections.order_detail import SKUS_OF_ORDERS, order_detail
from projections.order_summary import LATEST_OF_CUSTOMER, order_summary
from projections.products import PRODUCTS_OF_SKUS, products

LIMIT = 10
LIMIT_MAX = 50
ORDERS_MAX = 20
"""Of a customer's latest orders that count."""
SKUS_MAX = 20
"""Of their products."""

Because = Literal["bought_together", "most_bought"]
Few = Annotated[int, Parameter(ge=1, le=LIMIT_MAX, description="Items.")]


class Recommendation(Struct, frozen=True):
    """`orders`: together with something that the customer bought, or at all, as `because` says."""

    sku: str
    name: str
    category: str
    price_cents: int
    currency: str
    because: Because
    orders: int


class _Chosen(NamedTuple):
    sku: str
    because: Because
    orders: int


class Recommendations(Struct, frozen=True):
    items: list[Recommendation]


@get("/v1/recommendations", tags=["products"])
async def recommend(request: AnyRequest, customer_id: QueryId = None, limit: Few = LIMIT) -> Response[Recommendations]:
    """Products that go with a customer's latest ones, most often bought first, filled up with what is bought most.

    A customer gets its own; without a `customer_id` staff see what is bought most. While what it rests on is yet to be
    built there are none, and `Degraded` says so: no homepage should fail for that."""
    if not request.user.may("staff"):
        if customer_id not in (None, request.user.subject):
            raise PermissionDeniedException("a customer sees its own recommendations only")
        customer_id = request.user.subject
    gate = gate_of(request)
    headers = await gate.fresh(request, bought_together, order_summary, order_detail, products)
    items = await unless_missing(request, "recommendations", _recommended(gate, customer_id, limit), [])
    return Response(Recommendations(items), headers={**headers, **headers_of(request)})


async def _recommended(gate: Gate, customer_id: str | None, limit: int) -> list[Recommendation]:
    owned = await _bought(gate, customer_id) if customer_id is not None else []
    chosen = await _together(gate, owned, limit)
    most = await gate.reader.all(MOST_BOUGHT, limit=limit + len(owned) + len(chosen))
    taken = {*owned, *(each.sku for each in chosen)}
    chosen += [_Chosen(row.sku, "most_bought", row.orders) for row in most if row.sku not in taken]
    rows = await gate.reader.all(PRODUCTS_OF_SKUS, skus=_array([each.sku for each in chosen]))
    known = {row.sku: row for row in rows}
    items = [
        Recommendation(its.sku, its.name, its.category, its.price_cents, its.currency, each.because, each.orders)
        for each in chosen
        if (its := known.get(each.sku)) is not None  # Another log's read model: it may lag behind the orders'.
    ]
    return items[:limit]


async def _bought(gate: Gate, customer_id: str) -> list[str]:
    """The products of the customer's latest orders."""
    orders = await gate.reader.all(LATEST_OF_CUSTOMER, customer_id=customer_id, limit=ORDERS_MAX)
    order_ids = _array([order.order_id for order in orders])
    return [row.sku for row in await gate.reader.all(SKUS_OF_ORDERS, order_ids=order_ids, limit=SKUS_MAX)]


async def _together(gate: Gate, owned: list[str], limit: int) -> list[_Chosen]:
    """What stands in orders with these, but is none of them: the most frequent first."""
    lists = await asyncio.gather(*(gate.reader.all(BOUGHT_WITH, sku=sku, limit=limit + len(owned)) for sku in owned))
    orders: Counter[str] = Counter()
    for row in (row for rows in lists for row in rows):
        if row.sku not in owned:
            orders[row.sku] += row.orders
    ranked = sorted(orders.items(), key=lambda item: (-item[1], item[0]))
    return [_Chosen(sku, "bought_together", count) for sku, count in ranked[:limit]]


def _array(values: list[str]) -> str:
    return msgspec.json.encode(values).decode()


routes = [recommend]
