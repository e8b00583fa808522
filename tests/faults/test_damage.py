"""A store that is not what it was: a bit is flipped, a file cut short, an older store put back, the store lost.

What was acknowledged is gone then. It must be noticed when the engine starts, within five seconds, and nothing may be
written any more: the broker by itself drops what it cannot read, says nothing, and gives its numbers out again.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bus.commands import Stored, Unknown
from bus.engines.engine import Engine, EngineLimits
from bus.logs.jetstream import JetStreamLog
from bus.logs.log import LogDamaged, MemoryLog
from bus.logs.witness import recall
from bus.sender import Sender
from bus.servers.connection import close, connect
from domains.orders.messages import OrderLine, PlaceOrder
from domains.orders.order import orders
from gateway import compose
from projections.feed import remembered_position
from projections.order_summary import order_summary
from tests.bus.counter import command
from tests.bus.waiting import PATIENCE_S, until
from tests.faults.load import under_load
from tests.faults.rewritten import Through
from tests.faults.site import Site
from tests.system import REPOSITORY, TALLY

HALTS_WITHIN_S = 5.0
"""Of its start."""
NOTICED_WITHIN_S = 30.0
"""By an engine that runs on."""
CLIENTS = 64
WRITTEN = 300

Damage = Callable[[Path, Path], None]
"""Done to a store; the second is an older copy of it."""


def _block_file(store: Path) -> Path:
    """The last file of the orders' blocks."""
    return sorted(store.rglob("orders/msgs/*.blk"))[-1]


def _flip(at: Callable[[int], int]) -> Damage:
    def flip(store: Path, _: Path) -> None:
        file = _block_file(store)
        content = bytearray(file.read_bytes())
        content[at(len(content))] ^= 4
        file.write_bytes(content)

    return flip


