"""The contract of a log, held against the one in memory and the one on JetStream; then what only a server does."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, PersistMode, RetentionPolicy, SubjectTransform

from bus.logs.blocks import hash_of
from bus.logs.jetstream import MISSED_MAX, JetStreamLog
from bus.logs.log import Appended, Conflict, Log, LogDamaged, LogUnreachable, MemoryLog, Record, Uncertain, Unstored
from bus.logs.pulling import Arrived, Lost, Message, SharedLine
from bus.logs.streams import StreamMisconfigured, ensure_log, log_stream
from bus.servers.broker import BrokerSettings, EmbeddedBroker, configure, free_port
from bus.servers.cluster import LocalCluster
from bus.servers.connection import close, connect
from tests.bus.waiting import PATIENCE_S, turns


async def append(log: Log, data: bytes, expected: int, partition: int = 0) -> int:
    outcome = await log.append(partition, data, hash_of(data), expected)
    assert isinstance(outcome, Appended), outcome
    return outcome.sequence


async def fill(log: Log, records: int, expected: int = 0) -> int:
    """Append some records to partition 0; the last sequence."""
    for number in range(records):
        expected = await append(log, b"%d after %d" % (number, expected), expected)
    return expected


async def read(log: Log, after: int = 0, until: int | None = None) -> list[Record]:
    async with asyncio.timeout(PATIENCE_S):
        until = await log.head() if until is None else until
        return [record async for batch in log.read(after, until) for record in batch]


class Following:
    """A reader that goes on for ever, and what it has read so far."""

    def __init__(self, log: Log, after: int = 0) -> None:
        self.records: list[Record] = []
        self._grown = asyncio.Condition()
        self._task = asyncio.create_task(self._follow(log, after))

    async def _follow(self, log: Log, after: int) -> None:
        async for batch in log.read(after):
            async with self._grown:
                self.records += batch
                self._grown.notify_all()

    async def has(self, records: int) -> list[Record]:
        async with asyncio.timeout(PATIENCE_S), self._grown:
            await self._grown.wait_for(lambda: len(self.records) >= records)
        return self.records

    async def ended(self) -> None:
        """Wait for its end; raises what ended it."""
        async with asyncio.timeout(PATIENCE_S):
            await self._task

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


async def test_blocks_start_at_two_for_the_epoch_is_first(log: Log) -> None:
    assert await log.head() == 1
    assert await append(log, b"one", 0) == 2
    assert await append(log, b"two", 2) == 3
    assert await log.head() == 3


async def test_a_wrong_expectation_is_a_conflict_and_stores_nothing(log: Log) -> None:
    await append(log, b"one", 0)
    for expected in (0, 1, 3):
        assert await log.append(0, b"two", hash_of(b"two"), expected) == Conflict()
    assert [record.data for record in await read(log)] == [b"one"]


async def test_of_two_writers_at_once_one_is_told_that_the_other_was_first(log: Log) -> None:
    outcomes = await asyncio.gather(*(log.append(0, data, hash_of(data), 0) for data in (b"one", b"two")))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Appended", "Conflict"]
    assert len(await read(log)) == 1


async def test_an_identical_block_appended_twice_is_stored_once_and_gives_the_first_sequence(log: Log) -> None:
    first = await append(log, b"one", 0)
    assert await append(log, b"one", 0) == first
    second = await append(log, b"two", first)
    assert await append(log, b"two", first) == second
    assert [record.data for record in await read(log)] == [b"one", b"two"]


async def test_the_epoch_is_told_but_never_read(log: Log) -> None:
    assert log.epoch
    assert await read(log) == []
    assert await log.get(1) is None
    assert await log.last(0) is None


async def test_reading_begins_after_the_position_that_is_named(log: Log) -> None:
    last = await fill(log, 5)
    assert [record.sequence for record in await read(log)] == [2, 3, 4, 5, 6]
    assert [record.sequence for record in await read(log, after=1)] == [2, 3, 4, 5, 6]
    assert [record.sequence for record in await read(log, after=4)] == [5, 6]
    assert await read(log, after=last) == []


async def test_reading_ends_with_the_position_that_is_named(log: Log) -> None:
    await fill(log, 5)
    assert [record.sequence for record in await read(log, until=4)] == [2, 3, 4]
    assert [record.sequence for record in await read(log, after=2, until=4)] == [3, 4]
    assert await read(log, after=4, until=3) == []


async def test_a_reader_that_waits_gets_what_is_appended_later(log: Log) -> None:
    last = await fill(log, 2)
    following = Following(log)
    await following.has(2)
    last = await fill(log, 3, last)
    assert [record.sequence for record in await following.has(5)] == [2, 3, 4, 5, 6]
    await following.stop()


async def test_many_records_come_in_order_and_without_gaps(log: Log) -> None:
    last = await fill(log, 650)
    records = await read(log)
    deadline = time.monotonic() + PATIENCE_S
    while records[0].sequence + records[0].pending < last and time.monotonic() < deadline:
        records = await read(log)  # By a server whose copy of the log is not up to date yet.
    assert [record.sequence for record in records] == list(range(2, 652))
    assert [record.data for record in records[:2]] == [b"0 after 0", b"1 after 2"]
    assert records[-1].sequence == last
    assert records[-1].pending == 0
    assert all(record.sequence + record.pending == last for record in records)


async def test_single_records_are_found_by_their_sequence(log: Log) -> None:
    await fill(log, 3)
    found = await log.get(3)
    assert found is not None
    assert found[:3] == (3, 0, b"1 after 2")
    assert await log.get(0) is None
    assert await log.get(9) is None


async def test_the_last_block_is_the_partitions_own(log: Log) -> None:
    await append(log, b"zero", 0, partition=0)
    await append(log, b"three", 0, partition=3)
    last = await log.last(0)
    assert last is not None
    assert last[:3] == (2, 0, b"zero")
    assert await log.last(1) is None


async def test_partitions_have_their_own_expectations_and_one_numbering(log: Log) -> None:
    assert await append(log, b"a", 0, partition=0) == 2
    assert await append(log, b"b", 0, partition=1) == 3
    assert await append(log, b"c", 2, partition=0) == 4
    assert await log.append(1, b"d", hash_of(b"d"), 4) == Conflict()
    assert await append(log, b"d", 3, partition=1) == 5
    assert [record[:3] for record in await read(log)] == [(2, 0, b"a"), (3, 1, b"b"), (4, 0, b"c"), (5, 1, b"d")]


async def test_two_readers_at_once_both_get_everything(log: Log) -> None:
    last = await fill(log, 100)
    one, two = Following(log), Following(log, after=51)
    await fill(log, 100, last)
    assert [record.sequence for record in await one.has(200)] == list(range(2, 202))
    assert [record.sequence for record in await two.has(150)] == list(range(52, 202))
    await one.stop()
    await two.stop()


async def test_a_reader_positioned_beyond_the_end_raises_log_damaged(log: Log) -> None:
    await fill(log, 2)
    with pytest.raises(LogDamaged, match="ends at 3, but 7 was read before"):
        async for _ in log.read(7):
            pass


async def test_a_reader_that_is_cancelled_at_any_moment_ends(log: Log) -> None:
    """On Python 3.11 a request whose answer comes in the turn of its cancellation forgets the cancellation."""
    await fill(log, 3)
    for moment in range(120):
        following = Following(log)
        await turns(moment % 40)
        async with asyncio.timeout(PATIENCE_S):
            await following.stop()


@pytest.fixture(params=["memory", "jetstream"])
async def small_log(request: pytest.FixtureRequest, broker: EmbeddedBroker, unique: str) -> AsyncIterator[Log]:
    """A log that holds 100,000 bytes at most."""
    if request.param == "memory":
        yield MemoryLog(unique, bytes_max=100_000)
        return
    client = await connect(broker.url, "small")
    yield await limited(client, unique, max_bytes=100_000)
    await close(client)


async def limited(client: Client, name: str, **limits: object) -> JetStreamLog:
    """A log on a stream with limits that ours do not have."""
    await client.jetstream().add_stream(log_stream(name).evolve(**limits))
    return await JetStreamLog.open(client, name)


def noise(size: int) -> bytes:
    """Bytes that no compression makes fewer."""
    return random.Random(size).randbytes(size)


async def test_a_full_log_says_definitely_no_and_goes_on_with_what_fits(small_log: Log) -> None:
    first = await append(small_log, noise(60_000), 0)
    for data in (noise(60_001), noise(60_002)):
        outcome = await small_log.append(0, data, hash_of(data), first)
        assert isinstance(outcome, Unstored)
        assert outcome.reason == "log_full"
    assert await small_log.head() == first
    assert await append(small_log, noise(1_000), first) == first + 1
    assert [len(record.data) for record in await read(small_log)] == [60_000, 1_000]


# -- on the server only ------------------------------------------------------------------------------------------------


async def test_making_a_log_again_keeps_its_epoch_and_its_partitions(client: Client, unique: str) -> None:
    first = await JetStreamLog.open(client, unique, partitions=4)
    await fill(first, 2)
    again = await JetStreamLog.open(client, unique, partitions=2)
    assert again.epoch == first.epoch
    assert again.partitions == 4
    assert len(await read(again)) == 2


async def test_processes_that_make_a_log_at_once_agree_on_one_epoch(
    broker: EmbeddedBroker, client: Client, unique: str
) -> None:
    other = await connect(broker.url, "other")
    logs = await asyncio.gather(*(JetStreamLog.open(each, unique) for each in (client, other) * 4))
    assert len({log.epoch for log in logs}) == 1
    assert await logs[0].head() == 1
    await close(other)


@pytest.mark.parametrize(
    "different",
    [
        {"max_age": 3600},
        {"max_msgs_per_subject": 10},
        {"discard": DiscardPolicy.OLD},
        {"retention": RetentionPolicy.INTEREST},
        {"deny_purge": False},
        {"deny_delete": False},
        {"subjects": ["elsewhere.>"]},
        {"persist_mode": PersistMode.ASYNC},
        {"no_ack": True},
        {"max_msg_size": 1_000},
        {"subject_transform": SubjectTransform(src=">", dest="other.>")},
    ],
    ids=lambda different: next(iter(different)),
)
async def test_a_stream_that_could_forget_is_refused(client: Client, unique: str, different: dict[str, object]) -> None:
    if "subjects" in different:
        different = {"subjects": [f"elsewhere.{unique}"]}
    await client.jetstream().add_stream(log_stream(unique).evolve(**different))
    with pytest.raises(StreamMisconfigured, match=f"stream {unique} has {next(iter(different))}"):
        await ensure_log(client, log_stream(unique))


async def test_a_stream_whose_first_record_is_no_epoch_is_not_taken_for_a_log(client: Client, unique: str) -> None:
    stream = client.jetstream()
    await stream.add_stream(log_stream(unique))
    await stream.publish(f"log.{unique}.0", b"{}")
    with pytest.raises(LogDamaged, match="not its epoch"):
        await JetStreamLog.open(client, unique)


async def test_what_reads_single_records_says_that_the_log_is_unreachable(client: Client, unique: str) -> None:
    log = await JetStreamLog.open(client, unique)
    await close(client)
    for read_one in (log.head(), log.last(0), log.get(2)):
        with pytest.raises(LogUnreachable):
            await read_one


async def test_a_leader_that_has_not_heard_from_its_replicas_is_not_believed(
    cluster: LocalCluster, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a former one, whose end of the log is not the end any more."""
    client = await connect(cluster.url, "test")
    log = await JetStreamLog.open(client, unique, replicas=3)
    assert await append(log, b"one", 0) == await log.head()
    monkeypatch.setattr("bus.logs.looks.LEASE_S", 0.0)
    with pytest.raises(LogUnreachable, match="has not heard from most of its replicas"):
        await log.head()
    await close(client)


