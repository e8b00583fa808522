"""The stock over gRPC, asked by a real client: the same commands, tokens, keys and problems as over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import cast, get_args

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from gateway.grpc.inventory import SERVICE
from gateway.grpc.proto.tally.inventory.v1.inventory_pb2 import (
    Item,
    ReleaseItemsRequest,
    ReleaseItemsResponse,
    ReserveItemsRequest,
    ReserveItemsResponse,
)
from gateway.http.bodies import BODY_BYTES_MAX
from gateway.http.tokens import Role
from tests.system import REPOSITORY, Shop, System, unique

PATIENCE_S = 60.0
ROLES: tuple[Role, ...] = get_args(Role)
README = (REPOSITORY / "README.md").read_text()


class Caller:
    """Somebody with a token, or without."""

    def __init__(self, channel: grpc.Channel, token: str = "") -> None:
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._reserve = channel.unary_unary(
            f"/{SERVICE}/ReserveItems",
            request_serializer=ReserveItemsRequest.SerializeToString,
            response_deserializer=ReserveItemsResponse.FromString,
        )
        self._release = channel.unary_unary(
            f"/{SERVICE}/ReleaseItems",
            request_serializer=ReleaseItemsRequest.SerializeToString,
            response_deserializer=ReleaseItemsResponse.FromString,
        )

    def reserve(self, order_id: str, *items: Item, **metadata: str) -> ReserveItemsResponse:
        request = ReserveItemsRequest(order_id=order_id, items=items)
        return self._reserve(request, timeout=PATIENCE_S, metadata=(*self._metadata, *_named(metadata)))

    def release(self, order_id: str, *items: Item) -> ReleaseItemsResponse:
        request = ReleaseItemsRequest(order_id=order_id, items=items)
        return self._release(request, timeout=PATIENCE_S, metadata=self._metadata)


def _named(metadata: dict[str, str]) -> list[tuple[str, str]]:
    return [(name.replace("_", "-"), value) for name, value in metadata.items()]


def said(failed: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[grpc.StatusCode, str, str]:
    """Status, code and field."""
    call = cast("grpc.Call", failed.value)
    trailing = dict(call.trailing_metadata() or ())
    return call.code(), str(trailing.get("code", "")), str(trailing.get("field", ""))


@pytest.fixture(scope="module")
def channel(system: System) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(system.running.grpc_address) as channel:
        yield channel


@pytest.fixture(scope="module")
def caller(system: System, channel: grpc.Channel) -> Caller:
    return Caller(channel, system.token("staff", "warehouse"))


def test_what_is_reserved_is_promised_and_what_is_released_is_given_back(
    system: System, shop: Shop, caller: Caller, staff: httpx.Client
) -> None:
    sku, order_id, trace_id = shop.product(units=5), unique("order"), "ab" * 16
    reserved = caller.reserve(order_id, Item(sku=sku, quantity=3), traceparent=f"00-{trace_id}-{'cd' * 8}-01")
    assert (reserved.version, reserved.already) == (1, False)
    level = staff.get(f"/v1/stock/{sku}", headers={"Min-Position": reserved.position}).json()
    assert (level["reserved"], level["available"]) == (3, 2)
    commit = next(each for each in system.inside.commits("inventory") if each.aggregate == f"reservation:{order_id}")
    assert (commit.actor, commit.correlation) == ("staff:warehouse", order_id)
    assert commit.trace.startswith(f"00-{trace_id}-")
    assert "cd" * 8 not in commit.trace  # A hop of its own.
    released = caller.release(order_id, Item(sku=sku, quantity=3))
    assert (released.version, released.already) == (2, False)
    assert staff.get(f"/v1/stock/{sku}", headers={"Min-Position": released.position}).json()["available"] == 5


def test_a_repeat_is_answered_as_the_first(shop: Shop, caller: Caller, system: System, channel: grpc.Channel) -> None:
    item, order_id = Item(sku=shop.product(units=5), quantity=2), unique("order")
    first = caller.reserve(order_id, item)
    again = caller.reserve(order_id, item)
    assert (again.position, again.version, again.already) == (first.position, 1, True)
    with pytest.raises(grpc.RpcError) as failed:
        caller.reserve(order_id, Item(sku=item.sku, quantity=1))
    assert said(failed)[1] == "reservation_differs"
    other = Caller(channel, system.token("staff", "somebody-else"))
    assert other.reserve(order_id, item).already  # Another command, and nothing had to change.
    key = unique("key")
    assert caller.reserve(order_id, item, idempotency_key=key).already
    with pytest.raises(grpc.RpcError) as failed:
        caller.reserve(unique("order"), item, idempotency_key=f"{key} with spaces")
    assert said(failed) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed", "header:Idempotency-Key")
    assert caller.release(order_id, item).version == 2
    with pytest.raises(grpc.RpcError) as failed:
        other.reserve(order_id, item, idempotency_key=unique("key"))
    assert said(failed)[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "reservation_over")


def test_too_little_stock_is_the_orders_answer_for_good(shop: Shop, caller: Caller) -> None:
    sku, order_id = shop.product(units=1), unique("order")
    for metadata in ({}, {}, {"idempotency_key": unique("key")}):
        with pytest.raises(grpc.RpcError) as failed:
            caller.reserve(order_id, Item(sku=sku, quantity=2), **metadata)
        assert said(failed) == (grpc.StatusCode.FAILED_PRECONDITION, "out_of_stock", "/items")
    assert shop.stock(sku) == (1, 0, 1)


@pytest.mark.parametrize(
    ("role", "order_id", "items", "metadata", "status", "code", "field"),
    [
        ("", "o", [Item(sku="s", quantity=1)], {}, "UNAUTHENTICATED", "unauthenticated", ""),
        ("customer", "o", [Item(sku="s", quantity=1)], {}, "PERMISSION_DENIED", "forbidden", ""),
        ("staff", "", [Item(sku="s", quantity=1)], {}, "INVALID_ARGUMENT", "malformed", "/order_id"),
        ("staff", "o", [], {}, "INVALID_ARGUMENT", "malformed", "/items"),
        ("staff", "o", [Item(sku="s")], {}, "INVALID_ARGUMENT", "malformed", "/items/0/quantity"),
        ("staff", "o", [Item(sku="s", quantity=1)] * 2, {}, "FAILED_PRECONDITION", "sku_repeated", "/items"),
        ("staff", "o", [Item(sku="s" * BODY_BYTES_MAX)], {}, "RESOURCE_EXHAUSTED", "", ""),
        ("staff", "o", [Item(sku="s", quantity=1)], {"deadline_ms": "0"}, "DEADLINE_EXCEEDED", "deadline_exceeded", ""),
        ("staff", "o", [Item(sku="s", quantity=1)], {"deadline_ms": "soon"}, "INVALID_ARGUMENT", "malformed", None),
    ],
)
def test_what_makes_no_sense_is_refused(
    system: System,
    channel: grpc.Channel,
    role: str,
    order_id: str,
    items: list[Item],
    metadata: dict[str, str],
    status: str,
    code: str,
    field: str | None,
) -> None:
    token = next((system.token(each, "c") for each in ROLES if each == role), "")
    caller = Caller(channel, token)
    with pytest.raises(grpc.RpcError) as failed:
        caller.reserve(order_id, *items, **metadata)
    expected = "header:Deadline-Ms" if field is None else field
    assert said(failed) == (grpc.StatusCode[status], code, expected)


def test_nothing_is_released_that_was_not_reserved(caller: Caller) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        caller.release(unique("order"), Item(sku="s", quantity=1))
    assert said(failed) == (grpc.StatusCode.FAILED_PRECONDITION, "nothing_reserved", "")


def test_health_is_told_to_whoever_asks_and_whoever_watches(channel: grpc.Channel) -> None:
    how = HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
    check = channel.unary_unary("/grpc.health.v1.Health/Check", *how)
    for service in ("", SERVICE):
        assert check(HealthCheckRequest(service=service), timeout=PATIENCE_S).status == HealthCheckResponse.SERVING
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch", *how)
    watching = watch(HealthCheckRequest(service=SERVICE), timeout=PATIENCE_S)
    assert next(watching).status == HealthCheckResponse.SERVING
    watching.cancel()


def test_what_may_be_asked_is_told(channel: grpc.Channel) -> None:
    ask = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )
    asked = [ServerReflectionRequest(list_services=""), ServerReflectionRequest(file_containing_symbol=SERVICE)]
    services, file = ask(iter(asked), timeout=PATIENCE_S)
    assert {SERVICE, "grpc.health.v1.Health"} <= {each.name for each in services.list_services_response.service}
    described = FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    assert [method.name for method in described.service[0].method] == ["ReserveItems", "ReleaseItems"]


def test_the_example_works_as_it_stands_in_the_readme(system: System, shop: Shop) -> None:
    (example,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if SERVICE in block)
    sku = shop.product(units=2)
    ran = subprocess.run(
        [sys.executable, "-c", example.replace("127.0.0.1:50051", system.running.grpc_address).replace("mug", sku)],
        env={**os.environ, "TOKEN": system.token("staff", "reader")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert "version: 1" in ran.stdout
    assert shop.stock(sku) == (2, 2, 0)


def test_it_is_counted(channel: grpc.Channel, caller: Caller, nobody: httpx.Client) -> None:
    with pytest.raises(grpc.RpcError):
        caller.release(unique("order"), Item(sku="s", quantity=1))
    counted = nobody.get("/metrics").text
    assert 'tally_grpc_calls_total{method="ReleaseItems",status="FAILED_PRECONDITION"}' in counted
