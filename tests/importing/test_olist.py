"""Reading a folder: what is taken, what is skipped and why, and what makes a folder unusable."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.importing.olist import Item, Payment, Product, Review, read_folder
from gateway.importing.rows import BadRow, FolderUnusable
from tests.importing.dataset import (
    COLUMNS,
    CUSTOMERS,
    ITEMS,
    ORDERS,
    PAYMENTS,
    PRODUCTS,
    REVIEWS,
    Dataset,
    everything,
)


@pytest.fixture
def data() -> Dataset:
    """Two good orders; the tests spoil the first."""
    return Dataset().product("p1").product("p2").order("o1").order("o2", items=(("p2", "1", "0.1"),)).review("o1", 5)


def test_a_good_folder_is_taken_whole(tmp_path: Path) -> None:
    records = read_folder(everything().write(tmp_path))
    assert records.bad == []
    assert len(records.orders) == len(everything().rows[ORDERS])
    several = records.orders["several"]
    assert several.buyer_id == "buyer-several"
    assert several.purchased_at == datetime(2018, 1, 31, 23, 59, 59, tzinfo=UTC)
    assert several.items[1] == Item(2, "p2", Decimal("99"), Decimal("0"))
    assert several.payments[0] == Payment(1, "voucher", 1, Decimal("0"))
    assert records.products["p2"] == Product("p2", "")
    assert records.orders["delivered-no-times"].approved_at is None
    assert records.orders["several"].review == Review(4, datetime(2018, 2, 11, 8, tzinfo=UTC))
    assert records.orders["shipped-1"].review is None


@pytest.mark.parametrize(
    ("file", "column", "value", "why"),
    [
        (ORDERS, "order_id", "o.1", "order_id 'o.1' is no id"),
        (ORDERS, "order_id", "", "order_id is empty"),
        (ORDERS, "order_id", "x" * 65, "order_id 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' is no id"),
        (ORDERS, "customer_id", "nobody", f"customer_id nobody has no good row in {CUSTOMERS}"),
        (ORDERS, "order_status", "lost", "order_status 'lost' is unknown"),
        (ORDERS, "order_status", "", "order_status is empty"),
        (ORDERS, "order_purchase_timestamp", "", "order_purchase_timestamp is empty"),
        (ORDERS, "order_purchase_timestamp", "2018-02-30 00:00:00", "is no time"),
        (ORDERS, "order_approved_at", "yesterday", "order_approved_at 'yesterday' is no time"),
        (ORDERS, "order_delivered_carrier_date", "2018-01-01", "is no time"),
        (CUSTOMERS, "customer_unique_id", "a b", "customer_unique_id 'a b' is no id"),
        (PRODUCTS, "product_id", "p>1", "product_id 'p>1' is no id"),
        (PRODUCTS, "product_category_name", "x" * 151, "more than 150 characters"),
        (ITEMS, "order_id", "o9", f"order_id o9 has no row in {ORDERS}"),
        (ITEMS, "product_id", "p9", f"product_id p9 has no good row in {PRODUCTS}"),
        (ITEMS, "order_item_id", "one", "order_item_id 'one' is no number"),
        (ITEMS, "price", "", "price is empty"),
        (ITEMS, "price", "ten", "price 'ten' is no amount of money"),
        (ITEMS, "price", "1e3", "price '1e3' is no amount of money"),
        (ITEMS, "price", "NaN", "price 'NaN' is no amount of money"),
        (ITEMS, "price", "10.505", "price '10.505' has more than two decimals"),
        (ITEMS, "price", "-10.5", "price '-10.5' is negative"),
        (ITEMS, "freight_value", "10000000000.01", "freight_value '10000000000.01' is more than 10000000000.00"),
        (REVIEWS, "order_id", "o9", f"order_id o9 has no row in {ORDERS}"),
        (REVIEWS, "review_score", "0", "review_score 0 is no number from 1 to 5"),
        (REVIEWS, "review_score", "6", "review_score '6' is no number from 0 to 5"),
        (REVIEWS, "review_answer_timestamp", "", "review_answer_timestamp is empty"),
        (PAYMENTS, "payment_value", "-0.01", "payment_value '-0.01' is negative"),
        (PAYMENTS, "payment_type", "", "payment_type is empty"),
        (PAYMENTS, "payment_installments", "1001", "payment_installments '1001' is no number from 0 to 1000"),
        (PAYMENTS, "payment_sequential", "-1", "payment_sequential '-1' is no number"),
        (PAYMENTS, "order_id", "*", "order_id '*' is no id"),
    ],
)
def test_a_bad_row_is_skipped_and_named(
    data: Dataset, tmp_path: Path, file: str, column: str, value: str, why: str
) -> None:
    data.rows[file][0][column] = value
    records = read_folder(data.write(tmp_path))
    first = records.bad[0]
    assert (first.file, first.line) == (file, 2)
    assert why in first.why
    assert "o2" in records.orders
    assert len(records.orders["o2"].items) == len(records.orders["o2"].payments) == 1


def test_a_skipped_order_takes_its_items_and_payments_along_unsaid(data: Dataset, tmp_path: Path) -> None:
    data.rows[ORDERS][0]["order_status"] = "lost"
    records = read_folder(data.write(tmp_path))
    assert [str(bad) for bad in records.bad] == [
        f"{ORDERS}:2: order_status 'lost' is unknown; known are created, approved, processing, invoiced, shipped,"
        " delivered, canceled, unavailable; the order is skipped with its items, payments and review"
    ]
    assert set(records.orders) == {"o2"}


def test_an_order_goes_on_without_its_bad_item(data: Dataset, tmp_path: Path) -> None:
    data.rows[ITEMS][0]["price"] = "free"
    records = read_folder(data.write(tmp_path))
    assert len(records.bad) == 1
    assert records.orders["o1"].items == ()
    assert len(records.orders["o1"].payments) == 1


def test_of_an_order_s_reviews_the_earliest_counts(data: Dataset, tmp_path: Path) -> None:
    data.review("o1", 1, "2018-02-10 00:00:00").review("o1", 2, "2018-02-12 00:00:00")
    records = read_folder(data.write(tmp_path))
    assert records.orders["o1"].review == Review(1, datetime(2018, 2, 10, tzinfo=UTC))
    assert (records.reviews, records.bad) == (3, [])


@pytest.mark.parametrize("file", [file for file in COLUMNS if file != REVIEWS])
def test_a_row_that_stands_twice_counts_once(data: Dataset, tmp_path: Path, file: str) -> None:
    before = read_folder(data.write(tmp_path))
    again = dict(data.rows[file][0])
    again.update({column: "1" for column in ("price", "payment_value") if column in again})
    data.rows[file].append(again)
    records = read_folder(data.write(tmp_path))
    assert [(bad.file, bad.line) for bad in records.bad] == [(file, len(data.rows[file]) + 1)]
    assert (records.orders, records.products) == (before.orders, before.products)


def test_an_order_that_would_be_refused_half_way_is_skipped(data: Dataset, tmp_path: Path) -> None:
    data.order("long", items=tuple(("p1", str(price), "0") for price in range(1, 202)))
    data.order("dear", items=(("p1", "9999999999.99", "0"), ("p1", "1", "0")))
    data.order("rich", payments=(("voucher", "10000000000"), ("voucher", "0.01")))
    data.order("parts", payments=(("voucher", "1"),) * 101)
    records = read_folder(data.write(tmp_path))
    assert set(records.orders) == {"o1", "o2"}
    assert [bad.line for bad in records.bad] == [4, 5, 6, 7]
    assert records.bad[0].why == "order long has 201 lines, at most 200 are possible; it is skipped"


@pytest.mark.parametrize("file", list(COLUMNS))
def test_a_missing_file_is_one_clear_error(data: Dataset, tmp_path: Path, file: str) -> None:
    (data.write(tmp_path) / file).unlink()
    with pytest.raises(FolderUnusable, match=f"there is no {file}"):
        read_folder(tmp_path)


def test_a_missing_column_is_one_clear_error(data: Dataset, tmp_path: Path) -> None:
    path = data.write(tmp_path) / ORDERS
    path.write_text(path.read_text().replace("order_status", "state", 1))
    with pytest.raises(FolderUnusable, match=f"{ORDERS} has no column order_status$"):
        read_folder(tmp_path)


def test_an_empty_file_is_one_clear_error(data: Dataset, tmp_path: Path) -> None:
    (data.write(tmp_path) / ITEMS).write_bytes(b"")
    with pytest.raises(FolderUnusable, match="is empty"):
        read_folder(tmp_path)


def test_lines_that_are_no_rows(data: Dataset, tmp_path: Path) -> None:
    path = data.write(tmp_path) / PRODUCTS
    with path.open("a", encoding="utf-8") as file:
        file.write(
            '\r\np3\r\np4,"a"b,1,2\r\n"p5","two\nlines",1,2\r\np6,x,1,2,3\r\np7,unclosed",1,2\r\np8,"open,1,2\r\n'
        )
    records = read_folder(tmp_path)
    assert set(records.products) == {"p1", "p2", "p5", "p7"}
    assert [(bad.line, bad.why.split(":")[0]) for bad in records.bad] == [
        (5, "has 1 columns, its header has 4"),
        (6, "is not CSV"),
        (9, "has 5 columns, its header has 4"),
        (11, "is not CSV"),
    ]


def test_a_byte_order_mark_and_other_columns_do_no_harm(data: Dataset, tmp_path: Path) -> None:
    path = data.write(tmp_path) / PRODUCTS
    path.write_text("\n".join(f'"x",{line}' for line in path.read_text().splitlines()), encoding="utf-8-sig")
    records = read_folder(tmp_path)
    assert records.bad == []
    assert len(records.orders) == 2


def test_only_a_row_that_needs_the_damaged_bytes_is_bad(data: Dataset, tmp_path: Path) -> None:
    folder = data.write(tmp_path)
    for file in (CUSTOMERS, PRODUCTS):  # The city does not matter, the category does.
        path = folder / file
        path.write_bytes(path.read_bytes().replace("são".encode(), b"s\xe3o").replace(b"brinquedos", b"p\xe9", 1))
    assert read_folder(folder).bad[0] == BadRow(PRODUCTS, 2, "product_category_name is not UTF-8")
    assert set(read_folder(folder).orders) == {"o1", "o2"}
