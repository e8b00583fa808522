"""`python -m bench.scenarios NAME`: run one scenario, print its verdict, keep the figures as JSON and SVG."""

from __future__ import annotations

from collections.abc import Mapping

import click

from bench.report import Report
from bench.rounds import Told
from bench.scenarios import crash_mid_checkout, five_services, noisy_neighbour, payment_timeout, retry_storm
from bench.shown import carry_out

SCENARIOS = {
    "payment-timeout": payment_timeout.run,
    "retry-storm": retry_storm.run,
    "noisy-neighbour": noisy_neighbour.run,
    "crash-mid-checkout": crash_mid_checkout.run,
    "five-services": five_services.run,
}


@click.command(
    help=f"Run the scenario NAME: {', '.join(SCENARIOS)}. Exit code 1: it did not come out as it should; 2: there are "
    "no figures."
)
@click.argument("name", type=click.Choice(list(SCENARIOS)), metavar="NAME")
@click.option("--quick", is_flag=True, help="Under a minute and a half, and noisier.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(name: str, quick: bool, as_json: bool) -> None:
    async def run(told: Told) -> tuple[Report, Mapping[str, str]]:
        return await SCENARIOS[name](quick=quick, told=told)

    carry_out("scenario", name, run, as_json=as_json)


if __name__ == "__main__":
    main()
