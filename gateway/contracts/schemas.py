"""The register of all messages, `domains/schemas.json`: `just check` holds today's types against it, `just schemas`
adds what is new to it. Neither takes anything away."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

import domains
from bus.schemas import Message, breaks, register_of, written
from gateway.compose import LOGS

REGISTER = Path(domains.__file__).with_name("schemas.json")
WRITE = "--write"


def main(path: Path, *, write: bool) -> int:
    """The exit code: 0 when the register holds today's types, or does so now."""
    today = {each.name: register_of(each) for each in LOGS}
    text = path.read_text() if path.exists() else "{}"
    register = msgspec.json.decode(text, type=dict[str, dict[str, Message]])
    if broken := list(breaks(register, today)):
        print(*(f"schemas: {line}" for line in broken), sep="\n", file=sys.stderr)  # noqa: T201  # A recipe's output.
        return 1
    if text == written(today):
        return 0
    if not write:
        print(f"schemas: {path.name} does not say all of today's types: run `just schemas`", file=sys.stderr)  # noqa: T201
        return 1
    path.write_text(written(today))
    return 0


if __name__ == "__main__":
    sys.exit(main(REGISTER, write=WRITE in sys.argv[1:]))
