"""Whatever orders do, and however often it is told: a policy's commands are taken, and have their effect once."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from domains.billing.invoice import billing
from domains.billing.policy import billing_policy
from domains.kernel import Domain, Policy
from domains.loyalty.points import loyalty
from domains.loyalty.policy import loyalty_policy
from domains.notifications.notice import notifications
from domains.notifications.policy import notifications_policy
from domains.orders.messages import OrderEvent
from domains.orders.order import orders
from domains.payments.payment import payments
from domains.payments.policy import payments_policy
from domains.reviews.policy import reviews_policy
from domains.reviews.review import reviews
from domains.shipping.policy import shipping_policy
from domains.shipping.shipment import shipping
from tests.domains.lives import LIVES, lived
from tests.specification import Hosted

COMMANDED: dict[str, tuple[Policy[Any], Domain[Any, Any, Any]]] = {
    "payments": (payments_policy, payments),
    "shipping": (shipping_policy, shipping),
    "billing": (billing_policy, billing),
    "reviews": (reviews_policy, reviews),
    "loyalty": (loyalty_policy, loyalty),
    "notifications": (notifications_policy, notifications),
}
"""Each policy that observes orders, and whom it commands."""

CRASHES_MAX = 3

of_every_policy = pytest.mark.parametrize("name", COMMANDED)


@of_every_policy
@hypothesis.settings(derandomize=True, max_examples=120, deadline=None)
@hypothesis.given(commands=LIVES[orders], data=st.data())
def test_telling_events_again_changes_nothing_and_no_command_is_refused(
    name: str, commands: list[Any], data: st.DataObject
) -> None:
    """Without the engines' memory of ids: the decider alone withstands a reader that begins again anywhere."""
    policy, domain = COMMANDED[name]
    told = [event for _, events in lived(Hosted(orders), commands) for event in events if _matters(policy, event)]
    once = Hosted(domain)
    for event in told:
        for command in policy.react(event):
            once.handle(command)
    again = Hosted(domain)
    crashes = data.draw(st.lists(st.integers(0, len(told)), max_size=CRASHES_MAX).map(sorted))
    for until in (*crashes, len(told)):  # Each time from the beginning.
        for event in told[:until]:
            for command in policy.react(event):
                again.handle(command)
    assert again.states == once.states


@of_every_policy
def test_a_policy_observes_what_it_reacts_to(name: str) -> None:
    policy, _ = COMMANDED[name]
    assert set(policy.observes) == {"orders"}
    assert set(policy.observes["orders"]) <= set(orders.events)


def _matters(policy: Policy[Any], event: OrderEvent) -> bool:
    return type(event) in policy.observes["orders"]
