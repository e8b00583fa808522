"""The notice that confirms one order: requested once, whoever asks for it and however often, then sent or given up."""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from domains.kernel import Decider, Rejected, hosted
from domains.notifications.messages import (
    AttemptNotice,
    GiveUpNotice,
    NoteOrder,
    NoticeFailed,
    NoticeRequested,
    NoticeSent,
    NotificationCommand,
    NotificationEvent,
    OrderNoted,
    Purchase,
    RecordNoticeSent,
    SendOrderConfirmation,
)


class Unheard(Struct, frozen=True, tag=True): ...


class Noted(Struct, frozen=True, tag=True):
    purchase: Purchase


class Requested(Struct, frozen=True, tag=True): ...


class Sent(Struct, frozen=True, tag=True): ...


class Failed(Struct, frozen=True, tag=True): ...


Notice = Unheard | Noted | Requested | Sent | Failed


def decide(notice: Notice, command: NotificationCommand) -> list[NotificationEvent]:
    match command, notice:
        case NoteOrder(order_id, purchase), Unheard():
            return [OrderNoted(order_id, purchase)]
        case NoteOrder(), _:
            return []
        case SendOrderConfirmation(order_id, Purchase() as purchase), Unheard() | Noted():
            return [NoticeRequested(order_id, purchase)]
        case SendOrderConfirmation(order_id), Noted(purchase):
            return [NoticeRequested(order_id, purchase)]
        case SendOrderConfirmation(), _:
            return []
        case _, Unheard() | Noted():
            raise Rejected("notice_unknown", f"no notice about order {command.order_id} was requested")
        case AttemptNotice(), Requested():
            return []
        case AttemptNotice(order_id), _:
            raise Rejected("notice_settled", f"the notice about order {order_id} was sent or given up before")
        case RecordNoticeSent(order_id, message_id), Requested() | Failed():
            return [NoticeSent(order_id, message_id)]  # Given up by one, and sent by another at the same time.
        case GiveUpNotice(order_id, reason), Requested():
            return [NoticeFailed(order_id, reason)]
        case ((RecordNoticeSent() | GiveUpNotice()), _):
            return []
        case _:
            assert_never(command)


def evolve(notice: Notice, event: NotificationEvent) -> Notice:
    match event:
        case OrderNoted(purchase=purchase):
            return Noted(purchase)
        case NoticeRequested():
            return Requested()
        case NoticeSent():
            return Sent()
        case NoticeFailed():
            return Failed()
        case _:
            assert_never(event)


notice: Decider[Notice, NotificationCommand, NotificationEvent] = Decider("notifications", Unheard(), decide, evolve)

notifications = hosted(
    notice,
    commands=(NoteOrder, SendOrderConfirmation, AttemptNotice, RecordNoticeSent, GiveUpNotice),
    events=(OrderNoted, NoticeRequested, NoticeSent, NoticeFailed),
    states=(Unheard, Noted, Requested, Sent, Failed),
    target=lambda command: command.order_id,
    owner=lambda event: event.order_id,
)
