"""The SDK's exporters, for each signal and protocol."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)
from otel_samples import FIVE_CALLS, exchange, telemetry

from sse_recorder.errors import UsageError
from sse_recorder.otel import spans
from sse_recorder.otel.exporters import Exporters

SERVICES = "opentelemetry.proto.collector"
GRPC = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
HERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}


def test_each_signal_has_an_exporter_of_its_own() -> None:
    """One endpoint is that of all signals; one that is switched off has none."""
    made: Any = Exporters.from_environment({**HERE, "OTEL_LOGS_EXPORTER": "none"})
    assert made.spans._endpoint == "http://127.0.0.1:4317/v1/traces"
    assert made.metrics._endpoint == "http://127.0.0.1:4317/v1/metrics"
    assert made.logs is None
    made.spans.shutdown()
    made.metrics.shutdown()


def test_without_an_endpoint_there_is_none() -> None:
    """Nothing is sent to a default address."""
    assert Exporters.from_environment({}) is None


def test_grpc_without_its_packages_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is an extra, and who asks for it learns its name."""
    monkeypatch.setitem(sys.modules, GRPC, None)  # as where it is not installed
    with pytest.raises(UsageError, match=r"sse-recorder\[grpc\]"):
        Exporters.from_environment({**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_grpc_goes_to_the_endpoint_itself() -> None:
    """It has no paths, and http:// is without TLS."""
    environ = {**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    made: Any = Exporters.from_environment(environ)
    for exporter in (made.spans, made.metrics, made.logs):
        assert exporter._endpoint == "127.0.0.1:4317"
        exporter.shutdown()


def test_spans_and_metrics_arrive_over_grpc() -> None:
    """The same spans as over HTTP, to a real server."""
    grpc: Any = import_module("grpc")
    trace: Any = import_module(f"{SERVICES}.trace.v1.trace_service_pb2_grpc")
    metrics: Any = import_module(f"{SERVICES}.metrics.v1.metrics_service_pb2_grpc")
    came = list[Any]()

    class Traces(trace.TraceServiceServicer):  # type: ignore[misc]
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's
            del context
            came.extend(s for r in request.resource_spans for s in r.scope_spans)
            return ExportTraceServiceResponse()

    class Numbers(metrics.MetricsServiceServicer):  # type: ignore[misc]
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's
            del context
            came.extend(m for r in request.resource_metrics for m in r.scope_metrics)
            return ExportMetricsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    trace.add_TraceServiceServicer_to_server(Traces(), server)
    metrics.add_MetricsServiceServicer_to_server(Numbers(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sender = telemetry(
        f"http://127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_LOGS_EXPORTER="none",
    )
    sender.emit(exchange(), FIVE_CALLS)
    assert sender.close() == 0
    server.stop(None).wait()
    names = {span.name for scope in came for span in getattr(scope, "spans", ())}
    assert names == {span.name for span in spans(exchange(), FIVE_CALLS)}
    assert any(getattr(scope, "metrics", ()) for scope in came)


def test_what_is_refused_of_a_batch_over_grpc_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is counted as it is over HTTP, also after the exporter connects anew."""
    grpc: Any = import_module("grpc")
    trace: Any = import_module(f"{SERVICES}.trace.v1.trace_service_pb2_grpc")
    asked = list[int]()

    class Traces(trace.TraceServiceServicer):  # type: ignore[misc]
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's
            del request
            asked.append(1)
            if len(asked) == 1:  # after which the SDK makes another channel
                context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
            answer = ExportTraceServiceResponse()
            answer.partial_success.rejected_spans = 2
            answer.partial_success.error_message = "too old"
            return answer

    server = grpc.server(ThreadPoolExecutor(2))
    trace.add_TraceServiceServicer_to_server(Traces(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sender = telemetry(
        f"http://127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_LOGS_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
    )
    found = spans(exchange(), FIVE_CALLS)
    assert sender.send(found)
    assert sender.refusal == "too old"
    assert sender.close() == 2
    server.stop(None).wait()
    assert len(asked) == 2
    assert not caplog.records


def test_a_collector_that_is_not_there_over_grpc_costs_spans_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is counted and said as it is over HTTP, and nobody waits for it."""
    sender = telemetry("http://127.0.0.1:1", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    sender.emit(exchange(), [])
    assert sender.close(timeout_s=0.2) == 1
    assert {record.name for record in caplog.records} <= {"sse_recorder.otel"}
