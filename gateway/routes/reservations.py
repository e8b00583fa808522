"""Reservations: stock that is promised to an order. A checkout makes them by itself; these are for programs of the
staff."""

from __future__ import annotations

from typing import Annotated, Literal

from litestar import Response, get, post
from msgspec import Meta, Struct

from domains.inventory.messages import ItemQuantity, ReleaseStock, ReserveStock
from domains.inventory.stock import Dispatched, Held, NotReserved, Refused
from domains.kernel import LINES_MAX, Id
from gateway.http.bodies import JsonBody
from gateway.http.gate import AnyRequest, PathId, gate_of
from gateway.http.kinds import VIEW
from gateway.http.problems import Problem
from gateway.http.reservations import held, standing
from gateway.http.security import requires

Items = Annotated[list[ItemQuantity], Meta(min_length=1, max_length=LINES_MAX)]


class ReservationBody(Struct, frozen=True):
    order_id: Id
    items: Items


class ReleaseBody(Struct, frozen=True):
    items: Items


class ReservationStatus(Struct, frozen=True):
    order_id: str
    status: Literal["reserved", "refused", "released", "dispatched"]


@post(
    "/v1/reservations",
    dto=JsonBody[ReservationBody],
    return_dto=None,
    opt=requires("staff"),
    tags=["stock"],
)
async def reserve_stock(request: AnyRequest, data: ReservationBody) -> Response[ReservationStatus]:
    """Promise all of these items to an order, or none of them: 409 `out_of_stock`, for good."""
    gate = gate_of(request)
    location = f"/v1/reservations/{data.order_id}"
    key = gate.natural_key(request, f"reserve {data.order_id}", "reservation_differs")
    command = ReserveStock(data.order_id, tuple(data.items))
    written = await gate.execute(request, key, command, correlation=data.order_id, location=location)
    await held(data.order_id, written, gate.history, gate.reached)
    headers = {**written.headers, "Location": location}
    return Response(ReservationStatus(data.order_id, "reserved"), status_code=201, headers=headers)


@post(
    "/v1/reservations/{order_id:str}/release",
    dto=JsonBody[ReleaseBody],
    return_dto=None,
    status_code=200,
    opt=requires("staff"),
    tags=["stock"],
)
async def release_stock(request: AnyRequest, order_id: PathId, data: ReleaseBody) -> Response[ReservationStatus]:
    """Give back what was promised to an order and has not left the house."""
    gate = gate_of(request)
    command = ReleaseStock(order_id, tuple(data.items))
    key = gate.natural_key(request, f"release {order_id}", "reservation_differs")
    location = f"/v1/reservations/{order_id}"
    written = await gate.execute(request, key, command, correlation=order_id, location=location)
    return Response(ReservationStatus(order_id, "released"), headers=written.headers)


@get("/v1/reservations/{order_id:str}", opt={**VIEW, **requires("staff")}, tags=["stock"])
async def get_reservation(request: AnyRequest, order_id: PathId) -> Response[ReservationStatus]:
    """What became of an order's reservation, as the log tells it."""
    match await standing(order_id, gate_of(request).history):
        case NotReserved():
            raise Problem(404, "reservation_unknown", f"nothing was ever reserved for order {order_id}")
        case Held():
            status: Literal["reserved", "refused", "released", "dispatched"] = "reserved"
        case Refused():
            status = "refused"
        case Dispatched():
            status = "dispatched"
        case _:
            status = "released"
    return Response(ReservationStatus(order_id, status))


routes = [reserve_stock, release_stock, get_reservation]
