"""A shop's history: the lives of many orders, as their commits lie between each other in a real log.

An order of one to three lines is placed; stock and money follow soon, shipment and delivery much later; one in ten is
cancelled on the way. The same `n` gives the same orders with the same events; what is random in a real commit (ids,
digests, traces) is as random here, so that the broker's compression meets what it will meet. They are recorded orders:
no checkout carries them on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from bench.load import ACTOR
from bus.commands import encode
from bus.logs.blocks import Commit
from domains.orders.messages import (
    OrderCancelled,
    OrderDelivered,
    OrderEvent,
    OrderLine,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
    OrderShipped,
)

ORDER_ID = "019aa000-0000-7000-8000-%012x"
"""By the order's number. Shaped as the ids that are made at the edge, which ascend, too."""
SEED = 7
PRODUCTS = 2_000
CATEGORIES = 70
CUSTOMERS = 50_000
CHECKOUTS = 200
"""Orders that wait for stock or money at a time."""
SHIPPING_SHARE = 0.01
"""Of all events, so many orders wait for shipment or delivery at a time: one order in twenty. In the two years of the
Olist dataset it is one in sixty on average, and one in twenty at most."""
CANCELLED_SHARE = 0.1
EVENTS_AN_ORDER = 4.75
SHIPPING_EVENTS = 2.0
"""Of them in the slow part; both on average, about."""


class Lived(NamedTuple):
    """One commit, encoded. `before` is the number, from 1, of the commit before of the same order; 0 for its first."""

    order_id: str
    before: int
    commit: bytes


class _Life:
    """An order, its events still to come, the next one last."""

    __slots__ = ("last", "left", "order_id", "version")

    def __init__(self, order_id: str, left: list[OrderEvent]) -> None:
        self.order_id = order_id
        self.left = left
        self.version = 0
        self.last = 0


def lives(n: int, *, of_shop: int = 0) -> Iterator[Lived]:
    """`n` commits of one event each. Nothing is held but the orders that are under way: as many as in a history of
    `of_shop` events, by default of `n`. So a shop that is older need not be a busier one."""
    shop = _Shop(of_shop or n)
    return (shop.goes_on(number) for number in range(1, n + 1))


def orders_in(n: int) -> int:
    """How many orders are surely placed among so many commits."""
    return max(1, int(n / EVENTS_AN_ORDER) // 2)


class _Shop:
    """The orders that are under way, in two pools: the quick part of their lives and the slow one."""

    def __init__(self, n: int) -> None:
        self._dice = random.Random(SEED)
        self._checkouts: list[_Life] = []
        self._shipping: list[_Life] = []
        self._shipping_max = max(1, int(n * SHIPPING_SHARE))
        self._orders = 0

    def goes_on(self, number: int) -> Lived:
        """The next event of one of them. What is paid waits for its shipment then; what is at its end is forgotten."""
        pool, at = self._whose_turn()
        life = pool[at]
        event = life.left.pop()
        life.version += 1
        if not life.left or (pool is self._checkouts and isinstance(event, OrderPaid)):
            pool[at] = pool[-1]
            pool.pop()
            if life.left:
                self._shipping.append(life)
        before, life.last = life.last, number
        return Lived(life.order_id, before, _commit(self._dice, life, event, number))

    def _whose_turn(self) -> tuple[list[_Life], int]:
        dice, checkouts, shipping = self._dice, self._checkouts, self._shipping
        if len(shipping) >= self._shipping_max and dice.random() < SHIPPING_EVENTS / EVENTS_AN_ORDER:
            return shipping, dice.randrange(len(shipping))
        if len(checkouts) >= CHECKOUTS:
            return checkouts, dice.randrange(len(checkouts))
        order_id = ORDER_ID % self._orders
        self._orders += 1
        checkouts.append(_Life(order_id, _to_come(dice, order_id)))
        return checkouts, len(checkouts) - 1


def _to_come(dice: random.Random, order_id: str) -> list[OrderEvent]:
    lines = tuple(_line(dice) for _ in range(dice.choice((1, 1, 1, 2, 3))))
    items_cents = sum(line.unit_price_cents * line.quantity for line in lines)
    freight_cents = sum(line.freight_cents for line in lines)
    total_cents = items_cents + freight_cents
    placed = OrderPlaced(
        order_id=order_id,
        customer_id=f"customer-{dice.randrange(CUSTOMERS):06d}",
        currency="EUR",
        lines=lines,
        units=sum(line.quantity for line in lines),
        items_cents=items_cents,
        freight_cents=freight_cents,
        total_cents=total_cents,
        payment_token="tok_ok",
        workflow="recorded",
    )
    life: list[OrderEvent] = [
        placed,
        OrderReserved(order_id),
        OrderPaid(order_id, total_cents),
        OrderShipped(order_id),
        OrderDelivered(order_id),
    ]
    if dice.random() < CANCELLED_SHARE:
        life[dice.randrange(1, 4) :] = [OrderCancelled(order_id, "the customer changed its mind")]
    return life[::-1]


def _line(dice: random.Random) -> OrderLine:
    product = dice.randrange(PRODUCTS)
    return OrderLine(
        sku=f"sku-{product:06d}",
        name=f"Product number {product} of a shop",
        category=f"category-{product % CATEGORIES}",
        quantity=dice.choice((1, 1, 1, 2, 4)),
        unit_price_cents=500 + product * 7 % 20_000,
        freight_cents=dice.choice((0, 490, 990)),
    )


def _commit(dice: random.Random, life: _Life, event: OrderEvent, number: int) -> bytes:
    chance = f"{dice.getrandbits(640):0160x}"
    return encode(
        Commit(
            id=f"{chance[:8]}-{chance[8:12]}-{chance[12:16]}-{chance[16:20]}-{chance[20:32]}",
            aggregate=life.order_id,
            version=life.version,
            events=[event],
            digest=chance[32:64],
            actor=ACTOR if life.version == 1 else "checkout",
            cause="" if life.version == 1 else f"checkout={number}",
            correlation=life.order_id,
            trace=f"00-{chance[64:96]}-{chance[96:112]}-01",
        )
    )
