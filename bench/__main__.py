"""`python -m bench WHAT`: run one benchmark, print it, keep it as JSON, and fail when a budget does not hold."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import append
from bench.report import Report

RESULTS = Path(__file__).parent / "results"
BENCHMARKS = {"append": append.run}


@click.command()
@click.argument("what", type=click.Choice(list(BENCHMARKS)))
@click.option("--quick", is_flag=True, help="Shorter rounds: under a minute, and noisier.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(what: str, quick: bool, as_json: bool) -> None:
    """Measure WHAT against its baselines, all in one run. Exit code 1: a budget does not hold."""
    said = Console(stderr=True)
    report = uvloop.run(BENCHMARKS[what](quick=quick, told=said.print if not as_json else lambda line: None))
    encoded = msgspec.json.format(msgspec.json.encode(report))
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / f"{what}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    kept.write_bytes(encoded + b"\n")
    if as_json:
        click.echo(encoded)
    else:
        _show(report)
        said.print(f"kept in {kept}")
    sys.exit(0 if report.holds else 1)


def _show(report: Report) -> None:
    table = Table("", "rate/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "n", box=None)
    for each in report.results:
        times = (f"{time:,.3f}" for time in (each.p50_ms, each.p95_ms, each.p99_ms, each.p999_ms))
        table.add_row(each.name, f"{each.rate_per_s:,.0f}", *times, f"{each.n:,}")
    budgets = Table("budget", "wanted", "got", "", box=None)
    for one in report.budgets:
        wanted = f"{'at most' if one.at_most else 'at least'} {one.wanted:g}"
        budgets.add_row(one.ratio, wanted, f"{one.got:g}", "holds" if one.holds else "does not hold")
    console = Console()
    console.print(msgspec.to_builtins(report.environment), table, budgets)


if __name__ == "__main__":
    main()
