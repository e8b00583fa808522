"""How fast are durable appends with so many commands in flight? The engine against the ways that others append.

All on one broker that syncs every write, one process and one connection, in rounds that take turns:

- `engine`: the command engine in process, deciding orders, a fresh aggregate each, a frame each;
- `frames`: the same in frames of 128, as commands come from senders that have much to send;
- `blocks`: a bare loop of the same blocks with no domain, whose commits are encoded before (the ceiling);
- `plain`: a `js.publish` with an expectation a command; `async`: `publish_async`, with none;
- `eventsourcing_sqlite`, `eventsourcing_postgres`: the library pyeventsourcing, on
  PostgreSQL also with 16 threads;
- `postgres_insert`: an INSERT a command into a plain event table, driven by pgbench.

Budgets: at 1,024 in flight engine >= 18x plain, engine and frames >= 0.6x blocks and >= 30x eventsourcing_sqlite; at 64
engine >= 9x plain; at 16 >= 4x plain; at one the p50 is at most 1.3x that of plain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from bench.baselines import postgres
from bench.baselines.bare_blocks import in_blocks
from bench.baselines.single_messages import pipelined, plain
from bench.in_process import placing_orders
from bench.report import Report, Result, budget, line, point, rates, ratio
from bench.rounds import Pace, Round, Told, lasting, take_turns
from bench.server import embedded
from bus.sender import FRAME_COMMANDS_MAX
from gateway.runtime.collector import calm_the_collector

IN_FLIGHT = (1, 16, 64, 256, 1_024, 4_096)
QUICK_IN_FLIGHT = (1, 16, 64, 1_024)
FRAMED_FROM = 1_024
LIBRARY = "eventsourcing_sqlite_1"
"""It has one writer."""
SINGLE_WRITER = (1,)
THREADS = (1, 16)
CONNECTIONS = (1, 16, 64, 256)
"""With how many in flight the databases are measured; a quick run is content with one."""


class Candidate(NamedTuple):
    """A way to append, and with how many in flight it is measured."""

    do: Callable[[int, int], Awaitable[Round]]
    at: tuple[int, ...]


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    numbers = QUICK_IN_FLIGHT if quick else IN_FLIGHT
    skipped: list[str] = []
    calm_the_collector()
    async with (
        embedded() as server,
        placing_orders(await server.log("orders")) as engine,
        placing_orders(await server.log("framed"), framed=FRAME_COMMANDS_MAX) as frames,
    ):
        candidates = {
            "engine": Candidate(engine, numbers),
            "frames": Candidate(frames, tuple(number for number in numbers if number >= FRAMED_FROM)),
            "blocks": Candidate(in_blocks(await server.log("blocks")), numbers),
            "plain": Candidate(await plain(server), numbers),
            "async": Candidate(await pipelined(server), numbers),
        }
        with databases(server.folder, skipped) as found:
            candidates |= {name: one._replace(at=one.at[:1]) if quick else one for name, one in found.items()}
            results = await _measure(candidates, numbers, pace, told)
    for reason in skipped:
        told(f"skipped: {reason}")
    return _report(Report("in_flight", server.environment, results, skipped=skipped, quick=quick))


async def _measure(candidates: dict[str, Candidate], numbers: tuple[int, ...], pace: Pace, told: Told) -> list[Result]:
    results: list[Result] = []
    for in_flight in numbers:
        ways = {
            name: lasting(partial(one.do, in_flight), in_flight)
            for name, one in candidates.items()
            if in_flight in one.at
        }
        for name, rounds in (await take_turns(ways, pace)).items():
            results.append(point(name, in_flight, rounds))
            told(line(results[-1]))
    return results


@contextmanager
def databases(folder: Path, skipped: list[str]) -> Iterator[dict[str, Candidate]]:
    """What can be measured against here; the rest is named in `skipped`."""
    found: dict[str, Candidate] = {}
    has_library = find_spec("eventsourcing") is not None
    with ExitStack() as stack:
        if has_library:
            from bench.baselines.event_sourcing import on_sqlite

            found["eventsourcing_sqlite"] = Candidate(stack.enter_context(on_sqlite(folder)), SINGLE_WRITER)
        else:
            skipped.append("pyeventsourcing: the package eventsourcing is not installed (the extra `bench` brings it)")
        try:
            database = stack.enter_context(postgres.postgres())
        except postgres.Missing as reason:
            skipped.append(f"PostgreSQL: {reason}")
        else:
            found["postgres_insert"] = Candidate(postgres.inserting(database, folder), CONNECTIONS)
            if not has_library or find_spec("psycopg") is None:
                skipped.append("pyeventsourcing on PostgreSQL: eventsourcing or psycopg is not installed")
            else:
                from bench.baselines.event_sourcing import on_postgres

                place = on_postgres(database.socket, postgres.PORT, postgres.USER, postgres.DATABASE, max(THREADS))
                found["eventsourcing_postgres"] = Candidate(stack.enter_context(place), THREADS)
        yield found


def _report(measured: Report) -> Report:
    rate = rates(measured.results)
    ratios: dict[str, float] = {}
    for each in measured.results:
        if each.way != "engine":
            ratios[f"engine/{each.name}"] = ratio(f"engine_{each.in_flight}", each.name, rate)
    ratios["frames/blocks_1024"] = ratio("frames_1024", "blocks_1024", rate)
    if LIBRARY in rate:
        for way in ("engine", "frames"):
            ratios[f"{way}_1024/{LIBRARY}"] = ratio(f"{way}_1024", LIBRARY, rate)
    p50 = {each.name: each.p50_ms for each in measured.results}
    ratios["engine/plain_p50_1"] = ratio("engine_1", "plain_1", p50)
    budgets = [
        budget("engine/plain_1024", 18.0, ratios),
        budget("engine/blocks_1024", 0.6, ratios),
        budget("frames/blocks_1024", 0.6, ratios),
        *(budget(name, 30.0, ratios) for name in ratios if name.endswith(f"_1024/{LIBRARY}")),
        budget("engine/plain_64", 9.0, ratios),
        budget("engine/plain_16", 4.0, ratios),
        budget("engine/plain_p50_1", 1.3, ratios, at_most=True),
    ]
    return replace(measured, ratios=ratios, budgets=budgets)
