"""What the tests of capturing share: exchanges to hear, and a writer to hear them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sse_recorder.capture import Limits, Tap, Writer
from sse_recorder.exchange import (
    Ending,
    Exchange,
    Opening,
    Outcome,
    RequestHead,
    ResponseHead,
)
from sse_recorder.store.store import Store

SECRET = "sk-live-51H8xq2eZvKYlo2C"  # noqa: S105 - made up
STREAM = ResponseHead(200, "OK", (("Content-Type", "text/event-stream"),))
COMPLETE = Ending(outcome=Outcome.COMPLETE)
CHAT = "/v1/chat/completions"
NEVER = Limits(segment_age_s=10**6, idle_s=10**6)


def opening(**changes: Any) -> Opening:
    """Return the opening of an exchange with a secret in its head."""
    request = RequestHead(
        "POST",
        f"/v2/sessions/s/chat/stream?api_key={SECRET}",
        (("Authorization", f"Bearer {SECRET}"), ("Meibel-API-Key", SECRET)),
    )
    values: dict[str, Any] = {
        "recorder_id": "r",
        "started_at": 1,
        "url": f"http://h{request.target}",
        "request": request,
    }
    return Opening(**(values | changes))


def hold(tap: Tap, t0_ns: int, *, end: bool = True) -> None:
    """Let a tap hear a short exchange."""
    tap.opened(opening())
    tap.request_data(t0_ns + 1, b"hello")
    tap.sent(t0_ns + 2)
    tap.head(t0_ns + 3, STREAM)
    tap.data(t0_ns + 4, b"data: 1\n\nda")
    if end:
        tap.data(t0_ns + 5, b"ta: 2\n\n")
        tap.ended(t0_ns + 6, COMPLETE)


@contextmanager
def writing(root: Path, **options: Any) -> Iterator[Writer]:
    """Write to a store while the block lasts."""
    writer = Writer(root, **options)
    try:
        yield writer
    finally:
        writer.close()


def until(store: Path, condition: str) -> list[Exchange]:
    """Wait until exchanges of a store are as a condition says."""
    with Store.open(store) as opened:
        for _ in range(200):
            if found := list(opened.exchanges(condition)):
                return found
            threading.Event().wait(0.05)
            opened.refresh()
    raise AssertionError(f"no exchange with {condition} in ten seconds")


def ask(
    tap: Tap,
    body: object,
    *,
    at_ms: int = 0,
    calls: Iterable[str] = (),
    end: bool = True,
    path: str = CHAT,
) -> None:
    """Let a tap hear a chat that calls the tools `search` of some ids."""
    opened = opening(
        started_at=at_ms * 1_000_000,
        request=RequestHead("POST", path),
        url=f"http://api{path}",
    )
    tap.opened(opened)
    tap.request_data(1, json.dumps(body).encode())
    tap.sent(2)
    tap.head(3, STREAM)
    function = {"name": "search", "arguments": '{"q":1}'}
    found = [{"index": n, "id": i, "function": function} for n, i in enumerate(calls)]
    choice = {"delta": {"tool_calls": found}, "finish_reason": "tool_calls"}
    event = {"object": "chat.completion.chunk", "choices": [choice]}
    tap.data(4, f"data: {json.dumps(event)}\n\n".encode())
    if end:
        tap.ended(5, COMPLETE)


def answers(*ids: str) -> dict[str, object]:
    """Return a request with the results of calls."""
    results = [{"role": "tool", "tool_call_id": i, "content": f"of {i}"} for i in ids]
    return {"messages": [{"role": "user", "content": "Hi"}, *results]}
