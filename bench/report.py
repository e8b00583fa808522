"""What a benchmark says: rates and percentiles, ratios between them, budgets that hold or do not, on what machine."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from bench.rounds import Round
from bus.servers.broker import binary


class Environment(Struct, frozen=True):
    """`load` is the machine's load average over the minute before; `sync` the broker's `sync_interval`; `storage` the
    file system that the log lies on."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    nats_server: str
    sync: str
    replicas: int
    storage: str
    load: float


class Result(Struct, frozen=True, omit_defaults=True):
    """Medians over the rounds. Times in milliseconds, from handing an operation over to its answer.

    `way` and `in_flight` where it is a point of a curve; `name` is then made of both.
    """

    name: str
    rate_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    n: int
    way: str = ""
    in_flight: int = 0


class Budget(Struct, frozen=True):
    """`wanted` is the least that a ratio may be, or the most where `at_most`."""

    ratio: str
    wanted: float
    got: float
    holds: bool
    at_most: bool = False


class Bars(Struct, frozen=True):
    """A drawing of some results, a bar each. `value` is the field of a `Result` that is drawn."""

    name: str
    title: str
    value: Literal["rate_per_s", "p50_ms", "p99_ms"]
    of: list[str]


class Report(Struct, frozen=True):
    """`figures` are single numbers with their unit in the name; `skipped` says what was not measured, and why;
    `failed` what was to be measured and could not be; `verdict` is what it all means, in sentences."""

    what: str
    environment: Environment
    results: list[Result]
    ratios: dict[str, float] = field(default_factory=dict)
    budgets: list[Budget] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    quick: bool = False
    bars: list[Bars] = field(default_factory=list)
    verdict: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.failed and all(budget.holds for budget in self.budgets)


def environment(sync: str, storage: Path, replicas: int = 1) -> Environment:
    version = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return Environment(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=round(memory / 1e9, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        nats_server=version.strip().removeprefix("nats-server: "),
        sync=sync,
        replicas=replicas,
        storage=_filesystem(storage),
        load=round(os.getloadavg()[0], 2),
    )


def result(name: str, rounds: Sequence[Round]) -> Result:
    ordered = [sorted(one.times_s) for one in rounds]

    def percentile(share: float) -> float:
        return round(median(times[min(len(times) - 1, int(len(times) * share))] for times in ordered) * 1_000, 3)

    return Result(
        name=name,
        rate_per_s=round(median(one.n / one.spent_s for one in rounds), 1),
        p50_ms=percentile(0.5),
        p95_ms=percentile(0.95),
        p99_ms=percentile(0.99),
        p999_ms=percentile(0.999),
        n=sum(one.n for one in rounds),
    )


def point(way: str, in_flight: int, rounds: Sequence[Round]) -> Result:
    """A result that is a point of a way's curve."""
    return replace(result(f"{way}_{in_flight}", rounds), way=way, in_flight=in_flight)


def rates(results: Sequence[Result]) -> dict[str, float]:
    return {each.name: each.rate_per_s for each in results}


def ratio(over: str, under: str, of: Mapping[str, float]) -> float:
    return round(of[over] / of[under], 3)


def budget(name: str, wanted: float, ratios: Mapping[str, float], *, at_most: bool = False) -> Budget:
    got = ratios[name]
    return Budget(name, wanted, got, got <= wanted if at_most else got >= wanted, at_most)


def line(each: Result) -> str:
    """A result in a line, for whoever watches."""
    return f"{each.name}: {each.rate_per_s:,.0f}/s, p50 {each.p50_ms:,.2f} ms, p99 {each.p99_ms:,.2f} ms"


def merged(what: str, reports: Sequence[Report]) -> Report:
    """Several reports of one run as one; names must not clash, and the first one's environment stands for all."""
    results = [each for report in reports for each in report.results]
    assert len({each.name for each in results}) == len(results), "two results have one name"
    return Report(
        what=what,
        environment=reports[0].environment,
        results=results,
        ratios={name: value for report in reports for name, value in report.ratios.items()},
        budgets=[budget for report in reports for budget in report.budgets],
        figures={name: value for report in reports for name, value in report.figures.items()},
        skipped=[reason for report in reports for reason in report.skipped],
        quick=reports[0].quick,
        bars=[bars for report in reports for bars in report.bars],
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _filesystem(path: Path) -> str:
    found = subprocess.run(["df", "-PT", path], capture_output=True, text=True, check=False).stdout.splitlines()
    return found[-1].split()[1] if len(found) > 1 else "unknown"
