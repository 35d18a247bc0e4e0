"""Telemetry: how spans get to a collector, and what happens when they do not."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, TraceIdRatioBased
from otel_samples import (
    FIVE_CALLS,
    ID,
    INBOUND,
    MS,
    OWN_SPAN,
    OWN_TRACE,
    PARENT,
    T0,
    TRACE,
    UNSAMPLED,
    Kept,
    as_data,
    exchange,
    telemetry,
    tool_call,
)
from otlp_receiver import attributes, otlp_receiver

from sse_recorder import __version__, semconv
from sse_recorder.clock import SYSTEM
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, Opening, Outcome, RequestHead, uuid7
from sse_recorder.otel import Link, Origin, Telemetry, View, answered_span, spans
from sse_recorder.otel.export import send
from sse_recorder.otel.telemetry import ORIGINS_MAX
from sse_recorder.otel.view import CONTENT_VARIABLE
from sse_recorder.trace import TraceContext, derive_span_id


def opening(eid: str, headers: Headers = INBOUND) -> Opening:
    """Return how an exchange began."""
    return Opening(
        recorder_id="r1",
        started_at=T0 + len(eid),
        url="http://a/",
        request=RequestHead("POST", "/", headers),
        trace_id=TRACE,
        span_id=derive_span_id(eid),
        parent_span_id=PARENT,
    )


# Shipping: the real exporter, over real HTTP.


def test_what_the_collector_gets_is_what_was_meant() -> None:
    """Every name, id, time, parent, attribute and status survives the wire."""
    meant = spans(exchange(), FIVE_CALLS)
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        sender.emit(exchange(), FIVE_CALLS)
        assert sender.close() == 0
        came = receiver.spans(count=6)
    assert {span.span_id.hex(): as_data(span) for span in came} == {
        span.span_id: span for span in meant
    }
    failed = {span.span_id.hex() for span in came if span.status.code == 2}
    assert failed == {span.span_id for span in meant if span.status == "error"}
    assert not any(span.status.message for span in came)


def test_what_vendors_said_of_a_trace_is_on_its_spans() -> None:
    """`tracestate` belongs to the trace of the client, and to that alone."""
    stated = (*INBOUND, ("tracestate", "a=1"), ("tracestate", "b=2"))
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        sender.emit(exchange(request_headers=stated), FIVE_CALLS)
        own = {"trace_id": OWN_TRACE, "parent_span_id": ""}
        sender.emit(exchange(request_headers=stated[1:], **own), [])
        assert sender.close() == 0
        came = receiver.spans(count=7)
    assert {(span.trace_id.hex(), span.trace_state) for span in came} == {
        (TRACE, "a=1,b=2"),
        (OWN_TRACE, ""),
    }


def test_a_state_that_is_none_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A client may send anything: neither log nor spans are for that."""
    odd = "no state at all", ",".join(f"k{n}={'x' * 60}" for n in range(10))
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        for state in odd:
            headers = (*INBOUND, ("tracestate", state))
            sender.context(ID, headers)
            sender.emit(exchange(request_headers=headers), [])
        assert sender.close() == 0
        came = receiver.spans(count=2)
    assert [span.trace_state for span in came] == ["", ""]
    assert not caplog.records


def test_what_comes_after_the_end_is_lost_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who closes telemetry before what records is told so."""
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        assert sender.close() == 0
        sender.emit(exchange(), FIVE_CALLS)
        assert sender.close() == 6
        assert receiver.spans(count=0) == []
    (line,) = caplog.records
    assert "telemetry is closed: close what records first); 6 are lost" in (
        line.getMessage()
    )


@pytest.mark.parametrize(
    ("limit", "kept", "longest"),
    [("COUNT", 5, 10_000), ("VALUE_LENGTH", 10_000, 5)],
)
def test_limits_of_the_sdk_hold(
    limit: str,
    kept: int,
    longest: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who limits attributes gets no more of them, and learns how many were left out."""
    monkeypatch.setenv(f"OTEL_SPAN_ATTRIBUTE_{limit}_LIMIT", "5")
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "0")
    (meant,) = spans(exchange(), [])
    linked = replace(meant, links=(Link(TRACE, PARENT, "called"),))
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        sender.hand_over([linked])
        assert sender.close() == 0
        (span,) = receiver.spans()
    found = attributes(span)
    assert len(found) == min(kept, len(meant.attributes))
    assert span.dropped_attributes_count == len(meant.attributes) - len(found)
    texts = [value for value in found.values() if isinstance(value, str)]
    assert max(map(len, texts)) <= longest
    assert not span.links
    assert span.dropped_links_count == 1
    assert not caplog.records