async def test_a_log_with_more_copies_than_servers_is_one_clear_refusal(client: Client, unique: str) -> None:
    with pytest.raises(StreamMisconfigured, match=f"stream {unique} cannot be made: "):
        await JetStreamLog.open(client, unique, replicas=3)


async def test_processes_that_make_a_replicated_log_at_once_agree_on_one_epoch(
    cluster: LocalCluster, unique: str
) -> None:
    clients = [await connect(server.url, "test") for server in cluster.servers]
    logs = await asyncio.gather(*(JetStreamLog.open(each, unique, replicas=3) for each in clients * 3))
    assert len({log.epoch for log in logs}) == 1
    assert await logs[0].head() == 1
    for each in clients:
        await close(each)


def test_the_embedded_server_is_told_to_sync_every_write(broker: EmbeddedBroker) -> None:
    config = (broker.settings.folder / "nats-server.conf").read_text()
    assert "sync_interval: always" in config
    assert "max_file_store: " in config
    assert 'listen: "127.0.0.1:' in config


def test_only_its_owner_may_read_the_configuration(broker: EmbeddedBroker) -> None:
    command = configure(BrokerSettings(broker.settings.folder / "another", 4222, "secret"))
    assert (broker.settings.folder / "another" / "nats-server.conf").stat().st_mode & 0o777 == 0o600
    assert command[1:] == ["-c", str(broker.settings.folder / "another" / "nats-server.conf")]


