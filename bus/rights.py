"""Which subjects are what at the broker: rights in words of what this bus does, to be added up for each user.

Who has which is the composition root's to say.
"""

from __future__ import annotations

from bus.allowances import BUCKET as ALLOWANCES
from bus.announcements import EVERYWHERE, QUESTION
from bus.control import control_subject
from bus.micro import PREFIX as MICRO
from bus.outboxes.state_stored import state_subject
from bus.owners.leases import BUCKET
from bus.queues.command_queue import OUTCOMES, QUEUE, outcome_subject, parked_subject, queue_subject
from bus.queues.work_queue import PARKED
from bus.queues.work_queue import STREAM as WORK
from bus.reactors.timers import STREAM as TIMERS
from bus.servers.tls import inbox_of
from bus.servers.users import Rights

API = "$JS.API"


NONE = Rights()
EVERYTHING = Rights((">",), (">",))
LOOKS_AT_SERVERS = Rights(("$SYS.REQ.SERVER.PING.VARZ",))
IS_THERE = Rights(("worker.*",), ("worker.*", f"{MICRO}.>"), answers=True)
"""Says that it is there, to whoever asks by the micro protocol, too, and hears who is."""
HEARS_STANDINGS = Rights((QUESTION,), ("standing.*.*",))
COMMANDS_ANY = Rights(("cmd.>",))
CONTROLS_ANY = Rights((control_subject(">"),))


def own_inbox(name: str) -> Rights:
    return Rights(subscribe=(f"{inbox_of(name)}.>",))


def knows_log(log: str) -> Rights:
    """Where it ends, and what it begins with: so much is told by asking for records one by one."""
    return Rights((f"{API}.STREAM.INFO.{log}", f"{API}.STREAM.MSG.GET.{log}"))


def reads_log(log: str) -> Rights:
    consumer = f"{API}.CONSUMER"
    return knows_log(log) + Rights(
        (f"{consumer}.CREATE.{log}", f"{consumer}.MSG.NEXT.{log}.*", f"{consumer}.DELETE.{log}.*")
    )


def writes_log(log: str) -> Rights:
    return reads_log(log) + Rights((f"log.{log}.*",))


def sends_commands(domain: str) -> Rights:
    return Rights((f"cmd.{domain}.>",))


def takes_commands(domain: str) -> Rights:
    return Rights(subscribe=(f"cmd.{domain}.>",), answers=True)


def owns_partitions(domain: str) -> Rights:
    """Takes, keeps and gives up the leases of its domain, and hears of all."""
    stream = f"KV_{BUCKET}"
    looks = (f"{API}.STREAM.INFO.{stream}", f"{API}.STREAM.MSG.GET.{stream}", f"{API}.DIRECT.GET.{stream}.>")
    return Rights((*looks, f"$KV.{BUCKET}.engine.{domain}.*"), (f"$KV.{BUCKET}.>",))


def asks_state(service: str) -> Rights:
    return Rights((state_subject(service), state_subject(service, "*")))


def tells_state(service: str) -> Rights:
    return Rights(subscribe=(state_subject(service), state_subject(service, "*")), answers=True)


def answers_control(*verbs: str) -> Rights:
    return Rights(subscribe=tuple(map(control_subject, verbs)), answers=True)


def tells_standings(*names: str, home: str = EVERYWHERE) -> Rights:
    return Rights(tuple(f"standing.{home}.{name}" for name in names))


def keeps_read_models() -> Rights:
    """Of any node."""
    return tells_standings("*", home="*") + Rights(subscribe=(QUESTION,))


def puts_jobs(queue: str) -> Rights:
    return Rights((f"{API}.STREAM.INFO.{WORK}", f"{WORK}.{queue}"))


def does_jobs(queue: str) -> Rights:
    """And parks those that fail for good."""
    return _consumes(WORK, queue) + Rights((f"{API}.CONSUMER.DURABLE.CREATE.{WORK}.{queue}", f"{WORK}.{queue}{PARKED}"))


def mends_jobs(queue: str) -> Rights:
    """Reads the parked ones, puts them back and removes them; of all queues, for they share a stream."""
    return puts_jobs(queue) + Rights((f"{API}.STREAM.MSG.GET.{WORK}", f"{API}.STREAM.MSG.DELETE.{WORK}"))


def has_timers(process: str) -> Rights:
    return _consumes(TIMERS, f"{TIMERS}-{process}") + Rights(
        (
            f"{TIMERS}.set.{process}.>",
            f"{API}.STREAM.PURGE.{TIMERS}",
            f"{API}.STREAM.MSG.DELETE.{TIMERS}",
            f"{API}.CONSUMER.CREATE.{TIMERS}.{TIMERS}-{process}.>",
        )
    )


def shares_allowances() -> Rights:
    stream = f"KV_{ALLOWANCES}"
    looks = (f"{API}.STREAM.INFO.{stream}", f"{API}.STREAM.MSG.GET.{stream}", f"{API}.DIRECT.GET.{stream}.>")
    return Rights((*looks, f"$KV.{ALLOWANCES}.>"))


def queues_commands() -> Rights:
    """Puts commands into the queue, and asks what became of them."""
    reads = (f"{API}.STREAM.MSG.GET.{QUEUE}", f"{API}.DIRECT.GET.{OUTCOMES}.>")
    return Rights((queue_subject("*"), *reads))


def handles_queue() -> Rights:
    told = (queue_subject("*"), parked_subject("*"), outcome_subject(">"))
    looks = knows_log(QUEUE).publish + knows_log(OUTCOMES).publish
    removes = (f"{API}.STREAM.MSG.DELETE.{QUEUE}", f"{API}.CONSUMER.CREATE.{QUEUE}.*.>")
    return _consumes(QUEUE, "*") + Rights((*told, *looks, *removes))


def _consumes(stream: str, consumer: str) -> Rights:
    pulls = (f"{API}.CONSUMER.INFO.{stream}.{consumer}", f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}")
    return Rights((f"{API}.STREAM.INFO.{stream}", *pulls, f"$JS.ACK.{stream}.{consumer}.>"))