def test_a_limit_that_is_no_number_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused in a sentence, as all that cannot be done is."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")
    with pytest.raises(UsageError, match="OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"):
        telemetry("http://127.0.0.1:1")


def test_the_collector_learns_who_speaks_and_in_which_vocabulary() -> None:
    """The resource names the service; the scope names the package and the schema."""
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        sender.emit(exchange(), [])
        sender.close()
        receiver.spans()
        (resource_spans,) = receiver.resource_spans
    resource = attributes(resource_spans)
    assert resource["service.name"] == "sse-recorder"
    assert resource["service.version"] == __version__
    assert resource["service.instance.id"]
    (scope_spans,) = resource_spans.scope_spans
    assert scope_spans.scope.name == "sse_recorder"
    assert scope_spans.scope.version == __version__
    assert scope_spans.schema_url == semconv.SCHEMA_URL


def test_the_environment_names_the_service() -> None:
    """OTEL_SERVICE_NAME wins over OTEL_RESOURCE_ATTRIBUTES, which wins over ours."""
    with otlp_receiver() as receiver:
        sender = telemetry(
            receiver.endpoint,
            OTEL_RESOURCE_ATTRIBUTES="service.name=a,team=r%20d, ,=x,y",
            OTEL_SERVICE_NAME="b",
        )
        sender.emit(exchange(), [])
        sender.close()
        receiver.spans()
        resource = attributes(receiver.resource_spans[0])
    assert resource["service.name"] == "b"
    assert resource["team"] == "r d"


def test_a_rebuilt_export_is_the_same_as_the_live_one() -> None:
    """Sending a recording again gives the same ids and times, so nothing is doubled."""
    with otlp_receiver() as receiver:
        for _ in range(2):
            sender = telemetry(receiver.endpoint)
            sender.emit(exchange(), FIVE_CALLS)
            assert sender.close() == 0
        came = [as_data(span) for span in receiver.spans(count=12)]
    assert came[:6] == came[6:]


def test_no_content_leaves() -> None:
    """Arguments, results, bodies and error texts are in no exported byte."""
    secret = "SENTINEL"  # noqa: S105 - what must not be found
    call = tool_call(arguments=f'{{"q": "{secret}"}}', result=f'"{secret}"')
    said = exchange(
        request_body=secret.encode(),
        error=f"{secret} the server said: {secret}",
        outcome=Outcome.UPSTREAM_ERROR,
        url=f"https://user:{secret}@api.meibel.ai/",
        request_headers=(*INBOUND, ("Authorization", secret)),
        response_headers=(("Set-Cookie", secret),),
        tags={"a": secret},
        reason=secret,
    )
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        sender.emit(said, [call, replace(call, seq=1, status="error", span_id="")])
        sender.close()
        receiver.spans(count=3)
        assert receiver.bodies
        assert not [body for body in receiver.bodies if secret.encode() in body]


def test_a_name_that_protobuf_cannot_say_costs_no_span() -> None:
    """A lone surrogate, which JSON can carry, does not lose the batch it is in."""
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        sender.emit(exchange(model="m\ud800"), [tool_call(tool_name="t\udfff")])
        assert sender.close() == 0
        assert receiver.spans(count=2)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_a_ratio_of_the_traces_is_sampled(ratio: float) -> None:
    """Of those that begin here, too: their ids are as good as random to a sampler."""
    sender = Telemetry(None, sampler=TraceIdRatioBased(ratio))
    ids = (uuid7(T0 + n * MS) for n in range(2_000))
    sampled = sum(sender.context(exchange_id, ()).sampled for exchange_id in ids)
    assert sampled == pytest.approx(2_000 * ratio, abs=150)  # seven sigma


@pytest.mark.parametrize(
    ("sampler", "headers", "sampled"),
    [
        ({}, (), True),
        ({}, INBOUND, True),
        ({}, UNSAMPLED, False),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, UNSAMPLED, True),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, INBOUND, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, UNSAMPLED, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, (), False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, INBOUND, True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, (), True),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
            INBOUND,
            False,
        ),
        (
            {
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.0",
            },
            INBOUND,
            True,
        ),
    ],
)
def test_what_is_sent_upstream_and_what_is_exported_agree(
    sampler: dict[str, str], headers: Headers, *, sampled: bool
) -> None:
    """The sampler decides once for a trace; what it leaves out is not exported.

    It holds whether the recording has the client's header or the one sent upstream.
    """
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint, **sampler)
        context = sender.context(ID, headers)
        upstream = (("traceparent", context.traceparent()),)
        for recorded in (headers, upstream):
            done = exchange(
                request_headers=recorded,
                trace_id=context.trace_id,
                span_id=context.span_id,
                parent_span_id=PARENT if headers else "",
            )
            sender.emit(done, [tool_call()])
        assert sender.close() == 0
        assert len(receiver.spans(count=0)) == (4 if sampled else 0)
    assert context.sampled is sampled


