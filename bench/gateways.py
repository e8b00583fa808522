"""How much more do two gateway processes answer than one?

A whole system as `tally up` runs it, with the events of many orders (500,000; a quick run: 50,000), and beside it two
gateways of their own, with one process and with two. Load by wrk on the same cores at 256 connections, in rounds that
take turns; broker and workers have nothing to do:

- `http_order_one`, `http_order_two`: `GET /v1/orders/{id}`, as in `bench/query.py`.

wrk and whatever else runs needs cores, too, and with two of them a second process has only what those leave it. So
beside the rates stands the measured reason: `*_gateway_us` and `*_wrk_us`, the processor time that a request takes of
the gateway and of wrk; `*_gateway_cores`, `*_wrk_cores` and `*_other_cores`, how many cores these and all else on this
machine had; and `two_possible`, how many times as much as one process with a core to itself two could answer, if they
and wrk had all cores at what a request takes of both.

Budget: http_order_two >= 1.6x http_order_one.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx

from bench import wrk
from bench.children import Child, child
from bench.lives import ORDER_ID, orders_in
from bench.report import Report, budget, environment, line, rates, ratio, result
from bench.rounds import Pace, Round, Told, take_turns
from bench.server import ALWAYS
from bench.shop import Shop, shop_with_orders
from bus.servers.broker import free_port
from gateway.runtime.supervisor import until

EVENTS = 500_000
QUICK_EVENTS = 50_000
CONNECTIONS = 256
PROCESSES = {"one": 1, "two": 2}
READY_TIMEOUT_S = 30.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    n = QUICK_EVENTS if quick else EVENTS
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as name:
        folder = Path(name)
        machine = environment(ALWAYS, folder)
        if not wrk.installed():
            told("skipped: gateways: wrk is not installed")
            return Report("gateways", machine, [], skipped=["gateways: wrk is not installed"], quick=quick)
        told(f"starting a system on {n:,} events")
        async with (
            shop_with_orders(folder, n) as shop,
            _gateway(shop, folder, "one") as one,
            _gateway(shop, folder, "two") as two,
        ):
            ways = {f"http_order_{each.name}": partial(each.answer, orders_in(n), folder) for each in (one, two)}
            rounds = await take_turns(ways, pace)
    results = [result(name, of_way) for name, of_way in rounds.items()]
    for each in results:
        told(line(each))
    ratios = {"two/one": ratio("http_order_two", "http_order_one", rates(results))}
    figures = {**one.figures(), **two.figures(), "two_possible": possible(one.takes(), two.takes(), machine.cores)}
    return Report("gateways", machine, results, ratios, [budget("two/one", 1.6, ratios)], figures, quick=quick)


class Takes(NamedTuple):
    """What a request takes of the processor time of either."""

    gateway_us: float
    wrk_us: float


class _Used(NamedTuple):
    """Of a round. `took_s` is by the clock, longer than the time for which wrk counts answers; the others are of
    processor time, `machine_s` of all that runs on it."""

    requests: int
    took_s: float
    gateway_s: float
    wrk_s: float
    machine_s: float


class _Gateway:
    def __init__(self, name: str, url: str, token: str, running: Child) -> None:
        self.name = name
        self._url = url
        self._token = token
        self._running = running
        self._used: list[_Used] = []

    async def answer(self, ids: int, folder: Path, seconds: float) -> Round:
        page = wrk.Page(self._url, f"/v1/orders/{ORDER_ID}", ids, self._token)
        before, began = self._times_s(), time.perf_counter()
        done = await wrk.get(page, CONNECTIONS, seconds, folder)
        took_s = time.perf_counter() - began
        used_s = (now - then for now, then in zip(self._times_s(), before, strict=True))
        self._used.append(_Used(done.n, took_s, *used_s))
        return done

    def takes(self) -> Takes:
        return Takes(
            self._median(lambda used: used.gateway_s / used.requests * 1e6),
            self._median(lambda used: used.wrk_s / used.requests * 1e6),
        )

    def figures(self) -> dict[str, float]:
        takes = self.takes()._asdict()
        cores = {
            "gateway_cores": self._median(lambda used: used.gateway_s / used.took_s),
            "wrk_cores": self._median(lambda used: used.wrk_s / used.took_s),
            "other_cores": self._median(lambda used: (used.machine_s - used.gateway_s - used.wrk_s) / used.took_s),
        }
        return {f"{self.name}_{what}": round(value, 2) for what, value in {**takes, **cores}.items()}

    def _median(self, of: Callable[[_Used], float]) -> float:
        return median(map(of, self._used[1:]))  # The first round warmed up.

    def _times_s(self) -> tuple[float, float, float]:
        """Until now: the gateway's with all its processes, wrk's, the machine's."""
        waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)  # wrk alone ends while this counts.
        gateway_s = sum(map(_time_s, _with_children(self._running.pid)))
        return gateway_s, waited_for.ru_utime + waited_for.ru_stime, _machine_s()


def possible(one: Takes, two: Takes, cores: int) -> float:
    """One process has a core to itself, less where that is not so; of two both and wrk share all cores."""
    most_of_one = 1 / one.gateway_us
    most_of_two = min(2 / two.gateway_us, cores / (two.gateway_us + two.wrk_us))
    return round(most_of_two / most_of_one, 2)


@asynccontextmanager
async def _gateway(shop: Shop, folder: Path, name: str) -> AsyncIterator[_Gateway]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with _serving(shop, folder, name, port) as running:
        async with httpx.AsyncClient(base_url=url) as http:

            async def ready() -> bool:
                running.check()
                try:
                    return (await http.get("/readyz")).is_success
                except httpx.TransportError:
                    return False

            if not await until(ready, READY_TIMEOUT_S):
                raise TimeoutError(f"the gateway with {name} was not ready after {READY_TIMEOUT_S:g} s")
        yield _Gateway(name, url, shop.token, running)


@contextmanager
def _serving(shop: Shop, folder: Path, name: str, port: int) -> Iterator[Child]:
    """A gateway on this system, as `tally up` starts one."""
    workers = str(PROCESSES[name])
    command = [sys.executable, "-m", "gateway.cli.main", "serve", "--port", str(port), "--workers", workers]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("TALLY_")}
    settings = {"TALLY_DATA_DIR": str(shop.settings.data_dir), "TALLY_LOG_LEVEL": "WARNING"}
    metrics = {"PROMETHEUS_MULTIPROC_DIR": str(shop.settings.metrics_dir)}
    with child(f"gateway-{name}", command, folder, {**inherited, **settings, **metrics}) as running:
        yield running


def _with_children(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for below in (task / "children").read_text().split():
            yield from _with_children(int(below))


def _time_s(pid: int) -> float:
    """The processor time of a process that runs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _machine_s() -> float:
    """The processor time of all that ever ran: neither idle nor waiting for a disk."""
    user, nice, system, _, _, irq, soft_irq, *_ = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    return sum(map(int, (user, nice, system, irq, soft_irq))) / TICKS_PER_S
