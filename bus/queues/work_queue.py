"""Work queues: jobs of which each is done by one of those who are free, and which are gone once they are done.

The other way to hear of things on the same broker. A log is for ever and for everybody: each reader has a place of its
own in it. A job is for whoever comes first; the broker keeps it on disk until somebody has done it, gives it to another
when he has not in time, and puts it back when he says that it must wait. So it may be done twice, under the same id,
and any number of workers share the load. A job that fails for good is parked: it lies on `work.<queue>-parked`, which
nobody takes, until somebody puts it back or discards it (`parked_jobs.py`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from bus import metrics
from bus.logs.streams import ensure_stream
from bus.reactors.reactor import Again
from bus.servers.connection import BrokerUnreachable, still_wanted

STREAM = "work"
MESSAGE_ID = "Nats-Msg-Id"
"""Of the whole stream, so a job's id stands behind its queue's name."""
JOB = "Tally-Job"
"""The job's id in a message that has another one."""
PARKED = "-parked"
"""What is behind a queue's name where its parked jobs lie: a queue has no such name."""
WAITING_MAX = 100_000
"""Jobs that wait in all queues, and parked ones with them; more are not taken."""
PARKED_MAX = 10_000
"""Of one queue: where so many are parked, a job that fails waits and is tried again until there are fewer."""
JOB_BYTES_MAX = 40 * 1024
MESSAGE_BYTES_MAX = 64 * 1024
"""Of a parked job, which is a third longer than the job, and says why."""
ERROR_CHARS_MAX = 1_000
AT_ONCE_MAX = 8
"""Jobs that one worker has at a time."""
DONE_WITHIN_S = 60.0
"""After this long without a word of who has it a job is given to another."""
ATTEMPTS_MAX = 5
"""Tries of a job that fails for another reason than `Again`; after that it is parked."""
BACKOFF_S = 0.1
BACKOFF_MAX_S = 30.0
LOOK_S = 5.0
RETRY_S = 1.0
REQUEST_S = 2.0

log = logging.getLogger(__name__)


class QueueUnavailable(Exception):
    """The broker did not take a job; it may have, and takes it once nevertheless when it is put again."""


class Job(NamedTuple):
    """`id` is the same each time that it is done."""

    id: str
    data: bytes


class ParkedJob(Struct, frozen=True):
    """A job that failed for good: since when (seconds since the epoch), and with what. `data` is in Base64."""

    id: str
    data: bytes
    at: float
    error: str


Do = Callable[[Job], Awaitable[None]]


