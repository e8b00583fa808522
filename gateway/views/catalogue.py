"""The catalogue as orders and receipts need it: products by SKU, remembered for as long as nothing was announced.

The read model's worker announces every change when it has been written, and every second where it stands. Each time
what is remembered is forgotten, so it is never older than what whoever waited for a position may rely on; and where
nothing is announced yet, nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable

from bus.announcements import Standing, Standings
from projections.commit_index import json_array
from projections.products import PRODUCTS_OF_SKUS, ProductRow, products
from projections.reader import Reader

REMEMBERED_MAX = 20_000


class Catalogue:
    def __init__(self, reader: Reader, standings: Standings) -> None:
        self._reader = reader
        self._standings = standings
        self._known: dict[str, ProductRow] = {}
        self._as_of: Standing | None = None

    async def of(self, skus: Iterable[str]) -> dict[str, ProductRow]:
        """Those of these products that there are."""
        as_of = self._standings.latest(products.name)
        if as_of is not self._as_of or len(self._known) > REMEMBERED_MAX:
            self._known, self._as_of = {}, as_of
        known = self._known
        found = {sku: known[sku] for sku in skus if sku in known}
        missing = [sku for sku in skus if sku not in found]
        if missing:
            for row in await self._reader.all(PRODUCTS_OF_SKUS, skus=json_array(missing)):
                found[row.sku] = row
                if as_of is not None:
                    known[row.sku] = row  # Of `as_of` at least, and forgotten with it.
        return found
