"""One customer: registered, changed, perhaps erased. State-stored: a decision gives the state to keep, too."""

from __future__ import annotations

from typing import Final, assert_never

from msgspec import Struct

from domains.customers.messages import (
    Address,
    CustomerChanged,
    CustomerCommand,
    CustomerErased,
    CustomerEvent,
    CustomerRegistered,
    Detail,
    EraseCustomer,
    SaveCustomer,
)
from domains.kernel import Rejected, StateStored

DETAILS: Final[tuple[Detail, ...]] = ("name", "email", "phone", "address")


class Unregistered(Struct, frozen=True, tag=True): ...


class Registered(Struct, frozen=True, tag=True):
    name: str
    email: str
    phone: str | None = None
    address: Address | None = None


class Erased(Struct, frozen=True, tag=True): ...


Customer = Unregistered | Registered | Erased


def decide(customer: Customer, command: CustomerCommand) -> tuple[Customer, list[CustomerEvent]]:
    match command, customer:
        case SaveCustomer(customer_id), Unregistered():
            return _saved(command), [CustomerRegistered(customer_id)]
        case SaveCustomer(customer_id), Registered():
            saved = _saved(command)
            changed = tuple(detail for detail in DETAILS if getattr(saved, detail) != getattr(customer, detail))
            return saved, [CustomerChanged(customer_id, changed)] if changed else []
        case SaveCustomer(), _:
            raise Rejected("customer_erased", f"customer {command.customer_id} was erased: a new one needs a new id")
        case EraseCustomer(customer_id), Registered():
            return Erased(), [CustomerErased(customer_id)]
        case EraseCustomer(), Erased():
            return customer, []
        case EraseCustomer(), _:
            raise Rejected("customer_unknown", f"there is no customer {command.customer_id}")
        case _:
            assert_never(command)


def _saved(command: SaveCustomer) -> Registered:
    return Registered(command.name, command.email, command.phone, command.address)


customers: StateStored[Customer, CustomerCommand, CustomerEvent] = StateStored(
    name="customers",
    commands=(SaveCustomer, EraseCustomer),
    events=(CustomerRegistered, CustomerChanged, CustomerErased),
    states=(Unregistered, Registered, Erased),
    target=lambda command: command.customer_id,
    initial=Unregistered(),
    decide=decide,
    erased=(Erased,),
)
