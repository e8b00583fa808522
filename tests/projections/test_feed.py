"""Feed and worker over a real log: read models are live, tell where they stand, and halt one by one."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import pytest

from bus.logs.blocks import GENESIS, seal
from projections.batches import Batch
from projections.feed import Feed, remembered_position
from projections.projection import Recorded
from projections.reader import ReadModelMissing
from projections.store import Store
from tests.bus.counter import Added, Scribbled
from tests.bus.faults import FaultyLog
from tests.bus.waiting import PATIENCE_S, turns, until
from tests.bus.written import AT
from tests.projections.shop import Shop
from tests.projections.tally import DECODER


async def test_what_is_written_is_shown_and_announced(shop: Shop) -> None:
    tally = shop.tally()
    await shop.written.block(("a", [Added("a", 1)]))
    async with shop.working(tally):
        await shop.reaches(tally, 2)
        assert await shop.totals(tally) == {"a": 1}
        last = await shop.written.block(("a", [Added("a", 2)]), ("b", [Added("b", 5)]))
        await shop.reaches(tally, last)
        assert await shop.totals(tally) == {"a": 3, "b": 5}
        assert await shop.reader.sequence(tally.name) == last
        told = shop.standings.latest(tally.name)
        assert told is not None
        assert (told.name, told.version, told.stream, told.sequence, told.head, told.error) == (
            tally.name,
            1,
            shop.stream,
            3,
            3,
            "",
        )


async def test_a_position_that_is_shown_is_in_the_rows_whoever_asks_whenever(shop: Shop) -> None:
    """Whoever waited for a position sees at least what was written up to it."""
    tally = shop.tally()
    async with shop.working(tally):
        for n in range(1, 40):
            last = await shop.written.block(("a", [Added("a", 1)]))
            await shop.reaches(tally, last)
            assert await shop.totals(tally) == {"a": n}


async def test_a_worker_that_starts_again_goes_on_where_it_stood(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally):
        await shop.reaches(tally, await shop.written.block(("a", [Added("a", 1)])))
    live = shop.files.live(tally.name)
    last = await shop.written.block(("a", [Added("a", 2)]))
    async with shop.working(tally):
        await shop.reaches(tally, last)
        assert await shop.totals(tally) == {"a": 3}
        assert shop.files.live(tally.name) == live


async def test_a_new_version_of_a_read_model_is_built_anew(shop: Shop) -> None:
    last = await shop.written.block(("a", [Added("a", 1)]))
    async with shop.working(shop.tally()):
        await shop.reaches(shop.tally(), last)
    async with shop.working(shop.tally(version=2)):
        await shop.reaches(shop.tally(), last)
        assert await shop.totals(shop.tally()) == {"a": 1}
    live = shop.files.live(shop.tally().name)
    assert live is not None
    assert live.name.endswith("@2.2.db")


async def test_read_models_that_stand_at_different_places_are_fed_together(shop: Shop) -> None:
    first, second = shop.tally("_first"), shop.tally("_second")
    last = await shop.written.block(("a", [Added("a", 1)]))
    async with shop.working(first):
        await shop.reaches(first, last)
    last = await shop.written.block(("a", [Added("a", 2)]))
    async with shop.working(first, second):
        await shop.reaches(first, last)
        await shop.reaches(second, last)
        assert await shop.totals(first) == await shop.totals(second) == {"a": 3}


async def test_a_read_model_that_is_slow_holds_up_what_comes_next_but_is_not_waited_for_to_show_what_came(
    shop: Shop,
) -> None:
    go_on = threading.Event()

    def slow(connection: sqlite3.Connection, batch: Sequence[Recorded]) -> None:
        assert go_on.wait(PATIENCE_S)

    quick, held = shop.tally("_quick"), shop.tally("_held")
    held = replace(held, on={}, batch=slow)
    async with shop.feeding(held, quick) as feed:
        last = await shop.written.block(("a", [Added("a", 1)]))
        await shop.reaches(quick, last)
        assert await shop.totals(quick) == {"a": 1}
        assert feed.lock.locked()  # Whoever has it sees all of them where they say that they are.
        assert feed.sequence(held.name) == 0
        go_on.set()
        await shop.reaches(held, last)


async def test_a_failing_handler_without_a_key_halts_only_its_own_read_model(shop: Shop) -> None:
    failing, other = replace(shop.tally("_failing"), key=""), shop.tally("_other")
    other = type(other)(other.name, 1, other.stream, other.schema, {Added: other.on[Added]})
    async with shop.working(failing, other):
        before = await shop.written.block(("a", [Added("a", 1)]))
        await shop.reaches(failing, before)
        await shop.written.block(("a", [Added("a", 2), Scribbled("a", "indigestible")]))
        last = await shop.written.block(("a", [Added("a", 4)]))
        await shop.reaches(other, last)
        told = await shop.halted(failing)
        assert (told.error, told.sequence) == ("Indigestible: ", before)
        assert await shop.totals(failing) == {"a": 1}
        assert await shop.totals(other) == {"a": 7}


async def test_a_failing_handler_parks_its_key_and_the_read_model_goes_on(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally):
        await shop.written.block(("a", [Added("a", 1), Scribbled("a", "indigestible")]), ("b", [Added("b", 2)]))
        last = await shop.written.block(("a", [Added("a", 4)]), ("b", [Added("b", 8)]))
        await shop.reaches(tally, last)
        assert await shop.totals(tally) == {"b": 10}
        told = shop.standings.latest(tally.name)
        assert told is not None
        assert (told.error, told.sequence, told.parked_keys, told.parked_commits) == ("", last, 1, 2)


async def test_a_full_disk_halts_the_read_model_loudly_parks_nothing_and_loses_nothing(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        before = await shop.written.block(("a", [Added("a", 1)]))
        await shop.reaches(tally, before)
        async with feed.lock:
            connection = feed.stores[tally.name]._connection
            (used,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {used}")
        many = [(f"b{n}", [Added(f"b{n}", 1)]) for n in range(500)]
        last = await shop.written.block(*many, ("c", [Scribbled("c", "indigestible")]))
        told = await shop.halted(tally)
        assert "full" in told.error
        assert (told.sequence, told.parked_keys) == (before, 0)
    async with shop.working(tally):  # There is room again.
        await until(lambda: (told := shop.standings.latest(tally.name)) and told.sequence == last and not told.error)
        assert await shop.totals(tally) == {"a": 1, **{f"b{n}": 1 for n in range(500)}}
        now = shop.standings.latest(tally.name)
        assert now is not None
        assert now.parked_keys == 1


async def test_when_every_read_model_halted_the_feed_still_tells_so(shop: Shop) -> None:
    tally = replace(shop.tally(), key="")
    async with shop.working(tally):
        await shop.written.block(("a", [Scribbled("a", "indigestible")]))
        assert (await shop.halted(tally)).sequence == 0


async def test_a_read_model_of_another_epoch_halts_and_is_not_written(shop: Shop) -> None:
    tally = shop.tally()
    path = shop.files.next_build(tally)
    Store.create(tally, path, "another epoch").close()
    shop.files.switch(tally.name, path)
    await shop.written.block(("a", [Added("a", 1)]))
    async with shop.working(tally):
        told = await shop.halted(tally)
        assert "the read model of another epoch" in told.error
        assert await shop.totals(tally) == {}


async def test_a_read_model_of_another_epoch_that_is_further_than_the_others_halts_too(shop: Shop) -> None:
    """The feed reads from the lowest position; the others must be of this log as well."""
    old, new = shop.tally("_old"), shop.tally("_new")
    last = await shop.written.block(("a", [Added("a", 1)]))
    async with shop.working(old):
        await shop.reaches(old, last)
    live = shop.files.live(old.name)
    assert live is not None
    _by_hand(live, "UPDATE _position SET epoch = 'another epoch'")
    last = await shop.written.block(("a", [Added("a", 2)]))
    async with shop.working(old, new):
        await shop.reaches(new, last)
        assert "the read model of another epoch" in (await shop.halted(old)).error
        assert await shop.totals(old) == {"a": 1}
        assert await shop.totals(new) == {"a": 3}


async def test_a_read_model_whose_last_block_is_another_one_now_halts(shop: Shop) -> None:
    """As after damage: the log lost its end and used its sequence numbers again."""
    old, new = shop.tally("_old"), shop.tally("_new")
    last = await shop.written.block(("a", [Added("a", 1)]))
    async with shop.working(old):
        await shop.reaches(old, last)
    live = shop.files.live(old.name)
    assert live is not None
    _by_hand(live, f"""UPDATE _position SET tips = '{{"0":"{"f" * 64}"}}'""")
    async with shop.working(old, new):
        await shop.reaches(new, last)
        assert "does not hold at 2 what was read there before" in (await shop.halted(old)).error


async def test_a_read_model_that_is_further_than_the_log_halts(shop: Shop) -> None:
    tally = shop.tally()
    last = await shop.written.block(("a", [Added("a", 1)]))
    async with shop.working(tally):
        await shop.reaches(tally, last)
    live = shop.files.live(tally.name)
    assert live is not None
    _by_hand(live, "UPDATE _position SET sequence = 9")
    async with shop.working(tally):
        assert "does not hold at 9 what was read there before" in (await shop.halted(tally)).error


async def test_a_broken_chain_halts_every_read_model_of_the_log(shop: Shop) -> None:
    one, two = shop.tally("_one"), shop.tally("_two")
    async with shop.working(one, two):
        before = await shop.written.block(("a", [Added("a", 1)]))
        await shop.reaches(one, before)
        await shop.written.bytes(seal(shop.written.log.epoch, AT, GENESIS, []))
        for projection in (one, two):
            told = await shop.halted(projection)
            assert "does not continue the block before it" in told.error
            assert told.sequence == before


async def test_an_event_that_nobody_knows_halts_and_is_not_skipped(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally):
        event = b'{"id":"c","aggregate":"a","version":1,"events":[{"type":"Subtracted"}]}'
        await shop.written.bytes(seal(shop.written.log.epoch, AT, GENESIS, [event]))
        assert "Subtracted" in (await shop.halted(tally)).error


async def test_before_its_first_build_a_read_model_is_missing(shop: Shop) -> None:
    with pytest.raises(ReadModelMissing):
        await shop.totals(shop.tally())


async def test_a_feed_that_is_cancelled_in_the_middle_leaves_whole_transactions(shop: Shop) -> None:
    tally = shop.tally()
    for _ in range(5):
        await shop.written.block(*((f"a{n}", [Added(f"a{n}", 1)]) for n in range(200)))
    for _ in range(5):
        async with shop.working(tally):
            await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S), shop.working(tally):
        await shop.reaches(tally, shop.written.last)
        assert set((await shop.totals(tally)).values()) == {5}


async def test_a_worker_that_is_cancelled_while_it_opens_a_file_ends_after_its_thread(shop: Shop) -> None:
    """To close a file while a thread reads it crashes the process."""
    tally = shop.tally()
    async with shop.working(tally):
        await shop.reaches(tally, await shop.written.block(("a", [Added("a", 1)])))
    live = shop.files.live(tally.name)
    assert live is not None
    worker = shop.worker(tally)
    with closing(sqlite3.connect(live, isolation_level=None)) as holding:
        holding.execute("BEGIN IMMEDIATE")  # Whoever opens it waits for this one's end.
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(0.2)
        running.cancel()
        assert not (await asyncio.wait({running}, timeout=0.2))[0]
        assert not worker.feeds[shop.stream].stores
        holding.execute("COMMIT")
        await asyncio.wait({running}, timeout=PATIENCE_S)
    assert running.cancelled()
    with pytest.raises(sqlite3.ProgrammingError):
        _ = worker.feeds[shop.stream].stores[tally.name].position


def _by_hand(path: object, sql: str) -> None:
    connection = sqlite3.connect(str(path))
    with connection:
        connection.execute(sql)
    connection.close()


async def test_a_position_that_was_written_while_the_reader_was_cancelled_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = shop.tally()
    writing = asyncio.Event()
    loop = asyncio.get_running_loop()
    apply = Store.apply

    def slowly(store: Store, batch: Batch) -> int:
        loop.call_soon_threadsafe(writing.set)
        time.sleep(0.1)
        return apply(store, batch)

    async with shop.working(tally) as worker:
        feed = worker.feeds[shop.stream]
        monkeypatch.setattr(Store, "apply", slowly)
        last = await shop.written.block(("a", [Added("a", 1)]))
        await writing.wait()
        feed._again.set()  # What a switch of another read model of this stream does.
        await shop.reaches(tally, last)


# -- one worker ----------------------------------------------------------------------------------------------------


async def test_a_worker_that_was_supplanted_falls_silent_and_the_newer_one_goes_on(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally) as older:
        await shop.reaches(tally, await shop.written.block(("a", [Added("a", 1)])))
        async with shop.working(tally):
            last = await shop.written.block(("a", [Added("a", 2)]))
            await shop.reaches(tally, last)
            await until(lambda: older.feeds[shop.stream].errors, "the older one's halt")
            assert "somebody else writes" in older.feeds[shop.stream].errors[tally.name]
            last = await shop.written.block(("a", [Added("a", 4)]))
            await shop.reaches(tally, last)
            assert await shop.totals(tally) == {"a": 7}
            await older.feeds[shop.stream].announce(tally.name)
            await shop.announcer._client.flush()
            await turns()
            told = shop.standings.latest(tally.name)
            assert told is not None
            assert told.error == ""


async def test_a_file_of_another_release_is_built_anew(shop: Shop) -> None:
    tally = shop.tally()
    last = await shop.written.block(("a", [Added("a", 1)]))
    async with shop.working(tally):
        await shop.reaches(tally, last)
    live = shop.files.live(tally.name)
    assert live is not None
    _by_hand(live, "PRAGMA user_version = 1")
    assert remembered_position(tally, shop.folder) is None
    async with shop.working(tally):
        await until(lambda: shop.files.live(tally.name) != live, "another file")
        await until(lambda: (position := remembered_position(tally, shop.folder)) and position.sequence == last)
        assert await shop.totals(tally) == {"a": 1}


# -- how far behind ------------------------------------------------------------------------------------------------


async def test_a_standing_says_that_nothing_is_missing_and_when_that_was_seen(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally):
        last = await shop.written.block(("a", [Added("a", 1)]))
        await shop.reaches(tally, last)
        await until(lambda: (told := shop.standings.latest(tally.name)) and told.lag_s == 0.0, "the lag")
        told = shop.standings.latest(tally.name)
        assert told is not None
        assert told.lag_events == 0
        assert told.head_age_s is not None


async def test_the_head_is_seen_moving_while_a_halted_read_model_stands_still(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.feed.LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("bus.announcements.REPEAT_S", 0.01)
    tally = replace(shop.tally(), key="")
    async with shop.working(tally):
        before = await shop.written.block(("a", [Added("a", 1)]), ("b", [Added("b", 1)]))
        await shop.reaches(tally, before)
        await shop.written.block(("a", [Scribbled("a", "indigestible")]))
        await shop.halted(tally)
        last = await shop.written.block(("a", [Added("a", 2)]))
        await until(lambda: (told := shop.standings.latest(tally.name)) and told.head == last, "the head")
        told = shop.standings.latest(tally.name)
        assert told is not None
        assert (told.sequence, told.lag_events) == (before, 2)
        assert told.lag_s is not None
        assert told.lag_s > 0


async def test_a_head_that_cannot_be_read_is_told(shop: Shop) -> None:
    tally, log = shop.tally(), FaultyLog(shop.written.log)
    log.unreachable = True
    feed = Feed(log, DECODER, [tally], shop.files, shop.announcer)
    running = asyncio.create_task(feed.run())
    try:
        await until(lambda: shop.standings.latest(tally.name), "the standing")
        told = shop.standings.latest(tally.name)
        assert told is not None
        assert (told.lag_s, told.head_age_s) == (None, None)
    finally:
        running.cancel()
        await asyncio.wait({running})
        feed.close()
