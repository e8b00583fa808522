"""How events are shown outside: under the names of their types, whichever version is today's."""

from __future__ import annotations

from domains.inventory.messages import ItemQuantity, ReserveStock
from domains.orders.messages import OrderLine, OrderPlaced, OrderReserved
from domains.processes.messages import CheckoutAdvanced
from gateway.views.events import shown

line = OrderLine("tea", "Tea", "drinks", 2, 100)
placed = OrderPlaced("o1", "c1", "EUR", (line,), 2, 200, 0, 200, "tok_ok", "orchestrated")


def test_an_event_goes_by_its_name_and_not_by_its_version() -> None:
    assert shown(OrderReserved("o1")) == {"type": "OrderReserved", "order_id": "o1"}
    found = shown(placed)
    assert isinstance(found, dict)
    assert (found["type"], found["units"]) == ("OrderPlaced", 2)
    assert found["lines"] == [
        {
            "sku": "tea",
            "name": "Tea",
            "category": "drinks",
            "quantity": 2,
            "unit_price_cents": 100,
            "freight_cents": 0,
        }
    ]


def test_what_is_in_an_event_does_as_well() -> None:
    assert shown(CheckoutAdvanced("o1", placed, (ReserveStock("o1", (ItemQuantity("tea", 2),)),))) == {
        "type": "CheckoutAdvanced",
        "order_id": "o1",
        "input": shown(placed),
        "steps": [{"type": "ReserveStock", "order_id": "o1", "items": [{"sku": "tea", "quantity": 2}]}],
    }


def test_what_says_nothing_is_left_out() -> None:
    advanced = shown(CheckoutAdvanced("o1", placed, (), definition=2))
    assert isinstance(advanced, dict)
    assert list(advanced) == ["type", "order_id", "input", "steps", "definition"]
