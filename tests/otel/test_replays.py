"""What serving a recording looks like in a tracing system."""

from __future__ import annotations

import math
from typing import Any

import pytest
from otel_samples import (
    INBOUND,
    OWN_SPAN,
    PARENT,
    T0,
    TRACE,
    UNSAMPLED,
    Kept,
    exchange,
)

from sse_recorder.exchange import Headers, RequestHead
from sse_recorder.otel import Link, Replayed, SpanData, Telemetry
from sse_recorder.otel.replays import replay_span
from sse_recorder.trace import TraceContext, parse_traceparent

OURS = TraceContext("e" * 32, "f" * 16)


def replayed(headers: Headers = (), **changes: Any) -> Replayed:
    """Return a request that was answered in a second."""
    one = Replayed(
        head=RequestHead("POST", "/chat?key=SECRET", headers),
        recorded=exchange(),
        began_at=T0,
        ended_at=T0 + 1_000_000_000,
        speed=1.0,
        status=200,
        was_left=False,
    )
    return one._replace(**changes)


def span_of(one: Replayed) -> SpanData:
    """Return its span."""
    return replay_span(one, OURS, parse_traceparent(one.head.headers))


def test_a_replay_is_a_servers_span_that_links_to_the_recorded_one() -> None:
    """It tells of HTTP and of the replay, and nothing of models and tools."""
    assert span_of(replayed()) == SpanData(
        name="POST",
        kind="server",
        trace_id="e" * 32,
        span_id="f" * 16,
        parent_span_id=None,
        start_ns=T0,
        end_ns=T0 + 1_000_000_000,
        attributes={
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "url.path": "/chat",
            "url.scheme": "http",
            "network.protocol.version": "1.1",
            "sse_recorder.mode": "replay",
            "sse_recorder.replay.speed": 1.0,
            "sse_recorder.replay.exchange.id": exchange().exchange_id,
        },
        links=(Link(TRACE, OWN_SPAN, "recorded"),),
    )


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": 429}, None),
        ({"status": 503}, "503"),
        ({"was_left": True}, "client_disconnected"),
        ({"status": None}, None),
    ],
)
def test_a_servers_errors_are_its_own(
    changes: dict[str, Any], error: str | None
) -> None:
    """To a server 4xx is the client's fault; one that leaves is told of."""
    assert span_of(replayed(**changes)).error_type == error


def test_without_waiting_the_speed_is_nought() -> None:
    """Infinity is no number that every backend takes."""
    attributes = span_of(replayed(speed=math.inf)).attributes
    assert attributes["sse_recorder.replay.speed"] == 0.0


def test_a_replay_is_in_the_trace_of_its_client() -> None:
    """Its parent is who asked, sampled or not as that is."""
    exporter = Kept()
    sender = Telemetry(exporter)
    for headers in (INBOUND, (), UNSAMPLED):
        sender.replayed(replayed(headers))
    assert sender.close() == 0
    ids = [
        (
            f"{span.context.trace_id:032x}" == TRACE,
            span.parent and f"{span.parent.span_id:016x}",
        )
        for span in exporter.kept
        if span.context is not None
    ]
    assert ids == [(True, PARENT), (False, None)]
