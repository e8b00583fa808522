"""What every answer of a kind has in common."""

from __future__ import annotations

import httpx


def problem(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    """The answer is problem+json with this status and code, and the field to blame where one is named."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    details = answer.json()
    assert details["status"] == status
    assert details["code"] == code, details
    assert details["type"] == f"urn:tallystream:problem:{code}"
    assert details["title"]
    assert details["trace_id"] in answer.headers["traceparent"]
    if field is not None:
        assert details.get("field", "") == field, details
