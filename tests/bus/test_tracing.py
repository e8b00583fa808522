"""Traces: where they are passed on, and the spans of them that a collector sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from nats.aio.client import Client
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from bus import tracing
from bus.calls.call import Call, NoAnswer, Reply, http_call
from bus.calls.over_nats import NatsTransport
from bus.calls.path import CallPath
from bus.calls.policy import CallPolicy
from bus.logs.blocks import Commit, decoder_of
from bus.logs.log import MemoryLog
from bus.reactors.checkpoints import Checkpoints
from bus.reactors.reactor import Again, Occurrence, Reactor, ReactorLimits
from bus.sender import Sender
from bus.servers.broker import EmbeddedBroker
from bus.spans import Spans, context_of
from tests.bus.counter import Add, Added, CounterEngine, answers, blocks_of, command, counters
from tests.bus.test_presence import owner
from tests.bus.waiting import until
from tests.bus.written import Written

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
OTHER = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"


class Seen:
    """What was collected."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        tracing.collect(Spans(provider, "1"))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def seen() -> Iterator[Seen]:
    yield Seen()
    tracing.collect(None)


def trace_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def parent_of(span: ReadableSpan) -> str:
    return f"{span.parent.span_id:016x}" if span.parent is not None else ""


def linked(span: ReadableSpan) -> set[str]:
    return {f"{link.context.trace_id:032x}" for link in span.links}


# -- where nobody collects them ----------------------------------------------------------------------------------------


def test_uncollected_a_span_passes_its_parent_on() -> None:
    with tracing.span("nothing", parent=TRACE) as span:
        assert (span.traceparent, tracing.current()) == (TRACE, TRACE)
        with tracing.standing(OTHER):
            assert tracing.current() == OTHER
    assert tracing.current() == ""


async def test_a_call_bears_the_current_trace_whatever_the_transport() -> None:
    calls: list[Call] = []

    async def transport(call: Call, deadline: float) -> Reply:
        calls.append(call)
        return Reply(200, b"")

    path = CallPath("d", CallPolicy(), transport)
    with tracing.standing(TRACE):
        await path.call(http_call("GET", "/"))
        await path.call(http_call("GET", "/", headers={"traceparent": OTHER}))
    await path.call(http_call("GET", "/"))
    assert [call.headers.get("traceparent") for call in calls] == [TRACE, OTHER, None]


async def test_a_question_over_nats_bears_it(client: Client, unique: str) -> None:
    asked: list[str] = []

    async def arrived(message: object) -> None:
        asked.append(message.headers["traceparent"])  # type: ignore[attr-defined]  # The client's message.
        await message.respond(b"")  # type: ignore[attr-defined]

    await client.subscribe(unique, cb=arrived)
    with tracing.standing(TRACE):
        await CallPath("d", CallPolicy(), NatsTransport("d", client)).call(Call(unique))
    assert asked == [TRACE]


async def test_what_a_reaction_causes_is_of_the_trace_of_its_event(written: Written, checkpoints: Checkpoints) -> None:
    assert await reacted(written, checkpoints, datetime.now(UTC)) == TRACE
    assert tracing.current() == ""


# -- where they are collected ------------------------------------------------------------------------------------------


def test_a_span_is_a_child_of_its_parent_and_what_is_no_traceparent_is_nobodys(seen: Seen) -> None:
    with tracing.span("child", parent=TRACE) as span:
        assert tracing.current() == span.traceparent
    with tracing.span("root", parent="00-1-2-01", links=[OTHER, "nonsense", OTHER]):
        pass
    (child,), (root,) = seen.named("child"), seen.named("root")
    assert (trace_id(child), parent_of(child)) == (TRACE_ID, "00f067aa0ba902b7")
    assert span.traceparent.split("-")[1] == TRACE_ID
    assert (root.parent, trace_id(root) != TRACE_ID, len(root.links)) == (None, True, 1)
    assert context_of("") is None


def test_a_batch_is_linked_to_so_many_traces_and_no_more(seen: Seen) -> None:
    with tracing.span("batch", links=(f"00-{number:032x}-00f067aa0ba902b7-01" for number in range(1, 1_000))):
        pass
    assert len(seen.named("batch")[0].links) == tracing.LINKS_MAX


