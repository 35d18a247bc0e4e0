"""A collector for tests: OTLP over HTTP on a loopback port, spans kept in a list.

In a test, as a thread:

    with otlp_receiver() as receiver:
        ...                                     # send to receiver.endpoint
        (span,) = receiver.spans(timeout_s=5, count=1)

As a process of its own, which prints its endpoint and then one line of JSON a span:

    python tests/otlp_receiver.py

It can also be a collector in trouble: one that answers with an error, or never.
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

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

__all__ = ["Receiver", "Span", "attributes", "otlp_receiver"]


class Receiver:
    """What a collector was sent.

    Attributes:
        endpoint: the base URL, as OTEL_EXPORTER_OTLP_ENDPOINT takes it.
        bodies: the request bodies, decompressed, whether or not they were accepted.
        resource_spans: what they hold, with resource and scope.
    """

    def __init__(self, *, status: int, hang: bool) -> None:
        self.endpoint = ""
        self.bodies: list[bytes] = []
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

    def receive(self, body: bytes) -> list[Span]:
        """Take in one request."""
        found: list[Span] = []
        with self._changed:
            self.bodies.append(body)
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
    on_span: Callable[[Span], None] | None = None,
) -> Iterator[Receiver]:
    """Run a collector in a thread.

    Args:
        status: what every request is answered with; spans are kept only with 200.
        hang: read requests and never answer, until the end.
        on_span: called with every span that is kept, in the thread of its request.
    """
    receiver = Receiver(status=status, hang=hang)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path != "/v1/traces":
                self.send_error(404)
                return
            found = receiver.receive(body)
            for span in found:
                if on_span is not None:
                    on_span(span)
            if receiver.hang:
                receiver.released.wait()
                return
            answer = cast("bytes", ExportTraceServiceResponse().SerializeToString())
            self.send_response(receiver.status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
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


def attributes(owner: Span | ResourceSpans) -> dict[str, object]:
    """Return the attributes of a span, or of a resource, as plain values."""
    pairs = owner.attributes if isinstance(owner, Span) else owner.resource.attributes
    return {pair.key: _plain(pair.value) for pair in cast("list[KeyValue]", pairs)}


def _plain(value: AnyValue) -> object:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_plain(item) for item in value.array_value.values]
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


def _main() -> None:
    with otlp_receiver(on_span=_print_span) as receiver:
        sys.stdout.write(receiver.endpoint + "\n")
        sys.stdout.flush()
        sys.stdin.read()  # until whoever started it goes away


if __name__ == "__main__":
    _main()
