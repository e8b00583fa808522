"""Announcements: who waits for a position hears of it, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client

from bus.announcements import EVERYWHERE, Announcer, RebuildProgress, Standing, Standings
from tests.bus.waiting import PATIENCE_S, until


def standing(name: str, sequence: int, **more: object) -> Standing:
    return Standing(name=name, version=1, stream="orders", sequence=sequence, head=sequence, **more)  # type: ignore[arg-type]  # The fields that a test is about.


@pytest.fixture
async def standings(client: Client) -> Standings:
    heard = Standings(client)
    await heard.start()
    await client.flush()
    return heard


async def test_the_latest_announcement_is_kept_as_it_was_said(
    client: Client, standings: Standings, unique: str
) -> None:
    assert standings.latest(unique) is None
    assert standings.silent_s(unique) == float("inf")
    said = standing(unique, 7, error="halted", rebuild=RebuildProgress("building", 3, 7, 12, 1.5, 2.5))
    await Announcer(client).announce(standing(unique, 6))
    await Announcer(client).announce(said)
    await until(lambda: standings.latest(unique) == said)
    assert standings.silent_s(unique) < PATIENCE_S


async def test_who_waits_for_a_position_is_woken_when_it_is_reached(
    client: Client, standings: Standings, unique: str
) -> None:
    waits = {position: asyncio.create_task(standings.wait(unique, position, PATIENCE_S)) for position in (3, 4, 9)}
    await Announcer(client).announce(standing(unique, 4))
    assert await waits[3]
    assert await waits[4]
    assert not waits[9].done()
    await Announcer(client).announce(standing(unique, 10))
    assert await waits[9]


async def test_who_waits_for_a_position_that_was_reached_does_not_wait(
    client: Client, standings: Standings, unique: str
) -> None:
    await Announcer(client).announce(standing(unique, 4))
    await until(lambda: standings.latest(unique))
    assert await standings.wait(unique, 4, 0.0)


async def test_who_waits_in_vain_is_told_so_at_the_timeout(standings: Standings, unique: str) -> None:
    assert not await standings.wait(unique, 2, 0.02)
    assert not await standings.wait(unique, 2, 0.0)


async def test_there_is_a_bound_on_who_waits(
    standings: Standings, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.announcements.WAITERS_MAX", 1)
    first = asyncio.create_task(standings.wait(unique, 2, PATIENCE_S))
    await asyncio.sleep(0)
    assert not await standings.wait(unique, 2, PATIENCE_S)
    first.cancel()
    await asyncio.wait({first})
    assert not await standings.wait(unique, 2, 0.02)  # Its place is free again; nobody announces anything.


async def test_an_announcement_that_makes_no_sense_is_passed_over(
    client: Client, standings: Standings, unique: str
) -> None:
    await client.publish(f"standing.{EVERYWHERE}.{unique}", b"nonsense")
    await Announcer(client).announce(standing(unique, 4))
    await until(lambda: standings.latest(unique))


async def test_who_begins_to_listen_asks_and_is_told_at_once(client: Client, unique: str) -> None:
    announcer = Announcer(client)
    await announcer.start()
    await client.flush()
    question = announcer.question

    async def tell() -> None:
        await announcer.pause(question)
        await announcer.announce(standing(unique, 4))

    telling = asyncio.create_task(tell())
    listening = Standings(client)
    await listening.start()
    await question.wait()
    assert await listening.wait(unique, 4, PATIENCE_S)
    await telling
    assert not announcer.question.is_set()


async def test_a_read_model_of_another_node_is_not_taken_for_ours(client: Client, unique: str) -> None:
    """Its file may be further on than ours; what is everybody's is heard by all."""
    ours = Standings(client, f"{unique}-ours")
    await ours.start()
    await Announcer(client, f"{unique}-ours").announce(standing(unique, 4))
    await Announcer(client, f"{unique}-theirs").announce(standing(unique, 9))
    await Announcer(client).announce(standing(f"{unique}-reactor", 5))
    await until(lambda: ours.latest(unique) and ours.latest(f"{unique}-reactor"))
    heard = [ours.latest(name) for name in (unique, f"{unique}-reactor")]
    assert [one.sequence for one in heard if one] == [4, 5]
