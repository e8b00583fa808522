"""The same reservation, made in five styles. Each says whether it was answered as one hopes for."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from bench.matrix.site import SKU, Site
from bus.calls.call import Call, CallFailed, Step, http_call
from bus.calls.over_grpc import GrpcTransport, grpc_call
from bus.calls.over_http import HttpTransport
from bus.calls.path import CallPath
from bus.calls.policy import BreakerPolicy, CallPolicy
from bus.commands import Stored
from domains.inventory.messages import ItemQuantity, ReserveStock
from domains.orders.messages import OrderLine, PlaceOrder
from gateway.grpc.inventory import SERVICE
from gateway.grpc.proto.tally.inventory.v1.inventory_pb2 import Item, ReserveItemsRequest

REST, GRPC, NATS, ASYNC, EVENT = STYLES = ("rest", "grpc", "nats_request", "async_command", "event")
SAID = {
    REST: "REST",
    GRPC: "gRPC",
    NATS: "NATS request",
    ASYNC: "asynchronous command",
    EVENT: "event",
}
WAITS_S = 5.0
"""For so long a caller waits for an answer."""
POLICY = CallPolicy(
    timeout_s=WAITS_S,
    try_timeout_s=WAITS_S,
    retries=2,
    concurrency=1_000,
    breaker=BreakerPolicy(slow_s=2 * WAITS_S, open_s=1.0),
)
"""Slowness alone opens no breaker here: what it does to callers is to be seen."""

Reserve = Callable[[str], Awaitable[bool]]
"""Takes an order's id."""


def styles(site: Site) -> Mapping[str, Reserve]:
    return {REST: rest(site), GRPC: over_grpc(site), NATS: request(site), ASYNC: queued(site), EVENT: event(site)}


def bare(site: Site) -> Mapping[str, Reserve]:
    """A call that does next to nothing, over both: what the transport alone takes."""
    live, health = http_call("GET", "/livez"), grpc_call("/grpc.health.v1.Health/Check", b"")
    http, grpc = HttpTransport("gateway", site.http), GrpcTransport("inventory", site.channel)

    async def over(transport: Step, call: Call) -> bool:
        return (await transport(call, time.monotonic() + WAITS_S)).status == 200

    return {REST: lambda order_id: over(http, live), GRPC: lambda order_id: over(grpc, health)}


def rest(site: Site) -> Reserve:
    path = CallPath("gateway", POLICY, HttpTransport("gateway", site.http))

    async def reserve(order_id: str) -> bool:
        return await _status(path, _post(site, order_id)) == 201

    return reserve


def over_grpc(site: Site) -> Reserve:
    path = CallPath("inventory", POLICY, GrpcTransport("inventory", site.channel))

    async def reserve(order_id: str) -> bool:
        message = ReserveItemsRequest(order_id=order_id, items=[Item(sku=SKU, quantity=1)])
        headers = {"Authorization": f"Bearer {site.token}", "Idempotency-Key": order_id}
        call = grpc_call(f"/{SERVICE}/ReserveItems", message.SerializeToString(), headers)
        return await _status(path, call) == 200

    return reserve


def request(site: Site) -> Reserve:
    async def reserve(order_id: str) -> bool:
        command = ReserveStock(order_id, (ItemQuantity(SKU, 1),))
        answer = await site.sender.send(command, id=order_id, correlation=order_id, timeout_s=WAITS_S)
        return isinstance(answer, Stored)

    return reserve


def queued(site: Site) -> Reserve:
    path = CallPath("gateway", POLICY, HttpTransport("gateway", site.http))

    async def reserve(order_id: str) -> bool:
        return await _status(path, _post(site, order_id, Prefer="respond-async")) == 202

    return reserve


def event(site: Site) -> Reserve:
    """What the caller does is its own: it places an order, and the inventory reserves upon that."""

    async def reserve(order_id: str) -> bool:
        line = OrderLine(SKU, "Product", "things", 1, 1_000)
        command = PlaceOrder(order_id, "customer-1", "EUR", (line,), workflow="choreographed")
        answer = await site.sender.send(command, id=order_id, correlation=order_id, timeout_s=WAITS_S)
        return isinstance(answer, Stored)

    return reserve


def _post(site: Site, order_id: str, **more: str) -> Call:
    body = msgspec.json.encode({"order_id": order_id, "items": [{"sku": SKU, "quantity": 1}]})
    headers = {"Authorization": f"Bearer {site.token}", "Content-Type": "application/json", "Idempotency-Key": order_id}
    return http_call("POST", "/v1/reservations", body, {**headers, **more})


async def _status(path: CallPath, call: Call) -> int:
    """0 where there is no answer."""
    try:
        return (await path.call(call, deadline=time.monotonic() + WAITS_S)).status
    except CallFailed:
        return 0