@pytest.fixture
async def own_log(
    own_broker: EmbeddedBroker, unique: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[JetStreamLog]:
    """A log on a server that may be killed; its waits are short, so that tests are."""
    monkeypatch.setattr("bus.logs.jetstream.APPEND_TIMEOUT_S", 0.5)
    monkeypatch.setattr("bus.logs.pulling.HEARTBEAT_S", 0.3)
    client = await connect(own_broker.url, "own")
    yield await JetStreamLog.open(client, unique)
    await close(client)


async def insist(log: Log, data: bytes, expected: int) -> int:
    """Append the same block until it is known to be stored."""
    async with asyncio.timeout(PATIENCE_S):
        while isinstance(outcome := await log.append(0, data, hash_of(data), expected), Uncertain | Unstored):
            continue
    assert isinstance(outcome, Appended)
    return outcome.sequence


async def test_a_reader_survives_the_brokers_crash_without_a_gap_or_a_repeat(
    own_broker: EmbeddedBroker, own_log: JetStreamLog
) -> None:
    last = await fill(own_log, 50)
    following = Following(own_log)
    await following.has(50)
    for crash in range(2):
        own_broker.kill()
        own_broker.start()
        last = await insist(own_log, b"after crash %d" % crash, last)
        last = await fill(own_log, 20, last)
    records = await following.has(92)
    assert [record.sequence for record in records] == list(range(2, 94))
    await following.stop()


async def test_a_long_range_is_read_on_after_the_brokers_crash_without_a_gap_or_a_repeat(
    own_broker: EmbeddedBroker, own_log: JetStreamLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.logs.jetstream.POURS_RECORDS", 0)
    last = await fill(own_log, 1_000)
    sequences: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        async for batch in own_log.read(0, last):
            if not sequences:
                own_broker.kill()
                own_broker.start()
            sequences += [record.sequence for record in batch]
    assert sequences == list(range(2, last + 1))


async def test_an_append_to_a_killed_broker_is_uncertain_and_is_settled_once_after_its_restart(
    own_broker: EmbeddedBroker, own_log: JetStreamLog
) -> None:
    last = await append(own_log, b"before", 0)
    own_broker.kill()
    assert isinstance(await own_log.append(0, b"during", hash_of(b"during"), last), Uncertain)
    own_broker.start()
    sequence = await insist(own_log, b"during", last)
    assert await insist(own_log, b"during", last) == sequence
    assert [record.data for record in await read(own_log)] == [b"before", b"during"]


async def test_no_stream_no_block(client: Client, unique: str) -> None:
    """Nobody took it, which the server says at once: nothing to be in doubt about."""
    log = await JetStreamLog.open(client, unique)
    await append(log, b"one", 0)
    await client.jetstream().delete_stream(unique)
    outcome = await log.append(0, b"two", hash_of(b"two"), 2)
    assert isinstance(outcome, Unstored)
    assert outcome.reason == "log_unavailable"


async def test_a_stream_that_vanishes_is_log_damaged_for_whoever_reads(client: Client, unique: str) -> None:
    log = await JetStreamLog.open(client, unique)
    await append(log, b"one", 0)
    following = Following(log)
    await following.has(1)
    await client.jetstream().delete_stream(unique)
    with pytest.raises(LogDamaged, match=f"stream {unique} is gone: restore the broker's store"):
        await log.head()
    with pytest.raises(LogDamaged, match=f"stream {unique} is gone"):
        await following.ended()


@pytest.mark.parametrize(("until", "poured"), [(True, False), (True, True), (False, False)])
async def test_a_record_that_the_broker_cannot_read_is_log_damaged_and_not_waited_for(
    own_broker: EmbeddedBroker, own_log: JetStreamLog, until: bool, poured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a clean stop the broker believes what it wrote down of its files, and sends nothing but heartbeats."""
    if poured:
        monkeypatch.setattr("bus.logs.jetstream.POURS_RECORDS", 0)
    last = await fill(own_log, 3)
    own_broker.stop()
    (file,) = own_broker.settings.folder.rglob(f"{own_log.name}/msgs/*.blk")
    content = bytearray(file.read_bytes())
    content[-20] ^= 4
    file.write_bytes(content)
    own_broker.start()
    client = await connect(own_broker.url, "reader")
    log = await JetStreamLog.open(client, own_log.name)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(LogDamaged, match="records are gone"):
            async for _ in log.read(0, last if until else None):
                pass
    await close(client)


class LosesOnTheWay(SharedLine):
    """Records that never come, so many times each, as when a server closes a connection that is behind."""

    lost: Counter[str]

    async def listen(self, arrived: Arrived, lost: Lost) -> None:
        def some(messages: Iterable[Message]) -> None:
            arrived([message for message in messages if not self._is_lost(message)])

        await super().listen(some, lost)

    def _is_lost(self, message: Message) -> bool:
        data = message.data.decode()
        self.lost[data] -= 1
        return self.lost[data] >= 0


@pytest.mark.parametrize("times", [1, MISSED_MAX, MISSED_MAX + 1])
async def test_a_record_that_got_lost_on_the_way_is_read_again(
    client: Client, unique: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await JetStreamLog.open(client, unique)
    await fill(log, 5)
    whole = await read(log)
    monkeypatch.setattr("bus.logs.jetstream.SharedLine", LosesOnTheWay)
    monkeypatch.setattr(LosesOnTheWay, "lost", Counter({whole[2].data.decode(): times}), raising=False)
    if times > MISSED_MAX:
        with pytest.raises(LogDamaged, match="went from 3 to 5, 4 times: records are gone"):
            await read(log)
    else:
        assert await read(log) == whole


async def test_a_block_that_the_stream_does_not_take_is_definitely_not_stored(client: Client, unique: str) -> None:
    log = await JetStreamLog.open(client, unique)
    await client.jetstream().update_stream(log_stream(unique).evolve(max_msg_size=1_000))
    outcome = await log.append(0, noise(2_000), hash_of(noise(2_000)), 0)
    assert isinstance(outcome, Unstored)
    assert outcome.reason == "log_refused"
    assert await log.head() == 1


async def test_a_full_store_refuses_blocks_until_there_is_room_again(tmp_path: Path, unique: str) -> None:
    """As when the disk is 80 % full. A larger limit is taken up by the server while it runs."""
    small = BrokerSettings(tmp_path / "broker", free_port(), "password", file_store_bytes_max=1_000_000)
    with EmbeddedBroker(small) as broker:
        client = await connect(broker.url, "full")
        log = await JetStreamLog.open(client, unique)
        last = await append(log, noise(500_000), 0)
        last = await append(log, noise(500_001), last)
        for data in (noise(400_000), b"small"):
            outcome = await log.append(0, data, hash_of(data), last)
            assert isinstance(outcome, Unstored)
            assert outcome.reason == "log_full"
        assert await log.head() == last
        configure(msgspec.structs.replace(small, file_store_bytes_max=10_000_000))
        os.kill(broker.pid, signal.SIGHUP)
        assert await insist(log, b"small", last) == last + 1
        assert [len(record.data) for record in await read(log)] == [500_000, 500_001, 5]
        await close(client)
