"""A live server that notes what it is asked, and recordings of requests to send to it.

    with live() as server:
        …
    assert [asked.target for asked in server.asked] == ["/a", "/b"]

What stands behind the question mark says how it answers: `slow` when the test says so,
`cut` in the middle of a frame, `mute` not at all, `else` with another text, `echo` with
the request's headers, `away` with a redirect, and anything else with `Hi`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, Final, NamedTuple

from samples import MS, STARTED_AT, meibel_exchange, said

from sse_recorder.clock import MONOTONIC_NS
from sse_recorder.exchange import Headers, Op, Opening, Record
from sse_recorder.redact import Redactor

JSON: Final[Headers] = (("Content-Type", "application/json"),)


class Asked(NamedTuple):
    """A request that came."""

    at_ns: int
    method: str
    target: str
    headers: Headers
    body: bytes


class Live(ThreadingHTTPServer):
    """The server."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[Asked] = []
        self.release = Event()
        """Lets go what is slow."""
        self.open = 0
        self.open_most = 0
        """How many requests were open at the same time."""
        self.lock = Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def targets(self) -> list[str]:
        """What was asked for, in the order in which it came."""
        return [asked.target for asked in self.asked]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that left."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Live

    def do_POST(self) -> None:
        """Note the request, and answer it."""
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = tuple(self.headers.items())
        asked = Asked(MONOTONIC_NS(), self.command, self.path, headers, body)
        with server.lock:
            server.asked.append(asked)
            server.open += 1
            server.open_most = max(server.open, server.open_most)
        try:
            self._answer(self.path.partition("?")[2], headers)
        finally:
            with server.lock:
                server.open -= 1

    def _answer(self, word: str, headers: Headers) -> None:
        if word == "mute":
            self.server.release.wait()
        if word == "away":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if word == "cut":
            self.wfile.write(b"20\r\nevent: partial")
            self.close_connection = True
            return
        if word == "slow":
            self.server.release.wait()
        said_ = {"echo": str(dict(headers)), "else": "Bye"}.get(word, "Hi")
        data = json.dumps({"data": {"message": said_}})
        frame = f"event: partial_response\ndata: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(frame), frame))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing."""


@contextmanager
def live() -> Iterator[Live]:
    """Run the server while the block lasts."""
    with Live() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()
            thread.join()


def request(
    number: int,
    at_ms: float = 0,
    *,
    path: str = "/v1/chat",
    headers: Headers = JSON,
    body: bytes = b'{"message":"Hello"}',
    took_ms: float = 5,
    text: str = "Hi",
    **more: Any,
) -> Sequence[Record]:
    """Return the records of an exchange whose request can be sent again.

    Args:
        number: tells it from others.
        at_ms: when it began.
        path: with its query.
        headers: of the request; its length comes with them.
        body: of the request.
        took_ms: how long it took.
        text: what it was answered.
        more: see `meibel_exchange`.
    """
    more.setdefault("ended_ms", took_ms)
    records = meibel_exchange(
        [said(took_ms, text)],
        number=number,
        started_at=STARTED_AT + round(at_ms * MS),
        path=path,
        sent_ms=0,
        headers_ms=0,
        **more,
    )
    opening = records[0].payload
    assert isinstance(opening, Opening)
    length = (("Content-Length", str(len(body))),)
    head = replace(opening.request, headers=(*headers, *length))
    # As a recorder does, before anything is written.
    redactor = Redactor()
    masked = replace(
        opening, request=redactor.request_head(head), url=redactor.url(opening.url)
    )
    records[0] = records[0]._replace(payload=masked)
    records[1] = records[1]._replace(payload=redactor.whole_body(head, body))
    assert records[1].op is Op.REQUEST_DATA
    return records
