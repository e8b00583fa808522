"""Drawings as SVG, written by hand: curves by how much is in flight, both axes logarithmic, and bars.

Knows nothing of a particular benchmark: whatever results are points of a way's curve are drawn, a colour a way; and
whatever a report asks to be drawn as bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

from bench.report import Environment, Report, Result

COLOURS = ("#d1495b", "#1b6ca8", "#3a7d44", "#e08e1b", "#7b4fa3", "#3aa6a0", "#8a6d3b", "#555555", "#b5538a", "#92a33c")
"""Told apart in print, too, with the marks; the first is for the first way."""
MARKS = ("circle", "square", "diamond")
FONT = "font-family='system-ui, Helvetica, Arial, sans-serif'"
INK, FAINT, GRID = "#222", "#666", "#e3e3e3"
LEFT, TOP, BOTTOM, GAP = 84, 74, 52, 76
LABELS = 190
"""Room at the right for the names of the ways."""
LABEL_HEIGHT = 15
BAR_HEIGHT = 30


class Curve(NamedTuple):
    way: str
    points: list[tuple[int, float]]
    """How many in flight, and the value."""


class Panel(NamedTuple):
    title: str
    curves: list[Curve]


def plots(report: Report) -> dict[str, str]:
    """Drawings by name: the bars that the report asks for, and curves where a way has been measured at two points."""
    about = described(report.environment)
    by_name = {each.name: each for each in report.results}
    drawn = {
        one.name: draw_bars(one.title, about, [(name, float(getattr(by_name[name], one.value))) for name in one.of])
        for one in report.bars
    }
    if not any(len(curve.points) > 1 for curve in _curves(report.results, lambda each: each.rate_per_s)):
        return drawn

    def curves(value: Callable[[Result], float]) -> list[Curve]:
        return _curves(report.results, value)

    return drawn | {
        "rate": draw("Durable appends a second", about, [Panel("", curves(lambda each: each.rate_per_s))]),
        "latency": draw(
            "Milliseconds from command to acknowledgement",
            about,
            [
                Panel("p50", curves(lambda each: each.p50_ms)),
                Panel("p99", curves(lambda each: each.p99_ms)),
            ],
        ),
    }


def draw_bars(title: str, about: str, values: Sequence[tuple[str, float]], width: int = 470) -> str:
    """Named values below each other, as long as they are large."""
    longest = max((value for _, value in values), default=0.0) or 1.0
    height = TOP + BAR_HEIGHT * len(values) + GAP // 2
    parts = [
        *svg_head(LABELS + width + LABELS, height),
        svg_text(GAP // 4, 26, title, size=17, weight="600"),
        svg_text(GAP // 4, 45, about, size=11, colour=FAINT),
    ]
    for index, (name, value) in enumerate(values):
        y, length = TOP + BAR_HEIGHT * index, round(value / longest * width, 1)
        said = f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"
        parts += [
            f"<rect data-bar='{escape(name, quote=True)}' x='{LABELS}' y='{y}' width='{length}' "
            f"height='{BAR_HEIGHT - 8}' fill='{colour_of(index)}'/>",
            svg_text(LABELS - 9, y + BAR_HEIGHT // 2, name.replace("_", " "), anchor="end"),
            svg_text(LABELS + length + 9, y + BAR_HEIGHT // 2, said),
        ]
    return "\n".join([*parts, "</svg>", ""])


def draw(title: str, about: str, panels: Sequence[Panel], width: int = 470, height: int = 380) -> str:
    """Panels side by side on the same scales, each `width` x `height`, the ways named beside the last."""
    points = [point for panel in panels for curve in panel.curves for point in curve.points]
    across = Axis.of((number for number, _ in points), width, exact=True)
    up = Axis.of((value for _, value in points), height, exact=False)
    ways = list(dict.fromkeys(curve.way for panel in panels for curve in panel.curves))
    whole_width = LEFT + len(panels) * width + (len(panels) - 1) * GAP + LABELS
    whole_height = TOP + height + BOTTOM
    parts = [
        *svg_head(whole_width, whole_height),
        svg_text(LEFT, 26, title, size=17, weight="600"),
        svg_text(LEFT, 45, about, size=11, colour=FAINT),
    ]
    for index, panel in enumerate(panels):
        left = LEFT + index * (width + GAP)
        parts += [f"<g transform='translate({left} {TOP})'>", *_panel(panel, ways, across, up, width, height)]
        if index == len(panels) - 1:
            parts += _labels(panel, ways, across, up, width, height)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


class Axis(NamedTuple):
    """A logarithmic scale onto pixels."""

    low: float
    high: float
    length: int
    ticks: list[float]

    @classmethod
    def of(cls, values: Iterable[float], length: int, *, exact: bool) -> Axis:
        """Over positive values. `exact`: a tick at every value; else at 1, 10, 100 and so on around them."""
        found = sorted(set(values))
        if exact:
            low, high = log10(found[0]), log10(found[-1])
            return cls(low, high if high > low else low + 1, length, found)
        first, last = floor(log10(found[0])), ceil(log10(found[-1]))
        last += first == last
        return cls(first, last, length, [10.0**power for power in range(first, last + 1)])

    def at(self, value: float) -> float:
        return round((log10(value) - self.low) / (self.high - self.low) * self.length, 1)


def _curves(results: Sequence[Result], value: Callable[[Result], float]) -> list[Curve]:
    ways = dict.fromkeys(each.way for each in results if each.way)
    return [
        Curve(way, sorted((each.in_flight, value(each)) for each in results if each.way == way and value(each) > 0))
        for way in ways
    ]


def svg_head(width: int, height: int) -> list[str]:
    return [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}' {FONT}>",
        "<rect width='100%' height='100%' fill='white'/>",
    ]


def described(machine: Environment) -> str:
    replicas = f"{machine.replicas} replica{'s' if machine.replicas > 1 else ''}"
    hardware = f"{machine.cores} cores ({machine.cpu}), {machine.memory_gb:g} GB, {machine.storage}"
    software = f"nats-server {machine.nats_server}, Python {machine.python}"
    return f"sync {machine.sync}, {replicas} · {hardware} · {software}"


def _panel(panel: Panel, ways: Sequence[str], across: Axis, up: Axis, width: int, height: int) -> list[str]:
    parts: list[str] = []
    for tick in across.ticks:
        x = across.at(tick)
        parts.append(f"<path d='M{x} 0V{height}' stroke='{GRID}'/>")
        parts.append(svg_text(x, height + 19, f"{tick:,g}" if tick < 1_000 else f"{tick:,.0f}", anchor="middle"))
    for tick in up.ticks:
        y = height - up.at(tick)
        parts.append(f"<path d='M0 {y}H{width}' stroke='{GRID}'/>")
        parts.append(svg_text(-9, y + 4, f"{tick:,.0f}" if tick >= 1 else f"{tick:g}", anchor="end"))
    parts.append(f"<path d='M0 0V{height}H{width}' fill='none' stroke='{FAINT}'/>")
    parts.append(svg_text(width / 2, height + 41, "in flight", anchor="middle", colour=FAINT))
    if panel.title:
        parts.append(svg_text(10, 18, panel.title, size=14, weight="600"))
    for curve in panel.curves:
        index = ways.index(curve.way)
        spots = [(across.at(number), round(height - up.at(value), 1)) for number, value in curve.points]
        line = " ".join(f"{x},{y}" for x, y in spots)
        parts.append(
            f"<g data-way='{escape(curve.way, quote=True)}' fill='{colour_of(index)}' stroke='{colour_of(index)}'>"
        )
        parts.append(f"<polyline points='{line}' fill='none' stroke-width='{3 if index == 0 else 1.8}'/>")
        parts += [_mark(x, y, index) for x, y in spots]
        parts.append("</g>")
    return parts


def _labels(panel: Panel, ways: Sequence[str], across: Axis, up: Axis, width: int, height: int) -> list[str]:
    """The names, each beside its curve's end as far as they do not meet, with a line to it."""
    ends = sorted(
        (height - up.at(curve.points[-1][1]), across.at(curve.points[-1][0]), curve.way)
        for curve in panel.curves
        if curve.points
    )
    parts: list[str] = []
    for (end, x, way), y in zip(ends, apart([end for end, _, _ in ends], LABEL_HEIGHT, height), strict=True):
        colour = colour_of(ways.index(way))
        if x < width:
            parts.append(
                f"<path d='M{x + 6} {end}L{width + 8} {y}' stroke='{colour}' stroke-width='0.7' "
                "stroke-dasharray='2 3' fill='none'/>"
            )
        parts.append(svg_text(width + 12, y + 4, way.replace("_", " "), colour=colour, weight="600"))
    return parts


def apart(wanted: Sequence[float], distance: float, limit: float) -> list[float]:
    """Places in ascending order, near the wanted ones, at least so far from each other, none beyond the limit."""
    places = list(wanted)
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + distance)
    over = limit
    for index in reversed(range(len(places))):
        places[index] = min(places[index], over)
        over = places[index] - distance
    return [round(place, 1) for place in places]


def colour_of(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _mark(x: float, y: float, index: int) -> str:
    match MARKS[index % len(MARKS)]:
        case "circle":
            return f"<circle cx='{x}' cy='{y}' r='3.6'/>"
        case "square":
            return f"<rect x='{x - 3.2:.1f}' y='{y - 3.2:.1f}' width='6.4' height='6.4'/>"
        case _:
            return f"<path d='M{x} {y - 4.6:.1f}l4.6 4.6l-4.6 4.6l-4.6 -4.6z'/>"


def svg_text(
    x: float, y: float, what: str, *, size: int = 12, anchor: str = "start", colour: str = INK, weight: str = "400"
) -> str:
    return (
        f"<text x='{x}' y='{y}' font-size='{size}' text-anchor='{anchor}' fill='{colour}' "
        f"font-weight='{weight}'>{escape(what)}</text>"
    )
