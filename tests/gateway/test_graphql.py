"""GraphQL: one answer from several services, of what one may know, in as few queries for many orders as for one."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import httpx
import pytest
from graphql import parse, validate
from msgspec import Struct

from gateway import compose
from gateway.graphql.loaders import Loaders
from gateway.graphql.schema import SCHEMA
from gateway.graphql.weighing import COST_MAX, DEPTH_MAX, Bounded
from gateway.http.tokens import Principal
from projections.projection import Value
from projections.reader import Query, Reader
from tests.gateway.asserts import problem
from tests.system import Json, Shop, System, order_of, unique

Result = TypeVar("Result", bound=Struct)

WHOLE = """
query Whole($id: ID!) {
  order(id: $id) {
    id status total { amount currency }
    lines { quantity unitPrice { amount } product { name price { amount currency } available rating } }
    payment { status captured { amount } }
    shipment { status units trackingId deliveredAt }
    customer { name email }
  }
}
"""
LIST = """
query List($customer: ID!, $first: Int!) {
  orders(customerId: $customer, first: $first) {
    id lines { product { name available rating } } payment { status } shipment { status } customer { name }
  }
}
"""


def ask(http: httpx.Client, query: str, **variables: object) -> Json:
    answer = http.post("/v1/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    found: Json = answer.json()
    return found


@pytest.fixture
def bought(shop: Shop, staff: httpx.Client, customer_id: str) -> list[str]:
    """Three orders of one customer, settled."""
    assert staff.put(f"/v1/customers/{customer_id}", json={"name": "Ann", "email": "ann@example.org"}).is_success
    placed = [shop.place(shop.product(units=5), 2, customer_id=customer_id)["order_id"] for _ in range(3)]
    for order_id in placed:
        shop.settled(order_id)
    shop.caught_up()
    return sorted(placed)


def test_one_query_answers_from_every_service(customer: httpx.Client, bought: list[str], shop: Shop) -> None:
    (order,) = ask(customer, WHOLE, id=bought[0])["data"].values()
    shown = shop.order(bought[0])
    sku = shown["lines"][0]["sku"]
    assert order == {
        "id": bought[0],
        "status": "shipped",
        "total": {"amount": 2_000, "currency": "EUR"},
        "lines": [
            {
                "quantity": 2,
                "unitPrice": {"amount": 1_000},
                "product": {
                    "name": f"Product {sku}",
                    "price": {"amount": 1_000, "currency": "EUR"},
                    "available": 3,
                    "rating": None,
                },
            }
        ],
        "payment": {"status": "captured", "captured": {"amount": 2_000}},
        "shipment": {
            "status": "picked_up",
            "units": 2,
            "trackingId": shown["shipment"]["tracking_id"],
            "deliveredAt": None,
        },
        "customer": {"name": "Ann", "email": "ann@example.org"},
    }


def test_each_sees_its_own_and_staff_everybodys(
    customer: httpx.Client, staff: httpx.Client, nobody: httpx.Client, bought: list[str], customer_id: str, shop: Shop
) -> None:
    others = shop.place(shop.product(units=1), customer_id=unique("customer"))["order_id"]
    shop.settled(others)
    assert ask(customer, WHOLE, id=others) == {"data": {"order": None}}
    assert ask(staff, WHOLE, id=others)["data"]["order"]["customer"] is None  # Never registered.
    assert ask(customer, WHOLE, id="nothing") == {"data": {"order": None}}
    own = ask(customer, "{ orders { id } }")["data"]["orders"]
    assert [each["id"] for each in own] == bought
    page = ask(customer, "query Next($after: ID!) { orders(first: 1, after: $after) { id } }", after=bought[0])
    assert page["data"]["orders"] == [{"id": bought[1]}]
    refused = ask(customer, LIST, customer="somebody", first=3)
    assert refused["data"] is None
    assert refused["errors"][0]["extensions"]["code"] == "forbidden"
    assert len(ask(staff, LIST, customer=customer_id, first=3)["data"]["orders"]) == 3
    problem(nobody.post("/v1/graphql", json={"query": "{ orders { id } }"}), 401, "unauthenticated")


def test_a_position_is_waited_for(staff: httpx.Client, shop: Shop) -> None:
    placed = staff.post("/v1/orders", json=order_of(shop.product(units=1)))
    body = {"query": WHOLE, "variables": {"id": placed.json()["order_id"]}}
    answer = staff.post("/v1/graphql", json=body, headers={"Min-Position": placed.headers["Position"]})
    assert answer.json()["data"]["order"]["id"] == placed.json()["order_id"]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("{", "Syntax Error"),
        ("{ nothing }", "Cannot query field"),
        ("mutation { order }", "mutation"),
        ("{ __schema { types { name } } }", "introspection"),
        ("query A { ...A } fragment A on Query { ...A }", "Cannot spread"),
        ("{ " + "a: order(id: 1) { id } " * 500 + "}", "tokens"),
        ("{ " + "".join(f"a{n}: orders(first: 50) {{ lines {{ sku }} }} " for n in range(12)) + "}", "may cost"),
    ],
)
def test_what_is_no_query_or_asks_for_too_much_is_refused(staff: httpx.Client, query: str, why: str) -> None:
    refused = staff.post("/v1/graphql", json={"query": query})
    problem(refused, 422, "query_invalid", "/query")
    assert why in refused.json()["detail"]


def test_a_body_that_names_no_operation_is_refused(staff: httpx.Client) -> None:
    problem(staff.post("/v1/graphql", json={"query": ""}), 422, "malformed", "/query")
    problem(staff.post("/v1/graphql", json={}), 422, "malformed")
    other = {"query": "query A { orders { id } }", "operationName": "B"}
    problem(staff.post("/v1/graphql", json=other), 422, "query_invalid", "/operationName")


def test_what_fails_of_a_query_is_told_without_what_is_inside(staff: httpx.Client) -> None:
    told = ask(staff, "query List($first: Int!) { orders(first: $first) { id } }", first=51)
    assert told["data"] is None
    assert told["errors"][0]["extensions"]["code"] == "malformed"
    missing = ask(staff, "query List($first: Int!) { orders(first: $first) { id } }")
    assert missing["errors"][0]["extensions"]["code"] == "malformed"


def weight_told(query: str) -> list[str]:
    return [error.message for error in validate(SCHEMA._schema, parse(query), [Bounded])]


def test_a_query_is_weighed_before_it_is_answered() -> None:
    deep = "{ order(id: 1) " + "{ lines " * DEPTH_MAX + "{ sku }" + " }" * (DEPTH_MAX + 1)
    assert weight_told(deep)[0].startswith(f"the query is {DEPTH_MAX + 2} fields deep")
    orders = "orders(first: {}) {{ lines {{ sku name product {{ name sku }} }} }}"
    assert not weight_told("{ " + orders.format(5) + " }")
    by_fragments = "{ ...A ...A } fragment A on Query { ...B ...B } fragment B on Query { " + orders.format(50) + " }"
    assert f"at most {COST_MAX}" in weight_told(by_fragments)[0]
    unknown = "query Q($n: Int!) { a: orders(first: $n) { ...L } b: orders(first: $n) { ...L } }"
    of_lines = " fragment L on Order { lines { sku name product { name sku category available } } }"
    assert f"at most {COST_MAX}" in weight_told(unknown + of_lines)[0]
    assert not weight_told("{ a: orders(first: 1) { ...L } b: orders(first: 1) { ...L } }" + of_lines)


class Counting(Reader):
    """Counts what is read."""

    def __init__(self, system: System) -> None:
        super().__init__(system.settings.read_models)
        self.queries = 0

    async def all(self, query: Query[Result], **parameters: Value) -> list[Result]:
        self.queries += 1
        return await super().all(query, **parameters)


def test_many_orders_take_as_many_queries_as_one(system: System, bought: list[str], customer_id: str) -> None:
    async def asked(first: int) -> tuple[int, list[Any]]:
        reader, customers = Counting(system), []

        async def customer(id: str) -> bytes | None:
            customers.append(id)
            return b'{"type":"Registered","name":"Ann","email":"ann@example.org"}'

        loaders = Loaders(reader, Principal("staff-1", "staff"), customer)
        result = await SCHEMA.execute(LIST, {"customer": customer_id, "first": first}, context_value=loaders)
        await reader.close()
        assert result.errors is None
        assert result.data is not None
        assert len(result.data["orders"]) == first
        assert customers == [customer_id]
        return reader.queries, result.data["orders"]

    one, _ = asyncio.run(asked(1))
    three, orders = asyncio.run(asked(3))
    assert one == three
    assert all(order["lines"][0]["product"]["available"] == 3 for order in orders)


def test_without_the_extra_there_is_no_such_route(monkeypatch: pytest.MonkeyPatch) -> None:
    here = len(compose.routes())
    monkeypatch.setattr(compose, "find_spec", lambda name: None)
    assert len(compose.routes()) == here - 2


def test_what_may_be_asked_is_shown(nobody: httpx.Client) -> None:
    shown = nobody.get("/schema/graphql")
    assert shown.headers["Content-Type"].startswith("text/plain")
    assert "type Order {" in shown.text
