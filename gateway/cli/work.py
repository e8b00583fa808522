"""`tally work`: the workers, alone."""

from __future__ import annotations

import click
import uvloop

from gateway import compose
from gateway.cli.unsafe import settings_with_flags
from gateway.runtime.logs import log_to_stderr
from gateway.runtime.telemetry import collect_spans
from gateway.runtime.work import PARTS, Part, parts_for, parts_of
from gateway.runtime.work import work as run_worker
from gateway.settings import Settings


@click.command()
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, help="Default: all of them.")
@click.option("--service", "services", type=click.Choice(compose.SERVICES), multiple=True, help="Of these only.")
@settings_with_flags
def work(settings: Settings, parts: tuple[Part, ...], services: tuple[str, ...]) -> None:
    """Run workers: command engines, projections, processes, policies and effects, services that keep states, the
    queue, and gRPC where TALLY_GRPC_PORT is set.

    With --service all of these for that service, but the read models, the queue and gRPC: one process keeps a node's
    for all services, one handles what is queued.
    """
    if services and (whole := sorted({"projections", "queue", "grpc"} & set(parts))):
        raise click.UsageError(f"one process is the part {whole[0]} of all services: leave out --service")
    log_to_stderr(settings)
    wanted = parts or (parts_of(services) if services else parts_for(settings))
    collect_spans("-".join(services or (parts or ("worker",))))
    uvloop.run(run_worker(settings, wanted, services))
