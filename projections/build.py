"""One build's file until it is whole: nobody reads it, so it is written as fast as SQLite goes.

A crash leaves a file that is thrown away. What makes a live file safe, and its indexes, come at the end, in one go.
"""

from __future__ import annotations

from projections.files import PART, WHOLE, ReadModelFiles, remove, sync
from projections.projection import Projection
from projections.store import Store, is_index, statements_of


class Build(Store):
    """A store that is no live one yet: its transactions can be rolled back, and survive no crash."""

    @classmethod
    def begin(cls, projection: Projection, files: ReadModelFiles, epoch: str) -> Build:
        return cls.create(projection, files.next_build(projection).with_suffix(PART), epoch, building=True)

    def finish(self) -> None:
        """Make it whole: its indexes, all of it on disk, and its name. Closed then, for whoever opens it as a store."""
        for statement in filter(is_index, statements_of(self.projection.schema)):
            self._connection.execute(statement)
        self.close()
        sync(self.path)
        self.path = self.path.replace(self.path.with_suffix(WHOLE))
        sync(self.path.parent)

    def throw_away(self) -> None:
        """Throw it away, if it is not whole."""
        self.close()
        remove(self.path)
