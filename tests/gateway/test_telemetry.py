"""Whether spans are collected is for the environment to say, in OpenTelemetry's own words."""

from __future__ import annotations

import logging

import pytest

from gateway.runtime.telemetry import wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environment", "exporter"),
    [
        ({}, ""),
        (ENDPOINT, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, ""),
    ],
)
def test_the_standard_variables_turn_it_on_and_off(environment: dict[str, str], exporter: str) -> None:
    assert wanted(environment) == exporter


def test_an_exporter_that_is_not_known_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert wanted({**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"}) == ""
    assert "zipkin" in caplog.text