async def test_a_failed_call_is_a_failed_span_and_each_try_bears_the_same_one(seen: Seen) -> None:
    tries: list[str] = []

    async def transport(call: Call, deadline: float) -> Reply:
        tries.append(call.headers["traceparent"])
        raise NoAnswer("d", "gone")

    with tracing.standing(TRACE), pytest.raises(NoAnswer):
        await CallPath("d", CallPolicy(retries=2, backoff_s=0), transport).call(http_call("GET", "/"))
    (span,) = seen.named("GET d")
    assert (trace_id(span), span.kind, span.status.is_ok) == (TRACE_ID, SpanKind.CLIENT, False)
    assert len(tries) == 3
    assert len(set(tries)) == 1


async def test_a_command_is_a_span_and_what_it_writes_bears_it(
    client: Client, broker: EmbeddedBroker, unique: str, seen: Seen
) -> None:
    async with owner(broker, unique, 7) as its:
        await Sender(client, {Add: unique}).send(Add("a", 1), id="c1", trace=TRACE)
        [[commit]] = [block.commits for block in await blocks_of(its.log)]
    (sent,) = seen.named("send Add")
    assert (trace_id(sent), parent_of(sent)) == (TRACE_ID, "00f067aa0ba902b7")
    assert sent.context is not None
    assert commit.trace == f"00-{TRACE_ID}-{sent.context.span_id:016x}-01"


async def test_a_block_is_one_span_with_links_to_its_commands(seen: Seen) -> None:
    engine = CounterEngine(counters(), MemoryLog("counters"))
    await engine.start()
    traces = (TRACE, OTHER, TRACE)
    await answers(engine, *(replace(command(Add("a", 1), f"c{n}"), trace=each) for n, each in enumerate(traces)))
    await engine.stop()
    (block,) = seen.named("append counters")
    assert (block.parent, linked(block)) == (None, {TRACE_ID, OTHER.split("-")[1]})
    assert block.attributes is not None
    assert block.attributes["tally.position"] == "counters=2"


async def test_a_reaction_is_a_child_of_what_wrote_its_event(
    written: Written, checkpoints: Checkpoints, seen: Seen
) -> None:
    passed_on = await reacted(written, checkpoints, datetime.now(UTC))
    (span,) = seen.named("test Added")
    assert (trace_id(span), parent_of(span), span.links) == (TRACE_ID, "00f067aa0ba902b7", ())
    assert span.context is not None
    assert passed_on == f"00-{TRACE_ID}-{span.context.span_id:016x}-01"
    assert [event.name for event in span.events] == ["again"]


async def test_a_reaction_to_what_was_written_long_ago_is_only_linked_to_it(
    written: Written, checkpoints: Checkpoints, seen: Seen
) -> None:
    passed_on = await reacted(written, checkpoints, datetime(2020, 1, 1, tzinfo=UTC))
    (span,) = seen.named("test Added")
    assert (span.parent, linked(span)) == (None, {TRACE_ID})
    assert passed_on.split("-")[1] == trace_id(span) != TRACE_ID


async def reacted(written: Written, checkpoints: Checkpoints, at: datetime) -> str:
    """A reactor is told of one event; the trace that its reaction was of when it was done, at its second try."""
    tries: list[str] = []

    async def react(what: Occurrence) -> None:
        tries.append(tracing.current())
        if len(tries) == 1:
            raise Again("not yet")

    await written.commits([Commit("c1", "a", 1, [Added("a", 1)], trace=TRACE)], at=at)
    limits = ReactorLimits(backoff_s=0.0)
    reactor = Reactor("test", written.log, decoder_of(counters()), {Added: react}, checkpoints, limits)
    running = asyncio.create_task(reactor.run())
    await until(lambda: reactor.position == 2 and not reactor.working)
    running.cancel()
    await asyncio.wait({running})
    assert tries[0] == tries[1]
    return tries[1]


@pytest.fixture
def written() -> Written:
    return Written(MemoryLog("counters"))


@pytest.fixture
async def checkpoints(tmp_path: Path) -> AsyncIterator[Checkpoints]:
    opened = await Checkpoints.open(tmp_path / "reactors.db")
    yield opened
    await opened.close()
