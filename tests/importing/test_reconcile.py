"""The reconciliation: equal where all is well, and every planted difference is found and named."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from domains.orders.messages import OrderLine, PlaceOrder
from domains.payments.messages import PaymentPart, RecordPayment
from gateway.importing.olist import Records, read_folder
from gateway.importing.reconcile import reconcile
from projections.reader import Reader
from tests.importing.dataset import everything
from tests.importing.shop import WRITTEN_AT, Shop


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return read_folder(everything().write(tmp_path / "data"))


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    reader = Reader(tmp_path / "read")
    yield reader
    await reader.close()


async def test_what_was_imported_is_equal_to_the_cent(records: Records, reader: Reader, tmp_path: Path) -> None:
    Shop().imported(records).write(tmp_path / "read")
    result = await reconcile(records, reader)
    assert result.differences == []
    assert (result.orders, result.others) == (len(records.orders), 0)
    figures = {table.by: {line.key: line.csv for line in table.lines} for table in result.tables}
    assert figures["status"]["placed"] == {"orders": 1, "items": 1050, "freight": 205, "captured": 0}
    assert figures["month"]["2016-09"] == {"orders": 1, "items": 1050, "freight": 205, "captured": 1255}
    assert figures["category"]["uncategorised"] == {"orders": 1, "items": 9900, "freight": 0}
    assert figures["payment type"]["voucher"] == {"payments": 2, "amount": 3001}
    assert {month: line["deliveries"] for month, line in figures["delivery"].items()} == {"2018-01": 1, "2018-02": 7}
    assert figures["review score"] == {"1": {"reviews": 1}, "2": {"reviews": 1}, "4": {"reviews": 1}}
    assert figures["invoice"]["credited"] == {"invoices": 3, "billed": 3765}
    assert figures["person"] == {"known": {"customers": 19}}
    assert figures["payment type"]["boleto"] == {"payments": 1, "amount": 100_000_001}


@pytest.mark.parametrize(
    ("model", "planted", "named"),
    [
        (
            "sales",
            "UPDATE sale SET captured_cents = captured_cents + 1 WHERE order_id = 'several'",
            [
                "status delivered, captured: 1,000,189.86 in the CSV, 1,000,189.87 in the read model",
                "month 2018-01, captured: 1,000,290.26 in the CSV, 1,000,290.27 in the read model",
                "order several in sales, captured: 127.10 in the CSV, 127.11 in the read model",
            ],
        ),
        (
            "sales",
            "UPDATE sale_category SET freight_cents = freight_cents - 1 WHERE category = 'livros_técnicos'",
            ["category livros_técnicos, freight: 104.40 in the CSV, 104.39 in the read model"],
        ),
        (
            "sales",
            "UPDATE sale SET month = '2018-02' WHERE order_id = 'shipped-1'",
            ["month 2018-02, orders: 0 in the CSV, 1 in the read model", "order shipped-1 in sales, month: 2018-01"],
        ),
        (
            "sales",
            "UPDATE sale SET status = 'paid' WHERE order_id = 'shipped-1'",
            ["status shipped, orders: 2 in the CSV, 1 in the read model", "order shipped-1 in sales, status: shipped"],
        ),
        (
            "sales",
            "DELETE FROM sale WHERE order_id = 'canceled-empty'",
            ["status cancelled, orders: ", "order canceled-empty in sales: there in the CSV, absent in the read model"],
        ),
        (
            "order_summary",
            "UPDATE order_summary SET status = 'shipped' WHERE order_id = 'several'",
            ["order several in order_summary, status: delivered in the CSV, shipped in the read model"],
        ),
        (
            "order_summary",
            "DELETE FROM order_summary WHERE order_id = 'several'",
            ["order several in order_summary: there in the CSV, absent in the read model"],
        ),
        (
            "order_detail",
            "UPDATE order_line SET unit_price_cents = unit_price_cents + 1 WHERE order_id = 'several' AND number = 0",
            ["order several in order_detail, lines_items: 129.99 in the CSV, 130.01 in the read model"],
        ),
        (
            "order_detail",
            "DELETE FROM order_line WHERE order_id = 'created-1'",
            ["order created-1 in order_detail, units: 1 in the CSV, 0 in the read model"],
        ),
        (
            "order_detail",
            "UPDATE order_detail SET customer_id = 'other' WHERE order_id = 'created-1'",
            ["order created-1 in order_detail, customer_id: buyer-created-1 in the CSV, other in the read model"],
        ),
        (
            "shipments",
            "UPDATE shipment SET delivered_at = '2018-09-01T00:00:00.000000Z' WHERE order_id = 'several'",
            [
                "delivery 2018-09, deliveries: 0 in the CSV, 1 in the read model",
                "order several in shipments, delivered: 2018-02 in the CSV, 2018-09 in the read model",
            ],
        ),
        (
            "shipments",
            "DELETE FROM shipment WHERE order_id = 'shipped-1'",
            ["order shipped-1 in shipments: there in the CSV, absent in the read model"],
        ),
        (
            "payments",
            "UPDATE payment_part SET method = 'boleto' WHERE order_id = 'shipped-1'",
            [
                "payment type boleto, payments: 1 in the CSV, 2 in the read model",
                "order shipped-1 in payments, methods",
            ],
        ),
        (
            "payments",
            "INSERT INTO payment VALUES ('created-1', 'captured', 'BRL', 1, 1, 0, NULL, 1)",
            ["order created-1 in payments: absent in the CSV, there in the read model"],
        ),
        (
            "invoices",
            "UPDATE invoice SET paid_cents = paid_cents + 1 WHERE order_id = 'several'",
            ["invoice issued, billed: "],
        ),
        (
            "invoices",
            "UPDATE invoice SET status = 'issued' WHERE order_id = 'canceled-1'",
            ["invoice credited, invoices: ", "invoice issued, invoices: "],
        ),
        (
            "reviews",
            "UPDATE review SET score = 1 WHERE order_id = 'several'",
            ["review score 4, reviews: 1 in the CSV, 0"],
        ),
        (
            "customer_status",
            "DELETE FROM customer_status WHERE customer_id = 'buyer-several'",
            ["person known, customers: 19 in the CSV, 18 in the read model"],
        ),
        ("products", "DELETE FROM product WHERE sku = 'p2'", ["product p2 in products: there in the CSV, absent"]),
    ],
)
async def test_a_planted_difference_is_found_and_named(
    records: Records, reader: Reader, tmp_path: Path, model: str, planted: str, named: list[str]
) -> None:
    files = Shop().imported(records).write(tmp_path / "read")
    path = files.live(model)
    assert path is not None
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(planted).rowcount == 1
    connection.close()
    found = [str(difference) for difference in (await reconcile(records, reader)).differences]
    for name in named:
        assert any(line.startswith(name) for line in found), found


async def test_orders_of_others_are_left_out(records: Records, reader: Reader, tmp_path: Path) -> None:
    shop = Shop()
    line = OrderLine("p1", "brinquedos p1", "brinquedos", 3, 1_000, 1)
    shop.handle(PlaceOrder("live-1", "b1", "BRL", (line,)), "k1", WRITTEN_AT)
    shop.handle(RecordPayment("live-1", "BRL", (PaymentPart("voucher", 1, 3_001),)), "k2", WRITTEN_AT)
    shop.imported(records).write(tmp_path / "read")
    result = await reconcile(records, reader)
    assert result.equal
    assert result.others == 1


async def test_a_refused_order_is_a_difference(records: Records, reader: Reader, tmp_path: Path) -> None:
    """Somebody else's order had its id: it is not what the data says."""
    shop = Shop()
    lines = (OrderLine("p1", "brinquedos p1", "brinquedos", 1, 1_050, 205),)
    shop.handle(PlaceOrder("created-1", "b1", "EUR", lines), "k1", WRITTEN_AT)
    del records.orders["created-1"]
    shop.imported(records).write(tmp_path / "read")
    whole = read_folder(tmp_path / "data")
    found = [str(difference) for difference in (await reconcile(whole, reader)).differences]
    assert "status placed, orders: 1 in the CSV, 0 in the read model" in found
    assert "status placed in EUR, orders: 0 in the CSV, 1 in the read model" in found
    assert "order created-1 in order_detail, currency: BRL in the CSV, EUR in the read model" in found
