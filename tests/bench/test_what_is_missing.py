"""A baseline that is not installed is skipped, and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import in_flight
from bench.baselines import postgres


def test_every_baseline_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise postgres.Missing("no PostgreSQL server with pgbench is installed")

    monkeypatch.setattr(in_flight, "find_spec", lambda name: None)
    monkeypatch.setattr(postgres, "_programs", missing)
    skipped: list[str] = []
    with in_flight.databases(tmp_path, skipped) as found:
        assert found == {}
    assert [reason.partition(":")[0] for reason in skipped] == ["pyeventsourcing", "PostgreSQL"]


def test_postgres_is_not_run_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("bench.baselines.postgres.os.geteuid", lambda: 0)
    monkeypatch.setattr("bench.baselines.postgres.pwd.getpwnam", nobody)
    with pytest.raises(postgres.Missing, match="does not run as root"), postgres.postgres():
        pass
