"""The whole import of what was read from a folder: send it, wait for the read models, compare."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from msgspec import Struct

from bus.announcements import Standings
from bus.sender import Sender
from gateway.importing.differences import Reconciliation
from gateway.importing.olist import BadRow, Records
from gateway.importing.plan import lives_of, plan, sold_products
from gateway.importing.reconcile import READ_MODELS, reconcile
from gateway.importing.run import ImportFailed, OnProgress, Patience, Sent, run
from projections.projection import Projection
from projections.reader import Reader, ReadModelMissing

LOOK_AGAIN_S = 1.0
STUCK_AFTER_S = 60.0
"""A read model that does not move for so long is not waited for any more."""


class ImportResult(Struct, frozen=True):
    """What an import came to. `unsold`: products that no order names; without a price they are left out."""

    orders: int
    products: int
    unsold: int
    bad: list[BadRow]
    sent: Sent
    reconciliation: Reconciliation
    send_s: float
    reconcile_s: float

    @property
    def ok(self) -> bool:
        """Everything was taken, and rows and read models agree."""
        return self.reconciliation.equal and not self.sent.refusals


async def import_records(
    records: Records,
    sender: Sender,
    reader: Reader,
    standings: Standings,
    on_progress: OnProgress = lambda done, total: None,
    patience: Patience = Patience(),  # noqa: B008  # Frozen.
    stuck_after_s: float = STUCK_AFTER_S,
) -> ImportResult:
    """Import and reconcile what was read. `standings` must have been started.

    Raises `ImportFailed` where nobody answers for too long: what was sent by then is safe, and another run goes on
    from there.
    """
    began = time.perf_counter()
    sent = await run(plan(records), lives_of(records), sender, on_progress, patience)
    done = time.perf_counter()
    await _shown(sent.positions, reader, standings, stuck_after_s)
    reconciliation = await reconcile(records, reader)
    sold = len(sold_products(records))
    return ImportResult(
        orders=len(records.orders),
        products=sold,
        unsold=len(records.products) - sold,
        bad=records.bad,
        sent=sent,
        reconciliation=reconciliation,
        send_s=round(done - began, 3),
        reconcile_s=round(time.perf_counter() - done, 3),
    )


async def _shown(positions: Mapping[str, int], reader: Reader, standings: Standings, stuck_after_s: float) -> None:
    """Wait until every read model shows what was sent."""
    for model in READ_MODELS:
        await _reached(model, positions.get(model.stream, 0), reader, standings, stuck_after_s)


async def _reached(model: Projection, wanted: int, reader: Reader, standings: Standings, stuck_after_s: float) -> None:
    clock = asyncio.get_running_loop().time
    last, moved_at = -1, clock()
    while True:
        standing = standings.latest(model.name)
        sequence = await _sequence(model, reader) if standing is None else standing.sequence
        if sequence >= wanted:
            return
        if standing is not None and standing.error:
            raise ImportFailed(f"all is sent, but the read model {model.name} has halted: {standing.error}")
        if sequence > last:
            last, moved_at = sequence, clock()
        elif clock() - moved_at > stuck_after_s:
            raise ImportFailed(
                f"all is sent, but the read model {model.name} stays at {max(last, 0)} of {wanted}: see that its worker"
                " runs, then run the import again to compare"
            )
        await standings.wait(model.name, wanted, LOOK_AGAIN_S)


async def _sequence(model: Projection, reader: Reader) -> int:
    """Where a read model's live file stands; -1 before its first build."""
    try:
        return await reader.sequence(model.name)
    except ReadModelMissing:
        return -1
