"""What does it cost that every acknowledged command is on disk? The engine against the ways that others append.

Everything runs in one process against one embedded nats-server with `sync_interval: always`, in rounds that take
turns, so that a noisy neighbour meets all of them. The baselines, each with the same commit of one placed order:

- `plain`: a `js.publish` with an expectation a command, one subject an aggregate (what most systems do);
- `async`: `publish_async`, as many in flight;
- `blocks`: a bare loop of blocks with no domain, no checks, no answers to tell apart (the ceiling);
- `engine`: the command engine in process, deciding orders.

Budgets, in flight: 1,024: engine >= 18x plain and >= 0.6x blocks; 64: >= 9x plain; 16: >= 4x; one: at most 1.3x the
time of plain.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

from msgspec import Raw
from nats.aio.client import Client
from nats.js.api import StreamConfig

from bench.closed_loop import closed_loop
from bench.report import Environment, Report, Result, budget, environment, result
from bus.blocks import GENESIS, Commit, hash_of, seal
from bus.broker import BrokerSettings, EmbeddedBroker, free_port
from bus.commands import Envelope, Stored, encode
from bus.connection import close, connect
from bus.engine import Engine
from bus.jetstream import JetStreamLog
from bus.log import Appended
from domains.orders.messages import OrderLine, PlaceOrder
from domains.orders.order import orders

IN_FLIGHT = (1, 16, 64, 256, 1_024)
SYNC = "always"
ROUNDS = 3
ROUND_S = 2.0
"""About how long a round of one way and one number in flight takes."""
QUICK_ROUND_S = 0.5
DEADLINE_S = 3_600.0

Round = tuple[float, list[float]]
Way = Callable[[int, int], Awaitable[Round]]
"""Does so many operations with so many in flight."""


async def run(*, quick: bool, told: Callable[[str], None] = lambda line: None) -> Report:
    """The whole benchmark; under a minute when `quick`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)  # As the workers run.
    with tempfile.TemporaryDirectory(prefix="tallystream-bench-") as folder:
        machine = environment(SYNC, Path(folder))
        settings = BrokerSettings(Path(folder), free_port(), uuid4().hex, sync=SYNC)
        with EmbeddedBroker(settings) as broker:
            client = await connect(broker.url, "bench")
            try:
                results = await _measure(client, QUICK_ROUND_S if quick else ROUND_S, told)
            finally:
                await close(client)
    return _report(machine, results)


async def _measure(client: Client, round_s: float, told: Callable[[str], None]) -> list[Result]:
    ways: dict[str, Way] = {
        "plain": await _plain(client),
        "async": await _async(client),
        "blocks": await _blocks(client),
        "engine": await _engine(client),
    }
    results: list[Result] = []
    for in_flight in IN_FLIGHT:
        rounds: dict[str, list[Round]] = {name: [] for name in ways}
        sizes: dict[str, int] = {}
        for name, way in ways.items():  # How many operations fill a round; this also warms up.
            spent_s, times = await way(4 * in_flight + 100, in_flight)
            sizes[name] = max(4 * in_flight, int(len(times) / spent_s * round_s))
        for _ in range(ROUNDS):
            for name, way in ways.items():
                rounds[name].append(await way(sizes[name], in_flight))
        for name in ways:
            results.append(result(f"{name}_{in_flight}", rounds[name]))
            told(f"{name} at {in_flight} in flight: {results[-1].rate_per_s:,.0f}/s, p50 {results[-1].p50_ms} ms")
    return results


