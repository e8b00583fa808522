"""Bad input: a clear 4xx with the field to blame, never a 5xx, never a hang, and nothing is written."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http.tokens import ISSUER, Tokens
from gateway.settings import jwt_secret
from tests.gateway.asserts import problem
from tests.system import Shop, System, order_of, unique

JSON = {"Content-Type": "application/json"}
BAD_IDS = {
    "a dot": "a.b",
    "a star": "a*",
    "a wildcard": ">",
    "a space": "a b",
    "a newline at its end": "a\n",
    "a newline": "a\nb",
    "a NUL": "a\0",
    "a slash": "a/b",
    "a letter beyond ASCII": "größe",
    "no letter": "",
    "65 letters": "a" * 65,
    "10 kB": "a" * 10_000,
}
BAD_QUANTITIES = {
    "zero": 0,
    "negative": -1,
    "huge": 10**30,
    "one too many": 1_000_001,
    "a fraction": 1.5,
    "a float": 2.0,
    "a text": "1",
    "a truth": True,
    "null": None,
    "a list": [1],
    "an object": {},
}
LINE = {"sku": "sku", "quantity": 1}


def bad_orders() -> dict[str, tuple[dict[str, Any], str]]:
    """What is wrong with an order's body: the fields that differ from a good one, and the pointer to the culprit."""
    cases: dict[str, tuple[dict[str, Any], str]] = {}
    for name, value in BAD_IDS.items():
        for field in ("order_id", "customer_id", "payment_token"):
            cases[f"{field} with {name}"] = {field: value}, f"/{field}"
        cases[f"sku with {name}"] = {"lines": [LINE, {**LINE, "sku": value}]}, "/lines/1/sku"
    for name, quantity in BAD_QUANTITIES.items():
        cases[f"quantity {name}"] = {"lines": [{**LINE, "quantity": quantity}]}, "/lines/0/quantity"
    others: tuple[object, ...] = (None, 7, [], {}, True)
    for other in others:
        for field in ("customer_id", "currency", "payment_token", "workflow"):
            cases[f"{field} is {other!r}"] = {field: other}, f"/{field}"
        if other != []:
            cases[f"lines is {other!r}"] = {"lines": other}, "/lines"
        cases[f"a line is {other!r}"] = {"lines": [other]}, "/lines/0"
    cases |= {
        "no lines": ({"lines": []}, "/lines"),
        "201 lines": ({"lines": [LINE] * 201}, "/lines"),
        "a line without a quantity": ({"lines": [{"sku": "a"}]}, "/lines/0"),
        "a line without a SKU": ({"lines": [{"quantity": 1}]}, "/lines/0"),
        "an unknown SKU": ({"lines": [{"sku": "nothing", "quantity": 1}]}, "/lines/0/sku"),
        "an unknown SKU among known ones": ({"lines": [LINE, {"sku": "nothing", "quantity": 1}]}, "/lines/1/sku"),
        "another currency than the product's": ({"currency": "USD"}, "/lines/0/sku"),
        "a currency in small letters": ({"currency": "eur"}, "/currency"),
        "a currency with a newline": ({"currency": "EUR\n"}, "/currency"),
        "a workflow of imports": ({"workflow": "recorded"}, "/workflow"),
        "a workflow that is none": ({"workflow": "magic"}, "/workflow"),
        "too many units": ({"lines": [{**LINE, "quantity": 600_000}] * 2}, "/lines"),
    }
    return cases


