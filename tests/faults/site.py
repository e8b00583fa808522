"""Where a shop writes: a broker, command workers and a projector, as real processes on one folder, to kill at will.

The workers are the product's own (`tally work`): engines start from the states that the projector stores, and the log's
tail. Like the product's supervisor, a site brings back what ended; unlike it, it tells an engine that halted, for there
is nothing to bring back then.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from bus.logs.jetstream import JetStreamLog
from bus.logs.log import WHAT_TO_DO, Record
from bus.servers.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.servers.connection import close, connect
from bus.servers.lifetime import die_with_parent
from domains.inventory.stock import inventory
from domains.orders.order import orders
from tests.faults.checker import Violation, violations
from tests.faults.load import Witness
from tests.faults.planted import AnyDomain
from tests.system import REPOSITORY, TALLY, descendants, environment_of

DOMAINS: tuple[AnyDomain, ...] = (orders, inventory)  # type: ignore[assignment]  # Each is typed in itself.
PASSWORD = "only-for-this-test"
VIOLATIONS_TOLD_MAX = 10


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
        """Those that run engines."""
        self.projector: subprocess.Popen[bytes] | None = None
        self.gateway: subprocess.Popen[bytes] | None = None
        self.http_port = free_port()
        self.environment = environment_of(
            self.data,
            TALLY_NATS_URL=settings.url,
            TALLY_NATS_SYSTEM_URL=settings.system_url,
            TALLY_UNSAFE="" if sync == "always" else "lazy-sync",
            TALLY_LOG_LEVEL="WARNING",
        )

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        self.broker.start()
        self.start_worker()
        self.start_projector()

    def start_worker(self) -> None:
        self.workers.append(self._run(self.said, "work", "--part", "commands"))

    def start_projector(self) -> None:
        self.projector = self._run(self.said.with_name("projector.log"), "work", "--part", "projections")

    def start_gateway(self) -> None:
        """Which not every test needs."""
        self.gateway = self._run(self.said.with_name("gateway.log"), "serve", "--port", str(self.http_port))

    def supervise(self) -> None:
        """Bring back what has ended by itself, engines where all have. Raises `WorkerHalted`."""
        if self.projector is None or self.projector.poll() is not None:
            self.start_projector()
        if any(worker.poll() is None for worker in self.workers):
            return
        if said := self.halted():
            raise WorkerHalted(said)
        self.workers.clear()
        self.start_worker()

    def halted(self) -> str:
        """What the engines said of a log that is not what it was; empty when they said nothing of it."""
        lines = self.said.read_text(errors="replace").splitlines()
        return next((line for line in lines if WHAT_TO_DO in line), "")

    def kill_workers(self) -> None:
        """`kill -9`, stopped ones too."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.workers.clear()

    def kill_projector(self) -> None:
        if self.projector is not None:
            self.projector.kill()
            self.projector.wait()
        self.projector = None

    def kill_gateway(self) -> None:
        """With the process that serves for it; stopped first, so that it does not start one more meanwhile."""
        if self.gateway is not None:
            self.gateway.send_signal(signal.SIGSTOP)
            for pid in [*descendants(self.gateway.pid), self.gateway.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.gateway.wait()
        self.gateway = None

    def pause_broker(self) -> None:
        os.kill(self.broker.pid, signal.SIGSTOP)

    def resume_broker(self) -> None:
        os.kill(self.broker.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.kill_workers()
        self.kill_projector()
        self.kill_gateway()
        self.broker.kill()

    def _run(self, said: Path, *arguments: str) -> subprocess.Popen[bytes]:
        with said.open("ab") as output:
            return subprocess.Popen(
                [*TALLY, *arguments],
                env=self.environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )


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
