"""The notice about an order, and what the notifications do about orders."""

from __future__ import annotations

import hypothesis
import pytest

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
from domains.notifications.notice import notifications
from domains.notifications.policy import notifications_policy, react
from domains.orders.messages import EDITION, OrderPlaced, OrderShipped, Terms, Workflow
from tests.domains.lives import LIVES, lived
from tests.specification import Hosted, given

purchase = Purchase("c1", "EUR", 3_650)
note = NoteOrder("o1", purchase)
confirm = SendOrderConfirmation("o1")
attempt = AttemptNotice("o1")
record = RecordNoticeSent("o1", "<m@x>")
give_up = GiveUpNotice("o1", "customer_unknown")

noted = OrderNoted("o1", purchase)
requested = NoticeRequested("o1", purchase)
sent = NoticeSent("o1", "<m@x>")
failed = NoticeFailed("o1", "customer_unknown")

History = tuple[NotificationEvent, ...]
UNHEARD: History = ()
NOTED: History = (noted,)
REQUESTED: History = (noted, requested)
SENT: History = (noted, requested, sent)
FAILED: History = (noted, requested, failed)


def after(*histories: History) -> pytest.MarkDecorator:
    """In each of the states that these lead to."""
    return pytest.mark.parametrize(
        "history", histories, ids=lambda history: type(given(notifications, *history).state("o1")).__name__
    )


def test_an_order_is_noted() -> None:
    given(notifications).when(note).then(noted)


@after(NOTED, REQUESTED, SENT, FAILED)
def test_an_order_is_noted_once(history: History) -> None:
    given(notifications, *history).when(note).then()


def test_a_noted_order_is_confirmed_to_whom_it_was_noted_for() -> None:
    given(notifications, *NOTED).when(confirm).then(requested)


@after(UNHEARD, NOTED)
def test_who_asks_may_say_himself_what_the_order_is(history: History) -> None:
    other = Purchase("c2", "BRL", 1)
    given(notifications, *history).when(SendOrderConfirmation("o1", other)).then(NoticeRequested("o1", other))


def test_of_an_order_that_nobody_noted_nobody_is_told() -> None:
    given(notifications).when(confirm).then()


@after(REQUESTED, SENT, FAILED)
@pytest.mark.parametrize("command", [confirm, SendOrderConfirmation("o1", purchase)], ids=["noted", "said"])
def test_an_order_is_confirmed_once(history: History, command: SendOrderConfirmation) -> None:
    given(notifications, *history).when(command).then()


def test_what_is_requested_may_be_sent_or_given_up() -> None:
    given(notifications, *REQUESTED).when(attempt).then()
    given(notifications, *REQUESTED).when(record).then(sent)
    given(notifications, *REQUESTED).when(give_up).then(failed)


@after(SENT, FAILED)
def test_what_is_settled_is_not_sent_again(history: History) -> None:
    given(notifications, *history).when(attempt).then_rejected("notice_settled")
    given(notifications, *history).when(give_up).then()


def test_a_mail_that_went_out_is_recorded_once_and_whatever_was_given_up_meanwhile() -> None:
    given(notifications, *SENT).when(record).then()
    given(notifications, *FAILED).when(record).then(sent)


@after(UNHEARD, NOTED)
@pytest.mark.parametrize("command", [attempt, record, give_up], ids=["attempt", "record", "give-up"])
def test_nothing_is_sent_that_nobody_asked_for(history: History, command: NotificationCommand) -> None:
    given(notifications, *history).when(command).then_rejected("notice_unknown")


@hypothesis.settings(derandomize=True, max_examples=120, deadline=None)
@hypothesis.given(LIVES[notifications])
def test_there_is_one_request_an_order_and_nothing_is_told_without(commands: list[NotificationCommand]) -> None:
    asked: set[str] = set()
    told: set[str] = set()
    for _, events in lived(Hosted(notifications), commands):
        for event in events:
            match event:
                case NoticeRequested(order_id):
                    assert order_id not in asked
                    asked.add(order_id)
                case NoticeSent(order_id):
                    assert order_id in asked - told
                    told.add(order_id)
                case NoticeFailed(order_id):
                    assert order_id in asked - told
                case OrderNoted(order_id):
                    assert order_id not in asked


# -- the policy --------------------------------------------------------------------------------------------------------


def placed(workflow: Workflow, edition: int = EDITION) -> OrderPlaced:
    return OrderPlaced("o1", "c1", "EUR", (), 1, 3_000, 650, 3_650, "tok_ok", workflow, edition=edition)


def shipped(customer_id: str | None) -> OrderShipped:
    return OrderShipped("o1", (), Terms((), "EUR", 3_650, "tok_ok", "ship_ok", customer_id))


def told(*commands: NotificationCommand) -> int:
    """How many requests these come to, whatever else they do."""
    hosted = Hosted(notifications)
    events = [event for command in commands for event in hosted.handle(command)]
    assert all(event == requested for event in events if isinstance(event, NoticeRequested))
    return sum(isinstance(event, NoticeRequested) for event in events)


def test_an_order_that_nobody_conducts_is_confirmed_when_it_is_shipped() -> None:
    assert react(placed("choreographed")) == []
    assert react(shipped("c1")) == [SendOrderConfirmation("o1", purchase)]


def test_one_that_is_conducted_is_left_to_its_checkout() -> None:
    assert react(placed("orchestrated")) == []
    assert told(*react(OrderShipped("o1"))) == 0
    by_its_checkout = SendOrderConfirmation("o1", purchase)
    assert told(*react(OrderShipped("o1")), by_its_checkout, *react(OrderShipped("o1"))) == 1


@pytest.mark.parametrize("before", [(), (note,), (note, confirm)], ids=["unheard", "noted", "confirmed when paid"])
@pytest.mark.parametrize("checkout", [(), (SendOrderConfirmation("o1", purchase),)], ids=["second", "third"])
@pytest.mark.parametrize("order", [OrderShipped("o1"), shipped(None)], ids=["orchestrated", "choreographed"])
def test_an_order_that_is_under_way_while_this_changes_is_confirmed_once(
    before: tuple[NotificationCommand, ...], checkout: tuple[NotificationCommand, ...], order: OrderShipped
) -> None:
    """Whatever the code before had done about it, whichever definition its checkout began under, and if all of it is
    read again."""
    workflow: Workflow = "orchestrated" if order.terms is None else "choreographed"
    again = (*react(placed(workflow, edition=1)), *react(order))
    assert told(*before, *again, *checkout, *again) == 1


def test_nobody_is_told_of_a_record_of_the_past() -> None:
    for edition in (1, EDITION):
        assert told(*react(placed("recorded", edition)), *react(OrderShipped("o1"))) == 0


def test_notices_are_of_the_time_of_what_they_are_about() -> None:
    """By that the mail knows what comes too late, should this read years of orders."""
    assert notifications_policy.dated
