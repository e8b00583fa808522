"""The history gate: today's code makes of every committed recording what it made of it before, and says where not."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec import Struct

from bus.logs.blocks import BLOCK_BYTES_MAX, GENESIS, Commit, hash_of, seal
from domains.orders.messages import OrderPlaced, OrderReserved
from gateway import compose
from gateway.cli.main import tally as group
from gateway.history.recorded import LINE_BYTES_MAX
from tests.system import REPOSITORY, Shop, System

RECORDINGS = sorted((REPOSITORY / "tests" / "recorded").glob("*.jsonl.gz"))
BYTES_MAX = 200_000

placed = OrderPlaced("o1", "c1", "EUR", (), 0, 0, 0, 0, "tok_ok", "recorded")


def replayed(path: Path, *options: str) -> Result:
    return CliRunner().invoke(group, ["doctor", "replay", str(path), *options], standalone_mode=True)


def failed(path: Path, *words: str) -> None:
    """It says why in words for people."""
    result = replayed(path)
    assert (result.exit_code, result.output.startswith("Error: ")) == (1, True), result.output
    for word in words:
        assert word in result.output


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The first recording, in plain text, and beside it what is known of it."""
    first = RECORDINGS[0]
    shutil.copy(first.with_name(first.name.replace(".jsonl.gz", ".digests.json")), tmp_path / "copy.digests.json")
    path = tmp_path / "copy.jsonl"
    path.write_bytes(gzip.decompress(first.read_bytes()))
    return path


# -- what is committed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name)
def test_todays_code_makes_of_a_recording_what_it_made_before(path: Path) -> None:
    result = replayed(path)
    assert (result.exit_code, "all is as it was" in result.output) == (0, True), result.output


def test_the_recordings_hold_every_event_in_every_version() -> None:
    held: dict[str, set[str]] = {}
    for path in RECORDINGS[0].parent.glob("*.digests.json"):
        for name, log in json.loads(path.read_text())["logs"].items():
            held.setdefault(name, set()).update(log["events"])
    for domain in compose.LOGS:
        older = (upcaster.older for upcaster in domain.upcasters)
        assert held[domain.name] == {kind.__struct_config__.tag for kind in (*domain.events, *older)}


def test_the_recordings_are_small() -> None:
    assert sum(path.stat().st_size for path in RECORDINGS) < BYTES_MAX


# -- what has changed --------------------------------------------------------------------------------------------------


def test_a_read_model_that_is_not_what_it_was_is_named(copy: Path) -> None:
    beside = copy.with_name("copy.digests.json")
    before = json.loads(beside.read_text())
    before["tables"]["sales/sale"]["digest"] = "0" * 64
    del before["tables"]["stock/stock"]
    before["tables"]["gone/gone"] = {"rows": 3, "digest": "1" * 64}
    before["logs"]["orders"]["tips"]["0"] = "2" * 64
    beside.write_text(json.dumps(before))
    result = replayed(copy)
    assert result.exit_code == 1
    told = [line for line in result.output.splitlines() if ", and was " in line or "recorded" in line]
    assert len(told) == 4
    assert told[0] == "Error: log orders is not what was recorded"
    assert told[1] == "gone/gone: not there, and was 3 rows 111111111111"
    assert told[2].startswith("sales/sale: ")
    assert told[2].endswith("and was " + str(before["tables"]["sales/sale"]["rows"]) + " rows 000000000000")
    assert told[3].endswith(", and was not there")


def test_what_nothing_is_known_of_is_not_passed(copy: Path) -> None:
    copy.with_name("copy.digests.json").unlink()
    result = replayed(copy)
    assert (result.exit_code, "--accept makes it" in result.output) == (1, True)
    assert replayed(copy, "--accept").exit_code == 0
    assert replayed(copy).exit_code == 0


def test_a_recording_need_not_be_compressed_but_whole(copy: Path) -> None:
    assert replayed(copy).exit_code == 0
    cut = copy.with_name("copy.jsonl.gz")
    cut.write_bytes(gzip.compress(copy.read_bytes())[:-20])
    failed(cut, "end-of-stream")


# -- what cannot be read -----------------------------------------------------------------------------------------------


