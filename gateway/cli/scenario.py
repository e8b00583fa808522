"""`tally scenario`: hands over to the scenarios, which stand on top of everything else, as benchmarks do."""

from __future__ import annotations

import subprocess
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def scenario(arguments: tuple[str, ...]) -> None:
    """Run a scenario, such as `payment-timeout`, with and without what helps; with --quick, --json."""
    command = [sys.executable, "-m", "bench.scenarios", *arguments]
    raise SystemExit(subprocess.run(command, check=False).returncode)  # noqa: S603
