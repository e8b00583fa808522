"""Sharing: workers agree, each by itself, who owns which of the things that exactly one should own, such as partitions.

One rule for all, over what everybody hears (who is there, who holds which lease). A worker's **load** for a key is how
many keys of that key's group it holds, then how many in all, then its id, so that no two loads are equal.

- A free key, given up or lapsed, is for the worker with the least load. Each waits `TURN_S` for every worker whose load
  is less than its own, so the least takes it at once, and the next if that one does not.
- A worker whose load is so much more than another's that the two would not just change places gives one key up,
  cleanly, then waits `SETTLE_S`. So they end evenly, in each group and in all, whoever joins or leaves, and then stay
  as they are.

Nothing here must be right for anything but speed: see `bus/owners/leases.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from nats.aio.client import Client

from bus.owners.leases import LEASE_S, RENEW_S, Holder, Leases, LeasesUnreachable
from bus.presence import Present, Worker
from bus.servers.lifetime import is_dead

TICK_S = 0.1
TURN_S = 0.3
SETTLE_S = 0.5

log = logging.getLogger(__name__)


def group_of(key: str) -> str:
    """`engine.orders.2` is of the group `engine.orders`."""
    return key.rpartition(".")[0]


def rank(key: str, me: str, workers: Collection[str], holders: Mapping[str, str]) -> int:
    """How many workers have less load than me for a key; the least is to own it."""
    return sum(_load(key, each, holders) < _load(key, me, holders) for each in workers if each != me)


def surplus(me: str, workers: Callable[[str], Collection[str]], holders: Mapping[str, str]) -> str:
    """The key that I should give up, if any: none unless somebody is better off with it and nobody worse. `workers`
    may own a key."""
    for key in sorted((key for key, holder in holders.items() if holder == me), reverse=True):
        for other in workers(key):
            if other == me:
                continue
            mine, theirs = _load(key, me, holders), _load(key, other, holders)
            ahead, ahead_in_all = mine[0] - theirs[0], mine[1] - theirs[1]
            if ahead >= 2 or (ahead == 1 and ahead_in_all >= 2):
                return key
    return ""


def _load(key: str, worker: str, holders: Mapping[str, str]) -> tuple[int, int, str]:
    group = group_of(key)
    held = [each for each, holder in holders.items() if holder == worker]
    return sum(group_of(each) == group for each in held), len(held), worker


class Held:
    """A lease of ours: its token, and whether it is surely ours still."""

    def __init__(self, key: str, token: int, holder: Holder, clock: Callable[[], float], since: float) -> None:
        self.key = key
        self.token = token
        self.holder = holder
        self.revision = token
        self.renewed_at = since
        self.lost = False
        self.given_up = False
        self.leave = asyncio.Event()
        """Set when it is time to stop: it was lost, or is given up."""
        self._clock = clock

    def holds(self) -> bool:
        """Whether nobody else can have taken it yet. A process that was frozen sees here that it was."""
        return not self.lost and self._clock() - self.renewed_at < LEASE_S


Role = Callable[[Held], AbstractAsyncContextManager[asyncio.Future[None]]]
"""What to do while a lease is held; the future raises what makes it impossible to go on."""


class _Other:
    """A key that is not ours, as far as it was heard."""

    def __init__(self, now: float) -> None:
        self.holder: Holder | None = None
        self.looked = False
        """Whether it was looked at since we began or were cut off: hearing nothing means nothing before."""
        self.changed_at = now
        """When it was last heard or seen to change."""
        self.revision = 0
        self.renewed = False
        """Whether a renewal was heard since it was looked at: then its revision is another one, which is no news."""
        self.given_up_at = -LEASE_S
        """When that was last heard. It may be heard before it is stored."""
        self.free_since: float | None = None


class Sharing:
    """One worker's part: it takes its share of `keys`, and runs a role for each that it holds."""

    def __init__(
        self,
        client: Client,
        leases: Leases,
        present: Present,
        me: Worker,
        keys: Sequence[str],
        role: Role,
        *,
        candidate: Callable[[Worker, str], bool] = lambda worker, key: worker.ready,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._leases = leases
        self._present = present
        self._me = me
        self._role = role
        self._candidate = candidate
        self._clock = clock
        self._changed = changed
        self._others = {key: _Other(clock()) for key in keys}
        self._owning: dict[str, asyncio.Task[None]] = {}
        self.held: dict[str, Held] = {}
        self._settled_at = clock()
        self._connections = -1
        self._awake = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Until cancelled; then `stop`. Raises what a role could not go on with."""
        await self._leases.listen(self._heard)
        while True:
            began = self._clock()
            for key in [key for key, task in self._owning.items() if task.done()]:
                self._owning.pop(key).result()
            self._awake.clear()
            await self.turn()
            wait_s = TICK_S - (self._clock() - began)
            if wait_s > 0:
                await _set_within(self._awake, wait_s)

    async def stop(self) -> None:
        """Give everything up, cleanly: whoever takes over need not wait for anything."""
        self._stopping = True
        for held in self.held.values():
            held.leave.set()
        if self._owning:
            await asyncio.wait(self._owning.values())

    async def turn(self) -> None:
        """Look around once, and do what is to be done."""
        if self._client.stats["reconnects"] != self._connections or not self._client.is_connected:
            self._connections = self._client.stats["reconnects"]
            for other in self._others.values():  # What was said meanwhile was not heard.
                other.looked, other.free_since, other.changed_at = False, None, self._clock()
        try:
            done = await asyncio.gather(
                *(self._renew(held) for held in self.held.values() if self._due(held)),
                *(self._watch(key) for key in self._others if key not in self.held),
                return_exceptions=True,
            )
            for trouble in done:
                if trouble is not None:
                    raise trouble
            await self._take_free()
        except LeasesUnreachable as error:
            log.info("leases: %s", error)
            return
        self._give_up_surplus()

    # -- what is ours ------------------------------------------------------------------------------------------------

    def _due(self, held: Held) -> bool:
        return not (held.lost or held.given_up) and self._clock() - held.renewed_at >= RENEW_S - TICK_S / 2

    async def _renew(self, held: Held) -> None:
        """Renew a lease; who finds another's record there has lost it."""
        began = self._clock()
        revision = await self._leases.write(held.key, held.holder, held.revision)
        if revision is None:
            found = await self._leases.look(held.key)
            if held.given_up:
                return
            if found.token != held.token:
                log.warning("%s was lost to %s", held.key, found.holder.worker if found.holder else "nobody")
                held.lost = True
                held.leave.set()
                return
            held.revision = found.revision  # A renewal whose answer did not come.
            return
        held.revision, held.renewed_at = revision, began

    async def _own(self, held: Held) -> None:
        """Run the role for as long as the lease is ours, and give that up afterwards."""
        try:
            await self._play(held)
        finally:
            if not held.lost:
                await self._give_up(held)
            self._others[held.key] = _Other(self._clock())
            del self.held[held.key]
            self._changed()
            self._awake.set()

    async def _give_up(self, held: Held) -> None:
        held.given_up = True
        try:
            if not await self._leases.give_up(held.key, held.revision):
                found = await self._leases.look(held.key)
                if found.token == held.token:  # A renewal was on its way when it was cancelled.
                    await self._leases.give_up(held.key, found.revision)
        except LeasesUnreachable as error:
            log.info("%s is left to lapse: %s", held.key, error)

    async def _play(self, held: Held) -> None:
        leaving: asyncio.Future[Any] = asyncio.ensure_future(held.leave.wait())
        async with AsyncExitStack() as stack:
            stack.callback(leaving.cancel)
            entering = asyncio.ensure_future(stack.enter_async_context(self._role(held)))
            either: set[asyncio.Future[Any]] = {leaving, entering}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not entering.done():  # It may have to wait for long, and is not wanted any more.
                entering.cancel()
                await asyncio.wait({entering})
                return
            failed = entering.result()
            self._changed()
            await asyncio.wait({leaving, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()

    # -- what is others' ---------------------------------------------------------------------------------------------

    def _heard(self, key: str, holder: Holder | None) -> None:
        other = self._others.get(key)
        if other is None or (holder is not None and holder.worker == self._me.id):
            return
        if holder is None:
            other.looked, other.given_up_at = False, self._clock()  # Look whether it is true, at once.
            self._awake.set()
            return
        other.holder, other.changed_at, other.free_since, other.renewed = holder, self._clock(), None, True

    async def _watch(self, key: str) -> None:
        """Look at a key when what is heard does not say enough; see whether it is free."""
        other, now = self._others[key], self._clock()
        silent_s = now - other.changed_at
        dead = other.holder is not None and is_dead(other.holder.mark)
        if other.looked and other.free_since is None and silent_s < 2 * RENEW_S and not dead:
            return
        found = await self._leases.look(key)
        if found.revision != other.revision and not other.renewed:
            other.changed_at, silent_s = now, 0.0
        other.revision, other.renewed, other.holder = found.revision, False, found.holder
        other.looked = found.holder is None or now - other.given_up_at > RENEW_S
        lapsed = silent_s >= LEASE_S or found.holder is None or is_dead(found.holder.mark)
        mine = found.holder is not None and found.holder.worker == self._me.id  # Taken, and never heard back.
        if not (lapsed or mine):
            other.free_since = None
        elif other.free_since is None:
            other.free_since = now

    def _holders(self) -> dict[str, str]:
        """Who holds what, as far as known; without what is free."""
        holders = dict.fromkeys(self.held, self._me.id)
        for key, other in self._others.items():
            if key not in holders and other.holder is not None and other.free_since is None:
                holders[key] = other.holder.worker
        return holders

    def _workers(self) -> Callable[[str], set[str]]:
        """Who may own a key: me, and whoever is there, takes such and is not known to have died."""
        there = [worker for worker in self._present.workers() if not is_dead(worker.mark)]
        return lambda key: {worker.id for worker in there if self._candidate(worker, key)} | {self._me.id}

    async def _take_free(self) -> None:
        """Take what is free and for me, one after the other: each changes my load."""
        workers = self._workers()
        for key, other in self._others.items():
            if self._stopping or key in self.held or other.free_since is None:
                continue
            turn_s = TURN_S * rank(key, self._me.id, workers(key), self._holders())
            if self._clock() - other.free_since >= turn_s:
                await self._take(key, other)

    async def _take(self, key: str, other: _Other) -> None:
        began = self._clock()
        holder = Holder(self._me.id, self._me.mark, time.time())
        token = await self._leases.write(key, holder, other.revision)
        if token is None:  # Somebody was first.
            other.looked, other.free_since = False, None
            return
        log.info("%s is ours, with token %d", key, token)
        holder = Holder(holder.worker, holder.mark, holder.since, token)
        self.held[key] = held = Held(key, token, holder, self._clock, began)
        self._owning[key] = asyncio.create_task(self._own(held))
        self._settled_at = self._clock()

    def _give_up_surplus(self) -> None:
        if self._stopping or self._clock() - self._settled_at < SETTLE_S:
            return
        holders = self._holders()
        if len(holders) < len(self._others) or any(held.leave.is_set() for held in self.held.values()):
            return  # First comes what nobody has.
        key = surplus(self._me.id, self._workers(), holders)
        if key:
            log.info("%s is given up to a worker with less to do", key)
            self._settled_at = self._clock()
            self.held[key].leave.set()


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
