"""Telemetry: what exchanges look like in a tracing system, and how it gets there.

    rows of an exchange ─▶ spans ─▶ Telemetry ─▶ delivery ─▶ the SDK ─▶ a collector

A view of the recording, and a lossy one: the recording has every read, a span has the
outline.  What makes spans is pure, and the same whether an exchange has just ended or
is read from a store years later.  The SDK is imported when something is to be shipped,
so that this package costs nothing where telemetry is off.
"""

from sse_recorder.otel.ambient import GlobalTelemetry
from sse_recorder.otel.data import Link, SpanData, Value, clean
from sse_recorder.otel.metrics import SampledTimes
from sse_recorder.otel.propagation import Propagation
from sse_recorder.otel.replays import Replayed
from sse_recorder.otel.spans import spans
from sse_recorder.otel.stream import Listener, StreamFacts, facts_of
from sse_recorder.otel.telemetry import Recipe, Telemetry
from sse_recorder.otel.tools import TOOL_SPANS_MAX, Origin, answered_span
from sse_recorder.otel.view import View

__all__ = [
    "TOOL_SPANS_MAX",
    "GlobalTelemetry",
    "Link",
    "Listener",
    "Origin",
    "Propagation",
    "Recipe",
    "Replayed",
    "SampledTimes",
    "SpanData",
    "StreamFacts",
    "Telemetry",
    "Value",
    "View",
    "answered_span",
    "clean",
    "facts_of",
    "spans",
]
