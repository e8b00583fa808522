"""What clients of a shop ask for, from a seed: orders and their cancellations, deliveries of goods and reservations on
a few hot SKUs, and the same ids again, with the same content or (which is refused) with another."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from bus.commands import Refused, Stored
from domains.inventory.messages import DispatchStock, ItemQuantity, ReceiveStock, ReleaseStock, ReserveStock
from domains.orders.messages import CancelOrder, OrderLine, PlaceOrder
from tests.faults.checker import Asked

SKUS = ("mug", "pot", "cup")
REMEMBERED_MAX = 200
"""How far back clients repeat themselves."""


class Wish(NamedTuple):
    """One command that a client wants done."""

    command: Struct
    id: str
    expect: int | None = None


class Workload:
    """Wishes without end. Tell it what became of them, so that later ones build on it."""

    def __init__(self, seed: int, prefix: str = "") -> None:
        self._chance = random.Random(seed)
        self._prefix = prefix
        self._count = 0
        self._wished: list[Wish] = []
        self._orders: list[str] = ["nobody"]
        self._reserved: list[ReserveStock] = []
        self._kinds: dict[Callable[[], Wish], int] = {
            self._place: 30,
            self._cancel: 6,
            self._receive: 12,
            self._reserve: 24,
            self._give_back: 10,
            self._again: 13,
            self._otherwise: 5,
        }

    def next(self) -> Wish:
        (kind,) = self._chance.choices(list(self._kinds), list(self._kinds.values()))
        wish = kind()
        self._wished.append(wish)
        del self._wished[:-REMEMBERED_MAX]
        return wish

    def told(self, wish: Wish, asked: Asked) -> None:
        """Later wishes build on what was done."""
        if isinstance(asked.answer, Stored):
            match wish.command:
                case PlaceOrder(order_id=order_id):
                    self._orders.append(order_id)
                    del self._orders[:-REMEMBERED_MAX]
                case ReserveStock():
                    self._reserved.append(wish.command)
                    del self._reserved[:-REMEMBERED_MAX]
                case _:
                    pass
        elif not isinstance(asked.answer, Refused):
            self._wished.append(wish)  # Clients repeat what failed.

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}{kind}-{self._count}"

    def _place(self) -> Wish:
        quantity = self._chance.randint(1, 5)
        line = OrderLine(sku=self._chance.choice(SKUS), name="A", category="b", quantity=quantity, unit_price_cents=250)
        order_id = self._id("order")
        return Wish(PlaceOrder(order_id, "customer-1", "EUR", (line,)), order_id)

    def _cancel(self) -> Wish:
        expect = self._chance.choice([None, None, 1])
        return Wish(CancelOrder(self._chance.choice(self._orders), "as the test wants it"), self._id("cancel"), expect)

    def _receive(self) -> Wish:
        receipt_id = self._id("receipt")
        return Wish(ReceiveStock(self._chance.choice(SKUS), receipt_id, self._chance.randint(1, 6)), receipt_id)

    def _reserve(self) -> Wish:
        skus = self._chance.sample(SKUS, self._chance.randint(1, len(SKUS)))
        order_id = self._id("reserve")
        items = tuple(ItemQuantity(sku, self._chance.randint(1, 4)) for sku in skus)
        return Wish(ReserveStock(order_id, items), order_id)

    def _give_back(self) -> Wish:
        if not self._reserved:
            return self._receive()
        what = self._chance.choice(self._reserved)
        kind = self._chance.choice([ReleaseStock, ReleaseStock, DispatchStock])
        return Wish(kind(what.order_id, what.items), self._id("give-back"))

    def _again(self) -> Wish:
        """The same command under the same id."""
        return self._chance.choice(self._wished) if self._wished else self._place()

    def _otherwise(self) -> Wish:
        """Another command under an id that was used before: often of the same aggregate, where it matters."""
        before = self._chance.choice(self._wished) if self._wished else self._place()
        match before.command:
            case ReceiveStock(sku, receipt_id, quantity):
                return before._replace(command=ReceiveStock(sku, receipt_id, quantity + 1))
            case PlaceOrder() | CancelOrder():
                return before._replace(command=CancelOrder(self._chance.choice(self._orders), "another reason"))
            case _:
                return before._replace(command=self._reserve().command)
