"""Spans by OpenTelemetry's API, whichever SDK is behind it. Imported only where they are collected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from opentelemetry import trace
from opentelemetry.context import Context

from bus.tracing import LINKS_MAX, PATTERN, Kind, Span, Value

_KINDS: dict[Kind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


class Begun:
    """A span of OpenTelemetry's."""

    __slots__ = ("span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        context = span.get_span_context()
        self.span = span
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def name(self, name: str) -> None:
        self.span.update_name(name)

    def tell(self, name: str, value: Value) -> None:
        self.span.set_attribute(name, value)

    def event(self, name: str, detail: str) -> None:
        self.span.add_event(name, {"detail": detail})

    def failed(self, reason: str) -> None:
        self.span.set_status(trace.StatusCode.ERROR, reason)


class Spans:
    """Makes the spans of this process. Parents are given by their traceparents, never by what the API holds current."""

    def __init__(self, provider: trace.TracerProvider, version: str) -> None:
        self._tracer = provider.get_tracer("tallystream", version)

    def begin(self, name: str, kind: Kind, parent: str, links: Iterable[str], attributes: Mapping[str, Value]) -> Begun:
        above = context_of(parent)
        context = Context() if above is None else trace.set_span_in_context(trace.NonRecordingSpan(above), Context())
        linked = [trace.Link(each) for each in islice(_contexts(links), LINKS_MAX)]
        return Begun(self._tracer.start_span(name, context, _KINDS[kind], attributes, linked))

    def end(self, span: Span) -> None:
        assert isinstance(span, Begun)
        span.span.end()


def context_of(traceparent: str) -> trace.SpanContext | None:
    """None for what is no traceparent."""
    parsed = PATTERN.fullmatch(traceparent)
    if parsed is None:
        return None
    flags = trace.TraceFlags(int(parsed[3], 16))
    return trace.SpanContext(int(parsed[1], 16), int(parsed[2], 16), is_remote=True, trace_flags=flags)


def _contexts(traceparents: Iterable[str]) -> Iterator[trace.SpanContext]:
    """Each once."""
    for traceparent in dict.fromkeys(traceparents):
        if (context := context_of(traceparent)) is not None:
            yield context
