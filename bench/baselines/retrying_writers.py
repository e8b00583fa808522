"""Writers without an owner: each reads the subject's last message, publishes with that expectation, and on a conflict
begins again. What optimistic concurrency costs on one hot aggregate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct
from nats.js.api import StreamConfig
from nats.js.errors import APIError, NotFoundError

from bench.closed_loop import closed_loop, up_to
from bench.load import new_tag, receive_stock
from bench.rounds import Round
from bench.server import Server
from bench.stored import expect
from bus.logs.streams import WRONG_LAST_SEQUENCE

SUBJECT = "retrying.sku-1"
ATTEMPTS_MAX = 10_000


class _Received(Struct, frozen=True):
    """The event brings the state along, so that reading one message is enough: the cheapest there is."""

    receipt_id: str
    quantity: int
    on_hand: int


async def retrying_writers(server: Server) -> Callable[[int, int], Awaitable[Round]]:
    stream = server.client.jetstream()
    await stream.add_stream(
        StreamConfig(
            name="retrying",
            subjects=["retrying.*"],
            num_replicas=server.environment.replicas,
            allow_direct=True,
        )
    )

    async def receive(receipt_id: str) -> None:
        for _ in range(ATTEMPTS_MAX):
            try:
                last = await stream.get_last_msg("retrying", SUBJECT, direct=True)
                sequence, on_hand = last.seq or 0, msgspec.json.decode(last.data or b"", type=_Received).on_hand
            except NotFoundError:
                sequence, on_hand = 0, 0
            event = msgspec.json.encode(_Received(receipt_id, 1, on_hand + 1))
            try:
                headers = {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
                await stream.publish(SUBJECT, event, headers=headers)
            except APIError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE:
                    raise
            else:
                return
        raise AssertionError(f"{ATTEMPTS_MAX} conflicts in a row")

    async def do(in_flight: int, n: int) -> Round:
        receipts = [receive_stock("sku-1", tag).receipt_id for tag in [new_tag()] for _ in range(n)]
        before = (await stream.stream_info("retrying")).state.messages
        done = await closed_loop(lambda number: asyncio.ensure_future(receive(receipts[number])), in_flight, up_to(n))
        expect((await stream.stream_info("retrying")).state.messages - before, n, "the stream retrying")
        return done

    return do
