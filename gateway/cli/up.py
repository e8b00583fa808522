"""`tally up`: the whole system in the foreground."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click
import msgspec

from bus.servers.tls import ca_of
from gateway.cli.unsafe import settings_with_flags
from gateway.http.tokens import Tokens
from gateway.runtime.logs import log_to_stderr
from gateway.runtime.up import started
from gateway.settings import Settings, jwt_secret


@click.command()
@click.option("--secure", is_flag=True, help="TLS everywhere, a process and a broker user of its own for each service.")
@settings_with_flags
def up(settings: Settings, secure: bool) -> None:
    """Start everything in the foreground: broker, workers, gateway, and what stands in for the outside world. Ctrl-C
    stops it cleanly.

    With --secure, or TALLY_TLS_DIR: over TLS. Certificates are made at the first time, in TALLY_TLS_DIR, else in
    the data folder.
    """
    if secure:
        settings = msgspec.structs.replace(settings, tls_dir=settings.own_tls_dir)
    log_to_stderr(settings)
    asyncio.run(_up(settings))


async def _up(settings: Settings) -> None:
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()
    assert running is not None

    def stop() -> None:
        if told_to_stop.is_set():
            return
        told_to_stop.set()
        if not up_and_running.is_set():
            running.cancel()

    up_and_running = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        async with started(settings, lambda line: click.echo(line, err=True)) as (supervisor, where):
            up_and_running.set()
            token = Tokens(jwt_secret(settings)).issue("admin", "admin")
            grpc = f"  gRPC     {where.grpc_address}\n" if where.grpc_address else ""
            click.echo(
                f"Tallystream is up. Ctrl-C stops it.\n"
                f"  API      {where.http_url}/v1\n"
                f"  Docs     {where.http_url}/docs\n"
                f"  Metrics  {where.http_url}/metrics\n"
                f"{grpc}"
                f"{_authority(settings)}"
                f"  Data     {_short(settings.data_dir)}\n"
                f"  Logs     {_short(settings.data_dir / 'log')}\n"
                f"  Token    (admin, 24 h)\n{token}"
            )
            stopping = asyncio.create_task(told_to_stop.wait())
            await supervisor.healthy_until(stopping)
            click.echo("stopping", err=True)
        click.echo("stopped", err=True)
    except asyncio.CancelledError:
        if not told_to_stop.is_set():
            raise
        click.echo("stopped before it was up", err=True)


def _authority(settings: Settings) -> str:
    """Whom clients have to trust, where there is TLS."""
    if settings.tls_dir is None:
        return ""
    return f"  Trust    {_short(ca_of(settings.tls_dir))}\n"


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
