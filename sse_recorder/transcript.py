"""What one exchange's records amount to: its rows.

The writer makes rows while a stream runs, a recovery makes them from a journal that a
crash left, a query makes them from a journal that is still growing, and a cassette is
read into them.  All four run the records of an exchange through a `Transcript`, so
they cannot disagree.

    Record ──▶ Transcript ──▶ chunks      one row a read
                   │     └──▶ frames      one row a frame, with its kind
                   │     └──▶ tool_calls  one row a call, when it is closed
                   ├────────▶ exchanges   one row, when the exchange is over
                   └────────▶ part        what it is to its conversation

Memory is bounded by the open frame and the open tool calls, however long the stream; a
long request body waits in a file (see `spool`).  A body that is not an event stream
becomes one frame of type `body`, or several where it is longer than `BODY_FRAME_MAX`.

Where the body is content-coded the frames hold the decoded stream and the chunks keep
the bytes of the wire.  If it cannot be decoded, the chunks are all there is, and
`exchanges.error` says why.  The same goes for a body that decodes to very much more
than it is on the wire: chunks are bounded by what an upstream took the trouble to send,
and frames must be so too.
"""

from __future__ import annotations

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from sse_recorder import coding, dialects
from sse_recorder.dialects.base import CONTENT_KINDS, Dialect, Kind, Reading
from sse_recorder.dialects.conversations import Part
from sse_recorder.dialects.pairing import ToolLedger
from sse_recorder.dialects.turns import Turn
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
from sse_recorder.match import PARSED_BYTES_MAX, BodyDigest, request_key
from sse_recorder.spool import OpenFile, Spool, SpoolError
from sse_recorder.sse import (
    Block,
    Frame,
    Parser,
    Style,
    read_text,
    usual_forms,
    utf8_size,
)
from sse_recorder.tables import EventRun, Rows

EVENT_STREAM: Final = "text/event-stream"
BODY_FRAME_MAX: Final = 4 << 20
DECODED_RATIO_MAX: Final = 128
"""How many times as long as the wire's bytes the decoded ones may be, once they are
more than `DECODED_FREE`; compressed event streams come to 5 to 50 times."""
DECODED_FREE: Final = 16 << 20
# Looking a member up in its class takes as long as the rest of a row.
_DATA, _KEEPALIVE, _OTHER, _TEXT = Op.DATA, Kind.KEEPALIVE, Kind.OTHER, Kind.TEXT
_SAID = ("model", "session_id", "finish_reason", "input_tokens", "output_tokens")
# What a reading has after its kind and its text when it says nothing else.
_NOTHING_ELSE = Reading()[2:]


class EarlierFrame(NamedTuple):
    """A frame of an earlier segment, as far as a dialect needs it."""

    seq: int
    last_ns: int
    type: str
    event: str | None
    data: str | None


class ChunkRun(NamedTuple):
    """Successive chunks of a response's body."""

    at_ns: list[int]
    size: list[int]
    data: bytes
    """All of them, joined."""


EarlierFrames = Callable[[str], Iterable[EarlierFrame]]


def no_earlier_frames(_exchange_id: str) -> Iterable[EarlierFrame]:
    """Stand in where there are no earlier segments."""
    return ()


