"""What is bought with what: in how many orders each two products stand together, and each one at all. As placed: what
became of an order says nothing about what goes together."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from itertools import permutations

from msgspec import Struct

from domains.orders.messages import OrderPlaced
from projections.projection import Projection, Recorded
from projections.reader import Query
from projections.rows import ROWS, write

PAIRED_MAX = 20
"""Products of one order that are paired with each other: pairs grow with the square, and who buys hundreds of things at
once stocks up rather than chooses."""

_PAIR = f"""
INSERT INTO bought_together {ROWS}
ON CONFLICT (sku, other) DO UPDATE SET orders = orders + excluded.orders
"""
_SOLD = f"INSERT INTO sold {ROWS} ON CONFLICT (sku) DO UPDATE SET orders = orders + excluded.orders"


def _fold(connection: sqlite3.Connection, batch: Sequence[Recorded]) -> None:
    sold: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for recorded in batch:
        for event in recorded.commit.events:
            if isinstance(event, OrderPlaced):
                skus = list(dict.fromkeys(line.sku for line in event.lines))
                sold.update(skus)
                pairs.update(permutations(skus[:PAIRED_MAX], 2))
    write(connection, _SOLD, sorted(sold.items()))
    write(connection, _PAIR, [(sku, other, orders) for (sku, other), orders in sorted(pairs.items())])


bought_together = Projection(
    name="bought_together",
    version=1,
    stream="orders",
    schema="""
    CREATE TABLE bought_together (
        sku TEXT NOT NULL, other TEXT NOT NULL, orders INTEGER NOT NULL, PRIMARY KEY (sku, other)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX bought_together_most ON bought_together (sku, orders DESC, other);
    CREATE TABLE sold (sku TEXT PRIMARY KEY, orders INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX sold_most ON sold (orders DESC, sku);
    """,
    on={},
    batch=_fold,
)


class BoughtRow(Struct, frozen=True):
    """A product and in how many orders it stood."""

    sku: str
    orders: int


BOUGHT_WITH = Query(
    bought_together,
    "SELECT other AS sku, orders FROM bought_together WHERE sku = :sku ORDER BY orders DESC, other LIMIT :limit",
    BoughtRow,
)
"""With one product, the most frequent first."""
MOST_BOUGHT = Query(bought_together, "SELECT sku, orders FROM sold ORDER BY orders DESC, sku LIMIT :limit", BoughtRow)
