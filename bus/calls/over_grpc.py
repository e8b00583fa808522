"""Calls over gRPC: the transport at the end of a call path, and nothing else. Needs the extra `grpc`.

A call's target is a method's full name, its body a message as bytes: what is in it is its caller's matter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import grpc.aio
from grpc import ChannelConnectivity, StatusCode

from bus.calls.balancing import Balancer
from bus.calls.call import BUSY_STATUSES, GRACE_S, REAL_TIME, Busy, Call, NoAnswer, Reply, Step, Time, Unreachable
from bus.calls.deadline import HEADER, header_of
from bus.servers.tls import Identity

CONNECT_TIMEOUT_S = 1.0
ANSWER_BYTES_MAX = 1024 * 1024
RETRY_AFTER_MAX_S = 3_600.0
OPTIONS = (
    ("grpc.enable_retries", 0),  # The call path has its own, with a budget.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.use_local_subchannel_pool", 1),  # Or channels to one address would share its backoff, too.
)

HTTP_STATUS: Final[Mapping[StatusCode, int]] = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 503,  # By the callee: it is about to end.
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
}
"""As google.rpc maps them, but for CANCELLED. So what is worth asking again is said in one place, `BUSY_STATUSES`."""


def grpc_call(
    method: str, message: bytes, headers: Mapping[str, str] | None = None, *, repeatable: bool = False
) -> Call:
    """Repeatable where its caller knows it to be, or because it has an `Idempotency-Key`."""
    headers = headers or {}
    return Call(method, message, headers=headers, repeatable=repeatable or "Idempotency-Key" in headers)


def open_channel(address: str, own: Identity | None = None) -> grpc.aio.Channel:
    """The one place where a channel is made. With an identity it speaks TLS: it trusts our authority and nobody else,
    and shows who we are."""
    if own is None:
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    ca, certificate, key = own.pems
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate), options=OPTIONS)


def instances(destination: str, own: Identity | None = None) -> Callable[[str], Step]:
    """How an instance is reached that says its address (`Discovery.balancer`). Its channel is closed when the instance
    is forgotten."""

    def reach(address: str) -> Step:
        return GrpcTransport(destination, open_channel(address, own))

    return reach


@asynccontextmanager
async def balanced(destination: str, addresses: Sequence[str], own: Identity | None = None) -> AsyncIterator[Balancer]:
    """The end of a path to a destination with several addresses."""
    async with AsyncExitStack() as stack:
        channels = {each: await stack.enter_async_context(open_channel(each, own)) for each in addresses}
        yield Balancer(destination, {each: GrpcTransport(destination, channel) for each, channel in channels.items()})


class GrpcTransport:
    """Connects within a second, and waits until the call's deadline and a little longer. It sends that along.

    A reply has the status that HTTP has for it, and in its headers what came behind it: `grpc-status`, `grpc-message`
    and the callee's own, such as `code`.
    """

    def __init__(self, destination: str, channel: grpc.aio.Channel, time: Time = REAL_TIME) -> None:
        self._destination = destination
        self._channel = channel
        self._time = time

    async def __call__(self, call: Call, deadline: float) -> Reply:
        if self._channel.get_state(try_to_connect=True) is not ChannelConnectivity.READY:
            await self._connect()
        now = self._time.now()
        metadata = [(name.lower(), value) for name, value in call.headers.items()]
        metadata.append((HEADER.lower(), header_of(deadline, now)))
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(call.target)
        under_way = method(call.body, timeout=max(0.0, deadline - now) + GRACE_S, metadata=metadata)
        try:
            body = await under_way
        except grpc.aio.AioRpcError as error:
            return self._failed(error)
        return Reply(200, body, _headers(await under_way.trailing_metadata()))

    async def _connect(self) -> None:
        """Raises `Unreachable`: it was not sent."""
        try:
            async with self._time.within(CONNECT_TIMEOUT_S):
                while (state := self._channel.get_state(try_to_connect=True)) is not ChannelConnectivity.READY:
                    if state in (ChannelConnectivity.TRANSIENT_FAILURE, ChannelConnectivity.SHUTDOWN):
                        raise Unreachable(self._destination, "cannot be reached")
                    await self._channel.wait_for_state_change(state)
        except TimeoutError as error:
            raise Unreachable(self._destination, f"no connection within {CONNECT_TIMEOUT_S:g} s") from error

    def _failed(self, error: grpc.aio.AioRpcError) -> Reply:
        """What a status means: an answer, or a failure, which is raised."""
        headers = _headers(error.trailing_metadata())
        status = HTTP_STATUS[error.code()]
        said_by_callee = "code" in headers
        if error.code() is StatusCode.UNAVAILABLE and not said_by_callee:
            raise NoAnswer(self._destination, f"gave no answer ({error.details()})") from error
        if status in BUSY_STATUSES:
            raise Busy(self._destination, status, _retry_after_s(headers.get("retry-after", ""))) from error
        headers |= {"grpc-status": error.code().name, "grpc-message": error.details() or ""}
        return Reply(status, b"", headers)


def _headers(metadata: grpc.aio.Metadata | None) -> dict[str, str]:
    return {name: value for name, value in metadata or () if isinstance(value, str)}


def _retry_after_s(text: str) -> float:
    return min(RETRY_AFTER_MAX_S, float(text)) if text.isascii() and text.isdigit() else 0.0
