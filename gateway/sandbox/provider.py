"""A simulated payment provider: an HTTP service of its own with idempotency keys and a ledger that survives restarts.

The payment token chooses what happens. `tok_ok` captures, `tok_slow` does after 3 s, `tok_flaky` answers 503 the first
time, `tok_lost_answer` captures and then answers 504 the first time, `tok_async` answers 202 and tells by a signed
webhook later. `DECLINES` names tokens, and the card numbers that test cards have everywhere, which are declined, and
the code. Others are declined, too. `PUT /mode` makes it slow, failing or asynchronous for everybody.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

from litestar import Litestar, Request, Response, get, post, put
from litestar.datastructures import State
from litestar.params import HeaderParameter, JSONBody
from msgspec import Meta, Struct

from bus.servers.lifetime import die_with_parent
from gateway.effects.provider import Operation
from gateway.http.traced import Traced
from gateway.runtime.running import identity_of, running
from gateway.runtime.telemetry import collect_spans
from gateway.sandbox.ledger import Kind, Ledger, Totals
from gateway.settings import from_environment, webhook_secret

SLOW_S = 3.0
DECIDES_AFTER_S = 0.2
CAPTURED: Final = ("tok_ok", "tok_slow", "tok_flaky", "tok_lost_answer", "tok_async", "4242424242424242")
DECLINES: Final[dict[str, str]] = {
    "tok_declined": "card_declined",
    "tok_insufficient_funds": "insufficient_funds",
    "tok_expired": "expired_card",
    "tok_stolen": "stolen_card",
    "4000000000000002": "card_declined",
    "4000000000009995": "insufficient_funds",
    "4000000000000069": "expired_card",
    "4000000000009979": "stolen_card",
}

Share = Annotated[float, Meta(ge=0, le=1)]


class Mode(Struct, frozen=True, forbid_unknown_fields=True):
    """How it behaves to everybody. Of all charges and refunds this share answers 503 and does nothing, does what it is
    asked and loses the answer (504), or answers 202 and decides later. `webhook_copies`: how often each message is
    sent; 0: never, who asked has to ask again."""

    latency_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    failure_share: Share = 0.0
    lost_answer_share: Share = 0.0
    asynchronous_share: Share = 0.0
    webhook_copies: Annotated[int, Meta(ge=0, le=10)] = 1


class ChargeBody(Struct, frozen=True):
    amount_cents: int
    currency: str
    token: str


class RefundBody(Struct, frozen=True):
    charge_id: str
    amount_cents: int
    currency: str = ""


IdempotencyKey = Annotated[str, HeaderParameter(name="Idempotency-Key", min_length=1, max_length=128)]


class Provider:
    """What it knows, and how it behaves."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)
        self.mode = Mode()
        self.deferred = asyncio.Event()
        self._tried: set[str] = set()
        self._chance = random.Random()

    async def handle(
        self, key: str, kind: Kind, make: Callable[[], Operation], currency: str, token: str = ""
    ) -> Response[Operation]:
        """Do what was asked, once a key, unless it is to go wrong."""
        if (known := self.ledger.recorded(key)) is not None:
            return Response(known, status_code=202 if known.status == "pending" else 200)
        mode = self.mode
        await asyncio.sleep(mode.latency_ms / 1_000 + (SLOW_S if token == "tok_slow" else 0.0))  # noqa: S105  # A name.
        if self._chance.random() < mode.failure_share or (token == "tok_flaky" and self._first_try(key)):  # noqa: S105
            return Response(Operation("", "unavailable", 0), status_code=503, headers={"Retry-After": "0"})
        if token == "tok_async" or self._chance.random() < mode.asynchronous_share:  # noqa: S105
            pending = self.ledger.defer(key, kind, make(), currency, time.time() + DECIDES_AFTER_S)
            self.deferred.set()
            return Response(pending, status_code=202)
        made = make()
        self.ledger.record(key, kind, made, currency)
        if token == "tok_lost_answer" or self._chance.random() < mode.lost_answer_share:  # noqa: S105
            return Response(Operation("", "unknown", 0), status_code=504)
        return Response(made, status_code=201)

    async def run(self, secret: str, target: Callable[[], str], trust: ssl.SSLContext | bool = True) -> None:
        """Decide what was deferred when it is due, and tell of it until that is heard. Until cancelled."""
        if self.ledger.next_due() is None and not self.ledger.untold(1):
            await self.deferred.wait()
        from gateway.sandbox.telling import keep_telling  # Only who has something to tell needs an HTTP client.

        await keep_telling(self, secret, target, trust)

    def _first_try(self, key: str) -> bool:
        if key in self._tried:
            self._tried.discard(key)
            return False
        self._tried.add(key)
        return True


def provider_of(request: Request[None, None, State]) -> Provider:
    provider: Provider = request.app.state.provider
    return provider


@post("/charges")
async def charge(
    request: Request[None, None, State], data: JSONBody[ChargeBody], key: IdempotencyKey
) -> Response[Operation]:
    def make() -> Operation:
        if data.token in CAPTURED:
            return Operation(f"ch_{key}"[:64], "captured", data.amount_cents)
        return Operation(f"ch_{key}"[:64], "declined", 0, DECLINES.get(data.token, "card_declined"))

    return await provider_of(request).handle(key, "charge", make, data.currency, data.token)


@post("/refunds")
async def refund(
    request: Request[None, None, State], data: JSONBody[RefundBody], key: IdempotencyKey
) -> Response[Operation]:
    def make() -> Operation:
        return Operation(f"re_{key}"[:64], "refunded", data.amount_cents)

    return await provider_of(request).handle(key, "refund", make, data.currency)


@get("/mode")
async def show_mode(request: Request[None, None, State]) -> Mode:
    return provider_of(request).mode


@put("/mode")
async def change_mode(request: Request[None, None, State], data: JSONBody[Mode]) -> Mode:
    """From now on, until it is changed or the provider ends. What is left out is as it is without a mode."""
    provider_of(request).mode = data
    return data


@get("/ledger")
async def show_ledger(request: Request[None, None, State]) -> Totals:
    """What the provider believes, to be compared with what we do."""
    return provider_of(request).ledger.totals()


@get("/livez")
async def livez() -> str:
    return "alive"


def served() -> Litestar:
    """What granian's worker runs: the ledger is in the data folder, and webhooks go to the gateway that runs on it."""
    die_with_parent()
    collect_spans("provider")
    settings = from_environment()

    def target() -> str:
        found = running(settings)
        return f"{found.http_url if found is not None else ''}/v1/webhooks/payments"

    own = identity_of(settings, "provider")
    trust = True if own is None else own.inside
    return create_provider(settings.data_dir / "provider.db", webhook_secret(settings), target, trust)


def create_provider(
    path: Path, secret: str, target: Callable[[], str], trust: ssl.SSLContext | bool = True
) -> Litestar:
    """The provider's application, its ledger in this file. `target` is asked for the URL of the webhooks each time."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        app.state.provider = provider = Provider(path)
        telling = asyncio.create_task(provider.run(secret, target, trust))
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait({telling})
            provider.ledger.close()

    routes = [charge, refund, show_mode, change_mode, show_ledger, livez]
    app = Litestar(routes, lifespan=[lifespan], state=State(), openapi_config=None, logging_config=None)
    app.asgi_handler = Traced(app.asgi_handler)
    return app
