"""Telemetry through the providers that the application has set for the whole process.

Spans go to the processors of the global tracer provider as they are when they have
ended, with the ids and the times of the recording, under its resource and as its
sampler decides.  No tracer is asked, since that would draw other ids; so a processor
hears of the end alone, and not of the start.  The SDK keeps its processors to itself,
which is why its own provider has to be there.

Metrics and events take the usual way, and stay away where nobody has set a provider.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from sse_recorder import __version__
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import UsageError
from sse_recorder.otel.delivery import Delivery, Outlet
from sse_recorder.otel.gaps import PlainGaps
from sse_recorder.otel.metrics import Metrics
from sse_recorder.otel.telemetry import CLOSE_TIMEOUT_S, Telemetry, log_record
from sse_recorder.otel.view import PLAIN, View

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

_PROCESSOR: Final = "_active_span_processor"


class GlobalTelemetry(Telemetry):
    """Hands spans, metrics and events of exchanges to the global providers.

    Args:
        view: how exchanges are told.
        clock: paces the log.

    Raises:
        UsageError: there is no tracer provider of the SDK.
    """

    def __init__(self, *, view: View = PLAIN, clock: Clock = SYSTEM) -> None:
        from opentelemetry import _logs, metrics
        from opentelemetry.trace import NoOpTracer

        provider = _tracer_provider()
        super().__init__(None, view=view, sampler=provider.sampler, clock=clock)
        self._resource = provider.resource
        self._limits = getattr(provider, "_span_limits", self._limits)
        advice = "Check the span processors of the application."
        self._delivery = Delivery(None, clock, failure=None, advice=advice)
        scope = self._scope.name, __version__
        schema_url = self._scope.schema_url
        # As where OTEL_SDK_DISABLED is set, or a configurator leaves this scope out.
        tracer = provider.get_tracer(*scope, schema_url=schema_url)
        is_enabled = getattr(tracer, "_is_enabled", lambda: True)
        self.is_off = isinstance(tracer, NoOpTracer) or not is_enabled()
        if not self.is_off:
            processor = cast("SpanProcessor", getattr(provider, _PROCESSOR))
            # What it says of its queue is for the application to hear.
            self._spans = Outlet(
                self._delivery, None, self._finished, processor.on_end, quietly=False
            )
        meter = metrics.get_meter_provider().get_meter(*scope, schema_url)
        self.metrics = Metrics(meter, view, PlainGaps(meter))
        logger = _logs.get_logger_provider().get_logger(*scope, schema_url)
        told = Delivery(None, clock, what="Events", failure=None, advice=advice)
        self._events = Outlet(told, None, log_record, logger.emit, quietly=False)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """Do nothing: whoever set the providers shuts them down, and knows of losses.

        Returns:
            Nought.
        """
        del timeout_s
        return 0


def _tracer_provider() -> TracerProvider:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    provider = trace.get_tracer_provider()
    if not (isinstance(provider, TracerProvider) and hasattr(provider, _PROCESSOR)):
        raise UsageError(
            "There is no global tracer provider of the OpenTelemetry SDK: call"
            " opentelemetry.trace.set_tracer_provider before, or give a Telemetry."
        )
    return provider
