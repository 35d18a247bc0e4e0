"""Traces of what is recorded within a client: one span, whatever becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceState
from otel_samples import as_data, telemetry
from otlp_receiver import Receiver, otlp_receiver, points
from transport.clients import Client, Upstream, Way, done, only, program, recorded

from sse_recorder import RecordingTransport, semconv
from sse_recorder.background import running
from sse_recorder.capture import Writer
from sse_recorder.demo import AgentServer
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, header
from sse_recorder.otel import SpanData, Telemetry
from sse_recorder.otel.export import rebuilt
from sse_recorder.otel.propagation import MODES, Mode
from sse_recorder.store.store import Store
from sse_recorder.trace import TraceContext, exchange_context, parse_traceparent
from sse_recorder.transport.tracing import Tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CHAT = "/v2/sessions/s1/chat/stream"
ID = "01936a3e-8c00-7abc-9def-0123456789ab"
PARENT = TraceContext(TRACE, SPAN)


@pytest.fixture
def collector() -> Iterator[Receiver]:
    """Return a collector."""
    with otlp_receiver() as receiver:
        yield receiver


def again(root: Path, sender: Telemetry) -> list[SpanData]:
    """Return the spans that are made again from a store."""
    with Store.open(root) as store:
        return [span for found in rebuilt(store, sender) for span in found]


# --- every way out --------------------------------------------------------------------


async def exhaust(client: Client, url: str) -> None:
    """Read it to its end."""
    await client.read("GET", f"{url}/chat")


async def stop(client: Client, url: str) -> None:
    """Stop in the middle."""
    async with client.stream("GET", f"{url}/chat") as response:
        async for _ in client.chunks(response):
            break


async def close(client: Client, url: str) -> None:
    """Close the response without reading it."""
    await client.close(await client.open("GET", f"{url}/chat"))


async def leave(client: Client, url: str) -> None:
    """Close the client, and not the response."""
    client.kept = await client.open("GET", f"{url}/stall")  # type: ignore[attr-defined]


async def trip(client: Client, url: str) -> None:
    """Raise while it is being read."""
    with suppress(LookupError):
        async with client.stream("GET", f"{url}/chat") as response:
            async for _ in client.chunks(response):
                raise LookupError


async def wait(client: Client, url: str) -> None:
    """Wait longer than the client does, for more."""
    read = await client.read("GET", f"{url}/stall")
    assert isinstance(read.error, client.way.library.ReadTimeout)


async def wait_for_head(client: Client, url: str) -> None:
    """Wait longer than the client does, for anything."""
    with pytest.raises(client.way.library.ReadTimeout):
        await client.open("GET", f"{url}/mute")


async def lose(client: Client, url: str) -> None:
    """Read until the connection breaks."""
    assert (await client.read("GET", f"{url}/reset")).error is not None


async def knock(client: Client, _: str) -> None:
    """Ask where nobody is."""
    with pytest.raises(client.way.library.ConnectError):
        await client.open("GET", "http://127.0.0.1:1/")


async def cancel(client: Client, url: str) -> None:
    """Be cancelled while it is being read."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.read("GET", f"{url}/stall")


async def cancel_early(client: Client, url: str) -> None:
    """Be cancelled while nothing has come."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.open("GET", f"{url}/mute")


Ways = Callable[[Client, str], Awaitable[None]]
WAYS_OUT: list[tuple[Ways, str, str | None]] = [
    (exhaust, "complete", None),
    (stop, "client_abort", None),
    (close, "client_abort", None),
    (leave, "client_abort", None),
    (trip, "client_abort", None),
    (wait, "timeout", "stream_stalled"),
    (wait_for_head, "timeout", "timeout"),
    (lose, "upstream_abort", "stream_truncated"),
    (knock, "upstream_error", "ConnectError"),
]


def gone(
    way: Way,
    way_out: Ways,
    upstream: Upstream,
    collector: Receiver,
    root: Path,
) -> SpanData:
    """Take a way out; return the one span of it, which is that of the store."""
    sender = telemetry(collector.endpoint)

    async def main() -> None:
        transport = RecordingTransport(root, telemetry=sender)
        async with Client(way, transport, timeout=1) as client:
            await way_out(client, upstream.url)
        if kept := getattr(client, "kept", None):
            await client.close(kept)

    done(main())
    assert sender.close() == 0
    (span,) = map(as_data, collector.spans())
    assert again(root, sender) == [span]
    assert span.attributes[semconv.MODE] == "client"
    return span


@pytest.mark.parametrize(
    ("way_out", "outcome", "error"),
    WAYS_OUT,
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_way_out_has_one_span(
    way: Way,
    way_out: Ways,
    outcome: str,
    error: str | None,
    upstream: Upstream,
    collector: Receiver,
    tmp_path: Path,
) -> None:
    """It has an error only if that is the server's."""
    span = gone(way, way_out, upstream, collector, tmp_path)
    assert (span.kind, span.error_type) == ("client", error)
    assert span.attributes[semconv.OUTCOME] == outcome
    is_cancelled = span.attributes.get(semconv.STREAM_CANCELLED, False)
    assert is_cancelled == (outcome == "client_abort")


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("way_out", [cancel, cancel_early])
def test_who_is_cancelled_has_one_span(
    library: Any,
    way_out: Ways,
    upstream: Upstream,
    collector: Receiver,
    tmp_path: Path,
) -> None:
    """Only what awaits can be; it is no error of the call."""
    way = Way(library, is_async=True)
    span = gone(way, way_out, upstream, collector, tmp_path)
    assert (span.kind, span.error_type) == ("client", None)
    assert span.attributes[semconv.STREAM_CANCELLED] is True


