"""NATS request/reply at the end of the path, on a real server."""

from __future__ import annotations

import time

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus.calls.call import Call, NoAnswer, Unreachable
from bus.calls.deadline import deadline_of
from bus.calls.over_nats import NatsTransport
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import close, connect


async def test_a_question_is_answered_and_knows_its_deadline(client: Client, unique: str) -> None:
    left_s: list[float] = []

    async def serve(message: Msg) -> None:
        left_s.append(deadline_of(message.headers or {}, 0.0))
        await message.respond(message.data.upper())

    await client.subscribe(unique, cb=serve)
    reply = await NatsTransport("d", client)(Call(unique, b"who"), time.monotonic() + 5)
    assert (reply.status, reply.body) == (200, b"WHO")
    assert 4 < left_s[0] <= 5


async def test_nobody_there_is_told_from_nobody_answering(client: Client, unique: str) -> None:
    transport = NatsTransport("d", client)
    with pytest.raises(Unreachable, match="nobody serves"):
        await transport(Call(f"{unique}.nobody"), time.monotonic() + 5)

    async def silent(message: Msg) -> None: ...

    await client.subscribe(f"{unique}.silent", cb=silent)
    with pytest.raises(NoAnswer):
        await transport(Call(f"{unique}.silent"), time.monotonic() + 0.05)


async def test_without_a_broker_nothing_is_sent(broker: EmbeddedBroker) -> None:
    client = await connect(broker.url, "test")
    await close(client)
    with pytest.raises(Unreachable, match="broker"):
        await NatsTransport("d", client)(Call("anything"), time.monotonic() + 5)
