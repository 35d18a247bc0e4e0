"""Answers of our own: small JSON bodies, sent whole."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from sse_recorder.exchange import Headers, ResponseHead

if TYPE_CHECKING:
    from sse_recorder.http1.server import ResponseStream


def send_json(
    stream: ResponseStream, status: HTTPStatus, value: object, headers: Headers = ()
) -> None:
    """Answer a request with JSON."""
    body = json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"
    own = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
    )
    stream.send_head(ResponseHead(status, status.phrase, (*own, *headers)))
    stream.send_data(body)
    stream.end()


def send_json_error(
    stream: ResponseStream,
    status: HTTPStatus,
    kind: str,
    message: str,
    headers: Headers = (),
) -> None:
    """Answer a request with an error."""
    error = {"type": kind, "message": message}
    send_json(stream, status, {"error": error}, headers)
