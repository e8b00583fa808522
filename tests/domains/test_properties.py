"""What holds for every domain whatever commands come, and what never happens to stock and money."""

from __future__ import annotations

from collections import Counter
from typing import Union

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from domains.inventory.messages import (
    InventoryCommand,
    ItemDispatched,
    ItemReserved,
    ReserveStock,
    StockRanLow,
    StockReceived,
    StockRefused,
    StockReserved,
)
from domains.inventory.stock import Held, Shelf, Watched, inventory, reservation_of
from domains.kernel import Rejected
from domains.orders.messages import (
    PlaceOrder,
)
from domains.payments.messages import (
    PaymentCaptured,
    PaymentCommand,
    PaymentRefunded,
    PaymentRequested,
    RefundRequested,
)
from domains.payments.payment import payments
from domains.processes.messages import Compensate, DeadlinePassed, RetryStep, SkipStep
from tests.domains.lives import LIVES, STATES, AnyDomain, lived
from tests.domains.strategies import any_of
from tests.specification import Hosted

for_every_domain = pytest.mark.parametrize("domain", LIVES, ids=lambda domain: domain.name)
thoroughly = hypothesis.settings(derandomize=True, max_examples=120, deadline=None)
widely = hypothesis.settings(derandomize=True, max_examples=40, deadline=None)


def through_json(value: object, kinds: tuple[type, ...]) -> object:
    decoded: object = msgspec.json.decode(msgspec.json.encode(value), type=Union[kinds])  # noqa: UP007  # At run time.
    return decoded


# -- every domain ------------------------------------------------------------------------------------------------------


@for_every_domain
def test_random_commands_cause_every_event(domain: AnyDomain) -> None:
    """Without this the properties below might hold for nothing."""
    caused: set[type] = set()

    @thoroughly
    @hypothesis.given(LIVES[domain])
    def live(commands: list[object]) -> None:
        for _, events in lived(Hosted(domain), commands):
            caused.update(map(type, events))

    live()
    assert caused == set(domain.events)


SAID_ANEW = DeadlinePassed | RetryStep | SkipStep | Compensate
"""What is done each time that it is said; only its id makes a repeat harmless."""


@for_every_domain
@thoroughly
@hypothesis.given(st.data())
def test_a_repeated_command_changes_nothing(domain: AnyDomain, data: st.DataObject) -> None:
    hosted = Hosted(domain)
    for command, _ in lived(hosted, data.draw(LIVES[domain])):
        try:
            repeated = hosted.decide(command)
        except Rejected as refusal:
            if not isinstance(command, SAID_ANEW):  # Of what has come to its end by it, nothing is left to be done.
                assert (type(command), refusal.code) == (PlaceOrder, "order_exists")  # noqa: PT017  # `[]` is as good.
        else:
            assert repeated == [] or isinstance(command, SAID_ANEW)


@for_every_domain
@thoroughly
@hypothesis.given(st.data())
def test_a_command_touches_its_own_aggregate_and_no_other_than_it_targets(
    domain: AnyDomain, data: st.DataObject
) -> None:
    for command, events in lived(Hosted(domain), data.draw(LIVES[domain])):
        own, *others = domain.targets(command)
        touched = {domain.owner(event) for event in events}
        assert not events or own in touched
        assert touched <= {own, *others}


@for_every_domain
@thoroughly
@hypothesis.given(st.data())
def test_what_is_written_can_be_read_back(domain: AnyDomain, data: st.DataObject) -> None:
    for _, events in lived(Hosted(domain), data.draw(LIVES[domain])):
        for event in events:
            assert through_json(event, domain.events) == event


@for_every_domain
@widely
@hypothesis.given(st.data())
def test_every_message_and_state_survives_json(domain: AnyDomain, data: st.DataObject) -> None:
    for kinds in (domain.commands, domain.events, STATES[domain]):
        value = data.draw(any_of(*kinds))
        decoded = through_json(value, kinds)
        assert (type(decoded), decoded) == (type(value), value)
        assert msgspec.json.encode(decoded) == msgspec.json.encode(value)


