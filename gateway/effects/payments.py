"""Charges and refunds at the payment provider, over HTTP; what it answers comes back as commands."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec
from msgspec import Struct

from bus.calls.call import AnswerTooLarge, CallFailed, over_http
from bus.calls.over_http import HttpTransport, client
from bus.calls.path import CallPath
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
from gateway.effects.effects import Effects, Means

ACTOR = "payment-effects"
PROVIDER = "provider"
"""What the destination is called in the policy file."""
NOWHERE = "http://127.0.0.1:9"
"""Where nobody answers: what a missing provider looks like."""

log = logging.getLogger(__name__)


class Operation(Struct, frozen=True):
    """The provider's answer."""

    id: str
    status: str
    amount_cents: int
    code: str = ""


class PaymentEffects:
    """Reactions to what is asked of the provider. The order's id is the idempotency key there, too.

    The call path gives up soon, and says when to come again; the reactor comes again until it is done.
    """

    def __init__(self, provider: CallPath, sender: Sender) -> None:
        self._provider = provider
        self._sender = sender

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
            reply = await self._provider.call(over_http("POST", path, msgspec.json.encode(body), headers))
        except AnswerTooLarge:
            raise
        except CallFailed as failure:
            raise Again(str(failure), failure.retry_after_s) from failure
        if reply.status in (408, 425):
            raise Again(f"the provider answered {reply.status}")
        if not 200 <= reply.status < 300:
            raise ValueError(f"the provider answered {reply.status}")
        return msgspec.json.decode(reply.body, type=Operation)

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


@asynccontextmanager
async def _opened(means: Means) -> AsyncIterator[Mapping[type, Reaction]]:
    if not means.settings.provider_url:
        log.warning("TALLY_PROVIDER_URL is not set: payments wait until it is")
    async with client(means.settings.provider_url or NOWHERE) as http:
        provider = means.mesh.path(PROVIDER, HttpTransport(PROVIDER, http))
        yield PaymentEffects(provider, means.sender).reactions


payment_effects = Effects("payment-effects", "payments", _opened)
