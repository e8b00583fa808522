"""The customers' public face: commands and events.

Events say whose data changed and which of it, never what it is: a log keeps everything for ever, and a person may ask
to be forgotten. Who needs the data asks the service for it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from domains.kernel import Id, Name

Email = Annotated[str, Meta(pattern=r"^[^@\s]{1,64}@[^@\s]{1,189}$(?!\n)", max_length=254)]
Phone = Annotated[str, Meta(pattern=r"^\+?[0-9 ()./-]{3,40}$(?!\n)")]
Country = Annotated[str, Meta(pattern=r"^[A-Z]{2}$(?!\n)")]
"""An ISO 3166-1 code."""


class Address(Struct, frozen=True, forbid_unknown_fields=True):
    street: Name
    postal_code: Annotated[str, Meta(min_length=1, max_length=20)]
    city: Name
    country: Country


class SaveCustomer(Struct, frozen=True, tag=True):
    """All that is to be known of a customer, new or not: what is left out is forgotten."""

    customer_id: Id
    name: Name
    email: Email
    phone: Phone | None = None
    address: Address | None = None


class EraseCustomer(Struct, frozen=True, tag=True):
    """Forget who the customer is, for good. The id stays taken, so that nobody else is taken for them."""

    customer_id: Id


Detail = Literal["name", "email", "phone", "address"]


class CustomerRegistered(Struct, frozen=True, tag=True):
    customer_id: str


class CustomerChanged(Struct, frozen=True, tag=True):
    customer_id: str
    changed: tuple[Detail, ...]


class CustomerErased(Struct, frozen=True, tag=True):
    customer_id: str


CustomerCommand = SaveCustomer | EraseCustomer
CustomerEvent = CustomerRegistered | CustomerChanged | CustomerErased