ORDERS = bad_orders()
BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "not_json"),
    "white space": (b"   ", 400, "not_json"),
    "broken JSON": (b'{"customer_id": "a"', 400, "not_json"),
    "two values": (b"{} {}", 422, "malformed"),
    "invalid UTF-8": (b"\xff\xfe{}", 400, "not_json"),
    "invalid UTF-8 in a text": (b'{"customer_id": "\xc3\x28"}', 400, "not_json"),
    "a lone surrogate": (b'{"customer_id": "\\ud800"}', 400, "not_json"),
    "UTF-16": (json.dumps(order_of("sku")).encode("utf-16"), 400, "not_json"),
    "NaN": (b"NaN", 400, "not_json"),
    "NaN in a field": (b'{"customer_id": NaN}', 400, "not_json"),
    "Infinity in a field": (b'{"customer_id": Infinity}', 400, "not_json"),
    "a number beyond all": (b'{"customer_id": 1e999}', 422, "malformed"),
    "null": (b"null", 422, "malformed"),
    "an array": (b"[]", 422, "malformed"),
    "a text": (b'"order"', 422, "malformed"),
    "a number": (b"7", 422, "malformed"),
    "an empty object": (b"{}", 422, "malformed"),
    "deep arrays": (b"[" * 100_000, 422, "malformed"),
    "deep arrays in an unknown field": (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "not_json"),
    "deep objects in a known field": (
        b'{"lines": ' + b'{"a":' * 30_000 + b"1" + b"}" * 30_000 + b"}",
        422,
        "malformed",
    ),
    "a key twice, the second wrong": (b'{"customer_id": "a", "customer_id": 1}', 422, "malformed"),
    "just too large": (b'{"x": "' + b"a" * 256 * 1024 + b'"}', 413, "body_too_large"),
    "1 MB": (b'{"x": "' + b"a" * 1_000_000 + b'"}', 413, "body_too_large"),
}
HEADERS: dict[str, tuple[dict[str, str], int, str, str]] = {
    "a key of 10 kB": ({"Idempotency-Key": "k" * 10_000}, 422, "malformed", "header:Idempotency-Key"),
    "a key of 129 letters": ({"Idempotency-Key": "k" * 129}, 422, "malformed", "header:Idempotency-Key"),
    "an empty key": ({"Idempotency-Key": ""}, 422, "malformed", "header:Idempotency-Key"),
    "a key with a space": ({"Idempotency-Key": "a b"}, 422, "malformed", "header:Idempotency-Key"),
    "If-Match nonsense": ({"If-Match": "nonsense"}, 412, "version_conflict", "header:If-Match"),
    "If-Match beyond numbers": ({"If-Match": '"' + "9" * 99 + '"'}, 412, "version_conflict", "header:If-Match"),
    "If-Match of 10 kB": ({"If-Match": "x" * 10_000}, 412, "version_conflict", "header:If-Match"),
}


@pytest.fixture(scope="module", autouse=True)
def sku(shop: Shop) -> str:
    """What the orders here are for: there, and on the shelf."""
    body = {"name": "Thing", "category": "things", "price_cents": 100, "currency": "EUR"}
    assert shop.http.put("/v1/products/sku", json=body).status_code == 201
    shop.http.post("/v1/stock/sku/receipts", json={"receipt_id": "r", "quantity": 1_000_000})
    shop.system.quiet()
    return "sku"


@pytest.fixture
def _nothing_is_written(system: System) -> Iterator[None]:
    """The logs end where they ended before."""
    heads = system.inside.heads()
    yield
    assert system.inside.heads() == heads


nothing_is_written = pytest.mark.usefixtures("_nothing_is_written")


@nothing_is_written
@pytest.mark.parametrize("case", ORDERS)
def test_an_order_that_makes_no_sense_is_refused(staff: httpx.Client, case: str) -> None:
    fields, pointer = ORDERS[case]
    answer = staff.post("/v1/orders", json={**order_of("sku"), **fields})
    if case.startswith("order_id is None"):
        assert answer.status_code == 201
        return
    assert answer.status_code == 422, answer.text
    problem(answer, 422, answer.json()["code"], pointer)
    assert answer.json()["code"] in ("malformed", "product_unknown", "currency_differs", "order_too_large")


@nothing_is_written
@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_makes_no_sense_is_refused(staff: httpx.Client, case: str) -> None:
    body, status, code = BODIES[case]
    problem(staff.post("/v1/orders", content=body, headers=JSON), status, code)
    for path in ("/v1/stock/sku/receipts", "/v1/orders/o/cancellation"):
        answer = staff.post(path, content=body, headers=JSON)
        assert answer.status_code in (400, 413, 422), answer.text
        problem(answer, answer.status_code, answer.json()["code"])


