"""Folders in Olist's format, made up here: the real data's licence keeps it out of this repository."""

from __future__ import annotations

import csv
from pathlib import Path

ORDERS = "olist_orders_dataset.csv"
ITEMS = "olist_order_items_dataset.csv"
PAYMENTS = "olist_order_payments_dataset.csv"
CUSTOMERS = "olist_customers_dataset.csv"
PRODUCTS = "olist_products_dataset.csv"
REVIEWS = "olist_order_reviews_dataset.csv"

COLUMNS = {
    CUSTOMERS: ("customer_id", "customer_unique_id", "customer_zip_code_prefix", "customer_city", "customer_state"),
    PRODUCTS: ("product_id", "product_category_name", "product_name_lenght", "product_weight_g"),
    ORDERS: (
        "order_id",
        "customer_id",
        "order_status",
        "order_purchase_timestamp",
        "order_approved_at",
        "order_delivered_carrier_date",
        "order_delivered_customer_date",
        "order_estimated_delivery_date",
    ),
    ITEMS: (
        "order_id",
        "order_item_id",
        "product_id",
        "seller_id",
        "shipping_limit_date",
        "price",
        "freight_value",
    ),
    PAYMENTS: ("order_id", "payment_sequential", "payment_type", "payment_installments", "payment_value"),
    REVIEWS: ("order_id", "review_score", "review_creation_date", "review_answer_timestamp"),
}

BOUGHT, APPROVED = "2018-01-31 23:59:59", "2018-02-01 00:10:00"
CARRIED, DELIVERED = "2018-02-03 12:00:00", "2018-02-09 18:30:00"
REVIEWED = "2018-02-11 08:00:00"


class Dataset:
    """Rows by file, to be changed at will before `write`."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, str]]] = {file: [] for file in COLUMNS}

    def product(self, product_id: str, category: str = "brinquedos") -> Dataset:
        self._add(PRODUCTS, product_id, category, "40", "500")
        return self

    def order(
        self,
        order_id: str,
        status: str = "delivered",
        items: tuple[tuple[str, str, str], ...] = (("p1", "10.5", "2.05"),),
        payments: tuple[tuple[str, str], ...] = (("credit_card", "12.55"),),
        times: tuple[str, str, str, str] = (BOUGHT, APPROVED, CARRIED, DELIVERED),
        buyer_id: str = "",
    ) -> Dataset:
        """An order of items (product, price, freight) and payments (type, value), with a customer of its own."""
        self._add(CUSTOMERS, f"c-{order_id}", buyer_id or f"buyer-{order_id}", "01001", "são paulo", "SP")
        self._add(ORDERS, order_id, f"c-{order_id}", status, *times, "2018-02-20 00:00:00")
        for number, (product_id, price, freight) in enumerate(items, 1):
            self._add(ITEMS, order_id, str(number), product_id, "s1", "2018-02-04 00:00:00", price, freight)
        for number, (kind, value) in enumerate(payments, 1):
            self._add(PAYMENTS, order_id, str(number), kind, "1", value)
        return self

    def review(self, order_id: str, score: int, written_at: str = REVIEWED) -> Dataset:
        self._add(REVIEWS, order_id, str(score), f"{written_at[:10]} 00:00:00", written_at)
        return self

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for file, rows in self.rows.items():
            with (folder / file).open("w", newline="", encoding="utf-8") as out:
                lines = csv.DictWriter(out, COLUMNS[file])
                lines.writeheader()
                lines.writerows(rows)
        return folder

    def _add(self, file: str, *values: str) -> None:
        self.rows[file].append(dict(zip(COLUMNS[file], values, strict=True)))


def everything() -> Dataset:
    """Every status, and whatever else is rare in the real data."""
    data = Dataset().product("p1").product("p2", "").product("p3", "livros_técnicos").product("never-sold")
    data.order("delivered-1")
    data.order("delivered-no-carrier", times=(BOUGHT, APPROVED, "", DELIVERED))
    data.order("delivered-no-times", times=(BOUGHT, "", "", ""))
    data.order("delivered-times-go-back", times=(BOUGHT, CARRIED, APPROVED, BOUGHT))
    data.order("delivered-no-payment", payments=())
    data.order(
        "several",
        items=(("p1", "10.5", "2.05"), ("p2", "99", "0"), ("p1", "10.5", "2.06"), ("p1", "9.99", "1")),
        payments=(("voucher", "0"), ("voucher", "30.01"), ("credit_card", "97.09")),
    )
    data.order("paid-too-much", payments=(("boleto", "1000000.01"),))
    data.order("shipped-1", "shipped", times=(BOUGHT, APPROVED, CARRIED, ""))
    data.order("shipped-no-items", "shipped", items=(), times=(BOUGHT, APPROVED, CARRIED, ""))
    data.order("invoiced-1", "invoiced", items=(("p3", "4059", "104.4"),), times=(BOUGHT, APPROVED, "", ""))
    data.order("processing-1", "processing", times=("2016-09-04 21:15:19", "", "", ""))
    data.order("approved-1", "approved", times=(BOUGHT, APPROVED, "", ""))
    data.order("created-1", "created", payments=(), times=(BOUGHT, "", "", ""))
    data.order("created-paid", "created", times=(BOUGHT, "", "", ""))
    data.order("canceled-1", "canceled", times=(BOUGHT, APPROVED, "", ""))
    data.order("canceled-carried", "canceled", times=(BOUGHT, APPROVED, CARRIED, DELIVERED))
    data.order("canceled-empty", "canceled", items=(), payments=(), times=(BOUGHT, "", "", ""))
    data.order("unavailable-1", "unavailable", items=(), times=(BOUGHT, APPROVED, "", ""))
    data.order("unavailable-items", "unavailable", payments=(), times=(BOUGHT, "", "", ""))
    for order_id, score in (("delivered-1", 5), ("several", 4), ("delivered-no-payment", 1), ("canceled-1", 1)):
        data.review(order_id, score)
    data.order("again", buyer_id="buyer-delivered-1").review("again", 2, DELIVERED)
    return data.review("shipped-no-items", 3)
