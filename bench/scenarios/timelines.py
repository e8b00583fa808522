"""What was seen second by second, and drawings of it: a panel a measure, a line a way, the time of trouble shaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log10

from msgspec import Struct

from bench.plot import FAINT, GAP, GRID, INK, LABELS, LEFT, TOP, colour_of, described, svg_head, svg_text
from bench.report import Environment
from bench.scenarios.offered import Seen, between

WIDTH, HEIGHT = 430, 300
SHADE = "#f6e7d8"
MEASURE_MIN = 1.0
"""The bottom of a logarithmic scale, in ms."""


class Timeline(Struct, frozen=True):
    """Of one kind of call, in one way: answers a second and the 99th percentile in ms, by second."""

    way: str
    kind: str
    per_s: list[float]
    p99_ms: list[float]


def timeline(way: str, kind: str, seen: Sequence[Seen], seconds: int) -> Timeline:
    per_s: list[float] = []
    p99_ms: list[float] = []
    for second in range(seconds):
        during = between(seen, kind, second, second + 1)
        times = sorted(during.times_s)
        per_s.append(float(during.n))
        p99_ms.append(round(times[int(len(times) * 0.99)] * 1_000, 1) if times else 0.0)
    return Timeline(way, kind, per_s, p99_ms)


def draw_timelines(
    title: str, kinds: Mapping[str, str], lines: Sequence[Timeline], trouble: tuple[float, float], machine: Environment
) -> str:
    """A row a kind of call, named by `kinds`: its rate at the left, its 99th percentile, logarithmic, at the right."""
    row = HEIGHT + GAP
    width, height = LEFT + 2 * WIDTH + GAP + LABELS, TOP + row * len(kinds)
    parts = [
        *svg_head(width, height),
        svg_text(LEFT, 22, title, size=17, weight="600"),
        svg_text(LEFT, 41, described(machine), size=11, colour=FAINT),
    ]
    ways = list(dict.fromkeys(line.way for line in lines))
    for index, (kind, name) in enumerate(kinds.items()):
        shown = [line for line in lines if line.kind == kind]
        seconds = max(len(line.per_s) for line in shown)
        most = max(1.0, *(value for line in shown for value in line.per_s)) * 1.1
        y = TOP + row * index
        rates = [(ways.index(line.way), [value / most for value in line.per_s]) for line in shown]
        ticks = [(most * share, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
        parts += _panel(LEFT, y, f"{name}: answers a second", rates, ticks, seconds, trouble)
        decades = max(1, ceil(log10(max(10.0, *(value for line in shown for value in line.p99_ms)))))
        times = [(ways.index(line.way), [_log(value, decades) for value in line.p99_ms]) for line in shown]
        ticks = [(10.0**power, power / decades) for power in range(decades + 1)]
        parts += _panel(LEFT + WIDTH + GAP, y, f"{name}: p99, ms", times, ticks, seconds, trouble)
    for index, way in enumerate(ways):
        where = LEFT + 2 * WIDTH + GAP + 14
        parts.append(svg_text(where, TOP + 14 + 18 * index, way, colour=colour_of(index), weight="600"))
    return "\n".join([*parts, "</svg>", ""])


def _log(value: float, decades: int) -> float:
    return log10(max(MEASURE_MIN, value)) / decades


def _panel(
    left: int,
    top: int,
    title: str,
    lines: Sequence[tuple[int, Sequence[float]]],
    ticks: Sequence[tuple[float, float]],
    seconds: int,
    trouble: tuple[float, float],
) -> list[str]:
    """Lines by the number of their way; values and ticks as shares of the height."""

    def across(second: float) -> float:
        return round(second / max(1, seconds) * WIDTH, 1)

    parts = [f"<g transform='translate({left} {top})'>"]
    begin, end = across(trouble[0]), across(min(trouble[1], seconds))
    parts.append(f"<rect x='{begin}' width='{round(end - begin, 1)}' height='{HEIGHT}' fill='{SHADE}'/>")
    for value, share in ticks:
        y = round(HEIGHT * (1 - share), 1)
        parts.append(f"<path d='M0 {y}H{WIDTH}' stroke='{GRID}'/>")
        parts.append(svg_text(-9, y + 4, f"{value:,.0f}", anchor="end"))
    parts.append(f"<path d='M0 0V{HEIGHT}H{WIDTH}' fill='none' stroke='{FAINT}'/>")
    for second in range(0, seconds + 1, 5):
        parts.append(svg_text(across(second), HEIGHT + 18, str(second), anchor="middle"))
    parts.append(svg_text(WIDTH / 2, HEIGHT + 36, "seconds", anchor="middle", colour=FAINT))
    parts.append(svg_text(6, -8, title, size=13, colour=INK, weight="600"))
    for way, values in lines:
        spots = " ".join(
            f"{across(second + 0.5)},{round(HEIGHT * (1 - share), 1)}" for second, share in enumerate(values)
        )
        parts.append(
            f"<polyline data-way='{way}' points='{spots}' fill='none' stroke='{colour_of(way)}' stroke-width='2'/>"
        )
    return [*parts, "</g>"]
