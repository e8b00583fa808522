"""Discovery: a balancer knows who is there, within a moment of their coming, and of their falling silent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus.calls.call import Call, Reply, Step, Unreachable, http_call
from bus.calls.discovery import INSTANCES_MAX, Discovery
from bus.calls.over_http import HttpTransport, instances
from bus.calls.over_http import client as http_client
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from bus.presence import SILENT_S, Announcing, Offer, Present, Worker, this_process
from tests.bus.calls.staged import ASK, DONE
from tests.bus.waiting import until
from tests.clock import Clock

LATER = 1e12


def worker(name: str, *addresses: str, version: str = "1.0.0", leaving: bool = False) -> Worker:
    offers = tuple(Offer("d", address, version) for address in addresses)
    return Worker(name, "host", 1, "", ("commands",), 0.0, version, leaving=leaving, offers=offers)


class Reached:
    """Transports that count."""

    def __init__(self) -> None:
        self.got: Counter[str] = Counter()

    def __call__(self, address: str) -> Step:
        async def step(call: Call, deadline: float) -> Reply:
            self.got[address] += 1
            return DONE

        return step


async def test_instances_are_known_as_long_as_they_say_that_they_are_there(present: Present, clock: Clock) -> None:
    reached, discovery = Reached(), Discovery(present)
    balancer = discovery.balancer("d", reached, {"any": reached("any")})

    async def ask() -> set[str]:
        discovery.look()
        reached.got.clear()
        for _ in range(50):
            await balancer(ASK, LATER)
        return set(reached.got)

    assert await ask() == {"any"}
    present.hear(worker("w1", "a"))
    present.hear(worker("w2", "b"))
    assert await ask() == {"a", "b"}
    clock.now += SILENT_S
    present.hear(worker("w2", "b"))
    clock.now += 0.1
    assert await ask() == {"b"}, "the other fell silent"
    present.hear(worker("w2", leaving=True))
    assert await ask() == {"any"}
    assert discovery.balancer("d", reached) is balancer


async def test_where_nobody_is_there_a_call_fails_at_once_and_does_not_wait(present: Present) -> None:
    with pytest.raises(Unreachable):
        await Discovery(present).balancer("d", Reached())(ASK, LATER)


async def test_no_more_instances_are_asked_than_there_is_room_for(present: Present) -> None:
    made: list[str] = []

    def reach(address: str) -> Step:
        made.append(address)
        return Reached()(address)

    present.hear(worker("w1", *(f"a{n}" for n in range(INSTANCES_MAX + 10))))
    Discovery(present).balancer("d", reach)
    assert len(made) == INSTANCES_MAX


# -- over the broker -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def instance(client: Client, service: str, version: str) -> AsyncIterator[Announcing]:
    """A worker that answers on a subject of its own, with its id, and announces it."""
    announcing = Announcing(client, this_process(("states",), version))
    own = f"{service}.{announcing.worker.id}"

    async def arrived(message: Msg) -> None:
        await message.respond(announcing.worker.id.encode())

    heard = await client.subscribe(own, cb=arrived)
    announcing.offer(service, own)
    running = asyncio.create_task(announcing.run())
    try:
        yield announcing
    finally:
        running.cancel()
        await heard.unsubscribe()


async def test_workers_are_found_asked_by_their_own_subjects_and_left_out_when_they_are_gone(
    client: Client, unique: str
) -> None:
    present = Present(client)
    await present.start()
    discovery = Discovery(present)
    path = CallPath(unique, CallPolicy(backoff_s=0), discovery.over_nats(unique, client))

    async def answers() -> set[str]:
        return {(await path.call(Call(unique, repeatable=True))).body.decode() for _ in range(30)}

    async with instance(client, unique, "1.0.0") as one:
        async with instance(client, unique, "1.0.0") as other:
            await until(lambda: len(present.offers(unique)) == 2, "both")
            discovery.look()
            assert await answers() == {one.worker.id, other.worker.id}
        assert await answers() == {one.worker.id}, "retries go elsewhere while it is still believed to be there"
        await until(lambda: len(present.offers(unique)) == 1, "its silence")
        discovery.look()
        assert await answers() == {one.worker.id}


async def test_two_versions_of_a_worker_share_what_is_asked_as_the_policy_says(client: Client, unique: str) -> None:
    present = Present(client)
    await present.start()
    discovery = Discovery(present)
    path = CallPath(unique, CallPolicy(split={"1.0.0": 3, "2.0.0": 1}), discovery.over_nats(unique, client))
    async with instance(client, unique, "1.0.0") as old, instance(client, unique, "2.0.0") as new:
        await until(lambda: len(present.offers(unique)) == 2, "both")
        discovery.look()
        got = Counter([(await path.call(Call(unique, repeatable=True))).body.decode() for _ in range(200)])
        assert 15 < got[new.worker.id] < 100, got
        assert got[old.worker.id] == 200 - got[new.worker.id]
        path.policy = CallPolicy(split={"2.0.0": 1})
        assert (await path.call(Call(unique))).body.decode() == new.worker.id


async def test_it_looks_by_itself(present: Present) -> None:
    made: list[str] = []

    def reach(address: str) -> Step:
        made.append(address)
        return Reached()(address)

    discovery = Discovery(present)
    discovery.balancer("d", reach)
    watching = asyncio.create_task(discovery.watch(0.001))
    present.hear(worker("w1", "a"))
    await until(lambda: made == ["a"], "a look")
    watching.cancel()


async def test_instances_over_http_are_reached_by_their_urls() -> None:
    server = await asyncio.start_server(_http, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname()[:2])
    async with server, http_client("") as http:
        reply = await instances(HttpTransport("d", http))(url)(http_call("GET", "/here"), LATER)
    assert (reply.status, reply.body) == (200, b"/here")


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the path that is asked for."""
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))
    await writer.drain()
    writer.close()
