"""Health and metrics, without a token: alive, ready (with the reason why not), and everything counted."""

from __future__ import annotations

import asyncio
import os

from litestar import Response, get
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bus.control import ask
from bus.processes import PING
from gateway.gate import AnyRequest, gate_of
from gateway.problems import Problem
from gateway.routes.projections import SILENT_MAX_S

_position = Gauge(
    "tally_projection_position", "Last position in a read model.", ("name",), multiprocess_mode="mostrecent"
)
_lag = Gauge(
    "tally_projection_lag",
    "Records of its log that a read model has yet to show.",
    ("name",),
    multiprocess_mode="mostrecent",
)


class Ready(Struct, frozen=True):
    status: str = "ready"


@get("/livez", exclude_from_auth=True, tags=["health"])
async def livez() -> Ready:
    """This process answers."""
    return Ready("alive")


@get("/readyz", exclude_from_auth=True, tags=["health"])
async def readyz(request: AnyRequest) -> Ready:
    """Every part answers; 503 with the reasons otherwise."""
    state = request.app.state
    gate = gate_of(request)
    if not state.client.is_connected:
        raise Problem(503, "not_ready", "the broker cannot be reached", headers={"Retry-After": "1"})
    owned = [(domain, partition) for domain in gate.logs for partition in range(gate.sender.partitions_of(domain))]
    alive = await asyncio.gather(*(gate.sender.ping(*which) for which in owned))
    reasons = [
        f"no engine owns {domain}" if gate.sender.partitions_of(domain) == 1 else f"no engine owns {domain}/{partition}"
        for (domain, partition), answers in zip(owned, alive, strict=True)
        if not answers
    ]
    for name in state.projections:
        standing = gate.standings.latest(name)
        if standing is None or gate.standings.silent_s(name) > SILENT_MAX_S:
            reasons.append(f"nobody keeps the read model {name}")
        elif standing.error:
            reasons.append(f"the read model {name} halted: {standing.error}")
    if (await ask(state.client, PING)).code:
        reasons.append("nobody runs the processes")
    if reasons:
        raise Problem(503, "not_ready", "; ".join(reasons), headers={"Retry-After": "1"})
    return Ready()


@get("/metrics", exclude_from_auth=True, include_in_schema=False)
async def metrics(request: AnyRequest) -> Response[bytes]:
    """Prometheus text: of all processes of this node where they share a folder for it."""
    gate = gate_of(request)
    for name in request.app.state.projections:
        if standing := gate.standings.latest(name):
            _position.labels(name).set(standing.sequence)
            _lag.labels(name).set(max(0, standing.head - standing.sequence))
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # Untyped in the library.
    else:
        registry = REGISTRY
    media_type = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")  # Litestar adds that itself.
    return Response(await asyncio.to_thread(generate_latest, registry), media_type=media_type)


routes = [livez, readyz, metrics]
