"""What stores are given: decoded, checked blocks of one stream, so many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from bus.blocks import Block, Commit
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
        return sum(len(commit.events) for commit in self.commits)


class FoldedBlock(ReadBlock):
    """One that was folded when it was read: its commits are decoded for whoever asks for them, all the same.

    To keep them would cost more than to decode them again: the processor's caches hold few.
    """

    def __init__(
        self, sequence: int, at: datetime, events: int, data: bytes, decode: Callable[[bytes], Block[object]]
    ) -> None:
        self.sequence = sequence
        self.at = at
        self.events = events
        self._data = data
        self._decode = decode

    @cached_property
    def commits(self) -> list[Commit[object]]:  # type: ignore[override]  # Read only here, as everywhere.
        return self._decode(self._data).commits


@dataclass(frozen=True, slots=True)
class Batch:
    """Some blocks, and the tips of the stream's partitions after the last of them. `folded`: what they do to some read
    models, where that is known already."""

    blocks: Sequence[ReadBlock]
    tips: Mapping[int, str]
    folded: Mapping[Projection, Sequence[Group]] = field(default_factory=dict)
