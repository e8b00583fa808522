"""Payments: what was asked for, captured and given back for an order."""

from __future__ import annotations

from litestar import Response, get

from gateway.http.direct import DIRECT
from gateway.http.gate import AnyRequest, PathId, gate_of, is_known
from gateway.http.problems import Problem
from projections.order_summary import SUMMARY, order_summary
from projections.payments import PAYMENT, PaymentRow, payments


@get("/v1/payments/{order_id:str}", opt=DIRECT, tags=["payments"])
async def get_payment(request: AnyRequest, order_id: PathId) -> Response[PaymentRow | None]:
    gate = gate_of(request)
    headers = await gate.fresh(request, payments, order_summary)
    payment = await gate.reader.one(PAYMENT, order_id=order_id)
    if payment is not None and not request.user.may("staff"):
        order = await gate.reader.one(SUMMARY, order_id=order_id)
        if order is None or order.customer_id != request.user.subject:
            payment = None
    if payment is None:
        raise Problem(404, "payment_unknown", f"nothing was asked for order {order_id}")
    headers["ETag"] = f'"{payment.version}"'
    if is_known(request, headers["ETag"]):
        return Response(None, status_code=304, headers=headers)
    return Response(payment, headers=headers)


routes = [get_payment]