@nothing_is_written
def test_a_large_body_in_chunks_is_refused(staff: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"x": "'
        for _ in range(64):
            yield b"a" * 16_384

    problem(staff.post("/v1/orders", content=chunks(), headers=JSON), 413, "body_too_large")


@nothing_is_written
@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_makes_no_sense_is_refused(staff: httpx.Client, case: str) -> None:
    headers, status, code, field = HEADERS[case]
    problem(staff.post("/v1/orders", json=order_of("sku"), headers=headers), status, code, field)
    body = {"receipt_id": "other", "quantity": 1}
    problem(staff.post("/v1/stock/sku/receipts", json=body, headers=headers), status, code, field)


@nothing_is_written
@pytest.mark.parametrize(
    "prefer", ["nonsense", "wait=-1", "wait=", "wait=1e9", "wait=" + "9" * 99, "handling=", "\xff"]
)
def test_a_preference_that_makes_no_sense_is_ignored(staff: httpx.Client, prefer: str) -> None:
    """As RFC 7240 wants it."""
    headers = {b"Prefer": prefer.encode("latin-1"), b"Min-Position": b"orders=1"}
    assert staff.get("/v1/orders", headers=headers).status_code == 200


@nothing_is_written
@pytest.mark.parametrize("name", [name for name in BAD_IDS if name != "no letter"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/orders/{}", None),
        ("POST", "/v1/orders/{}/cancellation", {"reason": "r"}),
        ("GET", "/v1/payments/{}", None),
        ("GET", "/v1/products/{}", None),
        ("PUT", "/v1/products/{}", {"name": "n", "category": "c", "price_cents": 1, "currency": "EUR"}),
        ("GET", "/v1/stock/{}", None),
        ("POST", "/v1/stock/{}/receipts", {"receipt_id": "r", "quantity": 1}),
        ("GET", "/v1/projections/{}", None),
        ("POST", "/v1/projections/{}/rebuilds", None),
    ],
)
def test_an_id_in_a_path_that_is_none_is_refused(
    admin: httpx.Client, method: str, path: str, body: object, name: str
) -> None:
    answer = admin.request(method, path.format(quote(BAD_IDS[name], safe="")), json=body)
    if name == "a slash":
        problem(answer, answer.status_code, answer.json()["code"])
        assert answer.status_code in (404, 405)
        return
    problem(answer, 422, "malformed")
    assert answer.json()["field"].startswith("path:")


@nothing_is_written
@pytest.mark.parametrize("name", BAD_IDS)
def test_a_receipts_id_that_is_none_is_refused(staff: httpx.Client, name: str) -> None:
    answer = staff.post("/v1/stock/sku/receipts", json={"receipt_id": BAD_IDS[name], "quantity": 1})
    problem(answer, 422, "malformed", "/receipt_id")


@nothing_is_written
@pytest.mark.parametrize("name", BAD_QUANTITIES)
def test_a_receipts_quantity_that_is_none_is_refused(staff: httpx.Client, name: str) -> None:
    answer = staff.post("/v1/stock/sku/receipts", json={"receipt_id": "other", "quantity": BAD_QUANTITIES[name]})
    problem(answer, 422, "malformed", "/quantity")


@nothing_is_written
def test_a_content_type_that_is_none_does_no_harm(staff: httpx.Client) -> None:
    for kind in ("", "nonsense", "multipart/form-data", "application/x-www-form-urlencoded", "application/msgpack"):
        answer = staff.post("/v1/orders", content=b"\x81\xa1x\x01", headers={"Content-Type": kind})
        problem(answer, 400, "not_json")


# -- tokens ---------------------------------------------------------------------------------------------------------


@nothing_is_written
@pytest.mark.parametrize(
    "case",
    [
        "none",
        "empty",
        "garbage",
        "not a bearer",
        "expired",
        "of another system",
        "unsigned",
        "of another algorithm",
        "of another issuer",
        "without an end",
        "of another role",
        "of a subject that is no id",
        "10 kB",
        "cut",
        "beyond ASCII",
    ],
)
def test_a_token_that_is_none_of_ours_is_401(nobody: httpx.Client, system: System, case: str) -> None:
    headers: dict[bytes, bytes] = {} if case == "none" else {b"Authorization": _authorization(system, case)}
    answer = nobody.post("/v1/orders", json=order_of("sku"), headers=headers)
    problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    problem(nobody.get("/v1/orders", headers=headers), 401, "unauthenticated")


def _authorization(system: System, case: str) -> bytes:
    secret = jwt_secret(system.settings)
    good = system.token("admin", "admin")
    now = int(time.time())
    claims = {"sub": "admin", "role": "admin", "iat": now, "exp": now + 60, "iss": ISSUER}
    tokens = {
        "garbage": "a.b.c",
        "expired": Tokens(secret).issue("admin", "admin", ttl_s=-1),
        "of another system": Tokens("x" * 64).issue("admin", "admin"),
        "unsigned": jwt.encode(claims, "", algorithm="none"),
        "of another algorithm": jwt.encode(claims, secret * 2, algorithm="HS512"),
        "of another issuer": jwt.encode({**claims, "iss": "them"}, secret, algorithm="HS256"),
        "without an end": jwt.encode({k: claims[k] for k in ("sub", "role", "iss")}, secret, algorithm="HS256"),
        "of another role": jwt.encode({**claims, "role": "root"}, secret, algorithm="HS256"),
        "of a subject that is no id": jwt.encode({**claims, "sub": "a.b"}, secret, algorithm="HS256"),
        "10 kB": good + "a" * 10_000,
        "cut": good[:-1],
        "beyond ASCII": "\xe9\xff",
    }
    if case == "empty":
        return b"Bearer"
    if case == "not a bearer":
        return f"Basic {good}".encode()
    return f"Bearer {tokens[case]}".encode("latin-1")


# -- below HTTP -----------------------------------------------------------------------------------------------------


@nothing_is_written
@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/orders/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/orders HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_answered_and_closed(system: System, sent: bytes) -> None:
    port = int(system.running.http_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as connection:
        connection.sendall(sent)
        answer = connection.recv(65_536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer


def test_a_client_that_hangs_up_in_mid_body_disturbs_nobody(system: System, staff: httpx.Client) -> None:
    port = int(system.running.http_url.rpartition(":")[2])
    token = system.token("staff", "staff-1")
    head = f"POST /v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 500\r\n\r\n{{"
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", port), timeout=30.0) as connection:
            connection.sendall(head.encode())
    answer = staff.post("/v1/orders", json=order_of("sku", order_id=unique("order")))
    assert answer.status_code == 201


# -- anything -------------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
QUANTITIES = st.integers(-3, 5) | st.sampled_from([10**6, 10**6 + 1, 2**63, -(2**63)]) | VALUES
SKUS = st.just("sku") | st.text(max_size=70) | VALUES
LINES = st.fixed_dictionaries({}, optional={"sku": SKUS, "quantity": QUANTITIES, "price_cents": VALUES})
ORDER_BODIES = VALUES | st.fixed_dictionaries(
    {},
    optional={
        "order_id": st.just("fuzz") | VALUES,
        "customer_id": st.just("fuzz") | VALUES,
        "currency": st.just("EUR") | VALUES,
        "lines": st.lists(LINES | VALUES, max_size=4) | VALUES,
        "payment_token": st.sampled_from(["tok_ok", "tok_declined"]) | VALUES,
        "workflow": st.just("orchestrated") | VALUES,
    },
)


@settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=ORDER_BODIES)
def test_whatever_is_sent_as_an_order_is_placed_or_refused(staff: httpx.Client, body: object) -> None:
    answer = staff.post("/v1/orders", content=json.dumps(body).encode(), headers=JSON)
    assert answer.status_code in (201, 400, 409, 422), answer.text
    if answer.status_code != 201:
        problem(answer, answer.status_code, answer.json()["code"])


def test_afterwards_everything_is_ready(nobody: httpx.Client, shop: Shop) -> None:
    assert nobody.get("/readyz").status_code == 200
    assert shop.settled(shop.place(shop.product(units=1))["order_id"])["status"] == "shipped"
    log = (shop.system.folder / "log" / "gateway.log").read_text(errors="replace")
    assert "Traceback" not in log
