"""Parked keys as they are asked for: listed, redriven, discarded, while the read model is fed; and their rebuilds."""

from __future__ import annotations

import msgspec
import pytest

from bus.control import Reply
from bus.logs.log import Record
from projections.mending import REASON_CHARS_MAX, Mending, Parked, ParkedKeys, id_of
from projections.parking import Redriven
from projections.store import Store
from tests.bus.counter import Added, Scribbled
from tests.bus.faults import FaultyLog
from tests.projections.picky import POISON, Picky, Rows, shown
from tests.projections.shop import Shop
from tests.projections.tally import batch_of
from tests.projections.test_rebuild import one


@pytest.fixture
def picky(shop: Shop) -> Picky:
    return Picky(f"picky_{shop.stream}", shop.stream)


async def poisoned(shop: Shop, picky: Picky) -> int:
    """Two parked keys, `a` with three commits and `c` with one; `b` goes on."""
    await shop.written.block(("a", [Added("a", 1)]), ("b", [Added("b", 1)]))
    await shop.written.block(("a", [Scribbled("a", POISON)]), ("c", [Scribbled("c", POISON)]))
    await shop.written.block(("a", [Added("a", 2)]), ("b", [Added("b", 3)]))
    last = await shop.written.block(("a", [Added("a", 4)]))
    await shop.reaches(picky.projection, last)
    return last


async def listed(mending: Mending, **parameters: str) -> list[Parked]:
    reply = await mending.parked(parameters)
    assert reply.code == ""
    return msgspec.json.decode(reply.detail, type=ParkedKeys).items


def outcome(reply: Reply) -> Redriven:
    assert reply.code == "", reply
    return msgspec.json.decode(reply.detail, type=Redriven)


def rows(shop: Shop, picky: Picky) -> Rows:
    live = shop.files.live(picky.name)
    assert live is not None
    with Store.look(picky.projection, live) as looking:
        return list(looking.rows("picky"))


async def test_what_is_parked_is_listed_the_longest_first(shop: Shop, picky: Picky) -> None:
    async with shop.working(picky.projection) as worker:
        mending = Mending(worker.feeds)
        assert await listed(mending) == []
        await poisoned(shop, picky)
        first, second = await listed(mending)
        at = "2026-11-21T09:30:00.000000Z"
        assert first == Parked(id_of(picky.name, "a"), picky.name, shop.stream, "a", 3, 3, 0, at, "Indigestible: a")
        assert (second.key, second.commits, second.sequence, second.offset) == ("c", 1, 3, 1)
        assert await listed(mending, key="c") == [second]
        assert await listed(mending, key="b") == []


