"""Exporters: those of the SDK, for each signal and protocol.

Headers, certificates, compression and timeouts are theirs to read from the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Self, cast

from sse_recorder.errors import UsageError
from sse_recorder.otel.answers import look_at_calls, session
from sse_recorder.otel.settings import SIGNALS, Signal, Target, target_of

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

_PLACES: Final[Mapping[Signal, tuple[str, str]]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporters:
    """Where each signal goes; None for nowhere."""

    spans: SpanExporter | None = None
    metrics: MetricExporter | None = None
    logs: LogRecordExporter | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self | None:
        """Return those that the standard variables ask for; None for none at all.

        Raises:
            UsageError: they ask for something that cannot be done.
            ValueError: an exporter refuses a setting of its own.
        """
        targets = {signal: target_of(environ, signal) for signal in SIGNALS}
        if not any(targets.values()):
            return None
        made = {
            signal: _exporter(signal, target, environ) if target else None
            for signal, target in targets.items()
        }
        return cls(
            spans=cast("SpanExporter | None", made["traces"]),
            metrics=cast("MetricExporter | None", made["metrics"]),
            logs=cast("LogRecordExporter | None", made["logs"]),
        )


def _exporter(signal: Signal, target: Target, environ: Mapping[str, str]) -> Any:
    module, name = _PLACES[signal]
    protocol = "grpc" if target.protocol == "grpc" else "http"
    try:
        found = import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.{module}")
    except ImportError as error:
        raise UsageError(
            "to send over gRPC takes more packages: pip install 'sse-recorder[grpc]',"
            " or set OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf and the endpoint to"
            " the collector's HTTP port."
        ) from error
    make = getattr(found, name)
    if protocol == "http":
        return make(endpoint=target.endpoint, session=session(environ))
    exporter = make(endpoint=target.endpoint)
    look_at_calls(exporter)
    return exporter
