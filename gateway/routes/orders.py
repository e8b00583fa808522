"""Orders: placed, followed, listed, cancelled. Customers see and place their own; staff everybody's.

Two versions of the API side by side, with one code path behind: the second shows money as an object, and to whom one
order goes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import Response, get, post
from litestar.exceptions import PermissionDeniedException
from litestar.params import Parameter
from msgspec import Meta, Struct

from domains.kernel import LINES_MAX, Currency, Id, Quantity, Reason
from domains.orders.messages import CancelOrder, OrderCancelled, OrderLine, OrderPlaced, PlaceOrder
from gateway.http.bodies import JsonBody
from gateway.http.commanding import uuid7
from gateway.http.degraded import headers_of
from gateway.http.direct import DIRECT
from gateway.http.gate import AnyRequest, Gate, PathId, QueryId, gate_of, header, is_known, responds_async
from gateway.http.pages import LIMIT, Cursor, Limit, Page, after, page
from gateway.http.problems import Problem
from gateway.http.versions import SUPERSEDED
from gateway.routes.customers import SERVICE as CUSTOMERS
from gateway.views.orders import (
    ORDER_PAGE,
    SHOWN_LOGS,
    Order,
    PlacedOrder,
    moment_of,
    order_as_of,
    order_commits,
    order_of,
)
from gateway.views.orders_v2 import OrderSummaryV2, PlacedOrderV2, ShownOrderV2, placed_v2, shown_v2, summary_v2
from projections.commit_index import commit_index
from projections.order_detail import ORDER, OrderRow, order_detail
from projections.order_summary import OrderSummary, order_summary, summaries_of
from projections.payments import payments
from projections.products import products
from projections.shipments import shipments

NO_IDS = frozenset(("stream",))
"""What no order is called: `/v1/orders/stream` is the stream of all."""
OrderStatus = Literal["placed", "reserved", "paid", "shipped", "delivered", "cancelled"]


AsOf = Annotated[str | None, Parameter(max_length=64, description="A version, or a time in RFC 3339.")]


class LineBody(Struct, frozen=True):
    sku: Id
    quantity: Quantity


class PlaceOrderBody(Struct, frozen=True):
    """Prices come from the catalogue. `payment_token` names a test case of the simulated provider, `shipping_token` one
    of the simulated carrier."""

    customer_id: Id
    currency: Currency
    lines: Annotated[list[LineBody], Meta(min_length=1, max_length=LINES_MAX)]
    order_id: Id | None = None
    payment_token: Id = "tok_ok"  # noqa: S105  # A test case's name.
    workflow: Literal["orchestrated", "choreographed"] = "orchestrated"
    shipping_token: Id = "ship_ok"  # noqa: S105  # A test case's name.


class CancellationBody(Struct, frozen=True):
    reason: Reason


class CancelledOrder(Struct, frozen=True):
    order_id: str
    status: str
    version: int
    reason: str


_decode_placed = msgspec.json.Decoder(tuple[OrderPlaced]).decode
_decode_cancelled = msgspec.json.Decoder(tuple[OrderCancelled]).decode


async def place(request: AnyRequest, data: PlaceOrderBody, where: str) -> tuple[PlacedOrder, dict[str, str]]:
    """Place an order that is then to be seen under `where`."""
    principal = request.user
    if data.customer_id != principal.subject and not principal.may("staff"):
        raise PermissionDeniedException("a customer places orders in its own name only")
    if data.order_id in NO_IDS:
        raise Problem(422, "malformed", f"{data.order_id} is the name of a route", field="/order_id")
    gate = gate_of(request)
    if data.order_id is not None:
        key = gate.natural_key(request, f"place {data.order_id}", "order_exists")
        order_id = data.order_id
    else:
        key = gate.key(request)
        order_id = key.id if header(request, b"idempotency-key") is not None else uuid7()
    lines, trouble = await _priced(gate, data)
    if trouble is not None and responds_async(request):
        raise trouble  # Nobody would tell later why there were no lines.
    command = PlaceOrder(
        order_id=order_id,
        customer_id=data.customer_id,
        currency=data.currency,
        lines=lines,
        payment_token=data.payment_token,
        workflow=data.workflow,
        shipping_token=data.shipping_token,
    )
    try:
        written = await gate.execute(request, key, command, correlation=order_id, location=f"{where}/{order_id}")
    except Problem as problem:
        raise trouble if trouble is not None and problem.code == "order_has_no_lines" else problem from None
    (placed,) = _decode_placed(written.events or b"[]")
    body = PlacedOrder(
        order_id=placed.order_id,
        customer_id=placed.customer_id,
        status="placed",
        version=written.version,
        currency=placed.currency,
        items_cents=placed.items_cents,
        freight_cents=placed.freight_cents,
        total_cents=placed.total_cents,
    )
    return body, {**written.headers, "Location": f"{where}/{placed.order_id}"}


async def find(request: AnyRequest, order_id: str, as_of: str | None) -> tuple[Order | None, dict[str, str]]:
    """An order, now or as it was; None where the client has it already."""
    if as_of is not None:
        return await _as_of(request, order_id, moment_of(as_of))
    order, headers = await _now(request, order_id)
    headers["ETag"] = f'"{order.tag}"'
    return None if is_known(request, headers["ETag"]) else order, headers


async def find_v2(request: AnyRequest, order_id: str, as_of: str | None) -> tuple[ShownOrderV2 | None, dict[str, str]]:
    """The same with whom it goes to. Its tag ends with the customer's version, so another address is another page; of
    a page that lacks the customer nobody is told that he has it."""
    if as_of is not None:
        past, headers = await _as_of(request, order_id, moment_of(as_of))
        return shown_v2(past, None), headers
    order, headers = await _now(request, order_id)
    customer = await gate_of(request).kept_if_told(request, CUSTOMERS, order.customer_id)
    if customer is None:
        return shown_v2(order, None), {**headers, "ETag": f'"{order.tag}"', **headers_of(request)}
    headers["ETag"] = f'"{order.tag}.{customer.version}"'
    return None if is_known(request, headers["ETag"]) else shown_v2(order, customer), headers


async def _now(request: AnyRequest, order_id: str) -> tuple[Order, dict[str, str]]:
    gate = gate_of(request)
    headers = await gate.fresh(request, order_detail, payments, shipments)
    found, lines, payment, shipment = await gate.reader.page(ORDER_PAGE, order_id)
    if not found or not _may_see(request, found[0]):
        raise Problem(404, "order_unknown", f"there is no order {order_id}")
    order = order_of(found[0], lines, payment[0] if payment else None, shipment[0] if shipment else None)
    return order, headers


async def _as_of(request: AnyRequest, order_id: str, moment: int | datetime) -> tuple[Order, dict[str, str]]:
    gate = gate_of(request)
    headers = await gate.fresh(request, order_detail, *(commit_index(log) for log in SHOWN_LOGS))
    await visible_order(request, order_id)
    return order_as_of(moment, await order_commits(gate.history, order_id)), headers


async def listed(
    request: AnyRequest, customer_id: str | None, status: OrderStatus | None, limit: int, cursor: str
) -> tuple[Page[OrderSummary], dict[str, str]]:
    """A page of summaries."""
    gate = gate_of(request)
    customer_id = listable(request, customer_id)
    headers = await gate.fresh(request, order_summary)
    rows = await gate.reader.all(
        summaries_of(customer_id, status),
        customer_id=customer_id,
        status=status,
        after=after(cursor),
        limit=limit + 1,
    )
    content, links = page(request, rows, limit, lambda order: order.order_id)
    return content, {**headers, **links}


async def cancel(request: AnyRequest, order_id: str, data: CancellationBody, where: str) -> Response[CancelledOrder]:
    gate = gate_of(request)
    if not request.user.may("staff"):
        await visible_order(request, order_id)
    command = CancelOrder(order_id, data.reason)
    written = await gate.execute(
        request, gate.key(request), command, correlation=order_id, location=f"{where}/{order_id}"
    )
    if written.events is not None:
        (cancelled,) = _decode_cancelled(written.events)
        reason = cancelled.reason
    else:  # It was cancelled before, for a reason of its own.
        await gate.up_to_date(order_detail)
        row = await gate.reader.one(ORDER, order_id=order_id)
        reason = row.reason or "" if row is not None else ""
    return Response(CancelledOrder(order_id, "cancelled", written.version, reason), headers=written.headers)


async def _priced(gate: Gate, data: PlaceOrderBody) -> tuple[tuple[OrderLine, ...], Problem | None]:
    """The lines at the catalogue's prices; no lines and the reason where the catalogue says no.

    Only the engine knows whether this is a repeat, whose first answer stands whatever became of the catalogue since;
    and a new order without lines it refuses. An unknown SKU is looked for again once the read model is up to date.
    """
    skus = {line.sku for line in data.lines}
    known = await gate.catalogue.of(skus)
    if len(known) < len(skus):
        await gate.up_to_date(products)
        known = await gate.catalogue.of(skus)
    lines: list[OrderLine] = []
    for index, line in enumerate(data.lines):
        product = known.get(line.sku)
        if product is None:
            return (), Problem(422, "product_unknown", f"there is no product {line.sku}", field=f"/lines/{index}/sku")
        if product.currency != data.currency:
            detail = f"{line.sku} is sold in {product.currency}"
            return (), Problem(422, "currency_differs", detail, field=f"/lines/{index}/sku")
        lines.append(OrderLine(line.sku, product.name, product.category, line.quantity, product.price_cents))
    return tuple(lines), None


async def visible_order(request: AnyRequest, order_id: str) -> OrderRow:
    """The order, as far as who asks may know of it. Raises `Problem` 404."""
    gate = gate_of(request)
    row = await gate.reader.one(ORDER, order_id=order_id)
    if row is None:
        await gate.up_to_date(order_detail)  # It may have been placed a moment ago.
        row = await gate.reader.one(ORDER, order_id=order_id)
    if row is None or not _may_see(request, row):
        raise Problem(404, "order_unknown", f"there is no order {order_id}")
    return row


def listable(request: AnyRequest, customer_id: str | None) -> str | None:
    """Whose orders who asks may list: for a customer its own. Raises 403 for another's."""
    if request.user.may("staff"):
        return customer_id
    if customer_id not in (None, request.user.subject):
        raise PermissionDeniedException("a customer lists its own orders only")
    return request.user.subject


