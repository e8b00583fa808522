"""A tiny pure domain: counters that only go so far, and transfers between two of them. And how to command it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, assert_never

import msgspec
from msgspec import Meta, Raw, Struct

from bus.commands import Answer, Envelope
from bus.engines.engine import Engine
from bus.logs.blocks import Block, Chain, decoder_of, hash_of
from bus.logs.log import Log, Record
from domains.kernel import Domain, Id, Rejected
from tests.bus.waiting import PATIENCE_S

LIMIT = 1_000
NEVER_S = 1e12
"""A deadline that no test lives to see."""

Amount = Annotated[int, Meta(ge=0, le=1_000_000)]


class Add(Struct, frozen=True, tag=True):
    counter_id: Id
    amount: Amount


class Transfer(Struct, frozen=True, tag=True):
    source_id: Id
    target_id: Id
    amount: Amount


class Scribble(Struct, frozen=True, tag=True):
    """Leave as many notes of this text as are asked for."""

    counter_id: Id
    text: str
    times: int = 1


class Break(Struct, frozen=True, tag=True):
    """A command with which this domain cannot deal: its decider is defective."""

    counter_id: Id


class Added(Struct, frozen=True, tag=True):
    counter_id: str
    amount: int


class Scribbled(Struct, frozen=True, tag=True):
    counter_id: str
    text: str


CounterCommand = Add | Transfer | Scribble | Break
CounterEvent = Added | Scribbled


def targets(command: CounterCommand) -> tuple[str, ...]:
    match command:
        case Transfer():
            return command.source_id, command.target_id
        case Add() | Scribble() | Break():
            return (command.counter_id,)
        case _:
            assert_never(command)


def decide(totals: Mapping[str, int], command: CounterCommand) -> list[CounterEvent]:
    match command:
        case Add(_, 0):
            return []
        case Add(counter_id, amount):
            _check(totals[counter_id] + amount)
            return [Added(counter_id, amount)]
        case Transfer(source_id, target_id, amount):
            if totals[source_id] < amount:
                raise Rejected("too_little", f"{source_id} has {totals[source_id]}", "/amount")
            _check(totals[target_id] + amount)
            return [Added(target_id, amount), Added(source_id, -amount)]
        case Scribble(counter_id, text, times):
            return [Scribbled(counter_id, text)] * times
        case Break():
            raise ZeroDivisionError("a defect")
        case _:
            assert_never(command)


def evolve(total: int, event: CounterEvent) -> int:
    return total + event.amount if isinstance(event, Added) else total


def _check(total: int) -> None:
    if total > LIMIT:
        raise Rejected("limit_exceeded", f"a counter goes to {LIMIT}", "/amount")


def counters(name: str = "counters") -> Domain[int, CounterCommand, CounterEvent]:
    return Domain(
        name=name,
        commands=(Add, Transfer, Scribble, Break),
        events=(Added, Scribbled),
        states=(int,),
        targets=targets,
        owner=lambda event: event.counter_id,
        initial=lambda _: 0,
        decide=decide,
        evolve=evolve,
    )


CounterEngine = Engine[int, CounterCommand, CounterEvent]


def command(
    what: Struct,
    id: str,
    *,
    deadline: float = NEVER_S,
    expect: int | None = None,
    digest: str = "",
) -> Envelope:
    return Envelope(id=id, deadline=deadline, command=Raw(msgspec.json.encode(what)), expect=expect, digest=digest)


async def answers(engine: CounterEngine, *frame: Envelope) -> list[Answer]:
    async with asyncio.timeout(PATIENCE_S):
        return await engine.submit(frame)


async def answer(engine: CounterEngine, envelope: Envelope) -> Answer:
    return (await answers(engine, envelope))[0]


async def records_of(log: Log) -> list[Record]:
    return [record async for batch in log.read(until=await log.head()) for record in batch]


async def blocks_of(log: Log) -> list[Block[CounterEvent]]:
    """Every block of a log, its chain checked."""
    decoder = decoder_of(counters())
    chain = Chain(log.epoch, whole=True)
    blocks = []
    for record in await records_of(log):
        block = decoder.decode(record.data)
        chain.check(record.partition, record.sequence, record.data, block.epoch, block.prev)
        blocks.append(block)
    return blocks


def versions(blocks: Sequence[Block[CounterEvent]]) -> dict[str, list[int]]:
    """The versions of each aggregate's commits, in the order of the log."""
    found: dict[str, list[int]] = {}
    for block in blocks:
        for commit in block.commits:
            found.setdefault(commit.aggregate, []).append(commit.version)
    return found


def contiguous(blocks: Sequence[Block[CounterEvent]]) -> bool:
    return all(its == list(range(1, len(its) + 1)) for its in versions(blocks).values())


def totals(blocks: Sequence[Block[CounterEvent]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for block in blocks:
        for commit in block.commits:
            for event in commit.events:
                found[commit.aggregate] = evolve(found.get(commit.aggregate, 0), event)
    return found


async def stored_by_hand(log: Log, data: bytes, expected: int, partition: int = 0) -> None:
    """Append bytes that no engine made."""
    await log.append(partition, data, hash_of(data), expected)
