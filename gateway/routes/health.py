"""Health and metrics, without a token: alive, ready (with the reason why not), and everything counted."""

from __future__ import annotations

import asyncio
import math
import os

from litestar import Response, get
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bus.control import ask
from bus.queues import command_queue_worker
from bus.reactors.mending import verb_of
from bus.reactors.processes import PING
from gateway.http.gate import AnyRequest, gate_of
from gateway.http.problems import Problem
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
_lag_events = Gauge(
    "tally_projection_lag_events",
    "About how many events a read model has yet to show.",
    ("name",),
    multiprocess_mode="mostrecent",
)
_lag_seconds = Gauge(
    "tally_projection_lag_seconds",
    "How old what a read model shows may be, at most; NaN while its log's head is not seen.",
    ("name",),
    multiprocess_mode="mostrecent",
)
_parked_keys = Gauge(
    "tally_projection_parked_keys", "Keys that a read model has parked.", ("name",), multiprocess_mode="mostrecent"
)
_parked_commits = Gauge(
    "tally_projection_parked_commits",
    "Commits that wait for parked keys.",
    ("name",),
    multiprocess_mode="mostrecent",
)
_halted = Gauge("tally_projection_halted", "1 where a read model halted.", ("name",), multiprocess_mode="mostrecent")


class Ready(Struct, frozen=True, omit_defaults=True):
    """`warnings`: what somebody should look after, though all but that is served."""

    status: str
    warnings: tuple[str, ...] = ()


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
    warnings: list[str] = []
    for name in state.projections:
        standing = gate.standings.latest(name)
        if standing is None or gate.standings.silent_s(name) > SILENT_MAX_S:
            reasons.append(f"nobody keeps the read model {name}")
        elif standing.error:
            reasons.append(f"the read model {name} halted: {standing.error}")
        elif standing.lag_s is None:
            reasons.append(f"the head of {standing.stream} cannot be seen: nobody knows what {name} lacks")
        elif standing.parked_keys:
            warnings.append(f"the read model {name} has {standing.parked_keys} keys parked: `tally parked` shows them")
    told = await asyncio.gather(*(ask(state.client, verb_of(PING, service)) for service in state.reacting))
    silent = [service for service, reply in zip(state.reacting, told, strict=True) if reply.code]
    if silent:
        reasons.append(f"nobody runs the processes of {', '.join(silent)}")
    warnings += [
        f"{service} has given up reactions for {reply.detail} keys: `tally parked` shows them"
        for service, reply in zip(state.reacting, told, strict=True)
        if reply.detail not in ("", "0") and not reply.code
    ]
    if (await ask(state.client, command_queue_worker.PING)).code:
        reasons.append("nobody handles the queue of commands")
    if reasons:
        raise Problem(503, "not_ready", "; ".join(reasons), headers={"Retry-After": "1"})
    return Ready("ready", tuple(warnings))


@get("/metrics", exclude_from_auth=True, include_in_schema=False)
async def metrics(request: AnyRequest) -> Response[bytes]:
    """Prometheus text: of all processes of this node where they share a folder for it."""
    gate = gate_of(request)
    for name in request.app.state.projections:
        if standing := gate.standings.latest(name):
            _position.labels(name).set(standing.sequence)
            _lag.labels(name).set(max(0, standing.head - standing.sequence))
            _lag_events.labels(name).set(standing.lag_events)
            _lag_seconds.labels(name).set(math.nan if standing.lag_s is None else standing.lag_s)
            _parked_keys.labels(name).set(standing.parked_keys)
            _parked_commits.labels(name).set(standing.parked_commits)
            _halted.labels(name).set(bool(standing.error))
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # Untyped in the library.
    else:
        registry = REGISTRY
    media_type = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")  # Litestar adds that itself.
    return Response(await asyncio.to_thread(generate_latest, registry), media_type=media_type)


routes = [livez, readyz, metrics]
