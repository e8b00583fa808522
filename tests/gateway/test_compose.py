"""What exists, and how many partitions its logs may have."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

from bus.servers.broker import EmbeddedBroker
from bus.servers.connection import close, connect
from domains.processes.messages import CheckoutStep
from gateway import compose
from gateway.settings import Settings, SettingsError


def test_a_process_names_every_domain_that_its_commands_go_to() -> None:
    (process,) = compose.PROCESSES
    owners = compose.owners()
    assert {owners[command] for command in get_args(CheckoutStep)} == set(process.sends_to)


def test_services_that_reach_out_are_named() -> None:
    services = {each.log for each in compose.effects()} | {each.service for each in compose.jobs()}
    assert services == set(compose.REACHING_OUT)


def test_deadlines_are_of_domains_and_so_told_by_their_own_commands() -> None:
    assert set(compose.timings()) == {"checkout", "orders"}
    assert set(compose.timings()) <= {domain.name for domain in compose.DOMAINS} & compose.reacting()


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"nobody": 2}, "has 'nobody', wanted some of catalogue, inventory, orders"),
        ({"inventory": 2}, "inventory=2, but inventory has 1 partition: its commands are about several aggregates"),
        ({"customers": 2}, "customers=2, but customers has 1 partition, as its outbox has"),
    ],
)
async def test_partitions_that_cannot_be_are_refused(
    own_broker: EmbeddedBroker, wanted: dict[str, int], told: str
) -> None:
    client = await connect(own_broker.url, "test")
    with pytest.raises(SettingsError, match=told):
        await compose.open_logs(client, Settings(partitions=wanted))
    await close(client)


async def test_a_log_keeps_the_partitions_that_it_was_made_with(
    own_broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect(own_broker.url, "test")
    await compose.open_logs(client, Settings(partitions={"orders": 4, "inventory": 1}))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        logs = await compose.open_logs(client, Settings(partitions={"orders": 8}))
    assert [record.getMessage() for record in caplog.records] == [
        "TALLY_PARTITIONS has orders=8: the log orders keeps the 4 it was made with"
    ]
    assert {name: log.partitions for name, log in logs.items() if log.partitions > 1} == {"orders": 4}
    assert compose.sender(client, logs).partitions_of("orders") == 4
    await close(client)
