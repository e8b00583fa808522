"""The witness: what it remembers, through crashes of its own, and what is noticed by it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from nats.aio.client import Client

from bus.logs.blocks import GENESIS, hash_of, seal
from bus.logs.jetstream import JetStreamLog
from bus.logs.log import Log, LogDamaged, MemoryLog
from bus.logs.witness import SLOT_BYTES, Acknowledged, Witness, check, recall
from tests.bus.counter import Add, CounterEngine, answer, command, counters, stored_by_hand
from tests.bus.waiting import until

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
EARLIER, LATER = "a" * 64, "b" * 64


async def noted(folder: Path, *blocks: tuple[int, str]) -> None:
    """A process for each of these blocks: it writes the block and ends cleanly."""
    for sequence, block_hash in blocks:
        witness = Witness(folder)
        witness.of("counters", 0, "memory")(sequence, block_hash)
        await witness.close()


def is_remembered(folder: Path, sequence: int) -> bool:
    return remembered(folder) == [sequence]


def remembered(folder: Path) -> list[int]:
    return [each.sequence for each in recall(folder, "counters")]


async def test_nothing_is_remembered_before_the_first_block(tmp_path: Path) -> None:
    await Witness(tmp_path).close()
    assert recall(tmp_path, "counters") == []
    assert recall(tmp_path / "nowhere", "counters") == []


async def test_the_latest_block_is_remembered(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    witness.of("counters", 0, "memory")(2, EARLIER)
    witness.of("counters", 1, "memory")(4, LATER)
    witness.of("counters", 0, "memory")(3, LATER)
    witness.of("other", 0, "memory")(9, LATER)
    await witness.close()
    assert recall(tmp_path / "witness", "counters") == [
        Acknowledged("counters", 0, "memory", 3, LATER),
        Acknowledged("counters", 1, "memory", 4, LATER),
    ]


async def test_it_is_on_disk_soon_without_a_clean_end(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    durable = witness.of("counters", 0, "memory")
    for sequence in range(2, 5):
        durable(sequence, LATER)
        await until(partial(is_remembered, tmp_path, sequence))
    await witness.close()


async def test_an_owner_that_wakes_up_late_takes_nothing_back(tmp_path: Path) -> None:
    await noted(tmp_path, (7, LATER))
    await noted(tmp_path, (6, EARLIER))
    assert remembered(tmp_path) == [7]


@pytest.mark.parametrize("kept", [0, 17, 100])
async def test_a_slot_that_was_half_written_leaves_the_one_before_it(tmp_path: Path, kept: int) -> None:
    await noted(tmp_path, (2, EARLIER), (3, EARLIER), (4, LATER))
    path = tmp_path / "counters.0"
    content = path.read_bytes()
    assert len(content) == 2 * SLOT_BYTES
    path.write_bytes(content[:kept].ljust(SLOT_BYTES, b"\0") + content[SLOT_BYTES:])
    assert remembered(tmp_path) == [3]
    await noted(tmp_path, (5, LATER))
    assert remembered(tmp_path) == [5]


async def test_a_file_that_makes_no_sense_is_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "counters.0").write_bytes(b"\0" * 2 * SLOT_BYTES)
    with pytest.raises(LogDamaged, match=r"counters\.0 makes no sense"):
        recall(tmp_path, "counters")


async def test_an_engine_tells_its_witness_what_it_wrote_and_what_it_found(log: Log) -> None:
    told: list[tuple[int, str]] = []
    for number in range(2):
        engine = CounterEngine(counters(), log, durable=lambda *block: told.append(block))
        await engine.start()
        await answer(engine, command(Add("a", 1), f"c{number}"))
        await engine.stop()
    records = [record async for batch in log.read(0, await log.head()) for record in batch]
    first, second = [(record.sequence, hash_of(record.data)) for record in records]
    assert told == [first, first, second]


async def test_a_log_that_went_on_is_as_it_should_be() -> None:
    source = MemoryLog("counters")
    block = seal(source.epoch, AT, GENESIS, [])
    await stored_by_hand(source, block, 0)
    seen = Acknowledged("counters", 0, source.epoch, 2, hash_of(block))
    await check(source, [seen])
    await stored_by_hand(source, seal(source.epoch, AT, hash_of(block), []), 2)
    await check(source, [seen])


@pytest.mark.parametrize(
    ("remembered", "words"),
    [
        (Acknowledged("counters", 0, "other", 2, LATER), "of epoch memory, but blocks of other were acknowledged"),
        (Acknowledged("counters", 0, "memory", 3, LATER), "ends at 2, but 3 was acknowledged"),
        (Acknowledged("counters", 0, "memory", 2, LATER), "does not hold at 2 what was acknowledged there"),
    ],
)
async def test_a_log_that_is_not_what_it_was_is_noticed(remembered: Acknowledged, words: str) -> None:
    source = MemoryLog("counters")
    await stored_by_hand(source, seal(source.epoch, AT, GENESIS, []), 0)
    with pytest.raises(LogDamaged, match=words):
        await check(source, [remembered])


async def test_a_log_is_not_made_anew_where_there_was_one(client: Client, unique: str) -> None:
    """Nor is its epoch, which is its first record."""
    seen = [Acknowledged(unique, 0, "memory", 2, LATER)]
    with pytest.raises(LogDamaged, match=f"stream {unique} is gone"):
        await JetStreamLog.open(client, unique, remembered=seen)
    assert unique not in {stream.config.name for stream in await client.jetstream().streams_info()}
    log = await JetStreamLog.open(client, unique)
    with pytest.raises(LogDamaged, match=f"is of epoch {log.epoch}, but blocks of memory were acknowledged"):
        await JetStreamLog.open(client, unique, remembered=seen)
