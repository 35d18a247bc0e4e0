"""The rules of transcripts: the rows of an exchange do not depend on how it was cut."""

from __future__ import annotations

import errno
import gzip
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import CHAT, STREAM, as_tables, opening, pieces, records_of
from samples import MS, Event, called, event, meibel_exchange, returned, rows_of, said

from sse_recorder import dialects
from sse_recorder.dialects.base import Kind, Reading
from sse_recorder.dialects.pairing import ToolLedger
from sse_recorder.exchange import (
    Ending,
    Exchange,
    Headers,
    Op,
    Outcome,
    Record,
    RequestHead,
)
from sse_recorder.match import PARSED_BYTES_MAX, request_key
from sse_recorder.spool import MEMORY_MAX
from sse_recorder.sse import rebuild
from sse_recorder.store.segment import Layout
from sse_recorder.tables import FrameRow, Row, Rows
from sse_recorder.transcript import (
    BODY_FRAME_MAX,
    DECODED_FREE,
    DECODED_RATIO_MAX,
    ChunkRun,
    EarlierFrame,
    Transcript,
)

CORPUS = Path(__file__).parents[2] / "shared" / "corpus" / "recorded_streams.jsonl"
DIALOGUE = (
    b'\xef\xbb\xbfevent: connected\ndata: {"signal_id":"s"}\n\n'
    b'event: tool_call\r\ndata: {"tool_id":"t1","tool_name":"a","arguments":{}}\r\n\r\n'
    b": ping\n\n"
    b'event: tool_call\rdata: {"tool_id":"t2","tool_name":"b","arguments":[]}\r\r'
    b'data: {"type":"tool_result","tool_id":"t2","result":{"error":"x"}}\n\n'
    + 'data: {"type":"content","text":"né 😀"}\n\n'.encode()
    + b"data: \xff\n\nevent: nothing\n\n"
    b'event: tool_result\ndata: {"tool_id":"t1","result":1}\n\n'
    b'event: completion\ndata: {"data":{"message":"m"},"disposition":"stop"}\n\n'
    b"data: [DONE]\n\ndata: cut"
)
JSON: Headers = (("content-type", "application/json"),)


def ended(records: list[Record]) -> Exchange:
    """Return the exchange that records amount to."""
    exchange = rows_of(records)[0].ended
    assert exchange is not None
    return exchange


def frames_of(records: list[Record]) -> list[FrameRow]:
    """Return the rows of its frames."""
    return [FrameRow(*row) for row in rows_of(records)[1].frames]


def stored_bytes(frames: list[FrameRow]) -> bytes:
    """Return the bytes that frames rebuild."""
    return b"".join(
        rebuild(f.layout, f.event, f.data, f.id, f.retry) if f.raw is None else f.raw
        for f in frames
    )


def without_times(rows: Rows) -> tuple[list[Row], list[Row]]:
    """Return what does not depend on when and how the bytes came."""
    frames = [row[4:] for row in rows.frames]
    calls = [row[:8] + row[12:] for row in rows.tool_calls]
    return frames, calls


@settings(deadline=None)
@given(st.sets(st.integers(1, len(DIALOGUE) - 1), max_size=40))
def test_any_cut_gives_the_same_frames_kinds_and_calls(places: set[int]) -> None:
    """Only times and chunks depend on how a stream was cut."""
    parts = pieces(DIALOGUE, places)
    records = records_of(parts)
    transcript, rows = rows_of(records)
    assert without_times(rows) == without_times(rows_of(records_of([DIALOGUE]))[1])
    assert stored_bytes(frames_of(records)) == DIALOGUE
    assert [row[3] for row in rows.chunks] == [len(part) for part in parts]
    assert transcript.ended is not None
    assert transcript.ended.chunk_count == len(parts)


def _run(chunks: list[tuple[int, bytes]]) -> ChunkRun:
    data = [part for _, part in chunks]
    return ChunkRun(
        [at_ns for at_ns, _ in chunks],
        [len(part) for part in data],
        b"".join(data),
    )


BLANK_LINES = {
    at + 2 for at in range(len(DIALOGUE) - 2) if DIALOGUE[at : at + 2] == b"\n\n"
}


