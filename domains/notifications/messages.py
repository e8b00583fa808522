"""The notifications' public face: commands and events.

They name the customer and never an address: that is asked of the customers service when a mail is sent, so that a
notice to somebody who was erased meanwhile reaches nobody.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from domains.kernel import Cents, Currency, Id

MessageId = Annotated[str, Meta(min_length=1, max_length=200)]


class Purchase(Struct, frozen=True):
    """What a confirmation is about: whose order it is, and what it comes to."""

    customer_id: Id
    currency: Currency
    total_cents: Cents


class NoteOrder(Struct, frozen=True, tag=True):
    """An order was placed: what its confirmation would say is known from now on."""

    order_id: Id
    purchase: Purchase


class SendOrderConfirmation(Struct, frozen=True, tag=True):
    """Tell the customer that the order is confirmed. Asynchronous: accepted is not yet sent.

    `purchase` may be left out where it was noted before. Where nobody noted it either, nobody is to be told: the order
    is a record of what happened elsewhere.
    """

    order_id: Id
    purchase: Purchase | None = None


class AttemptNotice(Struct, frozen=True, tag=True):
    """Asked by whoever is about to send it: refused once it is settled."""

    order_id: Id


class RecordNoticeSent(Struct, frozen=True, tag=True):
    """A mail server took it."""

    order_id: Id
    message_id: MessageId


class GiveUpNotice(Struct, frozen=True, tag=True):
    """It cannot be sent, for good."""

    order_id: Id
    reason: Id


class OrderNoted(Struct, frozen=True, tag=True):
    order_id: str
    purchase: Purchase


class NoticeRequested(Struct, frozen=True, tag=True):
    order_id: str
    purchase: Purchase


class NoticeSent(Struct, frozen=True, tag=True):
    order_id: str
    message_id: str


class NoticeFailed(Struct, frozen=True, tag=True):
    order_id: str
    reason: str


NotificationCommand = NoteOrder | SendOrderConfirmation | AttemptNotice | RecordNoticeSent | GiveUpNotice
NotificationEvent = OrderNoted | NoticeRequested | NoticeSent | NoticeFailed
