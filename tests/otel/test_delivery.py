"""An exporter that counts what arrives, and complains once a minute."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from otel_samples import (
    Kept,
    exchange,
)

from sse_recorder.clock import FakeClock
from sse_recorder.otel import Telemetry


def test_what_close_left_behind_is_not_sent_later() -> None:
    """A batch that comes up after the bound is given up, as `close` has said."""
    exporter = Kept()
    sender = Telemetry(exporter)
    sender.close()
    result = sender._delivery.export([ReadableSpan("late")])
    assert result is SpanExportResult.FAILURE
    assert exporter.kept == []


@pytest.mark.parametrize(
    "trouble", [None, RuntimeError("what an exporter may raise, SENTINEL")]
)
def test_an_exporter_that_fails_is_logged_once_a_minute(
    trouble: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it fails, there is a line a minute, without the error's text."""
    clock = FakeClock()
    exporter = Kept()
    exporter.result, exporter.trouble = SpanExportResult.FAILURE, trouble
    sender = Telemetry(exporter, clock=clock.clock())
    for _ in range(3):
        sender._delivery.export([])
        clock.advance(30_000_000_000)
    assert len(caplog.records) == 2
    assert "SENTINEL" not in caplog.text
    sender.emit(exchange(), [])
    assert sender.close() == 1


def test_a_key_in_the_endpoint_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What the HTTP library says of an endpoint is logged without its query."""
    sender = Telemetry(Kept())
    sender._delivery.complain("no answer from url: /v1/traces?key=SENTINEL (refused)")
    sender.close()
    assert "SENTINEL" not in caplog.text
    assert "(refused)" in caplog.text


def test_the_sdk_may_speak_of_spans_that_are_not_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Only what the SDK says while it works for us is held back."""
    sender = Telemetry(Kept())
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    logging.getLogger(name).error("of somebody else's")
    sender.close()
    assert [record.name for record in caplog.records] == [name]
