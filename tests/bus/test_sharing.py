"""Sharing: however workers come and go, each key ends with one owner, evenly, and nothing moves without a reason."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from bus.owners.leases import LEASE_S, Leases
from bus.owners.sharing import Held, Sharing, group_of, rank, surplus
from bus.presence import Announcing, Present, Worker
from tests.bus.waiting import PATIENCE_S, turns, until

KEYS = [*(f"engine.orders.{n}" for n in range(4)), "engine.payments.0", "engine.catalogue.0", "engine.inventory.0"]

# -- the rule -------------------------------------------------------------------------------------------------------

comings = st.lists(st.tuples(st.sampled_from(["join", "leave"]), st.integers(0, 4)), max_size=12)
sizes = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def settle(keys: list[str], workers: set[str], holders: dict[str, str]) -> int:
    """Do what the rule says until nothing is left to do; how many keys moved that had an owner."""
    for key in list(holders):
        if holders[key] not in workers:
            del holders[key]
    moved = 0
    for _ in range(1_000):
        free = [key for key in keys if key not in holders]
        if free:
            (holders[free[0]],) = [each for each in workers if rank(free[0], each, workers, holders) == 0]
            continue
        given_up = {each: key for each in sorted(workers) if (key := surplus(each, lambda _: workers, holders))}
        if not given_up:
            return moved
        giver, key = next(iter(given_up.items()))
        del holders[key]
        (taker,) = [each for each in workers if rank(key, each, workers, holders) == 0]
        assert taker != giver
        moved += 1
    raise AssertionError("it never comes to rest")


def loads(keys: list[str], workers: set[str], holders: dict[str, str], group: str = "") -> list[int]:
    counts = Counter(holders[key] for key in keys if not group or group_of(key) == group)
    return [counts[each] for each in workers]


@given(sizes, comings)
def test_whoever_comes_and_goes_it_ends_evenly_and_stays_so(groups: list[int], script: list[tuple[str, int]]) -> None:
    keys = [f"engine.g{group}.{number}" for group, size in enumerate(groups) for number in range(size)]
    workers, holders = {"w0"}, dict[str, str]()
    for what, number in script:
        if what == "join":
            workers.add(f"w{number}")
        elif len(workers) > 1:
            workers.discard(f"w{number}")
        settle(keys, workers, holders)
        assert set(holders) == set(keys)
        for group in {group_of(key) for key in keys}:
            its = loads(keys, workers, holders, group)
            assert max(its) - min(its) <= 1, "each domain's partitions are spread"
        in_all = loads(keys, workers, holders)
        assert max(in_all) - min(in_all) <= len(groups), "and nobody has one of everything while another has nothing"
        assert settle(keys, workers, holders) == 0


def test_no_more_moves_than_it_takes() -> None:
    holders = dict.fromkeys(KEYS, "anne")
    assert settle(KEYS, {"anne", "ben"}, holders) == 3
    assert sorted(loads(KEYS, {"anne", "ben"}, holders)) == [3, 4]
    assert sorted(loads(KEYS, {"anne", "ben"}, holders, "engine.orders")) == [2, 2]


# -- several workers on one server ----------------------------------------------------------------------------------


class Crew:
    """Workers in this process, whose role is to write down that they play it."""

    def __init__(self, client: Client, bucket: str, keys: list[str] = KEYS) -> None:
        self.playing: dict[str, list[tuple[str, int]]] = {key: [] for key in keys}
        """Who plays a key's role now, and under which token."""
        self.most = 0
        """How many ever played one at a time."""
        self.tokens: dict[str, list[int]] = {key: [] for key in keys}
        self.sharing: dict[str, Sharing] = {}
        self.passed_s = 0.0
        """How much later it is on everybody's clock than in truth."""
        self._client = client
        self.bucket = bucket
        self._keys = keys
        self._running: dict[str, list[asyncio.Task[None]]] = {}
        self._announcing: dict[str, Announcing] = {}

    async def join(self, name: str, *only: str) -> None:
        me = Worker(f"{self.bucket}-{name}", "host", 1, "", (self.bucket,), 0.0, "test", services=only)
        announcing = Announcing(self._client, me)
        present = Present(self._client, self.clock)
        await present.start()

        @asynccontextmanager
        async def role(held: Held) -> AsyncIterator[asyncio.Future[None]]:
            its, one = self.playing[held.key], (name, held.token)
            its.append(one)
            self.tokens[held.key].append(held.token)
            self.most = max(self.most, len(its))
            try:
                yield asyncio.get_running_loop().create_future()
            finally:
                its.remove(one)

        sharing = Sharing(
            self._client,
            Leases(self._client, bucket=self.bucket),
            present,
            me,
            only or self._keys,
            role,
            candidate=lambda worker, key: self.bucket in worker.parts and key in (worker.services or self._keys),
            clock=self.clock,
        )
        self.sharing[name], self._announcing[name] = sharing, announcing
        self._running[name] = [asyncio.create_task(announcing.run()), asyncio.create_task(sharing.run())]

    def clock(self) -> float:
        return time.monotonic() + self.passed_s

    async def leave(self, name: str) -> None:
        await self._announcing[name].leave()
        await self.vanish(name)
        await self.sharing.pop(name).stop()

    async def vanish(self, name: str) -> None:
        """Say and do nothing any more, as if the network were cut."""
        for task in self._running.pop(name):
            task.cancel()
            await asyncio.wait({task})

    def spread(self) -> dict[str, int]:
        """How many keys each has, once every key has an owner."""
        if not all(len(its) == 1 for its in self.playing.values()):
            return {}
        return dict(Counter(its[0][0] for its in self.playing.values()))

    def spread_of_orders(self) -> list[int]:
        return sorted(Counter(its[0][0] for key, its in self.playing.items() if its and ".orders." in key).values())

    async def close(self) -> None:
        for name in list(self._running):
            await self.leave(name)


