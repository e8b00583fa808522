"""Brokers and engines are killed or stopped at random moments under load, and every promise is kept.

`just faults engine` runs 200 rounds (`FAULT_ROUNDS`), ten to a log, each log from a seed of its own (`FAULT_SEED` is
the first): a seed gives the same faults and the same wishes again, though not the same timing.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, assert_never

import pytest

from tests.faults.figures import asked_for, tell
from tests.faults.load import CLIENTS, Load, Witness, under_load
from tests.faults.site import Site, check, epochs, told

Fault = Literal[
    "engine killed",
    "broker killed",
    "all killed",
    "projector killed",
    "killed as it starts",
    "engine supplanted",
    "broker paused",
]
FAULTS: tuple[Fault, ...] = (
    "engine killed",
    "engine killed",
    "broker killed",
    "broker killed",
    "all killed",
    "all killed",
    "projector killed",
    "killed as it starts",
    "engine supplanted",
    "engine supplanted",
    "broker paused",
)
ROUNDS = asked_for("FAULT_ROUNDS", 200)
ROUNDS_A_LOG = 10
CHECK_EVERY = 5
SEED = asked_for("FAULT_SEED", 1)


async def strike(site: Site, fault: Fault, chance: random.Random, load: Load) -> None:
    """Make a fault and mend it, as a supervisor would: what was killed is started again on the same data."""
    match fault:
        case "engine killed":
            site.kill_workers()
            site.start_worker()
        case "broker killed":
            site.broker.kill()
            await asyncio.sleep(chance.choice([0.0, 0.2]))
            site.broker.start()
        case "all killed":
            site.broker.kill()
            site.kill_workers()
            site.kill_projector()
            site.start()
        case "projector killed":  # Now and then with the engine, which then waits for the states of the log's end.
            site.kill_projector()
            if chance.random() < 0.5:
                site.kill_workers()
                site.start_worker()
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            site.start_projector()
        case "killed as it starts":
            site.kill_workers()
            site.start_worker()
            await asyncio.sleep(chance.uniform(0.3, 0.7))
            site.kill_workers()
            site.start_worker()
        case "engine supplanted":  # The old owner wakes up and believes that it still is the owner.
            old = site.workers[0]
            old.send_signal(signal.SIGSTOP)
            site.start_worker()
            await load.acknowledged(20, site.supervise)
            old.send_signal(signal.SIGCONT)
            await load.acknowledged(chance.randint(20, 300), site.supervise)
            leaving = chance.choice(site.workers)
            leaving.kill()
            leaving.wait()
            site.workers.remove(leaving)
        case "broker paused":
            site.pause_broker()
            await asyncio.sleep(chance.uniform(0.1, 2.5))
            site.resume_broker()
        case _:
            assert_never(fault)


async def endure(site: Site, faults: Sequence[Fault], seed: int, clients: int) -> Witness:
    """One fault after the other under load; the checker looks every few rounds, and when all is quiet."""
    chance = random.Random(seed)
    where = f"seed {seed}, {clients} clients"
    log_epochs = await epochs(site)
    async with under_load(site.broker.url, seed, clients) as load:
        for number, fault in enumerate(faults, start=1):
            await load.busy(chance, site.supervise)
            await strike(site, fault, chance, load)
            if number % CHECK_EVERY == 0:
                found = await check(site, load.witness, log_epochs)
                assert not found, f"{where}, round {number} of {faults}: {told(found)}"
        await load.acknowledged(clients, site.supervise)
    found = await check(site, load.witness, log_epochs)
    assert not found, f"{where}, after {faults}: {told(found)}"
    assert not site.halted(), where
    return load.witness


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    running = Site(tmp_path / "site", tmp_path)
    running.start()
    yield running
    running.stop()


async def test_whatever_is_killed_under_load_every_promise_is_kept(site: Site) -> None:
    await endure(site, ["engine supplanted", "projector killed", "all killed"], seed=0, clients=64)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEED, SEED + -(-ROUNDS // ROUNDS_A_LOG)))
async def test_round_after_round(site: Site, seed: int, pytestconfig: pytest.Config) -> None:
    began, chance = time.monotonic(), random.Random(f"faults {seed}")
    faults = chance.choices(FAULTS, k=min(ROUNDS, ROUNDS_A_LOG))
    clients = chance.choice(list(CLIENTS))
    witness = await endure(site, faults, seed, clients)
    took_s = time.monotonic() - began
    tell(
        pytestconfig,
        f"kills, seed {seed}: {len(faults)} rounds in {took_s:.0f} s, {clients} clients, {witness.stored:,} commands"
        f" acknowledged, no promise broken; {dict(witness.answers)}",
    )
