"""Customers: what is kept of them, and what is told."""

from __future__ import annotations

import pytest

from domains.customers.customer import Customer, Erased, Registered, Unregistered, decide
from domains.customers.messages import (
    Address,
    CustomerChanged,
    CustomerErased,
    CustomerEvent,
    CustomerRegistered,
    EraseCustomer,
    SaveCustomer,
)
from domains.kernel import Rejected

HOME = Address("Rua Augusta 1", "01305-000", "São Paulo", "BR")
ADA = Registered("Ada", "ada@example.org")


@pytest.mark.parametrize(
    ("before", "command", "after", "told"),
    [
        (Unregistered(), SaveCustomer("c", "Ada", "ada@example.org"), ADA, [CustomerRegistered("c")]),
        (ADA, SaveCustomer("c", "Ada", "ada@example.org"), ADA, []),
        (
            ADA,
            SaveCustomer("c", "Ada", "ada@example.com", "+1 555", HOME),
            Registered("Ada", "ada@example.com", "+1 555", HOME),
            [CustomerChanged("c", ("email", "phone", "address"))],
        ),
        (
            Registered("Ada", "ada@example.org", None, HOME),
            SaveCustomer("c", "Ada", "ada@example.org"),
            ADA,
            [CustomerChanged("c", ("address",))],
        ),
        (ADA, EraseCustomer("c"), Erased(), [CustomerErased("c")]),
        (Erased(), EraseCustomer("c"), Erased(), []),
    ],
)
def test_what_is_kept_and_what_is_told(
    before: Customer, command: SaveCustomer | EraseCustomer, after: Customer, told: list[CustomerEvent]
) -> None:
    assert decide(before, command) == (after, told)


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        (Erased(), SaveCustomer("c", "Ada", "ada@example.org"), "customer_erased"),
        (Unregistered(), EraseCustomer("c"), "customer_unknown"),
    ],
)
def test_what_is_refused(before: Customer, command: SaveCustomer | EraseCustomer, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        decide(before, command)
    assert refusal.value.code == code
    assert refusal.value.detail
