"""One product of the catalogue: unknown until it is defined, then revised as often as one likes."""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from domains.catalogue.messages import CatalogueCommand, CatalogueEvent, DefineProduct, ProductDefined, ProductRevised
from domains.kernel import Decider, hosted


class Unknown(Struct, frozen=True, tag=True): ...


class Listed(Struct, frozen=True, tag=True):
    name: str
    category: str
    price_cents: int
    currency: str


Product = Unknown | Listed


def decide(product: Product, command: CatalogueCommand) -> list[CatalogueEvent]:
    wanted = Listed(command.name, command.category, command.price_cents, command.currency)
    match product:
        case Unknown():
            return [ProductDefined(command.sku, wanted.name, wanted.category, wanted.price_cents, wanted.currency)]
        case Listed() if product == wanted:
            return []
        case Listed():
            return [ProductRevised(command.sku, wanted.name, wanted.category, wanted.price_cents, wanted.currency)]
        case _:
            assert_never(product)


def evolve(product: Product, event: CatalogueEvent) -> Product:
    match event:
        case ProductDefined() | ProductRevised():
            return Listed(event.name, event.category, event.price_cents, event.currency)
        case _:
            assert_never(event)


products: Decider[Product, CatalogueCommand, CatalogueEvent] = Decider("catalogue", Unknown(), decide, evolve)

catalogue = hosted(
    products,
    commands=(DefineProduct,),
    events=(ProductDefined, ProductRevised),
    states=(Unknown, Listed),
    target=lambda command: command.sku,
    owner=lambda event: event.sku,
)
