"""A little API that streams: `POST` a message, and it answers in two events.

    with little_api() as api:
        httpx.post(api.url + "/chat", json={"message": "hello"})  # hello, answer 1

Answers are counted, so a recorded one can be told from a new one.  `/slow` waits
before its last event, `/endless` never comes to it, and `/mute` to nothing; `/moved`
leads to `elsewhere`.  SDKs find their own streams at the paths that they ask for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, Final

SLOW_S: Final = 0.2
OPENAI: Final = (
    *(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": text}}],
        }
        for text in ("Hel", "l\u00f6")
    ),
)
ANTHROPIC: Final[tuple[dict[str, object], ...]] = (
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    },
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "Hell\u00f6"},
    },
    {"type": "content_block_stop", "index": 0},
    {"type": "message_stop"},
)


class LittleApi(ThreadingHTTPServer):
    """The API."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        """The paths that were asked for."""
        self.headers: list[list[str]] = []
        """The names of the headers of each request."""
        self.elsewhere = "http://127.0.0.1:1/chat"
        self.is_over = Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that left.

        To print where it did is to parse, which two threads of CPython 3.11 must not
        do at once, and pytest does it, too.
        """
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LittleApi

    def do_POST(self) -> None:
        """Answer."""
        api, path = self.server, self.path.partition("?")[0]
        api.asked.append(self.path)
        api.headers.append(list(self.headers))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path.endswith("/moved"):
            self.send_response(307)
            self.send_header("Location", api.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path.endswith("/mute"):
            api.is_over.wait()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if path.endswith("/chat/completions"):
            for value in OPENAI:
                self._say(json.dumps(value))
        elif path.endswith("/messages"):
            for value in ANTHROPIC:
                self._say(json.dumps(value), event=str(value["type"]))
        elif path.endswith("/chat/stream"):
            self._say(f"answer {len(api.asked)}", event="message")
        else:
            self._say(f"{json.loads(body)['message']}, answer {len(api.asked)}")
        if path.endswith("/slow"):
            api.is_over.wait(SLOW_S)
        elif path.endswith("/endless"):
            api.is_over.wait()
        self._say("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _say(self, data: str, *, event: str = "") -> None:
        name = f"event: {event}\n" if event else ""
        frame = f"{name}data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(frame), frame))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing."""


@contextmanager
def little_api() -> Iterator[LittleApi]:
    """Run the API while the block lasts."""
    with LittleApi() as api:
        thread = Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            api.is_over.set()
            api.shutdown()
            thread.join()
