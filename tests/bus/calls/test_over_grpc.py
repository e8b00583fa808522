"""gRPC at the end of the path, against a real server that does as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from bus.calls.breaker import State
from bus.calls.call import BUSY_STATUSES, Busy, CallFailed, DeadlineExceeded, NoAnswer, Unreachable
from bus.calls.deadline import HEADER, deadline_of
from bus.calls.over_grpc import HTTP_STATUS, GrpcTransport, balanced, grpc_call, instances, open_channel
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from bus.servers.broker import free_port
from bus.servers.certificates import make
from bus.servers.tls import Party, identity

METHOD = "/t.Service/Do"
Context = grpc.aio.ServicerContext[bytes, bytes]
Behave = Callable[[bytes, Context], Awaitable[bytes]]


@asynccontextmanager
async def serving(
    behave: Behave, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[str]:
    """The address of a server whose method does so."""
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(behave)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.Service", {"Do": handler}),))
    address = f"127.0.0.1:{port}"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def asking(behave: Behave) -> AsyncIterator[GrpcTransport]:
    async with serving(behave) as address, open_channel(address) as channel:
        yield GrpcTransport("d", channel)


def failing(code: StatusCode, *trailing: tuple[str, str]) -> Behave:
    async def fail(message: bytes, context: Context) -> bytes:
        await context.abort(code, "no", trailing)

    return fail


def soon() -> float:
    return time.monotonic() + 5


async def test_a_message_goes_there_and_an_answer_comes_back() -> None:
    heard: dict[str, str | bytes] = {}

    async def shout(message: bytes, context: Context) -> bytes:
        heard.update(context.invocation_metadata() or ())
        context.set_trailing_metadata((("position", "log=7"),))
        return message.upper()

    async with asking(shout) as transport:
        reply = await transport(grpc_call(METHOD, b"who", {"Idempotency-Key": "k", "traceparent": "t"}), soon())
    assert (reply.status, reply.body, reply.headers["position"]) == (200, b"WHO", "log=7")
    assert (heard["idempotency-key"], heard["traceparent"]) == ("k", "t")
    assert 4 < deadline_of({HEADER: str(heard[HEADER.lower()])}, 0.0) <= 5


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
async def test_a_status_is_an_answer_or_a_failure_that_passes(code: StatusCode) -> None:
    status = HTTP_STATUS[code]
    async with asking(failing(code, ("code", "stable"), ("retry-after", "7"))) as transport:
        if status in BUSY_STATUSES:
            with pytest.raises(Busy) as failed:
                await transport(grpc_call(METHOD, b""), soon())
            assert (failed.value.status, failed.value.retry_after_s, failed.value.passing) == (status, 7.0, True)
        else:
            reply = await transport(grpc_call(METHOD, b""), soon())
            assert (reply.status, reply.headers["grpc-status"], reply.headers["code"]) == (status, code.name, "stable")


def test_what_may_be_sent_again_is_what_passes() -> None:
    busy = {code.name for code, status in HTTP_STATUS.items() if status in BUSY_STATUSES}
    passing = {
        "CANCELLED",
        "UNKNOWN",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    }
    assert busy == passing
    assert not grpc_call(METHOD, b"").repeatable
    assert grpc_call(METHOD, b"", repeatable=True).repeatable
    assert grpc_call(METHOD, b"", {"Idempotency-Key": "k"}).repeatable


async def test_nobody_there_is_told_from_nobody_answering() -> None:
    async with open_channel(f"127.0.0.1:{free_port()}") as channel:
        with pytest.raises(Unreachable):
            await GrpcTransport("d", channel)(grpc_call(METHOD, b""), soon())
    async with asking(failing(StatusCode.UNAVAILABLE)) as transport:
        with pytest.raises(NoAnswer):
            await transport(grpc_call(METHOD, b""), soon())


async def test_who_comes_back_is_reached_again() -> None:
    port = free_port()

    async def answer(message: bytes, context: Context) -> bytes:
        return b"back"

    async with open_channel(f"127.0.0.1:{port}") as channel:
        path = CallPath("d", CallPolicy(retries=10, timeout_s=60.0, retry_burst=10), GrpcTransport("d", channel))
        with pytest.raises(Unreachable):
            await GrpcTransport("d", channel)(grpc_call(METHOD, b""), soon())
        async with serving(answer, port):
            reply = await path.call(grpc_call(METHOD, b"", repeatable=True))
    assert reply.body == b"back"


async def test_a_call_goes_the_whole_path() -> None:
    """Retried while it fails and may be; cut short at the caller's deadline, which is no verdict on the callee."""
    does = [StatusCode.UNAVAILABLE, StatusCode.INTERNAL]

    async def recover(message: bytes, context: Context) -> bytes:
        if does:
            await context.abort(does.pop(0), "not yet", (("code", "any"),))
        if message == b"slow":
            await asyncio.sleep(60)
        return b"done"

    async with asking(recover) as transport:
        path = CallPath("d", CallPolicy(backoff_s=0.0, backoff_max_s=0.0), transport)
        assert (await path.call(grpc_call(METHOD, b"", repeatable=True))).body == b"done"
        with pytest.raises(DeadlineExceeded):
            await path.call(grpc_call(METHOD, b"slow"), deadline=time.monotonic() + 0.1)
        assert path.breaker.state is State.CLOSED


async def test_of_several_one_that_fails_is_left_alone() -> None:
    async def answer(message: bytes, context: Context) -> bytes:
        return b"here"

    async with serving(answer) as there, balanced("d", [f"127.0.0.1:{free_port()}", there]) as balancer:
        answered = 0
        for _ in range(20):
            try:
                answered += (await balancer(grpc_call(METHOD, b""), soon())).body == b"here"
            except CallFailed:
                continue
    assert answered >= 18


async def test_instances_are_reached_at_the_addresses_that_they_say() -> None:
    reach = instances("d")

    def here(name: bytes) -> Behave:
        async def answer(message: bytes, context: Context) -> bytes:
            return name

        return answer

    async with serving(here(b"one")) as one, serving(here(b"other")) as other:
        replies = [await reach(address)(grpc_call(METHOD, b""), soon()) for address in (one, other)]
    assert [reply.body for reply in replies] == [b"one", b"other"]


async def test_a_call_over_tls_shows_who_makes_it_and_trusts_our_authority_only(tmp_path: Path) -> None:
    folder, others = tmp_path / "ours", tmp_path / "others"
    for each in (folder, others):
        make(each, [Party("stock", serves=True), Party("orders")])
    ca, certificate, key = identity(folder, "stock").pems
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, True)
    shown: list[str] = []

    async def answer(message: bytes, context: Context) -> bytes:
        shown.extend(name.decode() for name in context.auth_context()["x509_subject_alternative_name"])
        return b"here"

    async with serving(answer, credentials=credentials) as address:
        async with balanced("d", [address], identity(folder, "orders")) as balancer:
            assert (await balancer(grpc_call(METHOD, b""), soon())).body == b"here"
        for own in (None, identity(others, "orders")):
            async with open_channel(address, own) as channel:
                with pytest.raises(Unreachable):
                    await GrpcTransport("d", channel)(grpc_call(METHOD, b""), soon())
    assert shown == ["orders.tally.internal"]
