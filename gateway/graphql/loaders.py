"""What a query reads, gathered: whatever is wanted of one kind at one moment is read in one query, and once a request.

So a list of orders takes as many queries as one order does. Customers are asked of their service, which keeps them,
each once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
from strawberry.dataloader import DataLoader

from gateway.http.tokens import Principal
from projections.order_detail import LINES_OF_ORDERS, ORDERS_OF_IDS, OrderLineRow, OrderRow
from projections.payments import PAYMENTS_OF_ORDERS, PaymentRow
from projections.products import PRODUCTS_OF_SKUS, ProductRow
from projections.reader import Reader
from projections.reviews import RATINGS_OF_SKUS, RatingRow
from projections.shipments import SHIPMENTS_OF_ORDERS, ShipmentRow
from projections.stock import STOCK_OF_SKUS, StockRow

Row = TypeVar("Row")


class Loaders:
    """Of one request, by who asks: an order or a customer that one may not know of is none."""

    def __init__(
        self, reader: Reader, principal: Principal, customer: Callable[[str], Awaitable[bytes | None]]
    ) -> None:
        self.reader = reader
        self.principal = principal
        self._ask_customer = customer
        self.orders: DataLoader[str, OrderRow | None] = DataLoader(self._orders)
        self.lines: DataLoader[str, list[OrderLineRow]] = DataLoader(self._lines)
        self.payments: DataLoader[str, PaymentRow | None] = DataLoader(self._payments)
        self.shipments: DataLoader[str, ShipmentRow | None] = DataLoader(self._shipments)
        self.products: DataLoader[str, ProductRow | None] = DataLoader(self._products)
        self.stock: DataLoader[str, StockRow | None] = DataLoader(self._stock)
        self.ratings: DataLoader[str, RatingRow | None] = DataLoader(self._ratings)
        self.customers: DataLoader[str, bytes | None] = DataLoader(self._customers)

    def may_see(self, customer_id: str) -> bool:
        return self.principal.may("staff") or self.principal.subject == customer_id

    async def _orders(self, ids: list[str]) -> Sequence[OrderRow | None]:
        rows = await self.reader.all(ORDERS_OF_IDS, order_ids=_array(ids))
        return _in_order(ids, (row for row in rows if self.may_see(row.customer_id)), lambda row: row.order_id)

    async def _lines(self, ids: list[str]) -> Sequence[list[OrderLineRow]]:
        found: dict[str, list[OrderLineRow]] = {each: [] for each in ids}
        for row in await self.reader.all(LINES_OF_ORDERS, order_ids=_array(ids)):
            found[row.order_id].append(row)
        return [found[each] for each in ids]

    async def _payments(self, ids: list[str]) -> Sequence[PaymentRow | None]:
        rows = await self.reader.all(PAYMENTS_OF_ORDERS, order_ids=_array(ids))
        return _in_order(ids, rows, lambda row: row.order_id)

    async def _shipments(self, ids: list[str]) -> Sequence[ShipmentRow | None]:
        rows = await self.reader.all(SHIPMENTS_OF_ORDERS, order_ids=_array(ids))
        return _in_order(ids, rows, lambda row: row.order_id)

    async def _products(self, skus: list[str]) -> Sequence[ProductRow | None]:
        return _in_order(skus, await self.reader.all(PRODUCTS_OF_SKUS, skus=_array(skus)), lambda row: row.sku)

    async def _stock(self, skus: list[str]) -> Sequence[StockRow | None]:
        return _in_order(skus, await self.reader.all(STOCK_OF_SKUS, skus=_array(skus)), lambda row: row.sku)

    async def _ratings(self, skus: list[str]) -> Sequence[RatingRow | None]:
        return _in_order(skus, await self.reader.all(RATINGS_OF_SKUS, skus=_array(skus)), lambda row: row.sku)

    async def _customers(self, ids: list[str]) -> Sequence[bytes | None]:
        return await asyncio.gather(*(self._customer(each) for each in ids))

    async def _customer(self, id: str) -> bytes | None:
        return await self._ask_customer(id) if self.may_see(id) else None


def _in_order(keys: list[str], rows: Iterable[Row], key: Callable[[Row], str]) -> list[Row | None]:
    found = {key(row): row for row in rows}
    return [found.get(each) for each in keys]


def _array(values: list[str]) -> str:
    return msgspec.json.encode(values).decode()
