"""What one exchange's records amount to: its rows.

The writer makes rows while a stream runs, a recovery makes them from a journal that a
crash left, a query makes them from a journal that is still growing, and a cassette is
read into them.  All four run the records of an exchange through a `Transcript`, so
they cannot disagree.

    Record ──▶ Transcript ──▶ chunks      one row a read
                   │     └──▶ frames      one row a frame, with its kind
                   │     └──▶ tool_calls  one row a call, when it is closed
                   └────────▶ exchanges   one row, when the exchange is over

Memory is bounded by the open frame, the request body and the open tool calls, however
long the stream.  A body that is not an event stream becomes one frame of type `body`,
or several where it is longer than `BODY_FRAME_MAX`.

Where the body is content-coded the frames hold the decoded stream and the chunks keep
the bytes of the wire.  If it cannot be decoded, the chunks are all there is, and
`exchanges.error` says why.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from sse_recorder import coding, dialects
from sse_recorder.dialects.base import Dialect, Kind, Reading
from sse_recorder.dialects.pairing import ToolLedger
from sse_recorder.exchange import (
    Ending,
    Exchange,
    Op,
    Opening,
    Outcome,
    Record,
    ResponseHead,
    ToolCall,
    header,
    media_type,
)
from sse_recorder.match import request_key
from sse_recorder.sse import Frame, Parser
from sse_recorder.tables import Rows

EVENT_STREAM: Final = "text/event-stream"
BODY_FRAME_MAX: Final = 4 << 20
_KINDS = {"comment": Kind.KEEPALIVE}
_SAID = ("model", "session_id", "finish_reason", "input_tokens", "output_tokens")


class EarlierFrame(NamedTuple):
    """A frame of an earlier segment, as far as a dialect needs it."""

    seq: int
    last_ns: int
    type: str
    event: str | None
    data: str | None


EarlierFrames = Callable[[str], Iterable[EarlierFrame]]


def no_earlier_frames(_exchange_id: str) -> Iterable[EarlierFrame]:
    """Stand in where there are no earlier segments."""
    return ()


class Transcript:
    """One exchange, record by record."""

    def __init__(
        self, exchange_id: str, earlier: EarlierFrames = no_earlier_frames
    ) -> None:
        self.exchange_id = exchange_id
        self.opening: Opening | None = None
        self.response: ResponseHead | None = None
        self.ending: Ending | None = None
        self.tool_calls: list[ToolCall] = []
        """Closed so far."""
        self.ended: Exchange | None = None
        """The whole of it, once it is over."""
        self._earlier = earlier
        self._request_body = bytearray()
        self._times: dict[str, Any] = {}
        self._chunk_count = 0
        self._frame_count = 0
        self._response_size = 0
        self._said: dict[str, Any] = {}
        self._is_terminated = False
        self._trouble: str | None = None
        self._dialect: Dialect | None = None
        self._tools = ToolLedger(exchange_id)
        self._parser: Parser | None = None
        self._decoder: coding.Decoder | None = None
        self._is_coded = False
        # When the first chunk of the open frame came, and the last one, by the parser's
        # numbers of them.
        self._arrivals: dict[int, int] = {}
        self._fed_count = 0
        self._last_arrival_ns = 0
        self._body: list[bytes] = []
        self._body_size = 0
        self._body_first_ns = 0

    def add(self, record: Record, rows: Rows) -> None:
        """Take in what happened next, and add the rows that it completes."""
        op, at_ns, payload = record.op, record.at_ns, record.payload
        if op is Op.DATA:
            assert isinstance(payload, bytes)
            self._add_data(at_ns, payload, rows)
        elif op is Op.REQUEST_DATA:
            assert isinstance(payload, bytes)
            self._request_body += payload
        elif op is Op.OPEN:
            assert isinstance(payload, Opening)
            self.opening = payload
            if known := dialects.recognise(payload.request):
                self._dialect = known(payload.request)
                self._said["session_id"] = self._dialect.session_id()
        elif op is Op.SENT:
            self._times["sent_ns"] = at_ns
        elif op is Op.HEAD:
            assert isinstance(payload, ResponseHead)
            self._add_head(at_ns, payload)
        elif op is Op.CARRY:
            assert isinstance(payload, dict)
            self._resume(payload)
        elif op is Op.END:
            assert isinstance(payload, Ending)
            self._end(at_ns, payload, rows)

    def carry(self) -> list[Record]:
        """Return the records that let another journal go on with this exchange.

        The heads come again as they were; the last record says how far the body is, and
        has the bytes of the frame that is still open.
        """
        eid, times = self.exchange_id, self._times
        records = [Record(eid, Op.OPEN, 0, self.opening)]
        if self._request_body:
            records.append(Record(eid, Op.REQUEST_DATA, 0, bytes(self._request_body)))
        if "sent_ns" in times:
            records.append(Record(eid, Op.SENT, times["sent_ns"]))
        if self.response is not None:
            records.append(Record(eid, Op.HEAD, times["headers_ns"], self.response))
        pending = self._parser.pending if self._parser else b"".join(self._body)
        body_ns = (self._body_first_ns, self._last_arrival_ns)
        pending_ns = tuple(self._arrivals.values()) or body_ns
        state: dict[str, object] = {
            "chunk_count": self._chunk_count,
            "frame_count": self._frame_count,
            "response_size": self._response_size,
            "first_chunk_ns": times.get("first_chunk_ns"),
            "pending": base64.b64encode(pending).decode(),
            "pending_ns": [pending_ns[0], pending_ns[-1]],
            "last_chunk_ns": self._last_arrival_ns,
        }
        at_ns = max(*times.values(), self._last_arrival_ns, 0)
        records.append(Record(eid, Op.CARRY, at_ns, state))
        return records

    def exchange(self) -> Exchange:
        """Return the exchange as it stands; its outcome is None while it is open."""
        assert self.opening is not None
        opening, response, ending = self.opening, self.response, self.ending
        dialect, outcome = self._dialect, self._outcome()
        error = ending.error if ending and outcome is not Outcome.COMPLETE else None
        request, body = opening.request, bytes(self._request_body)
        return Exchange(
            exchange_id=self.exchange_id,
            recorder_id=opening.recorder_id,
            started_at=opening.started_at,
            method=request.method,
            url=opening.url,
            path=request.path,
            request_headers=request.headers,
            request_body=body,
            request_body_size=len(body),
            request_body_sha256=hashlib.sha256(body).hexdigest(),
            request_key=request_key(
                request.method, request.target, request.headers, body
            ),
            status=response.status if response else None,
            reason=response.reason if response else None,
            http_version=response.http_version if response else None,
            response_headers=response.headers if response else (),
            dialect=dialect.name if dialect else None,
            outcome=outcome,
            error=error or self._trouble,
            chunk_count=self._chunk_count,
            frame_count=self._frame_count,
            tool_call_count=self._tools.count,
            response_size=self._response_size,
            trace_id=opening.trace_id,
            span_id=opening.span_id,
            parent_span_id=opening.parent_span_id,
            tags=opening.tags,
            response_trailers=ending.trailers if ending else (),
            **self._said,
            **self._times,
        )

    def _outcome(self) -> Outcome | None:
        if self.ending is None:
            return None
        # A client that leaves after the last word has had everything.
        if self.ending.outcome is Outcome.CLIENT_ABORT and self._is_terminated:
            return Outcome.COMPLETE
        return self.ending.outcome

    def _add_head(self, at_ns: int, head: ResponseHead) -> None:
        self.response = head
        self._times["headers_ns"] = at_ns
        name = header(head.headers, "content-encoding")
        try:
            self._decoder = coding.decoder(name)
            self._is_coded = self._decoder is not None
        except ValueError as error:
            self._is_coded = True
            self._trouble = f"the frames cannot be shown: {error}"
        if media_type(head.headers) == EVENT_STREAM and not self._trouble:
            self._parser = Parser()

    def _add_data(self, at_ns: int, data: bytes, rows: Rows) -> None:
        wire = data if self._is_coded else None
        rows.chunks.append(
            (self.exchange_id, self._chunk_count, at_ns, len(data), wire)
        )
        if not self._chunk_count:
            self._times["first_chunk_ns"] = at_ns
        self._chunk_count += 1
        self._last_arrival_ns = at_ns
        self._response_size += len(data)
        if wire is not None:
            data = self._decode(data)
        if data:
            self._add_decoded(at_ns, data, rows)

    def _add_decoded(self, at_ns: int, data: bytes, rows: Rows) -> None:
        parser = self._parser
        if parser is None:
            self._add_body(at_ns, data, rows)
            return
        number = self._fed_count
        self._fed_count = number + 1
        arrivals = self._arrivals
        arrivals[number] = at_ns
        self._add_frames(parser.feed(data), rows)
        since = parser.open_since
        # An open frame may be of a million chunks, but has two ends.
        self._arrivals = (
            {} if since is None else {since: arrivals[since], number: at_ns}
        )

    def _decode(self, data: bytes) -> bytes:
        if self._decoder is None:
            return b""
        try:
            return self._decoder.decode(data)
        except coding.CodingError as error:
            self._trouble = f"the frames end where the coded body is damaged: {error}"
            self._decoder = None
            return b""

    def _add_frames(self, frames: list[Frame], rows: Rows) -> None:
        arrivals = self._arrivals
        for frame in frames:
            first_ns, last_ns = arrivals[frame.first_chunk], arrivals[frame.last_chunk]
            self._add_frame(frame, first_ns, last_ns, rows)

    def _add_frame(self, frame: Frame, first_ns: int, last_ns: int, rows: Rows) -> None:
        kind = _KINDS.get(frame.type, Kind.OTHER)
        seq = self._frame_count
        self._frame_count = seq + 1
        if frame.type == "event":
            assert frame.data is not None
            kind = self._read_event(seq, last_ns, frame.event, frame.data, rows)
        rows.frames.append(
            (
                self.exchange_id,
                seq,
                first_ns,
                last_ns,
                frame.size,
                frame.type,
                frame.event,
                frame.id,
                frame.retry,
                frame.data,
                frame.layout,
                frame.raw,
                kind,
                frame.anomaly,
            )
        )

    def _read_event(
        self, seq: int, at_ns: int, event: str | None, data: str, rows: Rows
    ) -> Kind:
        dialect = self._dialect
        if dialect is None:
            assert self.opening is not None
            known = dialects.recognise_event(event, data) or Dialect
            dialect = self._dialect = known(self.opening.request)
            self._said["session_id"] = dialect.session_id()
        if "first_event_ns" not in self._times:
            self._times["first_event_ns"] = at_ns
        reading = dialect.read_event(event, data)
        self._heed(reading, seq, at_ns, rows)
        return reading.kind

    def _heed(self, reading: Reading, seq: int, at_ns: int, rows: Rows) -> None:
        """Keep what a reading says of the exchange as a whole."""
        if reading.is_content:
            self._times.setdefault("first_content_ns", at_ns)
            self._times["last_content_ns"] = at_ns
        for event in reading.tools:
            self._add_tool_calls(self._tools.add(event, seq, at_ns), rows)
        if reading.terminal:
            self._is_terminated = True
        if reading.error is not None:
            self._trouble = f"the stream reported: {reading.error}"
        for name in _SAID:
            if (value := getattr(reading, name)) is not None:
                self._said[name] = value

    def _add_tool_calls(self, calls: list[ToolCall], rows: Rows) -> None:
        self.tool_calls += calls
        rows.add_tool_calls(calls)

    def _add_body(self, at_ns: int, data: bytes, rows: Rows) -> None:
        if not self._body:
            self._body_first_ns = at_ns
        self._body.append(data)
        self._body_size += len(data)
        if self._body_size > BODY_FRAME_MAX:
            self._flush_body(at_ns, rows)

    def _flush_body(self, at_ns: int, rows: Rows) -> None:
        raw = b"".join(self._body)
        is_whole = not self._frame_count and self.ending is not None
        self._body, self._body_size = [], 0
        seq = self._frame_count
        self._frame_count = seq + 1
        reading = Reading()
        if is_whole and self._dialect is not None:
            reading = self._dialect.read_body(raw)
            self._heed(reading, seq, at_ns, rows)
        first_ns, eid = self._body_first_ns, self.exchange_id
        head: tuple[object, ...] = (eid, seq, first_ns, at_ns, len(raw), "body")
        rows.frames.append((*head, *[None] * 5, raw, reading.kind, None))

    def _end(self, at_ns: int, ending: Ending, rows: Rows) -> None:
        self.ending = ending
        self._times["ended_ns"] = at_ns
        self._flush_decoder(rows)
        if self._parser is not None:
            self._add_frames(self._parser.close(), rows)
        if self._body:
            self._flush_body(self._last_arrival_ns, rows)
        self._add_tool_calls(self._tools.close(), rows)
        self.ended = self.exchange()
        rows.add_exchange(self.ended)

    def _flush_decoder(self, rows: Rows) -> None:
        """Take what the decoder still has; it came with the last chunk."""
        if self._decoder is None:
            return
        try:
            rest = self._decoder.flush()
        except coding.CodingError as error:
            self._trouble = f"the coded body is cut: {error}"
            return
        if rest:
            self._add_decoded(self._last_arrival_ns, rest, rows)

    def _resume(self, state: dict[str, Any]) -> None:
        """Go on where an earlier segment ended (see `carry`)."""
        for frame in self._earlier(self.exchange_id):
            # A later segment may be sealed already.
            if frame.type == "event" and frame.seq < state["frame_count"]:
                assert frame.data is not None
                # Their rows are in the earlier segment.
                self._read_event(
                    frame.seq, frame.last_ns, frame.event, frame.data, Rows()
                )
        self.tool_calls.clear()
        pending = base64.b64decode(state["pending"])
        self._chunk_count = state["chunk_count"]
        self._frame_count = state["frame_count"]
        self._response_size = state["response_size"]
        if state["first_chunk_ns"] is not None:
            self._times["first_chunk_ns"] = state["first_chunk_ns"]
        self._last_arrival_ns = state["last_chunk_ns"]
        first_ns, last_ns = state["pending_ns"]
        if self._is_coded and self._chunk_count:
            self._parser = self._decoder = None
            self._trouble = self._trouble or (
                "the frames end where a segment did: a coded body cannot be taken up"
                " in its middle"
            )
        elif self._parser is None:
            self._body = [pending] if pending else []
            self._body_size = len(pending)
            self._body_first_ns = first_ns
        else:
            self._parser = Parser(start=self._response_size - len(pending))
            # Nothing is complete in it; only its ends have times.
            for at_ns, data in ((first_ns, pending[:-1]), (last_ns, pending[-1:])):
                if data:
                    self._add_decoded(at_ns, data, Rows())
