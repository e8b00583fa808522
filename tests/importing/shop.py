"""A shop without a server: the deciders take commands, and the read models' own code folds what they decide."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from bus.logs.blocks import Commit
from domains.customers.customer import Customer, customers
from domains.customers.messages import SaveCustomer
from gateway import compose
from gateway.importing.olist import Records
from gateway.importing.plan import Life, people, plan, reviews
from projections.batches import Batch, ReadBlock
from projections.files import ReadModelFiles
from projections.store import Store
from tests.specification import Hosted

WRITTEN_AT = datetime(2026, 11, 21, tzinfo=UTC)


class Shop:
    def __init__(self) -> None:
        self.domains = {domain.name: Hosted(domain) for domain in compose.DOMAINS}
        self.commits: dict[str, list[Commit[object]]] = {domain.name: [] for domain in compose.LOGS}
        self._owners = compose.owners()
        self._versions: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._customers: dict[str, Customer] = {}

    def live(self, life: Life) -> None:
        for step in life.steps:
            self.handle(step.command, step.id, step.occurred_at)

    def handle(self, command: Struct, id: str, occurred_at: datetime) -> list[object]:
        """Raises `Rejected`."""
        name = self._owners[type(command)]
        if isinstance(command, SaveCustomer):
            return self._save(command, id)
        hosted = self.domains[name]
        events = hosted.handle(command)
        for event in events:
            aggregate = hosted.domain.owner(event)
            self._versions[name, aggregate] += 1
            version = self._versions[name, aggregate]
            self.commits[name].append(Commit(id, aggregate, version, [event], occurred_at=occurred_at))
        for policy in compose.POLICIES:
            for number, event in enumerate(events):
                if type(event) in policy.observes.get(name, ()):
                    for follows in policy.react(event):
                        self.handle(follows, f"{policy.name}-{id}-{number}", occurred_at)
        return events

    def _save(self, command: SaveCustomer, id: str) -> list[object]:
        """What a state-stored service does."""
        known = self._customers.get(command.customer_id, customers.initial)
        self._customers[command.customer_id], events = customers.decide(known, command)
        self.commits["customers"] += [Commit(id, command.customer_id, 1, [event]) for event in events]
        return list(events)

    def imported(self, records: Records) -> Shop:
        for life in (*plan(records), *people(records), *reviews(records)):
            self.live(life)
        return self

    def states(self, domain: str) -> dict[str, object]:
        return self.domains[domain].states

    def write(self, folder: Path) -> ReadModelFiles:
        """Every read model, with all that happened."""
        files = ReadModelFiles(folder)
        for projection in compose.PROJECTIONS:
            path = files.next_build(projection)
            with Store.create(projection, path, "memory") as store:
                store.apply(Batch([ReadBlock(2, WRITTEN_AT, self.commits[projection.stream])], {}))
            files.switch(projection.name, path)
        return files


def lives(records: Records) -> dict[str, Life]:
    return {life.subject: life for life in plan(records)}


def commands(life: Life) -> list[str]:
    return [type(step.command).__name__ for step in life.steps]
