"""`tally certs` and `tally streams`: what must be there before a secured system can run in parts."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import click
import msgspec
from rich.table import Table

from bus.servers.connection import close, connect
from bus.servers.tls import CA, OPERATOR
from gateway.cli.tables import show
from gateway.runtime.running import identity_of, nats_url
from gateway.runtime.streams import make_streams
from gateway.runtime.users import made
from gateway.settings import Settings, claim, from_environment

HOST_PATTERN = r"[A-Za-z0-9:.*-]{1,253}"
HOSTS_MAX = 20
CALLER_PATTERN = r"[a-z][a-z0-9-]{0,39}"
CALLERS_MAX = 20


@click.command()
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Default: TALLY_TLS_DIR.")
@click.option("--host", "hosts", multiple=True, help="A name or an address on which servers are reached, too.")
@click.option("--caller", "callers", multiple=True, help="A program of yours that calls the stock over gRPC.")
@click.option("--new-ca", is_flag=True, help="Another authority: nobody trusts the one before any more.")
@click.option("--json", "as_json", is_flag=True)
def certs(folder: Path | None, hosts: tuple[str, ...], callers: tuple[str, ...], new_ca: bool, as_json: bool) -> None:
    """Make a private authority, and a certificate for every service and server; renew those that end soon.

    What is there and good is kept. Whoever uses a certificate that was renewed takes it up when it is started again.
    """
    if len(hosts) > HOSTS_MAX or not all(re.fullmatch(HOST_PATTERN, host) for host in hosts):
        raise click.UsageError(f"--host is a name or an address, at most {HOSTS_MAX} times")
    if len(callers) > CALLERS_MAX or not all(re.fullmatch(CALLER_PATTERN, caller) for caller in callers):
        raise click.UsageError(f"--caller is a name such as warehouse, at most {CALLERS_MAX} times")
    settings = from_environment()
    where = (folder or settings.own_tls_dir).resolve()
    if where.is_relative_to(settings.data_dir):
        claim(settings.data_dir)  # Or it would be taken for somebody else's later.
    found = made(where, hosts, callers, new_ca=new_ca)
    if as_json:
        click.echo(msgspec.json.encode([each._asdict() for each in found]))
        return
    table = Table("certificate", "", "until", box=None)
    for each in found:
        table.add_row(each.name, each.how, f"{each.ends:%Y-%m-%d}")
    show(table)
    click.echo(f"\nIn {where}. Give each machine {CA}.pem and what is its own; {CA}.key stays here.")


@click.command()
def streams() -> None:
    """Make every stream of this system where there is none; with TLS nobody else but `tally up` may."""
    asyncio.run(_streams(from_environment()))


async def _streams(settings: Settings) -> None:
    client = await connect(nats_url(settings), "streams", identity=identity_of(settings, OPERATOR))
    try:
        logs = await make_streams(client, settings)
    finally:
        await close(client)
    click.echo(f"{len(logs)} logs, and what else there must be")
