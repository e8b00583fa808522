"""The composition root: what exists, in explicit lists. A new service is one line in each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from msgspec import Struct

from bus.calls.mesh import Mesh
from bus.calls.policy import BreakerPolicy, CallPolicy
from bus.commands import command_subject
from bus.logs.blocks import BlockDecoder, decoder_of
from bus.logs.jetstream import JetStreamLog
from bus.logs.witness import recall
from bus.presence import Present
from bus.reactors.observers import AnyDomain, AnyPolicy, Process
from bus.sender import Sender
from bus.servers.connection import Client
from domains.billing.invoice import billing
from domains.billing.policy import billing_policy
from domains.catalogue.product import catalogue
from domains.customers.customer import customers
from domains.inventory.messages import StockRefused, StockReserved
from domains.inventory.policy import inventory_policy
from domains.inventory.stock import inventory
from domains.kernel import Asleep, StateStored, Timing, Wake
from domains.loyalty.points import loyalty
from domains.loyalty.policy import loyalty_policy
from domains.notifications.notice import notifications
from domains.notifications.policy import notifications_policy
from domains.orders.messages import OrderCancelled, OrderPlaced, OrderShipped
from domains.orders.order import orders
from domains.orders.policy import orders_policy
from domains.payments.messages import PaymentCaptured, PaymentDeclined
from domains.payments.payment import payments
from domains.payments.policy import payments_policy
from domains.processes.checkout import checkout
from domains.processes.messages import CheckoutAdvanced, CheckoutEvent, DeadlinePassed, Observe
from domains.reviews.policy import reviews_policy
from domains.reviews.review import reviews
from domains.shipping.messages import ShipmentCancelled, ShipmentDelivered, ShipmentPickedUp, ShipmentRefused
from domains.shipping.policy import shipping_policy
from domains.shipping.shipment import shipping
from gateway.settings import Settings, SettingsError
from projections import bought_together as bought_together_views
from projections import customers as customer_views
from projections import invoices, notices, order_detail, order_summary, processes, products, sales, shipments, stock
from projections import loyalty as loyalty_views
from projections import payments as payment_views
from projections import reviews as review_views
from projections.aggregate_state import aggregate_state
from projections.commit_index import commit_index
from projections.projection import Projection

if TYPE_CHECKING:
    from litestar.types import ControllerRouterHandler

    from gateway.effects.effects import Effects, Jobs

AnyStateStored = StateStored[object, object, object]

log = logging.getLogger(__name__)

DOMAINS: tuple[AnyDomain, ...] = (  # type: ignore[assignment]  # Each is typed in itself; here they are only hosted.
    catalogue,
    inventory,
    orders,
    payments,
    shipping,
    checkout,
    billing,
    reviews,
    loyalty,
    notifications,
)

POLICIES: tuple[AnyPolicy, ...] = (  # type: ignore[assignment]  # As above.
    orders_policy,
    inventory_policy,
    payments_policy,
    shipping_policy,
    billing_policy,
    reviews_policy,
    loyalty_policy,
    notifications_policy,
)

STATE_STORED: tuple[AnyStateStored, ...] = (customers,)  # type: ignore[assignment]  # As above.

LOGS: tuple[AnyDomain | AnyStateStored, ...] = (*DOMAINS, *STATE_STORED)
"""Whatever has a log."""

SERVICES: tuple[str, ...] = tuple(each.name for each in LOGS)
"""Whatever may run alone."""

REACHING_OUT = ("payments", "shipping", "notifications", "inventory")
"""The services of `effects()` and `jobs()`, by name: who asks whether they are there needs no client of the outside."""

PROJECTIONS: tuple[Projection, ...] = (
    products.products,
    stock.stock,
    order_summary.order_summary,
    order_detail.order_detail,
    payment_views.payments,
    shipments.shipments,
    sales.sales,
    processes.processes,
    invoices.invoices,
    review_views.reviews,
    loyalty_views.loyalty,
    notices.notices,
    bought_together_views.bought_together,
    customer_views.customer_status,
    *(commit_index(each.name) for each in LOGS),
    *(aggregate_state(domain) for domain in DOMAINS),
)


DESTINATIONS: dict[str, CallPolicy] = {
    "provider": CallPolicy(timeout_s=10.0, try_timeout_s=10.0),  # A charge that is cut short is still made.
    "carrier": CallPolicy(timeout_s=10.0, try_timeout_s=10.0),  # And so is a pickup.
    "customers": CallPolicy(
        timeout_s=2.0, try_timeout_s=1.0, retries=2, concurrency=256, breaker=BreakerPolicy(open_s=2.0)
    ),
}
"""Whoever is called, and how, where the policy file says nothing else."""


def mesh(settings: Settings) -> Mesh:
    """The call paths of this process. Raises `MeshInvalid`."""
    return Mesh(settings.mesh_file, DESTINATIONS)


def routes() -> Sequence[ControllerRouterHandler]:
    """Every route. Imported when asked for: workers serve no HTTP and start without the web framework."""
    from gateway.routes import (
        commands,
        customers,
        health,
        invoices,
        loyalty,
        notices,
        order_changes,
        order_lists,
        orders,
        parked,
        payments,
        processes,
        products,
        projections,
        recommendations,
        reports,
        reservations,
        reviews,
        services,
        shipments,
        stock,
        webhooks,
    )

    return [
        *products.routes,
        *stock.routes,
        *reservations.routes,
        *customers.routes,
        *orders.routes,
        *order_changes.routes,
        *order_lists.routes,
        *payments.routes,
        *webhooks.routes,
        *shipments.routes,
        *invoices.routes,
        *reviews.routes,
        *loyalty.routes,
        *notices.routes,
        *recommendations.routes,
        *reports.routes,
        *projections.routes,
        *parked.routes,
        *services.routes,
        *processes.routes,
        *commands.routes,
        *health.routes,
        *_graphql_routes(),
    ]


def effects() -> Sequence[Effects]:
    """Whatever touches the outside world. Imported when asked for: engines start without its clients."""
    from gateway.effects.alerts import alert_effects
    from gateway.effects.mail import notice_effects
    from gateway.effects.payments import payment_effects
    from gateway.effects.shipping import shipping_effects

    return [payment_effects, shipping_effects, notice_effects, alert_effects]


def jobs() -> Sequence[Jobs]:
    """Who does the jobs of each work queue. Imported when asked for, too."""
    from gateway.effects.alerts import alert_jobs
    from gateway.effects.payments import payment_jobs

    return [payment_jobs, alert_jobs]


def _graphql_routes() -> Sequence[ControllerRouterHandler]:
    """Where the extra `graphql` is installed."""
    if find_spec("strawberry") is None:
        return []
    from gateway.routes import graphql

    return graphql.routes


def serves_grpc(settings: Settings) -> bool:
    """Whether gRPC is to be served. Raises `SettingsError` where it is, and the extra `grpc` is not installed."""
    if settings.grpc_port and any(find_spec(each) is None for each in ("grpc", "grpc_health", "grpc_reflection")):
        wanted = "pip install 'tallystream[grpc]', or leave it out"
        raise SettingsError(f"TALLY_GRPC_PORT is set, and the extra grpc is not installed: {wanted}")
    return settings.grpc_port != 0


def _observe_checkout(event: object) -> tuple[str, Struct]:
    assert isinstance(event, CheckoutEvent)
    return event.order_id, Observe(event.order_id, event)


def _checkout_steps(event: object) -> tuple[Struct, ...]:
    assert isinstance(event, CheckoutAdvanced)
    return event.steps


def _checkout_timing(event: object) -> Wake | Asleep | None:
    assert isinstance(event, CheckoutAdvanced)
    if event.alarm is not None:
        return Wake(event.alarm.after_s, DeadlinePassed(event.order_id, event.alarm.step, event.alarm.attempt))
    return Asleep() if event.over else None


PROCESSES: tuple[Process, ...] = (
    Process(
        domain=checkout,  # type: ignore[arg-type]  # As above.
        observes={
            "orders": (OrderPlaced, OrderShipped, OrderCancelled),
            "inventory": (StockReserved, StockRefused),
            "payments": (PaymentCaptured, PaymentDeclined),
            "shipping": (ShipmentPickedUp, ShipmentRefused, ShipmentCancelled, ShipmentDelivered),
        },
        wrap=_observe_checkout,
        steps=_checkout_steps,
        sends_to=("inventory", "orders", "payments", "shipping", "notifications"),
        timing=_checkout_timing,
    ),
)


def timings() -> dict[str, Timing]:
    """What the events of a log say about deadlines, of each that has some."""
    of_policies = {policy.name: policy.timing for policy in POLICIES if policy.timing is not None}
    return of_policies | {process.domain.name: process.timing for process in PROCESSES}


def reacting() -> set[str]:
    """The services that do something about events, or do jobs."""
    inside = {process.domain.name for process in PROCESSES} | {policy.name for policy in POLICIES}
    return inside | set(REACHING_OUT)


def reads(service: str) -> list[str]:
    """The logs that a service reads: its own, and those that it observes or sends commands to."""
    found = {service}
    for policy in POLICIES:
        found |= set(policy.observes) if policy.name == service else set()
    for process in PROCESSES:
        found |= {*process.observes, *process.sends_to} if process.domain.name == service else set()
    return [name for name in SERVICES if name in found]


def decoders() -> dict[str, BlockDecoder[object]]:
    """A decoder of blocks for each log."""
    return {each.name: decoder_of(each) for each in LOGS}


def owners() -> dict[type, str]:
    """Which domain each command belongs to."""
    return {command: each.name for each in LOGS for command in each.commands}


def sender(client: Client, logs: Mapping[str, JetStreamLog], present: Present | None = None) -> Sender:
    """A sender that knows how many partitions these logs have, and who owns them, where it is told who is there."""
    return Sender(
        client,
        owners(),
        partitions={name: log.partitions for name, log in logs.items()},
        targets={each.name: each.targets for each in LOGS},
        address=present.address if present is not None else command_subject,
    )


async def open_logs(
    client: Client, settings: Settings, names: Sequence[str] = SERVICES, *, make: bool = True
) -> dict[str, JetStreamLog]:
    """Every log, or these; made where there was none yet, by whoever may `make` streams. One that exists keeps the
    partitions that it was made with.

    Raises `SettingsError` for partitions that cannot be, `LogDamaged` where a log is not what the witness remembers.
    """
    _check_partitions(settings.partitions)
    return {name: await open_log(client, settings, name, make=make) for name in names}


async def open_log(client: Client, settings: Settings, name: str, *, make: bool = True) -> JetStreamLog:
    """One of them. Raises `LogDamaged`."""
    wanted = settings.partitions.get(name, 1)
    opened = await JetStreamLog.open(
        client,
        name,
        partitions=wanted,
        replicas=settings.replicas,
        remembered=recall(settings.witness, name),
        make=make,
    )
    if name in settings.partitions and opened.partitions != wanted:
        made = f"the log {name} keeps the {opened.partitions} it was made with"
        log.warning("TALLY_PARTITIONS has %s=%d: %s", name, wanted, made)
    return opened


def _check_partitions(wanted: Mapping[str, int]) -> None:
    domains = {domain.name: domain for domain in DOMAINS}
    for name, number in wanted.items():
        if name not in {each.name for each in LOGS}:
            raise SettingsError(f"TALLY_PARTITIONS has {name!r}, wanted some of {', '.join(domains)}")
        if number > 1 and name not in domains:
            raise SettingsError(f"TALLY_PARTITIONS has {name}={number}, but {name} has 1 partition, as its outbox has")
        if number > 1 and not domains[name].single:
            reason = "its commands are about several aggregates, which have to lie together"
            raise SettingsError(f"TALLY_PARTITIONS has {name}={number}, but {name} has 1 partition: {reason}")
