"""Spans: what an exchange is turned into, and how it gets to a collector."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from otlp_receiver import Span, attributes, otlp_receiver

from sse_recorder import __version__, semconv
from sse_recorder.clock import SYSTEM, FakeClock
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Exchange, Headers, Outcome, ToolCall
from sse_recorder.otel import (
    TOOL_SPANS_MAX,
    SpanData,
    Telemetry,
    clean,
    spans,
)
from sse_recorder.trace import TraceContext, derive_span_id

T0 = 1_700_000_000_123_456_789
ID = "01936a3e-8c00-7abc-9def-0123456789ab"
OWN_TRACE = ID.replace("-", "")
OWN_SPAN = derive_span_id(ID)
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
INBOUND: Headers = (("Traceparent", f"00-{TRACE}-{PARENT}-01"),)
UNSAMPLED: Headers = (("Traceparent", f"00-{TRACE}-{PARENT}-00"),)
MS = 1_000_000


def exchange(**changes: Any) -> Exchange:
    """Return an agent's exchange that went well."""
    base = Exchange(
        exchange_id=ID,
        recorder_id="r1",
        started_at=T0,
        method="POST",
        url="https://api.meibel.ai/v2/sessions/s-1/chat/stream?debug=1",
        path="/v2/sessions/s-1/chat/stream",
        request_headers=INBOUND,
        status=200,
        dialect="meibel",
        session_id="s-1",
        outcome=Outcome.COMPLETE,
        first_content_ns=250 * MS,
        ended_ns=2_000 * MS,
        frame_count=9,
        response_size=1_234,
        input_tokens=11,
        output_tokens=7,
        finish_reason="stop",
        trace_id=TRACE,
        span_id=OWN_SPAN,
        parent_span_id=PARENT,
    )
    return replace(base, **changes)


def tool_call(seq: int = 0, **changes: Any) -> ToolCall:
    """Return a tool call that was answered."""
    base = ToolCall(
        exchange_id=ID,
        seq=seq,
        tool_id=f"call_{seq}",
        tool_name="search",
        status="ok",
        timing="wire_bracket",
        first_ns=290 * MS,
        called_ns=300 * MS,
        result_ns=701 * MS,
        duration_ns=401 * MS,
        call_frame=2,
        result_frame=5,
        span_id=derive_span_id(ID, seq),
    )
    return replace(base, **changes)


UNANSWERED: dict[str, Any] = {
    "status": "unanswered",
    "result_ns": None,
    "duration_ns": None,
    "result_frame": None,
}
UNMATCHED: dict[str, Any] = {
    "status": "unmatched",
    "tool_name": None,
    "first_ns": None,
    "called_ns": None,
    "duration_ns": None,
    "call_frame": None,
    "parallelism": 0,
}

FIVE_CALLS = [
    tool_call(0, tool_name="search", parallelism=1),
    tool_call(
        1,
        tool_name="weather",
        parallelism=2,
        called_ns=310 * MS,
        result_ns=500 * MS + 1,
        duration_ns=190 * MS + 1,
        call_frame=3,
        result_frame=4,
    ),
    tool_call(
        2,
        tool_name="book",
        status="error",
        called_ns=800 * MS,
        result_ns=900 * MS,
        duration_ns=100 * MS,
        call_frame=6,
        result_frame=7,
    ),
    tool_call(3, tool_name="pay", called_ns=950 * MS, call_frame=8, **UNANSWERED),
    tool_call(4, tool_id="ghost", result_ns=1_000 * MS, result_frame=9, **UNMATCHED),
]


def tool_span(
    seq: int, name: str, start_ns: int, end_ns: int, **facts: str | int
) -> SpanData:
    """Return the span that a tool call should give."""
    return SpanData(
        name=name,
        kind="internal",
        trace_id=TRACE,
        span_id=derive_span_id(ID, seq),
        parent_span_id=OWN_SPAN,
        start_ns=T0 + start_ns,
        end_ns=T0 + end_ns,
        attributes={
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.type": "extension",
            "sse_recorder.tool.timing": "wire_bracket",
            **{key.replace("__", "."): value for key, value in facts.items()},
        },
    )


