"""Workers for commands as processes of their own: they share the partitions, and take over from one that stops, dies or
freezes, while orders are placed all the time. Nothing acknowledged is lost or doubled.

The long form (`pytest -m long`) does it over and over; the suite does each once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bus.owners.leases import LEASE_S
from bus.presence import Present
from bus.servers.broker import EmbeddedBroker
from bus.servers.cluster import LocalCluster
from bus.servers.connection import close, connect
from gateway import compose
from gateway.settings import Settings
from tests.journeys.books import balanced
from tests.journeys.load import IN_FLIGHT, Load, commits_of, everything_acknowledged
from tests.journeys.test_crashes import whole_and_rebuilt
from tests.system import PATIENCE_S, REPOSITORY, TALLY, Shop, environment_of, running_system
from tests.system import until as sooner_or_later

PARTITIONS = 4
EVERYTHING = PARTITIONS + len(compose.DOMAINS) - 1
"""What is to be owned: the partitions of orders, and one of each other domain."""
TAKEN_OVER_MAX_S = 10.0
"""Generous, for a busy machine; `--log-cli-level=INFO` tells how long it took."""

log = logging.getLogger(__name__)


class Crew:
    """Workers on one broker and one data folder, and who owns what."""

    def __init__(self, servers: EmbeddedBroker | LocalCluster, folder: Path, present: Present) -> None:
        self._folder = folder
        self._present = present
        system_url = servers.system_url if isinstance(servers, LocalCluster) else servers.settings.system_url
        self._environment = {
            "TALLY_NATS_URL": servers.url,
            "TALLY_NATS_SYSTEM_URL": system_url,
            "TALLY_REPLICAS": str(replicas_of(servers)),
            "TALLY_PARTITIONS": f"orders={PARTITIONS}",
        }
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._output = (folder / "workers.output").open("ab")

    def start(self, part: str = "commands") -> int:
        process = subprocess.Popen(
            [*TALLY, "work", "--part", part],
            env=environment_of(self._folder / "data", **self._environment),
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )
        self._processes[process.pid] = process
        return process.pid

    def signal(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)

    async def ended(self, pid: int) -> int:
        return await asyncio.to_thread(self._processes[pid].wait, PATIENCE_S)

    def owners(self) -> dict[str, int]:
        """Who serves each partition, by its process."""
        found: dict[str, tuple[int, int]] = {}
        for worker in self._present.workers():
            for owned in worker.owns:
                name = f"{owned.domain}/{owned.partition}"
                if owned.serving and owned.token > found.get(name, (0, 0))[0]:
                    found[name] = owned.token, worker.pid
        return {name: pid for name, (_, pid) in found.items()}

    def spread(self) -> dict[int, int]:
        """How many partitions of orders each process serves."""
        return dict(Counter(pid for name, pid in self.owners().items() if name.startswith("orders/")))

    async def owned_by(self, *pids: int) -> None:
        """Wait until these own everything, and the orders evenly."""

        def even() -> bool:
            owners, spread = self.owners(), self.spread()
            evenly = max(spread.values(), default=0) - min(spread.values(), default=0) <= 1
            return len(owners) == EVERYTHING and evenly and set(spread) == set(pids) == set(owners.values())

        await until(even, f"an even spread over {pids}, not {self.owners()}")

    def close(self) -> str:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(PATIENCE_S)
        self._output.close()
        return (self._folder / "workers.output").read_text()


def replicas_of(servers: EmbeddedBroker | LocalCluster) -> int:
    return 3 if isinstance(servers, LocalCluster) else 1


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def crew_under_load(servers: EmbeddedBroker | LocalCluster, folder: Path) -> AsyncIterator[tuple[Crew, Load]]:
    """Two workers, and orders that are placed from before the first until the books are checked."""
    client = await connect(servers.url, "clients")
    settings = Settings(partitions={"orders": PARTITIONS}, replicas=replicas_of(servers))
    logs = await compose.open_logs(client, settings)
    present = Present(client)
    await present.start()
    crew = Crew(servers, folder, present)
    load = Load(compose.sender(client, logs, present))
    try:
        crew.start("projections")
        yield crew, load
        acknowledged = await load.stop()
        everything_acknowledged(acknowledged, await commits_of(logs["orders"]))
    finally:
        said = crew.close()
        await close(client)
    assert "Traceback" not in said, said


async def taken_over(crew: Crew, load: Load, how: str, gone: int, *left: int) -> None:
    """Wait until others serve everything that one who is gone had, and orders go on. Tells how long that takes."""
    began = time.monotonic()
    await until(
        lambda: len(crew.owners()) == EVERYTHING and gone not in crew.owners().values(), "owners for everything"
    )
    taken_over_s = time.monotonic() - began
    log.info("%s: taken over after %.2f s", how, taken_over_s)
    await load.more(10 * IN_FLIGHT)
    await crew.owned_by(*left)
    assert taken_over_s < TAKEN_OVER_MAX_S


async def test_workers_share_the_partitions_as_they_come_freeze_stop_and_die(
    own_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    await come_freeze_stop_and_die(own_broker, tmp_path)


@pytest.mark.long
async def test_so_they_do_on_a_cluster(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster") as cluster:
        await come_freeze_stop_and_die(cluster, tmp_path)


async def come_freeze_stop_and_die(servers: EmbeddedBroker | LocalCluster, folder: Path) -> None:
    async with crew_under_load(servers, folder) as (crew, load):
        first, second = crew.start(), crew.start()
        await crew.owned_by(first, second)
        assert sorted(crew.spread().values()) == [2, 2]

        crew.signal(first, signal.SIGSTOP)
        await taken_over(crew, load, "frozen", first, second)
        crew.signal(first, signal.SIGCONT)  # Two owners for a moment: it has frames, and believes that it is the one.
        third = crew.start()
        await crew.owned_by(first, second, third)
        assert sorted(crew.spread().values()) == [1, 1, 2]

        crew.signal(third, signal.SIGTERM)
        await taken_over(crew, load, "stopped", third, first, second)
        assert await crew.ended(third) == 0
        assert sorted(crew.spread().values()) == [2, 2]

        crew.signal(first, signal.SIGKILL)
        await taken_over(crew, load, "killed", first, second)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
async def test_workers_come_stop_die_and_freeze_at_random(
    own_broker: EmbeddedBroker, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    async with crew_under_load(own_broker, tmp_path) as (crew, load):
        there = [crew.start(), crew.start()]
        await crew.owned_by(*there)
        for _ in range(12):
            victim = chance.choice(there)
            match chance.choice(["join", "stop", "kill", "freeze"]):
                case "join" if len(there) < 3:
                    there.append(crew.start())
                case "freeze":
                    crew.signal(victim, signal.SIGSTOP)
                    await asyncio.sleep(chance.uniform(0.1, 2.5 * LEASE_S))
                    crew.signal(victim, signal.SIGCONT)
                case "kill" | "stop" as how if len(there) > 1:
                    there.remove(victim)
                    crew.signal(victim, signal.SIGKILL if how == "kill" else signal.SIGTERM)
                case _:
                    continue
            await load.more(5 * IN_FLIGHT)
            if chance.random() < 0.5:
                await crew.owned_by(*there)
        await crew.owned_by(*there)


@pytest.mark.long
def test_a_system_of_two_workers_and_several_partitions_takes_orders_to_their_end(tmp_path: Path) -> None:
    partitions = {"catalogue": 2, "orders": 4, "payments": 3, "checkout": 2, "inventory": 1}
    wanted = ",".join(f"{name}={number}" for name, number in partitions.items())
    with running_system(tmp_path / "data", TALLY_WORKERS="2", TALLY_PARTITIONS=wanted) as system:
        shop = Shop(system)
        skus = [shop.product(units=20) for _ in range(4)]
        placed = [shop.place(skus[number % 4])["order_id"] for number in range(24)]
        for order_id in placed:
            assert shop.settled(order_id)["status"] == "shipped"
        assert len(balanced(shop)) == len(placed)
        found = shop.http.get("/v1/services").json()["partitions"]
        everything = {each.name: partitions.get(each.name, 1) for each in compose.LOGS}
        assert Counter(each["domain"] for each in found) == everything
        sooner_or_later(lambda: _both_have_some(shop), "two workers that share orders and payments")
        whole_and_rebuilt(system)
        shop.close()


def _both_have_some(shop: Shop) -> bool:
    """Each of the two workers serves orders, and payments. They share one partition after the other."""
    its: dict[str, set[str]] = {}
    for each in shop.http.get("/v1/services").json()["partitions"]:
        if each["state"] != "serving":
            return False
        if each["domain"] in ("orders", "payments"):
            its.setdefault(each["owner"], set()).add(each["domain"])
    return len(its) == 2 and all(len(domains) == 2 for domains in its.values())
