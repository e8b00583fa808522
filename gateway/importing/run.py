"""Sends lives through the command path: many at once, the steps of each in order, patiently.

A broker or a worker that dies in the middle is waited for. What was sent is sent again under the same id, so that
nothing is written twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

import msgspec
from msgspec import Struct

from bus.commands import Answer, Refused, Stored, Unavailable, Unchanged, Unknown
from bus.sender import COMMAND_TIMEOUT_S, Sender
from domains.inventory.messages import InventoryEvent, StockRefused
from gateway.importing.plan import Life, Step

ACTOR = "import"

OnProgress = Callable[[int, int], None]
"""Hears how many lives are done, of how many."""

_decode_stock = msgspec.json.Decoder(list[InventoryEvent]).decode


class ImportFailed(Exception):
    """The import cannot go on. What was sent is safe, and another run goes on from there."""


class Patience(Struct, frozen=True):
    """How much goes on at once, and how long a command that cannot be answered is sent again."""

    in_flight_max: int = 256
    answer_within_s: float = COMMAND_TIMEOUT_S
    give_up_after_s: float = 60.0
    backoff_s: float = 0.05
    backoff_max_s: float = 2.0


class Refusal(Struct, frozen=True):
    """A step that a domain refused; what would have come after it in that life was not sent."""

    subject: str
    command: str
    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.command} was refused: {self.code}{': ' if self.detail else ''}{self.detail}"


class Sent(Struct):
    """What came of it. `repeated`: answered by an earlier run. `kept`: products and customers that existed otherwise
    and stay so.

    `positions` are the highest of each domain: a read model that is there shows everything.
    """

    lives: int = 0
    stored: int = 0
    repeated: int = 0
    unchanged: int = 0
    kept: int = 0
    retries: int = 0
    refusals: list[Refusal] = []
    positions: dict[str, int] = {}


async def run(
    lives: Iterator[Life],
    total: int,
    sender: Sender,
    on_progress: OnProgress = lambda done, total: None,
    patience: Patience = Patience(),  # noqa: B008  # Frozen.
    sent: Sent | None = None,
) -> Sent:
    """Send all of them; what comes of it is added to what was `sent` before. Raises `ImportFailed` when nobody answers
    for too long."""
    running = _Run(sender, patience, sent or Sent())

    async def work() -> None:
        for life in lives:  # All workers take from the same iterator.
            await running.live(life)
            on_progress(running.sent.lives, total)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(patience.in_flight_max, total)):
                tasks.create_task(work())
    except BaseExceptionGroup as troubles:  # The first is what ended it.
        raise troubles.exceptions[0] from None
    return running.sent


class _Run:
    def __init__(self, sender: Sender, patience: Patience, sent: Sent) -> None:
        self._sender = sender
        self._patience = patience
        self.sent = sent

    async def live(self, life: Life) -> None:
        for step in life.steps:
            refusal = self._count(life, step, await self._insist(life, step))
            if refusal is not None:
                self.sent.refusals.append(refusal)
                break
        self.sent.lives += 1

    async def _insist(self, life: Life, step: Step) -> Stored | Unchanged | Refused:
        """Send a command until there is an answer that will not change."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience.give_up_after_s
        tries = 0
        while True:
            answer: Answer = await self._sender.send(
                step.command,
                id=step.id,
                actor=ACTOR,
                correlation=life.subject,
                expect=step.expect,
                occurred_at=step.occurred_at,
                timeout_s=self._patience.answer_within_s,
            )
            match answer:
                case Stored() | Unchanged() | Refused():
                    return answer
                case Unavailable(code):
                    reason = code
                case Unknown(reason):
                    pass
            tries += 1
            self.sent.retries += 1
            ceiling = min(self._patience.backoff_max_s, self._patience.backoff_s * 2.0 ** min(tries, 16))
            pause_s = ceiling * random.uniform(0.5, 1.0)
            if loop.time() + pause_s > give_up_at:
                raise ImportFailed(
                    f"no answer to {step.id} in {self._patience.give_up_after_s:g} s ({reason}): what was sent is safe;"
                    " see that everything runs, then run the import again, it goes on from here"
                )
            await asyncio.sleep(pause_s)

    def _count(self, life: Life, step: Step, answer: Stored | Unchanged | Refused) -> Refusal | None:
        """Take an answer down; a refusal when the life cannot go on."""
        sent, command = self.sent, type(step.command).__name__
        match answer:
            case Refused("version_conflict" | "customer_erased" | "erased_since") if step.expect == 0:
                sent.kept += 1
                return None
            case Refused(code, detail):
                return Refusal(life.subject, command, code, detail)
            case Stored(position=position, repeated=repeated):
                sent.repeated += repeated
                sent.stored += not repeated
            case Unchanged(position=position):
                sent.unchanged += 1
        domain = self._sender.domain_of(step.command)
        sent.positions[domain] = max(position, sent.positions.get(domain, 0))
        if command == "ReserveStock" and isinstance(answer, Stored):
            return _refused_stock(life, command, answer)
        return None


def _refused_stock(life: Life, command: str, answer: Stored) -> Refusal | None:
    """Somebody else's order took the units that came in for this one."""
    for event in _decode_stock(answer.events):
        if isinstance(event, StockRefused):
            detail = f"{event.available} of {event.wanted} units of {event.sku} were left"
            return Refusal(life.subject, command, "out_of_stock", detail)
    return None
