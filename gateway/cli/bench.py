"""`tally bench`: hands over to the benchmarks, which stand on top of everything else."""

from __future__ import annotations

import subprocess
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Run a benchmark: `append` for all of the write path, or a part of it; with --quick, --json."""
    raise SystemExit(subprocess.run([sys.executable, "-m", "bench", *arguments], check=False).returncode)  # noqa: S603
