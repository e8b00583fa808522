"""What does it cost that every acknowledged command is on disk? The whole write path, against the ways of others.

Each part is a question of its own (`just bench PART`), and runs here in a process of its own, so that none inherits
the memory of the one before. Their reports become one:

- `in_flight`: rates and times by how much is in flight, beside JetStream, SQLite and PostgreSQL used directly;
- `hot`: one hot aggregate against many; `nats`: from another process; `http`: over the whole system;
- `sync`: with and without fsync; `start`: a start from the log; `cold`: states that have to be loaded;
- `many`: after 2,000,000 aggregates; `sustained`: a minute, with read models.

Budgets: those of the parts.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial

import msgspec
from msgspec.structs import replace

from bench.report import Report, merged
from bench.rounds import BenchmarkFailed, Pace, Told
from bus.lifetime import die_with_parent

PARTS = ("in_flight", "hot", "nats", "http", "sync", "start", "cold", "many", "sustained")


class PartFailed(BenchmarkFailed):
    """A part ended without a report."""


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    reports: list[Report] = []
    failed: list[str] = []
    for name in PARTS:
        try:
            reports.append(await _part(name, quick, told))
        except PartFailed as error:
            failed.append(str(error))
    if not reports:
        raise PartFailed("; ".join(failed))
    return replace(merged("append", reports), failed=failed)


async def _part(name: str, quick: bool, told: Told) -> Report:
    """Its progress goes to our standard error; its exit code only says whether its budgets hold."""
    told(f"-- {name}")
    command = [sys.executable, "-m", "bench", name, "--json", *(["--quick"] if quick else [])]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, preexec_fn=partial(die_with_parent, os.getpid())
    )
    said, _ = await process.communicate()
    try:
        return msgspec.json.decode(said, type=Report)
    except msgspec.DecodeError as error:
        raise PartFailed(f"{name} ended with {process.returncode} and without a report") from error
