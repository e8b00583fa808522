"""Scenarios: what customers saw is counted as they saw it, and the verdict follows from the figures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest

from bench.report import Report, Result, result
from bench.rounds import BenchmarkFailed, Round
from bench.scenarios import noisy_neighbour, retry_storm
from bench.scenarios.callee import Behaviour, behave
from bench.scenarios.naive_shop import DATABASE, PROVIDER
from bench.scenarios.offered import PATIENCE_S, Kind, Seen, between, offer, requests
from bench.scenarios.payment_timeout import FIXED, NAIVE, ORDERS, UNRELATED, judged
from bench.scenarios.served import served
from bench.scenarios.timelines import draw_timelines, timeline
from tests.bench.test_report import MACHINE
from tests.system import order_of

SVG = "{http://www.w3.org/2000/svg}"
SEEN = [
    Seen("a", 0.0, 0.1, succeeded=True),
    Seen("a", 0.5, 0.6, succeeded=True),
    Seen("a", 0.9, PATIENCE_S, succeeded=False),
    Seen("b", 0.2, 0.1, succeeded=True),
]
FIGURES = {"naive_charged_without_an_answer": 61.0, "fixed_orders": 480.0, "settled_after_s": 9.2}


def test_an_answer_counts_when_it_comes_and_a_failure_as_long_as_a_customer_waits() -> None:
    assert between(SEEN, "a", 0.0, 1.0) == Round(1.0, [0.1, 0.6, PATIENCE_S], 1)
    assert between(SEEN, "a", 1.0, 2.0) == Round(1.0, [], 1)


async def test_calls_begin_at_their_moments_and_what_fails_is_seen_too() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params["number"])
        if number == 1:
            raise httpx.ConnectError("")
        return httpx.Response(200 if number != 2 else 503)

    def make(number: int) -> httpx.Request:
        return httpx.Request("GET", "http://nowhere/", params={"number": number})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        seen = await offer([Kind("a", 50.0, requests(http, make)), Kind("b", 100.0, requests(http, make))], 0.1)
    assert sorted(each.began_s for each in seen if each.kind == "a") == [0.0, 0.02, 0.04, 0.06, 0.08]
    assert sum(each.kind == "b" for each in seen) == 10
    failed = {(each.kind, each.began_s) for each in seen if not each.succeeded}
    assert failed == {("a", 0.02), ("a", 0.04), ("b", 0.01), ("b", 0.02)}
    assert {each.took_s for each in seen if not each.succeeded} == {PATIENCE_S}


def _measured(naive_slow: float, fixed_slow: float, fixed_p99_s: float, fixed_healthy: float = 60) -> Report:
    def phase(way: str, kind: str, name: str, per_s: float, took_s: float) -> Result:
        return result(f"{way}_{kind}_{name}", [Round(10.0, [took_s] * 100, round(per_s * 10))])

    results = [
        phase(way, kind, name, per_s, took_s)
        for kind in (UNRELATED, ORDERS)
        for way, name, per_s, took_s in (
            (NAIVE, "healthy", 60, 0.01),
            (NAIVE, "slow", naive_slow, 10),
            (FIXED, "healthy", fixed_healthy, 0.01),
            (FIXED, "slow", fixed_slow, fixed_p99_s),
        )
    ]
    return judged(Report("payment-timeout", MACHINE, results, figures=FIGURES))


def test_the_verdict_follows_from_the_figures() -> None:
    report = _measured(naive_slow=12, fixed_slow=59.4, fixed_p99_s=0.015)
    assert report.holds
    assert report.ratios["naive_unrelated_throughput"] == 0.2
    assert report.ratios["fixed_unrelated_p99"] == 1.5
    without, with_it, money = report.verdict
    assert "collapse: 20% of their throughput (12/s of 60/s)" in without
    assert "go on: 99% of their throughput" in with_it
    assert "61 cards" in money


def test_a_fix_that_does_not_help_is_said() -> None:
    for report in (_measured(12, 50, 0.015), _measured(12, 60, 0.021), _measured(40, 60, 0.01)):
        assert not report.holds
    assert "suffer" in _measured(12, 50, 0.015).verdict[1]
    assert "suffer" in _measured(40, 60, 0.01).verdict[0]


def test_a_shop_that_was_never_well_proves_nothing() -> None:
    with pytest.raises(BenchmarkFailed, match="40 of 60 calls a second"):
        _measured(12, 40, 0.015, fixed_healthy=40)


def test_every_way_is_drawn_in_every_panel() -> None:
    lines = [timeline(way, kind, SEEN, 2) for way in ("one", "other") for kind in ("a", "b")]
    assert lines[0].per_s == [1, 1]
    assert lines[0].p99_ms == [PATIENCE_S * 1_000, 0]
    drawn = ElementTree.fromstring(draw_timelines("Trouble", {"a": "Some", "b": "Others"}, lines, (0, 1), MACHINE))
    assert [each.get("data-way") for each in drawn.iter(f"{SVG}polyline")] == ["0", "1"] * 4
    said = {text.text for text in drawn.iter(f"{SVG}text")}
    assert {"Trouble", "Some: answers a second", "Others: p99, ms", "one", "other"} <= said


async def test_the_naive_shop_charges_within_the_request(tmp_path: Path) -> None:
    variables = {"TALLY_DATA_DIR": str(tmp_path / "provider")}
    async with served("gateway.cli.main", tmp_path, variables, "provider", "--port") as provider:
        variables = {DATABASE: str(tmp_path / "shop.db"), PROVIDER: provider}
        async with served("bench.scenarios.naive_shop", tmp_path, variables) as shop, httpx.AsyncClient() as http:
            assert (await http.put(f"{provider}/mode", json={"latency_ms": 1})).is_success
            placed = await http.post(f"{shop}/v1/orders", json=order_of("mug", 2))
            assert (placed.status_code, placed.json()["status"], placed.json()["total_cents"]) == (201, "paid", 2_500)
            assert (await http.get(f"{provider}/ledger")).json()["captured_cents"] == 2_500
            assert (await http.get(f"{shop}/v1/products/mug")).json()["price_cents"] == 1_250
            assert (await http.get(f"{shop}/v1/products/nothing")).status_code == 404


def _answered(second: int, calls: int) -> list[Seen]:
    return [Seen(retry_storm.CALLS, second, 0.1, succeeded=True)] * calls


def test_it_has_recovered_when_from_then_on_nearly_all_is_answered() -> None:
    trouble, whole = retry_storm.ILL_UNTIL, round(retry_storm.CALLS_PER_S)
    again = [*_answered(trouble, whole), *_answered(trouble + 1, 3), *_answered(trouble + 2, whole)]
    assert retry_storm.recovered_after_s(again, trouble + 3) == 2
    assert retry_storm.recovered_after_s(again, trouble + 2) == -1
    assert retry_storm.recovered_after_s(again, trouble + 1) == 0


def _stormed(budget_last: int, healthy: int = 25) -> Report:
    def phase(way: str, kind: str, name: str, per_s: int) -> Result:
        return result(f"{way}_{kind}_{name}", [Round(1.0, [0.1] * per_s, per_s)])

    last = {"no_budget": 0, "budget": budget_last}
    results = [
        phase(way, kind, name, per_s)
        for way in last
        for kind in (retry_storm.CALLS, retry_storm.TRIES)
        for name, per_s in (("healthy", healthy), ("last", last[way] or 1))
    ]
    figures = {"recovered_after_s_no_budget": -1.0, "recovered_after_s_budget": 3.0}
    return retry_storm.judged(Report("retry-storm", MACHINE, results, figures=figures))


def test_a_storm_is_judged_by_what_is_answered_at_last() -> None:
    report = _stormed(25)
    assert report.holds
    without, with_it = report.verdict
    assert "does not end: at last 4% of calls are answered" in without
    assert "is over 3 s after it ended: at last 100%" in with_it
    assert not _stormed(20).holds
    with pytest.raises(BenchmarkFailed, match="20 of 25 calls a second"):
        _stormed(25, healthy=20)


def _neighbours(slow_per_s: float, slow_p99_s: float, healthy_per_s: float = 40) -> Report:
    def phase(way: str, name: str, per_s: float, took_s: float) -> Result:
        return result(f"{way}_{noisy_neighbour.OTHER}_{name}", [Round(10.0, [took_s] * 100, round(per_s * 10))])

    results = [
        phase("no_bulkhead", "healthy", 40, 0.02),
        phase("no_bulkhead", "slow", 10, 9),
        phase("bulkhead", "healthy", healthy_per_s, 0.02),
        phase("bulkhead", "slow", slow_per_s, slow_p99_s),
    ]
    return noisy_neighbour.judged(Report("noisy-neighbour", MACHINE, results))


def test_neighbours_are_judged_by_what_becomes_of_the_other() -> None:
    report = _neighbours(40, 0.03)
    assert report.holds
    without, with_it = report.verdict
    assert "keep 25% of their throughput, with a p99 of 9,000 ms instead of 20 ms" in without
    assert "keep 100% of their throughput" in with_it
    assert not _neighbours(35, 0.03).holds
    assert not _neighbours(40, 0.05).holds
    with pytest.raises(BenchmarkFailed, match="30 of 40 calls a second"):
        _neighbours(30, 0.02, healthy_per_s=30)


async def test_a_callee_serves_in_order_as_it_is_told(tmp_path: Path) -> None:
    async with served("bench.scenarios.callee", tmp_path, {}) as url, httpx.AsyncClient(base_url=url) as http:
        for behaviour in (Behaviour(0.01, at_once=1), Behaviour(0.0)):
            await behave(http, behaviour)
            answers = await asyncio.gather(*(http.get("/") for _ in range(5)))
            assert [answer.status_code for answer in answers] == [200] * 5
