"""Limits over several gateways: together they let through what one would, and hardly ever ask the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import get
from nats.aio.client import Client

from bus.allowances import Allowances, Drawn
from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import close, connect
from gateway.http.limits import Taken, buckets_of
from gateway.http.shared_limits import SharedBucket
from gateway.settings import Rate
from tests.clock import Clock
from tests.gateway.asserts import problem
from tests.gateway.test_limits import bearer, limited


class Counted(Allowances):
    """Counts how often the broker is asked."""

    def __init__(self, client: Client, bucket: str, clock: Clock) -> None:
        super().__init__(client, bucket=bucket, now=clock)
        self.draws = 0

    async def draw(self, key: str, wanted: int, each_s: float, window_s: float) -> Drawn:
        self.draws += 1
        return await super().draw(key, wanted, each_s, window_s)


@asynccontextmanager
async def gateways(broker: EmbeddedBroker, unique: str, rate: Rate, clock: Clock) -> AsyncIterator[list[SharedBucket]]:
    """Two, each with a connection of its own."""
    clients = [await connect(broker.url, "gateway") for _ in range(2)]
    both = [SharedBucket("customer", rate, clock) for _ in clients]
    for bucket, client in zip(both, clients, strict=True):
        bucket.allowances = Counted(client, unique, clock)
    try:
        yield both
    finally:
        for client in clients:
            await close(client)


async def take(bucket: SharedBucket, client: str = "anna") -> Taken:
    taken = bucket.take(client)
    return taken if taken is not None else await bucket.ask(client)


async def granted(bucket: SharedBucket, tries: int) -> int:
    return sum([not (await take(bucket)).wait_s for _ in range(tries)])


def draws(bucket: SharedBucket) -> int:
    assert isinstance(bucket.allowances, Counted)
    return bucket.allowances.draws


async def test_two_gateways_let_through_what_one_would(broker: EmbeddedBroker, unique: str, clock: Clock) -> None:
    async with gateways(broker, unique, Rate(100, 60), clock) as (one, other):
        passed = 0
        for _ in range(80):
            passed += await granted(one, 1) + await granted(other, 1)
        assert passed == 100
        clock.now += 30.0
        assert await granted(one, 100) + await granted(other, 100) == 50
        assert not (await take(other, "berta")).wait_s, "another client's are another bucket"


async def test_a_request_in_many_asks_the_broker_and_a_refused_one_does_not(
    broker: EmbeddedBroker, unique: str, clock: Clock
) -> None:
    async with gateways(broker, unique, Rate(1_000, 60), clock) as (one, _):
        assert await granted(one, 1_000) == 1_000
        assert draws(one) <= 12
        refused = await take(one)
        before = draws(one)
        assert 0 < refused.wait_s <= 0.06
        assert await granted(one, 200) == 0
        assert draws(one) - before <= 1
        clock.now += refused.wait_s
        assert await granted(one, 1) == 1, "it is as it was told"


async def test_a_small_rate_is_exact_over_gateways(broker: EmbeddedBroker, unique: str, clock: Clock) -> None:
    async with gateways(broker, unique, Rate(3, 60), clock) as (one, other):
        lefts = [(await take(bucket)).left for bucket in (one, other, one)]
        assert lefts == [2, 1, 0]
        refused = await take(other)
        assert (refused.left, round(refused.wait_s), round(refused.full_s)) == (0, 20, 60)
        clock.now += 20.1
        assert not (await take(other)).wait_s
        assert (await take(one)).wait_s > 0


async def test_without_the_broker_each_gateway_counts_for_itself(
    broker: EmbeddedBroker, unique: str, clock: Clock
) -> None:
    async with gateways(broker, unique, Rate(2, 60), clock) as (one, _):
        pass
    assert await granted(one, 5) == 2, "its connection is closed"
    assert draws(one) == 1, "and it is not asked again at once"


async def test_requests_are_refused_whichever_gateway_they_come_to(
    broker: EmbeddedBroker, unique: str, clock: Clock
) -> None:
    @get("/quick")
    async def quick() -> str:
        return "quick"

    async with gateways(broker, unique, Rate(2, 60), clock) as both:
        answers = []
        for bucket in (both[0], both[1], both[0], both[1]):
            buckets = buckets_of({"customer": Rate(2, 60)}, lambda role, rate, bucket=bucket: bucket)  # type: ignore[misc]  # Bound now.
            async with limited([quick], buckets, {}) as http:
                answers.append(await http.get("/quick", headers=bearer()))
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
        problem(answers[2], 429, "rate_limited")
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 30
        assert answers[1].headers["RateLimit"].startswith('"customer";r=0;')
