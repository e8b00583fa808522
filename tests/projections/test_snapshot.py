"""A copy of read models, and a node that starts from it: it shows the same and reads only what came after."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client

from bus.logs.jetstream import JetStreamLog
from projections.files import ReadModelFiles
from projections.projection import Projection
from projections.reader import Reader
from projections.snapshot import MANIFEST, Manifest, SnapshotRefused, restore, take
from projections.store import Store
from tests.bus.counter import Added, Scribbled
from tests.bus.waiting import until
from tests.projections.shop import Shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshot"


async def some_history(shop: Shop) -> int:
    for n in range(6):
        last = await shop.written.block(("a", [Added("a", n)]), (f"b{n}", [Added(f"b{n}", 1), Scribbled(f"b{n}", "x")]))
    return last


def elsewhere(shop: Shop, tmp_path: Path) -> Shop:
    """Another node of the same system."""
    folder = tmp_path / "another node"
    return Shop(shop.written, folder, shop.announcer, shop.standings, Reader(folder))


def damaged(folder: Path, **changed: object) -> None:
    """A manifest that says something else of its first read model."""
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    first = msgspec.structs.replace(manifest.read_models[0], **changed)
    manifest = msgspec.structs.replace(manifest, read_models=[first, *manifest.read_models[1:]])
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))


async def restored(shop: Shop, folder: Path, *projections: Projection) -> list[str]:
    copies = await restore(folder, projections, shop.files, {shop.stream: shop.written.log})
    return [copied.name for copied in copies]


async def refused(shop: Shop, folder: Path, projection: Projection, *words: str) -> None:
    """It says why, and nothing has become live."""
    with pytest.raises(SnapshotRefused) as caught:
        await restored(shop, folder, projection)
    for word in words:
        assert word in str(caught.value)
    assert shop.files.live(projection.name) is None
    assert [path.name for path in shop.folder.glob("*") if path.suffix != ".lock"] == []


async def test_a_node_starts_from_a_copy_and_reads_only_what_came_after(
    shop: Shop, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = shop.tally("_one"), shop.tally("_two")
    async with shop.working(one, two) as worker:
        copied_at = await some_history(shop)
        for projection in (one, two):
            await shop.reaches(projection, copied_at)
        manifest = take((one, two), shop.files, folder)
        assert [(copied.name, copied.sequence, copied.events) for copied in manifest.read_models] == [
            (one.name, copied_at, 18),
            (two.name, copied_at, 18),
        ]
        last = await shop.written.block(("a", [Added("a", 100)]))  # The live ones go on.
        await shop.reaches(one, last)
        digests = worker.feeds[shop.stream].stores[one.name].digests()
    node = elsewhere(shop, tmp_path)
    assert await restored(node, folder, one, two) == [one.name, two.name]
    reads: list[int] = []
    read = JetStreamLog.read

    def reading(log: JetStreamLog, after: int = 0, until: int | None = None) -> object:
        reads.append(after)
        return read(log, after, until)

    monkeypatch.setattr(JetStreamLog, "read", reading)
    async with node.working(one, two) as worker:
        feed = worker.feeds[shop.stream]
        await until(lambda: feed.sequence(one.name) >= last)  # What is announced may be the other node's.
        async with feed.lock:
            assert feed.stores[one.name].digests() == digests
        assert (await node.totals(one))["a"] == 115
    assert set(reads) == {copied_at}
    await node.reader.close()


async def test_a_copy_is_of_one_moment_whatever_is_written_meanwhile(shop: Shop, folder: Path) -> None:
    tally = shop.tally()
    async with shop.working(tally):
        for n in range(20):
            await shop.written.block(("a", [Added("a", 1)]))
            (copied,) = take((tally,), shop.files, folder / str(n)).read_models
            with Store.look(tally, folder / str(n) / copied.file) as store:
                assert store.position.sequence == copied.sequence
                assert list(store.rows("total")) == [("a", copied.sequence - 1)][: copied.sequence]


async def test_only_what_is_asked_for_is_copied_and_restored(shop: Shop, folder: Path, tmp_path: Path) -> None:
    one, two, three = shop.tally("_one"), shop.tally("_two"), shop.tally("_three")
    async with shop.working(one, two, three):
        await shop.reaches(three, await some_history(shop))
        take((one, two), shop.files, folder)
    node = elsewhere(shop, tmp_path)
    await refused(node, folder, three, f"does not hold {three.name}, only {one.name}, {two.name}")
    assert await restored(node, folder, two) == [two.name]
    assert node.files.live(one.name) is None


async def test_a_snapshot_that_is_not_of_this_system_is_refused(
    shop: Shop, folder: Path, tmp_path: Path, client: Client, unique: str
) -> None:
    tally = shop.tally()
    async with shop.working(tally):
        await shop.reaches(tally, await some_history(shop))
        take((tally,), shop.files, folder)
    node = elsewhere(shop, tmp_path)
    another = await JetStreamLog.open(client, f"{unique}_another")
    with pytest.raises(SnapshotRefused, match=f"of another log .*: of epoch {shop.written.log.epoch}, this one of"):
        await restore(folder, [tally], node.files, {tally.stream: another})
    await refused(node, folder, shop.tally(version=2), f"holds {tally.name} in version 1, this code is of 2")
    damaged(folder, sequence=9)
    await refused(node, folder, tally, "is damaged: it stands at 7, not at 9")
    damaged(folder, sequence=7, sha256="0" * 64)
    await refused(node, folder, tally, "is damaged: it is not what was copied")
    damaged(folder, file="../elsewhere.db")
    await refused(node, folder, tally, "names a file outside of the snapshot")
    damaged(folder, file="gone.db")
    await refused(node, folder, tally, "gone.db cannot be read")
    (folder / MANIFEST).write_text("{}")
    await refused(node, folder, tally, "makes no sense")
    (folder / MANIFEST).write_bytes(b'{"format":2,"taken_at":"2026-11-21T09:30:00Z","read_models":[]}')
    await refused(node, folder, tally, "is of format 2, this release reads 1")
    (folder / MANIFEST).unlink()
    await refused(node, folder, tally, "holds no whole snapshot")


async def test_a_snapshot_that_is_further_than_the_log_is_refused(shop: Shop, folder: Path, tmp_path: Path) -> None:
    """As after the log was put back to an older state: its positions are of something else now."""
    tally = shop.tally()
    async with shop.working(tally):
        await shop.reaches(tally, await some_history(shop))
    live = shop.files.live(tally.name)
    assert live is not None
    with Store.open(tally, live) as store:
        store._connection.execute("UPDATE _position SET sequence = 100")
    take((tally,), shop.files, folder)
    node = elsewhere(shop, tmp_path)
    await refused(node, folder, tally, "does not go with this log", "does not hold at 100 what was read there before")


async def test_what_is_there_already_is_not_overwritten(shop: Shop, folder: Path) -> None:
    tally = shop.tally()
    async with shop.working(tally):
        last = await some_history(shop)
        await shop.reaches(tally, last)
        take((tally,), shop.files, folder)
    with pytest.raises(SnapshotRefused, match="is here already"):
        await restored(shop, folder, tally)
    with pytest.raises(SnapshotRefused, match="is not empty"):
        take((tally,), shop.files, folder)
    with pytest.raises(SnapshotRefused, match="is not built yet in version 2"):
        take((shop.tally(version=2),), shop.files, folder / "more")
    with pytest.raises(SnapshotRefused, match="is not built yet"):
        take((tally,), ReadModelFiles(folder / "nowhere"), folder / "another")
