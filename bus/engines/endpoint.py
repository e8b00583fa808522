"""Where frames of commands come in: an engine's subject, over NATS request/reply."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Protocol

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus.commands import Answer, Envelope, Refused, command_subject, decode_frame, encode
from bus.micro import Served

STOP_TIMEOUT_S = 1.0
QUEUE = "engine"
"""The group of all that hear a partition's common subject."""

log = logging.getLogger(__name__)


class Takes(Protocol):
    """An engine, or whatever else answers frames of commands."""

    def submit(self, frame: Sequence[Envelope], /) -> asyncio.Future[list[Answer]]: ...


class Endpoint:
    """Serves one engine. Until it is started senders hear "no responders" at once.

    With a `token` it serves its owner's own subject as well: whoever knows the owner reaches it and nobody else, even
    while a former one, which is frozen, still has its share of the common subject. While it does not `hold` the
    partition, as far as it can tell, it drops frames: they are sent again, and reach whoever does. Once it is
    started it is one of the process's `endpoints`.
    """

    def __init__(
        self,
        client: Client,
        engine: Takes,
        domain: str,
        partition: int = 0,
        *,
        token: int = 0,
        holds: Callable[[], bool] = lambda: True,
        endpoints: MutableMapping[str, Served] | None = None,
    ) -> None:
        self._client = client
        self._submit = engine.submit
        self._holds = holds
        self._subject = command_subject(domain, partition)
        self._subjects = dict.fromkeys((self._subject, command_subject(domain, partition, token)))
        self._subscriptions: list[Subscription] = []
        self._answering: set[asyncio.Task[None]] = set()
        self._served = Served(f"{domain}-{partition}", self._subject, QUEUE)
        self._endpoints = {} if endpoints is None else endpoints

    async def start(self) -> None:
        self._endpoints[self._subject] = self._served
        for subject in self._subjects:
            self._subscriptions.append(await self._client.subscribe(subject, queue=QUEUE, cb=self._arrived))

    async def stop(self) -> None:
        """Take no more frames than the server has on its way already. Answers to those taken still go out."""
        if self._endpoints.get(self._subject) is self._served:
            del self._endpoints[self._subject]
        subscriptions, self._subscriptions = self._subscriptions, []
        if not subscriptions or not self._client.is_connected:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.gather(*(each.drain() for each in subscriptions))  # type: ignore[no-untyped-call]  # Untyped in the client.
        except (nats.errors.Error, TimeoutError) as error:  # Frames that get lost now are sent again elsewhere.
            log.info("%s was left without a word: %s", self._subject, str(error) or type(error).__name__)

    async def drain(self, timeout_s: float = 1.0) -> None:
        """Wait for the answers that are due."""
        if self._answering:
            await asyncio.wait(self._answering, timeout=timeout_s)

    async def _arrived(self, message: Msg) -> None:
        if not message.reply:
            log.warning("a frame on %s wants no answer: dropped", self._subject)
            return
        if not self._holds():
            log.info("a frame on %s is left to another owner", self._subject)
            return
        try:
            frame = decode_frame(message.data)
        except msgspec.DecodeError as error:
            # Not a sender of ours, or of another version: it gets one definite answer.
            self._served.failed(f"malformed_frame: {error}")
            await self._client.publish(message.reply, encode([Refused("malformed_frame", str(error))]))
            return
        task = asyncio.get_running_loop().create_task(self._answer(message.reply, self._submit(frame)))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, reply: str, answers: asyncio.Future[list[Answer]]) -> None:
        began = time.perf_counter()
        given = await answers
        try:
            await self._client.publish(reply, encode(given))
            self._served.answered(time.perf_counter() - began)
        except nats.errors.Error as error:  # The connection is gone for good. Whoever asked asks again elsewhere.
            self._served.failed(str(error))
            log.info("answers on %s could not be given: %s", self._subject, error)
