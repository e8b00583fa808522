"""Loyalty: the points of a customer."""

from __future__ import annotations

from litestar import Response, get
from litestar.exceptions import PermissionDeniedException

from gateway.http.gate import AnyRequest, PathId, gate_of, is_known
from projections.loyalty import LOYALTY, LoyaltyRow, loyalty


@get("/v1/loyalty/{customer_id:str}", tags=["loyalty"])
async def get_loyalty(request: AnyRequest, customer_id: PathId) -> Response[LoyaltyRow | None]:
    """The points of a customer: none for one who never paid anything, for nobody needs to be registered."""
    if customer_id != request.user.subject and not request.user.may("staff"):
        raise PermissionDeniedException("a customer sees its own points only")
    gate = gate_of(request)
    headers = await gate.fresh(request, loyalty)
    row = await gate.reader.one(LOYALTY, customer_id=customer_id) or LoyaltyRow(customer_id, 0, 0, 0)
    headers["ETag"] = f'"{row.earned}.{row.returned}"'
    if is_known(request, headers["ETag"]):
        return Response(None, status_code=304, headers=headers)
    return Response(row, headers=headers)


routes = [get_loyalty]
