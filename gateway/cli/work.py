"""`tally work`: the workers, alone."""

from __future__ import annotations

import click
import uvloop

from gateway.logs import log_to_stderr
from gateway.settings import from_environment
from gateway.work import PARTS, Part
from gateway.work import work as run_worker


@click.command()
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Default: all of them.")
def work(parts: tuple[Part, ...]) -> None:
    """Run workers: command engines, projections, processes and effects."""
    settings = from_environment()
    log_to_stderr(settings)
    uvloop.run(run_worker(settings, parts or PARTS))
