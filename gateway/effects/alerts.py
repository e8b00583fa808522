"""Low stock: the event becomes a job in a work queue, and whoever is free mails it to the administrators.

A queue, not a log: an alert is not a fact to be kept, it is something that one of several has to do once and that is
gone then. What the inventory said stays in its log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime

import msgspec
from msgspec import Struct

from bus.queues.work_queue import Do, Job, QueueUnavailable, WorkQueue
from bus.reactors.reactor import Again, Occurrence, Reaction
from domains.inventory.messages import StockRanLow
from gateway.effects.effects import Effects, Jobs, Means
from gateway.effects.mail import STALE_S, Mailer, Undeliverable, addressed, domain_of

QUEUE = "alerts"

log = logging.getLogger(__name__)


class LowStock(Struct, frozen=True):
    """The job: `available` units where `low_at` were wanted."""

    sku: str
    available: int
    low_at: int
    at: datetime


class AlertEffects:
    """Puts a job into the queue for each shelf that ran low."""

    def __init__(self, queue: WorkQueue, now: Callable[[], float] = time.time) -> None:
        self._queue = queue
        self._now = now

    @property
    def reactions(self) -> Mapping[type, Reaction]:
        return {StockRanLow: self._put}

    async def _put(self, what: Occurrence) -> None:
        low = what.event
        assert isinstance(low, StockRanLow)
        if self._now() - what.at.timestamp() > STALE_S:
            log.info("%s is of %s: nobody is told", what.id, what.at)
            return
        try:
            await self._queue.put(what.id, msgspec.json.encode(LowStock(low.sku, low.available, low.low_at, what.at)))
        except QueueUnavailable as error:
            raise Again(str(error)) from error


class AlertMails:
    """Does the jobs: mails each to all administrators, always with the same Message-ID and content."""

    def __init__(self, mailer: Mailer, mail_from: str, to: Sequence[str]) -> None:
        self._mailer = mailer
        self._from = mail_from
        self._to = to

    async def send(self, job: Job) -> None:
        low = msgspec.json.decode(job.data, type=LowStock)
        if not self._to:
            log.warning("%s runs low, and TALLY_ALERTS_TO names nobody who is told", low.sku)
            return
        try:
            await self._mailer.send(alert(low, job.id, self._from, self._to), *self._to)
        except Undeliverable as error:
            log.error("nobody could be told that %s runs low: %s", low.sku, error)


def alert(low: LowStock, id: str, mail_from: str, to: Sequence[str]) -> EmailMessage:
    message = EmailMessage()
    message["Message-ID"] = f"<alert.{id}@{domain_of(mail_from)}>"
    message["Date"] = format_datetime(low.at)
    message["From"] = mail_from
    message["To"] = [addressed(each) for each in to]
    message["Subject"] = f"Low stock: {low.sku}"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(f"Of {low.sku} {low.available} units are available, and there should be {low.low_at}.\n")
    return message


@asynccontextmanager
async def _queueing(means: Means) -> AsyncIterator[Mapping[type, Reaction]]:
    yield AlertEffects(WorkQueue(means.client, QUEUE, means.settings.replicas)).reactions


@asynccontextmanager
async def _mailing(means: Means) -> AsyncIterator[Do]:
    mailer = Mailer.of(means.settings)
    try:
        yield AlertMails(mailer, means.settings.mail_from, means.settings.alerts_to).send
    finally:
        await mailer.close()


alert_effects = Effects("stock-alerts", "inventory", _queueing, puts=(QUEUE,))
alert_jobs = Jobs(QUEUE, "notifications", _mailing)