@for_every_domain
@widely
@hypothesis.given(st.data())
def test_deciding_is_total(domain: AnyDomain, data: st.DataObject) -> None:
    """Any command in any state, also in those that cannot be reached: events or a refusal, and nothing else."""
    command = data.draw(any_of(*domain.commands))
    states = {aggregate: data.draw(any_of(*STATES[domain])) for aggregate in domain.targets(command)}
    try:
        events = domain.decide(states, command)
    except Rejected as refusal:
        assert refusal.code.replace("_", "").islower()  # noqa: PT017  # Events are as good.
    else:
        assert set(map(type, events)) <= set(domain.events)


@for_every_domain
@widely
@hypothesis.given(st.data())
def test_folding_is_total(domain: AnyDomain, data: st.DataObject) -> None:
    """Any event in any state, also in those that cannot be reached."""
    state, event = data.draw(any_of(*STATES[domain])), data.draw(any_of(*domain.events))
    assert isinstance(domain.evolve(state, event), STATES[domain])


# -- stock -------------------------------------------------------------------------------------------------------------


@thoroughly
@hypothesis.given(LIVES[inventory])
def test_stock_adds_up_and_never_goes_below_nothing(commands: list[InventoryCommand]) -> None:
    hosted = Hosted(inventory)
    received: Counter[str] = Counter()
    dispatched: Counter[str] = Counter()
    for _, events in lived(hosted, commands):
        for event in events:
            match event:
                case StockReceived(sku, _, quantity):
                    received[sku] += quantity
                case ItemDispatched(sku, _, quantity):
                    dispatched[sku] += quantity
                case _:
                    pass
        held: Counter[str] = Counter()
        for reservation in hosted.states.values():
            if isinstance(reservation, Held):
                held.update({item.sku: item.quantity for item in reservation.items})
        for sku, shelf in hosted.states.items():
            if isinstance(shelf, Shelf):
                assert 0 <= shelf.reserved <= shelf.on_hand
                assert shelf.on_hand + dispatched[sku] == received[sku]
                assert shelf.reserved == held.pop(sku, 0)
        assert not held


@thoroughly
@hypothesis.given(LIVES[inventory])
def test_all_items_of_an_order_are_reserved_or_none(commands: list[InventoryCommand]) -> None:
    hosted = Hosted(inventory)
    for command in commands:
        before = dict(hosted.states)
        for _, events in lived(hosted, [command]):
            if not isinstance(command, ReserveStock) or not events:
                continue
            order_id, items = command.order_id, command.items
            if isinstance(events[0], StockRefused):
                hosted.states.pop(reservation_of(order_id))
                assert hosted.states == before
                hosted.fold(events)
            else:
                assert events[0] == StockReserved(order_id, items)
                taken = [event for event in events[1:] if not isinstance(event, StockRanLow)]
                assert taken == [ItemReserved(item.sku, order_id, item.quantity) for item in items]


@thoroughly
@hypothesis.given(LIVES[inventory])
def test_a_shelf_is_told_of_exactly_when_it_runs_low(commands: list[InventoryCommand]) -> None:
    hosted = Hosted(inventory)
    low: set[str] = set()
    for command in commands:
        for _, events in lived(hosted, [command]):
            told = [event.sku for event in events if isinstance(event, StockRanLow)]
            are = {
                sku
                for sku, shelf in hosted.states.items()
                if isinstance(shelf, Watched) and shelf.available < shelf.low_at
            }
            assert sorted(told) == sorted(are - low)
            low = are


# -- money -------------------------------------------------------------------------------------------------------------


@thoroughly
@hypothesis.given(LIVES[payments])
def test_no_more_is_captured_than_asked_nor_refunded_than_captured(commands: list[PaymentCommand]) -> None:
    asked: Counter[str] = Counter()
    captured: Counter[str] = Counter()
    due: Counter[str] = Counter()
    refunded: Counter[str] = Counter()
    for _, events in lived(Hosted(payments), commands):
        for event in events:
            match event:
                case PaymentRequested():
                    asked[event.order_id] += event.amount_cents
                case PaymentCaptured():
                    captured[event.order_id] += event.amount_cents
                case RefundRequested():
                    due[event.order_id] += event.amount_cents
                case PaymentRefunded():
                    refunded[event.order_id] += event.amount_cents
                case _:
                    pass
        assert refunded <= due <= captured <= asked
