"""Commands on the wire: a frame is an array of envelopes on `cmd.<domain>.<partition>`, answered by one of answers.

The command itself travels undecoded inside its envelope, so that one malformed command is refused alone and its
neighbours go on.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import blake2b
from typing import Annotated
from zlib import crc32

import msgspec
from msgspec import Meta, Raw, Struct

FRAME_BYTES_MAX = 256 * 1024
COMMAND_BYTES_MAX = 192 * 1024
"""Less than a frame: a process is told of what a command caused in a command of its own, which is a little larger."""

ShortText = Annotated[str, Meta(max_length=256)]


class Envelope(Struct, frozen=True, omit_defaults=True):
    """A command and what must be known of it.

    `id` is the idempotency key: under one id a command takes effect once, for ever. `digest` stands for its content
    (of what the client sent, where the command was derived from that); empty: of the command's own bytes.
    `deadline` is in seconds since the epoch: later than that nobody waits for the answer, and it is not begun.
    `expect` is the version that the command's aggregate must have. `occurred_at` is the business time, for records of
    what happened before.
    """

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    deadline: float
    command: Raw
    digest: ShortText = ""
    actor: ShortText = ""
    cause: ShortText = ""
    correlation: ShortText = ""
    trace: ShortText = ""
    expect: int | None = None
    occurred_at: Annotated[datetime, Meta(tz=True)] | None = None


class Stored(Struct, frozen=True, tag="stored", tag_field="outcome", omit_defaults=True):
    """On disk, at this position. `events` are those of the command's own aggregate, as JSON; `repeated`: before now."""

    position: int
    version: int
    events: Raw
    repeated: bool = False


class Unchanged(Struct, frozen=True, tag="unchanged", tag_field="outcome"):
    """All was already so; nothing was written. `position` is what the answer rests on."""

    position: int
    version: int


class Refused(Struct, frozen=True, tag="refused", tag_field="outcome", omit_defaults=True):
    """The business said no, or the command was malformed; nothing was written, and a repeat is decided anew."""

    code: str
    detail: str = ""
    field: str = ""


class Unavailable(Struct, frozen=True, tag="unavailable", tag_field="outcome", omit_defaults=True):
    """Nothing was written, for a reason that passes: repeat it, after `retry_after_s`."""

    code: str
    retry_after_s: float = 1.0


class Unknown(Struct, frozen=True, tag="unknown", tag_field="outcome"):
    """Nobody can tell yet whether it was written. Repeat it under the same id: it takes effect once."""

    reason: str


Answer = Stored | Unchanged | Refused | Unavailable | Unknown

encode = msgspec.json.Encoder().encode
decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_frame = msgspec.json.Decoder(list[Envelope]).decode
decode_answers = msgspec.json.Decoder(list[Answer]).decode


def digest_of(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def command_subject(domain: str, partition: int, token: int = 0) -> str:
    """Of a partition; with its owner's token the subject that only that owner hears."""
    return f"cmd.{domain}.{partition}.{token}" if token else f"cmd.{domain}.{partition}"


def partition_of(aggregate: str, partitions: int) -> int:
    return crc32(aggregate.encode()) % partitions if partitions > 1 else 0


def position_in(domain: str, sequence: int, partition: int, partitions: int) -> str:
    """Where something lies, as it is told outside: `orders=17`, `orders.2=17` where the log has several partitions;
    empty for 0, which is nowhere. The sequence is the stream's, whichever partition it is."""
    if not sequence:
        return ""
    return f"{domain}.{partition}={sequence}" if partitions > 1 else f"{domain}={sequence}"
