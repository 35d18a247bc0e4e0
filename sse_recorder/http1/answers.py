"""Answers of our own: small JSON bodies, sent whole."""

from __future__ import annotations

import json
from typing import Protocol

from sse_recorder.exchange import Headers, ResponseHead, phrase_of


class Response(Protocol):
    """What an answer is sent with (see `server.ResponseStream`)."""

    def send_head(self, head: ResponseHead) -> None:
        """Send the head."""

    def send_data(self, data: bytes) -> None:
        """Send some of the body."""

    def end(self) -> None:
        """End the body."""


def send_json(
    stream: Response, status: int, value: object, headers: Headers = ()
) -> None:
    """Answer a request with JSON."""
    body = json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
    own = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
    )
    stream.send_head(ResponseHead(status, phrase_of(status), (*own, *headers)))
    stream.send_data(body)
    stream.end()


def send_json_error(
    stream: Response,
    status: int,
    kind: str,
    message: str,
    headers: Headers = (),
) -> None:
    """Answer a request with an error."""
    error = {"type": kind, "message": message}
    send_json(stream, status, {"error": error}, headers)
