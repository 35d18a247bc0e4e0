"""HAR 1.2, as browsers and proxies save what they loaded.

http://www.softwareishard.com/blog/har-12-spec/.  Of an entry of the log come the
request with what it posted, the response, and their times:

    t0            `startedDateTime`
    sent_ns       after blocked, dns, connect (which includes ssl) and send
    headers_ns    after wait
    ended_ns      after receive

The body is `response.content.text`, in base64 where `encoding` says so.  It is "HTTP
decoded (decompressed & unchunked)", so the headers that say otherwise go.  When its
bytes came a HAR does not say, and so all of them come at the end of the wait, unless
the tool wrote the events too that it saw, as Chromium's developer tools do:

    "_eventSourceMessages": [{"time": 1795428930.5, "eventName": "message",
                              "eventId": "", "data": "…"}, …]

`time` is in seconds, since 1970 or since the entry began; any other clock is aligned so
that the first event comes at the end of the wait.  The text is cut behind the frame of
each event.  Where there is no text, as for an `EventSource` of Chromium's, the frames
are written from the messages.

Chromium reads what has no charset as windows-1252 before it saves it, also an event
stream or JSON, which are UTF-8 by definition.  That can be undone, and is.

Left out, and told, are entries that are no exchange of HTTP (`data:`, WebSocket), and
those whose body was not saved; and of a 304 the body that was in the browser's cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from sse_recorder import sse
from sse_recorder.exchange import (
    END_OF_FILE,
    RESET,
    Chunk,
    Headers,
    Outcome,
    ResponseHead,
)
from sse_recorder.imports.base import (
    Found,
    Tape,
    answered,
    each,
    from_base64,
    from_datetime,
    has_body,
    shown,
    to_headers,
    true_headers,
    wire_text,
)

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_YEAR_2001_S: Final = 10**9
_SLACK_NS: Final = _NS_PER_S
_SWITCHING_PROTOCOLS: Final = 101
_VERSIONS: Final = {
    **dict.fromkeys(("h2", "2", "2.0"), "2"),
    **dict.fromkeys(("h3", "3", "3.0"), "3"),
    "1.0": "1.0",
}
_UTF_8_TYPES: Final = ("text/event-stream", "application/json")
_UNSAVED: Final = "its bytes were not saved: they are written from its events"
_READ_WRONG: Final = "its UTF-8 was saved as windows-1252: that is undone"
# https://encoding.spec.whatwg.org/#windows-1252: bytes that it does not use are C1
# controls.
_WINDOWS_1252: Final = {
    bytes([byte]).decode("cp1252", "ignore") or chr(byte): byte for byte in range(256)
}


class _Times(NamedTuple):
    sent_ns: int
    headers_ns: int
    ended_ns: int


class _Message(NamedTuple):
    """An event that the tool saw."""

    at_ns: int
    data: str
    frame: bytes
    """As a server may have written it."""


def read(data: bytes) -> Found:
    """Return the exchanges of a HAR.

    Raises:
        ValueError, or what else is in `base.DAMAGE`: it is none.
    """
    # A float has not the digits for microseconds since 1970.
    log: Any = json.loads(data.decode("utf-8-sig"), parse_float=Decimal)["log"]
    return each("entry", log["entries"], _tape)


def _tape(entry: Any) -> Tape | str:
    request, response = entry["request"], entry["response"]
    url, method = wire_text(request["url"]), wire_text(request["method"])
    status = int(response["status"])
    if url.partition(":")[0].lower() not in {"http", "https"}:
        return f"left out, {shown(url)!r} is no URL of HTTP"
    if status == _SWITCHING_PROTOCOLS:
        return "left out, it became a WebSocket"
    times = _times(entry.get("timings") or {})
    started_at = from_datetime(datetime.fromisoformat(entry["startedDateTime"]))
    messages = list(_messages(entry, started_at, times))
    body, note = _body(response.get("content") or {})
    if body is None:
        if not messages and has_body(method, status):
            return f"left out, the body of {shown(url)} was not saved"
        body, note = (
            b"".join(message.frame for message in messages),
            _UNSAVED * bool(messages),
        )
    posted = _posted(request.get("postData") or {})
    if posted is None:
        return f"left out, what was posted to {shown(url)} was not saved"
    head = None
    if status:
        head, body, left_out = answered(method, _head(response), body, is_decoded=True)
        note = left_out or note
    outcome, error = _outcome(entry)
    return Tape(
        url=url.partition("#")[0],
        method=method,
        request_headers=true_headers(_headers(request), len(posted)),
        request_body=posted,
        response=head,
        chunks=list(_cut(body, messages, times.headers_ns)),
        started_at=started_at,
        sent_ns=times.sent_ns,
        headers_ns=times.headers_ns,
        ended_ns=times.ended_ns,
        outcome=outcome,
        error=error,
        note=note,
    )


def _times(timings: dict[str, Any]) -> _Times:
    # -1 says that "the timing does not apply to the current request".
    names = ("blocked", "dns", "connect", "send", "wait", "receive")
    spans = [max(0.0, float(timings.get(name) or 0)) for name in names]
    *_, sent, waited, received = (round(x * _NS_PER_MS) for x in accumulate(spans))
    return _Times(sent, waited, received)


def _headers(message: dict[str, Any]) -> Headers:
    return to_headers((pair["name"], pair["value"]) for pair in message["headers"])


def _head(response: dict[str, Any]) -> ResponseHead:
    version = str(response.get("httpVersion") or "").lower().removeprefix("http/")
    return ResponseHead(
        int(response["status"]),
        wire_text(response.get("statusText") or ""),
        _headers(response),
        _VERSIONS.get(version, "1.1"),
    )


def _body(content: dict[str, Any]) -> tuple[bytes | None, str]:
    """Return the body, or None where it was not saved, and what was done to it."""
    text = content.get("text")
    if not text:
        return (None if content.get("size") else b""), ""
    if content.get("encoding") == "base64":
        return from_base64(text), ""
    kind, _, parameters = str(content.get("mimeType") or "").lower().partition(";")
    if kind.strip() in _UTF_8_TYPES and "charset" not in parameters:
        undone = _undone(text)
        if undone is not None:
            return undone, _READ_WRONG
    return text.encode("utf-8", "surrogatepass"), ""


def _undone(text: str) -> bytes | None:
    """Return the UTF-8 that somebody read as windows-1252; None if it was not so."""
    try:
        data = bytes(map(_WINDOWS_1252.__getitem__, text))
        data.decode()
    except (KeyError, UnicodeDecodeError):
        return None
    return None if data.isascii() else data


def _posted(data: dict[str, Any]) -> bytes | None:
    """Return what was posted, or None where it was not saved."""
    if data.get("text"):
        text: str = data["text"]
        if data.get("encoding") == "base64":
            return from_base64(text)
        return text.encode("utf-8", "surrogatepass")
    pairs = [(p["name"], p.get("value") or "") for p in data.get("params") or ()]
    if pairs and not str(data.get("mimeType")).startswith("application/x-www-form"):
        return None
    return urlencode(pairs).encode()


def _messages(
    entry: dict[str, Any], started_at: int, times: _Times
) -> Iterator[_Message]:
    found = entry.get("_eventSourceMessages") or []
    if not found:
        return
    first_s = Decimal(found[0]["time"])
    origin_ns = 0
    if first_s >= _YEAR_2001_S:
        origin_ns = started_at
    elif first_s * _NS_PER_S > times.ended_ns + _SLACK_NS:
        origin_ns = round(first_s * _NS_PER_S) - times.headers_ns
    last_id = ""
    for message in found:
        name, data, id_ = (
            message.get("eventName"),
            message["data"],
            message.get("eventId"),
        )
        frame = sse.encode_event(
            None if name in (None, "", "message") else name,
            data,
            # An id is that of the last event which had one.
            id_ if id_ and id_ != last_id else None,
        )
        last_id = id_ or last_id
        at_ns = round(Decimal(message["time"]) * _NS_PER_S) - origin_ns
        yield _Message(max(0, at_ns), data, frame)


def _cut(body: bytes, messages: list[_Message], headers_ns: int) -> Iterator[Chunk]:
    """Give the body in chunks, each of which ends with the frame of an event."""
    start, at_ns = 0, headers_ns
    events = (f for f in sse.parse(body) if f.type == "event") if messages else ()
    for message, frame in zip(messages, events, strict=False):
        if frame.data != message.data:
            break  # not the events of this text: the rest is left in one piece
        end = frame.start + frame.size
        at_ns = max(at_ns, message.at_ns)
        yield Chunk(at_ns, body[start:end])
        start = end
    if start < len(body):
        yield Chunk(max(at_ns, *(m.at_ns for m in messages), 0), body[start:])


def _outcome(entry: dict[str, Any]) -> tuple[Outcome, str | None]:
    response = entry["response"]
    error = wire_text(response.get("_error") or response.get("_failureText") or "")
    if not int(response["status"]):
        return Outcome.UPSTREAM_ERROR, error or "there was no answer"
    if not error:
        return Outcome.COMPLETE, None
    if "ABORTED" in error:
        return Outcome.CLIENT_ABORT, error
    how = RESET if "RESET" in error else END_OF_FILE
    return Outcome.UPSTREAM_ABORT, f"{how}: {error}"
