"""The causal tree of an order: who led to whom, where a block holds several of its commits, and how long it took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bus.logs.blocks import Commit
from domains.orders.messages import OrderReserved
from gateway.views.timeline import TimelineCommit, timeline_of, tree_of
from projections.history import Caused
from projections.projection import recorded_of

BEGAN = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def caused(position: str, id: str, cause: str = "", *, after_ms: float = 0, first: int = 0, events: int = 1) -> Caused:
    log, _, sequence = position.partition("=")
    commit: Commit[object] = Commit(id, "o", 1, [OrderReserved("o")] * events, cause=cause, correlation="o")
    (recorded,) = recorded_of(int(sequence), BEGAN + timedelta(milliseconds=after_ms), [commit])
    return Caused(log, recorded, first)


def drawn(items: list[TimelineCommit]) -> list[str]:
    return [branch.lines + branch.commit.id for branch in tree_of(items)]


def test_each_commit_stands_below_what_caused_it_with_the_time_that_it_took() -> None:
    items = timeline_of(
        [
            caused("orders=2", "place"),
            caused("checkout=2", "orders-2-0", "orders=2", after_ms=2.5),
            caused("billing=2", "billing-orders-2-0-0", "orders=2", after_ms=4),
            caused("inventory=2", "checkout-2-0-0", "checkout=2", after_ms=10.25),
            caused("orders=9", "cancel", after_ms=100),
        ]
    )
    assert drawn(items) == [
        "place",
        "├─ orders-2-0",
        "│  └─ checkout-2-0-0",
        "└─ billing-orders-2-0-0",
        "cancel",
    ]
    assert [(item.caused_by, item.depth) for item in items] == [(None, 0), (0, 1), (0, 1), (1, 2), (None, 0)]
    assert [item.after_cause_ms for item in items] == [None, 2.5, 4.0, 7.75, None]
    assert [item.after_start_ms for item in items] == [0.0, 2.5, 4.0, 10.25, 100.0]


def test_of_several_commits_in_one_block_the_one_with_the_event_is_the_cause() -> None:
    items = timeline_of(
        [
            caused("checkout=7", "inventory-3-0", first=4, events=2),
            caused("checkout=7", "payments-5-0", first=9),
            caused("orders=8", "checkout-7-9-0", "checkout=7"),
            caused("payments=8", "checkout-7-5-0", "checkout=7"),
            caused("shipping=8", "another-id", "checkout=7"),
        ]
    )
    assert [item.caused_by for item in items] == [None, None, 1, 0, 0]


def test_a_cause_in_another_conversation_is_none_and_clocks_may_differ() -> None:
    items = timeline_of(
        [
            caused("checkout=2", "orders-2-0", "orders=2", after_ms=0),
            caused("orders=2", "place", "catalogue=3", after_ms=1),
        ]
    )
    assert [(item.caused_by, item.depth, item.after_cause_ms) for item in items] == [(1, 1, -1.0), (None, 0, None)]
    assert drawn(items) == ["place", "└─ orders-2-0"]
    assert timeline_of([]) == []