def changed(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a recording's orders."""
    lines = path.read_bytes().splitlines(keepends=True)
    orders = [line for line in lines if b'"log.orders.0"' in line]
    path.write_bytes(b"".join(change(orders)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [lines[0].replace(b'"OrderPlaced', b'"OrderPlacid'), *lines[1:]], ("orders", "'OrderPlacid")),
        (lambda lines: [lines[0].replace(b'"order_id":', b'"ordre_id":'), *lines[1:]], ("missing", "`order_id`")),
        (lambda lines: lines[:3] + lines[4:], ("log orders: goes from 4 to 6",)),
        (lambda lines: lines[1:], ("log orders: goes from 1 to 3",)),
        (lambda lines: [lines[0].replace(b'"actor":"', b'"actor":"x'), *lines[1:]], ("block 3", "does not continue")),
        (lambda lines: [lines[0].replace(b"log.orders.0", b"log.nobody.0")], ("nobody is no log of today's",)),
        (lambda lines: [lines[0].replace(b"log.orders.0", b"log.orders")], ("line 1", "no log's subject")),
        (lambda lines: [lines[0], b"x\n"], ("line 2", "JSON is malformed")),
        (lambda lines: [lines[0], b'{"subject":"log.orders.0"}\n'], ("line 2", "missing required field `sequence`")),
        (lambda lines: [lines[0], b" " * LINE_BYTES_MAX + b"\n"], ("line 2", "longer than any block")),
        (lambda lines: [b'{"subject":"log.orders.0","sequence":2,"block":[]}\n'], ("log orders", "Expected `object`")),
    ],
)
def test_what_today_cannot_read_is_told(
    copy: Path, change: Callable[[list[bytes]], list[bytes]], words: tuple[str, ...]
) -> None:
    changed(copy, change)
    failed(copy, *words)


def recording(path: Path, *commits: tuple[str, int, Struct]) -> Path:
    """A recording of orders: a block for each of these aggregates, versions and events."""
    prev, lines = GENESIS, []
    for sequence, (aggregate, version, event) in enumerate(commits, start=2):
        commit = msgspec.json.encode(Commit(f"c{sequence}", aggregate, version, [event]))
        block = seal("e", datetime(2026, 11, 21, tzinfo=UTC), prev, [commit])
        lines.append(b'{"subject":"log.orders.0","sequence":%d,"block":%b}\n' % (sequence, block))
        prev = hash_of(block)
    path.write_bytes(b"".join(lines))
    return path


def test_a_history_that_read_models_or_states_cannot_hold_is_told(tmp_path: Path) -> None:
    twice = recording(tmp_path / "twice.jsonl", ("o1", 1, placed), ("o1", 2, placed))
    failed(twice, "order_summary at orders=3: IntegrityError: UNIQUE constraint failed")
    gap = recording(tmp_path / "gap.jsonl", ("o1", 1, placed), ("o1", 3, OrderReserved("o1")))
    failed(gap, "o1 goes from version 1 to 3")


def test_a_recording_of_more_blocks_than_are_folded_at_once(tmp_path: Path) -> None:
    many = [(f"o{n}", 1, msgspec.structs.replace(placed, order_id=f"o{n}")) for n in range(600)]
    found = json.loads(replayed(recording(tmp_path / "many.jsonl", *many), "--accept", "--json").output)
    assert found["tables"]["order_summary/order_summary"]["rows"] == 600
    assert found["tables"]["aggregate_state_orders/aggregate_state"]["rows"] == 600
    assert found["logs"]["orders"]["blocks"] == 600
    assert BLOCK_BYTES_MAX < LINE_BYTES_MAX


# -- recording ---------------------------------------------------------------------------------------------------------


def commits_of(system: System) -> dict[str, int]:
    """By log, of those that have some: an empty one has no lines."""
    whole = json.loads(CliRunner().invoke(group, ["doctor", "--json"], env=system.environment).output)
    return {name: log["commits"] for name, log in whole.items() if log["commits"]}


def test_what_runs_is_recorded_and_replayed(system: System, shop: Shop, tmp_path: Path) -> None:
    shop.settled(shop.place(shop.product(units=1))["order_id"])
    shop.system.quiet()
    file = tmp_path / "mine.jsonl.gz"
    before = commits_of(system)
    recorded = CliRunner().invoke(group, ["doctor", "record", str(file)], env=system.environment)
    assert recorded.exit_code == 0, recorded.output
    found = json.loads(replayed(file, "--accept", "--json").output)["logs"]
    after = commits_of(system)
    assert found.keys() == after.keys() == before.keys()
    for name, log in found.items():  # A deadline of some other test's order may pass at any moment.
        assert before[name] <= log["commits"] <= after[name]
    again = CliRunner().invoke(group, ["doctor", "record", str(file)], env=system.environment)
    assert (again.exit_code, "is there already" in again.output) == (2, True)


def test_what_cannot_be_written_is_told(system: System, tmp_path: Path) -> None:
    nowhere = CliRunner().invoke(
        group, ["doctor", "record", str(tmp_path / "nowhere" / "mine.jsonl")], env=system.environment
    )
    assert (nowhere.exit_code, "cannot be written: No such file" in nowhere.output) == (1, True)
