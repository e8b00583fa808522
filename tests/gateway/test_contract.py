"""The API does what its description says, and takes nothing else: schemathesis asks every operation what it describes
and what it does not, from a fixed seed."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import Case, CheckFunction, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from gateway.app import create_app
from gateway.contracts.openapi import kinds_of, whole
from tests.system import System

EXAMPLES = 3
"""An operation and mode."""
DEFINITE = ["2xx", "3xx", "404", "409", "410", "412", "503"]
"""What becomes of a request that is as described, for nothing else is there than what the tests made."""
OPAQUE = ("cursor", "as_of")
"""What is in these no pattern can say."""


def _described() -> dict[str, Any]:
    with warnings.catch_warnings():  # The next version of the framework marks bodies and headers in another way.
        warnings.simplefilter("ignore", DeprecationWarning)
        app = create_app()
    return whole(app.openapi_schema.to_schema(), kinds_of(app))


DESCRIBED = _described()
API = schemathesis.openapi.from_dict(DESCRIBED)
API.config.generation.update(with_security_parameters=False, allow_extra_parameters=False)
API.config.checks.positive_data_acceptance.expected_statuses = DEFINITE
API.config.checks.negative_data_rejection.expected_statuses = ["400", "401", "404", "405", "412", "422"]
OPERATIONS: dict[str, Any] = {
    operation.label: operation
    for operation in (found.ok() for found in API.get_all_operations() if isinstance(found, Ok))
    if not operation.path.endswith("/stream")  # Those never end; what they send is tested beside them.
}
TAKING = [label for label, each in OPERATIONS.items() if each.definition.raw.keys() & {"parameters", "requestBody"}]
WEBHOOK = "POST /v1/webhooks/payments"
BEYOND_SCHEMAS = {
    "POST /v1/orders": "whether there are such products",
    "POST /v1/graphql": "whether a text is a query",
    "POST /v2/orders": "whether there are such products",
    "PUT /v1/customers/{customer_id}": "what white space is: languages do not agree on that",
    WEBHOOK: "what is signed",
}


@pytest.mark.parametrize("label", OPERATIONS)
def test_what_is_asked_as_described_is_answered_as_described(system: System, label: str) -> None:
    ask(system, label, GenerationMode.POSITIVE)


@pytest.mark.parametrize("label", TAKING)
def test_what_is_asked_otherwise_is_refused(system: System, label: str) -> None:
    ask(system, label, GenerationMode.NEGATIVE)


def test_every_operation_is_asked() -> None:
    described = {f"{method.upper()} {path}" for path, methods in DESCRIBED["paths"].items() for method in methods}
    assert set(OPERATIONS) == {label for label in described if not label.endswith("/stream")}


def ask(system: System, label: str, mode: GenerationMode) -> None:
    token = f"Bearer {system.token('admin', 'contract')}"
    # No position is waited for: most of those that one may think of are far ahead.
    headers = {"Authorization": token, "Prefer": "wait=0, handling=stale"}
    excluded: list[CheckFunction] = [positive_data_acceptance] if label in BEYOND_SCHEMAS else []
    if label == WEBHOOK:
        excluded.append(negative_data_rejection)  # Without a good signature all is 403, whatever else is wrong with it.
    if label == "GET /readyz":
        excluded.append(not_a_server_error)  # It may have a reason.

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def asked(case: Case[Any]) -> None:
        assume(not has_floats(case.body))
        for name in OPAQUE:
            (case.query or {}).pop(name, None)
        answer = case.call_and_validate(base_url=system.running.http_url, headers=headers, excluded_checks=excluded)
        assert answer.status_code >= 400 or label != WEBHOOK

    asked()


def has_floats(body: object) -> bool:
    """To JSON Schema 1.0 is an integer, and here it is none: that is told clearly (`test_bad_input.py`)."""
    if isinstance(body, dict):
        return any(has_floats(each) for each in body.values())
    return isinstance(body, float) or (isinstance(body, list) and any(has_floats(each) for each in body))
