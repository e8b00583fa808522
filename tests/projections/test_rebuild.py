"""Rebuilds: beside the live ones, verified, switched, taken back; and what goes wrong leaves the live one alone."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from bus.announcements import RebuildProgress
from bus.logs.jetstream import JetStreamLog
from projections.batches import Batch, FoldedBatch
from projections.build import Build
from projections.feed import Feed
from projections.files import RebuildUnderWay
from projections.projection import Projection
from projections.reader import Query, ReadModelMissing
from projections.rebuild import NothingBefore, rebuild, roll_back
from projections.store import Store
from tests.bus.counter import Added, Scribbled
from tests.bus.waiting import PATIENCE_S, turns, until
from tests.projections.batched import in_batches
from tests.projections.shop import Shop, Total


class Told:
    """What a rebuild says of itself; it can be held up at a state."""

    def __init__(self, hold_at: str = "") -> None:
        self.all: list[RebuildProgress] = []
        self.hold_at = hold_at
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, name: str, progress: RebuildProgress) -> None:
        self.all.append(progress)
        if progress.state == self.hold_at:
            self.held.set()
            await self.go_on.wait()


async def one(
    shop: Shop, feed: Feed, projection: Projection, told: Told | None = None, *, accept_difference: bool = False
) -> RebuildProgress:
    """Rebuild one read model; how it ended."""
    outcomes = await rebuild(feed, [projection], shop.files, told or Told(), accept_difference=accept_difference)
    return outcomes[projection.name]


async def some_history(shop: Shop, blocks: int = 8) -> int:
    for n in range(blocks):
        last = await shop.written.block(("a", [Added("a", n)]), (f"b{n}", [Added(f"b{n}", 1), Scribbled(f"b{n}", "x")]))
    return last


def builds(shop: Shop, projection: Projection) -> list[str]:
    """Whole or not."""
    return sorted(path.name for path in shop.folder.glob(f"{projection.name}@*") if path.suffix in (".db", ".part"))


def tamper(shop: Shop, projection: Projection, sql: str) -> None:
    live = shop.files.live(projection.name)
    assert live is not None
    connection = sqlite3.connect(live)
    with connection:
        connection.execute(sql)
    connection.close()


async def test_an_equal_rebuild_goes_live_and_the_build_before_stays(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        last = await some_history(shop)
        await shop.reaches(tally, last)
        told = Told()
        done = await one(shop, feed, tally, told)
        assert done == told.all[-1]
        assert (done.state, done.sequence, done.events, done.percent, done.eta_s) == ("done", last, 24, 100.0, 0.0)
        assert done.detail == "equal to the live one: note 8 rows, total 9 rows"
        assert [progress.state for progress in told.all][-2:] == ["verifying", "done"]
        live = shop.files.live(tally.name)
        assert live is not None
        assert live.name == f"{tally.name}@1.2.db"
        assert builds(shop, tally) == [f"{tally.name}@1.1.db", f"{tally.name}@1.2.db"]
        last = await shop.written.block(("a", [Added("a", 100)]))  # The new one is fed from now on.
        await shop.reaches(tally, last)
        assert (await shop.totals(tally))["a"] == 128
        with Store.open(tally, live.with_name(f"{tally.name}@1.1.db")) as before:
            assert before.position.sequence == last - 1


async def test_what_was_folded_as_it_was_read_is_not_decoded_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded_again(batch: FoldedBatch) -> None:
        raise AssertionError

    monkeypatch.setattr(FoldedBatch, "blocks", property(decoded_again))
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        assert (await one(shop, feed, tally)).state == "done"


async def test_an_empty_read_model_can_be_rebuilt(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        assert (await one(shop, feed, tally)).state == "done"


async def test_only_the_live_build_and_the_one_before_stay(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        for _ in range(11):
            await one(shop, feed, tally)
        assert builds(shop, tally) == [f"{tally.name}@1.11.db", f"{tally.name}@1.12.db"]


async def test_queries_see_the_new_file_and_never_an_error(shop: Shop) -> None:
    tally = shop.tally()
    queries = 0
    rebuilding = True

    async def ask() -> None:
        nonlocal queries
        while rebuilding:
            assert (await shop.totals(tally))["a"] == 28
            queries += 1

    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for _ in range(3):
            await one(shop, feed, tally)
        rebuilding = False
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*asking)
        assert queries > 0
        live = shop.files.live(tally.name)
        assert live is not None
        tamper(shop, tally, "UPDATE total SET total = 7 WHERE counter_id = 'a'")
        assert (await shop.totals(tally))["a"] == 7  # It is the new file that is read.


async def test_what_is_written_meanwhile_is_in_the_rebuilt_one_too(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        told = Told(hold_at="building")
        rebuilding = asyncio.create_task(one(shop, feed, tally, told))
        await told.held.wait()
        last = await shop.written.block(("a", [Added("a", 100)]))
        await shop.reaches(tally, last)
        told.go_on.set()
        done = await rebuilding
        assert (done.state, done.sequence) == ("done", last)
        assert (await shop.totals(tally))["a"] == 128


async def test_a_live_one_that_lags_behind_the_log_is_compared_where_it_stands(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        before = await some_history(shop)
        await shop.reaches(tally, before)
        async with feed.lock:  # Nothing more is written to the live one for now.
            last = await shop.written.block(("a", [Added("a", 100)]))
            rebuilding = asyncio.create_task(one(shop, feed, tally))
            await until(lambda: len(builds(shop, tally)) == 2)
            await turns()
        done = await rebuilding
        assert done.state == "done"
        assert done.detail.startswith("equal")
        await shop.reaches(tally, last)
        assert (await shop.totals(tally))["a"] == 128


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            "UPDATE total SET total = 7 WHERE counter_id = 'a'",
            "table total has 9 rows live, 9 rebuilt; first counter_id = 'a': ('a', 7) live, ('a', 28) rebuilt",
        ),
        (
            "DELETE FROM total WHERE counter_id = 'b7'",
            "table total has 8 rows live, 9 rebuilt; first counter_id = 'b7': no such row live, ('b7', 1) rebuilt",
        ),
        (
            "DELETE FROM total WHERE counter_id = 'a'",
            "table total has 8 rows live, 9 rebuilt; first counter_id = 'a': no such row live, ('a', 28) rebuilt",
        ),
        (
            "INSERT INTO total VALUES ('aa', 1)",
            "table total has 10 rows live, 9 rebuilt; first counter_id = 'aa': ('aa', 1) live, no such row rebuilt",
        ),
        ("UPDATE note SET text = 'y' WHERE counter_id = 'b3'", "table note has 8 rows live, 8 rebuilt; first row: (5,"),
        ("CREATE TABLE more (id TEXT)", "table more is only in the live one"),
    ],
)
async def test_a_live_one_that_differs_is_told_and_left_alone(shop: Shop, sql: str, told: str) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        tamper(shop, tally, sql)
        live, before = shop.files.live(tally.name), await shop.totals(tally)
        failed = await one(shop, feed, tally)
        assert failed.state == "failed"
        assert told in failed.detail
        assert shop.files.live(tally.name) == live
        assert await shop.totals(tally) == before
        assert builds(shop, tally) == [f"{tally.name}@1.1.db"]
        last = await shop.written.block(("z", [Added("z", 3)]))
        await shop.reaches(tally, last)
        assert (await shop.totals(tally))["z"] == 3


async def test_a_difference_that_is_accepted_goes_live(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        tamper(shop, tally, "UPDATE total SET total = 7 WHERE counter_id = 'a'")
        done = await one(shop, feed, tally, accept_difference=True)
        assert done.detail.startswith("differs, and was accepted: table total has 9 rows live, 9 rebuilt")
        assert done.detail.endswith("9 keys are as the log has them")
        assert (await shop.totals(tally))["a"] == 28


async def test_two_rebuilds_at_once_are_one_too_many(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        told = Told(hold_at="building")
        first = asyncio.create_task(one(shop, feed, tally, told))
        await told.held.wait()
        with pytest.raises(RebuildUnderWay):
            await one(shop, feed, tally)
        told.go_on.set()
        assert (await first).state == "done"


@pytest.mark.parametrize("state", ["building", "verifying"])
async def test_a_rebuild_that_is_cancelled_leaves_no_file_and_the_live_one_goes_on(shop: Shop, state: str) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        told = Told(hold_at=state)
        rebuilding = asyncio.create_task(one(shop, feed, tally, told))
        await told.held.wait()
        rebuilding.cancel()
        await asyncio.wait({rebuilding})
        assert rebuilding.cancelled()
        assert sorted(path.name.partition(".db")[0] for path in shop.folder.glob(f"{tally.name}@1.2*")) == []
        last = await shop.written.block(("a", [Added("a", 100)]))
        await shop.reaches(tally, last)
        assert (await shop.totals(tally))["a"] == 128
        assert (await one(shop, feed, tally)).state == "done"


async def test_a_rebuild_that_is_cancelled_at_any_moment_leaves_the_live_one_whole(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        for moment in range(0, 60, 3):
            rebuilding = asyncio.create_task(one(shop, feed, tally))
            for _ in range(moment):
                await asyncio.sleep(0.0005)
            rebuilding.cancel()
            await asyncio.wait({rebuilding})
            live = shop.files.live(tally.name)
            assert live is not None
            assert live.name in builds(shop, tally)
            assert (await shop.totals(tally))["a"] == 28
        done = await one(shop, feed, tally)
        assert done.detail.startswith("equal")
        assert len(builds(shop, tally)) <= 2


async def test_a_handler_that_fails_ends_the_rebuild_and_not_the_live_one(shop: Shop) -> None:
    tally, shifted = shop.tally(), shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        shifted = type(tally)(tally.name, 1, tally.stream, tally.schema, {Added: "INSERT INTO nowhere VALUES (1)"})
        failed = await one(shop, feed, shifted)
        assert (failed.state, failed.detail) == ("failed", "no such table: nowhere")
        assert builds(shop, tally) == [f"{tally.name}@1.1.db"]
        last = await shop.written.block(("z", [Added("z", 3)]))
        await shop.reaches(tally, last)


async def test_a_halted_read_model_is_replaced_by_its_rebuild_and_goes_on(shop: Shop) -> None:
    tally = shop.tally()
    path = shop.files.next_build(tally)
    Store.create(tally, path, "another epoch").close()
    shop.files.switch(tally.name, path)
    last = await some_history(shop)
    async with shop.feeding(tally) as feed:
        await shop.halted(tally)
        done = await one(shop, feed, tally)
        told = "the live one halted or is of other code: note 8 rows, total 9 rows; 9 keys are as the log has them"
        assert (done.detail, done.sequence) == (told, last)
        last = await shop.written.block(("a", [Added("a", 100)]))
        await shop.reaches(tally, last)
        assert (await shop.totals(tally))["a"] == 128
        standing = shop.standings.latest(tally.name)
        assert standing is not None
        assert standing.error == ""


async def test_all_read_models_of_a_stream_are_built_in_one_read(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    tallies = [shop.tally(f"_{n}") for n in range(3)]
    async with shop.feeding(*tallies) as feed:
        last = await some_history(shop)
        for tally in tallies:
            await shop.reaches(tally, last)
        reads: list[int] = []
        read = JetStreamLog.read

        def reading(log: JetStreamLog, after: int = 0, until: int | None = None) -> object:
            reads.append(after)
            return read(log, after, until)

        monkeypatch.setattr(JetStreamLog, "read", reading)
        told = Told()
        outcomes = await rebuild(feed, tallies, shop.files, told)
        assert {name: done.state for name, done in outcomes.items()} == {tally.name: "done" for tally in tallies}
        assert reads.count(0) == 1
        for tally in tallies:
            assert (await shop.totals(tally))["a"] == 28
            assert builds(shop, tally) == [f"{tally.name}@1.1.db", f"{tally.name}@1.2.db"]


async def test_one_that_fails_keeps_none_of_the_others_from_going_live(shop: Shop) -> None:
    fine, failing, differing = shop.tally("_fine"), shop.tally("_failing"), shop.tally("_differing")
    async with shop.feeding(fine, failing, differing) as feed:
        last = await some_history(shop)
        for tally in (fine, failing, differing):
            await shop.reaches(tally, last)
        tamper(shop, differing, "DELETE FROM note")
        broken = replace(failing, on={Added: "INSERT INTO nowhere VALUES (:counter_id)"})
        outcomes = await rebuild(feed, [broken, fine, differing], shop.files, Told())
        assert {name: done.state for name, done in outcomes.items()} == {
            failing.name: "failed",
            fine.name: "done",
            differing.name: "failed",
        }
        assert "table note has 0 rows live, 8 rebuilt" in outcomes[differing.name].detail
        assert [len(builds(shop, tally)) for tally in (fine, failing, differing)] == [2, 1, 1]


async def test_when_none_is_left_the_log_is_not_read_to_its_end(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    in_batches(monkeypatch, commits=1)
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        broken = replace(tally, key="", on={Added: "INSERT INTO nowhere VALUES (:counter_id)"})
        failed = await one(shop, feed, broken)
        assert (failed.state, failed.sequence, failed.percent) == ("failed", 0, 0.0)


async def test_a_build_gets_its_indexes_at_its_end_and_is_as_safe_as_any_live_one_then(shop: Shop) -> None:
    tally = shop.tally()
    tally = replace(tally, schema=tally.schema + ";CREATE INDEX note_by_text ON note (text)")
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        build = Build.begin(tally, shop.files, feed.source.epoch)
        assert build.path.suffix == ".part"
        assert build.first("SELECT count(*) FROM sqlite_schema WHERE type = 'index'") == (0,)
        build.throw_away()
        assert builds(shop, tally) == [f"{tally.name}@1.1.db"]
        assert (await one(shop, feed, tally)).state == "done"
        store = feed.stores[tally.name]
        assert store.first("SELECT name FROM sqlite_schema WHERE type = 'index'") == ("note_by_text",)
        assert store.first("PRAGMA journal_mode") == ("wal",)
        assert store.first("PRAGMA synchronous") == (1,)


# -- the way back ------------------------------------------------------------------------------------------------------


async def test_the_build_before_is_made_live_again_with_all_that_came_since(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        tamper(shop, tally, "UPDATE total SET total = 1000 WHERE counter_id = 'a'")
        await one(shop, feed, tally, accept_difference=True)
        assert (await shop.totals(tally))["a"] == 28
        last = await shop.written.block(("a", [Added("a", 1)]))
        await shop.reaches(tally, last)
        done = await roll_back(feed, tally, shop.files, Told())
        assert (done.state, done.sequence, done.detail) == ("done", last, f"{tally.name}@1.1.db is live again")
        assert (await shop.totals(tally))["a"] == 1001  # The old rows, and what came since.
        last = await shop.written.block(("a", [Added("a", 1)]))
        await shop.reaches(tally, last)
        assert (await shop.totals(tally))["a"] == 1002
        await roll_back(feed, tally, shop.files, Told())  # The same again undoes it.
        assert (await shop.totals(tally))["a"] == 30
        assert builds(shop, tally) == [f"{tally.name}@1.1.db", f"{tally.name}@1.2.db"]
        await one(shop, feed, tally)
        assert builds(shop, tally) == [f"{tally.name}@1.2.db", f"{tally.name}@1.3.db"]


async def test_after_a_way_back_the_next_build_follows_the_one_that_was_gone_back_to(shop: Shop) -> None:
    """And not the one that was left: that is removed."""
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        await one(shop, feed, tally)
        await roll_back(feed, tally, shop.files, Told())
        await one(shop, feed, tally)
        assert builds(shop, tally) == [f"{tally.name}@1.1.db", f"{tally.name}@1.3.db"]
        await roll_back(feed, tally, shop.files, Told())
        live = shop.files.live(tally.name)
        assert live is not None
        assert live.name == f"{tally.name}@1.1.db"


async def test_readers_never_see_less_on_the_way_back(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        await one(shop, feed, tally)
        for n in range(50):
            last = await shop.written.block((f"c{n}", [Added(f"c{n}", 1)]))
        await shop.reaches(tally, last)
        seen: list[int] = []
        going_back = asyncio.create_task(roll_back(feed, tally, shop.files, Told()))
        while not going_back.done():
            seen.append(await shop.reader.sequence(tally.name))
        await going_back
        assert seen
        assert set(seen) == {last}
        assert await shop.reader.sequence(tally.name) == last


async def test_where_nothing_is_kept_there_is_no_way_back(shop: Shop) -> None:
    tally, newer = shop.tally(), shop.tally(version=2)
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        with pytest.raises(NothingBefore, match=r"no build of .* before the live one is kept"):
            await roll_back(feed, tally, shop.files, Told())
    async with shop.feeding(newer) as feed:
        await until(lambda: feed.opened.is_set() and not feed.outdated, "the newer version")

        async def once_free() -> None:
            """Whoever built the newer version lets go of it a moment after it went live."""
            while True:
                with suppress(RebuildUnderWay):
                    await roll_back(feed, newer, shop.files, Told())
                await asyncio.sleep(0.01)

        with pytest.raises(NothingBefore, match=r"tally.*@1\.1\.db, is of another version: start the code of that"):
            await asyncio.wait_for(once_free(), PATIENCE_S)
        assert (await shop.totals(newer))["a"] == 28


# -- as other code starts ----------------------------------------------------------------------------------------------


async def test_another_version_is_built_beside_the_one_that_is_shown_and_then_takes_its_place(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = shop.tally(), doubled(shop.tally(version=2))
    async with shop.working(old):
        await shop.reaches(old, await some_history(shop))
    worker = shop.worker(new)
    feed = worker.feeds[shop.stream]
    apply = Store.apply
    hold, held = threading.Event(), threading.Event()

    def slowly(store: Store, batch: Batch) -> int:
        held.set()
        assert hold.wait(PATIENCE_S)
        return apply(store, batch)

    monkeypatch.setattr(Store, "apply", slowly)
    running = asyncio.create_task(worker.run())
    await until(held.is_set, "the build")
    assert (await shop.totals(new))["a"] == 28  # As the old one has it.
    told = shop.standings.latest(new.name)
    assert told is not None
    assert (told.version, told.sequence, told.error) == (2, shop.written.last, "")
    hold.set()
    await until(lambda: new.name in feed.stores, "the switch")
    assert (await shop.totals(new))["a"] == 56
    done = await rebuilt(shop, new, "done")
    assert done.detail.endswith("note 8 rows, total 9 rows; 9 keys are as the log has them")
    running.cancel()
    await asyncio.wait({running})
    assert builds(shop, old) == [f"{old.name}@1.1.db", f"{old.name}@2.2.db"]


async def test_the_old_code_goes_on_with_the_build_that_it_made(shop: Shop) -> None:
    old, new = shop.tally(), doubled(shop.tally(version=2))
    async with shop.working(old):
        await shop.reaches(old, await some_history(shop))
    async with shop.working(new):
        await shop.reaches(new, last := await shop.written.block(("a", [Added("a", 1)])))
        assert (await shop.totals(new))["a"] == 58
    async with shop.working(old) as worker:
        assert worker.feeds[shop.stream].sequence(old.name) == last
        assert (await shop.totals(old))["a"] == 29
        live = shop.files.live(old.name)
        assert live is not None
        assert live.name == f"{old.name}@1.1.db"
        assert builds(shop, old) == [f"{old.name}@1.1.db", f"{old.name}@2.2.db"]


async def test_another_version_that_cannot_be_built_is_told_and_the_old_one_is_shown(shop: Shop) -> None:
    old = shop.tally()
    new = replace(shop.tally(version=2), key="", on={Added: "INSERT INTO nowhere VALUES (:counter_id)"})
    async with shop.working(old):
        await shop.reaches(old, await some_history(shop))
    worker = shop.worker(new)
    running = asyncio.create_task(worker.run())
    told = await shop.halted(new)
    assert told.error == "still shown is another version's; no such table: nowhere"
    assert (await shop.totals(new))["a"] == 28
    assert (await worker.begin_rebuild({"name": new.name})).code == ""  # Whoever mended something may try again.
    await rebuilt(shop, new, "failed")
    assert builds(shop, old) == [f"{old.name}@1.1.db"]
    running.cancel()
    await asyncio.wait({running})


async def test_a_version_that_lost_all_rows_waits_for_somebody_who_accepts_it(shop: Shop) -> None:
    old, new = shop.tally(), shop.tally(version=2)
    new = replace(new, on={Added: new.on[Added]})
    async with shop.working(old):
        await shop.reaches(old, await some_history(shop))
    worker = shop.worker(new)
    running = asyncio.create_task(worker.run())
    assert "table note has 8 rows live, none rebuilt" in (await shop.halted(new)).error
    assert (await worker.begin_rebuild({"name": new.name, "accept_difference": "yes"})).code == ""
    done = await rebuilt(shop, new, "done")
    assert done.detail.startswith("differs, and was accepted: table note has 8 rows live, none rebuilt")
    assert new.name not in worker.feeds[shop.stream].errors
    running.cancel()
    await asyncio.wait({running})


async def test_a_version_that_breaks_its_own_rules_cannot_be_accepted(shop: Shop) -> None:
    old = shop.tally()
    new = replace(shop.tally(version=2), never={"nobody counts to 28": "SELECT * FROM total WHERE total = 28"})
    async with shop.working(old):
        await shop.reaches(old, await some_history(shop))
    worker = shop.worker(new)
    running = asyncio.create_task(worker.run())
    assert "nobody counts to 28: ('a', 28)" in (await shop.halted(new)).error
    begun = await worker.begin_rebuild({"name": new.name, "accept_difference": "yes"})
    await until(
        lambda: (told := worker.feeds[shop.stream].rebuilds[new.name]).id == begun.detail and told.state == "failed"
    )
    assert builds(shop, old) == [f"{old.name}@1.1.db"]
    running.cancel()
    await asyncio.wait({running})


async def test_queries_that_the_old_tables_cannot_answer_are_told_to_wait(shop: Shop) -> None:
    old = shop.tally()
    async with shop.working(old):
        await shop.reaches(old, await some_history(shop))
    for version, sql in (
        (2, "SELECT total, counter_id, more FROM total"),
        (2, "SELECT total AS counter_id FROM total"),
    ):
        query = Query(shop.tally(version=version), sql, Total)
        with pytest.raises(ReadModelMissing, match="is live, and version 2 not built yet"):
            await shop.reader.all(query)
    with pytest.raises(sqlite3.OperationalError, match="no such column: more"):
        await shop.reader.all(Query(old, "SELECT total, counter_id, more FROM total", Total))


def doubled(tally: Projection) -> Projection:
    """Other code: every amount counts twice."""
    added = tally.on[Added]
    assert isinstance(added, str)
    return replace(tally, on={**tally.on, Added: added.replace(":amount", "2 * :amount")})


# -- as the worker is asked for it -------------------------------------------------------------------------------------


async def rebuilt(shop: Shop, projection: Projection, state: str) -> RebuildProgress:
    """What is announced of the rebuild when it has come to this state."""
    found: list[RebuildProgress] = []

    def reached() -> bool:
        told = shop.standings.latest(projection.name)
        if told is not None and told.rebuild is not None and told.rebuild.state == state:
            found.append(told.rebuild)
        return bool(found)

    await until(reached, state)
    return found[0]


async def test_a_worker_rebuilds_when_asked_and_announces_how_it_went(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally) as worker:
        last = await some_history(shop)
        await shop.reaches(tally, last)
        assert (await worker.begin_rebuild({"name": tally.name})).code == ""
        assert (await worker.begin_rebuild({"name": tally.name})).code == "rebuild_under_way"
        done = await rebuilt(shop, tally, "done")
        assert (done.sequence, done.detail[:5]) == (last, "equal")


async def test_a_worker_announces_that_a_rebuild_differs_and_switches_when_told_to(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally) as worker:
        await shop.reaches(tally, await some_history(shop))
        tamper(shop, tally, "UPDATE total SET total = 7 WHERE counter_id = 'a'")
        await worker.begin_rebuild({"name": tally.name})
        failed = await rebuilt(shop, tally, "failed")
        assert "('a', 7) live, ('a', 28) rebuilt" in failed.detail
        assert (await worker.begin_rebuild({"name": tally.name, "accept_difference": "yes"})).code == ""
        await rebuilt(shop, tally, "done")
        assert (await shop.totals(tally))["a"] == 28


async def test_a_worker_rebuilds_all_of_them_when_asked_and_goes_back(shop: Shop) -> None:
    first, second = shop.tally("_first"), shop.tally("_second")
    async with shop.working(first, second) as worker:
        last = await some_history(shop)
        for projection in (first, second):
            await shop.reaches(projection, last)
        begun = await worker.begin_rebuild({"name": "all"})
        assert (await worker.begin_rebuild({"name": "all"})).code == "rebuild_under_way"
        assert (await worker.begin_roll_back({"name": second.name})).code == "rebuild_under_way"
        for projection in (first, second):
            done = await rebuilt(shop, projection, "done")
            assert (done.id, done.sequence, done.percent) == (begun.detail, last, 100.0)
        await until(lambda: worker._changes[first.name].done())
        assert (await worker.begin_roll_back({"name": first.name})).code == ""
        await until(lambda: worker._changes[first.name].done())
        assert (await rebuilt(shop, first, "done")).detail == f"{first.name}@1.1.db is live again"


async def test_a_worker_that_cannot_go_back_says_why(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally) as worker:
        await shop.reaches(tally, await some_history(shop))
        assert (await worker.begin_roll_back({"name": "nothing"})).code == "projection_unknown"
        await worker.begin_roll_back({"name": tally.name})
        failed = await rebuilt(shop, tally, "failed")
        assert failed.detail == f"no build of {tally.name} before the live one is kept"


async def test_what_another_process_is_rebuilding_is_refused(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally) as worker:
        await shop.reaches(tally, await some_history(shop))
        with shop.files.building(tally.name):
            await worker.begin_rebuild({"name": tally.name})
            assert (await rebuilt(shop, tally, "failed")).detail == f"{tally.name} is being rebuilt already"


async def test_what_a_worker_that_was_killed_left_is_removed_when_the_next_one_starts(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally):
        await shop.reaches(tally, await some_history(shop))
    Build.begin(tally, shop.files, "some epoch").close()
    assert builds(shop, tally) == [f"{tally.name}@1.1.db", f"{tally.name}@1.2.part"]
    async with shop.working(tally):
        assert builds(shop, tally) == [f"{tally.name}@1.1.db"]


async def test_a_worker_refuses_what_it_does_not_know_or_has_not_opened_yet(shop: Shop) -> None:
    tally = shop.tally()
    worker = shop.worker(tally)
    assert (await worker.begin_rebuild({"name": "nothing"})).code == "projection_unknown"
    assert (await worker.begin_rebuild({})).code == "projection_unknown"
    assert (await worker.begin_rebuild({"name": tally.name})).code == "not_ready"


async def test_a_worker_that_ends_in_the_middle_of_a_rebuild_leaves_no_file_behind(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.working(tally) as worker:
        await shop.reaches(tally, await some_history(shop))
        async with worker.feeds[shop.stream].lock:
            await worker.begin_rebuild({"name": tally.name})
            await until(lambda: len(builds(shop, tally)) == 2)
    # It may have come to its end just in time; if not, nothing of it is left.
    live = shop.files.live(tally.name)
    assert live is not None
    assert live.name == builds(shop, tally)[-1]
