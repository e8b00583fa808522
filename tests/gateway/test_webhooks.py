"""Webhooks: only what the provider signed a moment ago is heard, and hearing it twice changes nothing."""

from __future__ import annotations

import time

import httpx
import msgspec
import pytest

from gateway.effects.webhooks import SIGNATURE, WINDOW_S, WebhookRefused, sign, verify
from gateway.settings import webhook_secret
from tests.gateway.asserts import problem
from tests.system import HELD, Json, Shop, System, unique

NOW = 1_795_000_000
BODY = b'{"amount_cents":100}'
PATH = "/v1/webhooks/payments"


def test_what_was_signed_is_taken_within_the_window() -> None:
    for at in (NOW, NOW - WINDOW_S, NOW + WINDOW_S):
        verify("secret", sign("secret", BODY, at), BODY, NOW)


@pytest.mark.parametrize("at", [NOW - WINDOW_S - 1, NOW + WINDOW_S + 1])
def test_what_is_old_or_of_the_future_is_not(at: int) -> None:
    with pytest.raises(WebhookRefused, match="before or after"):
        verify("secret", sign("secret", BODY, at), BODY, NOW)


@pytest.mark.parametrize(
    ("secret", "signature", "body"),
    [
        ("another", sign("secret", BODY, NOW), BODY),
        ("secret", sign("secret", BODY, NOW), BODY + b" "),
        ("secret", sign("secret", BODY, NOW).replace(str(NOW), str(NOW + 1)), BODY),
        ("secret", "", BODY),
        ("secret", f"t={NOW},v1=", BODY),
        ("secret", f"t=²,v1={'0' * 64}", BODY),
        ("secret", f"{sign('secret', BODY, NOW)}\n", BODY),
    ],
    ids=["secret", "body", "time", "none", "empty", "digits", "newline"],
)
def test_what_is_not_signed_so_is_refused(secret: str, signature: str, body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        verify(secret, signature, body, NOW)


# -- the route ---------------------------------------------------------------------------------------------------------


def message(order_id: str, status: str = "captured", cents: int = 1_000, kind: str = "charge") -> bytes:
    operation = {"id": f"ch_{order_id}", "status": status, "amount_cents": cents}
    return msgspec.json.encode({"id": unique("m"), "key": f"{kind}-{order_id}", "operation": operation})


def send(system: System, nobody: httpx.Client, body: bytes, at: int | None = None) -> httpx.Response:
    signature = sign(webhook_secret(system.settings), body, int(time.time()) if at is None else at)
    return nobody.post(PATH, content=body, headers={SIGNATURE: signature})


def test_nobody_else_tells_that_an_order_is_paid(system: System, nobody: httpx.Client, shop: Shop) -> None:
    order_id = shop.place(shop.product(units=1), payment_token="tok_declined")["order_id"]
    body = message(order_id)
    forged = nobody.post(PATH, content=body, headers={SIGNATURE: sign("guess", body, int(time.time()))})
    problem(forged, 403, "signature_invalid", f"header:{SIGNATURE}")
    problem(nobody.post(PATH, content=body), 403, "signature_invalid", f"header:{SIGNATURE}")
    problem(send(system, nobody, body, int(time.time()) - WINDOW_S - 60), 403, "signature_invalid")
    assert shop.settled(order_id)["payment"]["status"] == "declined"


def test_what_is_heard_again_changes_nothing(system: System, nobody: httpx.Client, shop: Shop) -> None:
    order_id = shop.place(shop.product(units=1), payment_token="tok_async")["order_id"]
    shop.settled(order_id)
    before = system.inside.heads()["payments"]
    again = msgspec.json.encode(
        {
            "id": unique("m"),
            "key": f"charge-{order_id}",
            "operation": {"id": f"ch_charge-{order_id}", "status": "captured", "amount_cents": 1_000},
        }
    )
    for _ in range(2):
        assert send(system, nobody, again).status_code == 204
    assert system.inside.heads()["payments"] == before
    problem(send(system, nobody, message(order_id, cents=999)), 409, "charge_differs")
    problem(send(system, nobody, message(order_id, "declined")), 409, "payment_captured")


def test_what_makes_no_sense_is_told(system: System, nobody: httpx.Client) -> None:
    problem(send(system, nobody, b"{"), 400, "not_json")
    problem(send(system, nobody, b"{}"), 422, "malformed")
    problem(send(system, nobody, message("o1", "refunded")), 422, "malformed", "/operation")
    problem(send(system, nobody, message("o1", "pending")), 422, "malformed", "/operation")
    problem(send(system, nobody, message(unique("order"))), 404, "payment_unknown")
    problem(send(system, nobody, message("o.1")), 422, "malformed")


# -- the provider that sends them --------------------------------------------------------------------------------------


def commits(system: System, order_id: str) -> list[tuple[str, str]]:
    """Who had what written about a payment."""
    found = (commit for commit in system.inside.commits("payments") if commit.aggregate == order_id)
    return [(commit.actor, event["type"]) for commit in found for event in commit.events]


def test_an_answer_that_comes_later_settles_the_order(system: System, shop: Shop) -> None:
    sku = shop.product(units=2)
    order_id = shop.place(sku, payment_token="tok_async")["order_id"]
    assert shop.settled(order_id)["status"] == "shipped"
    assert commits(system, order_id)[1:] == [("payment-provider", "PaymentCaptured")]


def in_mode(system: System, **mode: float) -> Json:
    answer = httpx.put(f"{system.running.provider_url}/mode", json=mode, timeout=10.0)
    answer.raise_for_status()
    found: Json = answer.json()
    return found


def test_charges_and_refunds_may_all_be_told_of_later_and_twice(system: System, shop: Shop) -> None:
    before = system.ledger()
    assert in_mode(system, asynchronous_share=1.0, webhook_copies=2)["webhook_copies"] == 2
    try:
        sku = shop.product(units=2)
        paid, declined = (
            shop.place(sku, payment_token=token, **HELD)["order_id"] for token in ("tok_ok", "tok_stolen")
        )
        assert (shop.settled(paid)["status"], shop.settled(declined)["status"]) == ("paid", "cancelled")
        assert shop.http.post(f"/v1/orders/{paid}/cancellation", json={"reason": "no more"}).status_code == 200
        assert shop.settled(paid)["status"] == "cancelled"
    finally:
        in_mode(system)
    (refunded,) = (each for each in system.inside.commits("payments") if each.aggregate == paid and each.version == 4)
    assert [event["type"] for event in refunded.events] == ["PaymentRefunded"]
    (code,) = (
        event["code"]
        for each in system.inside.commits("payments")
        for event in each.events
        if each.aggregate == declined and event["type"] == "PaymentDeclined"
    )
    assert code == "stolen_card"
    after = system.ledger()
    assert [after[name] - before[name] for name in ("charges", "refunds", "declined")] == [1, 1, 1]


def test_the_mode_is_for_everybody_until_it_is_changed(system: System, shop: Shop) -> None:
    """A provider that fails, or loses its answers, takes the money once nevertheless."""
    captured = system.ledger()["captured_cents"]
    sku = shop.product(units=2)
    try:
        in_mode(system, failure_share=1.0)
        first = shop.place(sku)["order_id"]
        failing = httpx.post(
            f"{system.running.provider_url}/charges",
            json={"amount_cents": 1, "currency": "EUR", "token": "tok_ok"},
            headers={"Idempotency-Key": unique("key")},
        )
        assert failing.status_code == 503
        in_mode(system, lost_answer_share=1.0, latency_ms=1)
        second = shop.place(sku)["order_id"]
        for order_id in (first, second):
            assert shop.settled(order_id)["status"] == "shipped"
    finally:
        in_mode(system)
    assert system.ledger()["captured_cents"] == captured + 2_000
    assert httpx.put(f"{system.running.provider_url}/mode", json={"failure_share": 2}).status_code == 400