@settings(deadline=None)
@given(
    st.sets(st.sampled_from(sorted(BLANK_LINES))),
    st.sets(st.integers(1, len(DIALOGUE) - 1), max_size=3),
    st.integers(1, 7),
)
def test_many_chunks_at_once_are_those_chunks(
    ends: set[int], places: set[int], count: int
) -> None:
    """How many chunks are taken in at a time makes no difference to any row."""
    records = records_of(pieces(DIALOGUE, ends | places))
    rows, transcript = Rows(), Transcript(records[0].exchange_id)
    chunks: list[tuple[int, bytes]] = []
    for record in records:
        if record.op is Op.DATA:
            assert isinstance(record.payload, bytes)
            chunks.append((record.at_ns, record.payload))
        if chunks and (len(chunks) == count or record.op is not Op.DATA):
            transcript.add_run(_run(chunks), rows)
            chunks = []
        if record.op is not Op.DATA:
            transcript.add(record, rows)
    whole, expected = rows_of(records)
    assert transcript.ended == whole.ended
    assert as_tables(rows) == as_tables(expected)


@settings(deadline=None)
@given(st.sets(st.integers(1, len(DIALOGUE) - 1), max_size=40))
def test_the_times_of_a_frame_are_those_of_its_ends(places: set[int]) -> None:
    """A frame begins with the chunk of its first byte and ends with its last one's."""
    records = records_of(pieces(DIALOGUE, places))
    came: list[int] = []
    for record in records:
        if record.op is Op.DATA:
            assert isinstance(record.payload, bytes)
            came += [record.at_ns] * len(record.payload)
    position = 0
    for frame in frames_of(records):
        end = position + frame.size
        assert (frame.first_ns, frame.last_ns) == (came[position], came[end - 1])
        position = end
    assert position == len(DIALOGUE)


