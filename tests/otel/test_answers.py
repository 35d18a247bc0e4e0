"""What a collector says of a batch that it takes in part, or not at all."""

from __future__ import annotations

import pytest
from otel_samples import exchange, telemetry, tool_call
from otlp_receiver import otlp_receiver, refusal

from sse_recorder.otel.answers import session


def test_what_is_refused_of_a_batch_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and the log says why; the rest has arrived."""
    with otlp_receiver(answer=refusal(2, "too old")) as receiver:
        sender = telemetry(receiver.endpoint, OTEL_METRICS_EXPORTER="none")
        sender.emit(exchange(), [tool_call(seq) for seq in range(4)])
        assert sender.close() == 2
    (line,) = caplog.records
    assert "some are refused: too old); 2 are lost so far" in line.getMessage()


def test_a_redirect_is_no_delivery() -> None:
    """What is not taken where it was sent is not taken at all."""
    with otlp_receiver(status=302, headers=(("location", "/"),)) as receiver:
        sender = telemetry(receiver.endpoint, OTEL_METRICS_EXPORTER="none")
        sender.emit(exchange(), [])
        assert sender.close() == 1


def test_an_answer_that_cannot_be_read_is_no_refusal() -> None:
    """Its status says that all was taken."""
    with otlp_receiver(answer=b"\xff\xfe no message") as receiver:
        sender = telemetry(receiver.endpoint, OTEL_METRICS_EXPORTER="none")
        sender.emit(exchange(), [])
        assert sender.close() == 0


def test_a_session_of_somebody_elses_is_left_to_the_exporter() -> None:
    """A package that provides credentials has the requests to itself."""
    names = "CREDENTIAL_PROVIDER", "TRACES_CREDENTIAL_PROVIDER"
    for name in names:
        assert session({f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{name}": "p"}) is None
    assert session({}).hooks["response"]