def _report(machine: Environment, results: list[Result]) -> Report:
    by_name = {each.name: each for each in results}

    def rate(over: str, under: str, in_flight: int) -> float:
        return round(by_name[f"{over}_{in_flight}"].rate_per_s / by_name[f"{under}_{in_flight}"].rate_per_s, 3)

    ratios = {f"engine/plain_{n}": rate("engine", "plain", n) for n in IN_FLIGHT}
    ratios |= {f"engine/blocks_{n}": rate("engine", "blocks", n) for n in IN_FLIGHT}
    ratios["engine/plain_p50_1"] = round(by_name["engine_1"].p50_ms / by_name["plain_1"].p50_ms, 3)
    budgets = [
        budget("engine/plain_1024", 18.0, ratios),
        budget("engine/blocks_1024", 0.6, ratios),
        budget("engine/plain_64", 9.0, ratios),
        budget("engine/plain_16", 4.0, ratios),
        budget("engine/plain_p50_1", 1.3, ratios, at_most=True),
    ]
    return Report("append", machine, results, ratios, budgets)


def _command(name: str) -> PlaceOrder:
    return PlaceOrder(name, "customer-1", "EUR", (OrderLine("sku-1", "A product", "a-category", 1, 1_250),))


def _commit(name: str) -> bytes:
    """What the engine writes for one placed order."""
    (event,) = orders.decide({name: orders.initial(name)}, _command(name))
    return encode(Commit(name, name, 1, [event], digest="d" * 32, actor="customer:customer-1", correlation=name))


async def _plain(client: Client) -> Way:
    stream = client.jetstream()
    await stream.add_stream(StreamConfig(name="plain", subjects=["plain.*"], allow_direct=True))
    commit = _commit("o" * 12)

    async def way(n: int, in_flight: int) -> Round:
        tag = uuid4().hex[:8]

        async def one(number: int) -> None:
            headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
            await stream.publish(f"plain.{tag}-{number}", commit, headers=headers)

        return await closed_loop(lambda number: asyncio.ensure_future(one(number)), n, in_flight)

    return way


async def _async(client: Client) -> Way:
    commit = _commit("o" * 12)
    setup = client.jetstream()
    await setup.add_stream(StreamConfig(name="async", subjects=["async.*"], allow_direct=True))

    async def way(n: int, in_flight: int) -> Round:
        stream = client.jetstream(publish_async_max_pending=in_flight)
        times: list[float] = []

        def ended(started: float, _: object) -> None:
            times.append(time.perf_counter() - started)

        began = time.perf_counter()
        for number in range(n):
            started = time.perf_counter()
            acknowledged = await stream.publish_async(f"async.{number % 1_000}", commit)
            acknowledged.add_done_callback(partial(ended, started))
        await stream.publish_async_completed()
        await asyncio.sleep(0)  # The callbacks of the last ones are due in this turn of the loop.
        assert len(times) == n
        return time.perf_counter() - began, times

    return way


async def _blocks(client: Client) -> Way:
    log = await JetStreamLog.open(client, "blocks")
    commit = _commit("o" * 12)
    at_most = 512 * 1024 // (len(commit) + 1) - 2
    prev, sequence = GENESIS, 0

    async def way(n: int, in_flight: int) -> Round:
        nonlocal prev, sequence
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < n:
            started = time.perf_counter()
            count = min(in_flight, at_most, n - len(times))
            block = seal(log.epoch, datetime.now(UTC), prev, [commit] * count)
            block_hash = hash_of(block)
            outcome = await log.append(0, block, block_hash, sequence)
            assert isinstance(outcome, Appended)
            prev, sequence = block_hash, outcome.sequence
            times += [time.perf_counter() - started] * count
        return time.perf_counter() - began, times

    return way


async def _engine(client: Client) -> Way:
    engine = Engine(orders, await JetStreamLog.open(client, "orders"))
    await engine.start()

    async def way(n: int, in_flight: int) -> Round:
        tag = uuid4().hex[:8]
        deadline = time.time() + DEADLINE_S
        names = [f"{tag}-{number}" for number in range(n)]
        frames = [
            [Envelope(name, deadline, Raw(encode(_command(name))), actor="customer:customer-1", correlation=name)]
            for name in names
        ]
        done = await closed_loop(lambda number: engine.submit(frames[number]), n, in_flight)
        (answer,) = await engine.submit(frames[-1])  # Not in the time: what was measured was really stored.
        assert isinstance(answer, Stored)
        assert answer.repeated
        return done

    return way
