"""Orders over HTTP: placed once whatever is repeated, read at a position, paged, cancelled, and nobody else's business.

How a checkout ends is for `tests/journeys`.
"""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from tests.gateway.asserts import problem
from tests.system import HELD, Shop, System, order_of, unique

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def sku(shop: Shop) -> str:
    """A product with plenty on the shelf."""
    sku = shop.product(units=10_000)
    shop.caught_up()
    return sku


def test_a_placed_order_says_where_it_is_and_what_it_costs(staff: httpx.Client, sku: str) -> None:
    answer = staff.post("/v1/orders", json=order_of(sku, 3))
    assert answer.status_code == 201
    placed = answer.json()
    assert UUID7.fullmatch(placed["order_id"])
    assert placed == {
        "order_id": placed["order_id"],
        "customer_id": "customer-1",
        "status": "placed",
        "version": 1,
        "currency": "EUR",
        "items_cents": 3_000,
        "freight_cents": 0,
        "total_cents": 3_000,
    }
    assert answer.headers["Location"] == f"/v1/orders/{placed['order_id']}"
    assert answer.headers["ETag"] == '"1"'
    assert re.fullmatch(r"orders=\d+", answer.headers["Position"])


def test_an_order_is_there_to_read_at_its_position(staff: httpx.Client, sku: str) -> None:
    placed = staff.post("/v1/orders", json=order_of(sku, 2))
    answer = staff.get(placed.headers["Location"], headers={"Min-Position": placed.headers["Position"]})
    assert answer.status_code == 200
    order = answer.json()
    assert order["lines"] == [
        {
            "sku": sku,
            "name": f"Product {sku}",
            "category": "things",
            "quantity": 2,
            "unit_price_cents": 1_000,
            "freight_cents": 0,
        }
    ]
    assert (order["customer_id"], order["total_cents"], order["workflow"]) == ("customer-1", 2_000, "orchestrated")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", order["placed_at"])


def test_a_settled_order_shows_its_payment_and_its_shipment(staff: httpx.Client, shop: Shop, sku: str) -> None:
    order = shop.settled(shop.place(sku)["order_id"])
    assert order["status"] == "shipped"
    assert order["captured_cents"] == 1_000
    assert order["payment"]["status"] == "captured"
    assert order["shipment"]["status"] == "picked_up"
    assert order["placed_at"] <= order["reserved_at"] <= order["paid_at"] <= order["shipped_at"]
    for part in ("payment", "shipment"):
        assert staff.get(f"/v1/{part}s/{order['order_id']}").json() == order[part]


def test_the_client_may_name_its_order(staff: httpx.Client, sku: str) -> None:
    order_id = unique("order")
    answer = staff.post("/v1/orders", json=order_of(sku, order_id=order_id))
    assert answer.json()["order_id"] == order_id


# -- once, whatever is repeated -------------------------------------------------------------------------------------


def test_the_same_key_and_body_give_the_first_answer_again(staff: httpx.Client, sku: str) -> None:
    key = {"Idempotency-Key": unique("key")}
    answers = [staff.post("/v1/orders", json=order_of(sku), headers=key) for _ in range(3)]
    for answer in answers:
        assert answer.status_code == 201
        assert answer.json() == answers[0].json()
        for header in ("Location", "ETag", "Position"):
            assert answer.headers[header] == answers[0].headers[header]


def test_the_first_answer_stays_when_the_order_has_moved_on_and_the_price_too(staff: httpx.Client, shop: Shop) -> None:
    sku = shop.product(units=5, price_cents=700)
    key = {"Idempotency-Key": unique("key")}
    first = staff.post("/v1/orders", json=order_of(sku), headers=key)
    shop.settled(first.json()["order_id"])
    dearer = {"name": "Dearer", "category": "things", "price_cents": 900, "currency": "EUR"}
    assert staff.put(f"/v1/products/{sku}", json=dearer).status_code == 200
    shop.caught_up()
    again = staff.post("/v1/orders", json=order_of(sku), headers=key)
    assert (again.status_code, again.json()) == (201, first.json())


