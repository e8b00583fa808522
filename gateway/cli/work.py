"""`tally work`: the workers, alone."""

from __future__ import annotations

import click
import uvloop

from gateway.cli.unsafe import settings_with_flags
from gateway.logs import log_to_stderr
from gateway.settings import Settings
from gateway.work import PARTS, Part
from gateway.work import work as run_worker


@click.command()
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Default: all of them.")
@settings_with_flags
def work(settings: Settings, parts: tuple[Part, ...]) -> None:
    """Run workers: command engines, projections, processes and effects, the customers service, the queue."""
    log_to_stderr(settings)
    uvloop.run(run_worker(settings, parts or PARTS))
