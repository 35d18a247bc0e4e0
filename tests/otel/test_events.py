"""Events: log records that belong to a span."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from otel_samples import ID, MS, OWN_SPAN, T0, TRACE, exchange, telemetry, tool_call
from otlp_receiver import attributes, otlp_receiver

from sse_recorder.dialects.base import Kind
from sse_recorder.exchange import Outcome
from sse_recorder.otel import Telemetry, View, spans
from sse_recorder.otel.events import CONNECTED, DETAILS, EXCEPTION, STATUS, events
from sse_recorder.otel.stream import NOTHING_HEARD, NOTICES_MAX
from sse_recorder.tables import FrameRow


def frame(seq: int, name: str | None, kind: Kind, data: str) -> FrameRow:
    """Return an event that came so many milliseconds after t0."""
    return FrameRow(
        exchange_id=ID,
        seq=seq,
        first_ns=seq * MS,
        last_ns=seq * MS,
        size=len(data),
        type="event",
        event=name,
        id=None,
        retry=None,
        data=data,
        layout="",
        raw=None,
        anomaly=None,
        kind=kind,
    )


CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CALLS = [tool_call(arguments='{"q": 1}', result='"found"')]
BODY = json.dumps({"user_message": "where to?"}).encode()


def test_content_on_events_is_structured_and_stays_off_the_spans() -> None:
    """The details of an operation have its messages, and the span's attributes."""
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint, **{CONTENT: "EVENT_ONLY"})
        sender.emit(exchange(request_body=BODY), CALLS)
        assert sender.close() == 0
        root, *_ = receiver.spans(count=2)
        (record,) = receiver.logs
    assert record.event_name == DETAILS
    assert record.severity_text == "DEBUG"
    assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE, OWN_SPAN)
    found = attributes(record)
    assert found["gen_ai.input.messages"] == [
        {"role": "user", "parts": [{"type": "text", "content": "where to?"}]}
    ]
    assert found["gen_ai.conversation.id"] == "s-1"
    assert not [name for name in attributes(root) if name.endswith("messages")]


def test_content_may_be_on_both() -> None:
    """With SPAN_AND_EVENT it is told twice."""
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint, **{CONTENT: "SPAN_AND_EVENT"})
        sender.emit(exchange(request_body=BODY), CALLS)
        sender.close()
        names = [name for span in receiver.spans(count=2) for name in attributes(span)]
        assert len(receiver.logs) == 1
    assert "gen_ai.input.messages" in names
    assert "gen_ai.tool.call.arguments" in names


@pytest.mark.parametrize(
    ("outcome", "error", "expected"),
    [
        (Outcome.UPSTREAM_ERROR, "ConnectionRefusedError: x", "ConnectionRefusedError"),
        (Outcome.TIMEOUT, "silent", "timeout"),
        (Outcome.UPSTREAM_ABORT, "reset: SECRET", "stream_truncated"),
        (Outcome.COMPLETE, None, None),
        (Outcome.CLIENT_ABORT, "the client left", None),
    ],
)
def test_what_kept_a_request_from_its_answer_is_an_event(
    outcome: Outcome, error: str | None, expected: str | None
) -> None:
    """It is called by its class; its message may quote what was sent, and stays out."""
    one = exchange(outcome=outcome, error=error)
    (root,) = spans(one, [])
    found = events(one, [], NOTHING_HEARD, root, View())
    said = [(event.name, dict(event.attributes), event.severity) for event in found]
    about = {"exception.type": expected}
    assert said == ([(EXCEPTION, about, "WARN")] if expected else [])


SAID = [
    ("connected", Kind.CONNECTED, '{"signal_id": "SECRET"}'),
    ("status", Kind.STATUS, '{"disposition": "thinking", "content": "SECRET"}'),
    ("message", Kind.STATUS, '{"result": {"status": {"state": "working"}}}'),
    ("status", Kind.STATUS, '{"status": "SECRET 1", "type": "SECRET 2"}'),
    (None, Kind.STATUS, "SECRET SECRET"),
]


def test_greetings_and_status_are_events_where_they_are_asked_for() -> None:
    """Each has its own time, and the word that it calls itself, never its content."""
    view = View(stream_events=True)
    listener = view.listener()
    for seq, (name, kind, data) in enumerate(SAID):
        listener.hear(frame(seq, name, kind, data))
    with otlp_receiver() as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        sender = Telemetry.from_environment(environ, view=view)
        assert sender is not None
        sender.emit(exchange(), [], listener.facts())
        assert sender.close() == 0
        receiver.spans()
        came = receiver.logs
    assert b"SECRET" not in b"".join(log.SerializeToString() for log in came)
    assert [(log.event_name, log.time_unix_nano - T0) for log in came] == [
        (CONNECTED, 0),
        *((STATUS, seq * MS) for seq in range(1, 5)),
    ]
    codes = [attributes(log).get("sse_recorder.status.code") for log in came]
    assert codes == [None, "thinking", "working", "status", None]


def test_the_events_of_a_stream_are_bounded_and_off_by_default() -> None:
    """A stream that reports a million times has no more than the first ones."""
    listeners = [View(stream_events=on).listener() for on in (True, False)]
    for listener in listeners:
        for seq in range(NOTICES_MAX + 10):
            listener.hear(frame(seq, "status", Kind.STATUS, "{}"))
    told, silent = (listener.facts() for listener in listeners)
    assert (len(told.notices), told.statuses) == (NOTICES_MAX, NOTICES_MAX + 10)
    assert not silent.notices


def test_events_that_find_no_room_are_counted_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As spans are: the SDK itself would speak of none of them, or again and again."""
    view = View(stream_events=True)
    listener = view.listener()
    for seq in range(NOTICES_MAX):
        listener.hear(frame(seq, "status", Kind.STATUS, "{}"))
    with otlp_receiver(hang=True) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
        }
        sender = Telemetry.from_environment(environ, view=view)
        assert sender is not None
        for _ in range(100):
            sender.emit(exchange(), [], listener.facts())
        sender.close(timeout_s=0)
    (line,) = caplog.records
    assert "Events do not reach the collector (the queue is full)" in line.getMessage()


def test_an_http_request_has_no_events() -> None:
    """Those are of operations that the GenAI conventions know."""
    one = exchange(dialect=None, outcome=Outcome.TIMEOUT)
    (root,) = spans(one, [])
    shown = View(content_on_events=True)
    assert events(one, [], NOTHING_HEARD, root, shown) == []


def test_odd_content_costs_no_other_event() -> None:
    """What JSON can say and OTLP cannot is told, and so is all else of its batch."""
    odd = ['"\\ud800"', str(2**70), "[NaN]", "[" * 90 + "]" * 90]
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint, **{CONTENT: "EVENT_ONLY"})
        for arguments in odd:
            sender.emit(exchange(), [tool_call(arguments=arguments)])
        assert sender.close() == 0
        told = [attributes(record) for record in receiver.logs]
    assert len(told) == len(odd)
    for found in told:
        (message,) = cast("list[Any]", found["gen_ai.output.messages"])
        assert message["parts"][0]["name"] == "search"


def test_what_is_too_long_for_an_event_is_cut_and_counted() -> None:
    """A collector takes so much; what is gone is told in bytes."""
    body = json.dumps({"user_message": "x" * 100_000}).encode()
    one = exchange(request_body=body)
    (root,) = spans(one, [])
    (event,) = events(one, [], NOTHING_HEARD, root, View(content_on_events=True))
    assert event.attributes["sse_recorder.content.truncated"] is True
    assert event.attributes["sse_recorder.content.dropped_bytes"] > 80_000