def test_the_first_answer_stays_when_the_product_is_sold_in_another_currency_since(
    staff: httpx.Client, shop: Shop
) -> None:
    sku = shop.product(units=5)
    key = {"Idempotency-Key": unique("key")}
    first = staff.post("/v1/orders", json=order_of(sku), headers=key)
    product = {"name": "Abroad", "category": "things", "price_cents": 900, "currency": "USD"}
    position = staff.put(f"/v1/products/{sku}", json=product).headers["Position"]
    assert staff.get(f"/v1/products/{sku}", headers={"Min-Position": position}).json()["currency"] == "USD"
    again = staff.post("/v1/orders", json=order_of(sku), headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    problem(staff.post("/v1/orders", json=order_of(sku)), 422, "currency_differs", "/lines/0/sku")


def test_the_same_key_with_another_body_is_refused(staff: httpx.Client, sku: str) -> None:
    key = {"Idempotency-Key": unique("key")}
    assert staff.post("/v1/orders", json=order_of(sku, 1), headers=key).status_code == 201
    problem(staff.post("/v1/orders", json=order_of(sku, 2), headers=key), 422, "id_reused")


def test_a_key_is_its_owners_own(staff: httpx.Client, admin: httpx.Client, sku: str) -> None:
    key = {"Idempotency-Key": unique("key")}
    mine = staff.post("/v1/orders", json=order_of(sku, 1), headers=key)
    theirs = admin.post("/v1/orders", json=order_of(sku, 2), headers=key)
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json()["order_id"] != theirs.json()["order_id"]


async def test_two_at_once_under_one_key_make_one_order(system: System, shop: Shop, sku: str) -> None:
    customer_id, key = unique("customer"), {"Idempotency-Key": unique("key")}
    body = order_of(sku, customer_id=customer_id)
    async with httpx.AsyncClient(**system.options("staff", "staff-1")) as http:
        answers = await asyncio.gather(*(http.post("/v1/orders", json=body, headers=key) for _ in range(16)))
    made = [answer for answer in answers if answer.status_code == 201]
    assert made
    assert len({answer.json()["order_id"] for answer in made}) == 1
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409, "still_running")
            assert answer.headers["Retry-After"] == "1"
    headers = {"Min-Position": made[0].headers["Position"]}
    listed = shop.http.get("/v1/orders", params={"customer_id": customer_id}, headers=headers)
    assert len(listed.json()["items"]) == 1


def test_the_same_order_again_without_a_key_is_the_first_answer(staff: httpx.Client, sku: str) -> None:
    body = order_of(sku, order_id=unique("order"))
    first, again = (staff.post("/v1/orders", json=body) for _ in range(2))
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Position"] == first.headers["Position"]


def test_another_order_under_a_known_id_is_refused(
    staff: httpx.Client, admin: httpx.Client, customer: httpx.Client, customer_id: str, sku: str
) -> None:
    body = order_of(sku, 1, order_id=unique("order"), customer_id=customer_id)
    assert staff.post("/v1/orders", json=body).status_code == 201
    problem(staff.post("/v1/orders", json={**body, "currency": "EUR", "payment_token": "x"}), 409, "order_exists")
    problem(staff.post("/v1/orders", json=body, headers={"Idempotency-Key": unique("key")}), 409, "order_exists")
    problem(admin.post("/v1/orders", json=body), 409, "order_exists")
    problem(customer.post("/v1/orders", json=body), 409, "order_exists")


# -- reading at a position and by version ---------------------------------------------------------------------------


def test_a_position_that_never_comes_is_503_in_the_time_that_the_client_gives(staff: httpx.Client, sku: str) -> None:
    headers = {"Min-Position": "orders=999999999", "Prefer": "wait=0.2"}
    for path in ("/v1/orders", f"/v1/orders/{unique('order')}", "/v1/reports/sales?by=month"):
        answer = staff.get(path, headers=headers)
        problem(answer, 503, "position_not_reached")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.elapsed.total_seconds() < 10


