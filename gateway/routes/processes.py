"""Processes: what is under way between the services, and how it ended."""

from __future__ import annotations

from litestar import Response, get

from gateway.gate import AnyRequest, gate_of
from gateway.pages import LIMIT, Cursor, Limit, Page, after, page
from gateway.processes import Process, ProcessStatus, processes_of
from gateway.security import requires
from projections.processes import processes


@get("/v1/processes", opt=requires("admin"), tags=["processes"])
async def list_processes(
    request: AnyRequest, status: ProcessStatus | None = None, limit: Limit = LIMIT, cursor: Cursor = ""
) -> Response[Page[Process]]:
    """Every checkout, by the id of its order: where it is, since when, and what it did last."""
    gate = gate_of(request)
    headers = await gate.fresh(request, processes)
    rows = await processes_of(gate.reader, status, after(cursor), limit + 1)
    found, linked = page(request, rows, limit, lambda each: each.process_id)
    return Response(found, headers={**headers, **linked})


routes = [list_processes]
