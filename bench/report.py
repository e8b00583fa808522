"""What a benchmark says: rates and percentiles, ratios between them, budgets that hold or do not, on what machine."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

from bus.broker import binary


class Environment(Struct, frozen=True):
    """`load` is the machine's load average over the minute before; `sync` the broker's `sync_interval`."""

    cpu: str
    cores: int
    python: str
    nats_server: str
    sync: str
    replicas: int
    storage: str
    load: float


class Result(Struct, frozen=True):
    """Medians over the rounds. Times in milliseconds, from handing an operation over to its answer."""

    name: str
    rate_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    n: int


class Budget(Struct, frozen=True):
    """`wanted` is the least that a ratio may be, or the most where `at_most`."""

    ratio: str
    wanted: float
    got: float
    holds: bool
    at_most: bool = False


class Report(Struct, frozen=True):
    what: str
    environment: Environment
    results: list[Result]
    ratios: dict[str, float]
    budgets: list[Budget]

    @property
    def holds(self) -> bool:
        return all(budget.holds for budget in self.budgets)


def environment(sync: str, storage: Path, replicas: int = 1) -> Environment:
    version = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return Environment(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        python=platform.python_version(),
        nats_server=version.strip().removeprefix("nats-server: "),
        sync=sync,
        replicas=replicas,
        storage=_filesystem(storage),
        load=round(os.getloadavg()[0], 2),
    )


def result(name: str, rounds: Sequence[tuple[float, list[float]]]) -> Result:
    """`rounds`: of each, how long it took in all and each operation's time, in seconds."""

    def percentile(share: float) -> float:
        each = [sorted(times)[min(len(times) - 1, int(len(times) * share))] for _, times in rounds]
        return round(median(each) * 1_000, 3)

    return Result(
        name=name,
        rate_per_s=round(median(len(times) / spent_s for spent_s, times in rounds), 1),
        p50_ms=percentile(0.5),
        p95_ms=percentile(0.95),
        p99_ms=percentile(0.99),
        p999_ms=percentile(0.999),
        n=sum(len(times) for _, times in rounds),
    )


def budget(ratio: str, wanted: float, ratios: dict[str, float], *, at_most: bool = False) -> Budget:
    got = ratios[ratio]
    return Budget(ratio, wanted, got, got <= wanted if at_most else got >= wanted, at_most)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _filesystem(path: Path) -> str:
    found = subprocess.run(["df", "-PT", path], capture_output=True, text=True, check=False).stdout.splitlines()
    return found[-1].split()[1] if len(found) > 1 else "unknown"
