"""The streams that exist, declared as data and ensured idempotently."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StoreCompression, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError, ServiceUnavailableError

from bus.logs.blocks import BLOCK_BYTES_MAX
from bus.logs.log import LogDamaged
from bus.servers.connection import BrokerUnreachable, still_wanted

WRONG_LAST_SEQUENCE = (10071, 10164)
"""Error codes of a failed expectation; the second is what clusters answer."""
STREAM_NAME_IN_USE = 10058
NO_PEERS = 10005
"""Too few servers are there at the moment: some of a cluster may still be starting."""
ENSURE_TIMEOUT_S = 20.0
"""A cluster that has just started or has lost a server elects leaders first, which takes it a few seconds."""
SURE_AFTER_S = 3.0
"""A server of several that has only just started or been elected may not know better: what is missing must stay so."""
ENSURE_REQUEST_S = 2.0
ENSURE_AGAIN_S = 0.1


class Epoch(Struct, frozen=True):
    """The first record of a log: its identity. A log with another epoch is another log, whatever it is called."""

    epoch: str
    partitions: int
    format: int = 1


class StreamMisconfigured(Exception):
    """A stream of this name exists and was made differently: it could lose or forget what we rely on."""


def log_stream(domain: str, replicas: int = 1, storage: StorageType = StorageType.FILE) -> StreamConfig:
    """The stream of a domain's log: append-only, for ever, compressed, one subject a partition."""
    return StreamConfig(
        name=domain,
        subjects=[f"log.{domain}.*"],
        retention=RetentionPolicy.LIMITS,
        storage=storage,
        num_replicas=replicas,
        discard=DiscardPolicy.NEW,
        max_age=0,
        max_msgs_per_subject=-1,
        max_msg_size=BLOCK_BYTES_MAX + 64 * 1024,
        compression=StoreCompression.S2,
        deny_delete=True,
        deny_purge=True,
        allow_direct=True,
        allow_rollup_hdrs=False,
        duplicate_window=120,
    )


_RELIED_ON = (
    "subjects",
    "retention",
    "storage",
    "discard",
    "max_age",
    "max_msgs_per_subject",
    "deny_delete",
    "deny_purge",
    "allow_rollup_hdrs",
    "num_replicas",
    "no_ack",
    "sealed",
    "mirror",
    "sources",
    "subject_transform",
    "persist_mode",  # "async" acknowledges before it writes, whatever the server's `sync_interval` is.
)


async def ensure_log(
    client: Client, config: StreamConfig, partitions: int = 1, *, make: bool = True, known: bool = False
) -> Epoch:
    """Make the stream if it is not there, check it if it is, and return its epoch.

    Not to `make` it is for whoever may not, and waits for it; and for whoever has `known` one: then its absence is
    `LogDamaged`.

    Raises `StreamMisconfigured` for a stream that was made differently or cannot be made, `LogDamaged` for one whose
    first record is not an epoch, `BrokerUnreachable` when nobody leads it in time. Several processes may call it at
    once.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ENSURE_TIMEOUT_S
    sure = loop.time() + (SURE_AFTER_S if (config.num_replicas or 1) > 1 else 0.0)
    while True:
        try:
            epoch = await _ensure(client.jetstream(timeout=ENSURE_REQUEST_S), config, partitions, make)
            still_wanted()
            return epoch
        except _Missing as error:
            still_wanted()
            if known and loop.time() >= sure:
                raise LogDamaged(str(error)) from error
            if loop.time() > deadline:
                detail = "`tally up` makes it, or `tally streams`"
                raise BrokerUnreachable(f"there is no log {config.name} yet: {detail}") from error
            await asyncio.sleep(ENSURE_AGAIN_S)
        except (nats.errors.TimeoutError, NoStreamResponseError, ServiceUnavailableError, _NotYet) as error:
            still_wanted()
            if loop.time() > deadline:
                raise BrokerUnreachable(f"the log {config.name} is led by no server: {error}") from error
            await asyncio.sleep(ENSURE_AGAIN_S)


async def ensure_stream(client: Client, config: StreamConfig) -> None:
    """The same for a stream that is no log. Raises `StreamMisconfigured`, `BrokerUnreachable`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ENSURE_TIMEOUT_S
    while True:
        stream = client.jetstream(timeout=ENSURE_REQUEST_S)
        try:
            try:
                found = (await stream.stream_info(config.name or "")).config
            except NotFoundError:
                found = await _make(stream, config)
            still_wanted()
            return _check(found, config)
        except (nats.errors.TimeoutError, NoStreamResponseError, ServiceUnavailableError, _NotYet) as error:
            still_wanted()
            if loop.time() > deadline:
                raise BrokerUnreachable(f"the stream {config.name} is led by no server: {error}") from error
            await asyncio.sleep(ENSURE_AGAIN_S)


