"""The witness: a small file beside the writer that remembers the latest acknowledged block of each partition.

A broker that has lost its store, or got an older one back, does not know it: it would begin anew, and give its sequence
numbers out again. Whoever opens a log asks the witness first (`check`), and no log is made anew where there was one.

What it promises: at a start, the loss of any block is noticed that was acknowledged more than about `EVERY_S` and one
sync before the writer ended, however that ended, a power cut included; after a clean stop, of any block at all. What
was acknowledged in that last moment is not in it. A worker on another machine does not see it: there the read models'
positions say the same, somewhat later.

It costs the engine a dictionary entry a block. A thread writes and syncs, at most every `EVERY_S`. A write at each
block with a sync behind it was tried: 3 us (p99 28 us), but 1.1 ms at the worst, on the event loop, while a sync of the
same file runs: too much for being exact about the last tenth of a second before a `kill -9`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from bus.logs.blocks import hash_of
from bus.logs.log import Log, LogDamaged

EVERY_S = 0.1
FAILED_AGAIN_S = 1.0
SLOT_BYTES = 512
"""One sector: it is written whole or not at all. Two of them take turns, so that the older one survives in any case."""
_SUM_CHARS = 16

log = logging.getLogger(__name__)


class Acknowledged(Struct, frozen=True):
    """A block that is on disk, for whoever asked for it was told so."""

    log: str
    partition: int
    epoch: str
    sequence: int
    hash: str


class Witness:
    """Remembers the blocks of one process. `close` it when nothing is written any more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._latest: dict[tuple[str, int], Acknowledged] = {}
        self._fresh: set[tuple[str, int]] = set()
        self._writing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "witness")

    def of(self, name: str, partition: int, epoch: str) -> Callable[[int, str], None]:
        """What an engine tells of each block that is on disk: its sequence and its hash. For one event loop."""
        key = name, partition

        def durable(sequence: int, block_hash: str) -> None:
            self._latest[key] = Acknowledged(name, partition, epoch, sequence, block_hash)
            self._fresh.add(key)
            if self._writing is None:
                self._writing = asyncio.get_running_loop().create_task(self._write())

        return durable

    async def close(self) -> None:
        """Write what is not written yet."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store, list(self._latest.values()))
        except OSError as error:
            log.error("what was acknowledged last cannot be remembered: %s", error)
        self._thread.shutdown()

    async def _write(self) -> None:
        while self._fresh:
            fresh, self._fresh = self._fresh, set()
            latest = [self._latest[key] for key in fresh]
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._store, latest)
                await asyncio.sleep(EVERY_S)
            except (
                OSError
            ) as error:  # Blocks are on disk all the same: it only could not be noticed that they are lost.
                log.error("what was acknowledged last cannot be remembered: %s", error)
                self._fresh |= fresh
                await asyncio.sleep(FAILED_AGAIN_S)
        self._writing = None

    def _store(self, latest: list[Acknowledged]) -> None:
        for each in latest:
            _remember(_path(self._folder, each.log, each.partition), each)


def recall(folder: Path, name: str) -> list[Acknowledged]:
    """What is remembered of a log, a block a partition. Raises `LogDamaged` for a file that makes no sense."""
    found: list[Acknowledged] = []
    for path in sorted(folder.glob(f"{name}.*")):
        if not path.name.endswith(".new"):
            slots = [slot for slot in _slots(path.read_bytes()) if slot is not None]
            if not slots:
                raise LogDamaged(f"the witness {path} makes no sense, so nobody can tell what {name} has lost")
            found.append(max(slots, key=lambda slot: slot.sequence))
    return found


async def check(source: Log, remembered: Sequence[Acknowledged]) -> None:
    """Raise `LogDamaged` unless the log holds these blocks. Raises `LogUnreachable`."""
    for each in remembered:
        if each.epoch != source.epoch:
            raise LogDamaged(f"{source.name} is of epoch {source.epoch}, but blocks of {each.epoch} were acknowledged")
        head = await source.head()
        if head < each.sequence:
            raise LogDamaged(f"{source.name} ends at {head}, but {each.sequence} was acknowledged")
        record = await source.get(each.sequence)
        if record is None or hash_of(record.data) != each.hash:
            raise LogDamaged(f"{source.name} does not hold at {each.sequence} what was acknowledged there")


def _path(folder: Path, name: str, partition: int) -> Path:
    return folder / f"{name}.{partition}"


def _slots(content: bytes) -> list[Acknowledged | None]:
    return [_read(content[:SLOT_BYTES]), _read(content[SLOT_BYTES:])]


def _read(slot: bytes) -> Acknowledged | None:
    """What a slot holds, unless it was never written, or its disk lost it."""
    checked, _, told = slot.rstrip().partition(b" ")
    if _sum(told) != checked:
        return None
    try:
        return msgspec.json.decode(told, type=Acknowledged)
    except msgspec.DecodeError:
        return None


def _sealed(what: Acknowledged) -> bytes:
    told = msgspec.json.encode(what)
    return (_sum(told) + b" " + told).ljust(SLOT_BYTES - 1) + b"\n"


def _sum(told: bytes) -> bytes:
    return sha256(told).hexdigest()[:_SUM_CHARS].encode()


def _remember(path: Path, what: Acknowledged) -> None:
    """Over the older of the two slots, unless a later block is remembered already: another owner may have written."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        _begin(path, what)
        return
    try:
        slots = [(slot.sequence if slot else 0) for slot in _slots(os.pread(handle, 2 * SLOT_BYTES, 0))]
        if max(slots) < what.sequence:
            os.pwrite(handle, _sealed(what), slots.index(min(slots)) * SLOT_BYTES)
            os.fdatasync(handle)
    finally:
        os.close(handle)


def _begin(path: Path, what: Acknowledged) -> None:
    """A new file appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    with fresh.open("wb") as file:
        file.write(_sealed(what) + b"".ljust(SLOT_BYTES - 1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
