"""A small history of a shop, made by the real deciders, the same for the same seed: what read models are fed with."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
from msgspec import Raw, Struct

from bus.commands import Envelope
from bus.engines.engine import Engine
from bus.logs.log import MemoryLog
from domains.billing.invoice import billing
from domains.billing.messages import CancelInvoice, DraftInvoice, InvoiceLine, IssueInvoice
from domains.catalogue.messages import DefineProduct
from domains.catalogue.product import catalogue
from domains.inventory.messages import DispatchStock, ItemQuantity, ReceiveStock, ReleaseStock, ReserveStock, WatchStock
from domains.inventory.stock import inventory
from domains.kernel import Domain
from domains.loyalty.messages import EarnPoints, NoteBuyer, ReturnPoints
from domains.loyalty.points import loyalty
from domains.notifications.messages import GiveUpNotice, NoteOrder, Purchase, RecordNoticeSent, SendOrderConfirmation
from domains.notifications.notice import notifications
from domains.orders.messages import (
    CancelOrder,
    ConfirmPayment,
    ConfirmReservation,
    DeliverOrder,
    OrderLine,
    PlaceOrder,
    ShipOrder,
)
from domains.orders.order import orders
from domains.payments.messages import (
    CancelPayment,
    ConfirmCharge,
    ConfirmRefund,
    DeclineCharge,
    PaymentPart,
    RecordPayment,
    RefundPayment,
    RequestPayment,
)
from domains.payments.payment import payments
from domains.reviews.messages import NoteDelivery, NotePurchase, PostReview
from domains.reviews.review import reviews
from domains.shipping.messages import (
    CancelPickup,
    ConfirmCancellation,
    ConfirmPickup,
    RecordDelivery,
    RecordShipment,
    RefusePickup,
    SchedulePickup,
    ShipmentItem,
)
from domains.shipping.shipment import shipping

DOMAINS: dict[str, Domain[Any, Any, Any]] = {
    domain.name: domain
    for domain in (
        orders,
        payments,
        shipping,
        inventory,
        catalogue,
        billing,
        reviews,
        loyalty,
        notifications,
    )
}
SKUS = tuple(f"sku{n}" for n in range(6))
CATEGORIES = ("books", "toys", "tools")
BEGAN = datetime(2017, 10, 30, tzinfo=UTC)


def order_commands(random: Random, order_id: str) -> list[Struct]:
    recorded = random.random() < 0.3
    lines = tuple(
        OrderLine(
            sku=random.choice(SKUS),
            name=f"thing {n}",
            category=random.choice(CATEGORIES),
            quantity=random.randint(1, 4),
            unit_price_cents=random.randint(1, 9_999),
            freight_cents=random.randint(0, 500),
        )
        for n in range(random.randint(0 if recorded else 1, 4))
    )
    life: list[Struct] = [
        PlaceOrder(
            order_id,
            f"customer{random.randint(0, 5)}",
            random.choice(["BRL", "EUR"]),
            lines,
            workflow="recorded" if recorded else "orchestrated",
        ),
        ConfirmReservation(order_id),
        ConfirmPayment(order_id, random.randint(0, 50_000)),
        ShipOrder(order_id),
        DeliverOrder(order_id),
    ]
    life = life[: random.randint(1, len(life))]
    if random.random() < 0.3:
        life.insert(random.randint(1, len(life)), CancelOrder(order_id, random.choice(["changed_my_mind", "é'\"; --"])))
    if random.random() < 0.3:
        life.append(life[-1])  # A repeat.
    return life


def payment_commands(random: Random, order_id: str) -> list[Struct]:
    cents = random.randint(1, 50_000)
    request = RequestPayment(order_id, "BRL", cents, "tok_ok")
    charge = ConfirmCharge(order_id, f"ch-{order_id}", cents - random.choice([0, 0, 1]))
    refund = [RefundPayment(order_id, "late"), ConfirmRefund(order_id, f"re-{order_id}", charge.amount_cents)]
    parts = tuple(
        PaymentPart(random.choice(["boleto", "voucher"]), random.randint(0, 12), random.randint(0, 9_999))
        for _ in range(random.randint(0, 3))
    )
    return random.choice(
        [
            [request],
            [request, charge, charge],
            [request, DeclineCharge(order_id, "card_expired"), charge],
            [request, charge, *refund],
            [request, CancelPayment(order_id, "late"), charge, *refund[1:]],
            [request, CancelPayment(order_id, "late"), DeclineCharge(order_id, "card_expired")],
            [request, CancelPayment(order_id, "late")],
            [request, charge, *refund[:1]],
            [RecordPayment(order_id, "BRL", parts), *refund],
        ]
    )


def shipping_commands(random: Random, order_id: str) -> list[Struct]:
    items = tuple(ShipmentItem(sku, random.randint(1, 6)) for sku in random.sample(SKUS, random.randint(0, 3)))
    schedule = SchedulePickup(order_id, items, "ship_ok")
    pick_up, deliver = ConfirmPickup(order_id, f"pu-{order_id}"), RecordDelivery(order_id)
    called_off = [CancelPickup(order_id, "late"), ConfirmCancellation(order_id)]
    return random.choice(
        [
            [schedule],
            [schedule, pick_up, pick_up],
            [schedule, pick_up, deliver],
            [schedule, RefusePickup(order_id, "not_carried"), deliver],
            [schedule, *called_off],
            [schedule, pick_up, *called_off[: random.randint(1, 2)], deliver],
            [RecordShipment(order_id, items), deliver][: random.randint(1, 2)],
        ]
    )


def inventory_commands(random: Random, order_id: str) -> list[Struct]:
    receipt = ReceiveStock(random.choice(SKUS), f"r{random.randint(0, 30)}", random.randint(1, 20))
    items = tuple(ItemQuantity(sku, random.randint(1, 6)) for sku in random.sample(SKUS, random.randint(1, 3)))
    ends: list[list[Struct]] = [[], [ReleaseStock(order_id, items)], [DispatchStock(order_id, items)]]
    watched = [WatchStock(random.choice(SKUS), random.randint(3, 20))] * random.randint(0, 1)
    return [receipt, *watched, ReserveStock(order_id, items), *random.choice(ends)]


def catalogue_commands(random: Random, _: str) -> list[Struct]:
    return [
        DefineProduct(
            random.choice(SKUS), f"thing {random.randint(0, 2)}", random.choice(CATEGORIES), random.randint(0, 3), "BRL"
        )
    ]


def billing_commands(random: Random, order_id: str) -> list[Struct]:
    lines = tuple(
        InvoiceLine(random.choice(SKUS), f"thing {n}", random.randint(1, 4), random.randint(1, 9_999), n)
        for n in range(random.randint(0, 4))
    )
    cents = random.randint(0, 50_000)
    draft = DraftInvoice(order_id, f"customer{random.randint(0, 5)}", "BRL", lines, cents, 5, cents + 5)
    issue, cancel = IssueInvoice(order_id, cents), CancelInvoice(order_id, random.choice(["late", "é'\"; --"]))
    return random.choice([[draft], [draft, cancel], [draft, issue], [draft, issue, cancel, cancel]])


def review_commands(random: Random, order_id: str) -> list[Struct]:
    customer_id = f"customer{random.randint(0, 20)}"
    skus = tuple(random.sample(SKUS, random.randint(0, 3)))
    written = [PostReview(sku, customer_id, order_id, random.randint(1, 5), "é'\"; --") for sku in (*skus, "other")]
    return [NotePurchase(order_id, customer_id, skus), NoteDelivery(order_id), *written]


def loyalty_commands(random: Random, order_id: str) -> list[Struct]:
    note, earn = NoteBuyer(order_id, f"customer{random.randint(0, 5)}"), EarnPoints(order_id, random.randint(0, 9_999))
    return random.choice([[note, earn], [note, earn, ReturnPoints(order_id)], [note, ReturnPoints(order_id)]])


def notification_commands(random: Random, order_id: str) -> list[Struct]:
    note = NoteOrder(order_id, Purchase(f"customer{random.randint(0, 5)}", "EUR", random.randint(0, 9_999)))
    sent, given_up = RecordNoticeSent(order_id, f"<{order_id}@shop>"), GiveUpNotice(order_id, "customer_unknown")
    confirmed: list[Struct] = [note, SendOrderConfirmation(order_id)]
    return random.choice([[note], confirmed, [*confirmed, sent], [*confirmed, given_up], [*confirmed, given_up, sent]])


COMMANDS = {
    "orders": order_commands,
    "payments": payment_commands,
    "shipping": shipping_commands,
    "inventory": inventory_commands,
    "catalogue": catalogue_commands,
    "billing": billing_commands,
    "reviews": review_commands,
    "loyalty": loyalty_commands,
    "notifications": notification_commands,
}


def interleaved(random: Random, lives: list[list[Struct]]) -> list[Struct]:
    """All of the lives, mixed, each in its own order."""
    mixed: list[Struct] = []
    while lives:
        life = random.choice(lives)
        mixed.append(life.pop(0))
        lives = [life for life in lives if life]
    return mixed


async def history_of(stream: str, seed: int = 0, aggregates: int = 60) -> MemoryLog:
    """One domain's log. Half of its commands tell when they happened, some of them in another time zone."""
    random = Random(f"{stream} {seed}")
    commands = interleaved(random, [COMMANDS[stream](random, f"o{n}") for n in range(aggregates)])
    log = MemoryLog(stream)
    clock = [BEGAN.timestamp()]
    engine: Engine[Any, Any, Any] = Engine(DOMAINS[stream], log, now=lambda: clock[0])
    await engine.start()
    for number, what in enumerate(commands):
        clock[0] += random.randint(1, 40_000)
        occurred_at = BEGAN + timedelta(hours=number, microseconds=number) if random.random() < 0.5 else None
        envelope = Envelope(
            id=f"{stream}-{number}",
            deadline=1e12,
            command=Raw(msgspec.json.encode(what)),
            occurred_at=occurred_at,
        )
        answered = engine.submit([envelope])
        if random.random() < 0.5:  # What is not waited for shares its block with what comes next.
            await answered
    async with asyncio.timeout(10):
        await engine.stop(timeout_s=5)
    return log