def test_one_exchange_is_exactly_these_spans() -> None:
    """Two parallel tools, one failed, one unanswered and one unmatched, to the ns."""
    assert spans(exchange(), FIVE_CALLS) == [
        SpanData(
            name="invoke_agent",
            kind="client",
            trace_id=TRACE,
            span_id="a35b37bed27a9f4d",
            parent_span_id=PARENT,
            start_ns=1_700_000_000_123_456_789,
            end_ns=1_700_000_002_123_456_789,
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.provider.name": "meibel",
                "gen_ai.conversation.id": "s-1",
                "url.full": "https://api.meibel.ai/v2/sessions/s-1/chat/stream?debug=1",
                "server.address": "api.meibel.ai",
                "server.port": 443,
                "http.request.method": "POST",
                "http.response.status_code": 200,
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.response.time_to_first_chunk": 0.25,
                "gen_ai.usage.input_tokens": 11,
                "gen_ai.usage.output_tokens": 7,
                "sse_recorder.exchange.id": ID,
                "sse_recorder.mode": "proxy",
                "sse_recorder.outcome": "complete",
                "sse_recorder.stream.frames": 9,
                "sse_recorder.stream.bytes": 1_234,
                "sse_recorder.tool.calls": 5,
            },
        ),
        tool_span(
            0,
            "execute_tool search",
            300 * MS,
            701 * MS,
            gen_ai__tool__name="search",
            gen_ai__tool__call__id="call_0",
            sse_recorder__tool__parallelism=1,
            sse_recorder__tool__call_frame=2,
            sse_recorder__tool__result_frame=5,
        ),
        tool_span(
            1,
            "execute_tool weather",
            310 * MS,
            500 * MS + 1,
            gen_ai__tool__name="weather",
            gen_ai__tool__call__id="call_1",
            sse_recorder__tool__parallelism=2,
            sse_recorder__tool__call_frame=3,
            sse_recorder__tool__result_frame=4,
        ),
        tool_span(
            2,
            "execute_tool book",
            800 * MS,
            900 * MS,
            gen_ai__tool__name="book",
            gen_ai__tool__call__id="call_2",
            sse_recorder__tool__parallelism=1,
            sse_recorder__tool__call_frame=6,
            sse_recorder__tool__result_frame=7,
            error__type="tool_error",
        ),
        tool_span(
            3,
            "execute_tool pay",
            950 * MS,
            2_000 * MS,
            gen_ai__tool__name="pay",
            gen_ai__tool__call__id="call_3",
            sse_recorder__tool__parallelism=1,
            sse_recorder__tool__call_frame=8,
            error__type="unanswered",
        ),
        tool_span(
            4,
            "execute_tool",
            1_000 * MS,
            1_000 * MS,
            gen_ai__tool__call__id="ghost",
            sse_recorder__tool__unmatched=True,
            sse_recorder__tool__result_frame=9,
        ),
    ]


def test_a_failed_span_has_an_error_status_and_any_other_has_none() -> None:
    """The status is an error exactly where there is an error type."""
    found = spans(exchange(), FIVE_CALLS)
    assert [(span.status, span.error_type) for span in found] == [
        ("unset", None),
        ("unset", None),
        ("unset", None),
        ("error", "tool_error"),
        ("error", "unanswered"),
        ("unset", None),
    ]


def test_a_tool_span_lasts_exactly_as_long_as_its_row_says() -> None:
    """Of a bracket on the wire, not a nanosecond is lost."""
    call = tool_call(
        called_ns=300_000_001, result_ns=700_000_008, duration_ns=400_000_007
    )
    assert spans(exchange(), [call])[1].duration_ns == call.duration_ns


