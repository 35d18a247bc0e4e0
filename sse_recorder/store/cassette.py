r"""Cassettes: exchanges as text that a reviewer can read in a diff.

JSON lines, UTF-8, one file of one or more exchanges, `NAME.sse.jsonl`.  Of each:

    {"exchange_id": …, "request": {…}, "response": {…}, "outcome": …}      its head
    {"at_ms": 12.345678, "data": "event: status\ndata: {}\n\n"}             each chunk
    {"ended_ms": 98.7, …}                                                  its end

A chunk or a request body that is not UTF-8 has `base64` in place of its text.  Times
are milliseconds with up to six decimals, so no nanosecond is lost; keys come in a fixed
order.  What can be derived (frames, tool calls, counts) is not written: it is made
again when the cassette is read, by what makes it while recording.

A cassette that is written again (masked, rewritten, recorded in part) loses nothing
that it had, so a key that it cannot have is damage, as it would be lost.
"""

from __future__ import annotations

import base64
import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from sse_recorder.dialects import conversations
from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import (
    Chunk,
    Ending,
    Exchange,
    Headers,
    Op,
    Opening,
    Outcome,
    Record,
    RequestHead,
    ResponseHead,
)
from sse_recorder.store.atomic import replacing
from sse_recorder.store.journal import FILE_MODE
from sse_recorder.tables import Rows
from sse_recorder.transcript import Transcript

SUFFIX: Final = ".sse.jsonl"
_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_NS_LIMIT: Final = 2**63
_STATUS_LIMIT: Final = 1000
_FLAGS_LIMIT: Final = 256
_HEAD_KEYS: Final = frozenset(
    [
        *("exchange_id", "recorder_id", "started_at", "request", "sent_ms"),
        *("response", "headers_ms", "outcome"),
        *("trace_id", "span_id", "parent_span_id", "trace_flags", "tags"),
    ]
)
_REQUEST_KEYS: Final = frozenset(
    ("method", "url", "headers", "body", "base64", "target", "received_path")
)
_RESPONSE_KEYS: Final = frozenset(("status", "reason", "http_version", "headers"))
_CHUNK_KEYS: Final = frozenset(("at_ms", "data", "base64"))
_END_KEYS: Final = frozenset(("ended_ms", "error", "trailers"))
# What a line that somebody changed may make its reader say.
_DAMAGE: Final = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError),
    *(TypeError, ValueError),
)


class Whole(NamedTuple):
    """An exchange that is over, with its chunks."""

    exchange: Exchange
    chunks: list[Chunk]
    part: conversations.Part | None = None
    """What it is to the others of its conversation."""


def dumps(exchange: Exchange, chunks: Iterable[Chunk]) -> str:
    """Return one exchange that is over as lines of a cassette.

    Raises:
        UsageError: it is still open.
    """
    if exchange.outcome is None:
        raise UsageError(
            f"{exchange.exchange_id} is still open; wait until it is over, or run"
            " `sse-recorder recover` if its recorder was killed"
        )
    lines = (json.dumps(x, ensure_ascii=False) for x in _lines(exchange, chunks))
    return "".join(line + "\n" for line in lines)


def canonical(exchanges: Iterable[Whole]) -> str:
    """Return a cassette in the form of which there is one: in the order of time."""
    ordered = sorted(
        exchanges, key=lambda one: (one.exchange.started_at, one.exchange.exchange_id)
    )
    return "".join(dumps(one.exchange, one.chunks) for one in ordered)


def write(path: Path, text: str, mode: int = FILE_MODE) -> None:
    """Let a cassette appear, or take the place of another, at once.

    Args:
        path: where.
        text: of the cassette.
        mode: its permissions; by default its owner alone may read it.

    Raises:
        StoreError: it cannot be written; what was there is as it was.
    """
    try:
        with replacing(path, mode) as file:
            file.write(text.encode())
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}; make its folder writable, or name a file in"
            " another"
        ) from error


def read(path: Path) -> Iterator[list[Record]]:
    """Give the records of each exchange of a cassette.

    Raises:
        StoreError: it cannot be read, or is not a cassette; the message has the line.
    """
    return (records for _, records in read_with_lines(path))


