"""The micro protocol: what `nats micro` asks, answered as the client's own library reads it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.micro.service import EndpointStats as StatsRead
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from bus.commands import Envelope, Stored, command_subject, decode_answers
from bus.engines.endpoint import Endpoint
from bus.logs.log import MemoryLog
from bus.presence import Announcing, this_process
from tests.bus.counter import Add, CounterEngine, command, counters


@pytest.fixture
async def announcing(client: Client, unique: str) -> AsyncIterator[Announcing]:
    """A process, with an engine of its own that it announces."""
    announcing = Announcing(client, this_process(("commands",), "0.1.0.dev3"))
    engine = CounterEngine(counters(unique), MemoryLog(unique))
    await engine.start()
    endpoint = Endpoint(client, engine, unique, endpoints=announcing.micro.endpoints)
    await endpoint.start()
    running = asyncio.create_task(announcing.run())
    await client.flush()
    yield announcing
    running.cancel()
    await endpoint.stop()
    await engine.stop()
    assert not announcing.micro.endpoints


async def asked(client: Client, announcing: Announcing, verb: str) -> dict[str, Any]:
    """What this instance answers."""
    subject = f"$SRV.{verb}.tally-commands.{announcing.worker.id}"
    answer: dict[str, Any] = json.loads((await client.request(subject, timeout=10)).data)
    return answer


async def test_a_process_answers_all_who_ask_by_name_or_by_instance(client: Client, announcing: Announcing) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    inbox = client.new_inbox()

    async def arrived(message: Any) -> None:
        told.put_nowait(json.loads(message.data)["id"])

    await client.subscribe(inbox, cb=arrived)
    for subject in ("$SRV.PING", "$SRV.PING.tally-commands", f"$SRV.PING.tally-commands.{announcing.worker.id}"):
        await client.publish(subject, reply=inbox)
        async with asyncio.timeout(30):
            while await told.get() != announcing.worker.id:
                continue  # Another one of this session.


async def test_its_answers_are_those_of_the_protocol(client: Client, announcing: Announcing, unique: str) -> None:
    ping = ServicePing.from_dict(await asked(client, announcing, "PING"))
    assert (ping.name, ping.id, ping.version) == ("tally-commands", announcing.worker.id, "0.1.0")
    assert ping.type == "io.nats.micro.v1.ping_response"
    info = ServiceInfo.from_dict(await asked(client, announcing, "INFO"))
    (endpoint,) = info.endpoints
    assert (endpoint.name, endpoint.subject) == (f"{unique}-0", command_subject(unique, 0))
    assert (endpoint.queue_group, info.type) == ("engine", "io.nats.micro.v1.info_response")


async def test_what_was_served_is_counted(client: Client, announcing: Announcing, unique: str) -> None:
    frame: list[Envelope] = [command(Add("a", 1), "c1")]
    subject = command_subject(unique, 0)
    (answer,) = decode_answers((await client.request(subject, msgspec.json.encode(frame), timeout=10)).data)
    assert isinstance(answer, Stored)
    await client.request(subject, b"nonsense", timeout=10)
    stats = ServiceStats.from_dict(await asked(client, announcing, "STATS"))
    (served,) = stats.endpoints
    assert isinstance(served, StatsRead)
    assert (served.num_requests, served.num_errors) == (2, 1)
    assert served.last_error is not None
    assert served.last_error.startswith("malformed_frame")
    assert served.processing_time > 0
    assert stats.type == "io.nats.micro.v1.stats_response"


async def test_a_question_that_is_none_is_not_answered(client: Client, announcing: Announcing) -> None:
    with pytest.raises(TimeoutError):
        await client.request(f"$SRV.SCHEMA.tally-commands.{announcing.worker.id}", timeout=0.2)
