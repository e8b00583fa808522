"""Limits: a token bucket a client, and so many requests of a route at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
from litestar import Litestar, get
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.middleware import DefineMiddleware
from litestar.params import FromPath

from gateway.app import create_app
from gateway.http import limits
from gateway.http.limits import Bucket, Buckets, Limits, buckets_of
from gateway.http.problems import handle
from gateway.http.security import Authentication
from gateway.http.tokens import Role, Tokens
from gateway.http.traced import Traced
from gateway.settings import Rate, Settings, SettingsError
from tests.bus.waiting import until
from tests.clock import Clock
from tests.gateway.asserts import problem

TOKENS = Tokens("a secret that is long enough for any test")


def test_a_bucket_gives_its_fill_at_once_and_then_as_it_fills_up() -> None:
    clock = Clock()
    bucket = Bucket(Rate(3, 60), clock)
    assert [bucket.take("a").left for _ in range(3)] == [2, 1, 0]
    empty = bucket.take("a")
    assert (empty.left, round(empty.wait_s), round(empty.full_s)) == (0, 20, 60)
    clock.now += 19.9
    assert bucket.take("a").wait_s > 0  # What was refused costs nothing.
    clock.now += 0.1
    assert bucket.take("a").wait_s == 0
    assert bucket.take("a").wait_s > 0
    clock.now += 1_000
    assert [bucket.take("a").wait_s for _ in range(4)][:3] == [0, 0, 0]
    assert bucket.take("a").wait_s > 0


def test_clients_have_a_bucket_each() -> None:
    bucket = Bucket(Rate(1, 60), Clock())
    assert bucket.take("a").wait_s == 0
    assert bucket.take("a").wait_s > 0
    assert bucket.take("b").wait_s == 0


def test_no_more_clients_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENTS_MAX", 10)
    clock = Clock()
    bucket = Bucket(Rate(1, 60), clock)
    for number in range(10):
        bucket.take(f"early-{number}")
    clock.now += 60
    bucket.take("empty")
    for number in range(100):
        bucket.take(f"late-{number}")
        assert len(bucket._full_at) <= 10
    clock.now += 1
    assert bucket.take("late-99").wait_s > 0  # Those that came last are the ones that are known.


@asynccontextmanager
async def limited(
    routes: Sequence[HTTPRouteHandler], buckets: Buckets, at_once: Mapping[str, int]
) -> AsyncIterator[httpx.AsyncClient]:
    app = Litestar(
        routes,
        middleware=[DefineMiddleware(Authentication), DefineMiddleware(Limits, buckets=buckets, at_once=at_once)],
        exception_handlers={Exception: handle},
        state=State({"tokens": TOKENS}),
        openapi_config=None,
    )
    app.asgi_handler = Traced(app.asgi_handler)
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # Each calls the same protocol by types of its own.
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        yield http


class Held:
    """A route whose requests wait until they are let go."""

    def __init__(self) -> None:
        self.running = 0
        self.go = asyncio.Event()


@asynccontextmanager
async def application(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, Held]]:
    held = Held()

    @get("/slow/{id:str}")
    async def slow(id: FromPath[str]) -> str:
        held.running += 1
        await held.go.wait()
        return id

    @get("/quick")
    async def quick() -> str:
        return "quick"

    @get("/open", exclude_from_auth=True)
    async def public() -> str:
        return "open"

    async with limited([slow, quick, public], buckets_of(settings.rates), settings.at_once) as http:
        yield http, held


def bearer(role: Role = "customer", subject: str = "anna") -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS.issue(role, subject)}"}


async def test_who_asks_too_much_is_told_how_much_is_left_and_when_to_come_again() -> None:
    async with application(Settings(rates={"customer": Rate(2, 60)})) as (http, _):
        first = await http.get("/quick", headers=bearer())
        assert first.headers["RateLimit-Policy"] == '"customer";q=2;w=60'
        assert first.headers["RateLimit"] == '"customer";r=1;t=30'
        assert (await http.get("/quick", headers=bearer())).headers["RateLimit"].startswith('"customer";r=0;t=6')
        refused = await http.get("/quick", headers=bearer())
        problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["Retry-After"]) <= 30
        assert refused.headers["RateLimit"].startswith('"customer";r=0;')
        assert (await http.get("/quick", headers=bearer("customer", "berta"))).status_code == 200
        of_staff = await http.get("/quick", headers=bearer("staff"))  # That role has no limit.
        assert (of_staff.status_code, "RateLimit" in of_staff.headers) == (200, False)
        assert "RateLimit" not in (await http.get("/open")).headers
        assert (await http.get("/quick")).status_code == 401


async def test_of_a_route_so_many_run_at_once_and_no_other_is_held_up() -> None:
    async with application(Settings(at_once={"GET /slow/{id}": 2, "*": 1})) as (http, held):
        running = [asyncio.create_task(http.get(f"/slow/{n}", headers=bearer())) for n in range(2)]
        await until(lambda: held.running == 2, "both of them")
        refused = await http.get("/slow/3", headers=bearer())
        problem(refused, 503, "overloaded")
        assert refused.headers["Retry-After"] == "1"
        assert (await http.get("/quick", headers=bearer())).status_code == 200
        held.go.set()
        assert [answer.status_code for answer in await asyncio.gather(*running)] == [200, 200]
        assert (await http.get("/slow/4", headers=bearer())).status_code == 200


async def test_a_request_that_is_given_up_makes_room() -> None:
    async with application(Settings(at_once={"*": 1})) as (http, held):
        running = asyncio.create_task(http.get("/slow/1", headers=bearer()))
        await until(lambda: held.running == 1, "the first")
        running.cancel()
        await asyncio.wait({running})
        held.go.set()
        assert (await http.get("/slow/2", headers=bearer())).status_code == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # The framework's next version marks bodies in another way.
def test_a_limit_for_a_route_that_is_not_there_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="GET /v1/nothing"):
        create_app(Settings(at_once={"GET /v1/nothing": 2}))
    create_app(Settings(at_once={"GET /v1/orders/{order_id}": 2, "POST /v1/orders": 2, "*": 2}))