def read_with_lines(path: Path) -> Iterator[tuple[int, list[Record]]]:
    """Give the line of the head of each exchange of a cassette, and its records.

    Raises:
        StoreError: it cannot be read, or is not a cassette; the message has the line.
    """
    try:
        # Some editors begin every file with a mark.
        lines = path.read_bytes().removeprefix(BOM_UTF8).split(b"\n")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; make it readable") from error
    reader: _Reader | None = None
    begun = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode())
            if "request" in value:
                if reader is not None:
                    raise ValueError("the exchange before it has no end")
                reader, begun = _Reader(value), number
            elif reader is None:
                raise ValueError("an exchange begins with its head")
            elif "at_ms" in value:
                reader.add_chunk(value)
            else:
                yield begun, reader.end(value)
                reader = None
        except _DAMAGE as error:
            raise StoreError(
                f"{path}, line {number}: not a line of a cassette ({error});"
                " restore the file or record it again"
            ) from error
    if reader is not None:
        raise StoreError(
            f"{path}: its last exchange has no end, so the file was cut; restore it or"
            " record it again"
        )


def read_rows(path: Path) -> Rows:
    """Return the rows of the four tables for a cassette.

    Raises:
        StoreError: it cannot be read, it is not a cassette, or an id is in it twice:
            the tables know by the id what belongs to which exchange.
    """
    rows = Rows()
    lines: dict[str, int] = {}
    parts = list[conversations.Part | None]()
    for line, records in read_with_lines(path):
        eid = records[0].exchange_id
        if (first := lines.setdefault(eid, line)) != line:
            raise StoreError(
                f"{path}, line {line}: the same id is in line {first}; take one of"
                " these exchanges out, or give it another id"
            )
        parts.append(transcribe(records, rows).part)
    rows.add_tool_calls(conversations.rebuilt(parts))
    return rows


def transcribe(records: Sequence[Record], rows: Rows) -> Whole:
    """Return an exchange that is over of its records, and add its rows to others."""
    transcript = Transcript(records[0].exchange_id)
    for record in records:
        transcript.add(record, rows)
    assert transcript.ended is not None, "it has an end"
    chunks = [
        Chunk(record.at_ns, record.payload)
        for record in records
        if record.op is Op.DATA and isinstance(record.payload, bytes)
    ]
    return Whole(transcript.ended, chunks, transcript.part())


def _lines(exchange: Exchange, chunks: Iterable[Chunk]) -> Iterator[dict[str, Any]]:
    request = {
        "method": exchange.method,
        "url": exchange.url,
        "headers": exchange.request_headers,
        **_content(exchange.request_body, "body"),
    }
    if exchange.target != _target(exchange.url):
        request["target"] = exchange.target
    if exchange.received_path is not None:
        request["received_path"] = exchange.received_path
    head: dict[str, Any] = {
        "exchange_id": exchange.exchange_id,
        "recorder_id": exchange.recorder_id,
        "started_at": _iso(exchange.started_at),
        "request": request,
        "sent_ms": _milliseconds(exchange.sent_ns),
    }
    if exchange.status is not None:
        head["response"] = {
            "status": exchange.status,
            "reason": exchange.reason,
            "http_version": exchange.http_version,
            "headers": exchange.response_headers,
        }
        head["headers_ms"] = _milliseconds(exchange.headers_ns)
    head["outcome"] = exchange.outcome
    head |= {
        name: value
        for name in ("trace_id", "span_id", "parent_span_id", "trace_flags", "tags")
        if (value := getattr(exchange, name)) or value == 0
    }
    yield head
    for chunk in chunks:
        yield {"at_ms": _milliseconds(chunk.at_ns), **_content(chunk.data, "data")}
    end: dict[str, Any] = {"ended_ms": _milliseconds(exchange.ended_ns)}
    if exchange.error is not None:
        end["error"] = exchange.error
    if exchange.response_trailers:
        end["trailers"] = exchange.response_trailers
    yield end


