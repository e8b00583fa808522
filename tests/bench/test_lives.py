"""The history that replays are measured on: whole lives, the same again each time, as they lie between each other."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import msgspec
from nats.aio.client import Client

from bench.baselines.ordered_consumer import reading_all
from bench.building import OF_ORDERS, build
from bench.histories import in_blocks, one_a_message
from bench.lives import ORDER_ID, Lived, lives, orders_in
from bus.logs.blocks import Commit
from bus.logs.jetstream import JetStreamLog
from domains.orders.messages import OrderEvent, OrderPlaced
from domains.orders.order import Order, orders
from projections.order_summary import order_summary

N = 3_000


def commits_of(history: list[Lived]) -> list[Commit[OrderEvent]]:
    decode = msgspec.json.Decoder(Commit[OrderEvent]).decode
    return [decode(lived.commit) for lived in history]


def test_the_same_history_each_time_and_no_two_commits_alike() -> None:
    history = list(lives(N))
    assert history == list(lives(N))
    assert len({commit.id for commit in commits_of(history)}) == len(history) == N


def test_every_order_lives_by_the_rules_and_each_commit_names_the_one_before() -> None:
    history = list(lives(N))
    versions: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    states: dict[str, Order] = {}
    for number, (lived, commit) in enumerate(zip(history, commits_of(history), strict=True), start=1):
        name = commit.aggregate
        versions[name] += 1
        assert (commit.version, lived.before, lived.order_id) == (versions[name], numbers.get(name, 0), name)
        numbers[name] = number
        for event in commit.events:
            assert isinstance(event, OrderPlaced) == (commit.version == 1)
            states[name] = orders.evolve(states.get(name, orders.initial(name)), event)
    ends = Counter(type(state).__name__ for state in states.values())
    assert ends.keys() == {"Placed", "Reserved", "Paid", "Shipped", "Delivered", "Cancelled"}
    assert len(states) >= orders_in(N)
    assert all(ORDER_ID % number in states for number in range(orders_in(N)))


def test_orders_lie_between_each_other() -> None:
    history = list(islice(lives(N), N // 2, N))
    apart = [number - lived.before for number, lived in enumerate(history, start=N // 2 + 1) if lived.before]
    assert sum(distance > 100 for distance in apart) > len(apart) / 3


async def test_every_layout_holds_the_same_and_read_models_are_built_from_it(
    client: Client, unique: str, tmp_path: Path
) -> None:
    n = 700
    logs = [await JetStreamLog.open(client, f"{unique}{size}") for size in (500, 1)]
    for log, size in zip(logs, (500, 1), strict=True):
        await in_blocks(client, log, n, size)
    assert [await log.head() for log in logs] == [1 + 2, 1 + n]
    await one_a_message(client, unique, n)
    read = await (await reading_all(client, unique, f"{unique}.*", n))()
    assert read.n == n
    for log in logs:
        built = await build(log, OF_ORDERS, tmp_path / log.name)
        assert (built.events, built.sequence) == (n, await log.head())
        assert len(built.paths) == len(OF_ORDERS) > 1
        built.remove()
        assert not list((tmp_path / log.name).glob(f"{order_summary.name}*.db"))