def test_the_context_continues_the_clients_trace() -> None:
    """An exchange is in its client's trace, with a span of its own."""
    sender = Telemetry(Kept())
    assert sender.context(ID, INBOUND) == TraceContext(TRACE, OWN_SPAN, sampled=True)
    assert sender.context(ID, ()) == TraceContext(OWN_TRACE, OWN_SPAN, sampled=True)
    sender.close()


def test_a_sampler_and_a_resource_can_be_given() -> None:
    """What the caller gives is used instead of the defaults."""
    off, on = Kept(), Kept()
    for exporter, sampler in ((off, ALWAYS_OFF), (on, ALWAYS_ON)):
        sender = Telemetry(exporter, sampler=sampler, resource={"service.name": "x"})
        sender.emit(exchange(request_headers=UNSAMPLED), [])
        assert sender.close() == 0
    assert off.kept == []
    assert [span.resource.attributes["service.name"] for span in on.kept] == ["x"]


def test_the_parent_of_an_exchange_is_remote_and_of_a_tool_call_is_not() -> None:
    """Backends tell an entry into a service by its remote parent."""
    exporter = Kept()
    sender = Telemetry(exporter)
    sender.emit(exchange(), [tool_call()])
    sender.close()
    parents = {span.name: span.parent for span in exporter.kept}
    assert parents["invoke_agent"] is not None
    assert parents["invoke_agent"].is_remote
    assert parents["execute_tool search"] is not None
    assert not parents["execute_tool search"].is_remote


def test_an_open_exchange_is_not_exported() -> None:
    """There is nothing to hand over before the end."""
    exporter = Kept()
    sender = Telemetry(exporter)
    sender.emit(exchange(outcome=None), [tool_call()])
    assert sender.close() == 0
    assert exporter.kept == []


# A collector in trouble.


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Check that what happens inside takes less than a generous bound."""
    began_ns = SYSTEM.monotonic_ns()
    yield
    assert SYSTEM.monotonic_ns() - began_ns < limit_s * 1e9


def test_a_collector_that_hangs_delays_neither_emit_nor_close() -> None:
    """Emit returns at once, close within its bound, and says what was not delivered."""
    with otlp_receiver(hang=True) as receiver:
        sender = telemetry(receiver.endpoint)
        with within(4.0):
            for _ in range(600):  # more than a batch, so that one is in flight
                sender.emit(exchange(), [])
            assert receiver.requests(timeout_s=2.0) == 1
            sender.emit(exchange(), [])
            assert sender.close(timeout_s=0.2) == 601


def test_a_collector_that_refuses_does_not_delay_close() -> None:
    """Retries end with the bound, not with the exporter's own deadline."""
    with socket.socket() as bound:  # bound and not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        sender = telemetry(f"http://127.0.0.1:{bound.getsockname()[1]}")
        sender.emit(exchange(), [tool_call()])
        with within(4.0):
            assert sender.close(timeout_s=0.2) == 2


def test_spans_that_the_collector_rejects_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A collector's no is final: counted, logged in a line of ours, never raised."""
    with otlp_receiver(status=400) as receiver:
        sender = telemetry(receiver.endpoint, OTEL_METRICS_EXPORTER="none")
        sender.emit(exchange(), [tool_call()])
        assert sender.close() == 2
        assert receiver.requests() == 1
    (record,) = caplog.records
    assert record.name == "sse_recorder.otel"
    assert "400" in record.getMessage()


def test_close_can_be_called_again_and_emit_after_it() -> None:
    """A late exchange is counted as not delivered, and does no harm."""
    exporter = Kept()
    sender = Telemetry(exporter)
    sender.emit(exchange(), [])
    assert sender.close() == 0
    sender.emit(exchange(), [])
    assert sender.close() == 1
    assert len(exporter.kept) == 1


def test_a_full_queue_keeps_the_newest_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of spans that come too fast the oldest are lost, and counted."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    blocked, entered = threading.Event(), threading.Event()

    class Blocked(Kept):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            entered.set()
            blocked.wait(10)
            return super().export(spans)

    exporter = Blocked()
    sender = Telemetry(exporter)
    sender.emit(exchange(), [tool_call(seq) for seq in range(3)])
    assert entered.wait(10)  # those four are on their way; the next four wait
    sender.emit(exchange(), [tool_call(seq) for seq in range(5)])
    blocked.set()
    assert sender.close() == 2
    assert exporter.kept[-1].name == "invoke_agent"
    (line,) = caplog.records
    assert line.name == "sse_recorder.otel"
    assert "the queue is full); 2 are lost so far" in line.getMessage()