def _may_see(request: AnyRequest, row: OrderRow) -> bool:
    return request.user.may("staff") or row.customer_id == request.user.subject


V1 = "/v1/orders"
V2 = "/v2/orders"


@post(V1, dto=JsonBody[PlaceOrderBody], return_dto=None, opt=SUPERSEDED, deprecated=True, tags=["orders"])
async def place_order(request: AnyRequest, data: PlaceOrderBody) -> Response[PlacedOrder]:
    """Place an order. Its answer is on disk; stock, money and shipment follow by the checkout (see its
    `status`)."""
    placed, headers = await place(request, data, V1)
    return Response(placed, status_code=201, headers=headers)


@post(V2, dto=JsonBody[PlaceOrderBody], return_dto=None, tags=["orders"])
async def place_order_v2(request: AnyRequest, data: PlaceOrderBody) -> Response[PlacedOrderV2]:
    """Place an order. Its answer is on disk; stock, money and shipment follow by the checkout (see its
    `status`)."""
    placed, headers = await place(request, data, V2)
    return Response(placed_v2(placed), status_code=201, headers=headers)


@get(f"{V1}/{{order_id:str}}", opt=DIRECT | SUPERSEDED, deprecated=True, tags=["orders"])
async def get_order(request: AnyRequest, order_id: PathId, as_of: AsOf = None) -> Response[Order | None]:
    """One order. Its `ETag` serves `If-None-Match` here and `If-Match` on what changes it.

    With `as_of` as it was: at one of its versions, or at a time, by when things occurred."""
    order, headers = await find(request, order_id, as_of)
    return Response(order, status_code=200 if order is not None else 304, headers=headers)


