"""How long do the pure parts of a write take: decoding a command, deciding, evolving, encoding and decoding a block?

No budget yet: the write engine's benchmarks bring ratios. `just bench` prints the table.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from msgspec.structs import asdict
from pytest_benchmark.fixture import BenchmarkFixture

from bus.commands import Envelope, decode_frame, digest_of, encode
from bus.logs.blocks import GENESIS, Commit, decoder_of, hash_of, seal
from domains.orders.messages import OrderLine, OrderPlaced, PlaceOrder
from domains.orders.order import orders
from domains.orders.upcasters import OrderPlacedV1

COMMITS = 1_000
LINES = tuple(OrderLine(f"sku-{number}", "A product", "a-category", 2, 1_250) for number in range(3))
COMMAND = PlaceOrder("o1", "c1", "EUR", LINES)
STATES = {"o1": orders.initial("o1")}


def _placed() -> OrderPlaced:
    (event,) = orders.decide(STATES, COMMAND)
    assert isinstance(event, OrderPlaced)
    return event


def _older() -> OrderPlacedV1:
    fields = {name: value for name, value in asdict(_placed()).items() if name != "units"}
    return OrderPlacedV1(**fields)


def _block(event: OrderPlaced | OrderPlacedV1) -> bytes:
    commit = Commit("id-1", "o1", 1, [event], digest="d" * 32, actor="customer:c1", correlation="o1")
    return seal("epoch", datetime(2026, 1, 1, tzinfo=UTC), GENESIS, [encode(commit)] * COMMITS)


def test_decide(benchmark: BenchmarkFixture) -> None:
    benchmark(orders.decide, STATES, COMMAND)


def test_evolve(benchmark: BenchmarkFixture) -> None:
    benchmark(orders.evolve, STATES["o1"], _placed())


def test_decode_command(benchmark: BenchmarkFixture) -> None:
    decode = msgspec.json.Decoder(PlaceOrder).decode
    benchmark(decode, encode(COMMAND))


def test_digest_command(benchmark: BenchmarkFixture) -> None:
    benchmark(digest_of, encode(COMMAND))


def test_decode_frame_of_a_thousand(benchmark: BenchmarkFixture) -> None:
    frame = encode([Envelope(f"id-{number}", 1e9, msgspec.Raw(encode(COMMAND))) for number in range(COMMITS)])
    benchmark(decode_frame, frame)


def test_encode_commit(benchmark: BenchmarkFixture) -> None:
    benchmark(encode, Commit("id-1", "o1", 1, [_placed()], digest="d" * 32, actor="customer:c1", correlation="o1"))


def test_decode_block_of_a_thousand(benchmark: BenchmarkFixture) -> None:
    benchmark(decoder_of(orders).decode, _block(_placed()))


def test_decode_block_of_a_thousand_of_an_older_version(benchmark: BenchmarkFixture) -> None:
    benchmark(decoder_of(orders).decode, _block(_older()))


def test_hash_block_of_a_thousand(benchmark: BenchmarkFixture) -> None:
    benchmark(hash_of, _block(_placed()))
