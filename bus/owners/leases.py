"""Leases: who may do what exactly one should do, in a JetStream key-value bucket, with a token that rises.

A lease is a record under a key. It is taken by a write that expects what the key held before, kept by writing it again
every `RENEW_S`, and given up by a marker that expects the own record. Its token, the revision at which it was taken,
rises from owner to owner. Nobody compares clocks: a lease has lapsed for whoever has watched it stand still for
`LEASE_S` of his own monotonic time.

Nothing that must be right rests on a lease. Two owners may be at work for a moment, as one that was frozen does not
know that it lost; a log's expectations keep that harmless. A lease saves the conflicts, and says who takes over.

What others write is heard by a plain subscription to the bucket's subjects, not by the client's watch: after a restart
of the broker the watch was silent for seconds, while a subscription goes on with the connection. What is
heard is a hint (a write that the bucket refused is heard as well); whoever acts on it looks first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from bus.logs.streams import WRONG_LAST_SEQUENCE
from bus.servers.connection import still_wanted

BUCKET = "leases"
RENEW_S = 0.5
LEASE_S = 1.5
"""A lease that was not renewed for so long is anybody's; its owner stops using it by then."""
REQUEST_S = 1.0
RECORD_BYTES_MAX = 4 * 1024

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class LeasesUnreachable(Exception):
    """The bucket does not answer at the moment; what was asked of it may have been done."""


class Holder(Struct, frozen=True):
    """What a lease says: who holds it, since when (seconds since the epoch, for people), and the process, so that
    others on its machine see when it has died. `token` is 0 in the first record: there it is the revision."""

    worker: str
    mark: str = ""
    since: float = 0.0
    token: int = 0


class Found(Struct, frozen=True):
    """What a key holds. Without a holder it is free: never taken (revision 0), or given up."""

    revision: int = 0
    holder: Holder | None = None

    @property
    def token(self) -> int:
        return (self.holder.token or self.revision) if self.holder else 0


class Leases:
    """The bucket. `open` makes it where there is none. Everything raises `LeasesUnreachable`."""

    def __init__(self, client: Client, replicas: int = 1, bucket: str = BUCKET) -> None:
        self._client = client
        self._config = KeyValueConfig(
            bucket=bucket, replicas=replicas, storage=StorageType.FILE, max_value_size=RECORD_BYTES_MAX
        )
        self._context = client.jetstream(timeout=REQUEST_S)
        self._bucket: KeyValue | None = None
        self._opening = asyncio.Lock()

    async def look(self, key: str) -> Found:
        """What a key holds now, from whoever leads the bucket."""

        async def get(bucket: KeyValue) -> Found:
            try:
                entry = await bucket.get(key)
            except KeyNotFoundError as error:  # Never taken, or given up: then the marker is what comes next after.
                return Found((error.entry.revision or 0) if error.entry else 0)
            return Found(entry.revision or 0, _holder(entry.value or b""))

        return await self._do(get)

    async def write(self, key: str, holder: Holder, expected: int) -> int | None:
        """Take or renew: the new revision, or None when the key does not hold what is expected (0: nothing)."""

        async def update(bucket: KeyValue) -> int | None:
            try:
                return await bucket.update(key, msgspec.json.encode(holder), last=expected)
            except KeyWrongLastSequenceError:
                return None

        return await self._do(update)

    async def give_up(self, key: str, expected: int) -> bool:
        """Whether it was ours to give up."""

        async def delete(bucket: KeyValue) -> bool:
            try:
                return await bucket.delete(key, last=expected)
            except APIError as error:  # The client gives it no name of its own here.
                if error.err_code in WRONG_LAST_SEQUENCE:
                    return False
                raise

        return await self._do(delete)

    async def listen(self, heard: Callable[[str, Holder | None], None]) -> None:
        """Tell of every write that somebody tries: the key, and the holder that it names; None: it was given up."""
        prefix = f"$KV.{self._config.bucket}."

        async def arrived(message: Msg) -> None:
            heard(message.subject.removeprefix(prefix), _holder(message.data))

        await self._client.subscribe(f"{prefix}>", cb=arrived)

    async def _do(self, what: Callable[[KeyValue], Awaitable[Result]]) -> Result:
        if not self._client.is_connected:
            raise LeasesUnreachable("the broker cannot be reached")  # A request would wait in the client's buffer.
        try:
            async with self._opening:
                if self._bucket is None:
                    self._bucket = await self._open()
            result = await what(self._bucket)
        except (nats.errors.Error, OSError) as error:
            still_wanted()
            self._bucket = None  # It may be gone, as after the loss of a broker's data: look again.
            raise LeasesUnreachable(str(error) or type(error).__name__) from error
        still_wanted()
        return result

    async def _open(self) -> KeyValue:
        try:
            return await self._context.key_value(self._config.bucket)
        except BucketNotFoundError:
            return await self._context.create_key_value(config=self._config)


def _holder(data: bytes) -> Holder | None:
    if not data:
        return None
    try:
        return msgspec.json.decode(data, type=Holder)
    except msgspec.DecodeError as error:
        log.warning("a lease makes no sense: %s", error)
        return None
