"""One reservation in five styles: which is quick, and what becomes of it while the callee is down, slow or restarted?

REST, gRPC, a NATS request, an asynchronous command and an event, each as the product does it, each durable when it is
answered: the first three when the reservation is on disk, the last two when the command or the order is. Processes of
their own: broker, inventory, orders, read models, queue, gateway, gRPC; the callers share one with the measurement.

- `alone`: one call at a time, to its answer; `effect`: the same, until a reader of the log sees the reservation;
- `64`: 64 calls in flight; `drained`: effects a second, to the last of them;
- `nothing`: `/livez` and gRPC's health, one at a time: what the transports alone take;
- then a steady load in all five at once, while the inventory is killed and brought back later, made slow (each block
  takes 2 s to be stored), and stopped and started at once. A caller waits 5 s and has two retries.

Budgets: nothing that was answered as done or accepted is lost, and nothing is done twice.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.matrix.effects import watched
from bench.matrix.healthy import IN_FLIGHT, Healthy, healthy, nothing
from bench.matrix.site import site
from bench.matrix.size import lines_of
from bench.matrix.styles import GRPC, REST, SAID, STYLES, bare, styles
from bench.matrix.trouble import DOWN, FULL, QUICK, RESTARTED, SLOW, Figures, Ran, disturbed, figures_of
from bench.report import Report, budget, line
from bench.rounds import BenchmarkFailed, Pace, Told

CLAIMED = 5.0


async def run(*, quick: bool, pace: Pace, told: Told) -> tuple[Report, Ran]:
    async with site() as here, watched(here.log) as effects:
        ways = styles(here)
        well = await healthy(ways, effects, pace, told)
        empty = await nothing(bare(here), pace)
        told("now with trouble")
        ran = await disturbed(here, ways, effects, QUICK if quick else FULL)
        machine = here.server.environment
    results = [each for one in well.values() for each in (one.alone, one.effects, one.many)] + empty
    for each in results:
        told(line(each))
    return judged(Report("matrix", machine, results, quick=quick), well, ran), ran


def judged(measured: Report, well: Mapping[str, Healthy], ran: Ran) -> Report:
    """With ratios, budgets, figures and the table. Raises `BenchmarkFailed` where they mean nothing."""
    troubled = {window.trouble: {style: figures_of(ran, style, window) for style in STYLES} for window in ran.windows}
    if missing := {DOWN, SLOW, RESTARTED} - troubled.keys():
        raise BenchmarkFailed(f"{sorted(missing)[0]} did not happen in time: this machine is too busy")
    by_name = {each.name: each for each in measured.results}
    ratios = {
        "rest/grpc_p50": _over(by_name[f"{REST}_alone"].p50_ms, by_name[f"{GRPC}_alone"].p50_ms),
        "rest/grpc_nothing_p50": _over(by_name[f"{REST}_nothing"].p50_ms, by_name[f"{GRPC}_nothing"].p50_ms),
        f"grpc/rest_{IN_FLIGHT}": _over(well[GRPC].many.rate_per_s, well[REST].many.rate_per_s),
        "lost": float(sum(ran.lost.values())),
        "doubled": float(sum(ran.doubled.values())),
    }
    figures: dict[str, float] = {}
    for style in STYLES:
        figures[f"{style}_drained_per_s"] = well[style].drained_per_s
        figures[f"{style}_lost"], figures[f"{style}_doubled"] = ran.lost[style], ran.doubled[style]
        figures[f"{style}_done_though_not_answered"] = ran.denied[style]
        figures[f"{style}_caller_lines"], figures[f"{style}_callee_lines"] = lines_of(style)
        for trouble, of in troubled.items():
            one = of[style]
            figures[f"{style}_{trouble}_answered_share"] = round(one.answered / max(1, one.calls), 3)
            figures[f"{style}_{trouble}_answered_max_s"] = one.answered_max_s
            figures[f"{style}_{trouble}_told_no_s"] = one.told_no_s
            figures[f"{style}_{trouble}_effect_max_s"] = one.effect_max_s
            figures[f"{style}_{trouble}_recovered_s"] = one.recovered_s
    return Report(
        measured.what,
        measured.environment,
        measured.results,
        ratios,
        [budget("lost", 0, ratios, at_most=True), budget("doubled", 0, ratios, at_most=True)],
        figures,
        quick=measured.quick,
        verdict=[*_table(well, troubled, ran), *_claim(ratios)],
    )


def _table(well: Mapping[str, Healthy], troubled: Mapping[str, Mapping[str, Figures]], ran: Ran) -> list[str]:
    """As Markdown has it."""
    rows = [
        f"| | answer, p50 / p99 ms | effect, p50 / p99 ms | answers/s, effects/s with {IN_FLIGHT} in flight "
        "| callee down | callee slow | callee restarted | lost, doubled | lines: caller + own at the callee |",
        "|---" * 9 + "|",
    ]
    for style in STYLES:
        one, (caller, callee) = well[style], lines_of(style)
        cells = (
            SAID[style],
            f"{one.alone.p50_ms:.1f} / {one.alone.p99_ms:.1f}",
            f"{one.effects.p50_ms:.1f} / {one.effects.p99_ms:.1f}",
            f"{one.many.rate_per_s:,.0f}, {one.drained_per_s:,.0f}",
            *(_said(troubled[trouble][style]) for trouble in (DOWN, SLOW, RESTARTED)),
            f"{ran.lost[style]}, {ran.doubled[style]}",
            f"{caller} + {callee}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _said(one: Figures) -> str:
    parts = [f"{one.answered} of {one.calls} answered"]
    if one.answered:
        parts[0] += f" within {one.answered_max_s:.1f} s"
    if one.answered < one.calls:
        parts.append(f"the others told no after {one.told_no_s:.2f} s")
    done = f"{one.effective} done" + (f" within {one.effect_max_s:.1f} s" if one.effective else "")
    return "; ".join([*parts, done, f"works again {one.recovered_s:.1f} s later"])


def _claim(ratios: Mapping[str, float]) -> list[str]:
    whole, empty = ratios["rest/grpc_p50"], ratios["rest/grpc_nothing_p50"]
    many = ratios[f"grpc/rest_{IN_FLIGHT}"]

    def holds(value: float) -> str:
        return "holds" if value >= CLAIMED else "does not hold"

    return [
        f'"gRPC is 5 to 10 times faster than REST" {holds(whole)} here for one call: a reservation takes REST '
        f"{whole:.1f} times as long, one that does nothing {empty:.1f} times. For many at once it {holds(many)}: with "
        f"{IN_FLIGHT} in flight gRPC makes {many:.1f} times as many."
    ]


def _over(one: float, other: float) -> float:
    return round(one / other, 2)