async def test_a_list_is_bounded_and_says_what_it_leaves_out(
    shop: Shop, picky: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.mending.LISTED_MAX", 1)
    async with shop.working(picky.projection) as worker:
        await poisoned(shop, picky)
        reply = await Mending(worker.feeds).parked({})
        found = msgspec.json.decode(reply.detail, type=ParkedKeys)
        assert ([one.key for one in found.items], found.left_out) == (["a"], 1)


async def test_a_mended_key_is_redriven_told_and_fed_again(shop: Shop, picky: Picky) -> None:
    async with shop.working(picky.projection) as worker:
        mending, parked = Mending(worker.feeds), id_of(picky.name, "a")
        await poisoned(shop, picky)
        assert outcome(await mending.redrive({"id": parked})) == Redriven(0, 3, "Indigestible: a")
        picky.appetite.chokes = False
        assert outcome(await mending.redrive({"id": parked, "dry_run": "yes"})) == Redriven(3, 0)
        assert [one.key for one in await listed(mending)] == ["a", "c"]
        assert outcome(await mending.redrive({"id": parked})) == Redriven(3, 0)
        assert [one.key for one in await listed(mending)] == ["c"]
        assert outcome(await mending.redrive({"id": id_of(picky.name, "c")})) == Redriven(1, 0)
        last = await shop.written.block(("a", [Added("a", 8)]), ("c", [Added("c", 8)]))
        await shop.reaches(picky.projection, last)
        told = shop.standings.latest(picky.name)
        assert told is not None
        assert (told.parked_keys, told.parked_commits) == (0, 0)
        assert rows(shop, picky) == shown(await batch_of(shop.written.log), chokes=False)[0]


async def test_a_long_queue_is_redriven_a_part_a_request(
    shop: Shop, picky: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.parking.REDRIVEN_MAX", 2)
    async with shop.working(picky.projection) as worker:
        mending, parked = Mending(worker.feeds), id_of(picky.name, "a")
        await poisoned(shop, picky)
        picky.appetite.chokes = False
        assert outcome(await mending.redrive({"id": parked})) == Redriven(2, 1)
        last = await shop.written.block(("a", [Added("a", 8)]))  # Still behind what waits.
        await shop.reaches(picky.projection, last)
        assert [(one.commits, one.error) for one in await listed(mending, key="a")] == [(2, "")]
        assert outcome(await mending.redrive({"id": parked})) == Redriven(2, 0)
        assert outcome(await mending.redrive({"id": id_of(picky.name, "c")})) == Redriven(1, 0)
        assert rows(shop, picky) == shown(await batch_of(shop.written.log), chokes=False)[0]


async def test_a_discarded_commit_is_left_out_and_what_was_behind_it_is_shown(shop: Shop, picky: Picky) -> None:
    async with shop.working(picky.projection) as worker:
        mending = Mending(worker.feeds)
        await poisoned(shop, picky)
        wanted = {"id": id_of(picky.name, "a"), "sequence": "3", "offset": "0", "reason": "nobody knows what it means"}
        assert (await mending.discard({**wanted, "sequence": "4"})).code == "not_parked"
        for reason in ("", " ", "x" * (REASON_CHARS_MAX + 1)):
            assert (await mending.discard({**wanted, "reason": reason})).code == "malformed"
        assert (await mending.discard({**wanted, "offset": "first"})).code == "malformed"
        assert [one.commits for one in await listed(mending)] == [3, 1]
        assert outcome(await mending.discard(wanted)) == Redriven(2, 0)
        assert (await mending.discard(wanted)).code == "parked_unknown"  # A repeat gives up nothing more.
        assert rows(shop, picky)[0] == ("a", 5 * (5 * 1 + 2) + 4, 5)
        alone = {"id": id_of(picky.name, "c"), "sequence": "3", "offset": "1", "reason": "this one neither"}
        assert outcome(await mending.discard(alone)) == Redriven(0, 0)
        assert await listed(mending) == []


async def test_what_is_not_parked_is_unknown(shop: Shop, picky: Picky) -> None:
    async with shop.working(picky.projection) as worker:
        mending = Mending(worker.feeds)
        for parameters in ({}, {"id": ""}, {"id": id_of(picky.name, "a")}, {"id": id_of("nothing", "a")}):
            assert (await mending.redrive(parameters)).code == "parked_unknown"
            assert (await mending.discard({**parameters, "reason": "x"})).code == "parked_unknown"


async def test_while_the_log_cannot_be_read_nothing_is_redriven(shop: Shop, picky: Picky) -> None:
    async with shop.working(picky.projection) as worker:
        feed = worker.feeds[shop.stream]
        await poisoned(shop, picky)
        feed.source = log = FaultyLog(feed.source)
        log.unreachable = True
        reply = await Mending(worker.feeds).redrive({"id": id_of(picky.name, "a")})
        assert (reply.code, reply.detail) == ("not_done", "LogUnreachable: as the test wants it")
        assert len(await listed(Mending(worker.feeds))) == 2


async def test_a_log_that_holds_something_else_there_is_not_redriven(
    shop: Shop, picky: Picky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after damage: sequence numbers were used again."""
    async with shop.working(picky.projection) as worker:
        feed = worker.feeds[shop.stream]
        await poisoned(shop, picky)
        picky.appetite.chokes = False
        log = FaultyLog(feed.source)
        found: Record | None = None

        async def get(sequence: int) -> Record | None:
            return found

        monkeypatch.setattr(log, "get", get)
        feed.source = log
        mending, parked = Mending(worker.feeds), id_of(picky.name, "c")
        assert "holds nothing at 3" in (await mending.redrive({"id": parked})).detail
        found = await log.inside.get(5)
        assert "holds another block at 3" in (await mending.redrive({"id": parked})).detail
        assert len(await listed(mending)) == 2


# -- rebuilds ------------------------------------------------------------------------------------------------------


async def test_a_build_that_parks_does_not_go_live_and_says_which_key(shop: Shop, picky: Picky) -> None:
    async with shop.feeding(picky.projection) as feed:
        await poisoned(shop, picky)
        live = shop.files.live(picky.name)
        failed = await one(shop, feed, picky.projection)
        assert failed.state == "failed"
        for words in ("the rebuilt one has 4 commits of 2 keys parked", f"a at {shop.stream}=3: Indigestible: a"):
            assert words in failed.detail
        assert shop.files.live(picky.name) == live
        done = await one(shop, feed, picky.projection, accept_difference=True)
        assert "the rebuilt one has 4 commits of 2 keys parked" in done.detail
        last = await shop.written.block(("a", [Added("a", 8)]), ("b", [Added("b", 8)]))
        await shop.reaches(picky.projection, last)
        assert rows(shop, picky) == shown(await batch_of(shop.written.log))[0]


async def test_a_live_one_that_has_parked_keys_is_named_where_its_rebuild_differs(shop: Shop, picky: Picky) -> None:
    async with shop.feeding(picky.projection) as feed:
        await poisoned(shop, picky)
        picky.appetite.chokes = False
        failed = await one(shop, feed, picky.projection)
        assert (failed.state, failed.detail[:43]) == ("failed", "the live one has 4 commits of 2 keys parked")
        done = await one(shop, feed, picky.projection, accept_difference=True)
        assert done.state == "done"
        assert rows(shop, picky) == shown(await batch_of(shop.written.log), chokes=False)[0]


async def test_a_rebuild_leaves_out_what_was_discarded(shop: Shop, picky: Picky) -> None:
    async with shop.working(picky.projection) as worker:
        mending, feed = Mending(worker.feeds), worker.feeds[shop.stream]
        await poisoned(shop, picky)
        for key, offset in (("a", "0"), ("c", "1")):
            wanted = {"id": id_of(picky.name, key), "sequence": "3", "offset": offset, "reason": "beyond repair"}
            assert outcome(await mending.discard(wanted)).left == 0
        before = rows(shop, picky)
        done = await one(shop, feed, picky.projection)
        assert done.detail.startswith("equal to the live one")
        assert rows(shop, picky) == before
        assert (await one(shop, feed, picky.projection)).detail.startswith("equal")


async def test_a_worker_that_was_supplanted_does_not_switch(shop: Shop, picky: Picky) -> None:
    async with shop.working(picky.projection) as worker:
        feed = worker.feeds[shop.stream]
        await shop.reaches(picky.projection, await shop.written.block(("a", [Added("a", 1)])))
        live = shop.files.live(picky.name)
        assert live is not None
        with Store.open(picky.projection, live):
            failed = await one(shop, feed, picky.projection)
            assert (failed.state, "under lease" in failed.detail) == ("failed", True)
            assert shop.files.live(picky.name) == live
