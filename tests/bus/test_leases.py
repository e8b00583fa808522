"""Leases on one server and on three: one owner at a time, a token that rises, nothing that others must poll for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from bus.owners.leases import Found, Holder, Leases, LeasesUnreachable
from bus.servers.broker import EmbeddedBroker
from bus.servers.cluster import LocalCluster
from bus.servers.connection import close, connect
from bus.servers.lifetime import is_dead, mark_of
from tests.bus.waiting import PATIENCE_S, until

ANNE, BEN = Holder("anne"), Holder("ben")


@pytest.fixture(params=["one", "three"])
async def leases(request: pytest.FixtureRequest, unique: str) -> AsyncIterator[Leases]:
    servers: EmbeddedBroker | LocalCluster = request.getfixturevalue("broker" if request.param == "one" else "cluster")
    client = await connect(servers.url, "leases")
    opened = Leases(client, 1 if request.param == "one" else 3, bucket=unique)
    async with asyncio.timeout(PATIENCE_S):
        while True:  # Of a bucket that was just made a cluster elects a leader first.
            try:
                await opened.look("key")
                break
            except LeasesUnreachable:
                await asyncio.sleep(0.1)
    yield opened
    await close(client)


async def test_a_free_lease_is_taken_by_one(leases: Leases) -> None:
    assert await leases.look("key") == Found()
    taken = await asyncio.gather(*(leases.write("key", holder, 0) for holder in (ANNE, BEN)))
    assert sorted(token is None for token in taken) == [False, True]
    found = await leases.look("key")
    assert found.holder == (ANNE if taken[0] else BEN)
    assert found.token == found.revision == (taken[0] or taken[1])


async def test_who_renews_keeps_the_token_and_who_comes_later_has_a_higher_one(leases: Leases) -> None:
    token = await leases.write("key", ANNE, 0)
    assert token
    renewed = await leases.write("key", Holder("anne", token=token), token)
    assert renewed
    assert (await leases.look("key")).token == token
    assert await leases.write("key", BEN, token) is None, "the lease was renewed since"
    later = await leases.write("key", BEN, renewed)
    assert later
    assert later > token
    assert await leases.write("key", Holder("anne", token=token), renewed) is None, "it was lost"
    assert (await leases.look("key")) == Found(later, BEN)


async def test_what_is_given_up_is_free_and_its_tokens_go_on_rising(leases: Leases) -> None:
    token = await leases.write("key", ANNE, 0)
    assert token
    assert await leases.give_up("key", token + 1) is False, "not ours to give up"
    assert await leases.give_up("key", token) is True
    found = await leases.look("key")
    assert found.holder is None
    later = await leases.write("key", BEN, found.revision)
    assert later
    assert later > token


async def test_keys_are_apart(leases: Leases) -> None:
    assert await leases.write("engine.orders.0", ANNE, 0)
    assert await leases.write("engine.orders.1", BEN, 0)
    assert (await leases.look("engine.orders.0")).holder == ANNE


async def test_every_write_is_heard(leases: Leases) -> None:
    heard: list[tuple[str, Holder | None]] = []
    await leases.listen(lambda key, holder: heard.append((key, holder)))
    token = await leases.write("engine.orders.0", ANNE, 0)
    assert token
    await leases.give_up("engine.orders.0", token)
    await until(lambda: len(heard) == 2)
    assert heard == [("engine.orders.0", ANNE), ("engine.orders.0", None)]


async def test_while_the_broker_is_away_it_is_said_at_once_and_listening_goes_on_after(
    own_broker: EmbeddedBroker,
) -> None:
    """The client's own watch was silent for 19 s after this."""
    client = await connect(own_broker.url, "leases")
    leases = Leases(client)
    heard: list[str] = []
    await leases.listen(lambda key, holder: heard.append(key))
    token = await leases.write("key", ANNE, 0)
    assert token
    own_broker.kill()
    await until(lambda: not client.is_connected)
    with pytest.raises(LeasesUnreachable):
        await leases.look("key")
    own_broker.start()
    await until(lambda: client.is_connected)
    heard.clear()
    renewed: int | None = None
    async with asyncio.timeout(PATIENCE_S):
        while not renewed:
            try:
                renewed = await leases.write("key", ANNE, token)
            except LeasesUnreachable:
                await asyncio.sleep(0.05)
    assert renewed > token
    await until(lambda: heard)
    await close(client)


async def test_a_record_that_makes_no_sense_is_nobodys(client: Client, unique: str) -> None:
    leases = Leases(client, bucket=unique)
    await leases.look("key")
    await client.jetstream().publish(f"$KV.{unique}.key", b"nonsense")
    found = await leases.look("key")
    assert found.holder is None
    assert await leases.write("key", ANNE, found.revision)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_process_of_this_machine_is_seen_to_be_dead() -> None:
    assert not is_dead(mark_of())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mark = mark_of(process.pid)
        assert mark
        assert not is_dead(mark)
        process.kill()
        process.wait()
        assert is_dead(mark)
    assert not is_dead("")
    assert not is_dead("another boot/another namespace 1 1"), "of another machine nothing is known"
    machine, pid, started = mark_of().split(" ")
    assert is_dead(f"{machine} {pid} {int(started) - 1}"), "its number was given to another process since"
