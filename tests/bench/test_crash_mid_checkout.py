"""The scenario of a crash in the middle of a checkout: its gate holds a call where it is told to, and its verdict
follows from what was seen."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from msgspec.structs import replace

from bench.report import Report
from bench.scenarios.crash_mid_checkout import Books, Crash, judged
from bench.scenarios.gate import Gate, Moment
from tests.bench.test_report import MACHINE

CRASHES = [Crash("asked", 2, "shipped", 1.5), Crash("asked", 1, "shipped", 2.5), Crash("any", 3, "shipped", 0.5)]
BOOKS = Books(charges=3, captured_cents=6 * 1_250, on_hand=4, reserved=0)
NAIVE = {"naive_hit": 6.0, "naive_charges": 9.0, "naive_paid": 6.0, "naive_left": 6.0}


def test_all_is_well_when_each_settles_is_charged_once_and_no_unit_is_lost() -> None:
    report = _judged(CRASHES, BOOKS)
    assert report.holds
    assert [(each.name, each.n, each.p50_ms) for each in report.results] == [("asked", 2, 2_500), ("any", 1, 500)]
    without, with_it = report.verdict
    assert "9 charges for 6 paid orders; 6 orders wait for ever" in without
    assert "every order of 3 is shipped by itself 1.5 s after the kill (p50; at worst 2.5 s)" in with_it
    assert "each charged once, no stock lost" in with_it


@pytest.mark.parametrize(
    ("crashes", "books", "said"),
    [
        ([*CRASHES, Crash("any", 1, "reserved", 90.0)], BOOKS, "75% of orders"),
        (CRASHES, BOOKS._replace(charges=4), "1.333 charges each"),
        (CRASHES, BOOKS._replace(captured_cents=1), "0 charges each"),
        (CRASHES, BOOKS._replace(on_hand=3), "1 units of stock lost"),
        (CRASHES, BOOKS._replace(reserved=2), "2 units of stock lost"),
    ],
)
def test_whatever_is_wrong_is_said(crashes: list[Crash], books: Books, said: str) -> None:
    report = _judged(crashes, books)
    assert not report.holds
    assert said in report.verdict[1]


def test_a_naive_shop_that_loses_nothing_shows_nothing() -> None:
    report = Report("crash-mid-checkout", MACHINE, [], figures={**NAIVE, "naive_charges": 6.0})
    assert not judged(report, CRASHES, BOOKS, 10).holds


def _judged(crashes: list[Crash], books: Books) -> Report:
    return judged(replace(Report("crash-mid-checkout", MACHINE, []), figures=NAIVE), crashes, books, 10)


class Charges:
    """A service that counts, behind a gate."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.keys: list[str] = []
        self.gate = Gate(httpx.AsyncClient(transport=httpx.MockTransport(self._answer), base_url="http://service"))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.heard.append(request.content)
        self.keys.append(request.headers["Idempotency-Key"])
        return httpx.Response(503, headers={"Retry-After": "7"}, json={"heard": len(self.heard)})


@pytest.fixture
def charges() -> Charges:
    return Charges()


async def test_a_gate_lets_calls_pass_as_they_are(charges: Charges) -> None:
    async with charges.gate.opened() as url, httpx.AsyncClient(base_url=url) as http:
        for number in (1, 2):
            answer = await http.post("/charges", content=b"body", headers={"Idempotency-Key": f"k{number}"})
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
            assert answer.json() == {"heard": number}
    assert (charges.heard, charges.keys) == ([b"body", b"body"], ["k1", "k2"])


@pytest.mark.parametrize(("moment", "heard"), [("asked", 0), ("charged", 1), ("answered", 1)])
async def test_a_gate_holds_one_call_at_a_moment(charges: Charges, moment: Moment, heard: int) -> None:
    async with charges.gate.opened() as url, httpx.AsyncClient(base_url=url) as http:
        async with charges.gate.holding(moment) as reached:
            call = asyncio.create_task(http.post("/charges", headers={"Idempotency-Key": "k"}))
            async with asyncio.timeout(10):
                await reached.wait()
            assert len(charges.heard) == heard
        if moment == "answered":
            assert (await call).status_code == 503
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                await call
        assert (await http.post("/charges", headers={"Idempotency-Key": "k"})).status_code == 503
