"""One reader a stream: it hands decoded, checked blocks to every live read model of that stream.

What a read model cannot handle is parked with its key; where that cannot be, it is taken out of the feed, loudly, and
the others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import msgspec

from bus import tracing
from bus.announcements import Announcer, RebuildProgress, Standing
from bus.logs.blocks import BlockDecoder, Chain, hash_of
from bus.logs.log import Log, LogDamaged, LogUnreachable
from projections.batches import Batch, ReadBlock
from projections.files import ReadModelFiles
from projections.lag import Head, Lag
from projections.projection import Projection
from projections.store import LeaseLost, OtherFormat, Position, Store

Argument = TypeVar("Argument")
Result = TypeVar("Result")

RETRY_S = 0.2
LOOK_EVERY_S = 1.0

log = logging.getLogger(__name__)

Decoder = BlockDecoder[object]


async def batches(
    source: Log, decoder: Decoder, position: Position, until: int | None = None
) -> AsyncGenerator[tuple[Batch, int], None]:
    """Checked batches after a position, each with the head of the log as it was then seen.

    Raises `LogDamaged` when the log is another one than the position is of, or does not continue it.
    """
    await continues(source, position)
    chain = Chain(source.epoch, position.tips, whole=position.sequence == 0)
    async for records in source.read(position.sequence, until):
        blocks: list[ReadBlock] = []
        for record in records:
            block = chain.follow(record, decoder.decode)
            blocks.append(ReadBlock(record.sequence, block.at, block.commits))
        yield Batch(blocks, dict(chain.tips)), records[-1].sequence + records[-1].pending


async def continues(source: Log, position: Position) -> None:
    """Raise `LogDamaged` unless the log still holds, where this position is, the block that it was reached by."""
    if position.epoch != source.epoch:
        raise LogDamaged(f"{source.name} is of epoch {source.epoch}, the read model of {position.epoch}")
    while position.sequence:
        try:
            record = await source.get(position.sequence)
        except LogUnreachable as error:
            log.warning("%s cannot be read (%s); trying again", source.name, error)
            await asyncio.sleep(RETRY_S)
            continue
        if record is None or position.tips.get(record.partition) != hash_of(record.data):
            raise LogDamaged(f"{source.name} does not hold at {position.sequence} what was read there before")
        return


def remembered_position(projection: Projection, folder: Path) -> Position | None:
    """Where the live file of a read model stands, for whoever only looks; None where there is none of this version."""
    files = ReadModelFiles(folder)
    live = files.live(projection.name)
    if live is None or not files.is_of(live, projection):
        return None
    try:
        with Store.look(projection, live) as store:
            return store.position
    except OtherFormat:
        return None


class Feed:
    """Keeps the read models of one stream up to date. `lock` is held while rows are written: whoever holds it sees
    them all at their `stores[name].position`. `outdated` are those whose live file other code made: it shows what it
    shows, until somebody has built another one beside it. `opened` is set once all that is known."""

    def __init__(
        self, source: Log, decoder: Decoder, projections: Sequence[Projection], files: ReadModelFiles, told: Announcer
    ) -> None:
        self.source = source
        self.decoder = decoder
        self.projections = {projection.name: projection for projection in projections}
        self.stores: dict[str, Store] = {}
        self.errors: dict[str, str] = {}
        self.rebuilds: dict[str, RebuildProgress] = {}
        self.outdated: set[str] = set()
        self.opened = asyncio.Event()
        self.lock = asyncio.Lock()
        self._files = files
        self._told = told
        self._sequences: dict[str, int] = {}
        self._supplanted: set[str] = set()
        self._head = Head()
        self._lag = Lag()
        self._again = asyncio.Event()
        self._looked = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        for projection in self.projections.values():
            await whole(self._open, projection)
        self.opened.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_at_head())
            tasks.create_task(self._repeat_standings())
            while True:
                self._again.clear()
                reading = tasks.create_task(self._read())
                again = tasks.create_task(self._again.wait())
                await asyncio.wait({reading, again}, return_when=asyncio.FIRST_COMPLETED)
                again.cancel()
                reading.cancel()
                await asyncio.wait({reading, again})

    def swap(self, store: Store) -> None:
        """Go on with another file of a read model. The caller holds `lock`."""
        name = store.projection.name
        if name in self.stores:
            self.stores.pop(name).close()
        self.stores[name] = store
        self.outdated.discard(name)
        self.errors.pop(name, None)
        self._sequences[name] = store.position.sequence
        self._again.set()

    @contextmanager
    def owned(self, name: str) -> Iterator[None]:
        """For a switch: nobody else takes this read model over meanwhile. Raises `LeaseLost` where somebody has. The
        file of one that halted is not asked: it may be what halted it; nor is another version's."""
        if name in self._supplanted:
            raise LeaseLost(self.errors[name])
        asked = name in self.stores and name not in self.errors
        with self.stores[name].owned() if asked else nullcontext():
            yield

    def sequence(self, name: str) -> int:
        """Up to where a read model's rows are written."""
        return self._sequences.get(name, 0)

    async def announce(self, name: str) -> None:
        """Tell where a read model stands. Of one that another process writes, that one tells."""
        if name in self._supplanted:
            return
        projection = self.projections[name]
        sequence = self.sequence(name)
        head = max(self._head.sequence, sequence)
        store = self.stores.get(name)
        parked = store.parked if store is not None else {}
        events, at = (store.events, store.at) if store is not None else (0, None)
        await self._told.announce(
            Standing(
                name=name,
                version=projection.version,
                stream=projection.stream,
                sequence=sequence,
                head=head,
                error=self.errors.get(name, ""),
                rebuild=self.rebuilds.get(name),
                head_age_s=self._head.age_s(),
                lag_events=self._lag.events(sequence, head, events),
                lag_s=self._lag.seconds(name, sequence, self._head, at),
                parked_keys=len(parked),
                parked_commits=sum(parked.values()),
            )
        )

    def close(self) -> None:
        for store in self.stores.values():
            store.close()

    async def _read(self) -> None:
        async with self.lock:
            for name, store in self.stores.items():
                self._sequences[name] = store.position.sequence  # A read that was cancelled may have written on.
                try:
                    await continues(self.source, store.position)
                except LogDamaged as error:
                    log.critical("read model %s halts: %s", name, error)
                    self.errors.setdefault(name, str(error))
                    await self.announce(name)
        feeding = [name for name in self.stores if name not in self.errors]
        if not feeding:
            await asyncio.Event().wait()  # Until a rebuild swaps a store in.
        lowest = min((self.stores[name].position for name in feeding), key=lambda position: position.sequence)
        try:
            async for batch, head in batches(self.source, self.decoder, lowest):
                self._head.saw(head)
                about = {"tally.position": f"{self.source.name}={batch.blocks[-1].sequence}"}
                with tracing.span(f"project {self.source.name}", "consumer", links=_traces(batch), attributes=about):
                    async with self.lock, asyncio.TaskGroup() as tasks:
                        for name in feeding:
                            tasks.create_task(self._show(name, batch))
                feeding = [name for name in feeding if name not in self.errors]
                if not feeding:
                    return
        except (LogDamaged, msgspec.DecodeError) as error:
            log.critical("the read models of %s halt: %s", self.source.name, error)
            for name in feeding:
                self.errors[name] = str(error)
                await self.announce(name)
            await asyncio.Event().wait()

    async def _show(self, name: str, batch: Batch) -> None:
        """Write it and say so, side by side with the others: whoever waits for one waits for no other one's disk."""
        if name not in self.errors:
            await self._apply(name, batch)
        await self.announce(name)

    async def _apply(self, name: str, batch: Batch) -> None:
        try:
            self._sequences[name] = await whole(self.stores[name].apply, batch)
        except LeaseLost as error:
            log.critical("read model %s is left to another process: %s", name, error)
            self.errors[name] = f"{type(error).__name__}: {error}"
            self._supplanted.add(name)
        except Exception as error:  # A defect that no key is to blame for, or a full disk. The other ones go on.
            log.exception("read model %s halts before position %d", name, batch.blocks[-1].sequence)
            self.errors[name] = f"{type(error).__name__}: {error}"

    async def _look_at_head(self) -> None:
        """See the log's end move, also while nothing comes: who only reads does not know what he lacks."""
        while True:
            try:
                self._head.saw(await self.source.head())
            except (LogUnreachable, LogDamaged) as error:  # Damage halts the reader, which looks for itself.
                log.warning("the head of %s cannot be read: %s", self.source.name, error)
            self._looked.set()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _repeat_standings(self) -> None:
        await self._looked.wait()  # Or the first ones would say that nobody knows.
        while True:
            question = self._told.question
            for name in self.projections:
                await self.announce(name)
            await self._told.pause(question)

    def _open(self, projection: Projection) -> None:
        """The live file; a new one where there is none. One of another version or release is left as it is."""
        name = projection.name
        while (live := self._files.live(name)) is not None:
            try:
                if not self._files.is_of(live, projection):
                    with Store.look(projection, live) as old:
                        self._sequences[name] = old.position.sequence
                    self.outdated.add(name)
                    return
                store = Store.open(projection, live)
            except OtherFormat as error:
                log.warning("%s", error)
                self.outdated.add(name)
                return
            if self._files.live(name) == live:
                break
            store.close()  # Whoever had the lease has switched to another file just before it was taken.
        else:
            path = self._files.next_build(projection)
            log.info("read model %s is built as %s", name, path.name)
            store = Store.create(projection, path, self.source.epoch)
            self._files.switch(name, path)
        self.stores[name] = store
        self._sequences[name] = store.position.sequence


def _traces(batch: Batch) -> Iterator[str]:
    return (commit.trace for block in batch.blocks for commit in block.commits)


async def whole(work: Callable[[Argument], Result], argument: Argument) -> Result:
    """Run work in a thread and wait for its end, even when cancelled: a transaction is never left running, and no file
    is closed under a thread that still reads it, which ends the whole process."""
    running = asyncio.ensure_future(asyncio.to_thread(work, argument))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
