"""Allowances: token buckets that several processes draw from, in a JetStream key-value bucket in the broker's memory.

A bucket is one number, when it is full again, in seconds since the epoch by the clock of whoever draws: clocks that
differ by a second shift what is allowed by a second. Who draws expects what the key held before, so nothing is given
twice. It is not kept over a restart of the broker: then every bucket is full.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from bus.servers.connection import still_wanted

BUCKET = "allowances"
BYTES_MAX = 64 * 1024 * 1024
"""Some 300,000 buckets; those of clients that ask nothing for a day are forgotten. A full store draws nothing."""
FORGOTTEN_AFTER_S = 86_400.0
REQUEST_S = 0.5
ATTEMPTS_MAX = 8
"""Others may be first so often, one after the other."""


class AllowancesUnreachable(Exception):
    """The bucket does not answer at the moment, or others are always first; tokens that were drawn may be lost."""


class Drawn(Struct, frozen=True):
    """How many tokens were there to be had, and when the bucket is full again."""

    tokens: int
    full_at: float


class Allowances:
    def __init__(
        self, client: Client, replicas: int = 1, bucket: str = BUCKET, now: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._context = client.jetstream(timeout=REQUEST_S)
        self._config = KeyValueConfig(
            bucket=bucket, replicas=replicas, storage=StorageType.MEMORY, max_bytes=BYTES_MAX, ttl=FORGOTTEN_AFTER_S
        )
        self._now = now
        self._bucket: KeyValue | None = None
        self._opening = asyncio.Lock()

    async def make(self) -> None:
        """The bucket, where there is none. Raises `AllowancesUnreachable`."""
        try:
            await self._opened()
        except (nats.errors.Error, APIError, OSError) as error:
            still_wanted()
            raise AllowancesUnreachable(str(error) or type(error).__name__) from error

    async def draw(self, key: str, wanted: int, each_s: float, window_s: float) -> Drawn:
        """As many tokens as there are, up to `wanted`. One fills up every `each_s`, all of them in `window_s`.

        Raises `AllowancesUnreachable`.
        """
        if not self._client.is_connected:
            raise AllowancesUnreachable("the broker cannot be reached")
        try:
            bucket = await self._opened()
            for _ in range(ATTEMPTS_MAX):
                revision, full_at = await _look(bucket, key)
                now = self._now()
                begins = max(now, full_at)
                tokens = min(wanted, math.floor((now + window_s - begins) / each_s + 1e-9))
                if tokens <= 0:
                    return Drawn(0, full_at)
                after = begins + tokens * each_s
                try:
                    await bucket.update(key, repr(after).encode(), last=revision)
                except KeyWrongLastSequenceError:
                    continue
                return Drawn(tokens, after)
        except (nats.errors.Error, APIError, OSError) as error:
            still_wanted()
            self._bucket = None  # It may be gone, as after a restart of the broker: look again.
            raise AllowancesUnreachable(str(error) or type(error).__name__) from error
        raise AllowancesUnreachable(f"others were first {ATTEMPTS_MAX} times")

    async def _opened(self) -> KeyValue:
        async with self._opening:
            if self._bucket is None:
                bucket = self._config.bucket
                try:
                    self._bucket = await self._context.key_value(bucket)
                except BucketNotFoundError:
                    self._bucket = await self._context.create_key_value(config=self._config)
            return self._bucket


async def _look(bucket: KeyValue, key: str) -> tuple[int, float]:
    """The revision of a key and its number; zeros where there is none. What is no number counts as a full bucket."""
    try:
        entry = await bucket.get(key)
    except KeyNotFoundError:
        return 0, 0.0
    try:
        full_at = float(entry.value or b"0")
    except ValueError:
        full_at = 0.0
    return entry.revision or 0, full_at if math.isfinite(full_at) else 0.0
