"""The files of the read models: numbered builds, one pointer to the live one, and no more of them than are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from projections.files import ReadModelFiles, RebuildUnderWay, remove
from projections.store import Store
from tests.projections.tally import tally


@pytest.fixture
def files(tmp_path: Path) -> ReadModelFiles:
    return ReadModelFiles(tmp_path / "read models")


def build(files: ReadModelFiles, version: int = 1) -> Path:
    path = files.next_build(tally(version=version))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.with_name(path.name + "-wal").touch()
    return path


def names(files: ReadModelFiles) -> list[str]:
    return sorted(path.name for path in files.folder.glob("*.db*"))


def test_before_the_first_build_nothing_is_live(files: ReadModelFiles) -> None:
    assert files.live("tally") is None
    assert files.stamp("tally") == (0, 0)


def test_builds_are_numbered_through_whatever_their_versions(files: ReadModelFiles) -> None:
    assert [build(files).name, build(files, version=2).name, build(files).name] == [
        "tally@1.1.db",
        "tally@2.2.db",
        "tally@1.3.db",
    ]
    assert files.is_of(files.folder / "tally@1.3.db", tally())
    assert not files.is_of(files.folder / "tally@2.2.db", tally())
    assert not files.is_of(files.folder / "tally@11.2.db", tally())


def test_switching_makes_a_file_the_live_one_and_changes_the_stamp(files: ReadModelFiles) -> None:
    first, second = build(files), build(files)
    files.switch("tally", first)
    assert files.live("tally") == first
    stamp = files.stamp("tally")
    assert files.stamp("tally") == stamp
    files.switch("tally", second)
    assert files.live("tally") == second
    assert files.stamp("tally") != stamp


def test_a_pointer_to_a_file_that_is_gone_points_nowhere(files: ReadModelFiles) -> None:
    path = build(files)
    files.switch("tally", path)
    path.unlink()
    assert files.live("tally") is None


@pytest.mark.parametrize("builds", [3, 12])
def test_sweeping_keeps_the_live_build_and_the_one_before_it(files: ReadModelFiles, builds: int) -> None:
    for _ in range(builds):
        files.switch("tally", build(files))
    (files.folder / "tally_of_another@1.1.db").touch()
    files.sweep("tally")
    kept = sorted((f"tally@1.{builds}.db", f"tally@1.{builds - 1}.db"))
    assert names(files) == sorted([*kept, *(f"{name}-wal" for name in kept), "tally_of_another@1.1.db"])


def test_the_build_before_is_the_one_that_was_live_whatever_its_number(files: ReadModelFiles) -> None:
    first, second, third = build(files), build(files), build(files)
    assert files.before("tally") is None
    files.switch("tally", second)
    assert files.before("tally") is None
    files.switch("tally", third)
    files.switch("tally", first)
    assert (files.live("tally"), files.before("tally")) == (first, third)
    files.sweep("tally")
    assert not second.exists()
    files.switch("tally", third)
    assert (files.live("tally"), files.before("tally")) == (third, first)
    remove(first)
    assert files.before("tally") is None


def test_sweeping_removes_what_a_crashed_rebuild_left(files: ReadModelFiles) -> None:
    files.switch("tally", build(files))
    build(files)
    files.next_build(tally()).with_suffix(".part").touch()
    files.sweep("tally")
    assert names(files) == ["tally@1.1.db", "tally@1.1.db-wal"]
    assert list(files.folder.glob("*.part")) == []


def test_without_a_pointer_nothing_is_removed(files: ReadModelFiles) -> None:
    build(files)
    files.sweep("tally")
    assert names(files) == ["tally@1.1.db", "tally@1.1.db-wal"]


def test_only_one_may_build_at_a_time(files: ReadModelFiles) -> None:
    with files.building("tally"):
        with pytest.raises(RebuildUnderWay), files.building("tally"):
            pass
        with files.building("another"):
            pass
    with files.building("tally"):
        pass


def test_a_switch_leaves_the_locks_of_the_live_file_alone(tmp_path: Path) -> None:
    """POSIX drops all locks of a process on a file when it closes any handle of it. Without its lock the writer's log
    would be removed by whoever else opens and closes the file, and what is written from then on is seen by nobody."""
    files, projection = ReadModelFiles(tmp_path), tally()
    with Store.create(projection, files.next_build(projection), "memory") as store:
        files.switch(projection.name, store.path)
        look = (
            "import sqlite3, sys\n"
            "connection = sqlite3.connect(sys.argv[1])\n"
            "connection.execute('SELECT * FROM _position').fetchall()\n"
            "connection.close()\n"
        )
        subprocess.run([sys.executable, "-c", look, str(store.path)], check=True)
        assert store.path.with_name(f"{store.path.name}-wal").exists()
