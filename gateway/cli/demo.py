"""`tally demo`: a fresh system, orders through it, and what came of them."""

from __future__ import annotations

import asyncio

import click

from gateway import demo as demonstration
from gateway.runtime.logs import log_to_stderr
from gateway.settings import from_environment


@click.command()
@click.option("--orders", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True)
@click.option("--secure", is_flag=True, help="Over TLS, with a process and a broker user for each service.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def demo(orders: int, secure: bool, as_json: bool) -> None:
    """Drive orders through a fresh system in a temporary folder, show what happened, stop everything."""
    settings = from_environment()
    log_to_stderr(settings)
    raise SystemExit(asyncio.run(demonstration.run(settings, orders, as_json, secure)))
