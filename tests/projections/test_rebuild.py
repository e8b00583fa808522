"""Rebuilds: beside the live one, compared with it, switched; and whatever goes wrong leaves the live one alone."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from bus.announcements import RebuildProgress
from projections.files import RebuildUnderWay
from projections.projection import Projection
from projections.rebuild import RebuildDiffers, rebuild
from projections.store import Store
from tests.bus.counter import Added, Scribbled
from tests.bus.waiting import PATIENCE_S, turns, until
from tests.projections.shop import Shop


class Told:
    """What a rebuild says of itself; it can be held up at a state."""

    def __init__(self, hold_at: str = "") -> None:
        self.all: list[RebuildProgress] = []
        self.hold_at = hold_at
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, progress: RebuildProgress) -> None:
        self.all.append(progress)
        if progress.state == self.hold_at:
            self.held.set()
            await self.go_on.wait()


async def some_history(shop: Shop, blocks: int = 8) -> int:
    for n in range(blocks):
        last = await shop.written.block(("a", [Added("a", n)]), (f"b{n}", [Added(f"b{n}", 1), Scribbled(f"b{n}", "x")]))
    return last


def builds(shop: Shop, projection: Projection) -> list[str]:
    return sorted(path.name for path in shop.folder.glob(f"{projection.name}@*") if path.suffix == ".db")


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
        done = await rebuild(feed, tally, shop.files, told)
        assert done == told.all[-1]
        assert (done.state, done.sequence, done.events, done.eta_s) == ("done", last, 24, 0.0)
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


async def test_an_empty_read_model_can_be_rebuilt(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        assert (await rebuild(feed, tally, shop.files, Told())).state == "done"


async def test_only_the_live_build_and_the_one_before_stay(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        for _ in range(11):
            await rebuild(feed, tally, shop.files, Told())
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
            await rebuild(feed, tally, shop.files, Told())
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
        rebuilding = asyncio.create_task(rebuild(feed, tally, shop.files, told))
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
            rebuilding = asyncio.create_task(rebuild(feed, tally, shop.files, Told()))
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
        ("UPDATE total SET total = 7 WHERE counter_id = 'a'", "first: ('a', 7) and ('a', 28)"),
        (
            "DELETE FROM total WHERE counter_id = 'b7'",
            "table total has 8 rows live, 9 rebuilt; first: the longer one's",
        ),
        (
            "INSERT INTO total VALUES ('aa', 1)",
            "table total has 10 rows live, 9 rebuilt; first: ('aa', 1) and ('b0', 1)",
        ),
        ("CREATE TABLE more (id TEXT)", "table more is only in the live one"),
    ],
)
async def test_a_live_one_that_differs_is_told_and_left_alone(shop: Shop, sql: str, told: str) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        tamper(shop, tally, sql)
        live, before = shop.files.live(tally.name), await shop.totals(tally)
        with pytest.raises(RebuildDiffers) as caught:
            await rebuild(feed, tally, shop.files, Told())
        assert told in str(caught.value)
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
        done = await rebuild(feed, tally, shop.files, Told(), accept_difference=True)
        assert done.detail.startswith("differs, and was accepted: table total has 9 rows live, 9 rebuilt")
        assert (await shop.totals(tally))["a"] == 28


async def test_two_rebuilds_at_once_are_one_too_many(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        told = Told(hold_at="building")
        first = asyncio.create_task(rebuild(feed, tally, shop.files, told))
        await told.held.wait()
        with pytest.raises(RebuildUnderWay):
            await rebuild(feed, tally, shop.files, Told())
        told.go_on.set()
        assert (await first).state == "done"


@pytest.mark.parametrize("state", ["building", "verifying"])
async def test_a_rebuild_that_is_cancelled_leaves_no_file_and_the_live_one_goes_on(shop: Shop, state: str) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        told = Told(hold_at=state)
        rebuilding = asyncio.create_task(rebuild(feed, tally, shop.files, told))
        await told.held.wait()
        rebuilding.cancel()
        await asyncio.wait({rebuilding})
        assert rebuilding.cancelled()
        assert sorted(path.name.partition(".db")[0] for path in shop.folder.glob(f"{tally.name}@1.2*")) == []
        last = await shop.written.block(("a", [Added("a", 100)]))
        await shop.reaches(tally, last)
        assert (await shop.totals(tally))["a"] == 128
        assert (await rebuild(feed, tally, shop.files, Told())).state == "done"


async def test_a_rebuild_that_is_cancelled_at_any_moment_leaves_the_live_one_whole(shop: Shop) -> None:
    tally = shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        for moment in range(0, 60, 3):
            rebuilding = asyncio.create_task(rebuild(feed, tally, shop.files, Told()))
            for _ in range(moment):
                await asyncio.sleep(0.0005)
            rebuilding.cancel()
            await asyncio.wait({rebuilding})
            live = shop.files.live(tally.name)
            assert live is not None
            assert live.name in builds(shop, tally)
            assert (await shop.totals(tally))["a"] == 28
        done = await rebuild(feed, tally, shop.files, Told())
        assert done.detail.startswith("equal")
        assert len(builds(shop, tally)) <= 2


async def test_a_handler_that_fails_ends_the_rebuild_and_not_the_live_one(shop: Shop) -> None:
    tally, shifted = shop.tally(), shop.tally()
    async with shop.feeding(tally) as feed:
        await shop.reaches(tally, await some_history(shop))
        shifted = type(tally)(tally.name, 1, tally.stream, tally.schema, {Added: "INSERT INTO nowhere VALUES (1)"})
        with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
            await rebuild(feed, shifted, shop.files, Told())
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
        done = await rebuild(feed, tally, shop.files, Told())
        assert (done.detail, done.sequence) == ("the live one had halted: nothing to compare with", last)
        last = await shop.written.block(("a", [Added("a", 100)]))
        await shop.reaches(tally, last)
        assert (await shop.totals(tally))["a"] == 128
        told = shop.standings.latest(tally.name)
        assert told is not None
        assert told.error == ""


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
        assert "first: ('a', 7) and ('a', 28)" in failed.detail
        assert (await worker.begin_rebuild({"name": tally.name, "accept_difference": "yes"})).code == ""
        await rebuilt(shop, tally, "done")
        assert (await shop.totals(tally))["a"] == 28


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