class WorkQueue:
    """One queue by its name, `[a-z_]+`."""

    def __init__(self, client: Client, name: str, replicas: int = 1, stream: str = STREAM) -> None:
        self._client = client
        self._name = name
        self._subject = f"{stream}.{name}"
        self._config = StreamConfig(
            name=stream,
            subjects=[f"{stream}.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            num_replicas=replicas,
            discard=DiscardPolicy.NEW,
            max_age=0,
            max_msgs=WAITING_MAX,
            max_msgs_per_subject=-1,
            max_msg_size=MESSAGE_BYTES_MAX,
            deny_delete=False,
            deny_purge=False,
            allow_rollup_hdrs=False,
            duplicate_window=120,
        )
        self._context = client.jetstream(timeout=REQUEST_S)
        self._there = False
        self._parking = asyncio.Lock()

    async def ensure(self) -> None:
        """Make the stream of all queues where there is none. Raises `StreamMisconfigured`, `BrokerUnreachable`."""
        await ensure_stream(self._client, self._config)

    async def put(self, id: str, data: bytes) -> None:
        """Return once it is on disk; the same id again within two minutes is the same job.

        Raises `QueueUnavailable`; `StreamMisconfigured` where the stream is another's; `ValueError` for more than
        `JOB_BYTES_MAX`.
        """
        if len(data) > JOB_BYTES_MAX:
            raise ValueError(f"a job has at most {JOB_BYTES_MAX} bytes, not {len(data)}")
        try:
            if not self._there:
                await ensure_stream(self._client, self._config)
                self._there = True
            await self._context.publish(self._subject, data, headers={MESSAGE_ID: f"{self._name}-{id}"})
        except (nats.errors.Error, OSError, BrokerUnreachable) as error:
            self._there = False
            raise QueueUnavailable(f"the queue {self._name}: {str(error) or type(error).__name__}") from error
        still_wanted()

    async def work(self, do: Do) -> None:
        """Do jobs as they come, `AT_ONCE_MAX` at a time, until cancelled. Raises `StreamMisconfigured`."""
        while True:
            try:
                await ensure_stream(self._client, self._config)
                await self._work(do)
            except (
                nats.errors.Error,
                OSError,
                BrokerUnreachable,
            ) as error:  # What was begun is given out again in time.
                log.warning("the queue %s cannot be read (%s); trying again", self._name, error)
                await asyncio.sleep(RETRY_S)

    async def _work(self, do: Do) -> None:
        wanted = ConsumerConfig(
            durable_name=self._name,
            filter_subject=self._subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=DONE_WITHIN_S,
            max_deliver=-1,
        )
        stream = self._config.name or ""
        await self._context.add_consumer(stream, wanted)
        jobs = await self._context.pull_subscribe_bind(self._name, stream)
        try:
            while True:
                try:
                    taken = await jobs.fetch(AT_ONCE_MAX, timeout=LOOK_S)
                except nats.errors.TimeoutError:
                    still_wanted()
                    continue
                await asyncio.gather(*(self._do(message, do) for message in taken))
                still_wanted()
        finally:
            if self._client.is_connected:
                await jobs.unsubscribe()

    async def _do(self, message: Msg, do: Do) -> None:
        headers = message.headers or {}
        name = headers.get(JOB) or headers.get(MESSAGE_ID, "").removeprefix(f"{self._name}-")
        tries, after_s = message.metadata.num_delivered, 0.0
        try:
            await do(Job(name, message.data))
        except Again as trouble:
            log.info("%s: job %s must wait: %s", self._name, name, trouble)
            after_s = trouble.after_s
        except Exception as error:  # Whatever it is, the other jobs go on; it is counted, logged and kept.
            if tries >= ATTEMPTS_MAX and await self._parked(message, name, repr(error)):
                log.exception("%s: job %s is given up: %r", self._name, name, message.data)
                metrics.jobs_given_up.labels(self._name).inc()
                await message.term()
                return
            log.warning("%s: job %s failed: %r", self._name, name, error)
        else:
            await message.ack()
            metrics.jobs_done.labels(self._name).inc()
            return
        metrics.job_retries.labels(self._name).inc()
        await message.nak(delay=after_s + random.uniform(0, min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(tries, 32))))

    async def _parked(self, message: Msg, name: str, error: str) -> bool:
        """Whether it lies among the parked ones now; under an id of its own, so once, unless that takes minutes."""
        stream, parked = self._config.name or "", f"{self._subject}{PARKED}"
        job = ParkedJob(name, message.data, time.time(), error[:ERROR_CHARS_MAX])
        headers = {MESSAGE_ID: f"{self._name}-parked-{message.metadata.sequence.stream}"}
        try:
            async with self._parking:  # Of several that fail at once each must know of those before it.
                there = (await self._context.stream_info(stream, subjects_filter=parked)).state.subjects or {}
                if sum(there.values()) >= PARKED_MAX:
                    raise QueueUnavailable(f"{PARKED_MAX} jobs are parked")
                await self._context.publish(parked, msgspec.json.encode(job), headers=headers)
        except (nats.errors.Error, OSError, QueueUnavailable) as trouble:
            reason = str(trouble) or type(trouble).__name__
            log.error("%s: job %s fails for good and cannot be parked, so it waits: %s", self._name, name, reason)
            return False
        finally:
            still_wanted()
        return True
