"""The policy file: how calls to each destination are made, changed without touching a service, and while it runs.

A destination's own policy is written in code; what the file says of it goes over that. It is read at start, where what
makes no sense ends the start, and again when it changes, where it leaves all as it was and is said. A call reads an
attribute, never the file.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from bus import metrics
from bus.calls.call import REAL_TIME, Step, Time
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy

LOOK_EVERY_S = 1.0
FILE_BYTES_MAX = 256 * 1024

Policies = dict[str, CallPolicy]

log = logging.getLogger(__name__)


class MeshInvalid(Exception):
    """What the policy file says cannot be."""


def read_mesh(file: Path | None, defaults: Mapping[str, CallPolicy]) -> Policies:
    """The policy of each destination; without a file the defaults. Raises `MeshInvalid`."""
    if file is None:
        return dict(defaults)
    try:
        with file.open("rb") as opened:
            text = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise MeshInvalid(f"{file}: {error.strerror}") from error
    if len(text) > FILE_BYTES_MAX:
        raise MeshInvalid(f"{file} is larger than {FILE_BYTES_MAX} bytes")
    try:
        said = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MeshInvalid(f"{file} is no TOML: {error}") from error
    if unknown := said.keys() - {"destinations"}:
        raise MeshInvalid(f"{file} has {sorted(unknown)[0]!r}, wanted tables [destinations.NAME]")
    tables = said.get("destinations", {})
    if not isinstance(tables, dict):
        raise MeshInvalid(f"{file}: destinations is no table, wanted tables [destinations.NAME]")
    if strangers := tables.keys() - defaults.keys():
        wanted = ", ".join(sorted(defaults))
        raise MeshInvalid(f"{file} has the destination {sorted(strangers)[0]!r}, wanted some of {wanted}")
    return {name: _policy(file, name, default, tables.get(name, {})) for name, default in defaults.items()}


class Mesh:
    """The call paths of this process, and the file that their policies follow."""

    def __init__(self, file: Path | None, defaults: Mapping[str, CallPolicy]) -> None:
        """Raises `MeshInvalid`."""
        self._file = file
        self._defaults = defaults
        self._seen = _signature(file)
        self._policies = read_mesh(file, defaults)
        self._paths: dict[str, CallPath] = {}

    def path(
        self,
        destination: str,
        transport: Step,
        time: Time = REAL_TIME,
        chance: Callable[[], float] = random.random,
    ) -> CallPath:
        """The one path to a destination. Whoever asks later gets it, too, with the transport that came first: two would
        each allow as much as one may, and what one learns the other would not know."""
        if destination not in self._paths:
            policy = self._policies[destination]
            self._paths[destination] = CallPath(destination, policy, transport, time, chance)
        return self._paths[destination]

    async def watch(self, every_s: float = LOOK_EVERY_S) -> None:
        """Follow the file, until cancelled."""
        while self._file is not None:
            await asyncio.sleep(every_s)
            seen = await asyncio.to_thread(_signature, self._file)
            if seen != self._seen:
                self._seen = seen
                await self._read_again()

    async def _read_again(self) -> None:
        try:
            policies = await asyncio.to_thread(read_mesh, self._file, self._defaults)
        except MeshInvalid as error:
            log.error("the policies stay as they were: %s", error)  # It says all there is to know.
            metrics.mesh_reads.labels("refused").inc()
            return
        self._policies = policies
        for destination, path in self._paths.items():
            path.policy = policies[destination]
        log.info("the policies are those of %s as it is now", self._file)
        metrics.mesh_reads.labels("taken").inc()


def _policy(file: Path, name: str, default: CallPolicy, table: object) -> CallPolicy:
    if not isinstance(table, dict):
        raise MeshInvalid(f"{file}: destinations.{name} is no table")
    whole = _over(msgspec.to_builtins(default), table)
    try:
        return msgspec.convert(whole, CallPolicy)
    except msgspec.ValidationError as error:
        raise MeshInvalid(f"{file}: destinations.{name}: {error}") from error


def _over(base: dict[str, object], said: dict[str, object]) -> dict[str, object]:
    """A table with what another says put over it, table by table."""
    merged = dict(base)
    for key, value in said.items():
        below = base.get(key)
        merged[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _signature(file: Path | None) -> tuple[int, int, int] | None:
    """What is another when a file was written or replaced; None where there is none."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
