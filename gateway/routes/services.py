"""Services: which processes are there, and who owns which partition."""

from __future__ import annotations

from litestar import get

from gateway.http.gate import AnyRequest, gate_of
from gateway.http.kinds import VIEW
from gateway.http.security import requires
from gateway.views.services import Services, services_of


@get("/v1/services", opt=requires("staff") | VIEW, tags=["services"])
async def list_services(request: AnyRequest) -> Services:
    """Every process that is there, and the owner of each partition; an owner that is null: nobody has it now."""
    gate = gate_of(request)
    partitions = {domain: gate.sender.partitions_of(domain) for domain in gate.logs}
    return services_of(request.app.state.present.workers(), partitions)


routes = [list_services]
