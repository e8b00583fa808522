"""The streams that exist, declared as data and ensured idempotently."""

from __future__ import annotations

from uuid import uuid4

import msgspec
from msgspec import Struct
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StoreCompression, StreamConfig
from nats.js.errors import APIError, NotFoundError

from bus.blocks import BLOCK_BYTES_MAX
from bus.log import LogDamaged

WRONG_LAST_SEQUENCE = (10071, 10164)
"""Error codes of a failed expectation; the second is what clusters answer."""
STREAM_NAME_IN_USE = 10058


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
)


async def ensure_log(client: Client, config: StreamConfig, partitions: int = 1) -> Epoch:
    """Make the stream if it is not there, check it if it is, and return its epoch.

    Raises `StreamMisconfigured` for a stream that was made differently, `LogDamaged` for one whose first record is
    not an epoch. Several processes may call it at once.
    """
    stream = client.jetstream(timeout=5)
    name = config.name or ""
    try:
        found = (await stream.stream_info(name)).config
    except NotFoundError:
        try:
            found = (await stream.add_stream(config)).config
        except APIError as error:
            if error.err_code != STREAM_NAME_IN_USE:
                raise
            found = (await stream.stream_info(name)).config
    for field in _RELIED_ON:
        if getattr(found, field) != getattr(config, field):
            raise StreamMisconfigured(
                f"stream {name} has {field}={getattr(found, field)}, wanted {getattr(config, field)}"
            )
    return await _ensure_epoch(stream, name, partitions)


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
    try:
        first = await stream.get_msg(name, 1)
        if first.subject != f"log.{name}.epoch":
            raise LogDamaged(f"the first record of {name} is on {first.subject}, not its epoch")
        return msgspec.json.decode(first.data or b"", type=Epoch)
    except (NotFoundError, msgspec.DecodeError) as error:
        raise LogDamaged(f"the first record of {name} is not an epoch: {error}") from error
