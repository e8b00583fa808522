"""How a benchmark or a scenario is run, ended when it is told to, and how its report is printed and kept."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

import click
import msgspec
import uvloop
from rich.console import Console
from rich.table import Column, Table

from bench.report import Report
from bench.rounds import BenchmarkFailed, Told

Result = TypeVar("Result")

RESULTS = Path(__file__).parent / "results"
"""Where reports and drawings are kept."""


Run = Callable[[Told], Awaitable[tuple[Report, Mapping[str, str]]]]
"""Gives a report and its drawings, as SVG by their names."""


def carry_out(verb: str, name: str, run: Run, *, as_json: bool) -> NoReturn:
    """Run it, print its report, keep that and its drawings. Exit code 1: it does not hold; 2: there are no figures."""
    said = Console(stderr=True)

    def told(line: str) -> None:
        if said.is_terminal:
            said.print(line, highlight=False, soft_wrap=True)

    try:
        report, drawings = uvloop.run(_until_told_to_end(run(told)))
    except BenchmarkFailed as error:
        click.echo(f"{verb}: {error}", err=True)
        sys.exit(2)
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    encoded = msgspec.json.format(msgspec.json.encode(report))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_bytes(encoded + b"\n")
    for drawing, content in drawings.items():
        (RESULTS / f"{name}-{drawing}.svg").write_text(content)
    if as_json:
        click.echo(encoded)
    else:
        show(report)
        said.print(f"kept in {RESULTS}", highlight=False)
    sys.exit(0 if report.holds else 1)


async def _until_told_to_end(benchmark: Awaitable[Result]) -> Result:
    """On SIGTERM, too, brokers and databases are stopped and their folders removed: they can hold gigabytes."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await benchmark


def show(report: Report) -> None:
    """Print it for people."""
    table = Table(Column("", no_wrap=True), "rate/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "n", box=None)
    for each in report.results:
        times = (f"{time:,.3f}" for time in (each.p50_ms, each.p95_ms, each.p99_ms, each.p999_ms))
        table.add_row(each.name, f"{each.rate_per_s:,.0f}", *times, f"{each.n:,}")
    budgets = Table("budget", "wanted", "got", "", box=None)
    for one in report.budgets:
        wanted = f"{'at most' if one.at_most else 'at least'} {one.wanted:g}"
        budgets.add_row(one.ratio, wanted, f"{one.got:g}", "holds" if one.holds else "does not hold")
    console = Console(width=max(100, Console().width))
    console.print(msgspec.to_builtins(report.environment), table)
    for name, value in report.figures.items():
        console.print(f"{name}: {value:,g}", highlight=False)
    for reason in report.skipped:
        console.print(f"skipped: {reason}", highlight=False)
    for reason in report.failed:
        console.print(f"failed: {reason}", highlight=False)
    if report.budgets:
        console.print(budgets)
    for sentence in report.verdict:
        console.print(sentence, highlight=False, soft_wrap=sentence.startswith("|"))  # A row of a table is one line.
