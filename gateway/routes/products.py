"""Products: defined by staff, read by everybody who has a token."""

from __future__ import annotations

import asyncio
from hashlib import blake2b

import msgspec
from litestar import Response, get, put
from msgspec import Struct

from domains.catalogue.messages import DefineProduct
from domains.kernel import Cents, Currency, Name
from gateway.http.bodies import JsonBody
from gateway.http.degraded import headers_of, unless_missing
from gateway.http.gate import AnyRequest, PathId, gate_of, is_known
from gateway.http.pages import LIMIT, Cursor, Limit, Page, after, page
from gateway.http.problems import Problem
from gateway.http.security import requires
from projections.products import PRODUCT, PRODUCTS, PRODUCTS_OF_CATEGORY, ProductRow, products
from projections.reviews import RATING, RATINGS_OF_SKUS, RatingRow, reviews
from projections.stock import STOCK, STOCK_OF_SKUS, StockRow, stock


class ProductBody(Struct, frozen=True):
    name: Name
    category: Name
    price_cents: Cents
    currency: Currency


class StockLevel(Struct, frozen=True):
    on_hand: int
    reserved: int
    available: int


class Product(Struct, frozen=True):
    """`rating` is the mean of the reviews' scores; null until somebody who received the product has reviewed it, and
    while reviews are yet to be read (`Degraded: reviews`)."""

    sku: str
    name: str
    category: str
    price_cents: int
    currency: str
    version: int
    stock: StockLevel
    rating: float | None = None


class DefinedProduct(Struct, frozen=True):
    sku: str
    name: str
    category: str
    price_cents: int
    currency: str
    version: int


@put("/v1/products/{sku:str}", dto=JsonBody[ProductBody], return_dto=None, opt=requires("staff"), tags=["products"])
async def define_product(request: AnyRequest, sku: PathId, data: ProductBody) -> Response[DefinedProduct]:
    """Define a product, or revise it. 201 when it is new, 200 when it was known; `If-Match` guards a revision."""
    command = DefineProduct(sku, data.name, data.category, data.price_cents, data.currency)
    gate = gate_of(request)
    written = await gate.execute(request, gate.key(request), command, correlation=sku, location=f"/v1/products/{sku}")
    defined = DefinedProduct(sku, data.name, data.category, data.price_cents, data.currency, written.version)
    status = 201 if written.version == 1 and written.events is not None else 200
    headers = {**written.headers, "Location": f"/v1/products/{sku}"}
    return Response(defined, status_code=status, headers=headers)


@get("/v1/products/{sku:str}", tags=["products"])
async def get_product(request: AnyRequest, sku: PathId) -> Response[Product | None]:
    """One product. Its `ETag` serves `If-None-Match` here and `If-Match` on a revision."""
    gate = gate_of(request)
    headers = await gate.fresh(request, products, stock, reviews)
    row, level, rating = await asyncio.gather(
        gate.reader.one(PRODUCT, sku=sku),
        gate.reader.one(STOCK, sku=sku),
        unless_missing(request, reviews.name, gate.reader.one(RATING, sku=sku), None),
    )
    if row is None:
        raise Problem(404, "product_unknown", f"there is no product {sku}")
    product = _product(row, level, rating)
    headers |= {"ETag": _etag(product), **headers_of(request)}
    if is_known(request, headers["ETag"]):
        return Response(None, status_code=304, headers=headers)
    return Response(product, headers=headers)


@get("/v1/products", tags=["products"])
async def list_products(
    request: AnyRequest, category: Name | None = None, limit: Limit = LIMIT, cursor: Cursor = ""
) -> Response[Page[Product]]:
    """All products, or those of one category, by SKU."""
    gate = gate_of(request)
    headers = await gate.fresh(request, products, stock, reviews)
    start = after(cursor)
    if category is None:
        rows = await gate.reader.all(PRODUCTS, after=start, limit=limit + 1)
    else:
        rows = await gate.reader.all(PRODUCTS_OF_CATEGORY, category=category, after=start, limit=limit + 1)
    skus = msgspec.json.encode([row.sku for row in rows]).decode()
    levels = {level.sku: level for level in await gate.reader.all(STOCK_OF_SKUS, skus=skus)}
    rated = await unless_missing(request, reviews.name, gate.reader.all(RATINGS_OF_SKUS, skus=skus), [])
    ratings = {rating.sku: rating for rating in rated}
    found = [_product(row, levels.get(row.sku), ratings.get(row.sku)) for row in rows]
    content, links = page(request, found, limit, lambda product: product.sku)
    return Response(content, headers={**headers, **links, **headers_of(request)})


def _product(row: ProductRow, level: StockRow | None, rating: RatingRow | None) -> Product:
    return Product(
        sku=row.sku,
        name=row.name,
        category=row.category,
        price_cents=row.price_cents,
        currency=row.currency,
        version=row.version,
        stock=StockLevel(level.on_hand, level.reserved, level.available) if level else StockLevel(0, 0, 0),
        rating=rating.rating if rating else None,
    )


def _etag(product: Product) -> str:
    """The version, for `If-Match`, and the content: stock and rating change without a new version."""
    content = int.from_bytes(blake2b(msgspec.json.encode(product), digest_size=7).digest())
    return f'"{product.version}.{content}"'


routes = [define_product, get_product, list_products]
