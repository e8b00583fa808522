"""The block: many commits in one message, chained by hash. This is the format of the log, and nothing else.

One JetStream message on `log.<domain>.<partition>` is one block; JSON, so that any client in any language reads it:

    {"epoch": "...", "at": "2026-11-21T09:30:00Z", "prev": "<hash of the block before>",
     "commits": [{"id": "...", "aggregate": "o1", "version": 1, ..., "events": [{"type": "OrderPlaced", ...}]}]}
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar, Union

import msgspec
from msgspec import Raw, Struct

from bus.logs.log import LogDamaged, Record
from domains.kernel import Domain, StateStored, Upcaster

BLOCK_BYTES_MAX = 512 * 1024
BLOCK_COMMITS_MAX = 2_000
BLOCK_HEAD_BYTES = 1_024
"""Kept free in a block for what stands around its commits."""
GENESIS = "0" * 64
"""`prev` of a partition's first block."""

Event = TypeVar("Event")
State = TypeVar("State")
Command = TypeVar("Command")
Read = TypeVar("Read", bound="Linked")


class Commit(Struct, Generic[Event], frozen=True, omit_defaults=True):
    """The events of one aggregate that one command caused, all or none of them.

    `id` is the command's; a unit of work over several aggregates leaves several commits with one id in one block.
    `version` counts an aggregate's commits from 1. `digest` tells a repeated command from another one under the same
    id. `cause` and `correlation` place it in a conversation (the message that led to it, the one that began it all);
    `trace` is a W3C traceparent. `occurred_at` is the business time where it is not the time of writing.
    """

    id: str
    aggregate: str
    version: int
    events: list[Event]
    digest: str = ""
    actor: str = ""
    cause: str = ""
    correlation: str = ""
    trace: str = ""
    occurred_at: datetime | None = None


class EncodedCommit(Struct, frozen=True, omit_defaults=True):
    """A `Commit` on its way out, field by field: its events are encoded already."""

    id: str
    aggregate: str
    version: int
    events: Raw
    digest: str = ""
    actor: str = ""
    cause: str = ""
    correlation: str = ""
    trace: str = ""
    occurred_at: datetime | None = None


class Block(Struct, Generic[Event], frozen=True):
    epoch: str
    at: datetime
    prev: str
    commits: list[Commit[Event]]


class Linked(Protocol):
    """What the chain is made of."""

    @property
    def epoch(self) -> str: ...
    @property
    def prev(self) -> str: ...


class _Sealed(Struct, frozen=True):
    """A block on its way out: its commits are encoded already."""

    epoch: str
    at: datetime
    prev: str
    commits: list[Raw]


def seal(epoch: str, at: datetime, prev: str, commits: list[bytes]) -> bytes:
    return msgspec.json.encode(_Sealed(epoch, at, prev, [Raw(commit) for commit in commits]))


def hash_of(block: bytes) -> str:
    """SHA-256 of a block's bytes, in hex: its message id, and `prev` of the next."""
    return sha256(block).hexdigest()


class BlockDecoder(Generic[Event]):
    """Decodes blocks, events and all, whoever reads them and why: events of older versions are made today's here, and
    nowhere else.

    A block is taken to be all of today's versions, and only when that fails to hold older ones. So what was written in
    today's costs nothing more.
    """

    __slots__ = ("_any_version", "_today", "_upcasts", "decode", "events")

    def __init__(self, events: tuple[type, ...], upcasters: tuple[Upcaster[Any, Any], ...] = ()) -> None:
        self.events = events
        older = tuple(upcaster.older for upcaster in upcasters)
        self._today = _block_decode(events)
        self._any_version = _block_decode(events + older)
        self._upcasts = {upcaster.older: upcaster.upcast for upcaster in upcasters}
        self.decode: Callable[[bytes], Block[Event]] = self._decode if upcasters else self._today

    def _decode(self, data: bytes) -> Block[Event]:
        try:
            return self._today(data)
        except msgspec.ValidationError:  # Raised again where it is not for its versions.
            block = self._any_version(data)
        for commit in block.commits:
            events = commit.events
            for offset, event in enumerate(events):
                while upcast := self._upcasts.get(type(event)):
                    events[offset] = event = upcast(event)
        return block


def _block_decode(events: tuple[type, ...]) -> Callable[[bytes], Block[Any]]:
    return msgspec.json.Decoder(Block[Union[events]]).decode  # type: ignore[valid-type]  # noqa: UP007  # Made at run time.


@cache
def block_decoder(events: tuple[type, ...], upcasters: tuple[Upcaster[Any, Any], ...] = ()) -> BlockDecoder[object]:
    return BlockDecoder(events, upcasters)


def decoder_of(
    domain: Domain[State, Command, Event] | StateStored[State, Command, Event],
) -> BlockDecoder[Event]:
    """Decodes a block of this domain's log."""
    return block_decoder(domain.events, domain.upcasters)  # type: ignore[return-value]  # A union made at run time.


def read_block(record: Record, decode: Callable[[bytes], Read]) -> Read:
    """The block that a record is. Raises `LogDamaged`."""
    try:
        return decode(record.data)
    except msgspec.DecodeError as error:
        raise LogDamaged(f"record {record.sequence} is no block that can be read: {error}") from error


class Chain:
    """Checks, block by block, that a log continues what was read before. One hash a partition.

    `tips` are the hashes of the last blocks read; a partition that is not in it is taken as it comes, or from its
    genesis when `whole` says that reading begins at the first block.
    """

    __slots__ = ("epoch", "tips", "whole")

    def __init__(self, epoch: str, tips: dict[int, str] | None = None, *, whole: bool = False) -> None:
        self.epoch = epoch
        self.tips = dict(tips or {})
        self.whole = whole

    def follow(self, record: Record, decode: Callable[[bytes], Read]) -> Read:
        """The record's block, if it is one and continues this chain. Raises `LogDamaged`."""
        block = read_block(record, decode)
        self.check(record.partition, record.sequence, record.data, block.epoch, block.prev)
        return block

    def check(self, partition: int, sequence: int, data: bytes, epoch: str, prev: str) -> None:
        """Raise `LogDamaged` unless this block follows the last one; remember it otherwise."""
        if epoch != self.epoch:
            raise LogDamaged(f"block {sequence} is of epoch {epoch}, the log of {self.epoch}: streams were swapped")
        tip = self.tips.get(partition, GENESIS if self.whole else prev)
        if prev != tip:
            raise LogDamaged(f"block {sequence} of partition {partition} does not continue the block before it")
        self.tips[partition] = hash_of(data)
