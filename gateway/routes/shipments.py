"""Shipments: where the goods of an order are, and what the carrier calls to say of them."""

from __future__ import annotations

from litestar import Response, get, post
from msgspec import Struct

from domains.kernel import Id
from domains.shipping.messages import ConfirmPickup, RecordDelivery
from gateway.http.bodies import JsonBody
from gateway.http.direct import DIRECT
from gateway.http.gate import AnyRequest, PathId, gate_of, is_known
from gateway.http.problems import Problem
from gateway.http.security import requires
from projections.order_summary import SUMMARY, order_summary
from projections.shipments import SHIPMENT, ShipmentRow, shipments


class PickupBody(Struct, frozen=True):
    tracking_id: Id


class MovedShipment(Struct, frozen=True):
    order_id: str
    status: str
    version: int


@get("/v1/shipments/{order_id:str}", opt=DIRECT, tags=["shipments"])
async def get_shipment(request: AnyRequest, order_id: PathId) -> Response[ShipmentRow | None]:
    gate = gate_of(request)
    headers = await gate.fresh(request, shipments, order_summary)
    shipment = await gate.reader.one(SHIPMENT, order_id=order_id)
    if shipment is not None and not request.user.may("staff"):
        order = await gate.reader.one(SUMMARY, order_id=order_id)
        if order is None or order.customer_id != request.user.subject:
            shipment = None
    if shipment is None:
        raise Problem(404, "shipment_unknown", f"nothing is to be shipped for order {order_id}")
    headers["ETag"] = f'"{shipment.version}"'
    if is_known(request, headers["ETag"]):
        return Response(None, status_code=304, headers=headers)
    return Response(shipment, headers=headers)


@post(
    "/v1/shipments/{order_id:str}/pickup",
    dto=JsonBody[PickupBody],
    return_dto=None,
    status_code=200,
    opt=requires("staff"),
    tags=["shipments"],
)
async def pick_up(request: AnyRequest, order_id: PathId, data: PickupBody) -> Response[MovedShipment]:
    """The carrier's call, where it did not pick up at once: it has the goods."""
    gate = gate_of(request)
    command = ConfirmPickup(order_id, data.tracking_id)
    place = f"/v1/shipments/{order_id}"
    written = await gate.execute(request, gate.key(request), command, correlation=order_id, location=place)
    status = "picked_up"
    if written.events is None:  # It was so before, or went on since; or was called back, and the goods come back.
        await gate.up_to_date(shipments)
        shipment = await gate.reader.one(SHIPMENT, order_id=order_id)
        status = shipment.status if shipment is not None else status
    return Response(MovedShipment(order_id, status, written.version), headers=written.headers)


@post("/v1/shipments/{order_id:str}/delivery", status_code=200, opt=requires("staff"), tags=["shipments"])
async def deliver(request: AnyRequest, order_id: PathId) -> Response[MovedShipment]:
    """The carrier's call: the customer has the goods."""
    gate = gate_of(request)
    command, place = RecordDelivery(order_id), f"/v1/shipments/{order_id}"
    written = await gate.execute(request, gate.key(request), command, correlation=order_id, location=place)
    return Response(MovedShipment(order_id, "delivered", written.version), headers=written.headers)


routes = [get_shipment, pick_up, deliver]
