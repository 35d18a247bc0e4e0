"""Where an exchange of a transport is in its trace, and what its upstream is told.

Its parent is what its request names: an instrumentation of the client may have written
that.  If it names none, it is the span that is current where the request is made, for a
transport is called in its client's own task or thread.

What an upstream is told is what the proxy would tell it (see `otel.propagation`).  An
instrumentation may also stand between us and the network, and have a span of its own
there: ours is current while the inner transport works, so that span is below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sse_recorder.exchange import Headers, header
from sse_recorder.otel.propagation import Mode, Propagation
from sse_recorder.otel.telemetry import Telemetry
from sse_recorder.trace import (
    TraceContext,
    exchange_context,
    parse_traceparent,
    trace_state,
)


class Place(NamedTuple):
    """Where an exchange is in its trace."""

    headers: Headers
    """Of the request, as it is sent."""
    context: TraceContext
    parent_span_id: str
    flags: int | None
    """None where nobody decides."""
    is_current: bool = False
    """Whether its span is to be current while the inner transport works."""


class Tracing:
    """Places exchanges.

    Args:
        telemetry: says which are sampled; None where no spans are made.
        propagate: what upstreams are told.
    """

    def __init__(self, telemetry: Telemetry | None, propagate: Mode) -> None:
        self._telemetry = None if telemetry and telemetry.is_off else telemetry
        self._tells_own = propagate == "child"
        self._propagation = Propagation({"": propagate})

    def place(self, exchange_id: str, headers: Headers) -> Place:
        """Return where a new exchange is.

        Args:
            exchange_id: the exchange.
            headers: of its request, as the client made it.
        """
        if self._telemetry is not None:
            return self._told_place(self._telemetry, exchange_id, headers)
        parent = parse_traceparent(headers)
        context = exchange_context(exchange_id, parent)
        sent = self._propagation.headers(headers, "", None)
        return Place(sent, context, parent.span_id if parent else "", None)

    def _told_place(
        self, telemetry: Telemetry, exchange_id: str, headers: Headers
    ) -> Place:
        known = _with_current_span(headers)
        parent = parse_traceparent(known)
        is_remote = known is headers
        context = telemetry.context(exchange_id, known, is_remote=is_remote)
        given = known if self._tells_own else headers
        sent = self._propagation.headers(given, "", context)
        return Place(
            sent,
            context,
            parent.span_id if parent else "",
            context.flags,
            is_current=self._tells_own and context.sampled,
        )


@contextmanager
def current(place: Place | None) -> Iterator[None]:
    """Make the span of an exchange the current one while the block lasts."""
    if place is None or not place.is_current:
        yield
        return
    from opentelemetry import context, trace  # noqa: PLC0415 - as above

    span = trace.NonRecordingSpan(
        trace.SpanContext(
            int(place.context.trace_id, 16),
            int(place.context.span_id, 16),
            is_remote=False,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
            trace_state=trace.TraceState.from_header([trace_state(place.headers)]),
        )
    )
    token = context.attach(trace.set_span_in_context(span))
    try:
        yield
    except GeneratorExit:  # of a coroutine that is garbage: it was current elsewhere
        raise
    except BaseException:
        context.detach(token)
        raise
    context.detach(token)


def _with_current_span(headers: Headers) -> Headers:
    """Return headers that name the current span, if they do not name another."""
    from opentelemetry import trace  # noqa: PLC0415 - of whoever has telemetry

    current = trace.get_current_span().get_span_context()
    if not current.is_valid or header(headers, "traceparent") is not None:
        return headers
    context = TraceContext(
        trace.format_trace_id(current.trace_id),
        trace.format_span_id(current.span_id),
        current.trace_flags.sampled,
    )
    named = (*headers, ("traceparent", context.traceparent()))
    if current.trace_state:
        named += (("tracestate", current.trace_state.to_header()),)
    return named
