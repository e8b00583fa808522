"""`tally up`: where it listens, how it ends at any moment, and that it goes on where it stopped."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.runtime.running import reachable
from tests.gateway.asserts import problem
from tests.system import Shop, System, alive, descendants, order_of, tally, unique, until

STOP_S = 5.0
LIMITS = {
    "TALLY_RATE_LIMITS": "customer=3/3600",
    "TALLY_ROUTE_LIMITS": "GET /v1/orders=50,*=500",
    "TALLY_GATEWAYS": "2",
    "TALLY_RATE_LIMITS_SHARED": "1",
}


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_an_address_is_written_as_it_stands_in_a_url() -> None:
    assert [reachable(host) for host in ("0.0.0.0", "127.0.0.1", "::", "::1")] == [
        "127.0.0.1",
        "127.0.0.1",
        "[::1]",
        "[::1]",
    ]


def test_what_is_no_address_is_said(tmp_path: Path) -> None:
    refused = tally(tmp_path / "data", "up", TALLY_HTTP_HOST="nowhere")
    assert refused.returncode != 0
    assert "set TALLY_HTTP_HOST" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture
def own(tmp_path: Path) -> Iterator[System]:
    """A system of this test's own, not started yet."""
    own = System(tmp_path / "data")
    yield own
    if own.process is not None and own.process.poll() is None:
        own.stop()


def ends_cleanly(own: System, number: signal.Signals) -> None:
    """Within 5 s, with code 0, with nothing left running and nothing half-written."""
    assert own.process is not None
    below = descendants(own.process.pid)
    began = time.monotonic()
    code = own.stop(number)
    took_s = time.monotonic() - began
    assert code == 0, own.said
    assert took_s < STOP_S, own.said
    assert "Traceback" not in own.said
    assert not [command for pid, command in below.items() if alive(pid)]
    assert not (own.folder / "run.json").exists()


def test_it_stops_cleanly_and_goes_on_where_it_stopped(own: System) -> None:
    """With other settings: on an address of IPv6, where this machine has any, and two gateways that share limits."""
    own.start()
    shop = Shop(own)
    sku = shop.product(units=5)
    order = shop.settled(shop.place(sku)["order_id"])
    key = {"Idempotency-Key": unique("key")}
    first = shop.http.post("/v1/orders", json=order_of(sku), headers=key)
    address, token = own.running.http_url, own.token("admin", "tests")
    for words in (f"{address}/v1", f"{address}/docs", "Ctrl-C"):
        assert words in own.said
    printed = own.said.strip().splitlines()[-1]
    answer = httpx.get(f"{address}/v1/projections", headers={"Authorization": f"Bearer {printed}"})
    assert answer.status_code == 200
    shop.close()
    ends_cleanly(own, signal.SIGINT)
    for log in (own.folder / "log").iterdir():
        assert "CRITICAL" not in log.read_text(), log

    host, url = ("::1", "http://[::1]:") if _has_ipv6() else ("127.0.0.1", "http://127.0.0.1:")
    own.environment |= {"TALLY_HTTP_HOST": host, **LIMITS}
    own.start()
    assert own.running.http_url.startswith(url)
    shop = Shop(own)
    assert shop.order(order["order_id"]) == order
    again = shop.http.post("/v1/orders", json=order_of(sku), headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert shop.settled(first.json()["order_id"])["status"] == "shipped"
    assert shop.settled(shop.place(sku)["order_id"])["status"] == "shipped"
    own.quiet()
    assert shop.stock(sku) == (2, 0, 2)
    assert httpx.get(f"{own.running.http_url}/v1/orders", headers={"Authorization": f"Bearer {token}"}).is_success
    shop.close()
    answers = []
    for _ in range(12):  # A connection each, so that both gateways are asked.
        with httpx.Client(**own.options("customer", "anna")) as http:
            answers.append(http.get("/v1/orders"))
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 9
    assert answers[0].headers["RateLimit-Policy"] == '"customer";q=3;w=3600'
    problem(answers[3], 429, "rate_limited")
    ends_cleanly(own, signal.SIGTERM)


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, "run.json"), (signal.SIGTERM, "log/commands.log"), (signal.SIGTERM, "log/gateway.log")],
)
def test_it_stops_cleanly_while_it_starts(own: System, number: signal.Signals, moment: str) -> None:
    own.launch()
    until((own.folder / moment).exists, f"the moment of {moment}", every_s=0.002)
    ends_cleanly(own, number)


def test_nothing_outlives_a_killed_up(own: System) -> None:
    own.launch()
    assert own.process is not None
    up = own.process
    until((own.folder / "log" / "gateway.log").exists, "the children")
    below = until(lambda: descendants(up.pid), "the children")
    up.kill()
    up.wait()
    until(lambda: not [pid for pid in below if alive(pid)], "the children's end", patience_s=10.0)