def test_a_stale_answer_is_given_to_who_takes_one_and_says_so(staff: httpx.Client, shop: Shop, sku: str) -> None:
    order_id = shop.place(sku)["order_id"]
    shop.settled(order_id)
    headers = {"Min-Position": "orders=999999999", "Prefer": "wait=0.1, handling=stale"}
    answer = staff.get(f"/v1/orders/{order_id}", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Warning"] == '110 - "Response is Stale"'
    assert answer.json()["order_id"] == order_id


def test_the_stock_page_waits_for_what_an_order_reserves(shop: Shop, staff: httpx.Client) -> None:
    """The order's position is of another log; where its reservation lies nobody knows when it is answered."""
    sku = shop.product(units=40)
    for number in range(1, 21):
        placed = staff.post("/v1/orders", json=order_of(sku, 2, **HELD))
        headers = {"Min-Position": placed.headers["Position"], "Prefer": "wait=30"}
        level = staff.get(f"/v1/stock/{sku}", headers=headers)
        assert (level.status_code, level.json()["reserved"]) == (200, 2 * number)


def test_what_an_order_reserves_may_not_come_in_time(shop: Shop, staff: httpx.Client) -> None:
    sku = shop.product(units=1)
    headers = {"Min-Position": "orders=999999999", "Prefer": "wait=0.1"}
    problem(staff.get(f"/v1/stock/{sku}", headers=headers), 503, "position_not_reached")
    stale = staff.get(f"/v1/stock/{sku}", headers={**headers, "Prefer": "wait=0.1, handling=stale"})
    assert (stale.status_code, stale.headers["Warning"]) == (200, '110 - "Response is Stale"')


def test_positions_that_lead_to_nothing_here_are_not_waited_for(staff: httpx.Client) -> None:
    answer = staff.get("/v1/orders", headers={"Min-Position": "catalogue=999999999, checkout=999999999"})
    assert (answer.status_code, "Warning" in answer.headers) == (200, False)


@pytest.mark.parametrize(
    "position", ["orders", "orders=", "orders=x", "orders=-1", "=1", "nothing=1", "orders=1,,", "orders=1;x=2"]
)
def test_a_position_that_makes_no_sense_is_refused(staff: httpx.Client, position: str) -> None:
    problem(staff.get("/v1/orders", headers={"Min-Position": position}), 422, "malformed", "header:Min-Position")


def test_an_order_that_the_client_has_already_is_304(staff: httpx.Client, shop: Shop, sku: str) -> None:
    order = shop.settled(shop.place(sku)["order_id"])
    shop.caught_up()
    path = f"/v1/orders/{order['order_id']}"
    seen = staff.get(path)
    assert re.fullmatch(r'"\d+\.\d+\.\d+"', seen.headers["ETag"])
    same = staff.get(path, headers={"If-None-Match": seen.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["ETag"] == seen.headers["ETag"]
    assert staff.get(path, headers={"If-None-Match": '"1.0", "2.0"'}).status_code == 200
    payment = f"/v1/payments/{order['order_id']}"
    tag = staff.get(payment).headers["ETag"]
    assert staff.get(payment, headers={"If-None-Match": tag}).status_code == 304


# -- lists ----------------------------------------------------------------------------------------------------------


def test_walking_all_pages_shows_each_order_once(staff: httpx.Client, shop: Shop, sku: str) -> None:
    customer_id = unique("customer")
    placed = {shop.place(sku, customer_id=customer_id)["order_id"] for _ in range(7)}
    for order_id in placed:
        shop.settled(order_id)
    shop.caught_up()
    for query in ({"customer_id": customer_id}, {"customer_id": customer_id, "status": "shipped"}):
        found: list[str] = []
        url: str | None = str(staff.build_request("GET", "/v1/orders", params={**query, "limit": "3"}).url)
        while url:
            page = staff.get(url)
            assert page.status_code == 200
            assert len(page.json()["items"]) <= 3
            found += [order["order_id"] for order in page.json()["items"]]
            url = page.links.get("next", {}).get("url")
        assert found == sorted(placed)


def test_summaries_by_status_and_customer(staff: httpx.Client, shop: Shop, sku: str) -> None:
    customer_id = unique("customer")
    paid = shop.settled(shop.place(sku, customer_id=customer_id)["order_id"])
    declined = shop.place(sku, customer_id=customer_id, payment_token="tok_declined")["order_id"]
    shop.settled(declined)
    shop.caught_up()

    def of(**query: str) -> list[str]:
        page = staff.get("/v1/orders", params={"customer_id": customer_id, **query}).json()
        return [order["order_id"] for order in page["items"]]

    assert sorted(of()) == sorted([paid["order_id"], declined])
    assert of(status="shipped") == [paid["order_id"]]
    assert of(status="cancelled") == [declined]
    assert of(status="delivered") == []
    (summary,) = staff.get("/v1/orders", params={"customer_id": customer_id, "status": "shipped"}).json()["items"]
    assert summary == {
        "order_id": paid["order_id"],
        "customer_id": customer_id,
        "status": "shipped",
        "currency": "EUR",
        "units": 1,
        "total_cents": 1_000,
        "version": paid["version"],
        "placed_at": paid["placed_at"],
        "changed_at": paid["shipped_at"],
    }


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "query:limit"),
        ("limit=201", "query:limit"),
        ("limit=x", "query:limit"),
        ("cursor=***", "query:cursor"),
        ("cursor=YS5i", "query:cursor"),
        ("cursor=" + "a" * 200, "query:cursor"),
        ("status=lost", "query:status"),
        ("customer_id=a.b", "query:customer_id"),
        ("customer_id=" + "a" * 65, "query:customer_id"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(staff: httpx.Client, query: str, field: str) -> None:
    problem(staff.get(f"/v1/orders?{query}"), 422, "malformed", field)


# -- cancelling -----------------------------------------------------------------------------------------------------


def test_a_shipped_order_cannot_be_cancelled(staff: httpx.Client, shop: Shop, sku: str) -> None:
    order_id = shop.settled(shop.place(sku)["order_id"])["order_id"]
    answer = staff.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "too late"})
    problem(answer, 409, "order_already_shipped")


def test_a_cancelled_order_keeps_its_first_reason(staff: httpx.Client, shop: Shop, sku: str) -> None:
    order_id = shop.place(sku, **HELD)["order_id"]
    path = f"/v1/orders/{order_id}/cancellation"
    first = staff.post(path, json={"reason": "changed my mind"})
    assert first.status_code == 200
    assert (first.json()["status"], first.json()["reason"]) == ("cancelled", "changed my mind")
    assert first.headers["Position"].startswith("orders=")
    again = staff.post(path, json={"reason": "another one"})
    assert again.status_code == 200
    assert again.json()["reason"] == "changed my mind"
    order = shop.settled(order_id)
    assert (order["status"], order["reason"]) == ("cancelled", "changed my mind")
    assert order["cancelled_at"]


def test_a_cancellation_under_one_key_takes_effect_once(staff: httpx.Client, shop: Shop, sku: str) -> None:
    path = f"/v1/orders/{shop.place(sku, **HELD)['order_id']}/cancellation"
    key = {"Idempotency-Key": unique("key")}
    first, again = (staff.post(path, json={"reason": "r"}, headers=key) for _ in range(2))
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    problem(staff.post(path, json={"reason": "other"}, headers=key), 422, "id_reused")


def test_a_cancellation_of_another_version_than_if_match_says_is_refused(
    staff: httpx.Client, shop: Shop, sku: str
) -> None:
    order_id = shop.held(sku)["order_id"]
    path = f"/v1/orders/{order_id}/cancellation"
    problem(staff.post(path, json={"reason": "r"}, headers={"If-Match": '"1"'}), 412, "version_conflict")
    for nonsense in ("nonsense", '"x"', '"' + "9" * 40 + '"', ""):
        answer = staff.post(path, json={"reason": "r"}, headers={"If-Match": nonsense})
        problem(answer, 412, "version_conflict", "header:If-Match")
    shop.caught_up()
    seen = staff.get(f"/v1/orders/{order_id}").headers["ETag"]
    assert staff.post(path, json={"reason": "r"}, headers={"If-Match": seen}).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, ""), ({"reason": ""}, "/reason"), ({"reason": "x" * 501}, "/reason"), ({"reason": 1}, "/reason")],
)
def test_a_cancellation_needs_a_reason(staff: httpx.Client, body: object, field: str) -> None:
    problem(staff.post("/v1/orders/o/cancellation", json=body), 422, "malformed", field)


