"""The plot of the matrix: every call, when it began and how long its caller waited, and how long its effect took."""

from __future__ import annotations

from math import log10

from bench.matrix.styles import SAID, STYLES
from bench.matrix.trouble import Asked, Ran
from bench.plot import COLOURS, FAINT, GAP, GRID, TOP, described, svg_head, svg_text
from bench.report import Environment

WIDTH, HEIGHT, LEFT = 760, 120, 230
TICK_S = 10
SHADE = "#f6e7d8"
LOW_MS, DECADES = 1.0, 5
"""From 1 ms to 100 s."""
FAILED = "#d1495b"


def drawn(ran: Ran, machine: Environment) -> str:
    """A row a style: answers as circles, red where they were not as hoped for, and effects as ticks."""
    height = TOP + (HEIGHT + GAP // 2) * len(STYLES) + GAP
    seconds = max((each.began_s for each in ran.asked), default=1.0)
    parts = [
        *svg_head(LEFT + WIDTH + GAP, height),
        svg_text(20, 26, "The same reservation in five styles, and a callee in trouble", size=17, weight="600"),
        svg_text(20, 45, described(machine), size=11, colour=FAINT),
    ]
    for index, style in enumerate(STYLES):
        parts.append(f"<g data-way='{style}' transform='translate({LEFT} {TOP + (HEIGHT + GAP // 2) * index})'>")
        parts.append(svg_text(20 - LEFT, HEIGHT / 2, SAID[style], weight="600"))
        for window in ran.windows:
            x, end = (_across(at, seconds) for at in (window.began_s, max(window.ended_s, window.began_s + 0.2)))
            parts.append(f"<rect x='{x}' width='{round(end - x, 1)}' height='{HEIGHT}' fill='{SHADE}'/>")
            parts.append(svg_text(x + 3, -5, window.trouble, size=11, colour=FAINT) if index == 0 else "")
        for power in range(DECADES + 1):
            y = round(HEIGHT * (1 - power / DECADES), 1)
            parts.append(f"<path d='M0 {y}H{WIDTH}' stroke='{GRID}'/>")
            parts.append(svg_text(-8, y + 4, _time(power), size=10, anchor="end"))
        for each in ran.asked:
            if each.style == style:
                parts += _marks(each, seconds, COLOURS[1 + index])
        parts.append("</g>")
    bottom = TOP + (HEIGHT + GAP // 2) * len(STYLES) - GAP // 2
    for second in range(0, int(seconds) + 1, TICK_S):
        parts.append(svg_text(LEFT + _across(second, seconds), bottom + 16, f"{second} s", size=10, anchor="middle"))
    said = "circles: how long callers waited, red: not answered as hoped for; ticks: until the effect"
    parts.append(svg_text(LEFT, bottom + 38, said, colour=FAINT))
    return "\n".join([*(part for part in parts if part), "</svg>", ""])


def _marks(each: Asked, seconds: float, colour: str) -> list[str]:
    x = _across(each.began_s, seconds)
    shade = colour if each.answered else FAILED
    marks = [f"<circle cx='{x}' cy='{_up(each.took_s)}' r='2.2' fill='none' stroke='{shade}'/>"]
    if each.effect_s is not None:
        marks.append(f"<path d='M{x - 2} {_up(each.effect_s - each.began_s)}h4' stroke='{colour}'/>")
    return marks


def _across(second: float, seconds: float) -> float:
    return round(second / max(1.0, seconds) * WIDTH, 1)


def _up(took_s: float) -> float:
    share = log10(max(LOW_MS, took_s * 1_000) / LOW_MS) / DECADES
    return round(HEIGHT * (1 - min(1.0, share)), 1)


def _time(power: int) -> str:
    return f"{10**power} ms" if power < 3 else f"{10 ** (power - 3)} s"
