"""The outbox: whatever crashes between any two steps, each change is on the log once, in its order, and known to be."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.commands import Envelope, Refused, Unavailable
from bus.logs.blocks import BLOCK_BYTES_MAX, Block, Chain, block_decoder
from bus.logs.log import AppendOutcome, Conflict, Log, LogDamaged, MemoryLog
from bus.outboxes.database import Database, OutboxDiffers, Outboxed, Outcome
from bus.outboxes.outbox import Relay
from tests.bus.faults import Fault, FaultyLog
from tests.bus.notes import (
    Note,
    NoteCommand,
    NoteEvent,
    NoteState,
    TearUp,
    Torn,
    Write,
    Written,
    envelope,
    notes,
)
from tests.bus.waiting import PATIENCE_S, turns, until

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC).timestamp()

NotesDatabase = Database[NoteState, NoteCommand, NoteEvent]


class Crash(Exception):
    """The process is gone."""


class Fuse:
    """Burns down a step at a time; then the process is gone. Without a length it lasts."""

    def __init__(self, length: int = -1) -> None:
        self.left = length

    def burn(self) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1


class FusedDatabase(NotesDatabase):
    """Crashes before or after what it does."""

    def __init__(self, path: Path, fuse: Fuse) -> None:
        super().__init__(notes, path)
        self._fuse = fuse

    async def write(self, envelopes: Sequence[Envelope], now: float) -> list[Outcome]:
        self._fuse.burn()
        outcomes = await super().write(envelopes, now)
        self._fuse.burn()
        return outcomes

    async def begin(self, epoch: str) -> None:
        self._fuse.burn()
        await super().begin(epoch)
        self._fuse.burn()

    async def publish(self, command_ids: Sequence[str], sequence: int, tip: str) -> list[int]:
        self._fuse.burn()
        numbers = await super().publish(command_ids, sequence, tip)
        self._fuse.burn()
        return numbers


class FusedLog(FaultyLog):
    """Crashes its writer before or after a block is stored."""

    def __init__(self, inside: Log, fuse: Fuse) -> None:
        super().__init__(inside)
        self.fuse = fuse

    async def append(self, partition: int, block: bytes, block_hash: str, expected: int) -> AppendOutcome:
        self.fuse.burn()
        outcome = await super().append(partition, block, block_hash, expected)
        self.fuse.burn()
        return outcome


@asynccontextmanager
async def opened(path: Path, log: Log, fuse: Fuse | None = None) -> AsyncIterator[tuple[NotesDatabase, Relay]]:
    """The service's process, as far as its outbox goes; left, it is gone."""
    database = FusedDatabase(path, fuse or Fuse())
    try:
        await database.open()
        relay = Relay(database, log, retry_s=0.0, now=lambda: NOW)
        async with asyncio.timeout(PATIENCE_S):
            await relay.open()
            yield database, relay
    finally:
        await database.close()


