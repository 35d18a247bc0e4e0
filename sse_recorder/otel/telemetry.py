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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, cast

from sse_recorder import __version__, semconv
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Exchange, Headers, Opening, ToolCall, uuid7
from sse_recorder.otel.data import SpanData, Value
from sse_recorder.otel.delivery import (
    SDK_LOGGERS,
    Delivery,
    Outlet,
    hold_back,
    listening,
)
from sse_recorder.otel.events import Event, events
from sse_recorder.otel.exporters import Exporters
from sse_recorder.otel.gaps import Gaps
from sse_recorder.otel.metrics import Metrics
from sse_recorder.otel.replays import Replayed, replay_span
from sse_recorder.otel.settings import resource_of, sampler_of
from sse_recorder.otel.spans import spans
from sse_recorder.otel.stream import NOTHING_HEARD, Listener, StreamFacts
from sse_recorder.otel.tools import Origin, answered_span
from sse_recorder.otel.view import PLAIN, View
from sse_recorder.trace import (
    TraceContext,
    exchange_context,
    parse_traceparent,
    trace_state,
)

if TYPE_CHECKING:
    from opentelemetry._logs import LogRecord
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import SpanContext, TraceState
    from opentelemetry.util.types import Attributes

CLOSE_TIMEOUT_S: Final = 5.0

METRICS_TIMEOUT_S: Final = 1.0
"""How long metrics are waited for at the end.  There are always some, and who stops a
recorder beside a collector that is down is not to wait for those."""

CONTENT_BATCH_SIZE: Final = 64
"""Of spans or events with content, of which one may have 48 KiB: many collectors refuse
what is larger than 4 MiB."""

ORIGINS_MAX: Final = 10_000
"""Exchanges that are kept in mind, in case a call of theirs is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a telemetry was made of, for another process to make one of."""

    environ: Mapping[str, str]
    view: View

    def make(self) -> Telemetry | None:
        """Make it.

        Raises:
            UsageError: it asks for something that cannot be done.
        """
        return Telemetry.from_environment(self.environ, view=self.view)