@pytest.mark.parametrize(
    ("changes", "start_ns", "end_ns", "error"),
    [
        ({"status": "superseded", "result_ns": 444}, 100, 444, "superseded"),
        ({"called_ns": None, "first_ns": 90, "result_ns": 500}, 90, 500, None),
        ({**UNANSWERED, "called_ns": None, "first_ns": 90}, 90, 1_000, "unanswered"),
        ({"called_ns": None, "first_ns": None, "result_ns": 500}, 500, 500, None),
        ({**UNANSWERED, "called_ns": 1_001}, 1_001, 1_001, "unanswered"),
    ],
    ids=["superseded", "no arguments", "neither", "only a result", "after the end"],
)
def test_a_tool_span_begins_and_ends_where_the_wire_shows_it(
    changes: dict[str, Any], start_ns: int, end_ns: int, error: str | None
) -> None:
    """A call begins with what is known of it, and ends no later than its exchange."""
    call = tool_call(**{"called_ns": 100, **changes})
    span = spans(exchange(ended_ns=1_000), [call])[1]
    assert (span.start_ns - T0, span.end_ns - T0) == (start_ns, end_ns)
    assert span.error_type == error


def test_a_tool_that_the_client_runs_is_a_function() -> None:
    """A result that came with a later request is the work of the client."""
    span = spans(exchange(), [tool_call(timing="cross_request")])[1]
    assert span.attributes[semconv.GEN_AI_TOOL_TYPE] == "function"


def test_an_exchange_of_no_agent_is_an_http_span() -> None:
    """What no agent answered is called by its method, and makes no claim about one."""
    (span,) = spans(exchange(dialect=None, finish_reason=None, method="GET"), [])
    assert span.name == "GET"
    assert not {name for name in span.attributes if name.startswith("gen_ai.o")}
    assert semconv.GEN_AI_PROVIDER_NAME not in span.attributes
    assert semconv.GEN_AI_CONVERSATION_ID not in span.attributes


def test_an_unknown_method_names_no_span() -> None:
    """A method that a client made up does not become the name of a span."""
    (span,) = spans(exchange(dialect=None, method="BREW"), [])
    assert span.name == "HTTP"
    assert span.attributes[semconv.HTTP_REQUEST_METHOD] == "_OTHER"


def test_what_is_not_known_is_not_said() -> None:
    """A fact that the recording lacks is an attribute that the span lacks."""
    bare = Exchange(
        exchange_id=ID,
        recorder_id="r1",
        started_at=T0,
        method="GET",
        url="http://127.0.0.1:8000/a",
        path="/a",
        outcome=Outcome.COMPLETE,
    )
    (span,) = spans(bare, [])
    assert span.attributes == {
        "url.full": "http://127.0.0.1:8000/a",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "http.request.method": "GET",
        "sse_recorder.exchange.id": ID,
        "sse_recorder.mode": "proxy",
        "sse_recorder.outcome": "complete",
        "sse_recorder.stream.frames": 0,
        "sse_recorder.stream.bytes": 0,
        "sse_recorder.tool.calls": 0,
    }
    assert (span.trace_id, span.span_id) == (OWN_TRACE, OWN_SPAN)
    assert span.parent_span_id is None
    assert span.duration_ns == 0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": 399}, None),
        ({"status": 429}, "429"),
        ({"status": 500, "outcome": Outcome.UPSTREAM_ABORT}, "500"),
        (
            {"outcome": Outcome.UPSTREAM_ABORT, "error": "eof: 3 left"},
            "stream_truncated",
        ),
        ({"outcome": Outcome.TIMEOUT}, "timeout"),
        ({"outcome": Outcome.CLIENT_ABORT}, None),
        ({"outcome": Outcome.CLIENT_ABORT, "status": 503}, "503"),
        ({"outcome": Outcome.INCOMPLETE, "error": "the queue was full"}, None),
    ],
)
def test_the_error_type_says_what_went_wrong(
    changes: dict[str, Any], error: str | None
) -> None:
    """The server's status comes first, then how the exchange ended."""
    (span,) = spans(exchange(**changes), [])
    assert span.error_type == error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("ConnectionRefusedError: [Errno 111]", "ConnectionRefusedError"),
        ("ssl.SSLCertVerificationError: self-signed", "ssl.SSLCertVerificationError"),
        ("reset: by peer", "reset"),
        ("eof", "eof"),
        ("what the server said: secret", "_OTHER"),
        ("api.example.com: refused", "_OTHER"),
        ("", "_OTHER"),
        (None, "_OTHER"),
    ],
)
def test_an_upstream_error_is_called_by_its_class(text: str | None, error: str) -> None:
    """Of an error's text only the name of a class gets out, never a message or host."""
    failed = exchange(outcome=Outcome.UPSTREAM_ERROR, status=None, error=text)
    (span,) = spans(failed, [])
    assert span.error_type == error


