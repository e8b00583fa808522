"""`tally mesh`: the policies of calls to other services and to the outside, checked and shown."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.table import Table

from bus.calls.mesh import read_mesh
from bus.calls.policy import CallPolicy
from gateway import compose
from gateway.cli.tables import show as show_table
from gateway.settings import from_environment


@click.group()
def mesh() -> None:
    """Check and show how calls to each destination are made (TALLY_MESH_FILE)."""


@mesh.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
def check(file: Path | None) -> None:
    """See whether a policy FILE can be used. Default: TALLY_MESH_FILE. Exit code 2 where it cannot."""
    file = file or from_environment().mesh_file
    policies = read_mesh(file, compose.DESTINATIONS)
    if file is None:
        click.echo("TALLY_MESH_FILE is not set: the defaults hold")
        return
    changed = [name for name, policy in policies.items() if policy != compose.DESTINATIONS[name]]
    click.echo(f"{file} can be used; it changes {', '.join(changed) or 'nothing'}")


@mesh.command()
@click.option("--json", "as_json", is_flag=True)
def show(as_json: bool) -> None:
    """Show the policy of each destination, as the file and the defaults make it."""
    policies = read_mesh(from_environment().mesh_file, compose.DESTINATIONS)
    if as_json:
        click.echo(msgspec.json.encode(policies))
        return
    table = Table("", *policies, box=None)
    rows = {name: _flat(policy) for name, policy in policies.items()}
    for key in _flat(CallPolicy()):
        table.add_row(key, *(rows[name][key] for name in policies))
    show_table(table)


def _flat(policy: CallPolicy) -> dict[str, str]:
    """Each setting by its name in the file."""
    flat: dict[str, str] = {}
    for key, value in msgspec.to_builtins(policy).items():
        if key == "split":
            flat[key] = ", ".join(f"{version}: {weight:g}" for version, weight in value.items()) or "-"
            continue
        inner = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
        flat |= {name: "-" if one is None else f"{one:g}" for name, one in inner.items()}
    return flat
