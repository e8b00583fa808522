"""The reviews of each product, newest first, and how many stars they come to."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from domains.reviews.messages import ReviewPosted
from projections.commit_index import PLACES
from projections.projection import Fact, Projection, Statement, bound
from projections.reader import Query

_REVIEW = "INSERT INTO review VALUES (:sku, :place, :customer_id, :order_id, :score, :text, :at)"
_RATING = """
INSERT INTO rating VALUES (:sku, 1, :score)
ON CONFLICT (sku) DO UPDATE SET reviews = reviews + 1, scores = scores + excluded.scores
"""


def _posted(fact: Fact) -> Iterable[Statement]:
    recorded = fact.recorded
    yield bound(_REVIEW, fact, place=recorded.sequence * PLACES + recorded.offset)
    yield bound(_RATING, fact)


reviews = Projection(
    name="reviews",
    version=1,
    stream="reviews",
    key="sku",
    schema="""
    CREATE TABLE review (
        sku TEXT NOT NULL, place INTEGER NOT NULL, customer_id TEXT NOT NULL, order_id TEXT NOT NULL,
        score INTEGER NOT NULL, text TEXT NOT NULL, written_at TEXT NOT NULL, PRIMARY KEY (sku, place)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rating (
        sku TEXT PRIMARY KEY, reviews INTEGER NOT NULL, scores INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    on={ReviewPosted: _posted},
)


class ReviewRow(Struct, frozen=True):
    """`place` is where its commit lies in the log, and so its age."""

    place: int
    score: int
    text: str
    written_at: str


class RatingRow(Struct, frozen=True):
    """`rating` is the mean score, to two decimals."""

    sku: str
    rating: float


_RATINGS = "SELECT sku, round(1.0 * scores / reviews, 2) AS rating FROM rating"

REVIEWS = Query(
    reviews,
    "SELECT place, score, text, written_at FROM review WHERE sku = :sku AND place < :before"
    " ORDER BY place DESC LIMIT :limit",
    ReviewRow,
)
RATING = Query(reviews, f"{_RATINGS} WHERE sku = :sku", RatingRow, by_key=True)
RATINGS_OF_SKUS = Query(reviews, f"{_RATINGS} WHERE sku IN (SELECT value FROM json_each(:skus))", RatingRow)