def test_a_client_that_leaves_is_no_error_but_is_said() -> None:
    """Cancelling is the client's right: the status stays unset."""
    (span,) = spans(exchange(outcome=Outcome.CLIENT_ABORT), [])
    assert span.status == "unset"
    assert span.attributes[semconv.STREAM_CANCELLED] is True


def test_an_agents_cut_answer_finished_with_an_error() -> None:
    """A stream that was cut before its finish reason has `error` in its place."""
    cut = exchange(outcome=Outcome.UPSTREAM_ABORT, finish_reason=None)
    (span,) = spans(cut, [])
    assert span.attributes[semconv.GEN_AI_RESPONSE_FINISH_REASONS] == ("error",)


def test_an_open_exchange_has_no_spans_yet() -> None:
    """What has no end is no span."""
    assert spans(exchange(outcome=None), FIVE_CALLS) == []


def test_an_exchange_without_an_end_ends_when_it_was_last_heard_of() -> None:
    """A recorder that was killed leaves no end; the last known time stands for it."""
    killed = exchange(
        outcome=Outcome.INCOMPLETE, ended_ns=None, headers_ns=5, last_content_ns=77
    )
    assert spans(killed, [])[0].duration_ns == 77


@pytest.mark.parametrize(
    ("recorded", "parent"), [(PARENT, PARENT), ("", None)], ids=["inbound", "none"]
)
def test_the_parent_is_the_clients_span(recorded: str, parent: str | None) -> None:
    """An exchange is a child of the client's span, where the client had one."""
    own: Headers = (("traceparent", f"00-{TRACE}-{OWN_SPAN}-01"),)
    (span,) = spans(exchange(parent_span_id=recorded, request_headers=own), [])
    assert (span.trace_id, span.parent_span_id) == (TRACE, parent)


def test_ids_that_were_not_recorded_are_derived() -> None:
    """Spans of a recording made without telemetry get the ids it would have had."""
    old = exchange(trace_id="", span_id="", parent_span_id="")
    new = exchange(trace_id=OWN_TRACE, parent_span_id="")
    assert spans(old, [tool_call(span_id="")]) == spans(new, [tool_call()])