class Telemetry:
    """Ships spans, metrics and events of exchanges to a collector.

    Args:
        exporter: where finished spans go; None for nowhere.
        metric_exporter: where metrics go; None for nowhere.
        log_exporter: where events go; None for nowhere.
        view: how exchanges are told.
        resource: attributes of this process, over those that the SDK finds.
        sampler: decides per trace; by default as the client did, else always yes.
        environ: the standard variables, where they say how large batches are.
        clock: paces the log.
    """

    def __init__(
        self,
        exporter: SpanExporter | None,
        *,
        metric_exporter: MetricExporter | None = None,
        log_exporter: LogRecordExporter | None = None,
        view: View = PLAIN,
        resource: Mapping[str, str] | None = None,
        sampler: Sampler | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
        clock: Clock = SYSTEM,
    ) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import SpanLimits
        from opentelemetry.sdk.trace.sampling import DEFAULT_ON
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._resource = Resource.create(
            {
                semconv.SERVICE_NAME: "sse-recorder",
                semconv.SERVICE_VERSION: __version__,
                **(resource or {}),
            }
        )
        self.view = view
        self._environ = environ
        self.recipe: Recipe | None = None
        """What it was made of; None where that was no environment."""
        self.is_off = False
        """Whoever set the providers wants nothing to be told."""
        self.unsampled = 0
        """Exchanges of recordings that were left out: their traces are not sampled."""
        self._scope = InstrumentationScope(
            semconv.SCOPE, __version__, view.words.schema_url or ""
        )
        self._origins: OrderedDict[str, tuple[Origin, bool]] = OrderedDict()
        """Where exchanges are in their traces, and whether those are sampled: of the
        latest ones, whose calls may still be answered."""
        self._clock = clock
        self._limits = SpanLimits()  # of the process's environment
        self._sampler = sampler or DEFAULT_ON
        self._deliveries: list[Delivery] = []
        self._shutdowns: list[tuple[Callable[[], object], float]] = []
        for name in SDK_LOGGERS:
            logging.getLogger(name).addFilter(hold_back)
        self.metrics = self._metrics_to(metric_exporter, clock)
        """What exchanges add up to; None where nobody wants to know."""
        self._events = self._events_to(log_exporter, clock)
        self._delivery, self._spans = self._spans_to(exporter, clock)

    def _spans_to(
        self, exporter: SpanExporter | None, clock: Clock
    ) -> tuple[Delivery, Outlet | None]:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

        delivery = Delivery(exporter, clock, failure=SpanExportResult.FAILURE)
        if exporter is None:
            return delivery, None
        self._deliveries.append(delivery)
        processor = BatchSpanProcessor(
            cast("SpanExporter", delivery),
            max_export_batch_size=self.batch_size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
            meter_provider=self._meter_provider,
        )
        self._shutdowns.append((_shutdown_of(processor), CLOSE_TIMEOUT_S))
        return delivery, Outlet(delivery, processor, self._finished, processor.on_end)

    def _metrics_to(
        self, exporter: MetricExporter | None, clock: Clock
    ) -> Metrics | None:
        self._meter_provider: MeterProvider | None = None
        if exporter is None:
            return None
        from opentelemetry.sdk.metrics import Histogram, MeterProvider
        from opentelemetry.sdk.metrics.export import (
            AggregationTemporality,
            MetricExportResult,
            PeriodicExportingMetricReader,
        )

        failure = MetricExportResult.FAILURE
        switch = "OTEL_METRICS_EXPORTER"
        delivery = Delivery(
            exporter, clock, what="Metrics", switch=switch, failure=failure
        )
        self._deliveries.append(delivery)
        reader = PeriodicExportingMetricReader(cast("MetricExporter", delivery))
        self._meter_provider = provider = MeterProvider(
            [reader], self._resource, shutdown_on_exit=False
        )
        timeout_ms = METRICS_TIMEOUT_S * 1_000
        shutdown = partial(provider.shutdown, timeout_millis=timeout_ms)
        self._shutdowns.append((shutdown, METRICS_TIMEOUT_S))
        meter = provider.get_meter(
            self._scope.name, __version__, self._scope.schema_url
        )
        preferred = getattr(exporter, "_preferred_temporality", None) or {}
        is_delta = preferred.get(Histogram) is AggregationTemporality.DELTA
        gaps = Gaps(is_delta=is_delta, clock=clock)
        delivery.joined = gaps.joined
        return Metrics(meter, self.view, gaps)

    def _events_to(
        self, exporter: LogRecordExporter | None, clock: Clock
    ) -> Outlet | None:
        if exporter is None:
            return None
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import (
            BatchLogRecordProcessor,
            LogRecordExportResult,
        )

        failure = LogRecordExportResult.FAILURE
        switch = "OTEL_LOGS_EXPORTER"
        delivery = Delivery(
            exporter, clock, what="Events", switch=switch, failure=failure
        )
        self._deliveries.append(delivery)
        provider = LoggerProvider(self._resource, shutdown_on_exit=False)
        processor = BatchLogRecordProcessor(
            cast("LogRecordExporter", delivery),
            max_export_batch_size=self.batch_size("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE"),
            meter_provider=self._meter_provider,
        )
        provider.add_log_record_processor(processor)
        self._shutdowns.append((_shutdown_of(processor), CLOSE_TIMEOUT_S))
        logger = provider.get_logger(
            self._scope.name, __version__, self._scope.schema_url
        )
        return Outlet(delivery, processor, log_record, logger.emit)

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
        view = view or View.of(environ)
        try:
            exporters = Exporters.from_environment(environ)
            if exporters is None:
                return None
            made = cls(
                exporters.spans,
                metric_exporter=exporters.metrics,
                log_exporter=exporters.logs,
                view=view,
                resource=resource_of(environ),
                sampler=sampler_of(environ),
                environ=environ,
                clock=clock,
            )
        except ValueError as error:  # a timeout, a compression, the size of a queue
            raise UsageError(
                f"The SDK refuses its settings ({error}); correct the"
                " OTEL_EXPORTER_OTLP_*, OTEL_BSP_* or OTEL_*_LIMIT variables."
            ) from error
        made.recipe = Recipe(environ=dict(environ), view=view)
        return made

    def batch_size(self, variable: str) -> int | None:
        """Return how much is sent at once; None for what the SDK says.

        Args:
            variable: says so, too, and goes before.
        """
        is_said = bool(self._environ.get(variable, "").strip())
        return CONTENT_BATCH_SIZE if self.view.has_content and not is_said else None

    def context(
        self, exchange_id: str, headers: Headers, *, is_remote: bool = True
    ) -> TraceContext:
        """Return the position of a new exchange in its trace, to be sent upstream.

        Args:
            exchange_id: the exchange.
            headers: the request as the client sent it.
            is_remote: whether the parent that it names is of another process.
        """
        parent = parse_traceparent(headers)
        own = exchange_context(exchange_id, parent)
        state = trace_state(headers)
        is_sampled = self._is_sampled(own.trace_id, parent, state, is_remote=is_remote)
        return TraceContext(own.trace_id, own.span_id, is_sampled)

    def began(self, exchange_id: str, opening: Opening) -> Listener:
        """Hear that an exchange began; return what is to hear its frames."""
        origin = Origin.of(exchange_id, opening)
        self.know(origin, is_sampled=self.wants(origin, opening.request.headers))
        return self.view.listener()

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
        if not found:
            return
        # Metrics are of all exchanges, and not of those that a sampler chose.
        if self.metrics is not None:
            self.metrics.add(exchange, facts, found)
        origin = Origin.of(exchange.exchange_id, exchange)
        if not self.wants(origin, exchange.request_headers):
            return
        self.hand_over(found)
        if self._events is not None:
            told = events(exchange, tool_calls, facts, found[0], self.view)
            self._events.hand_over(told)

    def told(self, call: ToolCall) -> None:
        """Hand over the span of a call that another exchange answered."""
        origin, is_sampled = self._origins.get(call.exchange_id, (None, False))
        if origin is None:
            return
        answering, _ = self._origins.get(call.result_exchange_id or "", (None, False))
        span = answered_span(call, origin, answering, self.view)
        if self.metrics is not None:
            self.metrics.add_tool(span)
        if is_sampled:
            self.hand_over([span])

    def replayed(self, replayed: Replayed) -> None:
        """Hand over the span of a request that a recording answered."""
        parent = parse_traceparent(replayed.head.headers)
        context = self.context(uuid7(replayed.began_at), replayed.head.headers)
        span = replay_span(replayed, context, parent)
        if self.metrics is not None:
            self.metrics.add_replay(span)
        if context.sampled:
            self.hand_over([span])

    def hand_over(self, found: Sequence[SpanData]) -> None:
        """Hand over finished spans; does not block."""
        if self._spans is not None:
            # The exchange goes last: a full queue loses its oldest spans.
            self._spans.hand_over(reversed(found))

    @property
    def refusal(self) -> str | None:
        """Why the collector did not take what was sent last."""
        return self._delivery.refusal

    def send(self, found: Sequence[SpanData]) -> bool:
        """Send spans now, and wait; False if the collector did not take them."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        self._delivery.expect(len(found))
        self._delivery.is_silent = True
        with listening():  # a value may be cut
            finished = [self._finished(span) for span in found]
        result = self._delivery.export(finished)
        return result is SpanExportResult.SUCCESS

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """Send what is left for as long as `timeout_s`; then give up.

        Returns:
            How many spans are not known to have been delivered, since the beginning.
        """
        began_ns = self._clock.monotonic_ns()
        for delivery in self._deliveries:
            delivery.is_closed = True
        flushes = [
            (
                threading.Thread(target=_quietly, args=(shutdown,), daemon=True),
                patience_s,
            )
            for shutdown, patience_s in self._shutdowns
        ]
        self._shutdowns.clear()
        for flush, _ in flushes:
            try:
                flush.start()
            except RuntimeError:  # no more threads, as a process ends
                flush.run()
        for flush, patience_s in flushes:
            passed_s = (self._clock.monotonic_ns() - began_ns) / 1e9
            if flush.ident is not None:
                flush.join(max(min(patience_s, timeout_s) - passed_s, 0))
        for delivery in self._deliveries:
            delivery.is_over = True
        return self._delivery.missing

    def wants(self, origin: Origin, headers: Headers) -> bool:
        """Tell whether the spans of an exchange are sampled.

        Args:
            origin: where it is in its trace.
            headers: of its request, as it was sent upstream.
        """
        if origin.trace_flags is not None:
            return bool(origin.trace_flags & 1)  # what was decided then
        parent = None
        if origin.parent_span_id is not None:
            # A recording from before flags were kept has the header that went upstream.
            carried = parse_traceparent(headers)
            is_sampled = carried is None or carried.sampled
            parent = TraceContext(origin.trace_id, origin.parent_span_id, is_sampled)
        return self._is_sampled(origin.trace_id, parent, origin.trace_state)

    def _is_sampled(
        self,
        trace_id: str,
        parent: TraceContext | None,
        state: str,
        *,
        is_remote: bool = True,
    ) -> bool:
        from opentelemetry import trace
        from opentelemetry.sdk.trace.sampling import Decision

        around = None
        if parent is not None:
            with listening():  # the state may be none
                known = trace.TraceState.from_header([state])
            told = _span_context(
                parent.trace_id,
                parent.span_id,
                sampled=parent.sampled,
                remote=is_remote,
                state=known,
            )
            around = trace.set_span_in_context(trace.NonRecordingSpan(told))
        try:
            result = self._sampler.should_sample(
                around, int(trace_id, 16), "exchange", trace.SpanKind.CLIENT
            )
        except Exception as error:  # noqa: BLE001 - it may be the application's
            self._delivery.complain(f"the sampler raises {type(error).__name__}")
            return False
        return result.decision is Decision.RECORD_AND_SAMPLE

    def _finished(self, span: SpanData) -> ReadableSpan:
        from opentelemetry import trace
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util import BoundedList

        failed = span.status == "error"
        state = trace.TraceState.from_header([span.trace_state])
        return ReadableSpan(
            name=span.name,
            context=_span_context(span.trace_id, span.span_id, state=state),
            parent=None
            if span.parent_span_id is None
            else _span_context(
                span.trace_id, span.parent_span_id, remote=span.has_remote_parent
            ),
            resource=self._resource,
            attributes=self._bounded(span.attributes),
            kind=trace.SpanKind[span.kind.upper()],
            links=BoundedList.from_seq(
                self._limits.max_links,
                [
                    trace.Link(
                        _span_context(link.trace_id, link.span_id, remote=True),
                        {semconv.LINK_KIND: link.kind},
                    )
                    for link in span.links
                ],
            ),
            status=trace.Status(
                trace.StatusCode.ERROR if failed else trace.StatusCode.UNSET
            ),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )

    def _bounded(self, attributes: Mapping[str, Value]) -> Attributes:
        """Return attributes as the SDK's limits have them; few people set any."""
        from opentelemetry.attributes import BoundedAttributes

        most, longest = (
            self._limits.max_span_attributes,
            self._limits.max_span_attribute_length,
        )
        if longest is None and (most is None or len(attributes) <= most):
            return dict(attributes)
        return BoundedAttributes(most, dict(attributes), max_value_len=longest)


