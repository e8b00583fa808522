"""One row a customer: since when it is known, and what has become of it. Nothing personal: the log has none of that.

A consumer of what an outbox told. Its inbox is its position, which moves with its rows in one transaction: so a change
is counted once, however often it comes.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from domains.customers.messages import CustomerChanged, CustomerErased, CustomerRegistered
from projections.projection import Projection
from projections.reader import Query

customer_status = Projection(
    name="customer_status",
    version=1,
    stream="customers",
    key="customer_id",
    schema="""
    CREATE TABLE customer_status (
        customer_id TEXT PRIMARY KEY, status TEXT NOT NULL, version INTEGER NOT NULL, changes INTEGER NOT NULL,
        registered_at TEXT NOT NULL, changed_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX customer_by_status ON customer_status (status, customer_id);
    """,
    on={
        CustomerRegistered: "INSERT INTO customer_status VALUES (:customer_id, 'registered', :version, 0, :at, :at)",
        CustomerChanged: """
            UPDATE customer_status SET version = :version, changes = changes + 1, changed_at = :at
            WHERE customer_id = :customer_id
        """,
        CustomerErased: """
            UPDATE customer_status SET status = 'erased', version = :version, changed_at = :at
            WHERE customer_id = :customer_id
        """,
    },
)


class CustomerStatus(Struct, frozen=True):
    """`changes`: how often its data changed after it was registered."""

    customer_id: str
    status: Literal["registered", "erased"]
    version: int
    changes: int
    registered_at: str
    changed_at: str


_COLUMNS = "SELECT customer_id, status, version, changes, registered_at, changed_at FROM customer_status"
_PAGE = "customer_id > :after ORDER BY customer_id LIMIT :limit"

CUSTOMERS = Query(customer_status, f"{_COLUMNS} WHERE {_PAGE}", CustomerStatus)
CUSTOMERS_OF_STATUS = Query(customer_status, f"{_COLUMNS} WHERE status = :status AND {_PAGE}", CustomerStatus)
