"""A brief block is the block, less what nobody asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from msgspec import Struct

from bus.logs.blocks import Block, BlockDecoder, Commit
from bus.logs.brief import BriefBlock, BriefDecoder
from domains.kernel import Upcaster

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Placed(Struct, frozen=True, tag="Placed.2"):
    order_id: str
    customer_id: str
    lines: tuple[str, ...]


class PlacedV1(Struct, frozen=True, tag="Placed"):
    order_id: str


class Paid(Struct, frozen=True, tag=True):
    order_id: str
    cents: int


WHOLE: BlockDecoder[object] = BlockDecoder(
    (Placed, Paid), (Upcaster(PlacedV1, lambda old: Placed(old.order_id, "nobody", ())),)
)
BRIEF = BriefDecoder(WHOLE, {Placed: {"order_id", "customer_id"}})


def block(*events: object) -> bytes:
    commits = [Commit(f"id{n}", "o1", n + 1, [event], occurred_at=NOW) for n, event in enumerate(events)]
    return msgspec.json.encode(Block("e", NOW, "p", commits))


def test_events_have_the_fields_that_were_asked_for_and_no_others() -> None:
    found = BRIEF.decode(block(Placed("o1", "c1", ("a", "b")), Paid("o1", 7)))
    assert isinstance(found, BriefBlock)
    assert (found.epoch, found.at, found.prev) == ("e", NOW, "p")
    placed, paid = (commit.events[0] for commit in found.commits)
    assert [(BRIEF.kinds[type(event)], msgspec.to_builtins(event)) for event in (placed, paid)] == [
        (Placed, {"type": "Placed.2", "order_id": "o1", "customer_id": "c1"}),
        (Paid, {"type": "Paid"}),
    ]
    assert [(commit.version, commit.occurred_at) for commit in found.commits] == [(1, NOW), (2, NOW)]


def test_a_block_with_an_older_version_is_decoded_whole() -> None:
    found = BRIEF.decode(block(PlacedV1("o1"), Paid("o1", 7)))
    assert isinstance(found, Block)
    assert [commit.events for commit in found.commits] == [[Placed("o1", "nobody", ())], [Paid("o1", 7)]]


def test_what_is_no_block_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        BRIEF.decode(b'{"epoch": "e"}')