@pytest.mark.parametrize(
    ("url", "full", "address", "port"),
    [
        ("https://u:p@a.example/x?k=v", "https://a.example/x?k=v", "a.example", 443),
        ("http://u@[::1]:81/", "http://[::1]:81/", "::1", 81),
        ("http://a:99999/", None, None, None),
        ("/only/a/path", "/only/a/path", None, None),
    ],
)
def test_the_url_carries_no_credentials(
    url: str, full: str | None, address: str | None, port: int | None
) -> None:
    """User and password are taken out of the URL; what is no URL is left out."""
    (span,) = spans(exchange(url=url), [])
    assert span.attributes.get(semconv.URL_FULL) == full
    assert span.attributes.get(semconv.SERVER_ADDRESS) == address
    assert span.attributes.get(semconv.SERVER_PORT) == port


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("a\x00b\x1b[31mc\r\n", "ab[31mc"),
        ("\u202egnp.exe\u200b", "gnp.exe"),
        ("lone \ud800 half", "lone  half"),
        ("\x00", None),
        ("", None),
        (None, None),
        ("é" * 200, "é" * 128),
        ("a" + "é" * 200, "a" + "é" * 127),
    ],
)
def test_text_of_a_peer_is_cleaned_and_cut(
    text: str | None, cleaned: str | None
) -> None:
    """No control characters, no half characters, at most 256 bytes."""
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("tool_name", "name"),
    [
        ("get-weather", "execute_tool get-weather"),
        ("web_search_20250305", "execute_tool web_search_20250305"),
        ("n" * 128, "execute_tool " + "n" * 128),
        ("n" * 129, "execute_tool"),
        ("two words", "execute_tool"),
        ("run-01936a3e-8c00-7abc-9def-0123456789ab", "execute_tool"),
        ("job1700000000", "execute_tool"),
        ("\x00", "execute_tool"),
        (None, "execute_tool"),
    ],
)
def test_a_tool_name_that_is_no_name_stays_out_of_the_spans(
    tool_name: str | None, name: str
) -> None:
    """A name with an id in it, or a long one, would be a group of one in a backend."""
    assert spans(exchange(), [tool_call(tool_name=tool_name)])[1].name == name


def test_tool_spans_are_bounded_and_the_rest_is_counted() -> None:
    """A runaway stream gives 1,024 tool spans, and says how many it had."""
    calls = [tool_call(seq) for seq in range(TOOL_SPANS_MAX + 3)]
    root, *tools = spans(exchange(), calls)
    assert len(tools) == TOOL_SPANS_MAX == 1_024
    assert root.attributes[semconv.TOOL_CALLS] == 1_027
    assert root.attributes[semconv.TOOL_SPANS_DROPPED] == 3


# Shipping: the real exporter, over real HTTP.


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the variables of this machine away."""
    for name in ("HEADERS", "TRACES_HEADERS", "COMPRESSION", "TIMEOUT"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def telemetry(endpoint: str, **more: str) -> Telemetry:
    """Return telemetry that sends to an endpoint."""
    found = Telemetry.from_environment(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **more}
    )
    assert found is not None
    return found


class Kept(SpanExporter):
    """An exporter that keeps its spans, and fails when it is told to."""

    def __init__(self) -> None:
        self.kept: list[ReadableSpan] = []
        self.trouble: Exception | None = None
        self.result = SpanExportResult.SUCCESS

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep a batch."""
        if self.trouble is not None:
            raise self.trouble
        self.kept += spans
        return self.result

    def shutdown(self) -> None:
        """Raise the trouble here too."""
        if self.trouble is not None:
            raise self.trouble


def as_data(span: Span) -> SpanData:
    """Return a span of the wire in our terms."""
    return SpanData(
        name=span.name,
        kind="client" if span.kind == Span.SpanKind.SPAN_KIND_CLIENT else "internal",
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes={
            name: tuple(value) if isinstance(value, list) else value  # type: ignore[misc]
            for name, value in attributes(span).items()
        },
    )


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
        sender = telemetry(receiver.endpoint)
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


def test_what_close_left_behind_is_not_sent_later() -> None:
    """A batch that comes up after the bound is given up, as `close` has said."""
    exporter = Kept()
    sender = Telemetry(exporter)
    sender.close()
    result = sender._delivery.export([ReadableSpan("late")])
    assert result is SpanExportResult.FAILURE
    assert exporter.kept == []