def log_record(event: Event) -> LogRecord:
    """Return an event as the SDK has it."""
    from opentelemetry import trace
    from opentelemetry._logs import LogRecord, SeverityNumber

    span = event.span
    context = _span_context(span.trace_id, span.span_id)
    return LogRecord(
        timestamp=event.at_ns,
        observed_timestamp=event.at_ns,
        context=trace.set_span_in_context(trace.NonRecordingSpan(context)),
        severity_text=event.severity,
        severity_number=SeverityNumber[event.severity],
        event_name=event.name,
        attributes=dict(event.attributes),
    )


def _span_context(
    trace_id: str,
    span_id: str,
    *,
    sampled: bool = True,
    remote: bool = False,
    state: TraceState | None = None,
) -> SpanContext:
    from opentelemetry import trace

    flags = trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT
    return trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), remote, trace.TraceFlags(flags), state
    )


def _shutdown_of(processor: SpanProcessor | LogRecordProcessor) -> Callable[[], object]:
    """Return what ends a processor, in so much time where the SDK lets that be said."""
    inner = getattr(processor, "_batch_processor", None)
    shutdown = getattr(inner, "shutdown", None)
    if shutdown is None:
        return processor.shutdown
    return partial(shutdown, timeout_millis=CLOSE_TIMEOUT_S * 1_000)


def _quietly(shutdown: Callable[[], object]) -> None:
    with listening(), suppress(Exception):  # nobody is left to be told
        shutdown()
