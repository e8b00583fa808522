"""The command engine: owner of one partition of a log. Decides in memory, writes blocks, answers when they are on disk.

Commands are decided as they arrive, each on the state that the ones before it leave behind, into the block that is
being filled; one block is in flight meanwhile. So a lone command goes at once, a thousand go in two blocks by turns,
the disk busy with one and the processor with the other, and a hot aggregate is as fast as a thousand cold ones. Every
answer, a refusal too, rests on all blocks up to its own and is given only when those are durable. The log's expectation
is the fence: another writer makes this engine slow, never wrong.

Does not speak NATS (see `endpoint.py`) and does not know where states come from (see `states.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec

from bus import metrics, tracing
from bus.commands import Answer, Envelope, Refused, Unavailable, Unknown, digest_of
from bus.engines.deciding import Deciding, Taken, malformed
from bus.engines.filling import Filling, Frame, Item
from bus.engines.partition import Partition
from bus.engines.repeats import REUSED, Repeats
from bus.engines.states import NEVER, UNSURE, Known, MemoryStates, States, StoreUnreachable
from bus.logs.log import Appended, AppendOutcome, Conflict, Log, LogUnreachable, Uncertain, Unstored
from domains.kernel import Domain, Rejected

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")

log = logging.getLogger(__name__)

BLOCK_MIN = 64
"""Fewer commands go into one block all together: two in turn would wait for the disk twice."""
TURN = 8
"""How many commands are decided before the loop has its turn."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What an engine holds at most."""

    queue_max: int = 50_000
    """Commands that wait to be decided; more are answered `overloaded` at once."""
    attempts_max: int = 8
    """How often a command is decided again because another writer was first."""
    repeats_max: int = 64
    """Blocks kept decoded to answer repeated commands."""
    catch_up_retry_s: float = 1.0
    look_every_s: float = 5.0
    """How often it looks whether the log still holds what it wrote."""
    load_retry_s: float = 0.1