@pytest.mark.parametrize(
    "trouble", [None, RuntimeError("what an exporter may raise, SENTINEL")]
)
def test_an_exporter_that_fails_is_logged_once_a_minute(
    trouble: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it fails, there is a line a minute, without the error's text."""
    clock = FakeClock()
    exporter = Kept()
    exporter.result, exporter.trouble = SpanExportResult.FAILURE, trouble
    sender = Telemetry(exporter, clock=clock.clock())
    for _ in range(3):
        sender._delivery.export([])
        clock.advance(30_000_000_000)
    assert len(caplog.records) == 2
    assert "SENTINEL" not in caplog.text
    sender.emit(exchange(), [])
    assert sender.close() == 1


def test_a_key_in_the_endpoint_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What the HTTP library says of an endpoint is logged without its query."""
    sender = Telemetry(Kept())
    sender._delivery.complain("no answer from url: /v1/traces?key=SENTINEL (refused)")
    sender.close()
    assert "SENTINEL" not in caplog.text
    assert "(refused)" in caplog.text


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
    assert "Queue full" in caplog.text
    assert {record.name for record in caplog.records} == {"sse_recorder.otel"}


def test_the_sdk_may_speak_of_spans_that_are_not_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only what the SDK says while it works for us is held back."""
    sender = Telemetry(Kept())
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    logging.getLogger(name).error("of somebody else's")
    sender.close()
    assert [record.name for record in caplog.records] == [name]


# The environment.


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_exported_unless_it_is_asked_for(environ: dict[str, str]) -> None:
    """Without an endpoint, or switched off, there is no telemetry at all."""
    assert Telemetry.from_environment(environ) is None


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({"ENDPOINT": "http://a:1"}, "http://a:1/v1/traces"),
        ({"ENDPOINT": "http://a:1/base/"}, "http://a:1/base/v1/traces"),
        ({"TRACES_ENDPOINT": "http://a:1/exactly"}, "http://a:1/exactly"),
        ({"ENDPOINT": "http://a", "TRACES_ENDPOINT": "HTTPS://b/t"}, "HTTPS://b/t"),
        (
            {"ENDPOINT": "http://a", "PROTOCOL": "http/protobuf"},
            "http://a/v1/traces",
        ),
        (
            {
                "ENDPOINT": "http://a",
                "PROTOCOL": "grpc",
                "TRACES_PROTOCOL": "http/protobuf",
            },
            "http://a/v1/traces",
        ),
    ],
)
def test_the_endpoint_is_found_as_the_specification_says(
    environ: dict[str, str], endpoint: str
) -> None:
    """The general endpoint is a base, the one for traces is used as it is."""
    named = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()}
    sender = Telemetry.from_environment(named)
    assert sender is not None
    exporter: Any = sender._delivery._exporter
    assert exporter._endpoint == endpoint
    sender.close()


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'http/json'",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "localhost:4317"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not an http",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "ENDPOINT is not an http"),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER is 'sometimes'"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
            "OTEL_TRACES_SAMPLER_ARG is 'half'",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
            "OTEL_TRACES_SAMPLER_ARG is '2'",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    environ: dict[str, str], says: str
) -> None:
    """A setting that we cannot follow is wrong usage, and names the variable."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **environ}
    with pytest.raises(UsageError) as caught:
        Telemetry.from_environment(environ)
    assert says in str(caught.value)


def test_settings_that_the_exporter_refuses_are_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The SDK's own refusals end in a sentence too."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    with pytest.raises(UsageError, match="OTEL_BSP_"):
        telemetry("http://127.0.0.1:1")


def test_the_receiver_is_a_process_too() -> None:
    """As a process the receiver prints where it listens, then each span as a line."""
    script = Path(__file__).with_name("otlp_receiver.py")
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
        line = json.loads(process.stdout.readline())
        process.communicate()  # closes its input, which ends it
    assert line["name"] == "invoke_agent"
    assert line["span_id"] == OWN_SPAN
    assert process.returncode == 0
