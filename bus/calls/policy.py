"""How calls to one destination are made: times in seconds, shares between 0 and 1. Checked when read, not when used."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=3_600)]
Pause = Annotated[float, Meta(ge=0, le=3_600)]
Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Number = Annotated[int, Meta(ge=1, le=100_000)]
NumberOrNone = Annotated[int, Meta(ge=0, le=100_000)]

Version = Annotated[str, Meta(min_length=1, max_length=64)]
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
Split = Annotated[dict[Version, Weight], Meta(max_length=16)]

WINDOW_CALLS = 100
"""What a breaker looks at where nothing else is said."""


class BreakerPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """Opens when, of at least `calls_min` calls, this share failed or was slow. It looks at the last `window_calls`
    calls, or at those of the last `window_s` seconds."""

    failure_rate: Rate = 0.5
    slow_rate: Rate = 0.5
    slow_s: Seconds = 2.0
    calls_min: Number = 20
    window_calls: Number | None = None
    window_s: Seconds | None = None
    open_s: Seconds = 30.0
    half_open_calls: Number = 5

    def __post_init__(self) -> None:
        if self.window_calls is not None and self.window_s is not None:
            raise ValueError("a window has window_calls or window_s, not both")
        if self.window_s is None and self.calls_min > self.calls:
            raise ValueError(f"calls_min ({self.calls_min}) is more than the window holds ({self.calls})")

    @property
    def calls(self) -> int:
        """The size of a window that counts calls."""
        return self.window_calls or WINDOW_CALLS


class FaultPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """Faults that are put in on purpose, to see what becomes of them: a share of tries is delayed, a share is answered
    with `abort_status` and never sent."""

    delay_share: Share = 0.0
    delay_s: Pause = 0.0
    abort_share: Share = 0.0
    abort_status: Literal[429, 500, 502, 503, 504] = 503


class CallPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """`timeout_s` is for a call with all its tries and pauses, `try_timeout_s` for one of them. `retries` is how many
    there may be after the first; pauses between them are by chance from 0 to a ceiling that doubles from `backoff_s` to
    `backoff_max_s`. Over time retries are at most `retry_share` of calls, beyond `retry_burst` at once.
    `concurrency` calls are under way, `queue` more wait for their turn. `split` shares calls out between versions of
    the instances that are there, by weights; without one each instance is as good as any other."""

    timeout_s: Seconds = 5.0
    try_timeout_s: Seconds = 2.0
    retries: Annotated[int, Meta(ge=0, le=10)] = 3
    backoff_s: Pause = 0.1
    backoff_max_s: Pause = 2.0
    retry_share: Share = 0.2
    retry_burst: NumberOrNone = 10
    concurrency: Number = 32
    queue: NumberOrNone = 512
    breaker: BreakerPolicy = BreakerPolicy()
    faults: FaultPolicy = FaultPolicy()
    split: Split = {}

    def __post_init__(self) -> None:
        if self.try_timeout_s > self.timeout_s:
            raise ValueError(f"try_timeout_s ({self.try_timeout_s:g}) is more than timeout_s ({self.timeout_s:g})")
        if self.backoff_s > self.backoff_max_s:
            raise ValueError(f"backoff_s ({self.backoff_s:g}) is more than backoff_max_s ({self.backoff_max_s:g})")
        if self.split and not any(self.split.values()):
            raise ValueError("split gives no version a weight")