@pytest.fixture
async def crew(client: Client, unique: str) -> AsyncIterator[Crew]:
    crew = Crew(client, unique)
    yield crew
    await crew.close()


@pytest.fixture
def no_lease_lapses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens in such a test happens without waiting for one to lapse."""
    monkeypatch.setattr("bus.owners.sharing.LEASE_S", 10 * PATIENCE_S)


@pytest.mark.usefixtures("no_lease_lapses")
async def test_one_worker_takes_all_at_once_and_a_second_gets_its_share(crew: Crew) -> None:
    await crew.join("anne")
    await until(lambda: crew.spread() == {"anne": 7})
    await crew.join("ben")
    await until(lambda: sorted(crew.spread().values()) == [3, 4] and crew.spread_of_orders() == [2, 2])
    assert crew.most == 1
    for tokens in crew.tokens.values():
        assert tokens == sorted(set(tokens)), "they rise"


@pytest.mark.usefixtures("no_lease_lapses")
async def test_who_takes_some_keys_only_is_given_those_and_not_waited_for_with_others(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.owners.sharing.SETTLE_S", 0.0)
    mine, others = KEYS[0], KEYS[1:]
    await crew.join("ben", mine)
    await until(lambda: len(crew.playing[mine]) == 1)
    await crew.join("anne")
    await until(lambda: crew.spread() == {"ben": 1, "anne": len(others)})
    tokens = {key: list(its) for key, its in crew.tokens.items()}
    for _ in range(3):  # However often that is looked at, there is nothing to give up.
        for sharing in crew.sharing.values():
            await sharing.turn()
    assert crew.spread() == {"ben": 1, "anne": len(others)}
    assert crew.tokens == tokens
    assert not any(held.leave.is_set() for sharing in crew.sharing.values() for held in sharing.held.values())


@pytest.mark.usefixtures("no_lease_lapses")
async def test_who_leaves_is_replaced_at_once(crew: Crew) -> None:
    await crew.join("anne")
    await until(lambda: crew.spread() == {"anne": 7})
    await crew.join("ben")
    await until(lambda: sorted(crew.spread().values()) == [3, 4])
    await crew.leave("anne")
    await until(lambda: crew.spread() == {"ben": 7})


async def test_who_vanishes_is_replaced_when_its_leases_lapse_and_knows_when_it_is_back(crew: Crew) -> None:
    """Nothing is known of its process, as of one on another machine."""
    await crew.join("anne")
    await until(lambda: crew.spread() == {"anne": 7})
    anne = crew.sharing["anne"]
    held = dict(anne.held)
    await crew.vanish("anne")
    await crew.join("ben")
    await turns()
    crew.passed_s += LEASE_S * 0.9
    await turns(200)
    assert crew.spread() == {"anne": 7}, "it may be back any moment"
    crew.passed_s += LEASE_S
    assert not any(each.holds() for each in held.values()), "anne would see that it may not be hers any more"
    await until(lambda: all(any(who == "ben" for who, _ in its) for its in crew.playing.values()))
    assert crew.most == 2, "but does not know yet"
    await anne.turn()
    await until(lambda: not anne.held)
    assert all(each.lost for each in held.values())
    assert crew.spread() == {"ben": 7}


async def test_a_role_that_gives_way_is_played_again(client: Client, unique: str) -> None:
    await _roles_end(client, unique, None)


async def test_a_role_that_cannot_go_on_ends_the_worker(client: Client, unique: str) -> None:
    with pytest.raises(ValueError, match="a defect"):
        await _roles_end(client, unique, ValueError("a defect"))


async def _roles_end(client: Client, bucket: str, error: ValueError | None) -> None:
    """Play a role that ends by itself, until it was played twice."""
    played = 0
    twice = asyncio.Event()

    @asynccontextmanager
    async def role(held: Held) -> AsyncIterator[asyncio.Future[None]]:
        nonlocal played
        played += 1
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if played == 2:
            twice.set()
        elif error is None:
            over.set_result(None)
        else:
            over.set_exception(error)
        yield over

    me = Worker(bucket, "host", 1, "", (bucket,), 0.0, "test")
    sharing = Sharing(client, Leases(client, bucket=bucket), Present(client), me, ["engine.orders.0"], role)
    running = asyncio.create_task(sharing.run())
    waiting = asyncio.create_task(twice.wait())
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if running.done():
        await sharing.stop()
        running.result()
    running.cancel()
    await asyncio.wait({running})
    await sharing.stop()
    assert (await Leases(client, bucket=bucket).look("engine.orders.0")).holder is None


@pytest.mark.usefixtures("no_lease_lapses")
async def test_a_lease_is_given_up_even_when_its_renewal_was_cancelled_on_its_way(crew: Crew, client: Client) -> None:
    await crew.join("anne")
    await until(lambda: crew.spread() == {"anne": 7})
    (held, *_) = crew.sharing["anne"].held.values()
    assert await Leases(client, bucket=crew.bucket).write(held.key, held.holder, held.revision), "nobody hears of it"
    await crew.leave("anne")
    assert (await Leases(client, bucket=crew.bucket).look(held.key)).holder is None


async def test_a_role_that_is_still_getting_ready_does_not_hold_up_the_end(client: Client, unique: str) -> None:
    begun = asyncio.Event()

    @asynccontextmanager
    async def role(held: Held) -> AsyncIterator[asyncio.Future[None]]:
        begun.set()
        await asyncio.get_running_loop().create_future()
        yield asyncio.get_running_loop().create_future()

    me = Worker(unique, "host", 1, "", (unique,), 0.0, "test")
    sharing = Sharing(client, Leases(client, bucket=unique), Present(client), me, ["engine.orders.0"], role)
    running = asyncio.create_task(sharing.run())
    async with asyncio.timeout(PATIENCE_S):
        await begun.wait()
        running.cancel()
        await asyncio.wait({running})
        await sharing.stop()
    assert not sharing.held
