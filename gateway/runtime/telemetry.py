"""Spans to a collector: turned on by the standard OTEL_* variables of the environment, where the extra `otel` is there.

`OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`), or `OTEL_TRACES_EXPORTER`, being `otlp` or
`console`, turn it on; `OTEL_SDK_DISABLED=true` turns it off. All other variables are the SDK's: sampler, batches,
limits, the exporter's headers and certificates, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`. OTLP goes over HTTP.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec

from bus import tracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTERS = ("otlp", "console")

log = logging.getLogger(__name__)


def wanted(environment: Mapping[str, str]) -> str:
    """The exporter that the environment asks for; empty: none."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not named:
        return "otlp" if any(environment.get(name) for name in ENDPOINTS) else ""
    if named in EXPORTERS:
        return named
    if named != "none":
        log.warning("OTEL_TRACES_EXPORTER has %r, wanted otlp, console or none: no spans are collected", named)
    return ""


def collect_spans(process: str) -> None:
    """Begin, where it is wanted. `process` is what the service is called where the environment does not say. What is
    collected is sent by a thread in batches, and its rest when the process ends."""
    exporter = wanted(os.environ)
    if not exporter:
        return
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        log.warning("OTEL_* asks for spans, but the extra is not installed (tallystream[otel]): none are collected")
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    from bus.spans import Spans

    own: SpanExporter
    if exporter == "console":
        own = ConsoleSpanExporter()
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        own = OTLPSpanExporter()
    ours = {"service.namespace": "tallystream", "service.version": version("tallystream")}
    if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        ours["service.name"] = f"tallystream-{process}"
    provider = TracerProvider(resource=Resource.create(ours), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(own))
    atexit.register(provider.shutdown)
    tracing.collect(Spans(provider, version("tallystream")))
    log.info("spans are collected and sent by %s", exporter)