# --- where it is ----------------------------------------------------------------------


def test_an_agents_run_is_below_the_span_that_asked_for_it(
    way: Way, collector: Receiver, tmp_path: Path
) -> None:
    """Agent and tools, in the trace of the application; the metrics are the same."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("application")
    sender = telemetry(collector.endpoint)

    async def main(url: str) -> str:
        transport = RecordingTransport(tmp_path, telemetry=sender)
        async with Client(way, transport) as client:
            with tracer.start_as_current_span("work") as span:
                await client.request("POST", url, json={"user_message": "hi"})
        return trace.format_span_id(span.get_span_context().span_id)

    with running(AgentServer()) as agent:
        parent = asyncio.run(main(f"{agent.url}{CHAT}"))
    assert sender.close() == 0
    exchange, _ = only(tmp_path)
    found = {span.span_id: span for span in map(as_data, collector.spans())}
    root = found[exchange.span_id]
    assert (root.name, root.parent_span_id) == ("invoke_agent", parent)
    assert not root.has_remote_parent
    assert exchange.parent_span_id == parent
    tools = [span for span in found.values() if span is not root]
    assert len(tools) == exchange.tool_call_count > 1
    assert {span.parent_span_id for span in tools} == {root.span_id}
    assert {span.trace_id for span in tools} == {exchange.trace_id}
    assert {span.span_id: span for span in again(tmp_path, sender)} == found
    (duration,) = points(collector.metrics[semconv.M_OPERATION_DURATION])
    assert duration.sum == pytest.approx(root.duration_ns / 1e9)


def told(upstream: Upstream) -> Headers:
    """Return the headers that the upstream was sent last."""
    return tuple(upstream.requests[-1][0])


def test_an_upstream_is_told_of_our_span(
    way: Way, upstream: Upstream, collector: Receiver, tmp_path: Path
) -> None:
    """In place of the client's: so it is recorded, and the client keeps its request."""
    sender = telemetry(collector.endpoint)
    given = {"traceparent": PARENT.traceparent(), "baggage": "a=b"}

    async def main() -> None:
        transport = RecordingTransport(tmp_path, telemetry=sender)
        async with Client(way, transport) as client:
            url = f"{upstream.url}/plain"
            response = await client.request("GET", url, headers=given)
            assert response.request.headers["traceparent"] == given["traceparent"]

    done(main())
    sender.close()
    exchange, _ = only(tmp_path)
    own = TraceContext(TRACE, exchange.span_id)
    assert parse_traceparent(told(upstream)) == own
    assert header(told(upstream), "baggage") is None
    assert exchange.request_headers == told(upstream)
    assert (exchange.trace_id, exchange.parent_span_id) == (TRACE, SPAN)
    assert exchange.trace_flags == 1


def test_without_telemetry_a_request_is_sent_as_it_is(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """What the client says of its trace is kept, and nothing is added."""

    async def main() -> None:
        async with Client(way, RecordingTransport(tmp_path)) as client:
            for headers in ({}, {"traceparent": PARENT.traceparent()}):
                await client.request("GET", f"{upstream.url}/plain", headers=headers)

    with trace.use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=False))):
        done(main())
    (alone, _), (within, _) = recorded(tmp_path)
    assert header(alone.request_headers, "traceparent") is None
    assert alone.parent_span_id == ""
    assert header(told(upstream), "traceparent") == PARENT.traceparent()
    assert (within.trace_id, within.parent_span_id) == (TRACE, SPAN)
    assert within.trace_flags is None


