"""Logs in a file: a line of JSON for each block, as it lies in its stream. Gzipped where the file's name ends in `.gz`.

    {"subject":"log.orders.0","sequence":2,"block":{"epoch":"...","at":"...","prev":"...","commits":[...]}}

A log's lines are all of its blocks, in their order; those of several logs may take turns.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

import msgspec
from msgspec import Raw, Struct

from bus.logs.blocks import BLOCK_BYTES_MAX
from bus.logs.log import Log, Record

LINE_BYTES_MAX = BLOCK_BYTES_MAX + 1_024
SUBJECT_PATTERN = re.compile(r"log\.([a-z_]{1,64})\.(\d{1,9})")


class RecordingUnreadable(Exception):
    """A line is none of a recording."""


class _Line(Struct, frozen=True):
    subject: str
    sequence: int
    block: Raw


class RecordedBlock(NamedTuple):
    """A block, and whose it is."""

    log: str
    record: Record


_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


async def record(logs: Iterable[Log], file: IO[bytes]) -> dict[str, int]:
    """Write all that these logs hold now, one after the other. How many blocks of each."""
    blocks: dict[str, int] = {}
    for log in logs:
        blocks[log.name] = 0
        async for batch in log.read(0, await log.head()):
            for one in batch:
                file.write(_encode(_Line(f"log.{log.name}.{one.partition}", one.sequence, Raw(one.data))) + b"\n")
            blocks[log.name] += len(batch)
    return blocks


def opened(path: Path, mode: str) -> IO[bytes]:
    """The file of a recording; `mode` is as for `open`. Raises `OSError`."""
    return cast("IO[bytes]", gzip.open(path, mode) if path.suffix == ".gz" else path.open(mode))


def recorded(path: Path) -> Iterator[RecordedBlock]:
    """Every block of a recording. Raises `RecordingUnreadable`."""
    number = 0
    try:
        with opened(path, "rb") as file:
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise RecordingUnreadable(f"{path}, line {number}: longer than any block")
                found = _decode(line)
                subject = SUBJECT_PATTERN.fullmatch(found.subject)
                if subject is None:
                    raise RecordingUnreadable(f"{path}, line {number}: {found.subject!r} is no log's subject")
                yield RecordedBlock(subject[1], Record(found.sequence, int(subject[2]), bytes(found.block)))
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise RecordingUnreadable(f"{path}, line {number}: {error}") from error
