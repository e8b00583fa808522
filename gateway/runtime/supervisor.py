"""A supervisor: child processes in order, each brought back when it dies, all ended in time when it is over."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from bus.servers.lifetime import die_with_parent

BACKOFF_S = 0.1
BACKOFF_MAX_S = 5.0
HEALTHY_AFTER_S = 10.0
"""A child that lived so long is brought back at once when it dies."""
FAILURES_MAX = 5
"""A child that never became healthy and died so often is not tried again."""
LOG_BYTES_MAX = 16 * 1024 * 1024
GIVES_WAY = 5
"""The niceness of a child that others go before where cores are short: a third of their share is left to it. With
much less any stranger's work on the machine would keep it from its own."""
GROUP_TRIES_MAX = 20
GROUP_AGAIN_S = 0.15

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Child:
    """`rank`: children of a higher rank are stopped first, together; `grace_s` is how long a rank is given. `niceness`:
    how far others go before it where cores are short."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    rank: int = 0
    grace_s: float = 1.5
    niceness: int = 0


class ChildFailed(Exception):
    """A child dies again and again."""


class Supervisor:
    """`say` hears what people should know: a child that died, one that was brought back. `ended` gets the id of every
    process that did."""

    def __init__(
        self,
        children: Sequence[Child],
        log_folder: Path,
        say: Callable[[str], None],
        ended: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self._ended = ended
        self._children = children
        self._log_folder = log_folder
        self._say = say
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises `ChildFailed` when a child is given up."""

    def pid(self, name: str) -> int | None:
        process = self._processes.get(name)
        return process.pid if process is not None and process.returncode is None else None

    def start(self, name: str) -> None:
        """Start a child, and keep it running from now on."""
        child = next(child for child in self._children if child.name == name)
        self._tasks[name] = asyncio.create_task(self._keep(child))

    async def healthy_until(self, task: asyncio.Task[Result]) -> Result:
        """What the task gives; raises `ChildFailed` when a child is given up before that."""
        waiting: set[asyncio.Future[Result] | asyncio.Future[None]] = {task, self.failed}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            self.failed.result()
        return task.result()

    async def stop(self) -> None:
        """End all children, the highest rank first; whoever overstays is killed."""
        self._stopping.set()
        for rank in sorted({child.rank for child in self._children}, reverse=True):
            group = [child for child in self._children if child.rank == rank]
            for child in group:
                if child.niceness and (pid := self.pid(child.name)) is not None:
                    _raise(pid)  # It has only so long to end.
                self._signal(child.name, signal.SIGTERM)
            tasks = [self._tasks[child.name] for child in group if child.name in self._tasks]
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=max(child.grace_s for child in group))
                for child in group:
                    if self._tasks.get(child.name) in late:
                        log.warning("%s did not end in time and is killed", child.name)
                        self._kill_group(child.name)
                if late:
                    await asyncio.wait(late, timeout=1.0)
                for task in tasks:
                    task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def log_of(self, name: str) -> Path:
        return self._log_folder / f"{name}.log"

    def last_words(self, name: str) -> str:
        """The last line that a child wrote."""
        try:
            lines = self.log_of(name).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return next((line for line in reversed(lines) if line.strip()), "")

    async def _keep(self, child: Child) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            process = await self._spawn(child)
            self._processes[child.name] = process
            if self._stopping.is_set():
                self._signal(child.name, signal.SIGTERM)  # It was on its way when all were told to end.
            code = await process.wait()
            self._kill_group(child.name)  # Whatever it left behind would hold its port.
            self._ended(process.pid)
            if self._stopping.is_set():
                return
            lived_s = asyncio.get_running_loop().time() - began
            failures = 0 if lived_s > HEALTHY_AFTER_S else failures + 1
            if failures >= FAILURES_MAX:
                if not self.failed.done():
                    self.failed.set_exception(
                        ChildFailed(f"{child.name} died {failures} times in a row: {self.last_words(child.name)}")
                    )
                return
            self._say(f"{child.name} ended ({_how(code)}); it is started again")
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_S * 2 ** max(0, failures - 1))
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff_s):
                    await self._stopping.wait()

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        self._log_folder.mkdir(parents=True, exist_ok=True)
        path = self.log_of(child.name)
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.old"))
        with path.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *child.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **child.environment},
                start_new_session=True,  # Ctrl-C in the terminal reaches only us; we end them in order.
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        if child.niceness:
            await _lower(process.pid, child.niceness)
        return process

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self._processes.get(name)
        if process is not None and process.returncode is None:
            process.send_signal(number)

    def _kill_group(self, name: str) -> None:
        process = self._processes.get(name)
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # All of it has ended.


async def _lower(pid: int, niceness: int) -> None:
    """Have others go before a process."""
    with suppress(OSError):  # It has ended.
        os.setpriority(os.PRIO_PROCESS, pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + niceness))
    for _ in range(GROUP_TRIES_MAX):
        try:
            _set_group(pid, niceness)
        except BlockingIOError:  # Who is not root may change one in a tenth of a second, on the whole machine.
            await asyncio.sleep(GROUP_AGAIN_S)
        else:
            return


def _raise(pid: int) -> None:
    """Have it go on as all others do, as far as we may: who is not root may not take a process's own niceness back."""
    with suppress(OSError):
        _set_group(pid, 0)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0))


def _set_group(pid: int, niceness: int) -> None:
    """Linux may share cores out between sessions first (autogroup), and each child has one of its own: there a
    process's niceness says nothing to others, and its session's does. Elsewhere nothing. Raises `BlockingIOError`."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
    except BlockingIOError:
        raise
    except OSError as error:
        log.debug("process %d has ended, or there are no such groups: %s", pid, error)


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float, every_s: float = 0.05) -> bool:
    """Whether a condition came true in time."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < deadline:
        if await condition():
            return True
        await asyncio.sleep(every_s)
    return False


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