def rows_of(path: Path) -> list[tuple[str, str, int, int]]:
    """Command, note, version and position of each outbox row, in their order."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT command_id, aggregate, version, sequence FROM outbox ORDER BY number"
        ).fetchall()


async def blocks_of(log: Log) -> dict[int, Block[object]]:
    """What is on the log, whole and unbroken."""
    chain, found = Chain(log.epoch, whole=True), {}
    async for batch in log.read(0, await log.head()):
        for record in batch:
            found[record.sequence] = chain.follow(record, block_decoder(notes.events).decode)
    return found


async def everything_once(path: Path, log: Log) -> None:
    """The log holds just what the outbox does, in the same order, each at the position that its row says."""
    rows = rows_of(path)
    told = [
        (commit.id, commit.aggregate, commit.version, sequence)
        for sequence, block in (await blocks_of(log)).items()
        for commit in block.commits
    ]
    assert told == rows
    latest: dict[str, int] = {}
    for _, note, version, _ in rows:
        assert version == latest.get(note, 0) + 1
        latest[note] = version


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


def write(number: int, note: str = "n", text: str = "") -> Envelope:
    return envelope(Write(note, text or f"text {number}"), f"c{number}")


async def test_all_rows_that_wait_make_one_block_as_every_log_has_them(path: Path, log: Log) -> None:
    async with opened(path, log) as (database, relay):
        await database.write([write(1)], NOW - 60)
        await database.write([write(2), write(3, "m")], NOW)
        await relay.tell_all()
        [(sequence, block)] = (await blocks_of(log)).items()
        assert [(commit.id, commit.aggregate, commit.version, commit.events) for commit in block.commits] == [
            ("c1", "n", 1, [Written("n")]),
            ("c2", "n", 2, [Written("n")]),
            ("c3", "m", 1, [Written("m")]),
        ]
        assert block.at.timestamp() == NOW
        assert [commit.occurred_at and commit.occurred_at.timestamp() for commit in block.commits] == [
            NOW - 60,
            None,
            None,
        ]
        assert relay.position == sequence
    await everything_once(path, log)


@pytest.mark.parametrize("fault", ["", "ack_lost"])
async def test_a_crash_at_any_step_repeats_nothing_and_loses_nothing(tmp_path: Path, fault: Fault) -> None:
    """The process dies at its first step, then at its second, and so on until it lives through all of them."""
    for steps in count():
        path, log = tmp_path / f"{steps}.db", FusedLog(MemoryLog("notes"), Fuse(steps))
        log.faults.extend(["", fault])
        crashed = False
        written: list[str] = []
        try:
            async with opened(path, log, log.fuse) as (database, relay):
                for batch in ([write(1)], [write(2), write(3, "m")], [envelope(TearUp("n"), "c4")]):
                    await database.write(batch, NOW)
                    written += [each.id for each in batch]
                    await relay.tell_all()
        except Crash:
            crashed = True
        log.fuse.left = -1
        async with opened(path, log) as (_, relay):
            await relay.tell_all()
        await everything_once(path, log)
        assert [command_id for command_id, *_ in rows_of(path)][: len(written)] == written
        if not crashed:
            assert len(written) == 4
            assert steps > 10
            return


async def test_a_block_that_arrives_late_is_found_before_another_goes_behind_it(path: Path) -> None:
    log = FaultyLog(MemoryLog("notes"), ["block_late"])
    async with opened(path, log) as (database, relay):
        await database.write([write(1)], NOW)
        assert not await relay._tell(await database.unpublished(10))
        await database.write([write(2)], NOW)
        await log.deliver_late()  # Just now: nobody has looked since.
        await relay.tell_all()
    await everything_once(path, log)


async def test_a_block_that_arrives_after_its_rows_were_told_by_another_comes_too_late(path: Path) -> None:
    log = FaultyLog(MemoryLog("notes"), ["block_late"])
    async with opened(path, log) as (database, relay):
        await database.write([write(1)], NOW)
        assert not await relay._tell(await database.unpublished(10))
    async with opened(path, log) as (database, relay):
        await database.write([write(2)], NOW)
        await relay.tell_all()
        assert await log.deliver_late() == [Conflict()]
    await everything_once(path, log)


@given(
    st.lists(
        st.one_of(
            st.lists(
                st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.sampled_from(["x", "y", ""])), max_size=4
            ),
            st.sampled_from(["tell", "restart", "late"]),
            st.sampled_from(["ack_lost", "block_lost", "block_late", "block_refused"]),
            st.integers(1, 9),
        ),
        max_size=14,
    )
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_commands_crashes_and_repeats_are_told_once_and_in_order(steps: list[object]) -> None:
    """A number is a crash so many steps later."""
    with TemporaryDirectory() as folder:
        asyncio.run(_live(Path(folder) / "notes.db", steps))


async def _live(path: Path, steps: list[object]) -> None:
    log = FusedLog(MemoryLog("notes"), Fuse())
    answered: dict[str, int] = {}
    left = list(steps)
    while left:
        try:
            async with opened(path, log, log.fuse) as (database, relay):
                while left:
                    match left.pop(0):
                        case int(length):
                            log.fuse.left = length
                        case "tell":
                            await relay.tell_all()
                        case "restart":
                            break
                        case "late":
                            await log.deliver_late()
                        case str(fault):
                            log.faults.append(fault)  # type: ignore[arg-type]  # Drawn from them.
                        case list(drawn):
                            batch = [
                                envelope(Write(note, text) if text else TearUp(note), f"c{number}")
                                for number, note, text in drawn
                            ]
                            for each, outcome in zip(batch, await database.write(batch, NOW), strict=True):
                                if isinstance(outcome, Outboxed) and outcome.events is not None:
                                    assert answered.setdefault(each.id, outcome.number) == outcome.number
        except Crash:
            log.fuse.left = -1
    log.fuse.left = -1
    async with opened(path, log) as (_, relay):
        await relay.tell_all()
    await log.deliver_late()
    await everything_once(path, log)
    known = {command_id for command_id, *_ in rows_of(path)}
    assert set(answered) <= known


async def test_it_is_woken_by_whoever_writes_and_waits_without_asking(path: Path) -> None:
    log = MemoryLog("notes")
    async with opened(path, log) as (database, _):
        relay = Relay(database, log, poll_s=3_600.0)
        await relay.open()
        running = asyncio.create_task(relay.run())
        for number in range(3):
            await database.write([write(number)], NOW)
            relay.wake()
            await until(lambda: relay.position == number + 2)  # noqa: B023  # Awaited before the next.
        running.cancel()
        await asyncio.wait({running})
    await everything_once(path, log)


async def test_a_slow_poll_finds_what_nobody_told_it_of(path: Path) -> None:
    log = MemoryLog("notes")
    async with opened(path, log) as (database, _):
        relay = Relay(database, log, poll_s=0.01)
        await relay.open()
        running = asyncio.create_task(relay.run())
        await database.write([write(1)], NOW)
        await until(lambda: relay.position == 2)
        running.cancel()
        await asyncio.wait({running})


async def test_as_many_rows_as_fit_go_into_a_block_and_the_rest_into_the_next(path: Path) -> None:
    log = MemoryLog("notes")
    async with opened(path, log) as (database, relay):
        await database.write([write(number, f"{number}-{'n' * 200}") for number in range(2_500)], NOW)
        await relay.tell_all()
    blocks = await blocks_of(log)
    assert len(blocks) > 2
    assert max(len(msgspec.json.encode(block)) for block in blocks.values()) <= BLOCK_BYTES_MAX
    await everything_once(path, log)


async def test_a_database_that_is_older_than_the_log_tells_nothing(path: Path) -> None:
    log = MemoryLog("notes")
    async with opened(path, log) as (database, relay):
        await database.write([write(1)], NOW)
        await relay.tell_all()
    other = path.with_name("other.db")
    for changes in ([], [write(9)]):
        async with opened(other, MemoryLog("notes")) as (database, _):
            await database.write(changes, NOW)
        with pytest.raises(OutboxDiffers, match="another's, or an older one"):
            async with opened(other, log):
                pass
    async with opened(path, log) as (database, relay):
        await database.write([write(2)], NOW)
        await relay.tell_all()


async def test_a_log_that_lost_what_was_published_is_told_again_only_when_the_loss_was_accepted(path: Path) -> None:
    lost = MemoryLog("notes", epoch="before")
    async with opened(path, lost) as (database, relay):
        await database.write([write(1), write(2)], NOW)
        await relay.tell_all()
    fresh = MemoryLog("notes", epoch="after")
    with pytest.raises(LogDamaged, match="is another one"):
        async with opened(path, fresh):
            pass
    older = MemoryLog("notes", epoch="before")
    with pytest.raises(LogDamaged, match="does not hold block 2 any more"):
        async with opened(path, older):
            pass
    for log in (older, fresh):
        database = Database(notes, path)
        await database.open()
        relay = Relay(database, log, loss_accepted=True)
        await relay.open()
        await relay.tell_all()
        await database.close()
        await everything_once(path, log)


async def test_a_log_that_loses_what_was_published_is_noticed_in_quiet_times(path: Path) -> None:
    log = MemoryLog("notes")
    async with opened(path, log) as (database, _):
        relay = Relay(database, log, poll_s=0.001, retry_s=0.0)
        await relay.open()
        await database.write([write(1)], NOW)
        await relay.tell_all()
        log._records.pop()
        with pytest.raises(LogDamaged, match="does not hold block 2 any more"):
            await relay.run()


async def test_the_lock_lets_one_process_write_at_a_time(path: Path) -> None:
    first, second = Database(notes, path), Database(notes, path)
    await first.open()
    waiting = asyncio.create_task(second.open())
    await turns()
    assert not waiting.done()
    await first.close()
    async with asyncio.timeout(10):
        await waiting
    assert second.state("n").version == 0
    await second.close()


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def database(path: Path) -> AsyncIterator[NotesDatabase]:
    async with opened(path, MemoryLog("notes")) as (database, _):
        yield database


async def test_a_repeat_gives_the_first_answer_and_another_command_under_its_id_is_refused(
    database: NotesDatabase,
) -> None:
    [first] = await database.write([write(1)], NOW)
    await database.write([write(2)], NOW)
    again, other, same = await database.write(
        [write(1), write(1, text="other"), envelope(Write("n", "text 2"), "c3")], NOW
    )
    assert isinstance(first, Outboxed)
    assert again == first._replace(repeated=True)
    assert other == Refused("id_reused", "this id was used for another command before")
    assert same == Outboxed(2, 0, 2, None)
    assert database.state("n").state == Note("text 2")


async def test_each_command_sees_what_those_before_it_did_and_is_refused_alone(database: NotesDatabase) -> None:
    outcomes = await database.write(
        [
            write(1),
            envelope(Write("n", "x" * 101), "c2"),
            envelope(Write("n", "defect"), "c3"),
            envelope(Write("n", "late"), "c4", deadline=NOW - 1),
            envelope(Write("n", "mistaken"), "c5", expect=7),
            envelope(Write("n", "right"), "c6", expect=1),
        ],
        NOW,
    )
    assert [getattr(outcome, "code", "") for outcome in outcomes] == [
        "",
        "too_long",
        "internal_error",
        "deadline_passed",
        "version_conflict",
        "",
    ]
    assert isinstance(outcomes[3], Unavailable)
    assert database.state("n").version == 2
    assert database.state("n").state == Note("right")


async def test_state_and_outbox_are_written_together_or_not_at_all(database: NotesDatabase, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TRIGGER no BEFORE INSERT ON outbox WHEN NEW.command_id = 'c2'"
            " BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    with pytest.raises(sqlite3.Error, match="no room"):
        await database.write([write(1), write(2)], NOW)
    assert database.state("n").version == 0
    assert rows_of(path) == []
    await database.write([write(1)], NOW)
    assert database.state("n").version == 1


async def test_what_was_kept_of_who_is_erased_is_in_no_file_any_more(database: NotesDatabase, path: Path) -> None:
    def holding() -> list[Path]:
        return [each for each in path.parent.iterdir() if b"a secret" in each.read_bytes()]

    await database.write([write(1, text="a secret"), write(2, "m")], NOW)
    await database.write([write(3, text="a secret but longer")], NOW)
    assert holding()
    await database.write([envelope(TearUp("n"), "c4")], NOW)
    assert not holding()
    assert database.state("n").state == Torn()
    with closing(sqlite3.connect(path)) as connection:
        digests = dict(connection.execute("SELECT command_id, digest FROM outbox").fetchall())
    assert [name for name, digest in digests.items() if digest] == ["c2", "c4"]
    [again] = await database.write([write(1, text="a secret")], NOW)
    assert again == Refused("erased_since", "what this command was about was erased since")


class Unwiped(NotesDatabase):
    """Killed before it can wipe anything."""

    def _wipe(self) -> None:
        pass


async def test_what_a_crash_left_of_who_is_erased_is_wiped_at_the_next_start(path: Path) -> None:
    killed = Unwiped(notes, path)
    await killed.open()
    await killed.write([write(1, text="a secret")], NOW)
    await killed.write([envelope(TearUp("n"), "c2")], NOW)
    after = path.parent / "after"
    after.mkdir()
    for each in path.parent.glob("notes.db*"):
        shutil.copy(each, after)
    await killed.close()
    assert any(b"a secret" in each.read_bytes() for each in after.iterdir()), "or this test proves nothing"
    restarted = Database(notes, after / "notes.db")
    await restarted.open()
    assert restarted.state("n").state == Torn()
    assert not any(b"a secret" in each.read_bytes() for each in after.iterdir())
    await restarted.close()


async def test_an_erasure_is_done_while_somebody_reads_the_file_and_wiped_at_the_next_start(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = MemoryLog("notes")
    async with opened(path, log) as (database, _):
        await database.write([write(1, text="a secret")], NOW)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM aggregate").fetchall()
            [outcome] = await database.write([envelope(TearUp("n"), "c2")], NOW)
            assert isinstance(outcome, Outboxed)
        assert "still holds what was erased: somebody else reads it" in caplog.text
        assert database.state("n").state == Torn()
    async with opened(path, log):
        assert not any(b"a secret" in each.read_bytes() for each in path.parent.iterdir())


async def test_rows_that_cannot_be_marked_are_told_once_and_marked_later(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = FaultyLog(MemoryLog("notes"))
    async with opened(path, log) as (database, relay):
        await database.write([write(1)], NOW)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TRIGGER no BEFORE UPDATE ON outbox BEGIN SELECT RAISE(ABORT, 'no room'); END")
            with pytest.raises(sqlite3.Error, match="no room"):
                await relay.tell_all()
            running = asyncio.create_task(relay.run())
            await until(lambda: "no room; trying again" in caplog.text)
            connection.execute("DROP TRIGGER no")
        await until(lambda: relay.position == 2)
        running.cancel()
        await asyncio.wait({running})
    await everything_once(path, log)
