"""The policy file of a running system: what it says holds for the next call, and no service is touched."""

from __future__ import annotations

import re
from pathlib import Path

from tests.journeys.conftest import IMPATIENT
from tests.system import Shop, until

OUTAGE = IMPATIENT + "[destinations.provider.faults]\nabort_share = 1.0\n"


def counted(shop: Shop, metric: str) -> float:
    found = re.search(rf"^{re.escape(metric)} (\S+)$", shop.http.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_faults_are_put_in_and_taken_out_while_it_runs(shop: Shop) -> None:
    file = Path(shop.system.environment["TALLY_MESH_FILE"])
    refused = 'tally_calls_total{destination="provider",outcome="busy"}'
    sku = shop.product(units=1_000)
    before, charges = counted(shop, refused), shop.system.ledger()["charges"]
    orders: list[str] = []

    def a_call_is_given_up() -> bool:
        orders.append(shop.place(sku)["order_id"])  # The worker follows the file within a second.
        return counted(shop, refused) > before

    try:
        file.write_text(OUTAGE)
        until(a_call_is_given_up, "a call that is given up", every_s=0.2)
        assert counted(shop, 'tally_call_faults_total{destination="provider",kind="abort"}') > 0
        assert shop.order(orders[-1])["status"] in ("placed", "reserved")
    finally:
        file.write_text(IMPATIENT)
    assert {shop.settled(order_id)["status"] for order_id in orders} == {"shipped"}
    assert shop.system.ledger()["charges"] == charges + len(orders)