def test_a_frame_that_is_held_back_keeps_its_own_time() -> None:
    """A CR that ends a chunk ends its frame then, not when the next byte comes."""
    frames = frames_of(records_of([b"data: 1\r", b"\r", b"", b"data: 2\n\n"]))
    assert [(f.first_ns // MS, f.last_ns // MS) for f in frames] == [(15, 25), (45, 45)]
    frames = frames_of(records_of([b"data: 1\r", b"\r", b""]))
    assert [(f.first_ns // MS, f.last_ns // MS) for f in frames] == [(15, 25)]


def test_kinds_and_calls_can_be_made_again_from_the_frames() -> None:
    """A dialect that is shown the stored frames says what it said while recording."""
    records = records_of(pieces(DIALOGUE, range(0, 700, 11)))
    _, rows = rows_of(records)
    dialect = dialects.load("meibel")(RequestHead("POST", CHAT))
    eid = records[0].exchange_id
    ledger, calls = ToolLedger(eid), Rows()
    for frame in frames_of(records):
        reading = Reading(Kind.KEEPALIVE if frame.type == "comment" else Kind.OTHER)
        if frame.type == "event":
            assert frame.data is not None
            reading = dialect.read_event(frame.event, frame.data)
        assert reading.kind == frame.kind
        for said_of in reading.tools:
            calls.add_tool_calls(ledger.add(said_of, frame.seq, frame.last_ns))
    calls.add_tool_calls(ledger.close())
    assert calls.tool_calls == rows.tool_calls
    assert len(calls.tool_calls) == 2


@pytest.mark.parametrize(
    ("before", "last_content_ms"),
    [([], 500), ([said(300, "Hi")], 300), ([called(300, "t1", "search")], 500)],
    ids=["alone", "after text", "after a call"],
)
def test_an_answer_that_comes_again_whole_is_no_news(
    before: list[Event], last_content_ms: int
) -> None:
    """What repeats the answer at the end is content only where no text came before."""
    again = event(500, "completion", {"data": {"message": "Hi there"}})
    exchange = ended(meibel_exchange([*before, again]))
    assert exchange.last_content_ns == last_content_ms * MS


def test_an_exchange_has_the_times_of_what_a_user_waits_for() -> None:
    """First chunk, event and content, last content and end, each when it was read."""
    exchange = ended(
        meibel_exchange(
            [
                called(100, "t1", "search"),
                returned(250, "t1"),
                said(300, "Hi"),
                said(420, "Hi there"),
            ]
        )
    )
    assert (exchange.sent_ns, exchange.headers_ns) == (1 * MS, 10 * MS)
    assert exchange.first_chunk_ns == exchange.first_event_ns == 100 * MS
    assert exchange.first_content_ns == 100 * MS
    assert exchange.last_content_ns == 420 * MS
    assert exchange.ended_ns == 1000 * MS
    assert exchange.tool_call_count == 1
    assert exchange.dialect == "meibel"
    assert exchange.session_id == "0193a0c4"


@pytest.mark.parametrize(
    "last", [b"data: [DONE]\n\n", b"event: completion\ndata: {}\n\n"]
)
def test_a_client_that_leaves_after_the_last_word_had_everything(last: bytes) -> None:
    """Leaving after the terminal frame is `complete`, before it `client_abort`."""
    left = Ending(outcome=Outcome.CLIENT_ABORT, error="the client left")
    whole = ended(records_of([b"data: x\n\n", last], ending=left))
    assert (whole.outcome, whole.error) == ("complete", None)
    cut = ended(records_of([b"data: x\n\n", last[:-1]], ending=left))
    assert (cut.outcome, cut.error) == ("client_abort", "the client left")


@pytest.mark.parametrize(
    "outcome", [o for o in Outcome if o is not Outcome.CLIENT_ABORT]
)
def test_other_outcomes_stay_what_they_are(outcome: Outcome) -> None:
    """The terminal frame excuses only a client."""
    exchange = ended(records_of([b"data: [DONE]\n\n"], ending=Ending(outcome=outcome)))
    assert exchange.outcome is outcome


def test_an_error_event_is_the_error_where_the_ending_has_none() -> None:
    """What the stream reported is kept; what the recorder reports comes first."""
    parts = [b'event: error\ndata: {"message":"overloaded"}\n\n']
    assert ended(records_of(parts)).error == "the stream reported: overloaded"
    ending = Ending(outcome=Outcome.UPSTREAM_ABORT, error="eof")
    assert ended(records_of(parts, ending=ending)).error == "eof"


def test_a_dialect_may_be_told_from_the_first_event() -> None:
    """Behind a path of its own, Meibel's stream is known by `connected`."""
    exchange = ended(records_of([DIALOGUE], path="/chat"))
    assert (exchange.dialect, exchange.session_id) == ("meibel", None)
    exchange = ended(records_of([b"data: 1\n\n", DIALOGUE[3:]], path="/chat"))
    assert exchange.dialect == "generic"
    assert ended(records_of([b": ping\n\n"], path="/chat")).dialect is None


def test_an_open_exchange_has_no_outcome() -> None:
    """While it runs there is a row of what is known so far."""
    transcript, rows = rows_of(records_of([DIALOGUE], ending=None))
    exchange = transcript.exchange()
    assert transcript.ended is None
    assert rows.exchanges == []
    assert (exchange.outcome, exchange.ended_ns, exchange.frame_count) == (
        None,
        None,
        11,
    )


def test_an_exchange_that_never_got_an_answer_is_a_row() -> None:
    """No head, no chunks: the request is still there."""
    records = [
        *records_of([])[:2],
        records_of([])[-1]._replace(
            payload=Ending(outcome=Outcome.UPSTREAM_ERROR, error="refused")
        ),
    ]
    exchange = ended(records)
    assert (exchange.status, exchange.sent_ns, exchange.error) == (
        None,
        None,
        "refused",
    )
    assert exchange.request_body == b'{"message":"Hello"}'
    assert exchange.request_body_size == 19


def test_a_body_that_is_no_stream_is_one_frame_that_the_dialect_reads() -> None:
    """A JSON answer of a known API gives its usage."""
    body = [b'{"usage":{"input_tokens":3,', b'"output_tokens":5}}']
    records = records_of(body, headers=JSON)
    (frame,) = frames_of(records)
    assert (frame.type, frame.raw, frame.kind) == ("body", b"".join(body), "other")
    assert (frame.first_ns // MS, frame.last_ns // MS) == (15, 25)
    exchange = ended(records)
    assert (exchange.input_tokens, exchange.output_tokens) == (3, 5)
    assert exchange.first_event_ns is None


def test_a_long_body_is_several_frames() -> None:
    """A download does not wait in memory for its end."""
    parts = [b"x" * 1_000_000] * 9
    transcript, rows = Transcript(records_of([])[0].exchange_id), Rows()
    for record in records_of(parts, headers=JSON):
        transcript.add(record, rows)
        assert sum(map(len, transcript._body)) <= BODY_FRAME_MAX
    sizes = [FrameRow(*row).size for row in rows.frames]
    assert len(sizes) == 2
    assert sum(sizes) == 9_000_000
    assert max(sizes) <= BODY_FRAME_MAX + 1_000_000


def test_memory_is_that_of_the_open_frame_however_long_the_stream() -> None:
    """50 MB in small chunks leave nothing behind, and an endless frame two times."""
    piece = b'event: status\ndata: {"content":"' + b"x" * 960 + b'"}\n\n'
    transcript, _ = rows_of(records_of([], ending=None))
    eid = transcript.exchange_id
    for number in range(51_000):
        transcript.add(Record(eid, Op.DATA, number, piece), Rows())
    assert transcript.exchange().response_size > 50_000_000
    assert not transcript._arrivals
    assert transcript._parser is not None
    assert not transcript._parser.pending
    for number in range(2_000):
        transcript.add(Record(eid, Op.DATA, number, b"x"), Rows())
        assert len(transcript._arrivals) <= 2
    assert len(transcript._parser.pending) == 2_000
    assert not transcript._body


def test_a_damaged_coding_keeps_nothing_either() -> None:
    """After the decoder gave up, only the chunks' rows go on."""
    headers = (*STREAM, ("content-encoding", "gzip"))
    good = gzip.compress(b"data: 1\n\ndata: 2")
    records = records_of([good, b"junk", *[b"more"] * 50], headers=headers)
    transcript, rows = Transcript(records[0].exchange_id), Rows()
    for record in records:
        transcript.add(record, rows)
        assert len(transcript._arrivals) <= 2
    assert [FrameRow(*row).type for row in rows.frames] == ["event", "tail"]
    assert transcript.ended is not None
    assert transcript.ended.error is not None
    assert "the coded body is damaged" in transcript.ended.error
    assert len(rows.chunks) == 52
    assert all(row[4] is not None for row in rows.chunks)


def test_a_coding_that_is_not_known_leaves_the_chunks() -> None:
    """What cannot be decoded is kept as it was on the wire, and the error says why."""
    records = records_of([b"abc"], headers=(*STREAM, ("Content-Encoding", "rot13")))
    _, rows = rows_of(records)
    assert rows.frames == []
    assert [row[3:] for row in rows.chunks] == [(3, b"abc")]
    assert "'rot13' is not known" in (ended(records).error or "")


def test_the_times_of_a_coded_stream_are_those_of_the_wire() -> None:
    """A frame ends with the chunk whose decoding ends it."""
    coded = gzip.compress(b"data: 1\n\n")
    records = records_of(
        [coded[:12], coded[12:]], headers=(*STREAM, ("content-encoding", "gzip"))
    )
    (frame,) = frames_of(records)
    assert frame.last_ns == 25 * MS
    assert frame.data == "1"


def _earlier(row: Row) -> EarlierFrame:
    frame = FrameRow(*row)
    return EarlierFrame(*(getattr(frame, name) for name in EarlierFrame._fields))


def taken_up(records: list[Record], place: int) -> tuple[Transcript, Rows]:
    """Carry an exchange over into another journal at some record."""
    before, rows = rows_of(records[:place])
    after = Transcript(before.exchange_id, lambda _: map(_earlier, rows.frames))
    for record in before.carry():
        after.add(record, rows)
    for record in records[place:]:
        after.add(record, rows)
    return after, rows


@pytest.mark.parametrize("place", range(1, 34))
def test_an_exchange_can_be_carried_over_at_any_record(place: int) -> None:
    """The state that a roll carries over is all that it takes to go on."""
    records = records_of(pieces(DIALOGUE, range(0, 700, 17)))
    assert as_tables(taken_up(records, place)[1]) == as_tables(rows_of(records)[1])


def test_a_coded_stream_cannot_be_taken_up_in_its_middle() -> None:
    """Its chunks are all there, and the error says why the frames are not."""
    coded = pieces(gzip.compress(DIALOGUE), range(0, 700, 40))
    records = records_of(coded, headers=(*STREAM, ("content-encoding", "gzip")))
    transcript, rows = taken_up(records, 6)
    assert b"".join(row[4] for row in rows.chunks) == b"".join(coded)
    assert transcript.ended is not None
    assert "cannot be taken up" in (transcript.ended.error or "")
    # Before its first byte there is no middle.
    whole = taken_up(records, 4)[1]
    assert as_tables(whole) == as_tables(rows_of(records)[1])


def test_only_earlier_frames_are_read_again() -> None:
    """Frames that were sealed after the roll are not taken for earlier ones."""
    records = records_of(pieces(DIALOGUE, range(0, 700, 17)))
    _, rows = rows_of(records)
    before, early = rows_of(records[:20])
    after = Transcript(before.exchange_id, lambda _: map(_earlier, rows.frames))
    for record in (*before.carry(), *records[20:]):
        after.add(record, early)
    assert as_tables(early) == as_tables(rows)


def test_no_payload_of_a_stream_keeps_it_from_being_stored() -> None:
    """Half a surrogate pair and numbers beyond any column are data like any other."""
    payload = {
        "tool_id": "\ud83d",
        "tool_name": "\ude00",
        "arguments": {"\ud800": 10**400},
        "usage": {"input_tokens": 10**30, "output_tokens": 7},
        "disposition": "\udfff",
        "message": "\ud800",
    }
    text = json.dumps(payload)
    parts = [
        f"event: {name}\ndata: {text}\n\n".encode()
        for name in ("tool_call", "tool_result", "error", "completion")
    ]
    records = records_of(parts)
    tables = as_tables(rows_of(records)[1])
    (call,) = tables["tool_calls"]
    assert (call["tool_id"], call["status"]) == ("\\ud83d", "ok")
    assert json.loads(call["arguments"]) == payload["arguments"]
    (exchange,) = tables["exchanges"]
    assert (exchange["input_tokens"], exchange["output_tokens"]) == (None, 7)
    assert exchange["error"] == "the stream reported: \\ud800"


def test_what_the_opening_says_is_in_the_row() -> None:
    """Ids, tags, paths and trailers come through; tags in their order."""
    begin = opening(
        trace_id="t",
        span_id="s",
        parent_span_id="p",
        tags={"b": "1", "a": ""},
        received_path="/meibel/chat",
    )
    ending = Ending(outcome=Outcome.COMPLETE, trailers=(("X", "y"),))
    records = records_of([], ending=ending)
    exchange = ended([records[0]._replace(payload=begin), *records[1:]])
    assert (exchange.trace_id, exchange.span_id, exchange.parent_span_id) == (
        "t",
        "s",
        "p",
    )
    assert list(exchange.tags.items()) == [("b", "1"), ("a", "")]
    assert exchange.response_trailers == (("X", "y"),)
    assert exchange.received_path == "/meibel/chat"


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not part of the project")
def test_every_recorded_stream_gives_its_bytes_back() -> None:
    """Streams of many APIs, cut anywhere: the frames' bytes are the stream's."""
    source = random.Random(20_261_123)  # noqa: S311 - the same cuts in every run
    count = 0
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        for interaction in json.loads(line)["interactions"]:
            response = interaction["response"]
            body = response["body"]
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            cuts = [source.randrange(len(data) + 1) for _ in range(60)]
            headers = (("Content-Type", response["content_type"]),)
            records = records_of(pieces(data, cuts), headers=headers, path="/x")
            frames = frames_of(records)
            assert stored_bytes(frames) == data
            assert {f.type for f in frames} <= {
                "event",
                "comment",
                "fields",
                "tail",
                "body",
            }
            count += 1
    assert count > 49


def test_a_head_with_an_unusual_media_type_is_still_a_stream() -> None:
    """Parameters and case of the media type do not matter."""
    headers = (("content-TYPE", "Text/Event-Stream;charset=latin-1"),)
    assert [
        f.type for f in frames_of(records_of([b"data: 1\n\n"], headers=headers))
    ] == ["event"]


def with_request(size: int) -> list[Record]:
    """Return the records of an exchange with a JSON request body of some size."""
    records = records_of([])
    body = b'{"model": "m", "text": "' + b"x" * (size - 26) + b'"}'
    eid = records[0].exchange_id
    parts = pieces(body, range(0, size, 1 << 20))
    data = [Record(eid, Op.REQUEST_DATA, 0, part) for part in parts]
    return [records[0], *data, *records[2:]]


@pytest.mark.parametrize("size", [40, MEMORY_MAX, MEMORY_MAX + 1, PARSED_BYTES_MAX + 1])
def test_a_request_is_the_same_in_memory_and_in_a_file(
    tmp_path: Path, size: int
) -> None:
    """Its key, size and sha256 are those of a live request with this body."""
    records, rows = with_request(size), Rows()
    layout = Layout(tmp_path)
    layout.journals.mkdir()
    in_file = Transcript(records[0].exchange_id, open_file=layout.scratch)
    for record in records:
        in_file.add(record, rows)
    exchange = ended(records)
    body = exchange.request_body
    assert in_file.ended is not None
    is_long = size > MEMORY_MAX
    assert in_file.ended.request_body == (b"" if is_long else body)
    assert replace(in_file.ended, request_body=body) == exchange
    assert exchange.request_body_size == len(body) == size
    key = request_key(exchange.method, exchange.target, exchange.request_headers, body)
    assert exchange.request_key == key
    assert set(rows.bodies) == ({exchange.exchange_id} if is_long else set())


def test_a_request_body_that_cannot_be_kept_makes_the_exchange_incomplete() -> None:
    """What was before the gap is kept, what follows is not, and it says why."""

    def no_room() -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    records, rows = with_request(3 << 20), Rows()
    transcript = Transcript(records[0].exchange_id, open_file=no_room)
    for record in records[:4]:
        transcript.add(record, rows)
    again = Transcript(records[0].exchange_id)
    for record in transcript.carry():
        again.add(record, rows)
    for one in (transcript, again):
        for record in records[4:]:
            one.add(record, rows)
        exchange = one.ended
        assert exchange is not None
        assert exchange.outcome is Outcome.INCOMPLETE
        assert exchange.error == (
            "the request body is not kept whole: No space left on device"
        )
        assert exchange.request_body_size == 1 << 20


@pytest.mark.parametrize("headers", [STREAM, JSON])
def test_a_body_that_decodes_to_far_too_much_is_cut_off(headers: Headers) -> None:
    """The chunks are whole, and the error says where the frames end."""
    bomb = gzip.compress(b"data: " + bytes(60_000_000))
    chunks = pieces(bomb, range(0, len(bomb), 8_192))
    coded = (*headers, ("content-encoding", "gzip"))
    transcript, rows = rows_of(records_of(chunks, headers=coded))
    assert b"".join(row[4] for row in rows.chunks) == bomb
    assert transcript.ended is not None
    assert "more than 128 times its size" in (transcript.ended.error or "")
    kept = sum(row[4] for row in rows.frames)
    assert kept <= DECODED_FREE + DECODED_RATIO_MAX * len(bomb)


FLAT = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from making import STREAM, records_of, Recorder
from samples import exchange_id
from sse_recorder.exchange import Op, Record
from sse_recorder.store.segment import Layout

recorder = Recorder(Path(sys.argv[2]))
kind, eid = sys.argv[3], exchange_id(1)
headers = STREAM if kind in ("events", "line") else ()
start = records_of([], headers=headers)
recorder.write([start[0]])
data = {"events": b"data: " + b"x" * 4000 + b"\\n\\n", "line": b"x"}.get(kind, b"x")
data *= (1 << 16) // len(data)
op = Op.REQUEST_DATA if kind == "request" else Op.DATA

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

if kind != "request":
    recorder.write(start[2:4])

def feed(megabytes):
    for number in range(megabytes):
        recorder.write([Record(eid, op, 10**9, data)] * 16)
        if recorder.segment.size > 8 << 20:
            recorder.roll()

feed(120)
warm = peak()
feed(140)
recorder.roll()
grown = peak() - warm
assert grown < 30_000, f"{grown} KiB more"
"""


@pytest.mark.parametrize(
    "kind",
    [
        "events",
        "body",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("line", "request")),
    ],
)
def test_memory_stays_flat_however_long_a_body(tmp_path: Path, kind: str) -> None:
    """A stream, an endless line, another body, and one that goes up: 260 MB each."""
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", FLAT, tests, str(tmp_path), kind]
    subprocess.run(command, check=True, timeout=100)
