"""Reports for staff."""

from __future__ import annotations

from typing import Literal

from litestar import Response, get
from msgspec import Struct

from gateway.http.gate import AnyRequest, gate_of
from gateway.http.security import requires
from projections.sales import SALES_BY_CATEGORY, SALES_BY_MONTH, SALES_BY_STATUS, SalesRow, sales


class SalesReport(Struct, frozen=True):
    by: str
    rows: list[SalesRow]


_REPORTS = {"month": SALES_BY_MONTH, "category": SALES_BY_CATEGORY, "status": SALES_BY_STATUS}


@get("/v1/reports/sales", opt=requires("staff"), tags=["reports"])
async def report_sales(
    request: AnyRequest, by: Literal["month", "category", "status"] = "month"
) -> Response[SalesReport]:
    """Orders and their money by month placed, category or status, one row a key and currency."""
    gate = gate_of(request)
    headers = await gate.fresh(request, sales)
    return Response(SalesReport(by, await gate.reader.all(_REPORTS[by])), headers=headers)


routes = [report_sales]
