"""Client-side balancing: of two instances taken by chance, the call goes to the one where it is likely done sooner.

It stands where the transport does, so each try chooses anew. What it knows of an instance is what it saw of it: its
latency, which goes up with one slow answer, and down slowly; and how many calls are under way there. Round robin gives
one that is slow as much as any other, and to look for the best of all sends every caller to the same one.

Where instances are of several versions, a split by weights says first which version gets the call. One that is not
there gives its share to the others, and one without a weight gets calls only where no other is there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from math import exp

from bus.calls.call import REAL_TIME, Call, CallFailed, Reply, Step, Time, Unreachable

FORGET_S = 10.0
"""In so long what was seen counts for a third. So one that was slow is tried again, now and then."""
LEARN_SHARE = 1 / 8
"""What an answer counts for at least: one that was slow by chance is forgotten after some twenty quick ones, in which
another would have been taken for better that is always slow."""
FAILED_S = 1.0
"""A failure counts as if it took this long, at least: one that fails quickly is not a quick one."""
UNKNOWN_S = 1.0
"""A call under way at an instance that never answered one counts so much: it gets a single one at first."""


class _Instance:
    __slots__ = ("_latency_s", "_seen_at", "step", "under_way", "version")

    def __init__(self, step: Step) -> None:
        self.step = step
        self.version = ""
        self.under_way = 0
        self._latency_s = 0.0
        self._seen_at = 0.0

    def expected_s(self, now: float) -> float:
        if not self._latency_s:
            return self.under_way * UNKNOWN_S
        return self._latency_s * exp((self._seen_at - now) / FORGET_S) * (self.under_way + 1)

    def saw(self, now: float, took_s: float) -> None:
        old = min(exp((self._seen_at - now) / FORGET_S), 1.0 - LEARN_SHARE)
        self._latency_s = max(took_s, self._latency_s * old + took_s * (1 - old))
        self._seen_at = now

    def was_left(self, now: float, after_s: float) -> None:
        """Nobody waited for the answer: all that is known is that it took longer."""
        if after_s > self._latency_s:
            self.saw(now, after_s)


class Balancer:
    """A step that sends each call to one of the instances that are known."""

    def __init__(
        self,
        destination: str,
        instances: Mapping[str, Step],
        time: Time = REAL_TIME,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._destination = destination
        self._now = time.now
        self._chance = chance
        self._known: dict[str, _Instance] = {}
        self._instances: list[_Instance] = []
        self._split: Mapping[str, float] = {}
        self._shares: list[tuple[float, list[_Instance]]] = []
        """Up to which share of chance a version's instances are chosen from; empty where nothing is split."""
        self.know(instances)

    def know(self, instances: Mapping[str, Step], versions: Mapping[str, str] | None = None) -> None:
        """These are all that there are now. What was seen of those that stay is kept; calls under way go on."""
        self._known = {name: self._known.get(name) or _Instance(step) for name, step in instances.items()}
        for name, instance in self._known.items():
            instance.version = (versions or {}).get(name, "")
        self._instances = list(self._known.values())
        self._share_out()

    @property
    def split(self) -> Mapping[str, float]:
        """The weight of each version; empty: versions do not matter."""
        return self._split

    @split.setter
    def split(self, split: Mapping[str, float]) -> None:
        self._split = split
        self._share_out()

    def _share_out(self) -> None:
        by_version: dict[str, list[_Instance]] = {}
        for instance in self._instances:
            by_version.setdefault(instance.version, []).append(instance)
        there = [(self._split[each], of) for each, of in by_version.items() if self._split.get(each, 0.0) > 0.0]
        whole = sum(weight for weight, _ in there)
        below = 0.0
        self._shares = []
        for weight, of in there:
            below += weight / whole
            self._shares.append((below, of))

    async def __call__(self, call: Call, deadline: float) -> Reply:
        began = self._now()
        instance = self._choose(began)
        instance.under_way += 1
        try:
            reply = await instance.step(call, deadline)
        except CallFailed:
            now = self._now()
            instance.saw(now, max(FAILED_S, now - began))
            raise
        except BaseException:  # Raised again: whoever asked went away, which says nothing of the instance.
            now = self._now()
            instance.was_left(now, now - began)
            raise
        finally:
            instance.under_way -= 1
        now = self._now()
        instance.saw(now, now - began)
        return reply

    def _choose(self, now: float) -> _Instance:
        instances = self._of_version() if self._shares else self._instances
        if not instances:
            raise Unreachable(self._destination, "no instance is known")
        if len(instances) == 1:
            return instances[0]
        first = int(self._chance() * len(instances))
        second = int(self._chance() * (len(instances) - 1))
        one, other = instances[first], instances[second + (second >= first)]
        return one if one.expected_s(now) <= other.expected_s(now) else other

    def _of_version(self) -> list[_Instance]:
        chance = self._chance()
        for below, instances in self._shares:
            if chance < below:
                return instances
        return self._shares[-1][1]  # The shares' sum may be a little less than 1.