@get(f"{V2}/{{order_id:str}}", opt=DIRECT, tags=["orders"])
async def get_order_v2(request: AnyRequest, order_id: PathId, as_of: AsOf = None) -> Response[ShownOrderV2 | None]:
    """One order. Its `ETag` serves `If-None-Match` here and `If-Match` on what changes it.

    `deliver_to` are name and address of the customer as they are now; null where the customer is unknown, has no
    address or was erased, and where the customers service does not say (`Degraded: customers`). Streams and lists do
    without it.

    With `as_of` as it was: at one of its versions, or at a time, by when things occurred; then without `deliver_to`,
    for no past address is kept."""
    order, headers = await find_v2(request, order_id, as_of)
    return Response(order, status_code=200 if order is not None else 304, headers=headers)


@get(V1, opt=SUPERSEDED, deprecated=True, tags=["orders"])
async def list_orders(
    request: AnyRequest,
    customer_id: QueryId = None,
    status: OrderStatus | None = None,
    limit: Limit = LIMIT,
    cursor: Cursor = "",
) -> Response[Page[OrderSummary]]:
    """Summaries by order id; of one customer, of one status, or both. A customer sees its own."""
    found, headers = await listed(request, customer_id, status, limit, cursor)
    return Response(found, headers=headers)


@get(V2, tags=["orders"])
async def list_orders_v2(
    request: AnyRequest,
    customer_id: QueryId = None,
    status: OrderStatus | None = None,
    limit: Limit = LIMIT,
    cursor: Cursor = "",
) -> Response[Page[OrderSummaryV2]]:
    """Summaries by order id; of one customer, of one status, or both. A customer sees its own."""
    found, headers = await listed(request, customer_id, status, limit, cursor)
    return Response(Page([summary_v2(order) for order in found.items], found.next), headers=headers)


@post(
    f"{V1}/{{order_id:str}}/cancellation",
    dto=JsonBody[CancellationBody],
    return_dto=None,
    status_code=200,
    opt=SUPERSEDED,
    deprecated=True,
    tags=["orders"],
)
async def cancel_order(request: AnyRequest, order_id: PathId, data: CancellationBody) -> Response[CancelledOrder]:
    """Cancel an order that has not left the house: the pickup is called off, stock and money go back."""
    return await cancel(request, order_id, data, V1)


@post(
    f"{V2}/{{order_id:str}}/cancellation",
    dto=JsonBody[CancellationBody],
    return_dto=None,
    status_code=200,
    tags=["orders"],
)
async def cancel_order_v2(request: AnyRequest, order_id: PathId, data: CancellationBody) -> Response[CancelledOrder]:
    """Cancel an order that has not left the house: the pickup is called off, stock and money go back."""
    return await cancel(request, order_id, data, V2)


routes = [
    place_order,
    place_order_v2,
    get_order,
    get_order_v2,
    list_orders,
    list_orders_v2,
    cancel_order,
    cancel_order_v2,
]
