"""Every read model, fed with a history that the real deciders made, against an independent fold in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bus.logs.blocks import Commit, decoder_of
from domains.billing.messages import InvoiceCredited, InvoiceDrafted, InvoiceDropped, InvoiceIssued
from domains.catalogue.messages import ProductDefined, ProductRevised
from domains.inventory.messages import ItemDispatched, ItemReleased, ItemReserved, StockReceived, StockRefused
from domains.kernel import LINES_MAX
from domains.loyalty.messages import PointsEarned, PointsReturned
from domains.notifications.messages import NoticeFailed, NoticeRequested, NoticeSent
from domains.orders.messages import (
    OrderCancelled,
    OrderDelivered,
    OrderLine,
    OrderPaid,
    OrderPlaced,
    OrderReserved,
    OrderShipped,
)
from domains.payments.messages import (
    PaymentAbandoned,
    PaymentCaptured,
    PaymentDeclined,
    PaymentRecorded,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)
from domains.reviews.messages import ReviewPosted
from domains.shipping.messages import (
    ShipmentCancelled,
    ShipmentDelivered,
    ShipmentPickedUp,
    ShipmentRecalled,
    ShipmentRecorded,
    ShipmentRefused,
    ShipmentScheduled,
)
from projections.batches import Batch, ReadBlock
from projections.bought_together import PAIRED_MAX, bought_together
from projections.commit_index import PLACES, commit_index
from projections.files import ReadModelFiles
from projections.invoices import invoices
from projections.loyalty import loyalty
from projections.notices import notices
from projections.order_detail import order_detail
from projections.order_summary import order_summary
from projections.payments import payments
from projections.products import products
from projections.projection import Projection
from projections.reader import Query, Reader
from projections.reviews import reviews
from projections.sales import SALES_BY_CATEGORY, SALES_BY_MONTH, SALES_BY_STATUS, SalesRow, sales
from projections.shipments import shipments
from projections.stock import stock
from projections.store import Store
from tests.projections.history import DOMAINS, history_of
from tests.projections.tally import batch_of

SEEDS = (1, 2)
Rows = list[tuple[Any, ...]]
Table = dict[Any, list[Any]]


class Happened(NamedTuple):
    """One event and what the fold may know of it."""

    event: Any
    version: int
    at: str
    place: int = 0


def happened(batch: Batch) -> list[Happened]:
    return [
        Happened(
            event,
            commit.version,
            rfc3339((commit.occurred_at or block.at).astimezone(UTC)),
            block.sequence * PLACES + n,
        )
        for block in batch.blocks
        for n, commit in enumerate(block.commits)
        for event in commit.events
    ]


def rfc3339(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def rows_of(table: Table) -> Rows:
    return [tuple(table[key]) for key in sorted(table)]


STATUS: dict[Any, str] = {
    OrderReserved: "reserved",
    OrderPaid: "paid",
    OrderShipped: "shipped",
    OrderDelivered: "delivered",
    OrderCancelled: "cancelled",
}


def fold_order_summary(history: list[Happened]) -> dict[str, Rows]:
    orders: Table = {}
    for e, version, at, _ in history:
        if isinstance(e, OrderPlaced):
            units = sum(line.quantity for line in e.lines)
            orders[e.order_id] = [
                e.order_id,
                e.customer_id,
                "placed",
                e.currency,
                units,
                e.total_cents,
                version,
                at,
                at,
            ]
        else:
            order = orders[e.order_id]
            order[2], order[6], order[8] = STATUS[type(e)], version, at
    return {"order_summary": rows_of(orders)}


def fold_order_detail(history: list[Happened]) -> dict[str, Rows]:
    orders: dict[str, dict[str, Any]] = {}
    lines: Table = {}
    for e, version, at, _ in history:
        if isinstance(e, OrderPlaced):
            orders[e.order_id] = {
                "order_id": e.order_id,
                "customer_id": e.customer_id,
                "status": "placed",
                "currency": e.currency,
                "items_cents": sum(line.quantity * line.unit_price_cents for line in e.lines),
                "freight_cents": sum(line.freight_cents for line in e.lines),
                "total_cents": e.total_cents,
                "captured_cents": 0,
                "reason": None,
                "workflow": e.workflow,
                "version": version,
                "placed_at": at,
                **{f"{status}_at": None for status in STATUS.values()},
            }
            for n, line in enumerate(e.lines):
                lines[e.order_id, n] = [e.order_id, n, line.sku, line.name, line.category, line.quantity]
                lines[e.order_id, n] += [line.unit_price_cents, line.freight_cents]
        else:
            status = STATUS[type(e)]
            orders[e.order_id] |= {"status": status, "version": version, f"{status}_at": at}
            if isinstance(e, OrderPaid):
                orders[e.order_id]["captured_cents"] = e.captured_cents
            if isinstance(e, OrderCancelled):
                orders[e.order_id]["reason"] = e.reason
    return {
        "order_detail": [tuple(orders[order_id].values()) for order_id in sorted(orders)],
        "order_line": rows_of(lines),
    }


def fold_sales(history: list[Happened]) -> dict[str, Rows]:
    sold: Table = {}
    categories: Table = {}
    for e, _, at, _ in history:
        if isinstance(e, OrderPlaced):
            sold[e.order_id] = [e.order_id, at[:7], "placed", e.currency, e.items_cents, e.freight_cents, 0]
            for line in e.lines:
                row = categories.setdefault((e.order_id, line.category), [e.order_id, line.category, e.currency, 0, 0])
                row[3] += line.quantity * line.unit_price_cents
                row[4] += line.freight_cents
        else:
            sold[e.order_id][2] = STATUS[type(e)]
            if isinstance(e, OrderPaid):
                sold[e.order_id][6] = e.captured_cents
    return {"sale": rows_of(sold), "sale_category": rows_of(categories)}


def fold_payments(history: list[Happened]) -> dict[str, Rows]:
    paid: Table = {}
    parts: Table = {}
    for e, version, *_ in history:
        key = e.order_id
        match e:
            case PaymentRequested():
                paid[key] = [key, "requested", e.currency, 0, 0, 0, None, version]
            case PaymentCaptured():
                paid[key] = [key, "captured", paid[key][2], e.amount_cents, e.amount_cents, 0, None, version]
                parts[key, 0] = [key, 0, "card", 1, e.amount_cents]
            case PaymentDeclined():
                paid[key] = [*paid[key][:6], e.code, version]
                paid[key][1] = "declined"
            case PaymentAbandoned():
                paid[key][1], paid[key][7] = "abandoned", version
            case RefundRequested():
                paid[key][1], paid[key][7] = "refunding", version
            case PaymentRefunded():
                paid[key][1], paid[key][5], paid[key][7] = "refunded", e.amount_cents, version
            case PaymentRecorded():
                paid[key] = [key, "captured", e.currency, e.amount_cents, e.amount_cents, 0, None, version]
                for n, part in enumerate(e.parts):
                    parts[key, n] = [key, n, part.method, part.instalments, part.amount_cents]
    return {"payment": rows_of(paid), "payment_part": rows_of(parts)}


SHIPMENT_STATUS: dict[Any, str] = {
    ShipmentPickedUp: "picked_up",
    ShipmentRefused: "refused",
    ShipmentRecalled: "recalled",
    ShipmentCancelled: "cancelled",
    ShipmentDelivered: "delivered",
}


def fold_shipments(history: list[Happened]) -> dict[str, Rows]:
    sent: dict[str, dict[str, Any]] = {}
    for e, version, at, _ in history:
        if isinstance(e, ShipmentScheduled | ShipmentRecorded):
            gone = isinstance(e, ShipmentRecorded)
            sent[e.order_id] = {
                "order_id": e.order_id,
                "status": "picked_up" if gone else "scheduled",
                "units": sum(item.quantity for item in e.items),
                "tracking_id": None,
                "refusal_code": None,
                "version": version,
                "scheduled_at": at,
                "picked_up_at": at if gone else None,
                "delivered_at": None,
            }
            continue
        shipment = sent[e.order_id]
        shipment |= {"status": SHIPMENT_STATUS[type(e)], "version": version}
        if isinstance(e, ShipmentPickedUp):
            shipment |= {"tracking_id": e.tracking_id, "picked_up_at": at}
        if isinstance(e, ShipmentRefused):
            shipment["refusal_code"] = e.code
        if isinstance(e, ShipmentDelivered):
            shipment["delivered_at"] = at
    return {"shipment": [tuple(sent[order_id].values()) for order_id in sorted(sent)]}


def fold_products(history: list[Happened]) -> dict[str, Rows]:
    found: Table = {}
    for e, version, at, _ in history:
        found[e.sku] = [e.sku, e.name, e.category, e.price_cents, e.currency, version, at]
    return {"product": rows_of(found)}


def fold_stock(history: list[Happened]) -> dict[str, Rows]:
    shelves: Table = {}
    for e, version, *_ in history:
        match e:
            case StockReceived():
                shelf = shelves.setdefault(e.sku, [e.sku, 0, 0, 0])
                shelf[1] += e.quantity
            case ItemReserved():
                shelf = shelves[e.sku]
                shelf[2] += e.quantity
            case ItemReleased():
                shelf = shelves[e.sku]
                shelf[2] -= e.quantity
            case ItemDispatched():
                shelf = shelves[e.sku]
                shelf[1] -= e.quantity
                shelf[2] -= e.quantity
            case _:
                continue
        shelf[3] = version
        assert 0 <= shelf[2] <= shelf[1]  # At every moment: nothing is promised that is not there.
    return {"stock": rows_of(shelves)}


def fold_invoices(history: list[Happened]) -> dict[str, Rows]:
    drafts: dict[str, dict[str, Any]] = {}
    lines: Table = {}
    for e, version, at, _ in history:
        match e:
            case InvoiceDrafted():
                drafts[e.order_id] = {
                    "order_id": e.order_id,
                    "number": None,
                    "status": "drafted",
                    "customer_id": e.customer_id,
                    "currency": e.currency,
                    "items_cents": e.items_cents,
                    "freight_cents": e.freight_cents,
                    "total_cents": e.total_cents,
                    "paid_cents": 0,
                    "issued_at": None,
                    "credit_note": None,
                    "credit_reason": None,
                    "credited_at": None,
                }
                for n, line in enumerate(e.lines):
                    lines[e.order_id, n] = [e.order_id, n, line.sku, line.name, line.quantity]
                    lines[e.order_id, n] += [line.unit_price_cents, line.freight_cents]
            case InvoiceDropped():
                drafts[e.order_id]["status"] = "dropped"
            case InvoiceIssued():
                issued = {"status": "issued", "number": e.number, "paid_cents": e.paid_cents, "issued_at": at}
                drafts[e.order_id] |= issued
            case InvoiceCredited():
                drafts[e.order_id] |= {"status": "credited", "credit_note": e.number, "credit_reason": e.reason}
                drafts[e.order_id]["credited_at"] = at
            case _:
                continue
        drafts[e.order_id]["version"] = version
    return {
        "invoice": [tuple(drafts[order_id].values()) for order_id in sorted(drafts)],
        "invoice_line": rows_of(lines),
    }


def fold_reviews(history: list[Happened]) -> dict[str, Rows]:
    written: Table = {}
    ratings: Table = {}
    for e, _, at, place in history:
        if isinstance(e, ReviewPosted):
            written[e.sku, place] = [e.sku, place, e.customer_id, e.order_id, e.score, e.text, at]
            rating = ratings.setdefault(e.sku, [e.sku, 0, 0])
            rating[1] += 1
            rating[2] += e.score
    return {"review": rows_of(written), "rating": rows_of(ratings)}


def fold_loyalty(history: list[Happened]) -> dict[str, Rows]:
    points: Table = {}
    for e, *_ in history:
        match e:
            case PointsEarned():
                points.setdefault(e.customer_id, [e.customer_id, 0, 0])[1] += e.points
            case PointsReturned():
                points[e.customer_id][2] += e.points
            case _:
                pass
    return {"loyalty": rows_of(points)}


def fold_bought_together(history: list[Happened]) -> dict[str, Rows]:
    baskets = [{line.sku for line in e.lines} for e, *_ in history if isinstance(e, OrderPlaced)]
    sold = {sku: [sku, sum(sku in basket for basket in baskets)] for basket in baskets for sku in basket}
    pairs = {
        (sku, other): [sku, other, sum(sku in basket and other in basket for basket in baskets)]
        for sku in sold
        for other in sold
        if sku != other
    }
    return {
        "bought_together": rows_of({pair: row for pair, row in pairs.items() if row[2]}),
        "sold": rows_of(sold),
    }


def fold_notices(history: list[Happened]) -> dict[str, Rows]:
    told: Table = {}
    for e, _, at, _ in history:
        match e:
            case NoticeRequested():
                told[e.order_id] = [e.order_id, e.purchase.customer_id, "requested", at, None, None, None]
            case NoticeSent():
                told[e.order_id][2:] = ["sent", told[e.order_id][3], at, e.message_id, None]
            case NoticeFailed():
                told[e.order_id][2:] = ["failed", told[e.order_id][3], at, None, e.reason]
            case _:
                pass
    return {"notice": rows_of(told)}


CASES = [
    (order_summary, fold_order_summary),
    (order_detail, fold_order_detail),
    (sales, fold_sales),
    (payments, fold_payments),
    (shipments, fold_shipments),
    (products, fold_products),
    (stock, fold_stock),
    (invoices, fold_invoices),
    (reviews, fold_reviews),
    (loyalty, fold_loyalty),
    (notices, fold_notices),
    (bought_together, fold_bought_together),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stream", list(DOMAINS))
async def test_the_index_holds_every_commit_where_it_lies(tmp_path: Path, stream: str, seed: int) -> None:
    batch = await history(stream, seed)
    with Store.create(commit_index(stream), tmp_path / "commit_index@1.1.db", "memory") as store:
        store.apply(batch)
        found = list(store.rows("commit_index"))
    assert found == sorted(
        (block.sequence * PLACES + offset, commit.aggregate, commit.version, commit.id, commit.correlation)
        for block in batch.blocks
        for offset, commit in enumerate(block.commits)
    )


async def history(stream: str, seed: int) -> Batch:
    return await batch_of(await history_of(stream, seed), decoder_of(DOMAINS[stream]))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("projection", "fold"), CASES, ids=[projection.name for projection, _ in CASES])
async def test_a_read_model_is_the_fold_of_its_stream(
    tmp_path: Path, projection: Projection, fold: Callable[[list[Happened]], dict[str, Rows]], seed: int
) -> None:
    batch = await history(projection.stream, seed)
    with Store.create(projection, tmp_path / f"{projection.name}@1.1.db", "memory") as store:
        store.apply(batch)
        found = {table: list(store.rows(table)) for table in store.tables()}
        assert store.position.events == len(happened(batch))
    expected = fold(happened(batch))
    assert found == expected
    assert all(found.values())


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_histories_hold_every_kind_of_event(seed: int) -> None:
    """Or the tests above would prove little."""
    for name, domain in DOMAINS.items():
        kinds = {type(each.event) for each in happened(await history(name, seed))}
        assert kinds == set(domain.events)
    assert {ProductDefined, ProductRevised, StockRefused} <= {
        type(each.event) for name in ("catalogue", "inventory") for each in happened(await history(name, seed))
    }


@pytest.mark.parametrize(
    "report", [SALES_BY_MONTH, SALES_BY_STATUS, SALES_BY_CATEGORY], ids=["month", "status", "category"]
)
async def test_sales_reports_add_up_to_the_orders(tmp_path: Path, report: Query[SalesRow]) -> None:
    batch = await history("orders", 1)
    events = [each.event for each in happened(batch)]
    placed = [event for event in events if isinstance(event, OrderPlaced)]
    captured = {event.order_id: event.captured_cents for event in events if isinstance(event, OrderPaid)}
    files = ReadModelFiles(tmp_path)
    path = files.next_build(sales)
    with Store.create(sales, path, "memory") as store:
        store.apply(batch)
        files.switch("sales", path)
        reader = Reader(tmp_path)
        rows = await reader.all(report)
        await reader.close()
    assert [(row.key, row.currency) for row in rows] == sorted({(row.key, row.currency) for row in rows})
    for currency in {order.currency for order in placed}:
        orders = [order for order in placed if order.currency == currency]
        of_currency = [row for row in rows if row.currency == currency]
        assert sum(row.items_cents for row in of_currency) == sum(order.items_cents for order in orders)
        assert sum(row.freight_cents for row in of_currency if row.freight_cents) == sum(
            order.freight_cents for order in orders
        )
        if report is not SALES_BY_CATEGORY:
            assert sum(row.orders for row in of_currency) == len(orders)
            assert sum(row.captured_cents or 0 for row in of_currency) == sum(
                captured.get(order.order_id, 0) for order in orders
            )


def test_an_order_of_many_products_is_paired_within_bounds(tmp_path: Path) -> None:
    lines = tuple(OrderLine(f"sku{n}", "Thing", "things", 1, 100) for n in range(LINES_MAX))
    placed = OrderPlaced("o1", "c1", "EUR", lines, LINES_MAX, 100, 0, 100, "tok_ok", "recorded")
    block = ReadBlock(2, datetime.now(UTC), [Commit(id="c", aggregate="o1", version=1, events=[placed])])
    with Store.create(bought_together, tmp_path / "bought_together@1.1.db", "memory") as store:
        store.apply(Batch([block], {}))
        assert len(list(store.rows("sold"))) == LINES_MAX
        assert len(list(store.rows("bought_together"))) == PAIRED_MAX * (PAIRED_MAX - 1)
