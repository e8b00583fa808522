"""`tally token`: a token for the HTTP API, of the data folder's own secret."""

from __future__ import annotations

import re
from typing import cast

import click

from domains.kernel import ID_PATTERN
from gateway.http.tokens import RANKS, Role, Tokens
from gateway.settings import from_environment, jwt_secret


@click.command()
@click.option("--role", type=click.Choice(list(RANKS)), required=True)
@click.option("--subject", default="", help="Who it is for; a customer's id. Default: the role's name.")
@click.option("--ttl", "ttl_s", type=click.IntRange(1, 366 * 24 * 3600), default=24 * 3600, help="Seconds.")
def token(role: str, subject: str, ttl_s: int) -> None:
    """Print a token for the HTTP API."""
    if not re.fullmatch(ID_PATTERN, subject or role):
        raise click.UsageError("a subject is 1 to 64 letters, digits, - and _")
    click.echo(Tokens(jwt_secret(from_environment())).issue(cast("Role", role), subject or role, ttl_s))
