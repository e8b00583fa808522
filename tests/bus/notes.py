"""The smallest state-stored service: notes that are written, written anew and torn up. No event tells their text."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from bus.commands import Envelope
from domains.kernel import Rejected, StateStored

NEVER_S = 4e9
LENGTH_MAX = 100


class Write(Struct, frozen=True, tag=True):
    note_id: str
    text: str


class TearUp(Struct, frozen=True, tag=True):
    note_id: str


class Written(Struct, frozen=True, tag=True):
    note_id: str


class TornUp(Struct, frozen=True, tag=True):
    note_id: str


class Blank(Struct, frozen=True, tag=True): ...


class Note(Struct, frozen=True, tag=True):
    text: str


class Torn(Struct, frozen=True, tag=True): ...


NoteState = Blank | Note | Torn
NoteCommand = Write | TearUp
NoteEvent = Written | TornUp


def decide(state: NoteState, command: NoteCommand) -> tuple[NoteState, list[NoteEvent]]:
    if isinstance(command, TearUp):
        return Torn(), [TornUp(command.note_id)] if isinstance(state, Note) else []
    if len(command.text) > LENGTH_MAX:
        raise Rejected("too_long", "a note is short", "/text")
    if command.text == "defect":
        raise ZeroDivisionError
    return Note(command.text), [] if state == Note(command.text) else [Written(command.note_id)]


notes: StateStored[NoteState, NoteCommand, NoteEvent] = StateStored(
    name="notes",
    commands=(Write, TearUp),
    events=(Written, TornUp),
    states=(Blank, Note, Torn),
    target=lambda command: command.note_id,
    initial=Blank(),
    decide=decide,
    erased=(Torn,),
)


def envelope(
    command: NoteCommand, id: str, *, expect: int | None = None, deadline: float = NEVER_S, digest: str = ""
) -> Envelope:
    return Envelope(id, deadline, Raw(msgspec.json.encode(command)), expect=expect, digest=digest, actor="tests")
