"""The power is cut under load, truly: whatever the disk had not synced is gone. With the broker as the product runs it
every acknowledgement survives; with the broker's own default the same cuts lose some, which the checker must report.

`just faults engine` makes 100 cuts (`FAULT_CUTS`), ten to a log, each log from a seed of its own.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disk import Disk, unavailable
from tests.faults.figures import asked_for, tell
from tests.faults.load import CLIENTS, Witness, under_load
from tests.faults.site import Site, check, epochs, told

SEED = asked_for("FAULT_SEED", 1)
CUTS = asked_for("FAULT_CUTS", 100)
CUTS_A_LOG = 10
CHECK_EVERY = 2
AGAIN_AT_ONCE = 0.2
"""How often the power goes again while everything comes up."""

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "possible here")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        made = Disk.make(tmp_path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"power cuts need a file system of their own, and mounting one failed: {error}")
    yield made
    made.unmount()


@pytest.fixture
def site(disk: Disk, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site whose broker and workers keep everything on a disk of their own. Its parameter is how the broker syncs."""
    running = Site(disk.folder, tmp_path, sync=getattr(request, "param", "always"))
    running.start()
    yield running
    running.stop()


async def cut(disk: Disk, site: Site) -> None:
    """The machine with the broker and the workers goes down and comes up again; its clients are elsewhere."""
    disk.cut()
    site.broker.kill()
    site.kill_workers()
    site.kill_projector()
    disk.unmount()
    disk.mount()
    site.start()


async def endure(disk: Disk, site: Site, cuts: int, seed: int, clients: int) -> Witness:
    chance = random.Random(seed)
    log_epochs = await epochs(site)
    async with under_load(site.broker.url, seed, clients) as load:
        for number in range(1, cuts + 1):
            if number == 1 or chance.random() > AGAIN_AT_ONCE:
                await load.busy(chance, site.supervise)
            else:
                await asyncio.sleep(chance.uniform(0.0, 1.0))
            await cut(disk, site)
            if number % CHECK_EVERY == 0 or number == cuts:
                found = await check(site, load.witness, log_epochs)
                assert not found, f"seed {seed}, {clients} clients, cut {number}: {told(found)}"
        await load.acknowledged(clients, site.supervise)
    found = await check(site, load.witness, log_epochs)
    assert not found, f"seed {seed}, {clients} clients, after {cuts} cuts: {told(found)}"
    return load.witness


async def test_what_was_acknowledged_survives_a_power_cut(disk: Disk, site: Site) -> None:
    await endure(disk, site, cuts=1, seed=0, clients=64)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEED, SEED + -(-CUTS // CUTS_A_LOG)))
async def test_cut_after_cut(disk: Disk, site: Site, seed: int, pytestconfig: pytest.Config) -> None:
    began, cuts = time.monotonic(), min(CUTS, CUTS_A_LOG)
    clients = random.Random(f"cuts {seed}").choice(list(CLIENTS))
    witness = await endure(disk, site, cuts, seed, clients)
    took_s = time.monotonic() - began
    tell(
        pytestconfig,
        f"power, seed {seed}: {cuts} cuts in {took_s:.0f} s, {clients} clients, {witness.stored:,} commands"
        f" acknowledged, no promise broken; {dict(witness.answers)}",
    )


@pytest.mark.long
@pytest.mark.parametrize("site", ['"2m"'], indirect=True, ids=["synced-every-two-minutes"])
async def test_a_broker_that_syncs_lazily_loses_what_it_acknowledged_and_the_checker_says_so(
    disk: Disk, site: Site, pytestconfig: pytest.Config
) -> None:
    chance, clients = random.Random(SEED), 128
    log_epochs = await epochs(site)
    async with under_load(site.broker.url, SEED, clients) as load:
        await load.busy(chance, site.supervise)
        await cut(disk, site)
    found = await check(site, load.witness, log_epochs)
    lost = [violation for violation in found if violation.what.endswith("but it is not in the log")]
    assert lost, "nothing was lost: then these cuts prove nothing"
    told_stored = load.witness.answers["Stored"]
    tell(
        pytestconfig,
        f"power, synced every two minutes: of {told_stored:,} answers that a command is on disk {len(lost):,} are found"
        " to be false",
    )
