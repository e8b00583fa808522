"""Waiting until a read model shows a position: on what is announced, not on a database."""

from __future__ import annotations

from bus.announcements import Standings
from bus.logs.log import EPOCH_SEQUENCE
from projections.projection import Projection
from projections.reader import Reader


async def reached(standings: Standings, reader: Reader, model: Projection, sequence: int, wait_s: float) -> bool:
    """Whether it does, in time."""
    if sequence <= EPOCH_SEQUENCE:
        return True
    if standings.latest(model.name) is None and await reader.sequence(model.name) >= sequence:
        return True
    return await standings.wait(model.name, sequence, wait_s)
