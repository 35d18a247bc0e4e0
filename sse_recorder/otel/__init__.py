"""Telemetry: what exchanges look like in a tracing system, and how it gets there.

    rows of an exchange ─▶ spans ─▶ Telemetry ─▶ delivery ─▶ the SDK ─▶ a collector

A view of the recording, and a lossy one: the recording has every read, a span has the
outline.  What makes spans is pure, and the same whether an exchange has just ended or
is read from a store years later.  The SDK is imported when something is to be shipped,
so that this package costs nothing where telemetry is off.
"""

from sse_recorder.otel.data import SpanData, Value, clean
from sse_recorder.otel.spans import TOOL_SPANS_MAX, spans
from sse_recorder.otel.telemetry import Telemetry

__all__ = ["TOOL_SPANS_MAX", "SpanData", "Telemetry", "Value", "clean", "spans"]
