"""The package of telemetry: what it gives, and what it costs where it is off."""

from __future__ import annotations

import subprocess
import sys

from sse_recorder import otel


def test_the_package_names_what_it_gives() -> None:
    """All that it lists is there."""
    assert all(hasattr(otel, name) for name in otel.__all__)


def test_telemetry_that_is_off_loads_no_sdk() -> None:
    """Who exports nothing does not wait for the SDK to be imported."""
    program = (
        "import sys, sse_recorder.semconv, sse_recorder.otel as otel\n"
        "assert otel.Telemetry.from_environment({}) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
