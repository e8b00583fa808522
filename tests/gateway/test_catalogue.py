"""What is remembered of the catalogue is never older than what was announced."""

from __future__ import annotations

from typing import Any, cast

from bus.announcements import Standing, Standings
from gateway.views.catalogue import Catalogue
from projections.products import ProductRow
from projections.reader import Reader


class Shelves:
    """A reader and standings of one product, whose price changes."""

    def __init__(self) -> None:
        self.price_cents = 100
        self.reads = 0
        self.announced: Standing | None = None

    async def all(self, query: object, *, skus: str) -> list[ProductRow]:
        self.reads += 1
        return [ProductRow("a", "A", "things", self.price_cents, "EUR", 1)] if '"a"' in skus else []

    def latest(self, name: str) -> Standing | None:
        return self.announced

    def announce(self) -> None:
        self.announced = Standing("products", 1, "catalogue", 2, 2)


def catalogue_of(shelves: Shelves) -> Catalogue:
    what: Any = shelves
    return Catalogue(cast("Reader", what), cast("Standings", what))


async def price_of(catalogue: Catalogue) -> int:
    return (await catalogue.of(["a"]))["a"].price_cents


async def test_a_product_is_remembered_until_something_is_announced() -> None:
    shelves = Shelves()
    shelves.announce()
    catalogue = catalogue_of(shelves)
    assert [await price_of(catalogue) for _ in range(3)] == [100] * 3
    assert shelves.reads == 1
    shelves.price_cents = 200
    shelves.announce()
    assert await price_of(catalogue) == 200


async def test_nothing_is_remembered_before_the_first_announcement() -> None:
    shelves = Shelves()
    catalogue = catalogue_of(shelves)
    assert await price_of(catalogue) == 100
    shelves.price_cents = 200
    assert await price_of(catalogue) == 200


async def test_a_product_that_is_unknown_is_looked_for_again() -> None:
    shelves = Shelves()
    shelves.announce()
    catalogue = catalogue_of(shelves)
    assert await catalogue.of(["b"]) == {}
    assert await catalogue.of(["b"]) == {}
    assert shelves.reads == 2
