"""Jobs of work queues that failed for good, and what becomes of them: who put one in asks nothing, so nobody is told
when it is discarded."""

from __future__ import annotations

from collections.abc import Sequence

from nats.aio.client import Client

from bus.queues.mending import Listed, Mending, verbs_of
from bus.queues.work_queue import JOB, MESSAGE_ID, PARKED, STREAM, ParkedJob

VERBS = verbs_of("jobs")


class ParkedJobs(Mending[ParkedJob]):
    """Of these queues."""

    def __init__(self, client: Client, queues: Sequence[str], stream: str = STREAM) -> None:
        super().__init__(client, stream, [f"{stream}.{queue}{PARKED}" for queue in queues], ParkedJob)

    def queue_of(self, subject: str) -> str:
        return subject.removeprefix(f"{self._stream}.").removesuffix(PARKED) if subject in self._subjects else ""

    def listed(self, sequence: int, queue: str, parked: ParkedJob) -> Listed:
        return Listed(sequence, queue, parked.id, parked.at, parked.error)

    async def put_back(self, sequence: int, queue: str, parked: ParkedJob) -> None:
        """The message's id is another one: under that of its job it would be taken for what was put in minutes ago."""
        headers = {MESSAGE_ID: f"{queue}-redriven-{sequence}", JOB: parked.id}
        await self._context.publish(f"{self._stream}.{queue}", parked.data, headers=headers)

    async def reject(self, queue: str, parked: ParkedJob, reason: str) -> None:
        """It is logged."""
