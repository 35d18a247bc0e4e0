"""Options that say in which words spans and metrics are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sse_recorder import semconv
from sse_recorder.cli.record import record
from sse_recorder.cli.telemetry import telemetry_of
from sse_recorder.errors import UsageError

VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"


def test_options_and_variables_make_a_telemetry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None without an endpoint; with one, in the words that are asked for."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert telemetry_of() is None
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:1/v1/traces")
    made = telemetry_of("genai-main", ["langfuse"], http_spans=True)
    assert made is not None
    assert made.view.words is semconv.GENAI_MAIN
    assert made.view.compat == ("langfuse",)
    assert made.view.http_spans
    assert made.metrics is None  # the endpoint is that of traces
    made.close()


@pytest.mark.parametrize(
    ("args", "variables", "says"),
    [
        (["--semconv", "genai-2"], {}, "genai-1.41"),
        ([], {"SSE_RECORDER_SEMCONV": "genai-2"}, "genai-1.41"),
        (["--otel-compat", "datadog"], {}, "langfuse"),
        (["--propagate", "parent"], {}, "passthrough"),
        (
            [],
            {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "all"},
            "SPAN_ONLY",
        ),
    ],
)
def test_what_there_is_not_is_refused(
    tmp_path: Path, args: list[str], variables: dict[str, str], says: str
) -> None:
    """Before anything is recorded, with what there is instead."""
    done = CliRunner().invoke(
        record,
        ["--upstream", "http://127.0.0.1:1", "--store", str(tmp_path), *args],
        env=variables,
    )
    ours = isinstance(done.exception, UsageError)
    assert ours or done.exit_code == UsageError.exit_code
    assert says in (str(done.exception) if ours else done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_commands_that_tell_nobody_load_nothing_for_it() -> None:
    """Who lists a store waits for no telemetry."""
    program = (
        "import sys, sse_recorder.cli.look, sse_recorder.cli.query\n"
        "print([name for name in sys.modules if 'otel' in name or 'opentel' in name])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
