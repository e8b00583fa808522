"""Health, metrics, traces and the API's own description: what operators and newcomers look at first."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from gateway.compose import PROJECTIONS
from tests.gateway.asserts import problem
from tests.system import Shop, order_of, unique, until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ROUTES = {
    "/v1/products/{sku}": {"put", "get"},
    "/v1/products": {"get"},
    "/v1/products/{sku}/reviews": {"post", "get"},
    "/v1/customers": {"get"},
    "/v1/customers/{customer_id}": {"put", "get", "delete"},
    "/v1/stock/{sku}/receipts": {"post"},
    "/v1/stock/{sku}/alert": {"put"},
    "/v1/stock/{sku}": {"get"},
    "/v1/reservations": {"post"},
    "/v1/reservations/{order_id}": {"get"},
    "/v1/reservations/{order_id}/release": {"post"},
    "/v1/orders": {"post", "get"},
    "/v1/orders/stream": {"get"},
    "/v1/orders/{order_id}": {"get"},
    "/v1/orders/{order_id}/cancellation": {"post"},
    "/v1/orders/{order_id}/timeline": {"get"},
    "/v1/shipments/{order_id}": {"get"},
    "/v1/shipments/{order_id}/pickup": {"post"},
    "/v1/shipments/{order_id}/delivery": {"post"},
    "/v1/orders/{order_id}/stream": {"get"},
    "/v2/orders": {"post", "get"},
    "/v2/orders/stream": {"get"},
    "/v2/orders/{order_id}": {"get"},
    "/v2/orders/{order_id}/cancellation": {"post"},
    "/v2/orders/{order_id}/timeline": {"get"},
    "/v2/orders/{order_id}/stream": {"get"},
    "/v1/graphql": {"post"},
    "/v1/payments/{order_id}": {"get"},
    "/v1/webhooks/payments": {"post"},
    "/v1/invoices/{order_id}": {"get"},
    "/v1/loyalty/{customer_id}": {"get"},
    "/v1/notices": {"get"},
    "/v1/recommendations": {"get"},
    "/v1/commands/{command_id}": {"get"},
    "/v1/reports/sales": {"get"},
    "/v1/projections": {"get"},
    "/v1/services": {"get"},
    "/v1/processes": {"get"},
    "/v1/processes/{process_id}/retry": {"post"},
    "/v1/processes/{process_id}/skip": {"post"},
    "/v1/processes/{process_id}/compensate": {"post"},
    "/v1/projections/{name}": {"get"},
    "/v1/projections/{name}/rebuilds": {"post"},
    "/v1/parked": {"get"},
    "/v1/parked/{id}/redrive": {"post"},
    "/v1/parked/{id}/discard": {"post"},
    "/livez": {"get"},
    "/readyz": {"get"},
}
METRICS = {
    "tally_http_requests_total",
    "tally_http_request_seconds",
    "tally_projection_position",
    "tally_projection_lag",
    "tally_projection_lag_events",
    "tally_projection_lag_seconds",
    "tally_projection_parked_keys",
    "tally_projection_parked_commits",
    "tally_projection_halted",
    "tally_commands_answered_total",
    "tally_blocks_appended_total",
    "tally_append_seconds",
    "tally_engine_queue",
    "tally_reactor_position",
    "tally_outbox_backlog",
    "tally_outbox_lag_seconds",
}


COUNTED = {
    r'tally_commands_answered_total\{domain="orders",outcome="stored"\} [1-9]',
    r'tally_reactor_position\{reactor="checkout-relay"\} [1-9]',
}


def test_it_is_alive_and_ready_without_a_token(nobody: httpx.Client) -> None:
    assert nobody.get("/livez").json() == {"status": "alive"}
    ready = nobody.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


def test_the_metrics_hold_the_vocabulary(nobody: httpx.Client, shop: Shop) -> None:
    shop.settled(shop.place(shop.product(units=1))["order_id"])
    shop.system.quiet()
    shop.caught_up()

    wanted = {
        f'tally_projection_{what}{{name="{projection.name}"}} 0.0'
        for projection in PROJECTIONS
        for what in ("lag", "lag_events", "lag_seconds", "parked_keys", "halted")
    }

    def missing() -> set[str]:
        answer = nobody.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/plain; version=1.0.0; charset=utf-8"
        lines = set(answer.text.splitlines())
        names = set(re.findall(r"^# TYPE (\S+) ", answer.text, re.MULTILINE))
        counted = {pattern for pattern in COUNTED if re.search(pattern, answer.text)}
        return (METRICS - names) | (wanted - lines) | (COUNTED - counted)

    until(lambda: not missing(), "all metrics")  # What an order leads to goes on for a moment after it is settled.


def test_requests_are_counted_whatever_became_of_them(nobody: httpx.Client) -> None:
    before = _requests(nobody)
    nobody.get("/v1/orders")
    nobody.get("/nowhere")
    for number in range(20):
        nobody.request(f"MADEUP{number}", "/v1/orders")
    after = _requests(nobody)
    assert after["GET", "401"] == before.get(("GET", "401"), 0) + 1
    assert after["GET", "404"] == before.get(("GET", "404"), 0) + 1
    assert after["other", "405"] == before.get(("other", "405"), 0) + 20
    assert not [method for method, _ in after if method.startswith("MADEUP")]


def test_a_trace_is_taken_up_passed_on_and_written_into_the_log(staff: httpx.Client, shop: Shop) -> None:
    sku, order_id = shop.product(units=1), unique("order")
    body = order_of(sku, order_id=order_id)
    answer = staff.post("/v1/orders", json=body, headers={"traceparent": TRACE})
    passed_on = answer.headers["traceparent"]
    _, trace_id, parent_id, flags = passed_on.split("-")
    assert (trace_id, flags) == (TRACE.split("-")[1], "01")
    assert parent_id != TRACE.split("-")[2]
    shop.settled(order_id)
    for domain in ("orders", "checkout", "payments", "inventory"):
        caused = [commit for commit in shop.system.inside.commits(domain) if commit.correlation == order_id]
        assert caused, domain
        assert {commit.trace for commit in caused} == {passed_on}, domain
    (placed,) = [commit for commit in shop.system.inside.commits("orders") if commit.aggregate == order_id][:1]
    assert placed.actor == "staff:staff-1"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        TRACE.upper(),
        TRACE[:-1],
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        "x" * 5_000,
    ],
)
def test_a_trace_that_is_none_begins_a_new_one(nobody: httpx.Client, given: str) -> None:
    passed_on = nobody.get("/livez", headers={"traceparent": given}).headers["traceparent"]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", passed_on)
    assert passed_on.split("-")[1] not in ("0" * 32, TRACE.split("-")[1])


def test_problems_carry_the_trace_even_where_no_route_is(nobody: httpx.Client) -> None:
    for method, path, status in (("GET", "/v1/orders", 401), ("GET", "/nowhere", 404), ("DELETE", "/v1/orders", 405)):
        answer = nobody.request(method, path, headers={"traceparent": TRACE})
        assert answer.status_code == status
        assert answer.json()["trace_id"] == TRACE.split("-")[1]
        assert answer.headers["traceparent"].split("-")[1] == TRACE.split("-")[1]
    problem(nobody.get("/nowhere"), 404, "not_found")
    not_allowed = nobody.delete("/v1/orders")
    problem(not_allowed, 405, "method_not_allowed")
    assert "POST" in not_allowed.headers["Allow"]


def test_the_description_is_valid_json_and_lists_every_route(nobody: httpx.Client) -> None:
    answer = nobody.get("/schema/openapi.json")
    assert answer.status_code == 200
    described = json.loads(answer.text)
    assert described["openapi"].startswith("3.")
    found = {path: set(methods) & {"get", "put", "post", "delete"} for path, methods in described["paths"].items()}
    assert found == ROUTES
    order = described["paths"]["/v1/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body = described["components"]["schemas"][order["$ref"].rpartition("/")[2]]
    assert {"customer_id", "currency", "lines"} <= set(body["required"])


def test_the_documentation_comes_from_here_and_nowhere_else(nobody: httpx.Client) -> None:
    page = nobody.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert "://" not in page.text
    linked = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(linked) == 3
    for path in linked:
        assert path.startswith("/docs/files/")
        file = nobody.get(path)
        assert file.status_code == 200
        assert file.content
    problem(nobody.get("/docs/files/%2e%2e/__init__.py"), 404, "not_found")


def _requests(http: httpx.Client) -> dict[tuple[str, str], int]:
    pattern = r'^tally_http_requests_total\{method="(\w+)",status="(\d+)"\} ([\d.e+]+)$'
    found = re.findall(pattern, http.get("/metrics").text, re.MULTILINE)
    return {(method, status): int(float(count)) for method, status, count in found}
