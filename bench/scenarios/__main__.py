"""`python -m bench.scenarios NAME`: run one scenario, print its verdict, keep the figures as JSON and SVG."""

from __future__ import annotations

import asyncio
import signal
import sys

import click
import msgspec
import uvloop
from rich.console import Console

from bench.rounds import BenchmarkFailed
from bench.scenarios import noisy_neighbour, payment_timeout, retry_storm
from bench.shown import RESULTS, show, until_told_to_end

SCENARIOS = {
    "payment-timeout": payment_timeout.run,
    "retry-storm": retry_storm.run,
    "noisy-neighbour": noisy_neighbour.run,
}


@click.command(
    help=f"Run the scenario NAME: {', '.join(SCENARIOS)}. Exit code 1: it did not come out as it should; 2: there are "
    "no figures."
)
@click.argument("name", type=click.Choice(list(SCENARIOS)), metavar="NAME")
@click.option("--quick", is_flag=True, help="Under a minute and a half, and noisier.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(name: str, quick: bool, as_json: bool) -> None:
    said = Console(stderr=True)

    def told(line: str) -> None:
        if said.is_terminal:
            said.print(line, highlight=False, soft_wrap=True)

    try:
        report, drawings = uvloop.run(until_told_to_end(SCENARIOS[name](quick=quick, told=told)))
    except BenchmarkFailed as error:
        click.echo(f"scenario: {error}", err=True)
        sys.exit(2)
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    encoded = msgspec.json.format(msgspec.json.encode(report))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_bytes(encoded + b"\n")
    for drawing, content in drawings.items():
        (RESULTS / f"{name}-{drawing}.svg").write_text(content)
    if as_json:
        click.echo(encoded)
    else:
        show(report)
        said.print(f"kept in {RESULTS}", highlight=False)
    sys.exit(0 if report.holds else 1)


if __name__ == "__main__":
    main()
