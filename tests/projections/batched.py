"""Builds in smaller batches than they are made in."""

from __future__ import annotations

import pytest

from projections import pipeline


def in_batches(monkeypatch: pytest.MonkeyPatch, *, commits: int | None = None, size: int | None = None) -> None:
    """Of so many commits, or bytes, at most, whatever they are made for."""
    for name, most in (("DECODED", pipeline.DECODED), ("FOLDED", pipeline.FOLDED)):
        monkeypatch.setattr(pipeline, name, pipeline.Most(commits or most.commits, size or most.bytes))
