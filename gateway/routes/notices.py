"""Notices: what customers were to be told about their orders, and whether a mail server took it."""

from __future__ import annotations

from litestar import Response, get

from gateway.http.gate import AnyRequest, QueryId, gate_of
from gateway.http.pages import LIMIT, Cursor, Limit, Page, after, page
from gateway.http.security import requires
from projections.notices import NOTICE, NOTICES, NoticeRow, notices


@get("/v1/notices", opt=requires("staff"), tags=["notices"])
async def list_notices(
    request: AnyRequest, order_id: QueryId = None, limit: Limit = LIMIT, cursor: Cursor = ""
) -> Response[Page[NoticeRow]]:
    """All of them by the ids of their orders, or the one about an order: it is requested when the order is paid."""
    gate = gate_of(request)
    headers = await gate.fresh(request, notices)
    if order_id is not None:
        row = await gate.reader.one(NOTICE, order_id=order_id)
        return Response(Page([] if row is None else [row]), headers=headers)
    rows = await gate.reader.all(NOTICES, after=after(cursor), limit=limit + 1)
    content, links = page(request, rows, limit, lambda notice: notice.order_id)
    return Response(content, headers={**headers, **links})


routes = [list_notices]
