"""A command whose outcome is unknown: 202 and where to ask, and what is said there, never more than is known."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from bus.commands import partition_of
from bus.logs.blocks import GENESIS, EncodedCommit, hash_of, seal
from bus.logs.log import Appended, MemoryLog
from bus.queues.command_queue import CommandQueue
from bus.servers.connection import Client
from gateway import compose
from gateway.http.outcomes import CLOCKS_DIFFER_S, Asked, Outcomes, asked_now, opened, sealed
from gateway.http.tokens import Tokens
from projections.history import History
from projections.projection import Projection, Recorded, recorded_of
from tests.gateway.asserts import problem
from tests.system import System, descendants, order_of, unique, until

DEADLINE_S = 1_000.0
TOKENS = Tokens("a secret that is long enough for any test")
ASKED = Asked("orders", int(DEADLINE_S * 1_000), "0" * 36, "a" * 32)
PLACED = b'[{"type":"OrderCancelled","order_id":"o1","reason":"none"}]'


class Shown(History):
    """An index that shows the log at once."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log

    async def of_command(self, log: str, command_id: str) -> list[Recorded]:
        found: list[Recorded] = []
        async for batch in self.log.read(0, await self.log.head()):
            for record in batch:
                block = compose.decoders()["orders"].decode(record.data)
                recorded = recorded_of(record.sequence, block.at, block.commits)
                found += [each for each in recorded if each.commit.id == command_id]
        return found


class Case:
    def __init__(self) -> None:
        self.log = MemoryLog("orders")
        self.tip = GENESIS
        self.now = DEADLINE_S
        self.index_is_up = True

        async def reached(model: Projection, sequence: int, wait_s: float) -> bool:
            return self.index_is_up

        self.outcomes = Outcomes(
            Shown(self.log),
            {"orders": self.log},
            compose.decoders(),
            reached,
            CommandQueue(Client()),
            now=lambda: self.now,
        )

    async def write(self, id: str, at_s: float, digest: str = "a" * 32, partition: int = 0) -> None:
        commit = EncodedCommit(id, "o1", 1, msgspec.Raw(PLACED), digest, "staff:s", "", "o1", "", None)
        at = datetime.fromtimestamp(at_s, UTC)
        data = seal(self.log.epoch, at, self.tip, [msgspec.json.encode(commit)])
        last = await self.log.last(partition)
        self.tip = hash_of(data)
        assert isinstance(await self.log.append(partition, data, self.tip, last.sequence if last else 0), Appended)

    async def status(self) -> str:
        return (await self.outcomes.of("id", ASKED)).status


async def test_what_is_in_the_log_is_done_and_says_where() -> None:
    case = Case()
    await case.write(ASKED.command_id, DEADLINE_S - 1)
    status = await case.outcomes.of("id", ASKED)
    assert (status.status, status.position, status.version) == ("done", "orders=2", 1)
    assert status.location == "/v1/orders/o1"


async def test_where_a_log_has_several_partitions_its_own_is_named() -> None:
    case, partition = Case(), partition_of("o1", 2)
    assert partition == 1
    await case.write(ASKED.command_id, DEADLINE_S - 1, partition=partition)
    assert (await case.outcomes.of("id", ASKED)).position == "orders.1=2"


async def test_nothing_is_rejected_while_a_late_block_may_come() -> None:
    case = Case()
    late = DEADLINE_S + CLOCKS_DIFFER_S
    assert await case.status() == "pending"  # The deadline has not passed.
    case.now = late + 100
    assert await case.status() == "pending"  # Nothing was ever written: what is on its way would be taken.
    await case.write("another", late)
    assert await case.status() == "pending"  # The block behind this one may hold it.
    await case.write("yet another", late + 1)
    case.index_is_up = False
    assert await case.status() == "pending"  # The index may not show it yet.
    case.index_is_up = True
    assert await case.status() == "rejected"


async def test_a_block_that_comes_late_is_found() -> None:
    case = Case()
    case.now = DEADLINE_S + 100
    await case.write("another", DEADLINE_S - 1)
    assert await case.status() == "pending"
    await case.write(ASKED.command_id, DEADLINE_S + CLOCKS_DIFFER_S + 1)
    assert await case.status() == "done"


async def test_a_key_that_was_used_for_something_else_is_rejected() -> None:
    case = Case()
    await case.write(ASKED.command_id, DEADLINE_S - 1, digest="b" * 32)
    status = await case.outcomes.of("id", ASKED)
    assert (status.status, status.problem and status.problem.code) == ("rejected", "id_reused")


async def test_a_command_whose_digest_stays_in_a_database_is_known_by_its_id() -> None:
    case = Case()
    await case.write(ASKED.command_id, DEADLINE_S - 1, digest="")
    assert await case.status() == "done"


def test_an_id_is_for_who_asked_and_nobody_else() -> None:
    asked = asked_now("orders", "0" * 36, "a" * 32)
    name = sealed(asked, TOKENS, "anna")
    assert opened(name, TOKENS, "anna") == asked
    assert opened(name, TOKENS, "berta") is None
    assert opened(name, Tokens("another secret, as long as the first one"), "anna") is None
    assert opened(name.replace("orders", "payments"), TOKENS, "anna") is None
    assert opened(f"{name}0", TOKENS, "anna") is None


@pytest.fixture
def frozen_engine(system: System) -> Any:
    assert system.process is not None
    pid = next(pid for pid, command in descendants(system.process.pid).items() if "--part commands" in command)
    os.kill(pid, signal.SIGSTOP)
    yield lambda: os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGCONT)


def test_an_order_whose_engine_falls_silent_is_202_and_done_once_it_was_repeated(
    system: System, shop: Any, staff: httpx.Client, admin: httpx.Client, request: pytest.FixtureRequest
) -> None:
    sku, key = shop.product(units=10), {"Idempotency-Key": unique("key")}
    go_on = request.getfixturevalue("frozen_engine")
    body = order_of(sku)
    answer = staff.post("/v1/orders", json=body, headers=key)
    go_on()
    assert answer.status_code == 202, answer.text
    where = answer.headers["Location"]
    assert (answer.json()["status"], where) == ("pending", f"/v1/commands/{answer.json()['id']}")
    assert int(answer.headers["Retry-After"]) >= 1
    assert staff.get(where).json()["status"] in ("pending", "done")
    problem(admin.get(where), 404, "command_unknown")
    problem(staff.get("/v1/commands/orders"), 404, "command_unknown")
    again = until(lambda: _placed(staff.post("/v1/orders", json=body, headers=key)), "the engine")
    status = until(lambda: _done(staff.get(where)), "the index")
    assert status.headers["Location"] == again.headers["Location"] == f"/v1/orders/{again.json()['order_id']}"
    assert status.headers["Position"] == again.headers["Position"]


def _placed(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.status_code == 201 else None


def _done(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.json()["status"] == "done" else None
