"""`tally mail`: what the mail server of `tally up` was given, and that server."""

from __future__ import annotations

import asyncio
import sqlite3

import click
import msgspec

from gateway.runtime.logs import log_to_stderr
from gateway.sandbox import mailbox
from gateway.settings import from_environment


@click.group()
def mail() -> None:
    """Show the mail that went out. A mail server of your own (TALLY_SMTP_URL) delivers it instead."""


@mail.command("list")
@click.option("--limit", type=click.IntRange(1, mailbox.LETTERS_MAX), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def list_(limit: int, as_json: bool) -> None:
    """Show the latest mails, newest first."""
    from rich.table import Table  # The server starts without it.

    from gateway.cli.tables import show as show_table

    try:
        found = mailbox.letters(from_environment().mailbox, limit)
    except sqlite3.Error as error:
        raise _nothing_there() from error
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    table = Table("number", "received", "to", "subject", box=None)
    for each in found:
        table.add_row(str(each.number), each.received_at, each.recipient, each.subject)
    show_table(table)


@mail.command()
@click.argument("number", type=int)
@click.option("--json", "as_json", is_flag=True)
def show(number: int, as_json: bool) -> None:
    """Show one mail and what it says."""
    try:
        found = mailbox.letter(from_environment().mailbox, number)
    except sqlite3.Error as error:
        raise _nothing_there() from error
    if found is None:
        raise click.ClickException(f"there is no mail {number}")
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    click.echo(f"Message-ID: {found.message_id}\nTo: {found.recipient}\nSubject: {found.subject}\n\n{found.text}")


@mail.command()
@click.option("--port", type=click.IntRange(1, 65_535), required=True)
def serve(port: int) -> None:
    """Run the mail server that keeps what it is given."""
    settings = from_environment()
    log_to_stderr(settings)
    asyncio.run(mailbox.serve(settings.mailbox, port))


def _nothing_there() -> click.ClickException:
    return click.ClickException(
        "there is no mailbox in this data folder: nothing was sent, or a server of your own has it"
    )
