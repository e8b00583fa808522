"""The whole system as users run it: `tally up` as a process of its own, and what tests ask of it over HTTP and NATS."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import msgspec
from msgspec import Struct

from bus.commands import Answer
from bus.logs.blocks import Block, Commit
from bus.logs.jetstream import JetStreamLog
from bus.servers.connection import close, connect
from gateway import compose
from gateway.http.tokens import Role, Tokens
from gateway.runtime.running import Running
from gateway.settings import Settings, jwt_secret

PATIENCE_S = 60.0
"""After this long what a test waits for will not come."""
REPOSITORY = Path(__file__).parent.parent
TALLY = [sys.executable, "-m", "gateway.cli.main"]

Result = TypeVar("Result")
Json = dict[str, Any]


def until(
    condition: Callable[[], Result | None], what: str, patience_s: float = PATIENCE_S, every_s: float = 0.05
) -> Result:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + patience_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(every_s)
    return result


def environment_of(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a `tally` on this data folder, free of what the caller's own may say."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
    return {**inherited, "TALLY_DATA_DIR": str(folder), "TALLY_HTTP_PORT": "0", **more}


def tally(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end, bounded."""
    return subprocess.run(
        [*TALLY, *arguments],
        env=environment_of(folder, **environment),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Inside:
    """A NATS connection of our own, in a thread with a loop: what the logs hold, for tests that are not async."""

    def __init__(self, where: Running, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = self._run(connect(where.nats_url, "tests", identity=where.operator))
        self._logs = self._run(compose.open_logs(self._client, settings))
        self._sender = compose.sender(self._client, self._logs)

    def heads(self) -> dict[str, int]:
        """Each log's last position."""
        return {name: self._run(log.head()) for name, log in self._logs.items()}

    def commits(self, domain: str) -> list[Commit[Json]]:
        return self._run(_commits(self._logs[domain]))

    def send(self, command: Struct) -> Answer:
        """What is no part of the gateway."""
        return self._run(self._sender.send(command, id=unique("test"), actor="tests"))

    def timers(self) -> set[str]:
        """The keys for which one is set."""
        info = self._run(self._client.jetstream().stream_info("timers", subjects_filter="timers.set.>"))
        return {subject.rpartition(".")[2] for subject in info.state.subjects or {}}

    def timers_set(self) -> int:
        """How many were ever set, and came due."""
        return self._run(self._client.jetstream().stream_info("timers")).state.last_seq

    def close(self) -> None:
        self._run(close(self._client))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


async def _commits(log: JetStreamLog) -> list[Commit[Json]]:
    decoder = msgspec.json.Decoder(Block[Json])
    found: list[Commit[Json]] = []
    async for batch in log.read(0, await log.head()):
        for record in batch:
            found += decoder.decode(record.data).commits
    return found


class System:
    """`tally up` on a data folder. `start` returns once everything is ready."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = environment_of(folder, **environment)
        self.output = folder.with_name(f"{folder.name}.output")
        self.process: subprocess.Popen[bytes] | None = None
        self.running = Running(0, "", "", "", "")
        self._inside: Inside | None = None

    @property
    def settings(self) -> Settings:
        return Settings(data_dir=self.folder)

    @property
    def said(self) -> str:
        """Everything that `tally up` wrote to its terminal."""
        return self.output.read_text(errors="replace")

    def launch(self) -> None:
        """Start it and do not wait."""
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*TALLY, "up"],
                env=self.environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def start(self) -> None:
        self.launch()
        process = self.process
        assert process is not None

        def is_up() -> bool:
            assert process.poll() is None, self.said
            return "Tallystream is up" in self.said

        until(is_up, "the start")
        self.running = msgspec.json.decode((self.folder / "run.json").read_bytes(), type=Running)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code."""
        if self._inside is not None:
            self._inside.close()
            self._inside = None
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()

    @property
    def inside(self) -> Inside:
        if self._inside is None:
            replicas = int(self.environment.get("TALLY_REPLICAS", "1"))
            self._inside = Inside(self.running, Settings(data_dir=self.folder, replicas=replicas))
        return self._inside

    def token(self, role: Role, subject: str, ttl_s: int = 3_600) -> str:
        return Tokens(jwt_secret(self.settings)).issue(role, subject, ttl_s)

    def options(self, role: Role, subject: str) -> Json:
        """What an httpx client of somebody needs."""
        headers = {"Authorization": f"Bearer {self.token(role, subject)}"}
        return {"base_url": self.running.http_url, "headers": headers, "timeout": PATIENCE_S, "verify": False}

    def ledger(self) -> Json:
        """What the provider believes."""
        url = f"{self.running.provider_url}/ledger"
        found: Json = httpx.get(url, timeout=PATIENCE_S, verify=self.running.trust).json()
        return found

    def parcels(self) -> Json:
        """What the carrier believes."""
        url = f"{self.running.carrier_url}/ledger"
        found: Json = httpx.get(url, timeout=PATIENCE_S, verify=self.running.trust).json()
        return found

    def quiet(self) -> None:
        """Wait until nothing is under way any more: every reactor stands at the end of what it reads."""
        until(self._is_quiet, "quiet", every_s=0.1)

    def holds_no_alarm(self) -> None:
        """Wait until every deadline there is has been set: what is settled soon never is."""
        logs = {f"{name}-alarms": name for name in compose.timings()}

        def none_held() -> bool:
            heads, stands = self.inside.heads(), self._stands()
            return all(heads[log] <= max(1, stands.get(alarms, 0)) for alarms, log in logs.items())

        until(none_held, "the end of what is held", every_s=0.1)

    def _stands(self) -> dict[str, int]:
        """Up to where every reactor has come. None may have given anything up."""
        with closing(sqlite3.connect(f"{(self.folder / 'reactors.db').as_uri()}?mode=ro", uri=True)) as database:
            given_up = database.execute("SELECT * FROM parked").fetchall()
            assert not given_up, f"reactions were given up: {given_up}"
            return dict(database.execute("SELECT reactor, sequence FROM checkpoint").fetchall())

    def _is_quiet(self) -> bool:
        heads, stands = self.inside.heads(), self._stands()
        wanted = {f"{process.domain.name}-from-{log}": log for process in compose.PROCESSES for log in process.observes}
        wanted |= {f"{process.domain.name}-relay": process.domain.name for process in compose.PROCESSES}
        wanted |= {f"{policy.name}-from-{log}": log for policy in compose.POLICIES for log in policy.observes}
        wanted |= {effects.name: effects.log for effects in compose.effects()}
        behind = [name for name, log in wanted.items() if heads[log] > 1 and stands.get(name, 0) < heads[log]]
        return not behind and self.inside.heads() == heads


@contextmanager
def running_system(folder: Path, **environment: str) -> Iterator[System]:
    system = System(folder, **environment)
    system.start()
    try:
        yield system
    finally:
        system.stop()


class Shop:
    """What a shop's staff does over HTTP, in one line each."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.http = httpx.Client(**system.options("admin", "tests"))
        self._held: set[str] = set()

    def product(self, units: int = 0, price_cents: int = 1_000, category: str = "things", currency: str = "EUR") -> str:
        """A new product's SKU, with units on the shelf."""
        sku = unique("sku")
        body = {"name": f"Product {sku}", "category": category, "price_cents": price_cents, "currency": currency}
        assert self.http.put(f"/v1/products/{sku}", json=body).status_code == 201
        if units:
            self.receive(sku, units)
        return sku

    def receive(self, sku: str, units: int) -> None:
        receipt = {"receipt_id": unique("receipt"), "quantity": units}
        assert self.http.post(f"/v1/stock/{sku}/receipts", json=receipt).status_code == 201

    def place(self, sku: str, quantity: int = 1, **more: object) -> Json:
        """A placed order, as it was answered."""
        answer = self.http.post("/v1/orders", json=order_of(sku, quantity, **more))
        assert answer.status_code == 201, answer.text
        placed: Json = answer.json()
        if more.get("shipping_token") == HELD["shipping_token"]:
            self._held.add(placed["order_id"])
        return placed

    def order(self, order_id: str) -> Json:
        answer = self.http.get(f"/v1/orders/{order_id}")
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def settled(self, order_id: str) -> Json:
        """The order once it is shipped or cancelled, or paid where it was placed `HELD`, and its money and goods are
        where they belong: after all that is written now."""
        headers = {"Min-Position": f"orders={self.system.inside.heads()['orders']}", "Prefer": "wait=30"}
        path = f"/v1/orders/{order_id}"
        held = order_id in self._held

        def there() -> Json | None:
            answer = self.http.get(path, headers=headers)
            order: Json = answer.json() if answer.status_code == 200 else {}
            return order if order and (is_settled(order) or (held and waits_for_the_carrier(order))) else None

        return until(there, f"the end of order {order_id}")

    def held(self, sku: str, quantity: int = 1, **more: object) -> Json:
        """A settled order that may still be cancelled."""
        return self.settled(self.place(sku, quantity, **HELD, **more)["order_id"])

    def stock(self, sku: str) -> tuple[int, int, int]:
        """On hand, reserved, available."""
        level = self.http.get(f"/v1/stock/{sku}").json()
        return level["on_hand"], level["reserved"], level["available"]

    def caught_up(self) -> None:
        """Wait until every read model shows all that the logs hold."""
        heads = self.system.inside.heads()
        positions = ",".join(f"{log}={head}" for log, head in heads.items())
        headers = {"Min-Position": positions, "Prefer": "wait=30"}
        reads = (
            "products",
            "orders",
            "reports/sales?by=status",
            "payments/nothing",
            "shipments/nothing",
            "orders/nothing",
            "invoices/nothing",
            "loyalty/nothing",
            "notices?order_id=nothing",
            "recommendations",
        )
        for path in reads:
            assert self.http.get(f"/v1/{path}", headers=headers).status_code in (200, 404)

    def close(self) -> None:
        self.http.close()


HELD: Json = {"shipping_token": "ship_later"}
"""An order that is placed with this waits, paid, for a carrier that comes when it is told to."""


def _parts(order: Json) -> tuple[str, str]:
    payment, shipment = ((order[part] or {"status": ""})["status"] for part in ("payment", "shipment"))
    return payment, shipment


def is_settled(order: Json) -> bool:
    """Whether it is shipped or cancelled, and its money and goods are where they belong."""
    payment, shipment = _parts(order)
    if order["status"] == "shipped":
        return (payment, shipment) == ("captured", "picked_up")
    given_back = payment in ("", "declined", "refunded") and shipment in ("", "refused", "cancelled")
    return order["status"] == "cancelled" and given_back


def waits_for_the_carrier(order: Json) -> bool:
    """Whether it is paid, and a pickup was promised."""
    return order["status"] == "paid" and _parts(order) == ("captured", "scheduled")


def order_of(sku: str, quantity: int = 1, **more: object) -> Json:
    """The body of an order for one product."""
    return {"customer_id": "customer-1", "currency": "EUR", "lines": [{"sku": sku, "quantity": quantity}], **more}


def unique(what: str) -> str:
    """An id that no other test uses."""
    return f"{what}-{uuid4().hex[:12]}"


def descendants(pid: int) -> dict[int, str]:
    """The processes below one, each with its command line."""
    rows = subprocess.run(
        ["ps", "-ww", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    children: dict[int, list[tuple[int, str]]] = {}
    for row in rows.splitlines():
        child, parent, command = row.split(None, 2)
        children.setdefault(int(parent), []).append((int(child), command))
    found: dict[int, str] = {}
    left = [pid]
    while left:
        for number, command in children.get(left.pop(), []):
            found[number] = command
            left.append(number)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
