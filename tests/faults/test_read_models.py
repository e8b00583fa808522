"""Whatever is killed while read models are fed, rebuilt and read: each is the fold of its log afterwards, to the byte.

The projector, the gateway and the broker die at random moments, many of them in the middle of a rebuild. The long form
does so 100 times (`FAULT_ROUNDS`), ten to a log; the suite once, with all of them in a rebuild.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, assert_never, get_args

import httpx
import pytest

from bus.control import ask
from bus.servers.connection import Client, close, connect
from gateway import compose
from gateway.http.tokens import Tokens
from gateway.settings import Settings, jwt_secret
from projections.feed import batches, remembered_position
from projections.files import ReadModelFiles
from projections.store import Position, Store
from projections.worker import REBUILD
from tests.faults.figures import asked_for, tell
from tests.faults.load import under_load
from tests.faults.site import Site

Fault = Literal[
    "projector killed",
    "gateway killed",
    "broker killed",
    "all killed",
    "projector killed in a rebuild",
    "broker killed in a rebuild",
    "all killed in a rebuild",
]
ROUNDS = asked_for("FAULT_ROUNDS", 100)
ROUNDS_A_LOG = 10
SEED = asked_for("FAULT_SEED", 1)
CLIENTS = 64
PATIENCE_S = 60.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    running = Site(tmp_path / "site", tmp_path)
    running.start()
    running.start_gateway()
    yield running
    running.stop()


async def strike(site: Site, fault: Fault, chance: random.Random) -> None:
    """Make a fault and mend it, as a supervisor would."""
    if fault.endswith("in a rebuild"):
        await begin_rebuilds(site, chance)
        await asyncio.sleep(chance.uniform(0.0, 0.2))
    match fault:
        case "projector killed" | "projector killed in a rebuild":
            site.kill_projector()
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            site.start_projector()
        case "gateway killed":
            site.kill_gateway()
            site.start_gateway()
        case "broker killed" | "broker killed in a rebuild":
            site.broker.kill()
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            site.broker.start()
        case "all killed" | "all killed in a rebuild":
            site.broker.kill()
            site.kill_projector()
            site.kill_gateway()
            site.broker.start()
            site.start_projector()
            site.start_gateway()
        case _:
            assert_never(fault)


async def begin_rebuilds(site: Site, chance: random.Random) -> None:
    """Of some read models, once there is somebody who does that."""
    async with connected(site) as client:
        deadline = time.monotonic() + PATIENCE_S
        for projection in chance.sample(compose.PROJECTIONS, 3):
            while (await ask(client, REBUILD, name=projection.name)).code not in ("", "rebuild_under_way"):
                assert time.monotonic() < deadline, "nobody rebuilds"
                await asyncio.sleep(0.02)


async def keep_reading(site: Site) -> None:
    """Have the gateway read, and hold files open, all the time. Whether it answers is not asked here."""
    token = Tokens(jwt_secret(Settings(data_dir=site.data))).issue("staff", "reader", 3_600)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.http_port}", headers=headers) as http:
        while True:
            for path in ("/v1/orders", "/v1/reports/sales?by=status", "/v1/projections"):
                try:
                    await http.get(path)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def connected(site: Site) -> AsyncIterator[Client]:
    client = await connect(site.broker.url, "read models")
    try:
        yield client
    finally:
        await close(client)


async def same_as_the_fold(site: Site, folder: Path) -> int:
    """Wait until every read model stands at the end of its log, and compare. The events that are in them."""
    settings, decoders = Settings(data_dir=site.data), compose.decoders()
    files, events = ReadModelFiles(settings.read_models), 0
    async with connected(site) as client:
        for number, projection in enumerate(compose.PROJECTIONS):
            log = await compose.open_log(client, settings, projection.stream)
            head, deadline = await log.head(), time.monotonic() + PATIENCE_S
            while head > 1 and ((at := remembered_position(projection, files.folder)) is None or at.sequence < head):
                site.supervise()
                assert time.monotonic() < deadline, f"{projection.name} stands at {at}, its log at {head}"
                await asyncio.sleep(0.02)
            live = files.live(projection.name)
            assert live is not None
            with (
                Store.create(projection, folder / f"fold@{number}.1.db", log.epoch) as fold,
                Store.look(projection, live) as looking,
            ):
                start = Position(log.epoch, 0, {}, 0)
                async for batch, _ in batches(log, decoders[projection.stream], start, head):
                    fold.apply(batch)
                assert looking.position == fold.position, projection.name
                assert looking.digests() == fold.digests(), projection.name
                assert looking.parked == fold.parked == {}, projection.name
                events += fold.events
    return events


async def endure(site: Site, tmp_path: Path, faults: Sequence[Fault], seed: int) -> int:
    chance = random.Random(seed)
    reading = asyncio.create_task(keep_reading(site))
    async with under_load(site.broker.url, seed, CLIENTS) as load:
        for fault in faults:
            await load.busy(chance, site.supervise)
            await strike(site, fault, chance)
        await load.acknowledged(CLIENTS, site.supervise)
    reading.cancel()
    await asyncio.wait({reading})
    assert reading.cancelled()
    return await same_as_the_fold(site, tmp_path / "folds")


async def test_whatever_is_killed_every_read_model_is_the_fold_of_its_log(site: Site, tmp_path: Path) -> None:
    assert await endure(site, tmp_path, ["all killed in a rebuild"], seed=31) > 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEED, SEED + -(-ROUNDS // ROUNDS_A_LOG)))
async def test_kill_after_kill(site: Site, tmp_path: Path, seed: int, pytestconfig: pytest.Config) -> None:
    chance = random.Random(f"read models {seed}")
    faults = chance.choices(get_args(Fault), k=min(ROUNDS, ROUNDS_A_LOG))
    events = await endure(site, tmp_path, faults, seed)
    tell(pytestconfig, f"read models, seed {seed}: {len(faults)} kills, {events:,} events folded twice, no difference")
