"""One order's spans over all processes, as a collector gets them: from the HTTP request to the payment provider."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.system import Shop, System, running_system, until

Collected = dict[bytes, tuple[str, Span]]
"""Spans by their ids, each with the service that made it."""


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP, and keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: Collected = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:  # The name that the standard library calls.
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Collector)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans.update({span.span_id: (named["service.name"], span) for span in scope.spans})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("traced") / "data"
    more = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with running_system(folder, OTEL_EXPORTER_OTLP_COMPRESSION="none", **more) as system:
        yield system


def test_an_order_is_one_trace_from_the_request_to_the_provider(traced: System, collector: Collector) -> None:
    shop = Shop(traced)
    sku = shop.product(units=5)
    answer = shop.http.post("/v1/orders", json={"customer_id": "c", "currency": "EUR", "lines": [_line(sku)]})
    trace_id = bytes.fromhex(answer.headers["traceparent"].split("-")[1])
    assert shop.settled(answer.json()["order_id"])["status"] == "shipped"
    shop.close()

    def charged() -> list[str]:
        of_trace = {name: found for name, found in list(collector.spans.items()) if found[1].trace_id == trace_id}
        charges = [span for service, span in of_trace.values() if (service, span.name) == PROVIDERS]
        return _upwards(of_trace, charges[0]) if charges else []

    def whole() -> bool:
        return charged()[-1:] == ["POST /v1/orders"]

    until(whole, "the whole trace")
    assert charged() == [
        "POST /charges",
        "POST provider",
        "payment-effects PaymentRequested",
        "send RequestPayment",
        "checkout-relay CheckoutAdvanced",
        "send Observe",
        "checkout-from-inventory StockReserved",
        "send ReserveStock",
        "checkout-relay CheckoutAdvanced",
        "send Observe",
        "checkout-from-orders OrderPlaced",
        "send PlaceOrder",
        "POST /v1/orders",
    ]
    until(lambda: _linked(collector, "append orders", trace_id), "the block's link")
    until(lambda: _linked(collector, "project orders", trace_id), "the read models' link")


PROVIDERS = ("tallystream-provider", "POST /charges")


def _line(sku: str) -> dict[str, object]:
    return {"sku": sku, "quantity": 1}


def _upwards(of_trace: Collected, span: Span) -> list[str]:
    """The names of a span and of all above it, as far as they are known."""
    names = [span.name]
    while found := of_trace.get(span.parent_span_id):
        span = found[1]
        names.append(span.name)
    return names


def _linked(collector: Collector, name: str, trace_id: bytes) -> bool:
    """Whether such a span, of a trace of its own, is linked to this one."""
    spans = [span for _, span in list(collector.spans.values()) if span.name == name]
    return any(link.trace_id == trace_id != span.trace_id for span in spans for link in span.links)
