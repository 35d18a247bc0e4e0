"""What the tests of telemetry share: exchanges, tool calls, spans, an exporter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from otlp_receiver import Span, attributes

from sse_recorder.exchange import Exchange, Headers, Outcome, ToolCall
from sse_recorder.otel import Link, SpanData, Telemetry
from sse_recorder.trace import derive_span_id, exchange_context

T0 = 1_700_000_000_123_456_789
ID = "01936a3e-8c00-7abc-9def-0123456789ab"
OWN_TRACE = exchange_context(ID, None).trace_id
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
        first_event_ns=200 * MS,
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


REMOTE_PARENT = 0x200
KINDS: dict[int, Literal["client", "server", "internal"]] = {
    Span.SpanKind.SPAN_KIND_CLIENT: "client",
    Span.SpanKind.SPAN_KIND_SERVER: "server",
    Span.SpanKind.SPAN_KIND_INTERNAL: "internal",
}


def as_data(span: Span) -> SpanData:
    """Return a span of the wire in our terms."""
    return SpanData(
        name=span.name,
        kind=KINDS[span.kind],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes={
            name: tuple(value) if isinstance(value, list) else value  # type: ignore[misc]
            for name, value in attributes(span).items()
        },
        trace_state=span.trace_state,
        has_remote_parent=bool(span.flags & REMOTE_PARENT),
        links=tuple(
            Link(
                link.trace_id.hex(),
                link.span_id.hex(),
                next(pair.value.string_value for pair in link.attributes),
            )
            for link in span.links
        ),
    )
