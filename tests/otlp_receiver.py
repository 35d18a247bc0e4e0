"""A collector for tests: OTLP over HTTP on a loopback port, kept in lists.

In a test, as a thread:

    with otlp_receiver() as receiver:
        ...                                     # send to receiver.endpoint
        (span,) = receiver.spans(timeout_s=5, count=1)

As a process of its own, which prints its endpoint and then one line of JSON a span,
and one a metric:

    python tests/otlp_receiver.py

It can also be a collector in trouble: one that answers with an error, slowly, or never.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

__all__ = ["LogRecord", "Receiver", "Span", "attributes", "otlp_receiver", "points"]


class Receiver:
    """What a collector was sent.

    Attributes:
        endpoint: the base URL, as OTEL_EXPORTER_OTLP_ENDPOINT takes it.
        bodies: the request bodies with spans, decompressed, accepted or not.
        all_bodies: those of metrics and logs, too.
        metrics: the metrics, by name: what came last is the sum so far.
        logs: the log records.
        resource_spans: what they hold, with resource and scope.
    """

    def __init__(self, *, status: int, hang: bool, delay_s: float) -> None:
        self.endpoint = ""
        self.bodies: list[bytes] = []
        self.all_bodies: list[bytes] = []
        self.metrics: dict[str, Metric] = {}
        self.logs: list[LogRecord] = []
        self.delay_s = delay_s
        self.on_span: Callable[[Span], None] | None = None
        self.on_metric: Callable[[Metric], None] | None = None
        self.resource_spans: list[ResourceSpans] = []
        self.status = status
        self.hang = hang
        self.released = threading.Event()
        self._changed = threading.Condition()
        self._spans: list[Span] = []

    def spans(self, timeout_s: float = 5.0, count: int = 1) -> list[Span]:
        """Wait until at least `count` spans have come; return all, in their order."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._spans) >= count, timeout_s):
                came = [span.name for span in self._spans]
                raise AssertionError(f"{count} spans expected, came: {came}")
            return list(self._spans)

    def requests(self, timeout_s: float = 5.0, count: int = 1) -> int:
        """Wait until at least `count` requests have come; return how many did."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.bodies) >= count, timeout_s)
            return len(self.bodies)

    def take_in(self, path: str, body: bytes) -> bool:
        """Take in one request; False where there is no such path."""
        match path:
            case "/v1/traces":
                for span in self.receive(body):
                    if self.on_span is not None:
                        self.on_span(span)
            case "/v1/metrics" | "/v1/logs":
                for metric in self.receive_other(path, body):
                    if self.on_metric is not None:
                        self.on_metric(metric)
            case _:
                return False
        return True

    def receive_other(self, path: str, body: bytes) -> list[Metric]:
        """Take in one request with metrics or logs."""
        found: list[Metric] = []
        with self._changed:
            self.all_bodies.append(body)
            if self.status != 200 or self.hang:
                return found
            if path == "/v1/metrics":
                for owner in ExportMetricsServiceRequest.FromString(
                    body
                ).resource_metrics:
                    for scope in owner.scope_metrics:
                        found += scope.metrics
                self.metrics |= {metric.name: metric for metric in found}
            else:
                for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                    for scope_logs in logs.scope_logs:
                        self.logs += scope_logs.log_records
            self._changed.notify_all()
        return found

    def receive(self, body: bytes) -> list[Span]:
        """Take in one request with spans."""
        found: list[Span] = []
        with self._changed:
            self.bodies.append(body)
            self.all_bodies.append(body)
            if self.status == 200 and not self.hang:
                request = ExportTraceServiceRequest.FromString(body)
                for resource_spans in request.resource_spans:
                    self.resource_spans.append(resource_spans)
                    for scope_spans in resource_spans.scope_spans:
                        found += scope_spans.spans
                self._spans += found
            self._changed.notify_all()
        return found


@contextmanager
def otlp_receiver(
    *,
    status: int = 200,
    hang: bool = False,
    delay_s: float = 0.0,
    headers: tuple[tuple[str, str], ...] = (),
    answer: bytes = b"",
    on_span: Callable[[Span], None] | None = None,
    on_metric: Callable[[Metric], None] | None = None,
) -> Iterator[Receiver]:
    """Run a collector in a thread.

    Args:
        status: what every request is answered with; spans are kept only with 200.
        hang: read requests and never answer, until the end.
        delay_s: how long each answer takes.
        headers: of each answer.
        answer: its body; see `refusal`.
        on_metric: called with every metric that is kept, in the thread of its request.
        on_span: called with every span that is kept, in the thread of its request.
    """
    receiver = Receiver(status=status, hang=hang, delay_s=delay_s)
    receiver.on_span, receiver.on_metric = on_span, on_metric

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if not receiver.take_in(self.path, body):
                self.send_error(404)
                return
            if receiver.hang:
                receiver.released.wait()
                return
            receiver.released.wait(receiver.delay_s)
            self.send_response(receiver.status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(count: int, reason: str) -> bytes:
    """Return the body of an answer that refuses some of a request."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = count
    answer.partial_success.error_message = reason
    return cast("bytes", answer.SerializeToString())


def points(metric: Metric) -> list[HistogramDataPoint]:
    """Return the data points of a metric, whatever it is."""
    kind = metric.WhichOneof("data")
    assert kind is not None
    return list(getattr(metric, kind).data_points)


def attributes(
    owner: Span | ResourceSpans | LogRecord | HistogramDataPoint,
) -> dict[str, object]:
    """Return the attributes of what was sent as plain values."""
    is_resource = isinstance(owner, ResourceSpans)
    pairs = owner.resource.attributes if is_resource else owner.attributes
    return {pair.key: _plain(pair.value) for pair in cast("list[KeyValue]", pairs)}


def _plain(value: AnyValue) -> object:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _plain(pair.value) for pair in value.kvlist_value.values}
    return None if which is None else cast("object", getattr(value, which))


def _print_span(span: Span) -> None:
    line = {
        "name": span.name,
        "kind": span.kind,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex(),
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
        "is_error": span.status.code == 2,
        "attributes": attributes(span),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _print_metric(metric: Metric) -> None:
    line = {
        "metric": metric.name,
        "unit": metric.unit,
        "points": [attributes(point) for point in points(metric)],
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _main() -> None:
    with otlp_receiver(on_span=_print_span, on_metric=_print_metric) as receiver:
        sys.stdout.write(receiver.endpoint + "\n")
        sys.stdout.flush()
        sys.stdin.read()  # until whoever started it goes away


if __name__ == "__main__":
    _main()