class _NotYet(Exception):
    """What is wanted may still come about."""


class _Missing(Exception):
    """What was there is not."""


async def _ensure(stream: JetStreamContext, config: StreamConfig, partitions: int, make: bool) -> Epoch:
    name = config.name or ""
    try:
        info = await stream.stream_info(name)
        if not make and not info.state.last_seq:
            raise _Missing(f"stream {name} is empty, and its blocks were acknowledged")
        found = info.config
    except NotFoundError as error:
        if not make:
            raise _Missing(f"stream {name} is gone, and its blocks were acknowledged") from error
        found = await _make(stream, config)
    _check(found, config)
    return await (_ensure_epoch(stream, name, partitions) if make else _epoch(stream, name))


def _check(found: StreamConfig, wanted: StreamConfig) -> None:
    for field in _RELIED_ON:
        if getattr(found, field) != getattr(wanted, field):
            raise StreamMisconfigured(
                f"stream {wanted.name} has {field}={getattr(found, field)}, wanted {getattr(wanted, field)}"
            )
    if 0 <= (found.max_msg_size or 0) < (wanted.max_msg_size or 0):
        raise StreamMisconfigured(
            f"stream {wanted.name} has max_msg_size={found.max_msg_size}, wanted {wanted.max_msg_size}"
        )


async def _make(stream: JetStreamContext, config: StreamConfig) -> StreamConfig:
    try:
        return (await stream.add_stream(config)).config
    except ServiceUnavailableError:
        raise
    except APIError as error:
        if error.err_code in (STREAM_NAME_IN_USE, NO_PEERS):  # Another process was first, or a server is missing.
            raise _NotYet(error.description) from error
        raise StreamMisconfigured(f"stream {config.name} cannot be made: {error.description}") from error


async def _ensure_epoch(stream: JetStreamContext, name: str, partitions: int) -> Epoch:
    wanted = Epoch(epoch=uuid4().hex, partitions=partitions)
    try:
        await stream.publish(
            f"log.{name}.epoch", msgspec.json.encode(wanted), headers={"Nats-Expected-Last-Sequence": "0"}
        )
        return wanted
    except APIError as error:
        if error.err_code not in WRONG_LAST_SEQUENCE:
            raise
    return await _epoch(stream, name)


async def _epoch(stream: JetStreamContext, name: str) -> Epoch:
    try:
        first = await stream.get_msg(name, 1)
    except NotFoundError as error:
        state = (await stream.stream_info(name)).state
        if state.first_seq <= 1:  # Replicas agree on it at this moment; another process was first.
            raise _NotYet(f"the first record of {name} is not there yet") from error
        raise LogDamaged(f"the first record of {name} is gone: it begins at {state.first_seq}") from error
    if first.subject != f"log.{name}.epoch":
        raise LogDamaged(f"the first record of {name} is on {first.subject}, not its epoch")
    try:
        return msgspec.json.decode(first.data or b"", type=Epoch)
    except msgspec.DecodeError as error:
        raise LogDamaged(f"the first record of {name} is not an epoch: {error}") from error
