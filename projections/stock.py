"""What is on the shelves and what of it is promised."""

from __future__ import annotations

from msgspec import Struct

from domains.inventory.messages import ItemDispatched, ItemReleased, ItemReserved, StockReceived
from projections.projection import Projection
from projections.reader import Query

stock = Projection(
    name="stock",
    version=1,
    stream="inventory",
    key="sku",
    schema="""
    CREATE TABLE stock (
        sku TEXT PRIMARY KEY, on_hand INTEGER NOT NULL, reserved INTEGER NOT NULL, version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    on={
        StockReceived: """
            INSERT INTO stock VALUES (:sku, :quantity, 0, :version)
            ON CONFLICT (sku) DO UPDATE SET on_hand = on_hand + excluded.on_hand, version = excluded.version
        """,
        ItemReserved: "UPDATE stock SET reserved = reserved + :quantity, version = :version WHERE sku = :sku",
        ItemReleased: "UPDATE stock SET reserved = reserved - :quantity, version = :version WHERE sku = :sku",
        ItemDispatched: """
            UPDATE stock SET on_hand = on_hand - :quantity, reserved = reserved - :quantity, version = :version
            WHERE sku = :sku
        """,
    },
    never={
        "more is promised than there is": "SELECT * FROM stock WHERE reserved < 0 OR reserved > on_hand",
    },
)


class StockRow(Struct, frozen=True):
    sku: str
    on_hand: int
    reserved: int
    available: int


_COLUMNS = "SELECT sku, on_hand, reserved, on_hand - reserved AS available FROM stock"

STOCK = Query(stock, f"{_COLUMNS} WHERE sku = :sku", StockRow, by_key=True)
STOCK_OF_SKUS = Query(stock, f"{_COLUMNS} WHERE sku IN (SELECT value FROM json_each(:skus))", StockRow)
