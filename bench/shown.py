"""How a run is ended when it is told to, and how its report is printed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import msgspec
from rich.console import Console
from rich.table import Column, Table

from bench.report import Report

Result = TypeVar("Result")

RESULTS = Path(__file__).parent / "results"
"""Where reports and drawings are kept."""


async def until_told_to_end(benchmark: Awaitable[Result]) -> Result:
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
        console.print(sentence, highlight=False)
