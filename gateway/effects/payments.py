"""Charges and refunds at the payment provider, over HTTP; what it answers comes back as commands.

What it has yet to decide it tells by a webhook later (`gateway/routes/webhooks.py`). Should that never come it is asked
again, under the same key: a job in a work queue sees to it, so what takes days holds nothing up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
from msgspec import Struct

from bus.calls.over_http import balanced
from bus.calls.path import CallPath
from bus.queues.work_queue import Do, Job, QueueUnavailable, WorkQueue
from bus.reactors.reactor import Again, Occurrence, Reaction
from bus.sender import Sender
from bus.servers.connection import servers_of
from domains.payments.messages import PaymentRequested, RefundRequested
from gateway.effects.effects import Effects, Jobs, Means
from gateway.effects.outside import NOWHERE, Cause, Outside, cause_of
from gateway.effects.provider import CHARGE, REFUND, Operation, Undecided, meaning

ASK_AGAIN_S = 5.0
"""After this long without a webhook the provider is asked what became of it."""
ACTOR = "payment-effects"
PROVIDER = "provider"
"""What the destination is called in the policy file."""
QUEUE = "payments"

log = logging.getLogger(__name__)


class Asked(Struct, frozen=True):
    """What the provider is asked, and what caused it."""

    path: str
    key: str
    body: dict[str, str | int]
    cause: Cause
    not_before: float = 0.0
    """When it is to be asked again, at the earliest, in seconds since the epoch."""


class PaymentEffects:
    """Reactions to what is asked of the provider. The order's id is the idempotency key there, too."""

    def __init__(
        self, provider: CallPath, sender: Sender, queue: WorkQueue, now: Callable[[], float] = time.time
    ) -> None:
        self._provider = Outside(provider, sender, ACTOR)
        self._queue = queue
        self._now = now

    @property
    def reactions(self) -> Mapping[type, Reaction]:
        return {PaymentRequested: self._charge, RefundRequested: self._refund}

    async def ask_again(self, job: Job) -> None:
        """What the jobs are: ask what became of something that was pending."""
        asked = msgspec.json.decode(job.data, type=Asked)
        if (early_s := asked.not_before - self._now()) > 0:
            raise Again("the provider's webhook may still come", after_s=early_s)
        try:
            await self._ask(asked)
        except Undecided:
            raise Again("the provider has yet to decide", after_s=ASK_AGAIN_S) from None

    async def _charge(self, what: Occurrence) -> None:
        asked = what.event
        assert isinstance(asked, PaymentRequested)
        body: dict[str, str | int] = {
            "amount_cents": asked.amount_cents,
            "currency": asked.currency,
            "token": asked.token,
        }
        await self._ask_first(Asked("/charges", f"{CHARGE}{asked.order_id}", body, cause_of(what)))

    async def _refund(self, what: Occurrence) -> None:
        asked = what.event
        assert isinstance(asked, RefundRequested)
        body: dict[str, str | int] = {"charge_id": asked.charge_id, "amount_cents": asked.amount_cents}
        await self._ask_first(Asked("/refunds", f"{REFUND}{asked.order_id}", body, cause_of(what)))

    async def _ask_first(self, asked: Asked) -> None:
        try:
            await self._ask(asked)
        except Undecided:
            again = msgspec.structs.replace(asked, not_before=self._now() + ASK_AGAIN_S)
            try:
                await self._queue.put(asked.key, msgspec.json.encode(again))
            except QueueUnavailable as error:
                raise Again(str(error)) from error

    async def _ask(self, asked: Asked) -> None:
        """Ask the provider, and tell the payments what it says. Raises `Undecided`, `Again`."""
        made = await self._provider.ask(asked.path, asked.key, asked.body, Operation, asked.cause)
        await self._provider.tell(meaning(asked.key, made), asked.cause)


@asynccontextmanager
async def _opened(means: Means) -> AsyncIterator[PaymentEffects]:
    if not means.settings.provider_url:
        log.warning("TALLY_PROVIDER_URL is not set: payments wait until it is")
    queue = WorkQueue(means.client, QUEUE, means.settings.replicas)
    async with balanced(PROVIDER, servers_of(means.settings.provider_url or NOWHERE), means.trust) as providers:
        yield PaymentEffects(means.mesh.path(PROVIDER, providers), means.sender, queue)


@asynccontextmanager
async def _reacting(means: Means) -> AsyncIterator[Mapping[type, Reaction]]:
    async with _opened(means) as effects:
        yield effects.reactions


@asynccontextmanager
async def _asking_again(means: Means) -> AsyncIterator[Do]:
    async with _opened(means) as effects:
        yield effects.ask_again


payment_effects = Effects("payment-effects", "payments", _reacting, puts=(QUEUE,))
payment_jobs = Jobs(QUEUE, "payments", _asking_again)
