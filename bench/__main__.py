"""`python -m bench WHAT`: run one benchmark, print it, keep it as JSON, and fail when a budget does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import click

from bench import (
    append,
    balancing,
    calls,
    cold,
    cold_start,
    gateways,
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
    settle,
    sustained,
    sync_modes,
    workflows,
)
from bench.plot import plots
from bench.report import Report
from bench.rounds import FULL, QUICK, BenchmarkFailed, Told
from bench.shown import carry_out

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
    "gateways": gateways.run,
    "lag": lag.run,
    "calls": calls.run,
    "balancing": balancing.run,
    "workflows": workflows.run,
    "settle": settle.run,
}
MATRIX = "matrix"
"""It has a drawing of its own."""
WHAT = (*BENCHMARKS, MATRIX)


@click.command(
    help=f"Measure WHAT: {', '.join(WHAT)}. Exit code 1: a budget does not hold, or a part failed; 2: there are "
    "no figures."
)
@click.argument("what", type=click.Choice(WHAT), metavar="WHAT")
@click.option("--quick", is_flag=True, help="Fewer, shorter rounds: under a minute for all, and noisier.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(what: str, quick: bool, as_json: bool) -> None:
    pace = QUICK if quick else FULL

    async def run(told: Told) -> tuple[Report, Mapping[str, str]]:
        if what == MATRIX:
            if find_spec("grpc") is None:
                raise BenchmarkFailed("one of its styles is gRPC, and the extra grpc is not installed")
            from bench.matrix import drawing
            from bench.matrix import run as matrix

            measured, ran = await matrix.run(quick=quick, pace=pace, told=told)
            return measured, {"trouble": drawing.drawn(ran, measured.environment)}
        report = await BENCHMARKS[what](quick=quick, pace=pace, told=told)
        return report, plots(report)

    carry_out("bench", what, run, as_json=as_json)


if __name__ == "__main__":
    main()