class Engine(Generic[State, Command, Event]):
    """Owner of one partition. `start` reads the log, `submit` takes frames, `stop` finishes what was begun.

    Where it does not `hold` the partition, as far as it can tell, a conflict is not fought over: what it was about to
    decide anew may have been refused by the other owner meanwhile.
    """

    def __init__(
        self,
        domain: Domain[State, Command, Event],
        log: Log,
        *,
        partition: int = 0,
        partitions: int = 1,
        states: States[State] | None = None,
        limits: EngineLimits | None = None,
        now: Callable[[], float] = time.time,
        holds: Callable[[], bool] = lambda: True,
        progress: Callable[[int, int], None] = lambda done, total: None,
        durable: Callable[[int, str], None] = lambda sequence, block_hash: None,
    ) -> None:
        self._domain = domain
        self._states: States[State] = states or MemoryStates(domain)
        self._limits = limits or EngineLimits()
        self._now = now
        self._holds = holds
        retry_s = self._limits.catch_up_retry_s
        self._partition = Partition(
            domain, log, partition, self._states, progress=progress, retry_s=retry_s, durable=durable
        )
        self._deciding = Deciding(domain, partition, partitions)
        self._queue: deque[Item] = deque()
        self._unknown: deque[Item] = deque()
        """What waits for states to be loaded; what comes for other aggregates overtakes it."""
        self._loading: asyncio.Task[None] | None = None
        self._background: list[asyncio.Task[None]] = []
        self._waiting = metrics.engine_queue.labels(domain.name)
        self._filling: Filling[State] = Filling()
        self._flying: Filling[State] | None = None
        self._flight: asyncio.Task[None] | None = None
        self._turn: asyncio.Handle | None = None
        self._repeats = Repeats(domain.name, log, self._partition, self._limits.repeats_max, self.halt)
        self._refusing = ""
        """Why the log does not take blocks, as long as it does not."""
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        """Raises what stopped the engine for good, such as a damaged log; done without an error: it gave way."""

    @property
    def waiting(self) -> int:
        """How many commands wait to be decided."""
        return len(self._queue) + len(self._unknown)

    @property
    def position(self) -> int:
        """The last block of the partition that is known to be durable."""
        return self._partition.position

    async def start(self) -> None:
        """Read the log from where the states stand to its end. Raises `LogDamaged` when it is not what it was."""
        await self._partition.open()
        for background in (self._states.keep(), self._watch()):
            task = self._loop.create_task(background)
            task.add_done_callback(self._ended)
            self._background.append(task)

    def submit(self, frame: Sequence[Envelope], commands: Sequence[Command] = ()) -> asyncio.Future[list[Answer]]:
        """Take a frame; the future gives one answer a command, in order, once all of them are definite.

        `commands` are those of the envelopes where the caller, in this process, has them decoded.
        """
        done: asyncio.Future[list[Answer]] = self._loop.create_future()
        if not frame:
            done.set_result([])
            return done
        waiting_max = self._limits.queue_max - len(self._unknown) - len(frame)
        if self._closed or len(self._queue) > waiting_max or not self._states.room:
            code = "stopping" if self._closed else "overloaded"
            metrics.commands_answered.labels(self._domain.name, code).inc(len(frame))
            done.set_result([Unavailable(code)] * len(frame))
            return done
        waiting = Frame.of(len(frame), done)
        queue = self._queue
        for index, envelope in enumerate(frame):
            digest = envelope.digest or digest_of(envelope.command)
            queue.append(Item(envelope, digest, waiting, index, commands[index] if commands else None))
        if self._turn is None:
            self._pump()
        return done

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Take no more; finish what waits, as far as the time goes, and tell the rest that nothing was written."""
        self._closed = True
        deadline = self._loop.time() + timeout_s
        while (running := self._running()) and (left_s := deadline - self._loop.time()) > 0:
            await asyncio.wait(running, timeout=left_s)
        while running := self._running():
            for task in running:
                task.cancel()
            await asyncio.wait(running)
        self._abandon("stopping")
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)

    def _running(self) -> set[asyncio.Task[None]]:
        return {*self._repeats.running, *(task for task in (self._flight, self._loading) if task is not None)}

    async def _watch(self) -> None:
        """Until cancelled: look whether the log still holds what was written, in times when nobody writes, too."""
        while True:
            await asyncio.sleep(self._limits.look_every_s)
            with suppress(LogUnreachable):  # The next look will tell.
                await self._partition.still_holds()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.halt(error)

    def halt(self, error: BaseException) -> None:
        """Stop for good: nothing is written any more, and whoever waits is told."""
        if self.failed.done():
            return
        log.critical("the engine of %s halts: %s", self._partition, error)
        self._closed = True
        self.failed.set_exception(error)
        if self._flight is not None and not self._flight.done():
            self._flight.cancel()
        self._abandon("halted")

    def _abandon(self, code: str) -> None:
        """Answer everything that waits for a block."""
        for item in self._flying.waiting if self._flying else ():
            item.answer(Unknown(code))  # It may have been stored: that is for the log to say.
        for item in (*self._filling.waiting, *self._queue, *self._unknown):
            item.give_up(code)
        self._flying, self._filling = None, Filling()
        self._queue.clear()
        self._unknown.clear()

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Send a block off when no other is in flight: half of what waits, and the rest is decided meanwhile."""
        if self._flight is None:
            filling = self._filling
            self._decide(max(BLOCK_MIN, (len(filling.waiting) + len(self._queue) + 1) // 2))
            if filling.waiting:
                self._ship()
        if self._turn is None and self._queue and not self._filling.full:
            self._turn = self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Decide some more while a block is in flight, and let the loop do in between what else is to be done: first of
        all, send that block."""
        self._turn = None
        if self._flight is not None:
            if self._flying is None:
                return  # Catching up: what is known may be stale.
            self._decide(len(self._filling.waiting) + TURN)
        self._pump()

    def _decide(self, enough: int) -> None:
        """Decide what waits, until so many commands wait for the block that is being filled or no more fit into it."""
        queue, filling = self._queue, self._filling
        while queue and len(filling.waiting) < enough and not filling.full and self._take(queue[0]):
            queue.popleft()
        if self._unknown and self._loading is None:
            self._loading = self._loop.create_task(self._load())
            self._loading.add_done_callback(self._loaded)

    def _take(self, item: Item) -> bool:
        """Decide one command. False: it does not fit into this block any more."""
        envelope = item.envelope
        filling, flying = self._filling, self._flying
        if (first := filling.decided.get(envelope.id)) is not None:
            filling.tell(item, first if first.digest == item.digest else REUSED)
            return True
        if flying is not None and (first := flying.decided.get(envelope.id)) is not None:
            flying.tell(item, first if first.digest == item.digest else REUSED)
            return True
        answered = self._states.answered(envelope.id)
        if answered == UNSURE:
            if item.looked_up != self._states.forgotten:
                self._unknown.append(item)
                return True
            answered = NEVER
        if answered != NEVER:
            self._repeats.give(item, answered)
            return True
        if envelope.deadline < self._now():
            item.give_up("deadline_passed")
            metrics.commands_answered.labels(self._domain.name, "expired").inc()
            return True
        if item.attempts > self._limits.attempts_max:
            item.give_up("contended")
            metrics.commands_answered.labels(self._domain.name, "contended").inc()
            return True
        try:
            taken = self._deciding.decide(item, filling, self._known)
            if taken is Taken.NOT_KNOWN:
                self._unknown.append(item)
            return taken is not Taken.NO_ROOM
        except Rejected as refusal:
            filling.tell(item, Refused(refusal.code, refusal.detail, refusal.field))
            return True
        except msgspec.ValidationError as error:
            item.answer(malformed(error))
            return True
        except msgspec.DecodeError as error:
            item.answer(Refused("malformed", str(error)))
            return True
        except Exception:  # A defect in a decider: this command is answered alone, its neighbours go on.
            log.exception("deciding %s of %s failed", envelope.id, self._domain.name)
            item.answer(Refused("internal_error", "the command could not be decided; nothing was written"))
            return True

    async def _load(self) -> None:
        """Load what the commands that wait for it need, in one hop, and decide them next."""
        items = list(self._unknown)
        aggregates: set[str] = set()
        for item in items:
            with suppress(msgspec.DecodeError):  # It is answered when it is decided.
                aggregates.update(name for name in self._deciding.targets(item) if self._known(name) is None)
        ids = {item.envelope.id for item in items if self._states.answered(item.envelope.id) == UNSURE}
        try:
            await self._states.load(aggregates, ids)
        except StoreUnreachable as error:
            log.warning("%s: %s; trying again", self._partition, error)
            await asyncio.sleep(self._limits.load_retry_s)
            now = self._now()
            for item in items:
                if item.envelope.deadline < now:
                    self._unknown.remove(item)
                    item.give_up("states_unreachable")
            return
        for item in items:
            item.looked_up = self._states.forgotten
            self._unknown.popleft()
        self._queue.extendleft(reversed(items))

    def _loaded(self, task: asyncio.Task[None]) -> None:
        self._loading = None
        if task.cancelled():
            return
        if error := task.exception():
            self.halt(error)
            return
        self._pump()

    def _known(self, aggregate: str) -> Known[State] | None:
        known = self._filling.touched.get(aggregate)
        if known is None and self._flying is not None:
            known = self._flying.touched.get(aggregate)
        return self._states.get(aggregate) if known is None else known

    # -- writing -----------------------------------------------------------------------------------------------------

    def _ship(self) -> None:
        block, self._filling = self._filling, Filling()
        self._flying = block
        self._waiting.set(len(self._queue))
        self._flight = self._loop.create_task(self._fly(block))
        self._flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if flight.cancelled():
            return
        if error := flight.exception():
            self.halt(error)
            return
        self._pump()

    async def _fly(self, block: Filling[State]) -> None:
        """Make what the answers rest on durable, whatever it takes, and give them; on trouble decide again."""
        outcome = await (self._append(block) if block.commits else self._partition.confirm())
        match outcome:
            case Appended(sequence):
                self._flying = None
                if self._refusing and block.commits:
                    log.info("%s: the log takes blocks again", self._partition)
                    self._refusing = ""
                for kind, count in block.answer(sequence).items():
                    metrics.commands_answered.labels(self._domain.name, kind).inc(count)
            case Unstored(reason):
                if reason != self._refusing:
                    log.error("%s: %s; commands are refused", self._partition, outcome)
                    self._refusing = reason
                metrics.append_troubles.labels(self._domain.name, "unstored").inc()
                self._refuse(block, reason)
            case Conflict() if not self._holds():
                log.warning("%s: another owner writes, and this one gives way", self._partition)
                self._closed = True
                self._give_way(block)
            case Conflict() | Uncertain():
                kind = "conflict" if isinstance(outcome, Conflict) else "uncertain"
                log.warning("%s: %s; reading the log again", self._partition, outcome)
                metrics.append_troubles.labels(self._domain.name, kind).inc()
                await self._decide_again(block, outcome)

    def _refuse(self, block: Filling[State], reason: str) -> None:
        """Say that the log did not take the block; decide again what was decided on top of it."""
        for item in block.waiting:
            item.give_up(reason)
            metrics.commands_answered.labels(self._domain.name, reason).inc()
        self._queue.extendleft(reversed(self._filling.waiting))
        self._flying, self._filling = None, Filling()

    def _give_way(self, block: Filling[State]) -> None:
        """What was on its way here is the other owner's to decide, and may have been sent to it by now."""
        for item in block.waiting:
            item.give_up("not_owner")
        self._flying = None
        self._abandon("not_owner")
        if not self.failed.done():
            self.failed.set_result(None)

    async def _append(self, block: Filling[State]) -> AppendOutcome:
        if not tracing.collected():
            outcome = await self._partition.append(block.commits, datetime.fromtimestamp(self._now(), UTC))
        else:
            outcome = await self._append_traced(block)
        if isinstance(outcome, Appended):
            self._states.advance(outcome.sequence, block.touched, block.decided)
        return outcome

    async def _append_traced(self, block: Filling[State]) -> AppendOutcome:
        """A block is a span of its own, linked to the commands that it answers: it belongs to all of their traces."""
        traces = (item.envelope.trace for item in block.waiting)
        about = {"tally.commits": len(block.commits), "tally.commands": len(block.waiting)}
        with tracing.span(f"append {self._domain.name}", links=traces, attributes=about) as span:
            outcome = await self._partition.append(block.commits, datetime.fromtimestamp(self._now(), UTC))
            if isinstance(outcome, Appended):
                span.tell("tally.position", f"{self._domain.name}={outcome.sequence}")
            else:
                span.failed(str(outcome))
            return outcome

    async def _decide_again(self, block: Filling[State], outcome: Conflict | Uncertain) -> None:
        """Throw away everything uncommitted, put its commands back into the queue, and read what was stored."""
        uncertain = isinstance(outcome, Uncertain) and bool(block.commits)
        for item in block.waiting:
            item.doubtful |= uncertain
        items = [*block.waiting, *self._filling.waiting]
        for item in items:
            item.attempts += 1
        self._queue.extendleft(reversed(items))
        self._flying = None
        self._filling = Filling()
        position = self.position
        await self._partition.catch_up()
        if self.position == position and isinstance(outcome, Conflict):  # No other writer explains it.
            with suppress(LogUnreachable):  # The next attempt will tell.
                await self._partition.still_holds()
        if self.position > position:  # What may still be on its way expects the log as it was: it comes too late.
            for item in self._queue:
                item.doubtful = False
