"""The points of each customer."""

from __future__ import annotations

from msgspec import Struct

from domains.loyalty.messages import PointsEarned, PointsReturned
from projections.projection import Projection
from projections.reader import Query

loyalty = Projection(
    name="loyalty",
    version=1,
    stream="loyalty",
    key="customer_id",
    schema="""
    CREATE TABLE loyalty (
        customer_id TEXT PRIMARY KEY, earned INTEGER NOT NULL, returned INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    on={
        PointsEarned: """
            INSERT INTO loyalty VALUES (:customer_id, :points, 0)
            ON CONFLICT (customer_id) DO UPDATE SET earned = earned + excluded.earned
        """,
        PointsReturned: "UPDATE loyalty SET returned = returned + :points WHERE customer_id = :customer_id",
    },
)


class LoyaltyRow(Struct, frozen=True):
    customer_id: str
    points: int
    earned: int
    returned: int


LOYALTY = Query(
    loyalty,
    "SELECT customer_id, earned - returned AS points, earned, returned FROM loyalty WHERE customer_id = :customer_id",
    LoyaltyRow,
    by_key=True,
)
