"""The catalogue's public face: its commands and events."""

from __future__ import annotations

from msgspec import Struct

from domains.kernel import Cents, Currency, Id, Name


class DefineProduct(Struct, frozen=True, tag=True):
    """Make the product what is said here, whether it existed or not."""

    sku: Id
    name: Name
    category: Name
    price_cents: Cents
    currency: Currency


class ProductDefined(Struct, frozen=True, tag=True):
    sku: str
    name: str
    category: str
    price_cents: int
    currency: str


class ProductRevised(Struct, frozen=True, tag=True):
    sku: str
    name: str
    category: str
    price_cents: int
    currency: str


CatalogueCommand = DefineProduct
CatalogueEvent = ProductDefined | ProductRevised