def test_an_order_that_nobody_placed_is_unknown(staff: httpx.Client) -> None:
    problem(staff.get("/v1/orders/nothing"), 404, "order_unknown")
    problem(staff.get("/v1/payments/nothing"), 404, "payment_unknown")
    problem(staff.post("/v1/orders/nothing/cancellation", json={"reason": "r"}), 404, "order_unknown")


# -- whose order it is ----------------------------------------------------------------------------------------------


def test_customers_place_see_and_cancel_their_own(
    customer: httpx.Client, customer_id: str, shop: Shop, sku: str
) -> None:
    placed = customer.post("/v1/orders", json=order_of(sku, customer_id=customer_id, **HELD))
    assert placed.status_code == 201
    path = placed.headers["Location"]
    # A moment later, without waiting for the read model: it is the customer's own, and there.
    cancelled = customer.post(f"{path}/cancellation", json={"reason": "r"})
    assert cancelled.status_code == 200
    headers = {"Min-Position": cancelled.headers["Position"]}
    assert customer.get(path, headers=headers).json()["status"] == "cancelled"
    (listed,) = customer.get("/v1/orders", headers=headers).json()["items"]
    assert listed["order_id"] == placed.json()["order_id"]
    paid = shop.settled(customer.post("/v1/orders", json=order_of(sku, customer_id=customer_id)).json()["order_id"])
    assert customer.get(f"/v1/payments/{paid['order_id']}").json()["captured_cents"] == 1_000


