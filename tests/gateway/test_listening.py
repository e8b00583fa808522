"""Where the gateway listens: on an address of IPv4 or IPv6. And limits, as they are set for a whole system."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from gateway.runtime.running import reachable
from tests.gateway.asserts import problem
from tests.system import Shop, running_system, tally


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


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_a_system_listens_on_ipv6_and_holds_its_limits(tmp_path: Path) -> None:
    limits = {"TALLY_RATE_LIMITS": "customer=3/3600", "TALLY_ROUTE_LIMITS": "GET /v1/orders=50,*=500"}
    shared = {"TALLY_GATEWAYS": "2", "TALLY_RATE_LIMITS_SHARED": "1"}
    with running_system(tmp_path / "data", TALLY_HTTP_HOST="::1", **limits, **shared) as system:
        assert system.running.http_url.startswith("http://[::1]:")
        shop = Shop(system)
        assert shop.settled(shop.place(shop.product(units=1))["order_id"])["status"] == "shipped"
        answers = []
        for _ in range(12):  # A connection each, so that both gateways are asked.
            with httpx.Client(**system.options("customer", "anna")) as http:
                answers.append(http.get("/v1/orders"))
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 9
        assert answers[0].headers["RateLimit-Policy"] == '"customer";q=3;w=3600'
        problem(answers[3], 429, "rate_limited")
        shop.close()
