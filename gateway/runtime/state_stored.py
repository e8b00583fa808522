"""Hosts a state-stored service: its database, its relay, and the subjects on which it is asked and told.

The file binds it to this data folder. Of several workers there the one that has the database's lock serves, and each
other waits for it.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from bus.engines.endpoint import Endpoint
from bus.logs.log import Log
from bus.logs.witness import Witness, recall
from bus.outboxes.database import Database
from bus.outboxes.outbox import Relay
from bus.outboxes.state_stored import StateStoredService, answer_queries, state_subject
from bus.presence import Announcing, Owned
from bus.servers.connection import Client
from domains.kernel import StateStored
from gateway.settings import Settings

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")


async def run_state_stored(
    client: Client,
    hosted: StateStored[State, Command, Event],
    log: Log,
    settings: Settings,
    announcing: Announcing,
) -> None:
    """Until cancelled. Raises what makes it impossible to go on, such as a log that another database told of."""
    witness = Witness(settings.witness)
    database = Database(hosted, settings.data_dir / f"{hosted.name}.db")
    try:
        await database.open()
        relay = Relay(
            database,
            log,
            published=lambda first, last, sequence: service.published(first, last, sequence),
            durable=witness.of(log.name, 0, log.epoch),
            loss_accepted=not recall(settings.witness, log.name),
        )
        service = StateStoredService(database, relay.wake)
        await relay.open()
        endpoint = Endpoint(client, service, hosted.name, endpoints=announcing.micro.endpoints)
        running = [asyncio.create_task(service.run()), asyncio.create_task(relay.run())]
        try:
            await answer_queries(client, database, announcing.worker.id)
            await endpoint.start()
            announcing.serves[hosted.name] = lambda: Owned(hosted.name, 0, 0, True, service.waiting, relay.position)
            announcing.offer(hosted.name, state_subject(hosted.name, announcing.worker.id))
            await announcing.say()
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            announcing.serves.pop(hosted.name, None)
            announcing.withdraw(hosted.name)
            await endpoint.stop()  # No more frames, then the answers, then what gives them.
            await endpoint.drain()
            for task in running:
                task.cancel()
            await asyncio.wait(running)
        for task in running:
            if not task.cancelled():
                task.result()
    finally:
        await database.close()
        await witness.close()
