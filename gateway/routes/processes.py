"""Processes: what is under way between the services, how it ended, and an admin's hand where it does not go on."""

from __future__ import annotations

from litestar import Response, get, post
from msgspec import Struct

from domains.kernel import Reason
from domains.processes.messages import Compensate, Intervention, RetryStep, SkipStep
from gateway.http.bodies import JsonBody
from gateway.http.gate import AnyRequest, PathId, gate_of
from gateway.http.pages import LIMIT, Cursor, Limit, Page, after, page
from gateway.http.security import requires
from gateway.views.processes import Process, ProcessStatus, processes_of
from projections.processes import processes


class InterventionBody(Struct, frozen=True):
    """Why. It is kept in the log, with who it was."""

    reason: Reason


class Intervened(Struct, frozen=True):
    process_id: str
    version: int


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


@post(
    "/v1/processes/{process_id:str}/retry",
    dto=JsonBody[InterventionBody],
    return_dto=None,
    status_code=200,
    opt=requires("admin"),
    tags=["processes"],
)
async def retry_process(request: AnyRequest, process_id: PathId, data: InterventionBody) -> Response[Intervened]:
    """Send again what is not answered yet. Whoever did it already does nothing more."""
    return await _intervene(request, RetryStep(process_id, data.reason))


@post(
    "/v1/processes/{process_id:str}/skip",
    dto=JsonBody[InterventionBody],
    return_dto=None,
    status_code=200,
    opt=requires("admin"),
    tags=["processes"],
)
async def skip_process(request: AnyRequest, process_id: PathId, data: InterventionBody) -> Response[Intervened]:
    """Go on as if what is waited for had come: it was seen to otherwise, and will not be taken back."""
    return await _intervene(request, SkipStep(process_id, data.reason))


@post(
    "/v1/processes/{process_id:str}/compensate",
    dto=JsonBody[InterventionBody],
    return_dto=None,
    status_code=200,
    opt=requires("admin"),
    tags=["processes"],
)
async def compensate_process(request: AnyRequest, process_id: PathId, data: InterventionBody) -> Response[Intervened]:
    """Give it up: what was done is taken back, the last first, and the order is cancelled."""
    return await _intervene(request, Compensate(process_id, data.reason))


async def _intervene(request: AnyRequest, command: Intervention) -> Response[Intervened]:
    gate = gate_of(request)
    order_id = command.order_id
    written = await gate.execute(
        request, gate.key(request), command, correlation=order_id, location=f"/v1/orders/{order_id}/timeline"
    )
    return Response(Intervened(order_id, written.version), headers=written.headers)


routes = [list_processes, retry_process, skip_process, compensate_process]
