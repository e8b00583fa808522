"""The command engine: owner of one partition of a log. Decides in memory, writes blocks, answers when they are on disk.

Commands are decided as they arrive, each on the state that the ones before it leave behind, into the block that is
being filled; one block is in flight meanwhile. So a lone command goes at once, a thousand go together, and a hot
aggregate is as fast as a thousand cold ones. Every answer, a refusal too, rests on all blocks up to its own and is
given only when those are durable. The log's expectation is the fence: another writer makes this engine slow, never
wrong.

Does not speak NATS (see `bus/endpoint.py`) and does not know where states come from (see `bus/states.py`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from bus import metrics
from bus.blocks import GENESIS, Chain, decoder_of, hash_of, seal
from bus.commands import Answer, Envelope, Refused, Stored, Unavailable, Unchanged, Unknown
from bus.deciding import Deciding, malformed
from bus.filling import Decided, Filling, Frame, Item
from bus.log import Appended, AppendOutcome, Conflict, Log, LogDamaged, LogUnreachable, Uncertain
from bus.states import Known, MemoryStates, States, fold_block
from bus.stored import StoredBlocks
from domains.kernel import Domain, Rejected

State = TypeVar("State")
Command = TypeVar("Command")
Event = TypeVar("Event")

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


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


class Engine(Generic[State, Command, Event]):
    """Owner of one partition. `start` reads the log, `submit` takes frames, `stop` finishes what was begun."""

    def __init__(
        self,
        domain: Domain[State, Command, Event],
        log: Log,
        *,
        partition: int = 0,
        states: States[State] | None = None,
        limits: EngineLimits | None = None,
        now: Callable[[], float] = time.time,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._domain = domain
        self._log = log
        self._partition = partition
        self._states: States[State] = states or MemoryStates(domain)
        self._limits = limits or EngineLimits()
        self._now = now
        self._progress = progress
        self._deciding = Deciding(domain)
        self._decode_block = decoder_of(domain).decode
        self._chain = Chain(log.epoch, whole=True)
        self._queue: deque[Item] = deque()
        self._waiting = metrics.engine_queue.labels(domain.name)
        self._filling: Filling[State] = Filling()
        self._flying: Filling[State] | None = None
        self._flight: asyncio.Task[None] | None = None
        self._stored = StoredBlocks(log, self._decode_block, self._limits.repeats_max)
        self._repeating: dict[asyncio.Task[None], Item] = {}
        self._closed = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises what stopped the engine for good, such as a damaged log."""

    @property
    def position(self) -> int:
        """The last block of the partition that is known to be durable."""
        return self._states.sequence

    async def start(self) -> None:
        """Read the log up to its end. Raises `LogDamaged` when it is not what it was."""
        await self._catch_up()

    def submit(self, frame: Sequence[Envelope], commands: Sequence[Command] = ()) -> asyncio.Future[list[Answer]]:
        """Take a frame; the future gives one answer a command, in order, once all of them are definite.

        `commands` are those of the envelopes where the caller, in this process, has them decoded.
        """
        done: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        if not frame:
            done.set_result([])
            return done
        if self._closed or len(self._queue) + len(frame) > self._limits.queue_max:
            code = "stopping" if self._closed else "overloaded"
            metrics.commands_answered.labels(self._domain.name, code).inc(len(frame))
            done.set_result([Unavailable(code)] * len(frame))
            return done
        waiting = Frame(len(frame), done)
        queue = self._queue
        for index, envelope in enumerate(frame):
            queue.append(Item(envelope, waiting, index, commands[index] if commands else None))
        self._pump()
        return done

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Take no more; finish what waits, as far as the time goes, and tell the rest that nothing was written."""
        self._closed = True
        deadline = asyncio.get_running_loop().time() + timeout_s
        while (running := self._running()) and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(running, timeout=left_s)
        while running := self._running():
            for task in running:
                task.cancel()
            await asyncio.wait(running)
        self._abandon("stopping")

    def _running(self) -> set[asyncio.Task[None]]:
        return {*self._repeating, *([self._flight] if self._flight else [])}

    def _abandon(self, code: str) -> None:
        """Answer everything that waits for a block."""
        for item, _ in self._flying.waiting if self._flying else ():
            item.answer(Unknown(code))  # It may have been stored: that is for the log to say.
        for item in (*(item for item, _ in self._filling.waiting), *self._queue):
            item.give_up(code)
        self._flying, self._filling = None, Filling()
        self._queue.clear()

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Decide what waits into the block being filled, and send that off when no other is in flight."""
        if self._flight is not None and self._flying is None:
            return  # Catching up: what is known may be stale.
        queue = self._queue
        while queue and not self._filling.full and self._take(queue[0]):
            queue.popleft()
        if self._flight is None and self._filling.waiting:
            self._ship()

    def _take(self, item: Item) -> bool:
        """Decide one command. False: it does not fit into this block any more."""
        envelope = item.envelope
        filling, flying = self._filling, self._flying
        if (first := filling.decided.get(envelope.id)) is not None:
            filling.waiting.append((item, first if first.digest == item.digest else _REUSED))
            return True
        if flying is not None and (first := flying.decided.get(envelope.id)) is not None:
            flying.waiting.append((item, first if first.digest == item.digest else _REUSED))
            return True
        if (answered := self._states.answered(envelope.id)) is not None:
            task = asyncio.get_running_loop().create_task(self._repeat(item, answered))
            self._repeating[task] = item
            task.add_done_callback(self._repeated)
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
            return self._deciding.decide(item, filling, self._known)
        except Rejected as refusal:
            filling.waiting.append((item, Refused(refusal.code, refusal.detail, refusal.field)))
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

    def _known(self, aggregate: str) -> Known[State]:
        known = self._filling.touched.get(aggregate)
        if known is None and self._flying is not None:
            known = self._flying.touched.get(aggregate)
        return self._states.get(aggregate) if known is None else known

    # -- writing -----------------------------------------------------------------------------------------------------

    def _ship(self) -> None:
        block, self._filling = self._filling, Filling()
        self._flying = block
        self._waiting.set(len(self._queue))
        self._flight = asyncio.get_running_loop().create_task(self._fly(block))
        self._flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flight = None
        if flight.cancelled():
            return
        if error := flight.exception():
            log.critical("the engine of %s/%d halts: %s", self._domain.name, self._partition, error)
            self._closed = True
            if not self.failed.done():
                self.failed.set_exception(error)
            self._abandon("halted")
            return
        self._pump()

    async def _fly(self, block: Filling[State]) -> None:
        """Make what the answers rest on durable, whatever it takes, and give them; on trouble decide again."""
        outcome = await (self._append(block) if block.commits else self._confirm())
        match outcome:
            case Appended(sequence):
                self._flying = None
                self._answer(block, sequence)
            case Conflict() | Uncertain():
                kind = "conflict" if isinstance(outcome, Conflict) else "uncertain"
                log.warning("%s/%d: %s; reading the log again", self._domain.name, self._partition, outcome)
                metrics.append_troubles.labels(self._domain.name, kind).inc()
                await self._decide_again(block, uncertain=isinstance(outcome, Uncertain) and bool(block.commits))

    async def _append(self, block: Filling[State]) -> AppendOutcome:
        prev = self._chain.tips.get(self._partition, GENESIS)
        data = seal(self._log.epoch, datetime.fromtimestamp(self._now(), UTC), prev, block.commits)
        block_hash = hash_of(data)
        began = time.perf_counter()
        outcome = await self._log.append(self._partition, data, block_hash, self.position)
        metrics.append_seconds.labels(self._domain.name).observe(time.perf_counter() - began)
        if isinstance(outcome, Appended):
            metrics.blocks_appended.labels(self._domain.name).inc()
            self._chain.tips[self._partition] = block_hash
            self._states.advance(outcome.sequence, block.touched, block.decided)
        return outcome

    async def _confirm(self) -> AppendOutcome:
        """Nothing is to be written, but the answers are final: has another owner written since what they rest on?"""
        try:
            if await self._log.head() <= max(self.position, 1):
                return Appended(self.position)
            last = await self._log.last(self._partition)
        except LogUnreachable as error:
            return Uncertain(str(error))
        return Appended(self.position) if (last.sequence if last else 0) == self.position else Conflict()

    async def _decide_again(self, block: Filling[State], *, uncertain: bool) -> None:
        """Throw away everything uncommitted, put its commands back into the queue, and read what was stored."""
        for item, _ in block.waiting:
            item.doubtful |= uncertain
        items = [item for item, _ in (*block.waiting, *self._filling.waiting)]
        for item in items:
            item.attempts += 1
        self._queue.extendleft(reversed(items))
        self._flying = None
        self._filling = Filling()
        position = self.position
        await self._catch_up()
        if self.position > position:  # What may still be on its way expects the log as it was: it comes too late.
            for item in self._queue:
                item.doubtful = False

    async def _catch_up(self) -> None:
        """Read the partition up to the log's end, until that succeeds."""
        while True:
            try:
                head = await self._log.head()
                position = self.position
                if head < position:
                    raise LogDamaged(f"{self._log.name} ends at {head}, but {position} was read before")
                async for batch in self._log.read(position, head):
                    for record in batch:
                        if record.partition == self._partition:
                            block = self._chain.follow(record, self._decode_block)
                            fold_block(self._domain, self._states, record.sequence, block.commits)
                    self._progress(batch[-1].sequence, head)
                return
            except LogUnreachable as error:
                log.warning(
                    "%s cannot be read (%s); trying again", self._domain.name, str(error) or type(error).__name__
                )
                await asyncio.sleep(self._limits.catch_up_retry_s * random.uniform(0.5, 1.0))

    # -- answering ---------------------------------------------------------------------------------------------------

    def _answer(self, block: Filling[State], position: int) -> None:
        counts = dict.fromkeys(("stored", "repeated", "unchanged", "refused", "unknown"), 0)
        for item, outcome in block.waiting:
            answer: Answer
            if item.doubtful and not block.commits:
                answer, kind = Unknown("an earlier attempt may still be stored"), "unknown"
            elif isinstance(outcome, Decided):
                answer = Stored(position, outcome.version, outcome.events, outcome.told)
                kind = "repeated" if outcome.told else "stored"
                outcome.told = True
            elif isinstance(outcome, int):
                answer, kind = Unchanged(position, outcome), "unchanged"
            else:
                answer, kind = outcome, "refused"
            counts[kind] += 1
            item.frame.put(item.index, answer)
        for kind, count in counts.items():
            if count:
                metrics.commands_answered.labels(self._domain.name, kind).inc(count)

    async def _repeat(self, item: Item, sequence: int) -> None:
        """Give the first answer again, from the log."""
        try:
            block = await self._stored.get(sequence)
        except (LogUnreachable, msgspec.DecodeError) as error:
            log.warning("block %d cannot be read: %s", sequence, str(error) or type(error).__name__)
            item.answer(Unknown("log_unreachable"))  # It was stored; what it did cannot be told now.
            return
        first = next(commit for commit in block.commits if commit.id == item.envelope.id)
        if first.digest != item.digest:
            item.answer(_REUSED)
            metrics.commands_answered.labels(self._domain.name, "refused").inc()
            return
        item.answer(Stored(sequence, first.version, Raw(_encode(first.events)), repeated=True))
        metrics.commands_answered.labels(self._domain.name, "repeated").inc()

    def _repeated(self, task: asyncio.Task[None]) -> None:
        item = self._repeating.pop(task)
        if task.cancelled():  # Perhaps before it began.
            item.answer(Unknown("stopping"))


_REUSED = Refused("id_reused", "this id was used for another command before")
