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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any, Final

from sse_recorder.clock import Clock
from sse_recorder.otel.answers import refusals
from sse_recorder.otel.data import clean

# A collector that has no place for a signal says so by its status.
_NO_PLACE: Final = re.compile(r"\b(404|405|501)\b|UNIMPLEMENTED")
_COMPLAINT_INTERVAL_NS: Final = 60_000_000_000

_logger = logging.getLogger("sse_recorder.otel")

# Where the SDK speaks of a collector that fails, of a queue that is full, of a value
# that is cut and of a `tracestate` that is none.
SDK_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http._common",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.attributes",
    "opentelemetry.sdk._shared_internal",
    "opentelemetry.trace.span",
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
    """An exporter round an exporter, which counts what arrives and keeps it quiet.

    It stands for an exporter of any signal: processors and readers ask for methods and
    not for a class.

    Args:
        exporter: what sends.
        clock: paces the log.
        what: is sent, for people.
        switch: the variable that turns it off; None for what cannot be done without.
        failure: what the exporter's `export` returns when it fails.
        advice: where to look when it does.
    """

    def __init__(
        self,
        exporter: Any,
        clock: Clock,
        *,
        what: str = "Spans",
        switch: str | None = None,
        failure: Any,
        advice: str = "Check OTEL_EXPORTER_OTLP_ENDPOINT.",
    ) -> None:
        self.is_over = False
        """Nothing is sent any more."""
        self.is_closed = False
        """Nothing is to be handed over any more."""
        self.refusal: str | None = None
        """Why the latest batch was not taken."""
        self.is_silent = False
        """Whoever sends says what comes of it."""
        self.joined: Callable[[Any], Any] | None = None
        """What adds to a batch on its way."""
        # What a reader of metrics asks its exporter for.
        self._preferred_temporality = getattr(exporter, "_preferred_temporality", None)
        self._preferred_aggregation = getattr(exporter, "_preferred_aggregation", None)
        self._exporter = exporter
        self._clock = clock
        self._what = what
        self._switch = switch
        self._failure = failure
        self._advice = advice
        self._lock = threading.Lock()
        self._expected = 0
        self._delivered = 0
        self._lost = 0
        self._complained_ns: int | None = None

    @property
    def missing(self) -> int:
        """What was handed over and not delivered, or not yet."""
        with self._lock:
            return self._expected - self._delivered

    def expect(self, count: int) -> None:
        """Count what was handed over."""
        with self._lock:
            self._expected += count

    def lose(self, count: int) -> None:
        """Count what there was no room for."""
        with self._lock:
            self._lost += count

    def export(self, batch: Any, **options: Any) -> Any:
        """Send a batch; what goes wrong is counted and never raised."""
        if self.is_over:
            return self._failure
        size = len(batch) if isinstance(batch, Sized) else 0
        with listening() as heard, refusals() as refused:
            try:
                if self.joined is not None:
                    batch = self.joined(batch)
                result = self._exporter.export(batch, **options)
            except Exception as error:  # noqa: BLE001 - whatever an exporter raises
                heard.append(type(error).__name__)
                result = self._failure
        if result is not self._failure:
            count = sum(refusal.size for refusal in refused)
            with self._lock:
                self._delivered += max(size - count, 0)
                self._lost += count
            if refused:
                self.refusal = harmless(refused[0].reason)
                self.complain(f"some are refused: {refused[0].reason}")
        elif not self.is_over:  # else `close` has told already
            with self._lock:
                self._lost += size
            reason = heard[0] if heard else "the exporter does not say why"
            self.refusal = harmless(reason)
            if self._switch and _NO_PLACE.search(reason):
                self._give_up(reason)
            else:
                self.complain(reason)
        return result

    def _give_up(self, reason: str) -> None:
        """Send nothing more, and say once how to keep it from being tried."""
        self.is_over = True
        _logger.warning(
            "%s are not sent any more, for the collector does not take them (%s). "
            "Set %s=none, or give them an endpoint of their own.",
            self._what,
            harmless(reason),
            self._switch,
        )

    def force_flush(self, timeout_millis: float = 0) -> bool:
        """Do nothing: what is exported is sent at once."""
        del timeout_millis
        return True

    def shutdown(self, *_: object, **__: object) -> None:
        """Let go of the connections."""
        with listening(), suppress(Exception):  # nobody is left to be told
            self._exporter.shutdown()

    def complain(self, reason: str) -> None:
        """Log that something is being lost, at most once a minute."""
        if self.is_silent:
            return
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            since, lost = self._complained_ns, self._lost
            if since is not None and now_ns - since < _COMPLAINT_INTERVAL_NS:
                return
            self._complained_ns = now_ns
        _logger.warning(
            "%s do not reach the collector (%s); %snothing else waits for them. %s",
            self._what,
            harmless(reason),
            f"{lost:,} are lost so far; " if lost else "",
            self._advice,
        )


class Outlet:
    """Hands finished things over to a processor of the SDK, which puts them in a queue.

    Args:
        delivery: counts them.
        processor: of one signal; what it has of queues is found here.
        make: makes one of what it is told.
        put: hands one over.
        quietly: what the processor says meanwhile is ours to say.
    """

    def __init__(
        self,
        delivery: Delivery,
        processor: object,
        make: Callable[[Any], Any],
        put: Callable[[Any], object],
        *,
        quietly: bool = True,
    ) -> None:
        self.delivery = delivery
        self._make = make
        self._put = put
        self._around = listening if quietly else nullcontext
        # It tells of what it displaces in a log of its own at most, and not how many.
        inner = getattr(processor, "_batch_processor", None)
        self._queue: deque[object] = getattr(inner, "_queue", deque())

    def hand_over(self, told: Iterable[Any]) -> None:
        """Hand some over; does not block, and never raises."""
        delivery, displaced, failed, problem = self.delivery, 0, 0, ""
        with self._around():
            for one in told:
                delivery.expect(1)
                if delivery.is_closed:
                    failed += 1
                    problem = "telemetry is closed: close what records first"
                    continue
                try:
                    with listening():  # a value may be cut
                        made = self._make(one)
                    displaced += len(self._queue) == self._queue.maxlen
                    self._put(made)
                except Exception as error:  # noqa: BLE001 - of a processor of others
                    failed += 1
                    problem = type(error).__name__
        if displaced or failed:
            delivery.lose(displaced + failed)
            delivery.complain(problem or "the queue is full")


def harmless(reason: str) -> str | None:
    """Return a reason that people may see: the endpoint's query may be a key."""
    return clean(re.sub(r"\?\S*", "?…", reason))
