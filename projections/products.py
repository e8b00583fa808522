"""The products, as the catalogue knows them."""

from __future__ import annotations

from msgspec import Struct

from domains.catalogue.messages import ProductDefined, ProductRevised
from projections.projection import Projection
from projections.reader import Query

_SAVE = """
INSERT INTO product VALUES (:sku, :name, :category, :price_cents, :currency, :version, :at)
ON CONFLICT (sku) DO UPDATE SET name = excluded.name, category = excluded.category, price_cents = excluded.price_cents,
    currency = excluded.currency, version = excluded.version, changed_at = excluded.changed_at
"""

products = Projection(
    name="products",
    version=1,
    stream="catalogue",
    key="sku",
    schema="""
    CREATE TABLE product (
        sku TEXT PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, price_cents INTEGER NOT NULL,
        currency TEXT NOT NULL, version INTEGER NOT NULL, changed_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX product_by_category ON product (category, sku);
    """,
    on={ProductDefined: _SAVE, ProductRevised: _SAVE},
)


class ProductRow(Struct, frozen=True):
    sku: str
    name: str
    category: str
    price_cents: int
    currency: str
    version: int


_COLUMNS = "SELECT sku, name, category, price_cents, currency, version FROM product"

PRODUCT = Query(products, f"{_COLUMNS} WHERE sku = :sku", ProductRow, by_key=True)
PRODUCTS = Query(products, f"{_COLUMNS} WHERE sku > :after ORDER BY sku LIMIT :limit", ProductRow)
PRODUCTS_OF_CATEGORY = Query(
    products, f"{_COLUMNS} WHERE category = :category AND sku > :after ORDER BY sku LIMIT :limit", ProductRow
)
PRODUCTS_OF_SKUS = Query(
    products, f"{_COLUMNS} WHERE sku IN (SELECT value FROM json_each(:skus))", ProductRow, by_key=True
)
