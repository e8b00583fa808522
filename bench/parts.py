"""Benchmarks made of parts: each in a process of its own, so that none inherits the memory of the one before."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from bench.report import Report, merged
from bench.rounds import BenchmarkFailed, Told
from bus.servers.lifetime import die_with_parent


class PartFailed(BenchmarkFailed):
    """A part ended without a report."""


async def run_parts(what: str, names: Sequence[str], *, quick: bool, told: Told) -> Report:
    """One report of all of them. A part that fails is named in it; raises `PartFailed` when none is left."""
    reports: list[Report] = []
    failed: list[str] = []
    for name in names:
        try:
            reports.append(await in_a_process(name, quick=quick, told=told))
        except PartFailed as error:
            failed.append(str(error))
    if not reports:
        raise PartFailed("; ".join(failed))
    return replace(merged(what, reports), failed=failed)


async def in_a_process(name: str, *, quick: bool, told: Told) -> Report:
    """Run a benchmark. Its progress goes to our standard error; its exit code only says whether its budgets hold."""
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
