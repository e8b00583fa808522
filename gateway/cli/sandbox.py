"""`tally provider` and `tally carrier`: what stands in for the outside world, each alone."""

from __future__ import annotations

import click

from gateway.runtime.logs import log_to_stderr
from gateway.runtime.running import identity_of
from gateway.runtime.serve import CARRIER, PROVIDER, serve
from gateway.settings import from_environment


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), required=True)
def provider(port: int) -> None:
    """Run the simulated payment provider."""
    settings = from_environment()
    log_to_stderr(settings)
    serve(settings, PROVIDER, port=port, identity=identity_of(settings, "provider"), mutual=True)


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), required=True)
def carrier(port: int) -> None:
    """Run the simulated carrier."""
    settings = from_environment()
    log_to_stderr(settings)
    serve(settings, CARRIER, port=port, identity=identity_of(settings, "carrier"), mutual=True)
