"""The list of customers: a consumer whose inbox is its position, so that what comes again changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import Struct

from bus.logs.blocks import Commit
from domains.customers.messages import CustomerChanged, CustomerErased, CustomerRegistered
from projections.batches import Batch, ReadBlock
from projections.customers import customer_status
from projections.store import Store

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
LIVES: list[list[tuple[str, int, Struct]]] = [
    [("a", 1, CustomerRegistered("a")), ("b", 1, CustomerRegistered("b"))],
    [("a", 2, CustomerChanged("a", ("name",))), ("a", 3, CustomerChanged("a", ("email", "phone")))],
    [("b", 2, CustomerErased("b")), ("a", 4, CustomerChanged("a", ("name",)))],
]
BLOCKS = [
    ReadBlock(
        sequence,
        AT + timedelta(minutes=sequence),
        [Commit(f"{aggregate}-{version}", aggregate, version, [event]) for aggregate, version, event in commits],
    )
    for sequence, commits in enumerate(LIVES, start=2)
]


@pytest.mark.parametrize("batches", [[(0, 3)], [(0, 1), (1, 2), (2, 3)], [(0, 2), (0, 2), (1, 3), (0, 3)]])
def test_each_change_counts_once_however_often_it_comes(tmp_path: Path, batches: list[tuple[int, int]]) -> None:
    with Store.create(customer_status, tmp_path / "customer_status@1.1.db", "epoch") as store:
        for begin, end in batches:
            store.apply(Batch(BLOCKS[begin:end], {}))
        assert list(store.rows("customer_status")) == [
            ("a", "registered", 4, 3, "2026-11-21T09:32:00.000000Z", "2026-11-21T09:34:00.000000Z"),
            ("b", "erased", 2, 0, "2026-11-21T09:32:00.000000Z", "2026-11-21T09:34:00.000000Z"),
        ]
        assert store.position.sequence == 4
