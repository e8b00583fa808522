"""What stores are given: decoded, checked blocks of one stream, so many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property

from bus.logs.blocks import Block, Commit
from bus.logs.log import Record
from projections.grouping import Group
from projections.projection import Projection, Recorded, recorded_of


class ReadBlock:
    """One block where it lies in its log."""

    def __init__(self, sequence: int, at: datetime, commits: list[Commit[object]]) -> None:
        self.sequence = sequence
        self.at = at
        self.commits = commits

    @cached_property
    def recorded(self) -> list[Recorded]:
        """Its commits, for all read models of the stream."""
        return recorded_of(self.sequence, self.at, self.commits)

    @cached_property
    def events(self) -> int:
        """Counted once, for every read model asks."""
        return sum(len(commit.events) for commit in self.commits)


class Batch:
    """Some blocks in their order, and the tips of the stream's partitions after the last of them.

    `folded`: what they do to some read models, where that is known already.
    """

    def __init__(
        self,
        blocks: list[ReadBlock],
        tips: Mapping[int, str],
        folded: Mapping[Projection, Sequence[Group]] | None = None,
    ) -> None:
        self.blocks = blocks
        self.tips = tips
        self.folded = folded or {}

    @property
    def first(self) -> int:
        return self.blocks[0].sequence

    @property
    def last(self) -> int:
        return self.blocks[-1].sequence

    @property
    def at(self) -> datetime:
        """When the last block was written."""
        return self.blocks[-1].at

    @property
    def events(self) -> int:
        return sum(block.events for block in self.blocks)


class FoldedBatch(Batch):
    """One whose blocks were folded when they were read: they are decoded again for whoever asks for them.

    To keep many commits for a while costs more than to decode them again: the processor's caches hold few.
    """

    def __init__(
        self,
        records: Sequence[Record],
        tips: Mapping[int, str],
        events: int,
        folded: Mapping[Projection, Sequence[Group]],
        decode: Callable[[bytes], Block[object]],
    ) -> None:
        self.tips = tips
        self.folded = folded
        self._records = records
        self._events = events
        self._decode = decode

    @cached_property
    def blocks(self) -> list[ReadBlock]:  # type: ignore[override]  # Read only, as everywhere.
        decoded = ((record.sequence, self._decode(record.data)) for record in self._records)
        return [ReadBlock(sequence, block.at, block.commits) for sequence, block in decoded]

    @property
    def first(self) -> int:
        return self._records[0].sequence

    @property
    def last(self) -> int:
        return self._records[-1].sequence

    @property
    def at(self) -> datetime:
        return self._decode(self._records[-1].data).at

    @property
    def events(self) -> int:
        return self._events
