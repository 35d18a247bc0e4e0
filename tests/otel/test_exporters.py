"""The SDK's exporters, for each signal and protocol."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from sse_recorder.errors import UsageError
from sse_recorder.otel.exporters import Exporters

HAS_GRPC = find_spec("grpc") is not None
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


@pytest.mark.skipif(HAS_GRPC, reason="the packages for gRPC are there")
def test_grpc_without_its_packages_says_how_to_get_them() -> None:
    """It is an extra, and who asks for it learns its name."""
    with pytest.raises(UsageError, match=r"sse-recorder\[grpc\]"):
        Exporters.from_environment({**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


@pytest.mark.skipif(not HAS_GRPC, reason="the packages for gRPC are an extra")
def test_grpc_goes_to_the_endpoint_itself() -> None:
    """It has no paths, and http:// is without TLS."""
    environ = {**HERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    made: Any = Exporters.from_environment(environ)
    for exporter in (made.spans, made.metrics, made.logs):
        assert exporter._endpoint == "127.0.0.1:4317"
        exporter.shutdown()
