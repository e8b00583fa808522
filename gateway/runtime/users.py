"""Who has a certificate, and what each may say and hear at the broker: one table, made from what is composed.

A service may take its commands, write its log, read those that it observes, and send the commands that it decides on.
Nobody but the operator makes streams: a stream could be made to keep what others say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bus import rights
from bus.queues import parked_commands, parked_jobs
from bus.queues.command_queue_worker import PING as QUEUE_PING
from bus.reactors import mending
from bus.reactors.observers import Process, intake
from bus.reactors.processes import PING
from bus.servers.tls import BROKER, OPERATOR, SYSTEM, CertificateUnusable, Party
from bus.servers.users import Rights, User
from gateway import compose
from projections.mending import DISCARD, PARKED, REDRIVE
from projections.worker import REBUILD, ROLL_BACK

if TYPE_CHECKING:
    from bus.servers.certificates import Made

GATEWAY = "gateway"
PROJECTIONS = "projections"
QUEUE = "queue"
GRPC = "grpc"
OUTSIDE = ("provider", "carrier")
"""Known to us, and not at the broker."""


def made(
    folder: Path, hosts: Collection[str] = (), callers: Collection[str] = (), *, new_ca: bool = False
) -> list[Made]:
    """A good certificate for everybody, and for callers from outside, who are nobody at the broker. Raises
    `CertificateUnusable`, also where the extra `tls` is missing."""
    try:
        from bus.servers.certificates import make
    except ImportError as error:
        raise CertificateUnusable("certificates are made with the extra `tls`: install tallystream[tls]") from error
    everybody = parties()
    known = {party.name for party in everybody}
    if taken := known.intersection(callers):
        raise CertificateUnusable(f"{min(taken)} is a name of ours: call the caller something else")
    return make(folder, [*everybody, *(Party(name) for name in callers)], hosts, new_ca=new_ca)


def parties() -> list[Party]:
    """Whoever has a certificate."""
    serving = (BROKER, GATEWAY, GRPC, *OUTSIDE)
    return [*(Party(name, serves=True) for name in serving), *(Party(u.name) for u in users() if u.name not in serving)]


def users() -> list[User]:
    """Whoever may speak at the broker, and on what."""
    logs = [each.name for each in compose.LOGS]
    know_all = _all(rights.knows_log(log) for log in logs)
    read_all = _all(rights.reads_log(log) for log in logs)
    asks_all = _all(rights.asks_state(kept.name) for kept in compose.STATE_STORED)
    queue_verbs = (QUEUE_PING, *parked_commands.VERBS, *parked_jobs.VERBS)
    mends_jobs = _all(rights.mends_jobs(jobs.queue) for jobs in compose.jobs())
    edge = rights.COMMANDS_ANY + asks_all + rights.CONTROLS_ANY + rights.HEARS_STANDINGS
    table: dict[str, Rights] = {
        **{name: _of_service(name) for name in compose.SERVICES},
        PROJECTIONS: read_all
        + rights.keeps_read_models()
        + rights.answers_control(REBUILD, ROLL_BACK, PARKED, REDRIVE, DISCARD),
        QUEUE: know_all
        + rights.COMMANDS_ANY
        + rights.handles_queue()
        + mends_jobs
        + rights.answers_control(*queue_verbs),
        GATEWAY: read_all + edge + rights.queues_commands() + rights.shares_allowances(),
        GRPC: know_all + edge,
    }
    return [
        *(User(name, given + rights.IS_THERE + rights.own_inbox(name)) for name, given in table.items()),
        User(OPERATOR, rights.EVERYTHING),
        User(SYSTEM, rights.LOOKS_AT_SERVERS + rights.own_inbox(SYSTEM), system=True),
    ]


def _of_service(name: str) -> Rights:
    given = rights.writes_log(name) + rights.takes_commands(name) + rights.sends_commands(name)
    given += _all(rights.reads_log(log) for log in compose.reads(name))
    if name in {each.name for each in compose.DOMAINS}:
        given += rights.owns_partitions(name)
    if name in {each.name for each in compose.STATE_STORED}:
        given += rights.tells_state(name)
    if name in compose.reacting():
        verbs = (PING, mending.PARKED, mending.REDRIVE, mending.DISCARD)
        given += rights.answers_control(*(mending.verb_of(verb, name) for verb in verbs))
    if name in compose.timings():
        given += rights.has_timers(name)
    given += _all(_of_process(each) for each in compose.PROCESSES if each.domain.name == name)
    for policy in compose.POLICIES:
        if policy.name == name:
            given += rights.tells_standings(*(intake(name, log) for log in policy.observes))
    for effects in compose.effects():
        if effects.log == name:
            given += _all(map(rights.puts_jobs, effects.puts)) + _all(map(rights.asks_state, effects.asks))
    for jobs in compose.jobs():
        if jobs.service == name:
            given += rights.does_jobs(jobs.queue)
    return given


def _of_process(process: Process) -> Rights:
    told = (*(process.intake(log) for log in process.observes), process.relay)
    sends = _all(map(rights.sends_commands, process.sends_to))
    return sends + rights.tells_standings(*told)


def _all(given: Iterator[Rights] | map[Rights]) -> Rights:
    return sum(given, rights.NONE)
