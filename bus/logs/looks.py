"""Looks at a stream: one record, or where it ends, from whoever is sure to know."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import nats.errors
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError
from nats.js.manager import JetStreamManager

from bus.logs.log import LogDamaged, LogUnreachable, Record
from bus.logs.streams import SURE_AFTER_S
from bus.servers.connection import still_wanted

RETRY_S = 0.1
LEASE_S = 3.0
"""For how long a leader that has heard from most replicas is surely the only one: they wait 4 s before they elect
another. One that has not may be a former leader, cut off, whose end of the log is not the end any more."""

Result = TypeVar("Result")


@contextmanager
def reachable() -> Iterator[None]:
    """Raises `LogUnreachable` for whatever keeps a request from being answered, but for `NotFoundError`."""
    try:
        yield
        still_wanted()
    except NotFoundError:
        still_wanted()
        raise
    except (nats.errors.Error, OSError) as error:
        raise LogUnreachable(str(error) or type(error).__name__) from error


async def sure(look: Callable[[], Awaitable[Result]], replicas: int) -> Result:
    """Raise the `LogDamaged` that a look raises only when it stays so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (SURE_AFTER_S if replicas > 1 else 0.0)
    while True:
        try:
            return await look()
        except LogDamaged:
            if loop.time() >= deadline:
                raise
            await asyncio.sleep(RETRY_S)


async def record_at(manager: JetStreamManager, stream: str, sequence: int) -> Record | None:
    if sequence < 2:
        return None
    try:
        with reachable():
            return record_of(await manager.get_msg(stream, sequence))
    except NotFoundError:
        return None


async def head_of(manager: JetStreamManager, stream: str) -> int:
    """The last sequence, from a leader that surely leads. Raises `LogUnreachable`, `LogDamaged`."""
    try:
        with reachable():
            info = await manager.stream_info(stream)
    except NotFoundError as error:
        raise LogDamaged(f"stream {stream} is gone") from error
    peers = (info.cluster and info.cluster.replicas) or []
    heard = sum(0 < (peer.active or 0) < LEASE_S * 1e9 for peer in peers)
    if peers and 1 + heard <= (1 + len(peers)) // 2:
        raise LogUnreachable(f"who leads {stream} has not heard from most of its replicas")
    state = info.state
    if state.first_seq != 1 or state.messages != state.last_seq:
        raise LogDamaged(f"{stream} holds {state.messages} of {state.last_seq} records: records are gone")
    return state.last_seq


def record_of(message: RawStreamMsg) -> Record:
    partition = (message.subject or "").rpartition(".")[2]
    return Record(message.seq or 0, int(partition), message.data or b"")
