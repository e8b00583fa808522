"""The list of processes: against the decider's own fold, in batches of any size, and what counts as stuck."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bus.logs.blocks import Commit
from domains.inventory.messages import ItemQuantity, StockRefused, StockReserved
from domains.orders.messages import OrderCancelled, OrderLine, OrderPlaced, OrderShipped
from domains.payments.messages import PaymentCaptured, PaymentDeclined
from domains.processes.checkout import checkout
from domains.processes.messages import CheckoutAdvanced, CheckoutInput, Observe
from domains.shipping.messages import ShipmentPickedUp
from gateway.views.processes import ProcessStatus, processes_of
from projections.batches import Batch, ReadBlock
from projections.files import ReadModelFiles
from projections.processes import STUCK_AFTER_S, processes
from projections.reader import Reader
from projections.store import Store
from tests.specification import told

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(seconds=2 * STUCK_AFTER_S)


def placed(order_id: str) -> OrderPlaced:
    line = OrderLine("sku", "A thing", "things", quantity=1, unit_price_cents=100)
    return OrderPlaced(order_id, "c1", "EUR", (line,), 1, 100, 0, 100, "tok_ok", "orchestrated")


def reserved(order_id: str) -> StockReserved:
    return StockReserved(order_id, (ItemQuantity("sku", 1),))


def life(order_id: str, *later: CheckoutInput) -> list[CheckoutInput]:
    return [placed(order_id), *later]


LIVES: dict[str, tuple[list[CheckoutInput], ProcessStatus]] = {
    "a-reserving": (life("a-reserving"), "running"),
    "b-charging": (life("b-charging", reserved("b-charging")), "waiting"),
    "c-shipped": (
        life(
            "c-shipped",
            reserved("c-shipped"),
            PaymentCaptured("c-shipped", "ch_1", 100),
            ShipmentPickedUp("c-shipped", "pu_1"),
            OrderShipped("c-shipped"),
        ),
        "done",
    ),
    "d-refused": (life("d-refused", StockRefused("d-refused", "sku", wanted=1, available=0)), "failed"),
    "e-declined": (life("e-declined", reserved("e-declined"), PaymentDeclined("e-declined", "no")), "failed"),
    "f-leaving": (life("f-leaving", reserved("f-leaving"), OrderCancelled("f-leaving", "r")), "compensating"),
    "g-left": (life("g-left", OrderCancelled("g-left", "r"), reserved("g-left")), "failed"),
}


CANCELLED_FIRST = "h-never-begun"


def blocks(at: datetime) -> list[ReadBlock]:
    """A block a round: the next input of every life."""
    found: list[ReadBlock] = []
    states = {order_id: checkout.initial(order_id) for order_id in LIVES}
    for number in range(max(len(inputs) for inputs, _ in LIVES.values())):
        commits: list[Commit[object]] = []
        for order_id, (inputs, _) in LIVES.items():
            if number < len(inputs):
                events = checkout.decide({order_id: states[order_id]}, told(inputs[number]))
                assert events, f"{order_id} does not care about {inputs[number]}"
                for event in events:
                    states[order_id] = checkout.evolve(states[order_id], event)
                commits.append(Commit(f"{order_id}-{number}", order_id, number + 1, list(events)))
        found.append(ReadBlock(number + 2, at + timedelta(milliseconds=number), commits))
    return found


def build(folder: Path, *batches: list[ReadBlock]) -> Reader:
    files = ReadModelFiles(folder)
    path = files.next_build(processes)
    with Store.create(processes, path, "memory") as store:
        for batch in batches:
            store.apply(Batch(batch, {}))
    files.switch(processes.name, path)
    return Reader(folder)


@pytest.mark.parametrize("split", [0, 1, 2, 3])
async def test_each_stands_as_its_decider_says_however_it_was_batched(tmp_path: Path, split: int) -> None:
    every = blocks(NOW)
    reader = build(tmp_path, *(part for part in (every[:split], every[split:]) if part))
    found = await processes_of(reader, None, "", 100, NOW.timestamp)
    assert {each.process_id: each.status for each in found} == {name: status for name, (_, status) in LIVES.items()}
    for each in found:
        inputs, _ = LIVES[each.process_id]
        assert each.version == len(inputs)
        assert each.event == type(inputs[-1]).__name__
        assert each.began_at < each.changed_at or len(inputs) == 1
    last = next(each for each in found if each.process_id == "e-declined")
    assert (last.state, last.commands) == ("failed", ["ReleaseStock", "CancelOrder"])
    await reader.close()


async def test_a_cancellation_alone_is_no_process(tmp_path: Path) -> None:
    """An order that was only recorded, or whose cancellation was heard of first: nothing was begun for it."""
    events = checkout.decide(
        {CANCELLED_FIRST: checkout.initial("")}, Observe(CANCELLED_FIRST, OrderCancelled(CANCELLED_FIRST, "r"))
    )
    alone = ReadBlock(2, NOW, [Commit("c", CANCELLED_FIRST, 1, list(events))])
    reader = build(tmp_path, [alone])
    assert events
    assert await processes_of(reader, None, "", 100, NOW.timestamp) == []
    await reader.close()


async def test_what_is_under_way_and_does_nothing_is_stuck(tmp_path: Path) -> None:
    reader = build(tmp_path, blocks(LONG_AGO))

    async def ids(status: ProcessStatus | None, after: str = "", limit: int = 100) -> list[str]:
        return [each.process_id for each in await processes_of(reader, status, after, limit, NOW.timestamp)]

    assert await ids("stuck") == ["a-reserving", "b-charging", "f-leaving"]
    assert await ids("stuck", after="a-reserving", limit=1) == ["b-charging"]
    assert await ids("running") == await ids("waiting") == await ids("compensating") == []
    assert await ids("failed") == ["d-refused", "e-declined", "g-left"]
    assert await ids(None, limit=2) == ["a-reserving", "b-charging"]
    assert {each.status for each in await processes_of(reader, None, "", 100, NOW.timestamp)} == {
        "stuck",
        "done",
        "failed",
    }
    await reader.close()


def test_every_event_of_a_checkout_is_one_that_the_list_knows() -> None:
    assert checkout.events == (CheckoutAdvanced,)
