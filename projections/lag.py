"""How far a read model is behind its log, in events and in seconds, as far as that can be known without reading on."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from bus.logs.log import EPOCH_SEQUENCE

Clock = Callable[[], float]

HEAD_AGE_MAX_S = 10.0
"""A head that was not seen for longer is unknown. An attempt to see it takes up to 5 s."""


class Head:
    """The log's last sequence, and when it was seen last; 0 as long as there is only its epoch, which nobody shows."""

    def __init__(self, monotonic: Clock = time.monotonic) -> None:
        self.sequence = 0
        self._monotonic = monotonic
        self._seen_at: float | None = None

    def saw(self, sequence: int) -> None:
        if sequence > EPOCH_SEQUENCE:
            self.sequence = max(self.sequence, sequence)
        self._seen_at = self._monotonic()

    def age_s(self) -> float | None:
        """How long ago it was seen; None: never."""
        return None if self._seen_at is None else round(self._monotonic() - self._seen_at, 3)


class Lag:
    """Of the read models of one log.

    What one does not show yet was written after the last block that it has, and after the last moment at which it had
    all: so it lags by the shorter of these two times at most. The first is right after a start, the second when
    something is written after a long silence.
    """

    def __init__(self, monotonic: Clock = time.monotonic, wall: Clock = time.time) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._began = monotonic()
        self._had_all: dict[str, float] = {}

    @staticmethod
    def events(sequence: int, head: int, events: int) -> int:
        """Of the records that are missing, as many a record as in those before; at least one each."""
        missing = max(0, head - sequence)
        return max(missing, round(missing * events / sequence)) if sequence else missing

    def seconds(self, name: str, sequence: int, head: Head, at: datetime | None) -> float | None:
        """`at`: when the last block that it has was written, or None where it has none. None: nobody knows, for the
        head is not seen."""
        now, age_s = self._monotonic(), head.age_s()
        if age_s is None or age_s > HEAD_AGE_MAX_S:
            return None
        if sequence >= head.sequence:
            self._had_all[name] = now - age_s
            return 0.0
        bounds = [now - self._had_all[name]] if name in self._had_all else []
        if at is not None:
            bounds.append(self._wall() - at.timestamp())
        return round(max(0.0, min(bounds, default=now - self._began)), 3)