def _cut_short(store: Path, _: Path) -> None:
    file = _block_file(store)
    with file.open("r+b") as content:
        content.truncate(file.stat().st_size // 2)


def _put_back(store: Path, older: Path) -> None:
    shutil.rmtree(store)
    shutil.copytree(older, store)


def _lose(store: Path, _: Path) -> None:
    shutil.rmtree(store)


in_the_middle = _flip(lambda size: size // 2)
at_the_end = _flip(lambda size: size - 40)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    running = Site(tmp_path / "site", tmp_path)
    running.start()
    yield running
    running.stop()


async def damaged(site: Site, tmp_path: Path, damage: Damage, *, cleanly: bool) -> None:
    """Write, copy the store, write more; then stop the broker (or kill it), do the damage, and start it again."""
    store, older = site.folder / "broker" / "jetstream", tmp_path / "older"

    def down() -> None:
        if cleanly:
            site.broker.stop()
        else:
            site.broker.kill()

    async with under_load(site.broker.url, 1, CLIENTS) as load:
        await load.acknowledged(WRITTEN, site.supervise)
        site.broker.kill()
        shutil.copytree(store, older)
        site.broker.start()
        await load.acknowledged(CLIENTS + WRITTEN, site.supervise)
    await witnessed(site)
    down()
    damage(store, older)
    site.broker.start()


async def witnessed(site: Site) -> None:
    """Wait until the witness has seen what was written last, which it has a tenth of a second for."""
    client = await connect(site.broker.url, "witnessed")
    log = await JetStreamLog.open(client, "orders")
    head = await log.head()
    await until(lambda: [each.sequence for each in recall(site.data / "witness", "orders")] == [head])
    await close(client)


async def halted(site: Site, within_s: float, *, may_write: bool = False) -> str:
    """Ask for orders until the worker ends: what it said. Fails when it takes one, or does neither in time."""
    client = await connect(site.broker.url, "client")
    sender = Sender(client, compose.owners())
    try:
        async with asyncio.timeout(within_s):
            while site.workers[0].poll() is None:
                order_id = f"after-{random.getrandbits(64)}"
                answer = await sender.send(order(order_id), id=order_id, timeout_s=1.0)
                assert may_write or not isinstance(answer, Stored), (
                    "it wrote to a log that had lost what was acknowledged"
                )
                await asyncio.sleep(0.05)
    finally:
        await close(client)
    assert site.workers[0].poll() != 0
    return site.halted()


def names_a_log(said: str) -> bool:
    return any(domain.name in said for domain in compose.DOMAINS)


def order(order_id: str) -> PlaceOrder:
    return PlaceOrder(order_id, "customer-1", "EUR", (OrderLine("mug", "Mug", "kitchen", 1, 250),))


def case(damage: Damage, name: str, *, cleanly: bool, long: bool = True) -> object:
    marks = [pytest.mark.long] if long else []
    after = "stop" if cleanly else "kill"
    return pytest.param(damage, cleanly, id=f"{name}-after-a-{after}", marks=marks)


@pytest.mark.parametrize(
    ("damage", "cleanly"),
    [
        case(in_the_middle, "bit-flipped-in-the-middle", cleanly=False),
        case(at_the_end, "bit-flipped-in-the-last-block", cleanly=True),
        case(at_the_end, "bit-flipped-in-the-last-block", cleanly=False),
        case(_cut_short, "file-cut-short", cleanly=True),
        case(_cut_short, "file-cut-short", cleanly=False),
        case(_put_back, "older-store-put-back", cleanly=True),
        case(_put_back, "older-store-put-back", cleanly=False, long=False),
        case(_lose, "store-lost", cleanly=True),
        case(_lose, "store-lost", cleanly=False),
    ],
)
async def test_an_engine_that_starts_on_a_damaged_log_halts(
    site: Site, tmp_path: Path, damage: Damage, cleanly: bool
) -> None:
    await damaged(site, tmp_path, damage, cleanly=cleanly)
    site.kill_workers()
    site.said.write_text("")
    site.start_worker()
    assert names_a_log(await halted(site, HALTS_WITHIN_S))


@pytest.mark.parametrize(
    ("damage", "cleanly"),
    [
        case(in_the_middle, "bit-flipped-in-the-middle", cleanly=False),
        case(at_the_end, "bit-flipped-in-the-last-block", cleanly=True),
        case(at_the_end, "bit-flipped-in-the-last-block", cleanly=False),
        case(_cut_short, "file-cut-short", cleanly=True),
        case(_cut_short, "file-cut-short", cleanly=False, long=False),
        case(_put_back, "older-store-put-back", cleanly=True),
        case(_put_back, "older-store-put-back", cleanly=False),
        case(_lose, "store-lost", cleanly=False),
    ],
)
async def test_an_engine_whose_log_loses_what_it_wrote_halts(
    site: Site, tmp_path: Path, damage: Damage, cleanly: bool
) -> None:
    """The broker comes back without it. The engine runs on, and remembers."""
    await damaged(site, tmp_path, damage, cleanly=cleanly)
    assert names_a_log(await halted(site, NOTICED_WITHIN_S))


def doctor(site: Site) -> str:
    """What it finds wrong; empty when nothing is."""
    ended = subprocess.run(
        [*TALLY, "doctor"], env=site.environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == bool(ended.stderr)
    return ended.stderr


@pytest.mark.parametrize("again", [pytest.param("engine", id="short"), pytest.param("doctor", marks=pytest.mark.long)])
async def test_damage_that_no_engine_rests_on_is_found_by_reading_all(site: Site, tmp_path: Path, again: str) -> None:
    """A broker that was stopped cleanly does not look at its old blocks again, and an engine begins behind them. So it
    may have begun to write before the log is found damaged."""
    if again == "doctor":
        assert doctor(site) == ""
    await damaged(site, tmp_path, in_the_middle, cleanly=True)
    if again == "doctor":
        assert "log orders: " in doctor(site)
    else:
        site.kill_workers()
        site.said.write_text("")
        site.start_worker()
        assert "orders is damaged" in await halted(site, HALTS_WITHIN_S, may_write=True)


@pytest.mark.long
async def test_who_accepts_the_loss_goes_on_without_what_was_lost(site: Site, tmp_path: Path) -> None:
    """Every memory of it has to go: the witness's, the read models', which the doctor names, and then all is well."""
    await until(lambda: remembered_position(order_summary, site.data / "read"), "the first read models")
    await damaged(site, tmp_path, _lose, cleanly=False)
    site.kill_workers()
    site.kill_projector()
    assert "log orders: stream orders is gone" in doctor(site)
    shutil.rmtree(site.data / "witness")
    assert "read model order_summary: orders is of epoch" in doctor(site)
    shutil.rmtree(site.data / "read")
    assert doctor(site) == ""
    site.start_worker()
    site.start_projector()
    async with under_load(site.broker.url, 2, CLIENTS) as load:
        await load.acknowledged(WRITTEN, site.supervise)


@pytest.mark.parametrize("place", [0, 1], ids=["another-command-is-there", "nothing-is-there"])
async def test_a_repeat_whose_first_answer_is_no_longer_in_the_log_halts_the_engine(place: int) -> None:
    """The log was lost and written anew behind a running engine's back: what lies there now is another's answer."""
    way = Through(MemoryLog("orders"))
    engine = Engine(orders, way, limits=EngineLimits(catch_up_retry_s=0.001))
    await engine.start()
    frame = [command(order(order_id), order_id) for order_id in ("o-1", "o-2")]
    assert all(isinstance(answer, Stored) for answer in await engine.submit(frame))
    way.inside = MemoryLog("orders")
    other = Engine(orders, way.inside)
    await other.start()
    await other.submit([command(order("o-3"), "o-3")])
    async with asyncio.timeout(PATIENCE_S):
        answers = await engine.submit([frame[place]])
        assert answers == [Unknown("halted")]
        with pytest.raises(LogDamaged):
            await engine.failed
    await engine.stop()
    await other.stop()
