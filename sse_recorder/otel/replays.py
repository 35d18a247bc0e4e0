"""Replays: what serving a recording looks like in a tracing system.

A server's span, in the trace of the client that asks or in one of its own, with a link
to the span that was recorded.  No model was called and no agent ran: so there is no
usage, no tool and no metric of a client, which would all be counted twice.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from sse_recorder import semconv
from sse_recorder.exchange import Exchange, RequestHead
from sse_recorder.otel.data import SpanData, Value, clean, present
from sse_recorder.otel.spans import method_of
from sse_recorder.otel.tools import Origin
from sse_recorder.trace import TraceContext, trace_state


class Replayed(NamedTuple):
    """One request that a recording answered."""

    head: RequestHead
    """Of the request."""
    recorded: Exchange
    began_at: int
    """Wall time, in nanoseconds since 1970."""
    ended_at: int
    speed: float
    """How many times as fast as recorded; infinite for without any waiting."""
    status: int | None
    """Of the response; None where there was none."""
    was_left: bool
    """The client left before the end."""


def replay_span(
    replayed: Replayed, context: TraceContext, parent: TraceContext | None
) -> SpanData:
    """Return the span of a replay.

    Args:
        replayed: what was served.
        context: of the span itself.
        parent: of the client, where it said.
    """
    recorded, status = replayed.recorded, replayed.status
    error = None
    if replayed.was_left:
        error = semconv.CLIENT_DISCONNECTED
    elif status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        error = str(status)
    is_timed = replayed.speed != float("inf")
    found: dict[str, Value | None] = {
        semconv.HTTP_REQUEST_METHOD: method_of(
            replayed.head.method, unknown=semconv.OTHER
        ),
        semconv.HTTP_RESPONSE_STATUS_CODE: status,
        semconv.URL_PATH: clean(replayed.head.path),
        semconv.URL_SCHEME: "http",
        semconv.NETWORK_PROTOCOL_VERSION: clean(replayed.head.http_version),
        semconv.MODE: semconv.REPLAY,
        semconv.REPLAY_SPEED: float(replayed.speed) if is_timed else 0.0,
        semconv.REPLAY_EXCHANGE_ID: recorded.exchange_id,
        semconv.ERROR_TYPE: error,
    }
    return SpanData(
        name=method_of(replayed.head.method, unknown="HTTP"),
        kind="server",
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_span_id=None if parent is None else parent.span_id,
        start_ns=replayed.began_at,
        end_ns=max(replayed.ended_at, replayed.began_at),
        attributes=present(found),
        trace_state=trace_state(replayed.head.headers),
        has_remote_parent=parent is not None,
        links=(Origin.of(recorded.exchange_id, recorded).link(semconv.RECORDED),),
    )
