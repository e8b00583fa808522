"""Stock: goods come in, and one can see what is on a shelf."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, get, post, put
from msgspec import Meta, Struct

from domains.inventory.messages import ReceiveStock, WatchStock
from domains.kernel import QUANTITY_MAX, Id, Quantity
from gateway.http.bodies import JsonBody
from gateway.http.direct import DIRECT
from gateway.http.gate import AnyRequest, Gate, PathId, gate_of
from gateway.http.problems import Problem
from gateway.http.security import requires
from projections.products import PRODUCT, products
from projections.stock import STOCK, StockRow, stock


class ReceiptBody(Struct, frozen=True):
    receipt_id: Id
    quantity: Quantity


class Receipt(Struct, frozen=True):
    sku: str
    receipt_id: str
    quantity: int


@post(
    "/v1/stock/{sku:str}/receipts",
    dto=JsonBody[ReceiptBody],
    return_dto=None,
    opt=requires("staff"),
    tags=["stock"],
)
async def receive_stock(request: AnyRequest, sku: PathId, data: ReceiptBody) -> Response[Receipt]:
    """Count a delivery of goods in. A receipt counts once; the same again changes nothing."""
    gate = gate_of(request)
    await _known(gate, sku)
    command = ReceiveStock(sku, data.receipt_id, data.quantity)
    written = await gate.execute(request, gate.key(request), command, correlation=sku, location=f"/v1/stock/{sku}")
    return Response(Receipt(sku, data.receipt_id, data.quantity), status_code=201, headers=written.headers)


@get("/v1/stock/{sku:str}", opt=DIRECT, tags=["stock"])
async def get_stock(request: AnyRequest, sku: PathId) -> Response[StockRow]:
    gate = gate_of(request)
    headers = await gate.fresh(request, stock, products)
    level = await gate.reader.one(STOCK, sku=sku)
    if level is None:
        if await gate.reader.one(PRODUCT, sku=sku) is None:
            raise Problem(404, "product_unknown", f"there is no product {sku}")
        level = StockRow(sku, 0, 0, 0)
    return Response(level, headers=headers)


class AlertBody(Struct, frozen=True):
    low_at: Annotated[int, Meta(ge=0, le=QUANTITY_MAX)]


class Alert(Struct, frozen=True):
    sku: str
    low_at: int


@put(
    "/v1/stock/{sku:str}/alert",
    dto=JsonBody[AlertBody],
    return_dto=None,
    opt=requires("staff"),
    tags=["stock"],
)
async def watch_stock(request: AnyRequest, sku: PathId, data: AlertBody) -> Response[Alert]:
    """Have the administrators told by mail when fewer units than `low_at` are available: once, and again only after
    there were enough. 0: nobody is told any more."""
    gate = gate_of(request)
    await _known(gate, sku)
    command = WatchStock(sku, data.low_at)
    written = await gate.execute(request, gate.key(request), command, correlation=sku, location=f"/v1/stock/{sku}")
    return Response(Alert(sku, data.low_at), headers=written.headers)


async def _known(gate: Gate, sku: str) -> None:
    """Raises `Problem` 404 for what is no product."""
    if not await gate.catalogue.of((sku,)):
        await gate.up_to_date(products)  # It may have been defined a moment ago.
        if not await gate.catalogue.of((sku,)):
            raise Problem(404, "product_unknown", f"there is no product {sku}")


routes = [watch_stock, receive_stock, get_stock]
