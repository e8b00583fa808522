"""`python -m bench WHAT`: run one benchmark, print it, keep it as JSON, and fail when a budget does not hold."""

from __future__ import annotations

import asyncio
import signal
import sys

import click
import msgspec
import uvloop
from rich.console import Console

from bench import (
    append,
    balancing,
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
from bench.rounds import FULL, QUICK, BenchmarkFailed
from bench.shown import RESULTS, show, until_told_to_end

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
    "balancing": balancing.run,
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
        report = uvloop.run(until_told_to_end(BENCHMARKS[what](quick=quick, pace=QUICK if quick else FULL, told=told)))
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
        show(report)
        said.print(f"kept in {kept.parent}", highlight=False)
    sys.exit(0 if report.holds else 1)


if __name__ == "__main__":
    main()
