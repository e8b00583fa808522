"""How fast is a read model rebuilt from the log, beside those who read the log and do nothing?

One history of orders (`bench/lives.py`; 1,000,000 events, in a quick run 60,000), stored in blocks of 500 commits, in
blocks of one commit each, and a message a commit. In rounds that take turns:

- `summary`: `order_summary` built from blocks; `summary_small_blocks`: from blocks of one commit;
- `all_models`: all read models of the orders at once, from blocks;
- `consumer_messages`: nats-py's ordered consumer with an empty callback, on a message a commit (the usual layout);
  `consumer_blocks`: the same on the blocks;
- `finished_rows`: the rows of `order_summary` written by `executemany`, no broker;
- `eventsourcing`: the library pyeventsourcing replaying the same events into the same table (20,000 of them, in a
  quick run 3,000).

Rates are in events a second; a time is that of a whole replay. Python's cycle collector is calmed for all of them, as
it is in the product's worker. Read models are in SQLite's WAL mode with `synchronous = NORMAL`, as the product keeps
them. Every build is checked to have seen all events. Reported: what this process holds before and after the last
`summary`.

Budgets: summary >= 2.5x consumer_messages and >= 25x eventsourcing; summary_small_blocks >= 0.8x consumer_messages;
all_models >= 0.5x summary.
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from bench.baselines.finished_rows import writing_rows
from bench.baselines.ordered_consumer import of_its_own, reading_all
from bench.building import OF_ORDERS, build
from bench.histories import in_blocks, one_a_message
from bench.report import Bars, Report, budget, line, rates, ratio, result
from bench.rounds import Pace, Round, Told, Way, take_turns
from bench.server import Server, filled, rss_bytes
from bench.stored import expect
from bus.logs.jetstream import JetStreamLog
from gateway.runtime.collector import calm_the_collector
from projections.order_summary import order_summary
from projections.projection import Projection

EVENTS = 1_000_000
QUICK_EVENTS = 60_000
LIBRARY_EVENTS = 20_000
QUICK_LIBRARY_EVENTS = 3_000
BLOCKS, SMALL, MESSAGES = "orders", "small", "messages"
"""The layouts' streams."""

Do = Callable[[], Awaitable[Round]]


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    calm_the_collector()
    n = QUICK_EVENTS if quick else EVENTS
    skipped: list[str] = []
    told(f"writing {n:,} events in three layouts")
    async with filled(partial(_three_layouts, n)) as server, of_its_own(server.url) as client:
        blocks, small = await server.log(BLOCKS), await server.log(SMALL)
        gc.collect()
        memory = _Memory()
        rows = await build(blocks, (order_summary,), server.folder / "rows")
        ways: dict[str, Do] = {
            "summary": memory.watching(building(blocks, (order_summary,), server.folder / "summary", n)),
            "summary_small_blocks": building(small, (order_summary,), server.folder / "small", n),
            "all_models": building(blocks, OF_ORDERS, server.folder / "all", n),
            "consumer_messages": await reading_all(client, MESSAGES, f"{MESSAGES}.*", n),
            "consumer_blocks": await reading_all(client, blocks.name, f"log.{blocks.name}.*", n),
            "finished_rows": writing_rows(rows.paths[0], order_summary, server.folder, n),
        }
        with _library(server.folder, QUICK_LIBRARY_EVENTS if quick else LIBRARY_EVENTS, skipped) as found:
            rounds = await take_turns({name: whole_rounds(do) for name, do in {**ways, **found}.items()}, pace)
    results = [result(name, its_rounds) for name, its_rounds in rounds.items()]
    for each in results:
        told(line(each))
    for reason in skipped:
        told(f"skipped: {reason}")
    ratios = _ratios(rates(results))
    budgets = [
        budget(name, wanted, ratios)
        for name, wanted in (
            ("summary/consumer_messages", 2.5),
            ("summary/eventsourcing", 25.0),
            ("summary_small_blocks/consumer_messages", 0.8),
            ("all_models/summary", 0.5),
        )
        if name in ratios
    ]
    bars = [Bars("rate", "Events a second, replayed", "rate_per_s", [each.name for each in results])]
    return Report(
        "rebuild", server.environment, results, ratios, budgets, memory.figures, skipped, quick=quick, bars=bars
    )


async def _three_layouts(n: int, server: Server) -> None:
    await in_blocks(server.client, await server.log(BLOCKS), n)
    await in_blocks(server.client, await server.log(SMALL), n, commits=1)
    await one_a_message(server.client, MESSAGES, n)


def building(log: JetStreamLog, projections: Sequence[Projection], folder: Path, n: int) -> Do:
    """Build these read models from a log of `n` events, and remove them again."""

    async def do() -> Round:
        began = time.perf_counter()
        built = await build(log, projections, folder)
        spent_s = time.perf_counter() - began
        expect(built.events, n, "the read model")
        expect(built.sequence, await log.head(), "the read model's position")
        built.remove()
        return Round(spent_s, array("d", [spent_s]), n)

    return do


def whole_rounds(do: Do) -> Way:
    """A way whose round is a whole replay, however long that takes."""

    async def way(seconds: float) -> Round:
        return await do()

    return way


class _Memory:
    """What this process holds before and after the latest of some rounds."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}

    def watching(self, do: Do) -> Do:
        async def watched() -> Round:
            before = rss_bytes()
            done = await do()
            self.figures = {
                "rss_before_summary_mb": round(before / 1e6, 1),
                "rss_after_summary_mb": round(rss_bytes() / 1e6, 1),
            }
            return done

        return watched


@contextmanager
def _library(folder: Path, n: int, skipped: list[str]) -> Iterator[dict[str, Do]]:
    if find_spec("eventsourcing") is None:
        skipped.append("pyeventsourcing: the package eventsourcing is not installed (the extra `bench` brings it)")
        yield {}
        return
    from bench.baselines.event_sourcing_replay import replaying

    with replaying(folder, n) as do:
        yield {"eventsourcing": do}


def _ratios(rate: Mapping[str, float]) -> dict[str, float]:
    pairs = (
        ("summary", "consumer_messages"),
        ("summary", "consumer_blocks"),
        ("summary", "finished_rows"),
        ("summary", "eventsourcing"),
        ("summary_small_blocks", "consumer_messages"),
        ("summary_small_blocks", "summary"),
        ("all_models", "summary"),
    )
    return {f"{over}/{under}": ratio(over, under, rate) for over, under in pairs if under in rate}
