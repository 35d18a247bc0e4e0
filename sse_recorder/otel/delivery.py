"""Delivery: an exporter that counts what arrives, and does not complain to everybody.

A collector that fails costs spans and one line of log a minute, nothing else.  The
SDK's own lines are held back while it works for us, and only then.  What was not
delivered is known: what is handed over is counted, and what arrived; the difference
covers a full queue, a failed batch and whatever is left behind at the end.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from sse_recorder.clock import Clock
from sse_recorder.otel.data import clean

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_COMPLAINT_INTERVAL_NS: Final = 60_000_000_000

_logger = logging.getLogger("sse_recorder.otel")

# Where the SDK speaks of a collector that fails and of a queue that is full.
SDK_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)

# What the SDK has said since it began to work for us; None where it does not.  Each
# thread has its own, so what it says of somebody else's spans is left alone.
_heard: ContextVar[list[str] | None] = ContextVar("_heard", default=None)


def hold_back(record: logging.LogRecord) -> bool:
    """Keep what the SDK says while it works for us; pass everything else."""
    heard = _heard.get()
    if heard is None:
        return True
    if record.levelno >= logging.WARNING:
        heard.append(record.getMessage())
    return False


@contextmanager
def listening() -> Iterator[list[str]]:
    """Give what the SDK complains of while the block lasts."""
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


class Delivery:
    """An exporter round an exporter, which counts what arrives and keeps it quiet."""

    def __init__(self, exporter: SpanExporter, clock: Clock) -> None:
        self.is_over = False
        """Nothing is sent any more."""
        self._exporter = exporter
        self._clock = clock
        self._lock = threading.Lock()
        self._expected = 0
        self._delivered = 0
        self._complained_ns: int | None = None

    @property
    def missing(self) -> int:
        """Spans that were handed over and not delivered, or not yet."""
        with self._lock:
            return self._expected - self._delivered

    def expect(self, count: int) -> None:
        """Count spans that were handed over."""
        with self._lock:
            self._expected += count

    def export(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; what goes wrong is counted and never raised."""
        from opentelemetry.sdk.trace.export import (
            SpanExportResult,
        )

        if self.is_over:
            return SpanExportResult.FAILURE
        with listening() as heard:
            try:
                result = self._exporter.export(batch)
            except Exception as error:  # noqa: BLE001 - whatever an exporter raises
                heard.append(type(error).__name__)
                result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            with self._lock:
                self._delivered += len(batch)
        elif not self.is_over:  # else `close` has told already
            self.complain(heard[0] if heard else "the exporter does not say why")
        return result

    def shutdown(self) -> None:
        """Let go of the connections."""
        with listening(), suppress(Exception):  # nobody is left to be told
            self._exporter.shutdown()

    def complain(self, reason: str) -> None:
        """Log that spans are being lost, at most once a minute."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            since = self._complained_ns
            if since is not None and now_ns - since < _COMPLAINT_INTERVAL_NS:
                return
            self._complained_ns = now_ns
        _logger.warning(
            "Spans do not reach the collector (%s); recording goes on. "
            "Check OTEL_EXPORTER_OTLP_ENDPOINT.",
            # A query of the endpoint may be a key.
            clean(re.sub(r"\?\S*", "?…", reason)),
        )
