"""`python -m bench WHAT`: run one benchmark, print it, keep it as JSON, and fail when a budget does not hold."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path

import click
import msgspec
import uvloop
from rich.console import Console
from rich.table import Column, Table

from bench import (
    append,
    calls,
    cold,
    cold_start,
    hot,
    in_flight,
    lag,
    length,
    many,
    meanwhile,
    over_http,
    over_nats,
    query,
    rebuild,
    replay,
    sustained,
    sync_modes,
)
from bench.plot import plots
from bench.report import Report
from bench.rounds import FULL, QUICK, BenchmarkFailed

RESULTS = Path(__file__).parent / "results"
BENCHMARKS = {
    "append": append.run,
    "in_flight": in_flight.run,
    "hot": hot.run,
    "nats": over_nats.run,
    "http": over_http.run,
    "sync": sync_modes.run,
    "start": cold_start.run,
    "cold": cold.run,
    "many": many.run,
    "sustained": sustained.run,
    "replay": replay.run,
    "rebuild": rebuild.run,
    "length": length.run,
    "meanwhile": meanwhile.run,
    "query": query.run,
    "lag": lag.run,
    "calls": calls.run,
}


@click.command(
    help=f"Measure WHAT: {', '.join(BENCHMARKS)}. Exit code 1: a budget does not hold, or a part failed; 2: there are "
    "no figures."
)
@click.argument("what", type=click.Choice(list(BENCHMARKS)), metavar="WHAT")
@click.option("--quick", is_flag=True, help="Fewer, shorter rounds: under a minute for all, and noisier.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(what: str, quick: bool, as_json: bool) -> None:
    said = Console(stderr=True)

    def told(line: str) -> None:
        if said.is_terminal:
            said.print(line, highlight=False, soft_wrap=True)

    try:
        report = uvloop.run(_until_told_to_end(BENCHMARKS[what](quick=quick, pace=QUICK if quick else FULL, told=told)))
    except BenchmarkFailed as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(2)
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    encoded = msgspec.json.format(msgspec.json.encode(report))
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / f"{what}.json"
    kept.write_bytes(encoded + b"\n")
    for name, drawing in plots(report).items():
        (RESULTS / f"{what}-{name}.svg").write_text(drawing)
    if as_json:
        click.echo(encoded)
    else:
        _show(report)
        said.print(f"kept in {kept.parent}", highlight=False)
    sys.exit(0 if report.holds else 1)


async def _until_told_to_end(benchmark: Awaitable[Report]) -> Report:
    """On SIGTERM, too, brokers and databases are stopped and their folders removed: they can hold gigabytes."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await benchmark


def _show(report: Report) -> None:
    table = Table(Column("", no_wrap=True), "rate/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "n", box=None)
    for each in report.results:
        times = (f"{time:,.3f}" for time in (each.p50_ms, each.p95_ms, each.p99_ms, each.p999_ms))
        table.add_row(each.name, f"{each.rate_per_s:,.0f}", *times, f"{each.n:,}")
    budgets = Table("budget", "wanted", "got", "", box=None)
    for one in report.budgets:
        wanted = f"{'at most' if one.at_most else 'at least'} {one.wanted:g}"
        budgets.add_row(one.ratio, wanted, f"{one.got:g}", "holds" if one.holds else "does not hold")
    console = Console(width=max(100, Console().width))
    console.print(msgspec.to_builtins(report.environment), table)
    for name, value in report.figures.items():
        console.print(f"{name}: {value:,g}", highlight=False)
    for reason in report.skipped:
        console.print(f"skipped: {reason}", highlight=False)
    for reason in report.failed:
        console.print(f"failed: {reason}", highlight=False)
    if report.budgets:
        console.print(budgets)


if __name__ == "__main__":
    main()
