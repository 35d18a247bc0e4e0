"""An exchange and its chunks, as the tests of playing them share."""

from __future__ import annotations

from sse_recorder.exchange import Chunk, Exchange, Outcome

MS = 1_000_000
CHUNKS = [Chunk(30 * MS, b"data: a\n\n"), Chunk(50 * MS, b"da"), Chunk(50 * MS, b"ta")]


def exchange(**changes: object) -> Exchange:
    """Return an exchange that went well, changed as a test needs it."""
    values: dict[str, object] = {
        "exchange_id": "01936a3e-8c00-7abc-9def-0123456789ab",
        "recorder_id": "r",
        "started_at": 1_700_000_000_000_000_000,
        "method": "POST",
        "url": "http://host/chat?x=1",
        "path": "/chat",
        "request_headers": (("Content-Type", "application/json"),),
        "request_body": b'{"a": 1, "b": 2}',
        "status": 200,
        "reason": "OK",
        "http_version": "1.1",
        "response_headers": (
            ("Content-Type", "text/event-stream"),
            ("Transfer-Encoding", "chunked"),
        ),
        "outcome": Outcome.COMPLETE,
        "sent_ns": 10 * MS,
        "headers_ns": 20 * MS,
        "ended_ns": 60 * MS,
    }
    return Exchange(**(values | changes))  # type: ignore[arg-type]