class Transcript:
    """One exchange, record by record."""

    def __init__(
        self,
        exchange_id: str,
        earlier: EarlierFrames = no_earlier_frames,
        open_file: OpenFile | None = None,
    ) -> None:
        """Begin one, whose long request body goes to such a file, if one is given."""
        self.exchange_id = exchange_id
        self.opening: Opening | None = None
        self.response: ResponseHead | None = None
        self.ending: Ending | None = None
        self.tool_calls: list[ToolCall] = []
        """Closed so far."""
        self.ended: Exchange | None = None
        """The whole of it, once it is over; without the request body, if that is in a
        file."""
        self.turn: Turn | None = None
        """What the request has of its conversation, where it has results of tools."""
        self.is_turn_told = False
        """Whether others have heard of it."""
        self.body_error: OSError | None = None
        """Why the request body could not be kept, where the disk is to blame."""
        self._earlier = earlier
        self._request_body = Spool(open_file)
        self._request_lost: str | None = None
        self._times: dict[str, Any] = {}
        self._chunk_count = 0
        self._frame_count = 0
        self._response_size = 0
        self._said: dict[str, Any] = {}
        self._is_terminated = False
        self._has_text = False
        self._trouble: str | None = None
        self._dialect: Dialect | None = None
        self._text_events: frozenset[str | None] = Dialect.text_events
        self._tools = ToolLedger(exchange_id)
        self._parser: Parser | None = None
        self._decoder: coding.Decoder | None = None
        self._is_coded = False
        self._decoded_size = 0
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
        _, op, at_ns, payload = record
        if op is _DATA:
            assert isinstance(payload, bytes)
            self._add_data(at_ns, payload, rows)
        elif op is Op.REQUEST_DATA:
            assert isinstance(payload, bytes)
            self._add_request_data(payload)
        elif op is Op.OPEN:
            assert isinstance(payload, Opening)
            self.opening = payload
            if known := dialects.recognise(payload.request):
                self._use(known, rows)
        elif op is Op.SENT:
            self._times["sent_ns"] = at_ns
            self._read_request(rows)
        elif op is Op.HEAD:
            assert isinstance(payload, ResponseHead)
            self._add_head(at_ns, payload, rows)
        elif op is Op.CARRY:
            assert isinstance(payload, dict)
            self._resume(payload)
        elif op is Op.END:
            assert isinstance(payload, Ending)
            self._end(at_ns, payload, rows)

    def add_run(self, run: ChunkRun, rows: Rows) -> None:
        """Take in what came next of the response's body.

        This is `add` for each chunk, in a quarter of its time where each is an event.
        """
        parser = self._parser
        if parser is not None and not self._is_coded:
            was_pending = self._response_size - parser.start
            blocks = parser.feed_run(run.data, run.size)
            if blocks is not None:
                self._add_blocks(run, blocks, was_pending, rows)
                return
        start = 0
        for at_ns, size in zip(run.at_ns, run.size, strict=True):
            self._add_data(at_ns, run.data[start : start + size], rows)
            start += size

    def carry(self) -> Iterator[Record]:
        """Give the records that let another journal go on with this exchange.

        The heads and the request body come again as they were; the last record says how
        far the response's body is, and has the bytes of the frame that is still open.
        """
        eid, times = self.exchange_id, self._times
        yield Record(eid, Op.OPEN, 0, self.opening)
        for piece in self._request_body.pieces():
            yield Record(eid, Op.REQUEST_DATA, 0, piece)
        if "sent_ns" in times:
            yield Record(eid, Op.SENT, times["sent_ns"])
        if self.response is not None:
            yield Record(eid, Op.HEAD, times["headers_ns"], self.response)
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
        if self._request_lost is not None:
            state["request_lost"] = self._request_lost
        at_ns = max(*times.values(), self._last_arrival_ns, 0)
        yield Record(eid, Op.CARRY, at_ns, state)

    def exchange(self) -> Exchange:
        """Return the exchange as it stands; its outcome is None while it is open."""
        assert self.opening is not None
        opening, response, ending = self.opening, self.response, self.ending
        dialect, outcome = self._dialect, self._outcome()
        error = ending.error if ending and outcome is not Outcome.COMPLETE else None
        request, body = opening.request, self._request_body
        form: bytes | BodyDigest = BodyDigest(body.size, body.sha256)
        if body.size <= PARSED_BYTES_MAX:
            form = body.read()
        return Exchange(
            exchange_id=self.exchange_id,
            recorder_id=opening.recorder_id,
            started_at=opening.started_at,
            method=request.method,
            url=opening.url,
            path=request.path,
            request_headers=request.headers,
            request_body=b"" if body.is_in_file else body.read(),
            request_body_size=body.size,
            request_body_sha256=body.sha256,
            request_key=request_key(
                request.method, request.target, request.headers, form
            ),
            status=response.status if response else None,
            reason=response.reason if response else None,
            http_version=response.http_version if response else None,
            response_headers=response.headers if response else (),
            dialect=dialect.name if dialect else None,
            outcome=outcome,
            error=error or self._request_lost or self._trouble,
            chunk_count=self._chunk_count,
            frame_count=self._frame_count,
            tool_call_count=self._tools.count,
            response_size=self._response_size,
            trace_id=opening.trace_id,
            span_id=opening.span_id,
            parent_span_id=opening.parent_span_id,
            tags=opening.tags,
            response_trailers=ending.trailers if ending else (),
            received_path=opening.received_path or None,
            trace_flags=opening.trace_flags,
            **self._said,
            **self._times,
        )

    def _outcome(self) -> Outcome | None:
        if self.ending is None:
            return None
        if self._request_lost is not None:
            return Outcome.INCOMPLETE
        # A client that leaves after the last word has had everything.
        if self.ending.outcome is Outcome.CLIENT_ABORT and self._is_terminated:
            return Outcome.COMPLETE
        return self.ending.outcome

    def _add_request_data(self, data: bytes) -> None:
        if self._request_lost is not None:
            return  # what follows a gap would make a body that nobody sent
        try:
            self._request_body.add(data)
        except SpoolError as error:
            self._request_lost = f"the request body is not kept whole: {error}"
        except OSError as error:
            self.body_error = error
            self._request_lost = (
                f"the request body is not kept whole: {error.strerror or error}"
            )

    def _add_head(self, at_ns: int, head: ResponseHead, rows: Rows) -> None:
        self.response = head
        self._times["headers_ns"] = at_ns
        if self._dialect is None and (known := dialects.recognise_response(head)):
            self._use(known, rows)
        if self._dialect is not None:
            self._heed(self._dialect.read_head(head), None, at_ns, rows)
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
        seq, size = self._chunk_count, len(data)
        rows.chunks.append((self.exchange_id, seq, at_ns, size, wire))
        if not seq:
            self._times["first_chunk_ns"] = at_ns
        self._chunk_count = seq + 1
        self._last_arrival_ns = at_ns
        self._response_size += size
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
        frames = parser.feed(data)
        since = parser.open_since
        arrivals = self._arrivals
        if since is None and not arrivals:  # whole frames, all in this chunk
            for frame in frames:
                self._add_frame(frame, at_ns, at_ns, rows)
            return
        arrivals[number] = at_ns
        self._add_frames(frames, rows)
        # An open frame may be of a million chunks, but has two ends.
        self._arrivals = (
            {} if since is None else {since: arrivals[since], number: at_ns}
        )

    def _add_blocks(
        self, run: ChunkRun, blocks: list[Block], pending: int, rows: Rows
    ) -> None:
        """Add chunks, and the frames that they complete.

        So many bytes of the first frame were pending.
        """
        eid, number = self.exchange_id, self._chunk_count
        rows.chunk_runs.append((eid, number, run.at_ns, run.size))
        assert self._parser is not None
        style = self._parser.style
        sizes = _sizes(blocks, style)
        first_ns = last_ns = run.at_ns
        if pending or sizes != run.size:
            ends = list(accumulate(run.size))
            places = list(accumulate(sizes, initial=-pending))
            last_ns = [run.at_ns[bisect_left(ends, end)] for end in places[1:]]
            first_ns = [run.at_ns[bisect_right(ends, begin)] for begin in places[:-1]]
            if pending and blocks:
                first_ns[0] = next(iter(self._arrivals.values()))
        if not number:
            self._times["first_chunk_ns"] = run.at_ns[0]
        self._chunk_count += len(run.size)
        self._response_size += len(run.data)
        start = 0
        for place in [n for n, block in enumerate(blocks) if block[3]]:
            part = slice(start, place)
            self._add_events(
                blocks[part], first_ns[part], last_ns[part], sizes[part], rows
            )
            frame = read_text(blocks[place][3], style.line_end)
            self._add_frame(frame, first_ns[place], last_ns[place], rows)
            start = place + 1
        self._add_events(
            blocks[start:], first_ns[start:], last_ns[start:], sizes[start:], rows
        )
        self._note_arrivals(run)

    def _note_arrivals(self, run: ChunkRun) -> None:
        """Keep when the first and the last byte of the open frame came."""
        assert self._parser is not None
        since, before = self._parser.open_since, self._fed_count
        self._fed_count += len(run.size)
        self._last_arrival_ns = run.at_ns[-1]
        if since is None:
            self._arrivals = {}
            return
        if since >= before:
            since_ns = run.at_ns[since - before]
        else:
            since_ns = self._arrivals[since]
        self._arrivals = {since: since_ns, self._fed_count - 1: run.at_ns[-1]}

    def _add_events(
        self,
        blocks: list[Block],
        first_ns: Sequence[int],
        last_ns: Sequence[int],
        sizes: Sequence[int],
        rows: Rows,
    ) -> None:
        """Add successive frames that are all events as nearly all servers send them."""
        if not blocks:
            return
        assert self._parser is not None
        id_texts, name_texts, data, _ = zip(*blocks, strict=True)
        names = _values(name_texts)
        rows.runs.append(
            EventRun(
                self.exchange_id,
                self._frame_count,
                first_ns,
                last_ns,
                sizes,
                names,
                _values(id_texts),
                data,
                self._layouts(id_texts, name_texts),
                self._kinds(last_ns, names, data, rows),
            )
        )
        self._frame_count += len(blocks)

    def _layouts(self, ids: Sequence[str], names: Sequence[str]) -> list[str]:
        """Return the layouts of usual events."""
        assert self._parser is not None
        forms = usual_forms(*self._parser.style)
        if {ids.count(""), names.count("")} <= {0, len(ids)}:  # all written alike
            return [forms[ids[0] != ""][names[0] != ""][0]] * len(ids)
        pairs = zip(ids, names, strict=True)
        return [forms[id_ != ""][name != ""][0] for id_, name in pairs]

    def _kinds(
        self,
        at_ns: Sequence[int],
        names: Sequence[str | None],
        data: Sequence[str],
        rows: Rows,
    ) -> list[Kind]:
        """Return what successive events are; this is `_read_event` for each of them."""
        text_events = self._text_events
        is_text = [name in text_events for name in names]
        kinds = [_TEXT] * len(names)
        noted = 0  # the events before this one have been
        if not all(is_text):
            seq = self._frame_count
            for place in [n for n, text in enumerate(is_text) if not text]:
                self._note_texts(at_ns[noted:place])
                event = names[place], data[place]
                kinds[place] = self._read_event(seq + place, at_ns[place], *event, rows)
                noted = place + 1
        self._note_texts(at_ns[noted:])
        return kinds

    def _decode(self, data: bytes) -> bytes:
        if self._decoder is None:
            return b""
        try:
            decoded = self._decoder.decode(data)
        except coding.CodingError as error:
            self._trouble = f"the frames end where the coded body is damaged: {error}"
            self._decoder = None
            return b""
        self._decoded_size += len(decoded)
        if self._decoded_size > DECODED_FREE + DECODED_RATIO_MAX * self._response_size:
            self._trouble = (
                "the frames end where the coded body had grown to more than"
                f" {DECODED_RATIO_MAX} times its size"
            )
            self._decoder = None
            return b""
        return decoded

    def _add_frames(self, frames: list[Frame], rows: Rows) -> None:
        arrivals = self._arrivals
        for frame in frames:
            first_ns, last_ns = arrivals[frame.first_chunk], arrivals[frame.last_chunk]
            self._add_frame(frame, first_ns, last_ns, rows)

    def _add_frame(self, frame: Frame, first_ns: int, last_ns: int, rows: Rows) -> None:
        size, _, _, _, type_, event, id_, retry, data, layout, raw, anomaly = frame
        seq = self._frame_count
        self._frame_count = seq + 1
        if type_ == "event":
            assert data is not None
            kind = self._read_event(seq, last_ns, event, data, rows)
        else:
            kind = _KEEPALIVE if type_ == "comment" else _OTHER
        rows.frames.append(
            (
                self.exchange_id,
                seq,
                first_ns,
                last_ns,
                size,
                type_,
                event,
                id_,
                retry,
                data,
                layout,
                raw,
                kind,
                anomaly,
            )
        )

    def _read_event(
        self, seq: int, at_ns: int, event: str | None, data: str, rows: Rows
    ) -> Kind:
        if event in self._text_events:
            self._note_texts((at_ns,))
            return _TEXT
        dialect = self._dialect
        if dialect is None:
            assert self.opening is not None
            known = dialects.recognise_event(event, data) or Dialect
            dialect = self._use(known, rows)
        self._times.setdefault("first_event_ns", at_ns)
        reading = dialect.read_event(event, data)
        self._heed(reading, seq, at_ns, rows)
        return reading.kind

    def _use(self, known: type[Dialect], rows: Rows) -> Dialect:
        assert self.opening is not None
        self._dialect = dialect = known(self.opening.request)
        self._text_events = dialect.text_events
        self._said["session_id"] = dialect.session_id()
        self._read_request(rows)
        return dialect

    def _read_request(self, rows: Rows) -> None:
        """Let the dialect read the request, once it is known and the request whole."""
        dialect, body = self._dialect, self._request_body
        if (
            dialect is None
            or "sent_ns" not in self._times
            or body.size > PARSED_BYTES_MAX
        ):
            return
        if type(dialect).read_request is not Dialect.read_request:
            self._heed(
                dialect.read_request(body.read()), None, self._times["sent_ns"], rows
            )
        if dialect.result_marks:
            data = body.read()
            if any(mark in data for mark in dialect.result_marks):
                self.turn = dialect.read_turn(data)

    def part(self) -> Part | None:
        """Return what the exchange is to its conversation, as far as it is known.

        None where nothing of it can be known.
        """
        dialect, opening, tools = self._dialect, self.opening, self._tools
        if dialect is None or opening is None or not dialect.result_marks:
            return None
        turn, body = self.turn, self._request_body
        if turn is None and tools.left and body.size <= PARSED_BYTES_MAX:
            turn = dialect.read_turn(body.read())
        turn = turn or Turn()
        return Part(
            exchange_id=self.exchange_id,
            host=self.host,
            dialect=dialect.name,
            started_at=opening.started_at,
            session_id=self._said.get("session_id"),
            thread=turn.thread,
            results=turn.results,
            calls=tuple(tools.left),
            answered=tuple(
                call.tool_id
                for call in self.tool_calls
                if call.tool_id is not None and call.status != "unanswered"
            ),
            rows=tools.count,
            length_ns=self._times.get("ended_ns", 0),
        )

    @property
    def has_calls(self) -> bool:
        """Whether it has called tools by now."""
        return self._tools.count > 0

    @property
    def host(self) -> str:
        """Host and port that the request went to."""
        assert self.opening is not None
        return self.opening.url.partition("://")[2].partition("/")[0]

    def _note_texts(self, at_ns: Sequence[int]) -> None:
        """Note successive events that are text."""
        if not at_ns:
            return
        self._has_text = True
        self._times.setdefault("first_event_ns", at_ns[0])
        self._times.setdefault("first_content_ns", at_ns[0])
        self._times["last_content_ns"] = at_ns[-1]

    def _heed(self, reading: Reading, seq: int | None, at_ns: int, rows: Rows) -> None:
        """Keep what a reading says of the exchange as a whole."""
        kind = reading.kind
        if kind in CONTENT_KINDS or (reading.text and not self._has_text):
            self._times.setdefault("first_content_ns", at_ns)
            self._times["last_content_ns"] = at_ns
            self._has_text = self._has_text or kind is _TEXT
        if reading[2:] == _NOTHING_ELSE:
            return
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
        self.add_row(self.ended, rows)

    def add_row(self, exchange: Exchange, rows: Rows) -> None:
        """Add the row of the exchange, with its request body wherever that is."""
        body = self._request_body
        rows.add_exchange(exchange, body if body.is_in_file else None)

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
        self._request_lost = state.get("request_lost")
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


def _values(texts: Sequence[str]) -> Sequence[str | None]:
    """Return a field of usual events: None where it is not there."""
    if all(texts):
        return texts
    return [text or None for text in texts] if any(texts) else [None] * len(texts)


def _sizes(blocks: list[Block], style: Style) -> list[int]:
    """Return how many bytes each of some frames is."""
    sizes = []
    forms = usual_forms(*style)
    end_more = len(style.line_end) - 1
    for id_, event, data, other in blocks:
        if other:
            size = utf8_size(other) + other.count("\n") * end_more
        else:
            size = forms[id_ != ""][event != ""][1] + utf8_size(data)
            if event:
                size += utf8_size(event)
            if id_:
                size += utf8_size(id_)
        sizes.append(size)
    return sizes