def test_what_has_content_is_sent_in_small_batches() -> None:
    """So much as fits into what collectors take at once, live and from a store."""
    long = json.dumps("x" * 16_000)
    calls = [tool_call(seq, arguments=long, result=long) for seq in range(150)]
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint, **{CONTENT_VARIABLE: "SPAN_ONLY"})
        sender.emit(exchange(), calls)
        again = spans(exchange(), calls, view=sender.view)
        assert send([again], sender) == (151, 0)
        assert sender.close() == 0
        assert len(receiver.spans(count=302)) == 302
        assert max(map(len, receiver.all_bodies)) < 4 << 20


@pytest.mark.parametrize("status", [503, 429])
def test_a_collector_that_is_busy_is_asked_again_and_then_left(status: int) -> None:
    """It says when to come back; whoever stops before that has waited no longer."""
    busy = (("Retry-After", "30"),)
    with otlp_receiver(status=status, headers=busy) as receiver:
        sender = telemetry(receiver.endpoint)
        sender.emit(exchange(), [])
        with within(4.0):
            assert sender.close(timeout_s=0.2) == 1


def test_a_slow_collector_gets_everything() -> None:
    """What is slow is waited for at the end, and by nobody before."""
    with otlp_receiver(delay_s=0.3) as receiver:
        sender = telemetry(receiver.endpoint)
        with within(1.5):
            for _ in range(5):
                sender.emit(exchange(), [tool_call()])
        assert sender.close() == 0
        assert len(receiver.spans(count=10)) == 10


def test_a_collector_without_a_place_for_metrics_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Some take spans only: that is said once, with the variable that ends it."""
    with otlp_receiver() as receiver:
        sender = telemetry(
            receiver.endpoint,
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=f"{receiver.endpoint}/nowhere",
        )
        sender.emit(exchange(), [])
        assert sender.close() == 0
        assert receiver.spans()
    (record,) = caplog.records
    assert "Set OTEL_METRICS_EXPORTER=none" in record.getMessage()


def test_an_answered_call_is_exported_with_its_links() -> None:
    """It is told of after both exchanges, and has the links of both on the wire."""
    next_id = ID.replace("8c00", "9c00")
    call = tool_call(timing="cross_request", result_exchange_id=next_id)
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        for eid in (ID, next_id):
            sender.began(eid, opening(eid))
        sender.told(call)
        sender.told(replace(call, exchange_id="unknown"))
        assert sender.close() == 0
        (span,) = receiver.spans()
    expected = answered_span(
        call, Origin.of(ID, opening(ID)), Origin.of(next_id, opening(next_id)), View()
    )
    assert as_data(span) == expected
    assert [link.kind for link in expected.links] == ["called", "answered"]


def test_an_answered_call_of_a_trace_that_is_not_sampled_is_not_exported() -> None:
    """It has the decision of the exchange that called it."""
    exporter = Kept()
    sender = Telemetry(exporter)
    sender.began(ID, opening(ID, UNSAMPLED))
    sender.told(tool_call(timing="cross_request"))
    assert sender.close() == 0
    assert exporter.kept == []


def test_only_the_latest_exchanges_are_kept_in_mind() -> None:
    """A recorder that runs for a year remembers no more than one that ran a day."""
    sender = Telemetry(Kept())
    for number in range(ORIGINS_MAX + 5):
        sender.began(str(number), opening(ID))
    assert len(sender._origins) == ORIGINS_MAX
    assert "4" not in sender._origins
    sender.close()


def test_the_receiver_is_a_process_too() -> None:
    """As a process the receiver prints where it listens, then lines of JSON."""
    script = Path(__file__).parent.parent / "otlp_receiver.py"
    with subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        sender = telemetry(process.stdout.readline().strip())
        sender.emit(exchange(), [])
        assert sender.close() == 0
        said, _ = process.communicate()  # closes its input, which ends it
    lines = [json.loads(line) for line in said.splitlines()]
    (span,) = (line for line in lines if "name" in line)
    assert span["name"] == "invoke_agent"
    assert span["span_id"] == OWN_SPAN
    metrics = {line["metric"] for line in lines if "metric" in line}
    assert "gen_ai.client.operation.duration" in metrics
    assert process.returncode == 0
