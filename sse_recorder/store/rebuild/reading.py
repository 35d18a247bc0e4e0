"""Reading anew: what the dialects of today make of an exchange that is over.

The frames are those that are stored.  Their bytes are not parsed again, so that what
was recorded is never in question, and what was lost, cut or could not be decoded is
read as far as it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pyarrow as pa

from sse_recorder.dialects.base import Kind
from sse_recorder.exchange import (
    Ending,
    Exchange,
    Op,
    Opening,
    Outcome,
    Record,
    RequestHead,
    ResponseHead,
)
from sse_recorder.match import PARSED_BYTES_MAX
from sse_recorder.tables import TOOL_CALLS, Row, Rows
from sse_recorder.transcript import BODY_FRAME_MAX, Transcript

_REPORTED: Final = "the stream reported: "
DERIVED: Final = (
    *("dialect", "session_id", "model", "error", "first_event_ns", "first_content_ns"),
    *("last_content_ns", "tool_call_count", "input_tokens", "output_tokens"),
    "finish_reason",
)
"""The columns of `exchanges` that dialects tell."""


class StoredFrame(NamedTuple):
    """What must be known of a frame to read it anew."""

    exchange_id: str
    seq: int
    last_ns: int
    size: int
    type: str
    event: str | None
    data: str | None
    raw: bytes | None
    """Only of a frame that is a whole body."""
    kind: str


class Reading(Transcript):
    """An exchange, read anew frame by frame."""

    def __init__(self, exchange: Exchange) -> None:
        """Begin with its heads and its request body."""
        super().__init__(exchange.exchange_id)
        self._stored = exchange
        self._rows = Rows()
        for record in _head(exchange):
            self.add(record, self._rows)

    def read(self, frame: StoredFrame) -> Kind:
        """Return what a frame is; they come in their order."""
        if frame.type == "event":
            assert frame.data is not None
            return self._read_event(
                frame.seq, frame.last_ns, frame.event, frame.data, self._rows
            )
        if frame.type == "body":
            return self._read_body(frame)
        return Kind.KEEPALIVE if frame.type == "comment" else Kind.OTHER

    def _read_body(self, frame: StoredFrame) -> Kind:
        is_whole = self._stored.frame_count == 1 and frame.size <= BODY_FRAME_MAX
        if not is_whole or self._dialect is None:
            return Kind.OTHER
        reading = self._dialect.read_body(frame.raw or b"")
        self._heed(reading, frame.seq, frame.last_ns, self._rows)
        return reading.kind

    def close(self) -> dict[str, Any]:
        """Return what the columns `DERIVED` are by all of it."""
        stored = self._stored
        ending = Ending(outcome=stored.outcome or Outcome.COMPLETE)
        at_ns = stored.ended_ns or 0
        self._decoder = None  # it was given nothing, and would miss it
        self.add(Record(self.exchange_id, Op.END, at_ns, ending), self._rows)
        assert self.ended is not None
        found = {name: _kept(getattr(self.ended, name)) for name in DERIVED}
        if not (stored.error or _REPORTED).startswith(_REPORTED):
            found["error"] = stored.error  # which no dialect told
        elif not (found["error"] or "").startswith(_REPORTED):
            found["error"] = None
        return found

    def calls(self) -> list[Row]:
        """Return its tool calls as rows of their table."""
        return call_rows(self._rows)


def call_rows(rows: Rows) -> list[Row]:
    """Return tool calls as a reader of the table has them."""
    if not rows.tool_calls:
        return []
    bare = Rows()
    bare.tool_calls = rows.tool_calls
    return [row for batch in bare.batches()["tool_calls"] for row in tuples(batch)]


def tuples(batch: pa.RecordBatch | pa.Table) -> Iterator[Row]:
    """Give the rows of a batch."""
    yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


PLACES: Final = {name: place for place, name in enumerate(TOOL_CALLS.names)}
"""Where the columns of `tool_calls` are in a row."""


def _head(exchange: Exchange) -> Iterator[Record]:
    eid, body = exchange.exchange_id, exchange.request_body
    opening = Opening(
        recorder_id=exchange.recorder_id,
        started_at=exchange.started_at,
        url=exchange.url,
        request=RequestHead(exchange.method, exchange.target, exchange.request_headers),
    )
    yield Record(eid, Op.OPEN, 0, opening)
    # A longer body was not read either, which is so for one that was never sent whole.
    if exchange.request_body_size <= PARSED_BYTES_MAX:
        if body:
            yield Record(eid, Op.REQUEST_DATA, 0, body)
        if exchange.sent_ns is not None:
            yield Record(eid, Op.SENT, exchange.sent_ns)
    if exchange.status is not None:
        head = ResponseHead(
            exchange.status,
            exchange.reason or "",
            exchange.response_headers,
            exchange.http_version or "1.1",
        )
        yield Record(eid, Op.HEAD, exchange.headers_ns or 0, head)


def _kept(value: Any) -> Any:
    """Return a value as a column keeps it."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    return value
