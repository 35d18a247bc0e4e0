"""What the standard variables ask for."""

from __future__ import annotations

import pytest
from otel_samples import (
    telemetry,
)

from sse_recorder.errors import UsageError
from sse_recorder.otel import Telemetry
from sse_recorder.otel.settings import Signal, target_of


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "TRUE"},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_LOGS_EXPORTER": "console",
        },
    ],
)
def test_nothing_is_exported_unless_it_is_asked_for(environ: dict[str, str]) -> None:
    """Without an endpoint, or switched off, there is no telemetry at all."""
    assert Telemetry.from_environment(environ) is None


@pytest.mark.parametrize(
    ("environ", "signal", "expected"),
    [
        ({"ENDPOINT": "http://a:1"}, "traces", "http://a:1/v1/traces"),
        ({"ENDPOINT": "http://a:1"}, "metrics", "http://a:1/v1/metrics"),
        ({"ENDPOINT": "http://a:1"}, "logs", "http://a:1/v1/logs"),
        ({"ENDPOINT": "http://a:1/base/"}, "traces", "http://a:1/base/v1/traces"),
        ({"TRACES_ENDPOINT": "http://a/exactly"}, "traces", "http://a/exactly"),
        ({"TRACES_ENDPOINT": "http://a/exactly"}, "metrics", None),
        (
            {"ENDPOINT": "http://a", "LOGS_ENDPOINT": "HTTPS://b/t"},
            "logs",
            "HTTPS://b/t",
        ),
        ({"ENDPOINT": "http://a:4317", "PROTOCOL": "grpc"}, "logs", "http://a:4317"),
        (
            {
                "ENDPOINT": "http://a",
                "PROTOCOL": "grpc",
                "TRACES_PROTOCOL": "http/protobuf",
            },
            "traces",
            "http://a/v1/traces",
        ),
    ],
)
def test_the_endpoint_is_found_as_the_specification_says(
    environ: dict[str, str], signal: Signal, expected: str | None
) -> None:
    """The general endpoint is a base, that of a signal is used as it is."""
    named = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()}
    target = target_of(named, signal)
    assert (target and target.endpoint) == expected
    is_grpc = environ.get("PROTOCOL") == "grpc" and "TRACES_PROTOCOL" not in environ
    assert target is None or (target.protocol == "grpc") == is_grpc


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "thrift"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'thrift'",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'http/json'",
        ),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "localhost:4317"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not an http",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "ENDPOINT is not an http"),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "OTEL_TRACES_SAMPLER is 'sometimes'"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
            "OTEL_TRACES_SAMPLER_ARG is 'half'",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
            "OTEL_TRACES_SAMPLER_ARG is '2'",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    environ: dict[str, str], says: str
) -> None:
    """A setting that we cannot follow is wrong usage, and names the variable."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **environ}
    with pytest.raises(UsageError) as caught:
        Telemetry.from_environment(environ)
    assert says in str(caught.value)


def test_settings_that_the_exporter_refuses_are_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The SDK's own refusals end in a sentence too."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    with pytest.raises(UsageError, match="OTEL_BSP_"):
        telemetry("http://127.0.0.1:1")
