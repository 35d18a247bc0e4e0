"""Telemetry: ships the spans of exchanges to a collector, beside the data path.

It gives finished spans to the SDK's batch processor instead of starting them through a
tracer: a tracer draws ids and reads a clock, and both are facts of the recording here.
The sampler is the SDK's own.  It is asked once for an exchange with nothing but the
trace's id and its parent, so `context()`, before the request is sent, and `emit()`,
after the answer, agree.

Nothing here waits for a collector but `close()`, and that has a bound.  The SDK's
`force_flush` ignores its timeout, so the flush runs in a daemon thread that is waited
for and then left behind.

Make a `Telemetry` after a fork, not before.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self, cast

from sse_recorder import __version__, semconv
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Exchange, Headers, Opening, ToolCall
from sse_recorder.otel.data import SpanData
from sse_recorder.otel.delivery import SDK_LOGGERS, Delivery, hold_back, listening
from sse_recorder.otel.settings import endpoint_of, resource_of, sampler_of
from sse_recorder.otel.spans import spans
from sse_recorder.otel.stream import NOTHING_HEARD, Listener, StreamFacts
from sse_recorder.otel.tools import Origin, answered_span
from sse_recorder.otel.view import PLAIN, View
from sse_recorder.trace import TraceContext, exchange_context, parse_traceparent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import SpanContext

CLOSE_TIMEOUT_S: Final = 5.0

ORIGINS_MAX: Final = 10_000
"""Exchanges that are kept in mind, in case a call of theirs is answered."""


class Telemetry:
    """Ships the spans of exchanges to a collector, beside the data path.

    Args:
        exporter: where finished spans go.
        view: how exchanges are told.
        resource: attributes of this process, over those that the SDK finds.
        sampler: decides per trace; by default as the client did, else always yes.
        clock: paces the log.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        view: View = PLAIN,
        resource: Mapping[str, str] | None = None,
        sampler: Sampler | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import (
            BatchSpanProcessor,
        )
        from opentelemetry.sdk.trace.sampling import DEFAULT_ON
        from opentelemetry.sdk.util.instrumentation import (
            InstrumentationScope,
        )

        self._resource = Resource.create(
            {
                semconv.SERVICE_NAME: "sse-recorder",
                semconv.SERVICE_VERSION: __version__,
                **(resource or {}),
            }
        )
        self.view = view
        self._scope = InstrumentationScope(
            "sse_recorder", __version__, view.words.schema_url or ""
        )
        self._origins: OrderedDict[str, tuple[Origin, bool]] = OrderedDict()
        """Where exchanges are in their traces, and whether those are sampled: of the
        latest ones, whose calls may still be answered."""
        self.environ: Mapping[str, str] | None = None
        """The variables that it was made from; None where it was made otherwise."""
        self._sampler = sampler or DEFAULT_ON
        self._delivery = Delivery(exporter, clock)
        for name in SDK_LOGGERS:
            logging.getLogger(name).addFilter(hold_back)
        # The processor asks an exporter for its two methods, not for its class.
        self._processor = BatchSpanProcessor(cast("SpanExporter", self._delivery))

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        *,
        view: View | None = None,
        clock: Clock = SYSTEM,
    ) -> Self | None:
        """Return what the standard variables ask for; None when they name no endpoint.

        Headers, certificates, compression and timeouts are the exporter's to read.

        Args:
            environ: the environment of this process.
            view: how exchanges are told, if not as the environment says.
            clock: paces the log.

        Raises:
            UsageError: if the variables ask for something that we cannot do.
        """
        endpoint = endpoint_of(environ)
        if endpoint is None:
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter,
        )

        view = view or View.of(environ)
        resource, sampler = resource_of(environ), sampler_of(environ)
        try:
            exporter = OTLPSpanExporter(endpoint=endpoint)
            made = cls(
                exporter, view=view, resource=resource, sampler=sampler, clock=clock
            )
        except ValueError as error:  # a timeout, a compression, the size of a queue
            raise UsageError(
                f"The exporter refuses its settings ({error}); "
                "correct the OTEL_EXPORTER_OTLP_* or OTEL_BSP_* variables."
            ) from error
        made.environ = dict(environ)
        return made

    def context(self, exchange_id: str, headers: Headers) -> TraceContext:
        """Return the position of a new exchange in its trace, to be sent upstream.

        Args:
            exchange_id: the exchange.
            headers: the request as the client sent it.
        """
        parent = parse_traceparent(headers)
        own = exchange_context(exchange_id, parent)
        is_sampled = self._is_sampled(own.trace_id, parent)
        return TraceContext(own.trace_id, own.span_id, is_sampled)

    def began(self, exchange_id: str, opening: Opening) -> Listener:
        """Hear that an exchange began; return what is to hear its frames."""
        origin = Origin.of(exchange_id, opening)
        self.know(origin, is_sampled=self._wants(origin, opening.request.headers))
        return Listener(self.view.has_content)

    def know(self, origin: Origin, *, is_sampled: bool) -> None:
        """Keep in mind where an exchange is in its trace; forget the oldest."""
        self._origins[origin.exchange_id] = origin, is_sampled
        while len(self._origins) > ORIGINS_MAX:
            self._origins.popitem(last=False)

    def emit(
        self,
        exchange: Exchange,
        tool_calls: Sequence[ToolCall],
        facts: StreamFacts = NOTHING_HEARD,
    ) -> None:
        """Hand over the spans of an exchange that is over; does not block.

        An exchange that is not sampled, or still open, has none to hand over.

        Args:
            exchange: its row.
            tool_calls: its tool calls.
            facts: what its frames say.
        """
        found = spans(exchange, tool_calls, facts, self.view)
        origin = Origin.of(exchange.exchange_id, exchange)
        if found and self._wants(origin, exchange.request_headers):
            self._hand_over(found)

    def told(self, call: ToolCall) -> None:
        """Hand over the span of a call that another exchange answered."""
        origin, is_sampled = self._origins.get(call.exchange_id, (None, False))
        if origin is None or not is_sampled:
            return
        answering, _ = self._origins.get(call.result_exchange_id or "", (None, False))
        self._hand_over([answered_span(call, origin, answering, self.view)])

    def _hand_over(self, found: Sequence[SpanData]) -> None:
        self._delivery.expect(len(found))
        with listening() as heard:
            # The exchange goes last: a full queue loses its oldest spans.
            for span in reversed(found):
                self._processor.on_end(self._finished(span))
        if heard:
            self._delivery.complain(heard[0])

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """Send what is left for as long as `timeout_s`; then give up.

        Returns:
            How many spans are not known to have been delivered, since the beginning.
        """
        flush = threading.Thread(
            target=self._processor.shutdown, name="sse-recorder-spans", daemon=True
        )
        flush.start()
        flush.join(timeout_s)
        self._delivery.is_over = True
        return self._delivery.missing

    def _wants(self, origin: Origin, headers: Headers) -> bool:
        carried = parse_traceparent(headers)
        if carried is not None and carried.span_id == origin.span_id:
            return carried.sampled  # what `context` decided, as it was sent upstream
        parent = None
        if origin.parent_span_id is not None:
            is_sampled = carried is None or carried.sampled
            parent = TraceContext(origin.trace_id, origin.parent_span_id, is_sampled)
        return self._is_sampled(origin.trace_id, parent)

    def _is_sampled(self, trace_id: str, parent: TraceContext | None) -> bool:
        from opentelemetry import trace
        from opentelemetry.sdk.trace.sampling import Decision

        around = None
        if parent is not None:
            remote = _span_context(
                parent.trace_id, parent.span_id, sampled=parent.sampled, remote=True
            )
            around = trace.set_span_in_context(trace.NonRecordingSpan(remote))
        result = self._sampler.should_sample(
            around, int(trace_id, 16), "exchange", trace.SpanKind.CLIENT
        )
        return result.decision is Decision.RECORD_AND_SAMPLE

    def _finished(self, span: SpanData) -> ReadableSpan:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import ReadableSpan

        is_entry = span.kind != "internal"
        failed = span.status == "error"
        return ReadableSpan(
            name=span.name,
            context=_span_context(span.trace_id, span.span_id),
            parent=None
            if span.parent_span_id is None
            else _span_context(span.trace_id, span.parent_span_id, remote=is_entry),
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=trace.SpanKind[span.kind.upper()],
            links=[
                trace.Link(
                    _span_context(link.trace_id, link.span_id, remote=True),
                    {semconv.LINK_KIND: link.kind},
                )
                for link in span.links
            ],
            status=trace.Status(
                trace.StatusCode.ERROR if failed else trace.StatusCode.UNSET
            ),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _span_context(
    trace_id: str, span_id: str, *, sampled: bool = True, remote: bool = False
) -> SpanContext:
    from opentelemetry import trace

    flags = trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT
    return trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), remote, trace.TraceFlags(flags)
    )
