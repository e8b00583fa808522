"""The whole import of what was read from a folder: send it, wait for what follows and for the read models, compare."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from msgspec import Struct

from bus.announcements import Standings
from bus.logs.log import Log
from bus.reactors.observers import intake
from bus.sender import Sender
from gateway.importing.differences import Reconciliation
from gateway.importing.olist import Records
from gateway.importing.plan import lives_of, people, plan, reviewed, reviews, sold_products
from gateway.importing.reconcile import READ_MODELS, READ_MODELS_AFTER, reconcile
from gateway.importing.rows import BadRow
from gateway.importing.run import ImportFailed, OnProgress, Patience, Sent, run
from projections.order_summary import order_summary
from projections.projection import Projection
from projections.reader import Reader, ReadModelMissing

STREAM = order_summary.stream
HEARING = ("billing", "reviews")
"""Who does something about the orders that is waited for: invoices are compared, and reviews rest on it."""
LOOK_AGAIN_S = 1.0
STUCK_AFTER_S = 60.0
"""A read model that does not move for so long is not waited for any more."""


class ImportResult(Struct, frozen=True):
    """What an import came to. `unsold`: products that no order names; without a price they are left out. `unreviewed`:
    reviews of orders that did not arrive or are empty, and second ones of an order, or a person's of a product."""

    orders: int
    products: int
    unsold: int
    customers: int
    reviews: int
    unreviewed: int
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
    logs: Mapping[str, Log],
    on_progress: OnProgress = lambda done, total: None,
    patience: Patience = Patience(),  # noqa: B008  # Frozen.
    stuck_after_s: float = STUCK_AFTER_S,
) -> ImportResult:
    """Import and reconcile what was read. `standings` must have been started.

    Raises `ImportFailed` where nobody answers for too long: what was sent by then is safe, and another run goes on
    from there.
    """
    began = time.perf_counter()
    told = reviewed(records)
    persons = {order.buyer_id for order in records.orders.values()}
    total = lives_of(records) + len(persons) + len(told)

    def progress(done: int, _: int) -> None:
        on_progress(done, total)

    sent = await run(plan(records), lives_of(records), sender, progress, patience)
    await _shown(READ_MODELS, sent.positions, reader, standings, stuck_after_s)
    await run(people(records), len(persons), sender, progress, patience, sent)
    for policy in HEARING:
        await heard(policy, sent.positions.get(STREAM, 0), standings, stuck_after_s)
    refused = {refusal.subject for refusal in sent.refusals}
    possible = (life for life in reviews(records) if life.subject not in refused)
    await run(possible, len(told), sender, progress, patience, sent)
    done = time.perf_counter()
    positions = {model.stream: await logs[model.stream].head() for model in READ_MODELS_AFTER}
    await _shown(READ_MODELS_AFTER, positions, reader, standings, stuck_after_s)
    reconciliation = await reconcile(records, reader)
    sold = len(sold_products(records))
    return ImportResult(
        orders=len(records.orders),
        products=sold,
        unsold=len(records.products) - sold,
        customers=len(persons),
        reviews=len(told),
        unreviewed=records.reviews - len(told),
        bad=records.bad,
        sent=sent,
        reconciliation=reconciliation,
        send_s=round(done - began, 3),
        reconcile_s=round(time.perf_counter() - done, 3),
    )


async def heard(policy: str, wanted: int, standings: Standings, stuck_after_s: float) -> None:
    """Wait until a policy has done what follows from the orders."""
    clock = asyncio.get_running_loop().time
    name = intake(policy, STREAM)
    last, moved_at = -1, clock()
    while not await standings.wait(name, wanted, min(LOOK_AGAIN_S, stuck_after_s)):
        standing = standings.latest(name)
        if standing is not None and standing.sequence > last:
            last, moved_at = standing.sequence, clock()
        elif clock() - moved_at > stuck_after_s:
            raise ImportFailed(
                f"all orders are sent, but the policy of {policy} stays at {max(last, 0)} of {wanted}: see that the"
                " processes run, then run the import again to go on"
            )


async def _shown(
    models: Iterable[Projection],
    positions: Mapping[str, int],
    reader: Reader,
    standings: Standings,
    stuck_after_s: float,
) -> None:
    """Wait until read models show what was sent."""
    for model in models:
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
