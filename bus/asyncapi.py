"""What travels on the broker, in the words of AsyncAPI 3: made from the types that are sent, so it says what is sent.

Knows no concrete domain: it is told which there are, and which verbs processes ask of each other.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Union

import msgspec

from bus.announcements import QUESTION, Standing
from bus.commands import Answer, Envelope, command_subject
from bus.control import Reply, control_subject
from bus.logs.blocks import Block
from bus.logs.streams import Epoch
from bus.outboxes.state_stored import Kept, state_subject
from bus.owners.leases import BUCKET, Holder
from bus.presence import Worker
from bus.queues.command_queue import OUTCOMES, QUEUE, Outcome, Queued, outcome_subject, parked_subject, queue_subject
from bus.queues.parked_commands import ParkedCommand
from domains.kernel import Domain, StateStored

VERSION = "3.0.0"
_SCHEMAS = "#/components/schemas/{name}"
_PLACES = {
    "partition": "Of the log; 0 where it has one only.",
    "token": "Of the partition's owner: a message here reaches it and nobody else.",
    "home": "The node whose read model it is; `everywhere` for what is the same on all of them.",
    "name": "Of a read model or a reactor.",
    "sequence": "Of the frame in the queue.",
    "offset": "Of the command in its frame.",
    "worker": "The process that is there.",
    "role": "What one process at a time should do, such as to own a partition.",
}

Json = dict[str, Any]
AnyHost = Domain[Any, Any, Any] | StateStored[Any, Any, Any]


def described(hosts: Sequence[AnyHost], verbs: Mapping[str, str], version: str) -> Json:
    """The whole document. `hosts`: whatever has a log; `verbs`: of control requests, and what each asks for."""
    made = _Document(hosts)
    for host in hosts:
        made.log(host)
        made.commands(host)
        made.queue(host)
        if isinstance(host, StateStored):
            made.states(host)
    made.outcomes()
    made.announcements()
    made.control(verbs)
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Tallystream",
            "version": version,
            "description": "What travels on the broker. The unit is the batch: commands go in frames, events lie in"
            " blocks. A log's stream bears its domain's name and keeps everything for ever.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": made.channels,
        "operations": made.operations,
        "components": {"messages": made.messages, "schemas": made.schemas},
    }


class _Document:
    def __init__(self, hosts: Sequence[AnyHost]) -> None:
        self.channels: Json = {}
        self.operations: Json = {}
        self.messages: Json = {}
        shared = (
            Block[Any],
            Envelope,
            Queued,
            ParkedCommand,
            list[Outcome],
            list[Answer],
            Epoch,
            Standing,
            Worker,
            Reply,
            Kept,
            Holder,
            dict[str, str],
        )
        spoken = [union for host in hosts for union in (_events(host), Union[host.commands])]  # noqa: UP007  # Of a tuple.
        written, found = msgspec.json.schema_components((*shared, *spoken), ref_template=_SCHEMAS)
        self._block = found.pop("Block_Any_")
        self._commit = found.pop("Commit_Any_")
        self._envelope = found.pop("Envelope")
        self._queued = found.pop("Queued")
        self._parked = found.pop("ParkedCommand")
        _, _, _, _, outcomes, answers, *_, parameters = written[: len(shared)]
        each = iter(written[len(shared) :])
        self._spoken = {host.name: (next(each), next(each)) for host in hosts}
        self.schemas: Json = {**found, "Outcomes": outcomes, "Answers": answers, "Parameters": parameters}
        _tidy([*written, *found.values(), self._block, self._commit, self._envelope, self._queued, self._parked])
        self._message("answers", "One answer a command, in the order of the frame.", "Answers")
        self._channel("answers", None, "answers", "The inbox that whoever sent a frame named for its answers.")

    def log(self, host: AnyHost) -> None:
        """What happened in a domain: a stream of blocks."""
        name = host.name
        commit = f"{name}.Commit"
        self.schemas[commit] = _with(self._commit, commit, events={"type": "array", "items": self._spoken[name][0]})
        commits = {"type": "array", "items": {"$ref": _SCHEMAS.format(name=commit)}}
        self.schemas[f"{name}.Block"] = _with(self._block, f"{name}.Block", commits=commits)
        headers = {
            "type": "object",
            "required": ["Nats-Msg-Id", "Nats-Expected-Last-Subject-Sequence"],
            "properties": {
                "Nats-Msg-Id": {"type": "string", "description": "SHA-256 of the payload, in hex: `prev` of the next."},
                "Nats-Expected-Last-Subject-Sequence": {
                    "type": "string",
                    "pattern": "^[0-9]+$",
                    "description": "The block that it follows, or it is not stored: so two owners do no harm.",
                },
            },
        }
        said = f"Commits of {name}: one append to its log, on disk as a whole."
        self._message(f"{name}.block", said, f"{name}.Block", headers)
        self._message(f"{name}.epoch", "The first record: a log with another epoch is another log.", "Epoch")
        self._channel(f"log.{name}", f"log.{name}.{{partition}}", f"{name}.block", f"The log of {name}.")
        self._channel(f"log.{name}.epoch", f"log.{name}.epoch", f"{name}.epoch", "What log this is.")
        self._operation(f"append.{name}", "send", f"log.{name}", f"Whoever owns a partition of {name} appends to it.")
        self._operation(f"read.{name}", "receive", f"log.{name}", "Read models, processes and policies follow it.")

    def commands(self, host: AnyHost) -> None:
        """What may be asked of a domain: frames of commands, answered one by one."""
        name = host.name
        envelope = f"{name}.Envelope"
        self.schemas[envelope] = _with(self._envelope, envelope, command=self._spoken[name][1])
        frame = {"title": f"{name}.Frame", "type": "array", "items": {"$ref": _SCHEMAS.format(name=envelope)}}
        self.schemas[f"{name}.Frame"] = frame
        self._message(f"{name}.frame", f"Commands to {name} that came together.", f"{name}.Frame")
        common, owned = (
            command_subject(name, 0).removesuffix("0") + rest for rest in ("{partition}", "{partition}.{token}")
        )
        self._channel(f"cmd.{name}", common, f"{name}.frame", f"Whoever owns the partition of {name}.")
        self._channel(f"cmd.{name}.owner", owned, f"{name}.frame", "The same, past a former owner that is frozen.")
        for channel in (f"cmd.{name}", f"cmd.{name}.owner"):
            which = channel.removeprefix("cmd.")
            what = f"{name} decides commands; each id takes effect once."
            self._operation(f"decide.{which}", "receive", channel, what, reply="answers")

    def queue(self, host: AnyHost) -> None:
        """Commands that nobody waits for, and what became of them."""
        name = host.name
        self.schemas[f"{name}.Queued"] = _with(self._queued, f"{name}.Queued", command=self._spoken[name][1])
        queued = {"type": "array", "items": {"$ref": _SCHEMAS.format(name=f"{name}.Queued")}}
        self.schemas[f"{name}.QueuedFrame"] = {"title": f"{name}.QueuedFrame", **queued}
        self._message(f"{name}.queued", f"Commands to {name} that wait for a worker.", f"{name}.QueuedFrame")
        self._channel(queue_subject(name), queue_subject(name), f"{name}.queued", f"A work queue, of stream {QUEUE}.")
        self._operation(f"work.{name}", "receive", queue_subject(name), "A worker takes a few frames at a time.")
        parked = _with(self._parked, f"{name}.Parked", queued={"$ref": _SCHEMAS.format(name=f"{name}.Queued")})
        self.schemas[f"{name}.Parked"] = parked
        self._message(f"{name}.parked", "A command that failed again and again.", f"{name}.Parked")
        self._channel(parked_subject(name), parked_subject(name), f"{name}.parked", "Waits until somebody mends it.")
        self._operation(f"park.{name}", "send", parked_subject(name), "A worker gives up a command for now.")

    def outcomes(self) -> None:
        """One document for all domains: what became of a frame's commands."""
        self._message("outcomes", "What became of each command of a frame, in its order.", "Outcomes")
        self._channel("outcome", outcome_subject("{sequence}"), "outcomes", f"In stream {OUTCOMES}, for some days.")
        self._channel(
            "outcome.parked", outcome_subject("{sequence}.{offset}"), "outcomes", "Of one that was parked before."
        )
        for channel in ("outcome", "outcome.parked"):
            self._operation(f"tell.{channel}", "send", channel, "A worker says what became of queued commands.")

    def states(self, host: AnyHost) -> None:
        """What a state-stored service tells of what it keeps."""
        name = host.name
        self.schemas.setdefault("Aggregate", {"title": "Aggregate", "type": "string", "maxLength": 64})
        self._message("state.question", "The id of what one wants to see, as plain text.", "Aggregate", plain=True)
        self._message("state.kept", "What the service keeps of it, as it is now.", "Kept")
        self._channel(f"state.{name}", state_subject(name), "state.question", f"Whoever keeps {name}.")
        own = state_subject(name, "{worker}")
        self._channel(f"state.{name}.instance", own, "state.question", f"One that keeps {name}, and no other.")
        self._channel("kept", None, "state.kept", "The inbox that whoever asked named.")
        for channel in (f"state.{name}", f"state.{name}.instance"):
            which = channel.removeprefix("state.")
            self._operation(f"tell.{which}", "receive", channel, f"What {name} keeps is asked for.", reply="kept")

    def announcements(self) -> None:
        """What is said again and again, to whoever listens."""
        self._message("standing", "Where a read model or a reactor stands.", "Standing")
        self._channel("standing", "standing.{home}.{name}", "standing", "Who waits for a position listens.")
        self._operation("tell.standing", "send", "standing", "Said when it moves, and each second.")
        self._message("standings", "Empty: all should say where they stand.", None)
        self._channel("standings", QUESTION, "standings", "Who begins to listen asks.")
        self._operation("ask.standings", "receive", "standings", "Answered by announcements.")
        self._message("worker", "A process that is there, and the partitions that it owns.", "Worker")
        self._channel("worker", "worker.{worker}", "worker", "Which processes are there.")
        self._operation("tell.worker", "send", "worker", "Said twice a second.")

        self._message("lease", "Who holds it; under an expectation of what was there.", "Holder")
        self._channel("leases", f"$KV.{BUCKET}.{{role}}", "lease", "A key-value bucket: who does what one should do.")
        self._operation("take.lease", "send", "leases", "Taken, and renewed twice a second.")

    def control(self, verbs: Mapping[str, str]) -> None:
        """What one process asks of another."""
        self._message("parameters", "What is asked, by name.", "Parameters")
        self._message("reply", "Whether it was done or begun, and if not, why.", "Reply")
        self._channel("reply", None, "reply", "The inbox that whoever asked named.")
        for verb, what in verbs.items():
            self._channel(control_subject(verb), control_subject(verb), "parameters", what)
            self._operation(control_subject(verb), "receive", control_subject(verb), what, reply="reply")

    def _message(
        self, name: str, what: str, schema: str | None, headers: Json | None = None, *, plain: bool = False
    ) -> None:
        payload = {"$ref": _SCHEMAS.format(name=schema)} if schema else {"type": "null"}
        self.messages[name] = {"name": name, "summary": what, "payload": payload}
        if plain:
            self.messages[name]["contentType"] = "text/plain"
        if headers is not None:
            self.messages[name]["headers"] = headers

    def _channel(self, name: str, address: str | None, message: str, what: str) -> None:
        self.channels[name] = {
            "address": address,
            "description": what,
            "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        }
        places = {place: {"description": said} for place, said in _PLACES.items() if f"{{{place}}}" in (address or "")}
        if places:
            self.channels[name]["parameters"] = places

    def _operation(self, name: str, action: str, channel: str, what: str, *, reply: str = "") -> None:
        self.operations[name] = {"action": action, "channel": _channel_ref(channel), "summary": what}
        if reply:
            self.operations[name]["reply"] = {"channel": _channel_ref(reply)}


def _tidy(part: object) -> None:
    """Docstrings without their indentation. No discriminators: OpenAPI's are not AsyncAPI's, and a message's `type`, of
    one value, tells it apart."""
    if isinstance(part, dict):
        part.pop("discriminator", None)
        if isinstance(part.get("description"), str):
            part["description"] = inspect.cleandoc(part["description"])
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            _tidy(each)


def _channel_ref(name: str) -> Json:
    return {"$ref": f"#/channels/{name}"}


def _events(host: AnyHost) -> Any:  # A union of types, for which there is no type.
    """In every version that may lie in the log."""
    return Union[(*host.events, *(upcaster.older for upcaster in host.upcasters))]  # Of a tuple.


def _with(schema: Json, title: str, **properties: Json) -> Json:
    """A schema with some properties known better."""
    return {**schema, "title": title, "properties": {**schema["properties"], **properties}}