class Instrumented(httpx.HTTPTransport):
    """What an instrumentation of httpx makes of its transport."""

    def __init__(self, tracer: trace.Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Have a span around it, and say so."""
        with self._tracer.start_as_current_span("GET") as span:
            assert span.get_span_context().trace_state.to_header() == "a=1"
            propagate.inject(request.headers)
            return super().handle_request(request)


class AsyncInstrumented(httpx.AsyncHTTPTransport):
    """The same of the other one."""

    def __init__(self, tracer: trace.Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Have a span around it, and say so."""
        with self._tracer.start_as_current_span("GET"):
            propagate.inject(request.headers)
            return await super().handle_async_request(request)


@pytest.mark.parametrize("is_async", [False, True])
def test_an_instrumentation_within_is_below_our_span(
    upstream: Upstream, collector: Receiver, tmp_path: Path, *, is_async: bool
) -> None:
    """Between the application's span and the one that the upstream is told of."""
    sender, kept = telemetry(collector.endpoint), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("application")
    url = f"{upstream.url}/plain"

    async def main() -> None:
        within = AsyncInstrumented(tracer)
        transport = RecordingTransport(tmp_path, inner=within, telemetry=sender)
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get(url)
            assert trace.get_current_span().get_span_context() == around

    with (
        trace.use_span(NonRecordingSpan(CURRENT)),
        tracer.start_as_current_span("work") as span,
    ):
        around = span.get_span_context()
        if is_async:
            asyncio.run(main())
        else:
            transport = RecordingTransport(
                tmp_path, inner=Instrumented(tracer), telemetry=sender
            )
            with httpx.Client(transport=transport) as client:
                client.get(url)
        assert trace.get_current_span() is span
    assert sender.close() == 0
    exchange, _ = only(tmp_path)
    inner, work = kept.get_finished_spans()
    assert inner.parent is not None
    assert trace.format_span_id(inner.parent.span_id) == exchange.span_id
    assert exchange.parent_span_id == trace.format_span_id(work.context.span_id)
    last = parse_traceparent(told(upstream))
    assert last is not None
    assert last.span_id == trace.format_span_id(inner.context.span_id)
    assert last.trace_id == exchange.trace_id


class Moody(Sampler):
    """A sampler of the application, which fails."""

    def should_sample(self, *_: Any, **__: Any) -> Any:
        """Fail."""
        raise LookupError

    def get_description(self) -> str:
        """Return its name."""
        return "moody"


def test_a_sampler_that_raises_costs_no_recording(
    way: Way, upstream: Upstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once; the exchange is whole, and its trace is not sampled."""
    sender = Telemetry(None, sampler=Moody())

    async def main() -> None:
        transport = RecordingTransport(tmp_path, telemetry=sender)
        async with Client(way, transport) as client:
            for _ in range(3):
                await client.request("GET", f"{upstream.url}/plain")

    done(main())
    found = [exchange for exchange, _ in recorded(tmp_path)]
    assert [(one.outcome, one.trace_flags) for one in found] == [("complete", 0)] * 3
    (line,) = caplog.records
    assert "(the sampler raises LookupError)" in line.getMessage()


def test_who_closes_no_telemetry_loses_no_span(
    upstream: Upstream, collector: Receiver, tmp_path: Path
) -> None:
    """As a script ends, what is recorded is sealed, and then its spans are sent."""
    code = (
        "import sys, httpx\n"
        "from sse_recorder import RecordingTransport\n"
        "from sse_recorder.otel import Telemetry\n"
        "environ = {'OTEL_EXPORTER_OTLP_ENDPOINT': sys.argv[3]}\n"
        "telemetry = Telemetry.from_environment(environ)\n"
        "transport = RecordingTransport(sys.argv[1], telemetry=telemetry)\n"
        "client = httpx.Client(transport=transport)\n"
        "print(client.get(sys.argv[2]).status_code)\n"
    )
    within = (
        "def main():\n"
        "    telemetry = Telemetry.from_environment(environ)\n"
        "    transport = RecordingTransport(sys.argv[1], telemetry=telemetry)\n"
        "    with httpx.Client(transport=transport) as client:\n"
        "        print(client.get(sys.argv[2]).status_code)\n"
        "main()\n"
    )
    url = f"{upstream.url}/fast"
    head = code[: code.index("telemetry =")]
    for number, script in enumerate((code, head + within)):
        root = tmp_path / str(number)
        run = program(script, root, url, collector.endpoint)
        assert (run.stdout, run.stderr) == ("200\n", "")
        exchange, _ = only(root)
        *_, span = map(as_data, collector.spans(count=number + 1))
        assert span.span_id == exchange.span_id


def test_a_writers_spans_are_the_transports(
    way: Way, upstream: Upstream, collector: Receiver, tmp_path: Path
) -> None:
    """Who shares a writer gives it the telemetry, once."""
    sender = telemetry(collector.endpoint)

    async def main() -> None:
        writer = Writer(tmp_path, spans=sender)
        async with Client(way, RecordingTransport(writer)) as client:
            await client.request("GET", f"{upstream.url}/plain")
        writer.close()
        with pytest.raises(UsageError, match="give this one to the Writer"):
            RecordingTransport(writer, telemetry=sender)

    done(main())
    assert sender.close() == 0
    (span,) = map(as_data, collector.spans())
    own = TraceContext(span.trace_id, span.span_id)
    assert parse_traceparent(told(upstream)) == own


# --- places ---------------------------------------------------------------------------

CURRENT = SpanContext(
    int(TRACE, 16),
    int(SPAN, 16),
    is_remote=False,
    trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    trace_state=TraceState([("a", "1")]),
)


def placed(
    current: SpanContext, propagate: Mode, headers: Headers = (), **settings: str
) -> tuple[Any, Headers]:
    """Return where an exchange is, and what is sent."""
    sender = telemetry("http://127.0.0.1:1", OTEL_METRICS_EXPORTER="none", **settings)
    with trace.use_span(NonRecordingSpan(current)):
        place = Tracing(sender, propagate).place(ID, headers)
    sender.close(timeout_s=0)
    return place, place.headers


def test_the_current_span_is_told_with_its_state() -> None:
    """As an instrumentation of the client would."""
    place, sent = placed(CURRENT, "child")
    assert header(sent, "traceparent") == place.context.traceparent()
    assert header(sent, "tracestate") == "a=1"
    assert (place.context.trace_id, place.parent_span_id) == (TRACE, SPAN)


@pytest.mark.parametrize("propagate", sorted(set(MODES) - {"child"}))
def test_nothing_is_added_where_it_is_not_wanted(propagate: Mode) -> None:
    """It is in its place all the same."""
    place, sent = placed(CURRENT, propagate)
    assert sent == ()
    assert place.parent_span_id == SPAN


def test_the_sampler_knows_a_parent_of_this_process() -> None:
    """A service that samples less of what comes from outside keeps what it began."""
    sampler = ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF)
    tracing = Tracing(Telemetry(None, sampler=sampler), "child")
    with trace.use_span(NonRecordingSpan(CURRENT)):
        within = tracing.place(ID, ())
    from_outside = tracing.place(ID, (("traceparent", PARENT.traceparent()),))
    assert (within.flags, from_outside.flags) == (1, 0)


def test_what_a_request_names_comes_before_what_is_current() -> None:
    """Whoever wrote it there knew better."""
    other = TraceContext("1" * 32, "2" * 16)
    headers = (("traceparent", other.traceparent()),)
    place, _ = placed(CURRENT, "child", headers)
    assert (place.context.trace_id, place.parent_span_id) == ("1" * 32, "2" * 16)


def test_a_trace_that_is_not_sampled_stays_so() -> None:
    """The upstream is told of the span that is there, and that it is not sampled."""
    unsampled = SpanContext(int(TRACE, 16), int(SPAN, 16), is_remote=False)
    place, sent = placed(unsampled, "child")
    assert place.flags == 0
    assert header(sent, "traceparent") == f"00-{TRACE}-{SPAN}-00"


def test_without_a_current_span_a_trace_begins() -> None:
    """With the exchange's own id."""
    place, sent = placed(trace.INVALID_SPAN_CONTEXT, "child")
    assert place.context.trace_id == exchange_context(ID, None).trace_id
    assert place.parent_span_id == ""
    assert header(sent, "traceparent") == place.context.traceparent()


def test_other_headers_stay_as_they_are(tmp_path: Path) -> None:
    """With their case, their duplicates and their order, where one is added."""
    seen = list[Headers]()

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(tuple(request.headers.raw))  # type: ignore[arg-type]
        return httpx.Response(204)

    sender = telemetry("http://127.0.0.1:1", OTEL_METRICS_EXPORTER="none")
    transport = RecordingTransport(
        tmp_path, inner=httpx.MockTransport(answer), telemetry=sender
    )
    with httpx.Client(transport=transport) as client:
        client.get("http://a/b", headers=[("X-One", "1"), ("x-one", "2")])
    sender.close(timeout_s=0)
    names = [name for name, _ in seen[0]]
    assert names.index(b"X-One") < names.index(b"x-one") < names.index(b"traceparent")  # type: ignore[arg-type]
