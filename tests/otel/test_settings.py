"""What the standard variables ask for."""

from __future__ import annotations

from typing import Any

import pytest
from otel_samples import (
    telemetry,
)

from sse_recorder.errors import UsageError
from sse_recorder.otel import Telemetry


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_exported_unless_it_is_asked_for(environ: dict[str, str]) -> None:
    """Without an endpoint, or switched off, there is no telemetry at all."""
    assert Telemetry.from_environment(environ) is None


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({"ENDPOINT": "http://a:1"}, "http://a:1/v1/traces"),
        ({"ENDPOINT": "http://a:1/base/"}, "http://a:1/base/v1/traces"),
        ({"TRACES_ENDPOINT": "http://a:1/exactly"}, "http://a:1/exactly"),
        ({"ENDPOINT": "http://a", "TRACES_ENDPOINT": "HTTPS://b/t"}, "HTTPS://b/t"),
        (
            {"ENDPOINT": "http://a", "PROTOCOL": "http/protobuf"},
            "http://a/v1/traces",
        ),
        (
            {
                "ENDPOINT": "http://a",
                "PROTOCOL": "grpc",
                "TRACES_PROTOCOL": "http/protobuf",
            },
            "http://a/v1/traces",
        ),
    ],
)
def test_the_endpoint_is_found_as_the_specification_says(
    environ: dict[str, str], endpoint: str
) -> None:
    """The general endpoint is a base, the one for traces is used as it is."""
    named = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()}
    sender = Telemetry.from_environment(named)
    assert sender is not None
    exporter: Any = sender._delivery._exporter
    assert exporter._endpoint == endpoint
    sender.close()


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'",
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
