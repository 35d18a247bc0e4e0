"""Where an exchange of a transport is in its trace, and what its upstream is told.

Its parent is what its request names: an instrumentation of the client may have written
that.  If it names none, it is the span that is current where the request is made, for a
transport is called in its client's own task or thread.

What an upstream is told is what the proxy would tell it (see `otel.propagation`).
"""

from __future__ import annotations

from typing import NamedTuple

from sse_recorder.exchange import Headers, header
from sse_recorder.otel.propagation import Mode, Propagation
from sse_recorder.otel.telemetry import Telemetry
from sse_recorder.trace import TraceContext, exchange_context, parse_traceparent


class Place(NamedTuple):
    """Where an exchange is in its trace."""

    headers: Headers
    """Of the request, as it is sent."""
    context: TraceContext
    parent_span_id: str
    flags: int | None
    """None where nobody decides."""


class Tracing:
    """Places exchanges.

    Args:
        telemetry: says which are sampled; None where no spans are made.
        propagate: what upstreams are told.
    """

    def __init__(self, telemetry: Telemetry | None, propagate: Mode) -> None:
        self._telemetry = telemetry
        self._tells_own = propagate == "child"
        self._propagation = Propagation({"": propagate})

    def place(self, exchange_id: str, headers: Headers) -> Place:
        """Return where a new exchange is.

        Args:
            exchange_id: the exchange.
            headers: of its request, as the client made it.
        """
        telemetry = self._telemetry
        known = headers if telemetry is None else _with_current_span(headers)
        parent = parse_traceparent(known)
        parent_span_id = parent.span_id if parent else ""
        given = known if self._tells_own else headers
        if telemetry is None:
            context = exchange_context(exchange_id, parent)
            sent = self._propagation.headers(given, "", None)
            return Place(sent, context, parent_span_id, None)
        context = telemetry.context(exchange_id, known)
        sent = self._propagation.headers(given, "", context)
        return Place(sent, context, parent_span_id, context.flags)


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