def test_customers_do_not_know_of_others_orders(customer: httpx.Client, shop: Shop, sku: str) -> None:
    order_id = shop.place(sku)["order_id"]
    shop.settled(order_id)
    shop.caught_up()
    problem(customer.get(f"/v1/orders/{order_id}"), 404, "order_unknown")
    problem(customer.get(f"/v1/payments/{order_id}"), 404, "payment_unknown")
    problem(customer.get(f"/v1/shipments/{order_id}"), 404, "shipment_unknown")
    problem(customer.post(f"/v1/orders/{order_id}/cancellation", json={"reason": "r"}), 404, "order_unknown")
    assert customer.get("/v1/orders").json()["items"] == []
    problem(customer.get("/v1/orders", params={"customer_id": "customer-1"}), 403, "forbidden")
    problem(customer.post("/v1/orders", json=order_of(sku)), 403, "forbidden")
    assert shop.order(order_id)["status"] == "shipped"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/orders"),
        ("GET", "/v1/orders"),
        ("GET", "/v1/orders/x"),
        ("POST", "/v1/orders/x/cancellation"),
        ("GET", "/v1/payments/x"),
        ("GET", "/v1/shipments/x"),
        ("POST", "/v1/shipments/x/delivery"),
    ],
)
def test_without_a_token_there_is_nothing(nobody: httpx.Client, method: str, path: str) -> None:
    answer = nobody.request(method, path, json={})
    problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
