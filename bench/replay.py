"""How fast is the log replayed, how long may it be, and does anyone notice? The read engine's rebuilds.

Each part is a question of its own (`just bench PART`) and runs here in a process of its own; their reports become one:

- `rebuild`: read models built from blocks, beside nats-py's ordered consumer, SQLite and pyeventsourcing;
- `length`: a log of 5,000,000 events against one of 100,000, and the memory that it takes;
- `meanwhile`: queries while read models are rebuilt.

Budgets: those of the parts.
"""

from __future__ import annotations

from msgspec.structs import replace

from bench.parts import run_parts
from bench.report import Report
from bench.rounds import Pace, Told

PARTS = ("rebuild", "length", "meanwhile")
QUICK_PARTS = ("rebuild", "meanwhile")


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    whole = await run_parts("replay", QUICK_PARTS if quick else PARTS, quick=quick, told=told)
    left_out = [f"{name}: not in a quick run" for name in PARTS if quick and name not in QUICK_PARTS]
    return replace(whole, skipped=[*whole.skipped, *left_out])
