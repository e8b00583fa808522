"""Where a shop writes: a broker and its command workers, as real processes on one folder, to be killed at will.

The workers are the product's own (`tally work --part commands`). Like its supervisor, a site brings back what ended;
unlike it, it tells a worker that halted, for there is nothing to bring back then.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

from bus.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.connection import close, connect
from bus.jetstream import JetStreamLog
from bus.lifetime import die_with_parent
from bus.log import Record
from domains.inventory.stock import inventory
from domains.orders.order import orders
from tests.faults.checker import Violation, violations
from tests.faults.load import Witness
from tests.faults.planted import AnyDomain
from tests.system import REPOSITORY, TALLY, environment_of

DOMAINS: tuple[AnyDomain, ...] = (orders, inventory)  # type: ignore[assignment]  # Each is typed in itself.
PASSWORD = "only-for-this-test"
VIOLATIONS_TOLD_MAX = 10
HALTED = ("LogDamaged", "halts:", "records are gone", "does not continue")
"""What a worker says that stopped for good because its log is not what it was."""


class WorkerHalted(Exception):
    """A worker ended and said that the log is damaged."""


class Site:
    """`folder` is on the disk that crashes with it; `output` is where its processes may write what they have to say."""

    def __init__(self, folder: Path, output: Path, sync: str = "always") -> None:
        self.folder = folder
        self.said = output / "workers.log"
        settings = BrokerSettings(folder=folder / "broker", port=free_port(), password=PASSWORD, sync=sync)
        self.broker = EmbeddedBroker(settings)
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.broker.start()
        self.start_worker()

    def start_worker(self) -> None:
        with self.said.open("ab") as said:
            worker = subprocess.Popen(
                [*TALLY, "work", "--part", "commands"],
                env=environment_of(self.folder / "data", TALLY_NATS_URL=self.broker.url, TALLY_LOG_LEVEL="WARNING"),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        self.workers.append(worker)

    def supervise(self) -> None:
        """Bring back a worker where all have ended by themselves. Raises `WorkerHalted`."""
        if any(worker.poll() is None for worker in self.workers):
            return
        if said := self.halted():
            raise WorkerHalted(said)
        self.workers.clear()
        self.start_worker()

    def halted(self) -> str:
        """What the workers said of a log that is not what it was; empty when they said nothing of it."""
        lines = self.said.read_text(errors="replace").splitlines()
        return next((line for line in lines if any(word in line for word in HALTED)), "")

    def kill_workers(self) -> None:
        """`kill -9`, stopped ones too."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.workers.clear()

    def pause_broker(self) -> None:
        os.kill(self.broker.pid, signal.SIGSTOP)

    def resume_broker(self) -> None:
        os.kill(self.broker.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.kill_workers()
        self.broker.kill()


async def epochs(site: Site) -> dict[str, str]:
    """Which logs these are; made where there are none."""
    client = await connect(site.broker.url, "epochs")
    try:
        return {domain.name: (await JetStreamLog.open(client, domain.name)).epoch for domain in DOMAINS}
    finally:
        await close(client)


async def check(site: Site, witness: Witness, epochs: dict[str, str]) -> list[Violation]:
    """What the checker says of the logs and of the answers that were heard before they were read. Load may go on."""
    now = witness.ticks
    records: dict[str, list[Record]] = {}
    client = await connect(site.broker.url, "checker")
    try:
        for domain in DOMAINS:
            log = await JetStreamLog.open(client, domain.name)
            records[domain.name] = [record async for batch in log.read(until=await log.head()) for record in batch]
    finally:
        await close(client)
    asked = [one if one.ended <= now else replace(one, ended=0, answer=None) for one in witness.asked]
    return [
        violation
        for domain in DOMAINS
        for violation in violations(domain, epochs[domain.name], asked, records[domain.name])
    ]


def told(found: list[Violation]) -> str:
    """The first of them, for people."""
    return "\n".join([f"{len(found)} promises broken", *map(str, found[:VIOLATIONS_TOLD_MAX])])
