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

from bench.parts import run_parts
from bench.report import Report
from bench.rounds import Pace, Told

PARTS = ("in_flight", "hot", "nats", "http", "sync", "start", "cold", "many", "sustained")


async def run(*, quick: bool, pace: Pace, told: Told) -> Report:
    return await run_parts("append", PARTS, quick=quick, told=told)