class _Reader:
    """Reads the lines of one exchange."""

    def __init__(self, head: dict[str, Any]) -> None:
        self.exchange_id = _text(head["exchange_id"])
        self.outcome = Outcome(head["outcome"])
        self.records = list(_head_records(head))

    def add_chunk(self, line: dict[str, Any]) -> None:
        _refuse_other_keys(line, _CHUNK_KEYS)
        at_ns, data = _nanoseconds(line["at_ms"]), _bytes(line, "data")
        self.records.append(Record(self.exchange_id, Op.DATA, at_ns, data))

    def end(self, line: dict[str, Any]) -> list[Record]:
        _refuse_other_keys(line, _END_KEYS)
        ending = Ending(
            outcome=self.outcome,
            error=_text(line["error"]) if "error" in line else None,
            trailers=_headers(line.get("trailers", ())),
        )
        at_ns = _nanoseconds(line["ended_ms"])
        return [*self.records, Record(self.exchange_id, Op.END, at_ns, ending)]


def _head_records(line: dict[str, Any]) -> Iterator[Record]:
    eid, request = line["exchange_id"], line["request"]
    _refuse_other_keys(line, _HEAD_KEYS)
    _refuse_other_keys(request, _REQUEST_KEYS)
    url = _text(request["url"])
    opening = Opening(
        recorder_id=_text(line.get("recorder_id", "")),
        started_at=_from_iso(line["started_at"]),
        url=url,
        request=RequestHead(
            _text(request["method"]),
            _text(request.get("target", _target(url))),
            _headers(request["headers"]),
        ),
        trace_id=_text(line.get("trace_id", "")),
        span_id=_text(line.get("span_id", "")),
        parent_span_id=_text(line.get("parent_span_id", "")),
        tags=dict(_headers(dict(line.get("tags", {})).items())),
        received_path=_text(request.get("received_path", "")),
        trace_flags=_flags(line.get("trace_flags")),
    )
    yield Record(eid, Op.OPEN, 0, opening)
    if body := _bytes({"body": ""} | request, "body"):
        yield Record(eid, Op.REQUEST_DATA, 0, body)
    if line["sent_ms"] is not None:
        yield Record(eid, Op.SENT, _nanoseconds(line["sent_ms"]))
    if response := line.get("response"):
        _refuse_other_keys(response, _RESPONSE_KEYS)
        head = ResponseHead(
            _status(response["status"]),
            _text(response["reason"]),
            _headers(response["headers"]),
            _text(response["http_version"]),
        )
        yield Record(eid, Op.HEAD, _nanoseconds(line["headers_ms"]), head)


def _refuse_other_keys(line: dict[str, Any], keys: frozenset[str]) -> None:
    for key in line:
        if key not in keys:
            raise ValueError(f"{key!r} is not a key that it can have")


def _target(url: str) -> str:
    """Return what stands on the request line: the URL without scheme and authority."""
    rest = url.partition("://")[2].partition("#")[0]
    before_query, mark, query = rest.partition("?")
    return "/" + before_query.partition("/")[2] + mark + query


def _content(data: bytes, name: str) -> dict[str, str]:
    try:
        return {name: data.decode()} if data or name == "data" else {}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytes(line: dict[str, Any], name: str) -> bytes:
    if "base64" in line:
        return base64.b64decode(line["base64"], validate=True)
    return _text(line[name]).encode()


def _headers(pairs: Iterable[Iterable[Any]]) -> Headers:
    return tuple((_text(name), _text(value)) for name, value in pairs)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    value.encode()  # JSON can have half of a character, and a file cannot
    return value


def _flags(value: Any) -> int | None:
    if value is not None and value not in range(_FLAGS_LIMIT):
        raise ValueError(f"{value!r} are no trace flags")
    return None if value is None else int(value)


def _status(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < _STATUS_LIMIT:
        raise ValueError(f"{value!r} is not a status")
    return value


def _milliseconds(ns: int | None) -> float | None:
    return None if ns is None else ns / _NS_PER_MS


def _nanoseconds(milliseconds: float) -> int:
    ns = round(milliseconds * _NS_PER_MS)
    if not 0 <= ns < _NS_LIMIT:
        raise ValueError(f"{milliseconds!r} is not a time since the request")
    return ns


def _iso(ns: int) -> str:
    seconds, rest = divmod(ns, _NS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _from_iso(text: str) -> int:
    whole, _, rest = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    ns = seconds * _NS_PER_S + int(f"{rest:0<9.9}")
    if not -_NS_LIMIT <= ns < _NS_LIMIT:
        raise ValueError(f"{text!r} is too far away for nanoseconds")
    return ns
