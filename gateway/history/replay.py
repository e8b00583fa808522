"""The history gate: whether today's code makes of recorded logs what it made of them before.

Every block is decoded, every aggregate folded, every read model of these logs built anew, in files of their own and
without a broker. What comes of it is counted and hashed, and compared with what was found before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec import Struct

from bus.logs.blocks import Block, Chain, decoder_of
from bus.logs.log import READ_RECORDS_MAX, LogDamaged, Record
from bus.reactors.observers import AnyDomain
from gateway import compose
from gateway.history.recorded import recorded
from projections.batches import Batch, ReadBlock
from projections.store import Store


class ReplayFailed(Exception):
    """Today's code cannot read or fold what was recorded."""


class LogFound(Struct, frozen=True):
    """What a log holds: `events` by the tags with which they were written, `tips` the hash of each partition's last
    block."""

    blocks: int
    commits: int
    events: dict[str, int]
    tips: dict[int, str]


class TableFound(Struct, frozen=True):
    """How many rows, and a hash of all of them in the order of the primary key."""

    rows: int
    digest: str


class Found(Struct, frozen=True):
    logs: dict[str, LogFound]
    tables: dict[str, TableFound]
    """By `<read model>/<table>`. The states of aggregates are a read model, too."""


class _Tagged(Struct, frozen=True):
    type: str


class _Begun(Struct, frozen=True):
    epoch: str


_decode_tags = msgspec.json.Decoder(Block[_Tagged]).decode
_decode_begun = msgspec.json.Decoder(_Begun).decode


def replay(path: Path) -> Found:
    """Raises `RecordingUnreadable`, `ReplayFailed`."""
    domains = {domain.name: domain for domain in compose.LOGS}
    logs: dict[str, _Replayed] = {}
    with TemporaryDirectory(prefix="tally-replay-") as folder, ExitStack() as stack:
        for name, record in recorded(path):
            if name not in domains:
                raise ReplayFailed(f"{name} is no log of today's")
            try:
                if name not in logs:
                    logs[name] = stack.enter_context(_Replayed(domains[name], record, Path(folder)))
                logs[name].take(record)
            except (LogDamaged, msgspec.DecodeError) as error:
                raise ReplayFailed(f"log {name}: {error.args[0]}") from error
        tables: dict[str, TableFound] = {}
        for log in logs.values():
            log.flush()
            tables |= log.tables()
        return Found({name: log.found() for name, log in sorted(logs.items())}, dict(sorted(tables.items())))


def differences(before: Found, now: Found) -> Iterator[str]:
    """What is not as it was found before, a line each."""
    for name in sorted(before.logs.keys() | now.logs.keys()):
        if before.logs.get(name) != now.logs.get(name):
            yield f"log {name} is not what was recorded"
    for name in sorted(before.tables.keys() | now.tables.keys()):
        was, found = before.tables.get(name), now.tables.get(name)
        if was != found:
            yield f"{name}: {_told(found)}, and was {_told(was)}"


def _told(table: TableFound | None) -> str:
    return "not there" if table is None else f"{table.rows} rows {table.digest[:12]}"


class _Replayed:
    """One log, as far as it was replayed, and its read models."""

    def __init__(self, domain: AnyDomain | compose.AnyStateStored, first: Record, folder: Path) -> None:
        epoch = _decode_begun(first.data).epoch
        self._name = domain.name
        self._decode = decoder_of(domain).decode
        self._chain = Chain(epoch, whole=True)
        self._stores = [
            Store.create(projection, folder / f"{projection.name}.db", epoch)
            for projection in compose.PROJECTIONS
            if projection.stream == domain.name
        ]
        self._sequence = 1
        self._blocks: list[ReadBlock] = []
        self._read = self._commits = 0
        self._events: Counter[str] = Counter()

    def __enter__(self) -> _Replayed:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores:
            store.close()

    def take(self, record: Record) -> None:
        """Raises `LogDamaged` for what does not continue the log, or cannot be decoded."""
        if record.sequence != self._sequence + 1:
            raise LogDamaged(f"goes from {self._sequence} to {record.sequence}")
        block = self._chain.follow(record, self._decode)
        self._sequence = record.sequence
        self._blocks.append(ReadBlock(record.sequence, block.at, block.commits))
        self._read += 1
        self._commits += len(block.commits)
        self._events.update(event.type for commit in _decode_tags(record.data).commits for event in commit.events)
        if len(self._blocks) >= READ_RECORDS_MAX:
            self.flush()

    def flush(self) -> None:
        if not self._blocks:
            return
        batch = Batch(self._blocks, dict(self._chain.tips))
        for store in self._stores:
            try:
                store.apply(batch)
            except Exception as error:  # Whatever it is, it would halt the read model, and is told.
                where = f"blocks {self._blocks[0].sequence} to {self._blocks[-1].sequence} of {self._name}"
                told = error.args[0] if isinstance(error, LogDamaged) else f"{type(error).__name__}: {error}"
                raise ReplayFailed(f"{store.projection.name} at {where}: {told}") from error
            if store.parked:
                first = store.queues(limit=1)[0]
                raise ReplayFailed(f"{store.projection.name} at {self._name}={first.sequence}: {first.error}")
        self._blocks = []

    def found(self) -> LogFound:
        return LogFound(self._read, self._commits, dict(sorted(self._events.items())), dict(self._chain.tips))

    def tables(self) -> dict[str, TableFound]:
        return {
            f"{store.projection.name}/{table}": _table(store, table)
            for store in self._stores
            for table in store.tables()
        }


def _table(store: Store, table: str) -> TableFound:
    """The hash is this module's own: it is kept for years, and must not change with how builds are compared."""
    hashed, rows = sha256(), 0
    for row in store.rows(table):
        hashed.update(msgspec.json.encode(row) + b"\n")
        rows += 1
    return TableFound(rows, hashed.hexdigest())
