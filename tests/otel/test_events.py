"""Events: log records that belong to a span."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from otel_samples import OWN_SPAN, TRACE, exchange, telemetry, tool_call
from otlp_receiver import attributes, otlp_receiver

from sse_recorder.exchange import Outcome
from sse_recorder.otel import View, spans
from sse_recorder.otel.events import DETAILS, EXCEPTION, events
from sse_recorder.otel.stream import NOTHING_HEARD

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
