"""The supervisor: brings back what dies, gives up what always dies, and ends everything in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.runtime import supervisor as module
from gateway.runtime.supervisor import Child, ChildFailed, Supervisor, until
from tests.system import alive

PATIENCE_S = 20.0
READY = "print('ready', flush=True);"
SLEEPS = f"import time; {READY} time.sleep(600)"
STUBBORN = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY} time.sleep(600)"
PARENT = (
    "import subprocess, sys, time;"
    " child = subprocess.Popen([sys.executable, '-c', 'import signal, time;"
    " signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)']);"
    " print('grandchild', child.pid, flush=True); time.sleep(600)"
)


def python(name: str, code: str, rank: int = 0, grace_s: float = 5.0) -> Child:
    return Child(name, [sys.executable, "-S", "-c", code], rank=rank, grace_s=grace_s)


@asynccontextmanager
async def supervising(folder: Path, *children: Child) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    said: list[str] = []
    supervisor = Supervisor(children, folder / "log", said.append)
    try:
        for child in children:
            supervisor.start(child.name)
        yield supervisor, said
    finally:
        await supervisor.stop()
        if supervisor.failed.done():
            supervisor.failed.exception()


async def comes(condition: Callable[[], object], what: str) -> None:
    async def held() -> bool:
        return bool(condition())

    assert await until(held, PATIENCE_S, 0.01), what


def group_of(pid: int) -> str:
    """How far a process's session gives way; empty where this machine knows no such thing."""
    path = Path(f"/proc/{pid}/autogroup")
    return path.read_text().partition(" ")[2].strip() if path.exists() else ""


def wrote(supervisor: Supervisor, name: str) -> str:
    path = supervisor.log_of(name)
    return path.read_text() if path.exists() else ""


async def test_a_child_that_dies_is_brought_back(tmp_path: Path) -> None:
    async with supervising(tmp_path, python("worker", SLEEPS)) as (supervisor, said):
        await comes(lambda: "ready" in wrote(supervisor, "worker"), "the child")
        first = supervisor.pid("worker")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await comes(lambda: supervisor.pid("worker") not in (None, first), "another child")
        await comes(lambda: wrote(supervisor, "worker").count("ready") == 2, "the other child's word")
        assert said == ["worker ended (signal SIGKILL); it is started again"]
        assert not supervisor.failed.done()
    assert supervisor.pid("worker") is None


async def test_a_child_that_always_dies_is_given_up_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", 0.001)
    code = "import sys; print('cannot: the moon is full', file=sys.stderr); print(); sys.exit(7)"
    async with supervising(tmp_path, python("lost", code), python("fine", SLEEPS)) as (supervisor, said):
        forever = asyncio.ensure_future(asyncio.Event().wait())
        with pytest.raises(ChildFailed, match=r"lost died 5 times in a row: cannot: the moon is full"):
            await asyncio.wait_for(supervisor.healthy_until(forever), PATIENCE_S)
        forever.cancel()
        assert said == ["lost ended (exit code 7); it is started again"] * 4
        assert supervisor.pid("lost") is None
        assert supervisor.pid("fine") is not None


async def test_what_a_healthy_system_waits_for_is_given(tmp_path: Path) -> None:
    async with supervising(tmp_path, python("worker", SLEEPS)) as (supervisor, _):
        assert await supervisor.healthy_until(asyncio.ensure_future(asyncio.sleep(0, "done"))) == "done"


async def test_the_highest_rank_ends_first_and_all_of_a_rank_together(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    open({order!r}, 'a').write({name!r} + chr(10)); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"{READY}\n"
        "time.sleep(600)"
    )
    ranks = {"bottom": 0, "middle": 1, "top-1": 2, "top-2": 2}
    children = [python(name, code.format(order=str(order), name=name), rank) for name, rank in ranks.items()]
    async with supervising(tmp_path, *children) as (supervisor, said):
        await comes(lambda: all("ready" in wrote(supervisor, name) for name in ranks), "the children")
        await supervisor.stop()
        ended = order.read_text().split()
        assert sorted(ended[:2]) == ["top-1", "top-2"]
        assert ended[2:] == ["middle", "bottom"]
        assert said == []
        assert [supervisor.pid(name) for name in ranks] == [None] * 4


async def test_whoever_overstays_is_killed(tmp_path: Path) -> None:
    async with supervising(tmp_path, python("stubborn", STUBBORN, grace_s=0.1)) as (supervisor, _):
        await comes(lambda: "ready" in wrote(supervisor, "stubborn"), "the child")
        pid = supervisor.pid("stubborn")
        assert pid is not None
        await asyncio.wait_for(supervisor.stop(), PATIENCE_S)
        assert not alive(pid)


async def test_grandchildren_end_too(tmp_path: Path) -> None:
    async with supervising(tmp_path, python("parent", PARENT)) as (supervisor, _):

        def grandchildren() -> list[int]:
            whole, _, _ = wrote(supervisor, "parent").rpartition("\n")  # The last line may be on its way.
            return [int(line.split()[1]) for line in whole.splitlines()]

        await comes(grandchildren, "a grandchild")
        (first,) = grandchildren()
        pid = supervisor.pid("parent")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await comes(lambda: len(grandchildren()) == 2, "another grandchild")
        await comes(lambda: not alive(first), "the first one's end")
        await asyncio.wait_for(supervisor.stop(), PATIENCE_S)
        await comes(lambda: not any(alive(one) for one in grandchildren()), "the grandchildren's end")


async def test_a_stop_in_mid_start_leaves_nothing(tmp_path: Path) -> None:
    children = [python(f"worker-{number}", SLEEPS) for number in range(5)]
    for turns in range(12):
        async with supervising(tmp_path, *children) as (supervisor, _):
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.wait_for(supervisor.stop(), PATIENCE_S)
            assert [supervisor.pid(child.name) for child in children] == [None] * 5


async def test_a_stop_does_not_wait_for_a_child_that_is_about_to_be_brought_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", 600.0)
    monkeypatch.setattr(module, "BACKOFF_MAX_S", 600.0)
    async with supervising(tmp_path, python("lost", "raise SystemExit(1)", grace_s=600.0)) as (supervisor, said):
        await comes(lambda: said, "its end")
        await asyncio.wait_for(supervisor.stop(), PATIENCE_S)
        assert supervisor.pid("lost") is None


async def test_a_log_that_grew_too_large_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_BYTES_MAX", 10)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "worker.log").write_text("a long story")
    async with supervising(tmp_path, python("worker", SLEEPS)) as (supervisor, _):
        await comes(lambda: "ready" in wrote(supervisor, "worker"), "the child")
        assert wrote(supervisor, "worker") == "ready\n"
        assert (tmp_path / "log" / "worker.log.old").read_text() == "a long story"


async def test_waiting_ends_when_the_time_is_over() -> None:
    async def never() -> bool:
        return False

    async def at_once() -> bool:
        return True

    assert not await until(never, 0.01, 0.001)
    assert await until(at_once, 1.0)


@pytest.mark.parametrize("niceness", [0, 7])
async def test_a_child_gives_way_as_far_as_it_is_told(tmp_path: Path, niceness: int) -> None:
    child = replace(python("child", SLEEPS), niceness=niceness)
    async with supervising(tmp_path, child) as (supervisor, _):
        await comes(lambda: supervisor.pid("child"), "it is there")
        pid = supervisor.pid("child")
        assert pid is not None
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
        assert group_of(pid) in ("", f"nice {niceness}")
