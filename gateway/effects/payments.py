"""Charges and refunds at the payment provider, over HTTP; what it answers comes back as commands."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
from msgspec import Struct

from bus.processes import settled
from bus.reactor import Again, Occurrence, Reaction
from bus.sender import Sender
from domains.payments.messages import (
    ConfirmCharge,
    ConfirmRefund,
    DeclineCharge,
    PaymentRequested,
    RefundRequested,
)

TIMEOUT_S = 10.0
CALLS_MAX = 32
"""Calls under way at the provider; more wait for their turn here, where waiting costs nothing."""
ACTOR = "payment-effects"


class Operation(Struct, frozen=True):
    """The provider's answer."""

    id: str
    status: str
    amount_cents: int
    code: str = ""


def client(url: str) -> httpx.AsyncClient:
    """A client of the provider at this address."""
    limits = httpx.Limits(max_connections=CALLS_MAX, max_keepalive_connections=CALLS_MAX)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits)


class PaymentEffects:
    """Reactions to what is asked of the provider. The order's id is the idempotency key there, too."""

    def __init__(self, http: httpx.AsyncClient, sender: Sender) -> None:
        self._http = http
        self._sender = sender
        self._calls = asyncio.Semaphore(CALLS_MAX)

    @property
    def reactions(self) -> dict[type, Reaction]:
        return {PaymentRequested: self._charge, RefundRequested: self._refund}

    async def _charge(self, what: Occurrence) -> None:
        asked = what.event
        assert isinstance(asked, PaymentRequested)
        body = {"amount_cents": asked.amount_cents, "currency": asked.currency, "token": asked.token}
        made = await self._post("/charges", f"charge-{asked.order_id}", body, what)
        match made.status:
            case "captured":
                await self._tell(ConfirmCharge(asked.order_id, made.id, made.amount_cents), what)
            case "declined":
                await self._tell(DeclineCharge(asked.order_id, made.code or "declined"), what)
            case other:
                raise ValueError(f"the provider answered a charge with status {other}")

    async def _refund(self, what: Occurrence) -> None:
        asked = what.event
        assert isinstance(asked, RefundRequested)
        body = {"charge_id": asked.charge_id, "amount_cents": asked.amount_cents}
        made = await self._post("/refunds", f"refund-{asked.order_id}", body, what)
        await self._tell(ConfirmRefund(asked.order_id, made.id, made.amount_cents), what)

    async def _post(self, path: str, key: str, body: dict[str, object], what: Occurrence) -> Operation:
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        if what.commit.trace:
            headers["traceparent"] = what.commit.trace
        try:
            async with self._calls:
                answer = await self._http.post(path, content=msgspec.json.encode(body), headers=headers)
        except httpx.TransportError as error:
            raise Again(f"the provider does not answer: {str(error) or type(error).__name__}") from error
        if answer.status_code in (408, 425, 429, 500, 502, 503, 504):
            raise Again(f"the provider answered {answer.status_code}")
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=Operation)

    async def _tell(self, command: Struct, what: Occurrence) -> None:
        settled(
            await self._sender.send(
                command,
                id=f"{what.id}-answer",
                actor=ACTOR,
                cause=what.position,
                correlation=what.commit.correlation,
                trace=what.commit.trace,
            )
        )
