"""The notices: what a customer was to be told about an order, and what came of it."""

from __future__ import annotations

from msgspec import Struct

from domains.notifications.messages import NoticeFailed, NoticeRequested, NoticeSent
from projections.projection import Fact, Projection, Statement, bound
from projections.reader import Query

_REQUESTED = "INSERT INTO notice VALUES (:order_id, :customer_id, 'requested', :at, NULL, NULL, NULL)"


def _requested(fact: Fact) -> list[Statement]:
    requested = fact.event
    assert isinstance(requested, NoticeRequested)
    return [bound(_REQUESTED, fact, customer_id=requested.purchase.customer_id)]


notices = Projection(
    name="notices",
    version=1,
    stream="notifications",
    key="order_id",
    schema="""
    CREATE TABLE notice (
        order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, status TEXT NOT NULL, requested_at TEXT NOT NULL,
        settled_at TEXT, message_id TEXT, reason TEXT
    ) STRICT, WITHOUT ROWID;
    """,
    on={
        NoticeRequested: _requested,
        NoticeSent: """
            UPDATE notice SET status = 'sent', settled_at = :at, message_id = :message_id, reason = NULL
            WHERE order_id = :order_id
        """,
        NoticeFailed: """
            UPDATE notice SET status = 'failed', settled_at = :at, reason = :reason WHERE order_id = :order_id
        """,
    },
)


class NoticeRow(Struct, frozen=True):
    """`status`: requested, sent (a mail server took it) or failed. `reason`: why it was given up."""

    order_id: str
    customer_id: str
    status: str
    requested_at: str
    settled_at: str | None
    message_id: str | None
    reason: str | None


NOTICES = Query(notices, "SELECT * FROM notice WHERE order_id > :after ORDER BY order_id LIMIT :limit", NoticeRow)
NOTICE = Query(notices, "SELECT * FROM notice WHERE order_id = :order_id", NoticeRow, by_key=True)
