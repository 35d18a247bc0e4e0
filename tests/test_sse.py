"""The rules of `sse_recorder.sse`, for any bytes in any cut."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sse_recorder import sse
from sse_recorder.sse import (
    LAYOUT_CHARACTERS_MAX,
    Frame,
    Parser,
    encode_event,
    frame_bytes,
    parse,
    rebuild,
)

BOM = b"\xef\xbb\xbf"
HUGE = 10**9

# Nearly every token has a rule of its own, so that short streams are rich in cases.
TOKENS = (
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b":", b": ", b" ", b"\0"),
    *(b"data", b"event", b"id", b"retry", b"Data", b"x", b"{", b"}", b"{data}"),
    *(b"data: a\n", b"data: {}\n\n", b"event: e\n", b"id: 1\n", b"retry: 10\n"),
    *(b"retry: 007\n", b"retry: +5\n", b"12", b": ping\n\n", b"id\n", b"data\n"),
    *(BOM, BOM[:1], BOM[:2], b"\xff", b"\xe2\x82", b"\x80", "é\u2028\x85".encode()),
)
STREAMS = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=3), max_size=24).map(
    b"".join
)
patient = settings(deadline=None)  # other work on the machine is no failure

CUTS = st.lists(st.integers(min_value=0, max_value=60), max_size=8)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut data at the places, some of which may be alike or beyond its end."""
    inside = sorted(min(place, len(data)) for place in places)
    return [data[a:b] for a, b in pairwise([0, *inside, len(data)])]


def feed(chunks: Iterable[bytes], *, frame_bytes_max: int = HUGE) -> list[Frame]:
    """Return the frames of a stream that comes in chunks."""
    parser = Parser(frame_bytes_max=frame_bytes_max)
    frames = [frame for chunk in chunks for frame in parser.feed(chunk)]
    return frames + parser.close()


def without_chunks(frames: Iterable[Frame]) -> list[Frame]:
    """Return frames without what depends on the cuts."""
    return [frame._replace(first_chunk=0, last_chunk=0) for frame in frames]


def reference(stream: bytes) -> tuple[list[tuple[str, str, str]], list[int]]:
    """Return what a client dispatches, and its reconnection times, as slowly as told.

    It follows the specification word for word, on the whole text, and shares nothing
    with the parser.
    """
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    dispatched: list[tuple[str, str, str]] = []
    times: list[int] = []
    kind = data = last_id = id_buffer = ""
    block_times: list[int] = []
    for line in lines[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            last_id = id_buffer
            times += block_times[-1:]
            block_times = []
            if data:
                dispatched.append((kind or "message", data[:-1], last_id))
            kind = data = ""
        elif field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            id_buffer = value
        elif field == "retry" and value and set(value) <= set("0123456789"):
            block_times += [int(value)] if int(value) < 2**63 else []
    return dispatched, times


def client(frames: Iterable[Frame]) -> tuple[list[tuple[str, str, str]], list[int]]:
    """Return what a client that reads frames dispatches, and its reconnection times."""
    dispatched: list[tuple[str, str, str]] = []
    times: list[int] = []
    last_id = ""
    for frame in frames:
        if frame.id is not None:
            last_id = frame.id
        if frame.retry is not None:
            times.append(frame.retry)
        if frame.type == "event":
            assert frame.data is not None
            dispatched.append((frame.event or "message", frame.data, last_id))
    return dispatched, times


def event(
    data: str,
    *,
    event: str | None = None,
    id: str | None = None,  # noqa: A002 - the name of the field
    retry: int | None = None,
    anomaly: str | None = None,
) -> dict[str, object]:
    """Return what is expected of a frame that dispatches."""
    return {
        "type": "event",
        "event": event,
        "id": id,
        "retry": retry,
        "data": data,
        "anomaly": anomaly,
    }


def silent(type: str, **fields: object) -> dict[str, object]:  # noqa: A002 - the field
    """Return what is expected of a frame that dispatches nothing."""
    names = ("event", "id", "retry", "data", "anomaly")
    return dict.fromkeys(names) | {"type": type} | fields


PING = silent("comment")
BLANK = silent("fields")

CASES: dict[str, tuple[bytes, list[dict[str, object]]]] = {
    # What clients are known to disagree about.
    "bom": (BOM + b"data: a\n\n", [event("a", anomaly="bom")]),
    "event without data": (
        b"event: ping\n\ndata: a\n\n",
        [silent("fields", event="ping", anomaly="no_data"), event("a")],
    ),
    "comments after an id": (
        b"id: 7\ndata: a\n\n: ping\n\n: ping\n\n",
        [event("a", id="7"), PING, PING],
    ),
    "data without a colon": (b"data\n\n", [event("")]),
    "two of them": (b"data\ndata\n\n", [event("\n")]),
    "data without a value": (b"data:\n\n", [event("")]),
    "unterminated": (
        b"data: a\n\nid: 9\ndata: b\n",
        [event("a"), silent("tail", anomaly="unterminated")],
    ),
    "spaces": (b"data:  x \n\n", [event(" x ")]),
    "other line ends": (
        "data: a\u2028b\u2029c\x85d\x0ce\x0bf\x1cg\n\n".encode(),
        [event("a\u2028b\u2029c\x85d\x0ce\x0bf\x1cg")],
    ),
    "id with NUL": (b"id: 1\0\ndata: a\n\n", [event("a", anomaly="id_nul")]),
    "id with NUL after one": (
        b"id: 1\nid: \0\ndata: a\n\n",
        [event("a", id="1", anomaly="id_nul")],
    ),
    "empty id": (b"id\ndata: a\n\n", [event("a", id="")]),
    "invalid UTF-8": (b"data: \xff\n\n", [event("\ufffd", anomaly="invalid_utf8")]),
    "UTF-8 cut by a line end": (
        b"data: \xe2\x82\n\n",
        [event("\ufffd", anomaly="invalid_utf8")],
    ),
    "CRLF": (
        b"event: e\r\ndata: a\r\n\r\ndata: b\r\n\r\n",
        [event("a", event="e"), event("b")],
    ),
    "CR": (b"data: a\r\rdata: b\r\r", [event("a"), event("b")]),
    "mixed line ends": (
        b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\rdata: e\r\r\n",
        [event("a\nb\nc"), event("d"), event("e")],
    ),
    # What the specification says besides.
    "BOM and a blank line": (
        BOM + b"\n\n",
        [silent("fields", anomaly="bom"), BLANK],
    ),
    "BOM alone": (BOM, [silent("tail", anomaly="unterminated")]),
    "half a BOM": (BOM[:2], [silent("tail", anomaly="unterminated")]),
    "two BOMs": (
        BOM + BOM + b"data: a\n\n",
        [silent("fields", anomaly="bom no_data unknown_field")],
    ),
    "a later BOM": (
        b"\n" + BOM + b"data: a\n\n",
        [BLANK, silent("fields", anomaly="no_data unknown_field")],
    ),
    "half a BOM and more": (
        BOM[:2] + b"data: a\n\n",
        [silent("fields", anomaly="invalid_utf8 no_data unknown_field")],
    ),
    "blank lines": (b"\n\r\n\r\n\n", [BLANK, BLANK, BLANK, BLANK]),
    "nothing": (b"", []),
    "last of each field": (
        b"event: a\nid: 1\nretry: 1\nevent: b\nid: 2\nretry: 2\ndata: x\n\n",
        [event("x", event="b", id="2", retry=2)],
    ),
    "names are exact": (
        b"Data: a\n data: b\ndata : c\n\n",
        [silent("fields", anomaly="no_data unknown_field")],
    ),
    "only the first colon": (b"data: a: b\n\n", [event("a: b")]),
    "comment in an event": (b": c\ndata: a\n:\n\n", [event("a")]),
    "comment and a field": (
        b": c\nid: 1\n\n",
        [silent("fields", id="1", anomaly="no_data")],
    ),
    "no event without data": (
        b"event: a\n\ndata: b\n\n",
        [silent("fields", event="a", anomaly="no_data"), event("b")],
    ),
}

RETRIES: dict[str, int | None] = {
    "0": 0,
    "5": 5,
    "007": 7,
    "000": 0,
    "9223372036854775807": 2**63 - 1,
    "9223372036854775808": None,
    "0" * 5000 + "1": 1,
    "1" * 5000: None,
    "": None,
    "+5": None,
    "-1": None,
    " 7": None,
    "7 ": None,
    "1_0": None,
    "1.5": None,
    "\u0665": None,
    "\u00b2": None,
}


@pytest.mark.parametrize("name", CASES)
def test_cases_hold_whole_byte_by_byte_and_split_anywhere(name: str) -> None:
    """What a stream means does not depend on how it was cut."""
    stream, expected = CASES[name]
    cuts = [[], range(len(stream)), *([place] for place in range(len(stream)))]
    for places in cuts:
        frames = feed(cut(stream, places))
        assert [
            {name: getattr(frame, name) for name in wanted}
            for frame, wanted in zip(frames, expected, strict=True)
        ] == expected
        assert b"".join(map(frame_bytes, frames)) == stream


@pytest.mark.parametrize("text", RETRIES)
def test_retry_is_ascii_digits_that_fit_an_int64(text: str) -> None:
    """A reconnection time has digits alone; anything else is ignored and reported."""
    stream = f"retry: {text}\ndata: a\n\n".encode()
    (frame,) = parse(stream)
    assert frame.retry == RETRIES[text]
    assert frame.anomaly == (None if frame.retry is not None else "invalid_retry")
    assert frame_bytes(frame) == stream


@pytest.mark.parametrize(
    ("stream", "layout"),
    [
        (b"event: e\ndata: a\n\n", "event: {event}\ndata: {data}\n\n"),
        (b"id:1\nevent:e\ndata:a\n\n", "id:{id}\nevent:{event}\ndata:{data}\n\n"),
        (b"data: a\r\n\r\n", "data: {data}\r\n\r\n"),
        (b"data: a\ndata:b\n\n", "data: {data}\ndata:{data}\n\n"),
        (b"data\n\n", "data{data}\n\n"),
        (b"data: a\nid: 1\n\n", "data: {data}\nid: {id}\n\n"),
        (b"id: 1\rid: 2\r\r", "id: 1\rid: {id}\r\r"),
        (b"retry: 5\n\n", "retry: {retry}\n\n"),
        (b"retry: 0\n\n", "retry: {retry}\n\n"),
        (b"retry: 05\n\n", "retry: 05\n\n"),
        (b"retry: 5\nretry: 05\n\n", "retry: 5\nretry: 05\n\n"),
        (b"retry: x\n\n", "retry: x\n\n"),
        (b": {data} {\n\n", ": {{data}} {{\n\n"),
        (b"data: {data}\n\n", "data: {data}\n\n"),
        (b"k: v\ndata: a\n\n", "k: v\ndata: {data}\n\n"),
        (BOM + b"data: a\n\n", "\ufeffdata: {data}\n\n"),
        (b"\n", "\n"),
    ],
)
def test_a_layout_is_the_text_without_the_values(stream: bytes, layout: str) -> None:
    """The layout tells how the fields were written, and has all that is no field."""
    (frame,) = parse(stream)
    assert frame.layout == layout
    assert frame.raw is None
    assert frame_bytes(frame) == stream


@pytest.mark.parametrize(
    "stream",
    [
        b"data: a",
        b"data: \xff\n\n",
        b": " + b" " * LAYOUT_CHARACTERS_MAX + b"\ndata: a\n\n",
        b"data\n" * LAYOUT_CHARACTERS_MAX + b"\n",
    ],
)
def test_bytes_stand_for_themselves_where_a_layout_cannot(stream: bytes) -> None:
    """Tails, invalid UTF-8 and long layouts leave the bytes in `raw`."""
    (frame,) = parse(stream)
    assert frame.layout is None
    assert frame.raw == stream
    assert frame_bytes(frame) == stream


def test_the_longest_layout_is_kept() -> None:
    """A layout of the largest length is one."""
    stream = b":" * (LAYOUT_CHARACTERS_MAX - 2) + b"\n\n"
    (frame,) = parse(stream)
    assert len(frame.layout or "") == LAYOUT_CHARACTERS_MAX


@patient
@given(stream=STREAMS, places=CUTS)
@example(stream=b"data: a\r\n\r\n", places=[9, 10])
@example(stream=BOM + b"\n", places=[1, 2, 3])
def test_any_cut_gives_the_same_frames(stream: bytes, places: list[int]) -> None:
    """Frames depend on the bytes, and not on how they were cut."""
    assert without_chunks(feed(cut(stream, places))) == without_chunks(parse(stream))


@patient
@given(stream=STREAMS, places=CUTS, limit=st.integers(min_value=4, max_value=20))
def test_any_cut_gives_the_same_frames_at_the_limit(
    stream: bytes, places: list[int], limit: int
) -> None:
    """Frames that are too long are cut at the same places whatever the chunks were."""
    frames = feed(cut(stream, places), frame_bytes_max=limit)
    assert without_chunks(frames) == without_chunks(
        feed([stream], frame_bytes_max=limit)
    )
    assert b"".join(map(frame_bytes, frames)) == stream
    assert all(frame.size <= limit for frame in frames)
    rebuilt = iter(frames)
    for whole in parse(stream):
        if whole.size <= limit:
            pieces = [next(rebuilt)]
            assert without_chunks(pieces) == without_chunks([whole])
            continue
        count = -(-whole.size // limit)
        pieces = [next(rebuilt) for _ in range(count)]
        assert {piece.type for piece in pieces} == {"tail"}
        assert all("too_long" in (piece.anomaly or "") for piece in pieces)
        assert ("unterminated" in (pieces[-1].anomaly or "")) == (whole.type == "tail")


@patient
@given(
    stream=STREAMS,
    places=CUTS,
    limit=st.integers(min_value=4, max_value=20) | st.just(HUGE),
)
@example(stream=b"x" * 12, places=[8], limit=8)
@example(stream=BOM + b"x" * 9, places=[8], limit=8)
@example(stream=BOM + b"x" * 9, places=[2, 3], limit=4)
@example(stream=BOM + b"\n", places=[3], limit=HUGE)
@example(stream=BOM + b"\rx", places=[4], limit=HUGE)
@example(stream=b"x" * 10 + b"\r\rx", places=[12], limit=8)
def test_spans_and_chunks_are_those_of_the_bytes(
    stream: bytes, places: list[int], limit: int
) -> None:
    """Spans follow each other, and the chunks are those that held their ends."""
    chunks = cut(stream, places)
    ends = list(accumulate(map(len, chunks)))
    offset = 0
    for frame in feed(chunks, frame_bytes_max=limit):
        assert frame.start == offset
        assert frame.size == len(frame_bytes(frame)) > 0
        offset += frame.size
        assert frame.first_chunk == bisect_right(ends, frame.start)
        assert frame.last_chunk == bisect_right(ends, offset - 1)
    assert offset == len(stream)


@patient
@given(stream=STREAMS)
def test_raw_is_none_exactly_when_layout_and_fields_rebuild(stream: bytes) -> None:
    """A frame has a layout or bytes, never both, and either gives the bytes back."""
    for frame in parse(stream):
        span = stream[frame.start : frame.start + frame.size]
        if frame.raw is None:
            fields = (frame.event, frame.data, frame.id, frame.retry)
            assert rebuild(frame.layout, *fields) == span
        else:
            assert frame.layout is None
            assert frame.raw == span
            unreadable = "invalid_utf8" in (frame.anomaly or "")
            assert frame.type == "tail" or unreadable


@patient
@given(stream=STREAMS)
def test_frames_mean_what_the_specification_says(stream: bytes) -> None:
    """A client that reads frames dispatches what one that reads text does."""
    assert client(parse(stream)) == reference(stream)


@patient
@given(stream=STREAMS)
@example(stream=b"data: a\rb\r\n\r\n")
@example(stream=b"event: e\ndata: a\r\n\r\n")
@example(stream=b"id: \0\ndata: a\n\n")
def test_the_short_way_reads_the_same(stream: bytes) -> None:
    """What is read the fast way for the usual frames is what the other way reads."""
    for frame in parse(stream):
        if frame.type != "tail":
            block = stream[frame.start : frame.start + frame.size]
            assert sse._read(block, 1, 2, 3) == sse._read_any(block, 1, 2, 3)


BLOCKS = st.lists(
    st.sampled_from((b"data: 1\n\n", b"event: e\ndata:x\n\n", b"id: 7\ndata: \n\n"))
    | st.sampled_from(
        (b"\ndata: 1\n\n", b"data: 1\n\n\n", b": c\ndata: 1\n\n", b"\n\n")
    )
    | st.sampled_from((b"data: a\rb\n\n", b"data: \xff\n\n", b"id: \0\ndata: 1\n\n"))
    | STREAMS,
    max_size=6,
)


@patient
@given(before=STREAMS, runs=st.lists(st.lists(STREAMS.filter(bool), min_size=1)))
@example(before=b": ok\n\n", runs=[[b"data: 1\n\n", b"\ndata: 2\n\n"]])
@example(before=BOM, runs=[[b"data: 1\n\n"]])
@example(
    before=b"", runs=[[b"data: 1\n"], [b"\ndata: 2\n", b"\n: c\n\nda"], [b"t", b"a"]]
)
@example(before=b": c\r\n\r\nda", runs=[[b"ta:1\r", b"\n\r\n"], [b"data: 2\n\n"]])
@example(before=b": c\n", runs=[[b"data:1\r\n\r", b"\n"], [b"data: 2\r\n\r\n"]])
@example(before=b": c\n\nda", runs=[[b"ta:1\r\n\r\n\r\n:\r\n\r\n", b"data: 2\r\r"]])
@example(before=b"data: \xc3", runs=[[b"\xa9\n\n"], [b"\xff\n\n"], [b"data: 1\n\n"]])
def test_frames_of_a_run_are_those_that_its_chunks_make(
    before: bytes, runs: list[list[bytes]]
) -> None:
    """Many chunks are read at once as they would be one by one; then all goes on."""
    one, other = Parser(), Parser()
    one.feed(before)
    other.feed(before)
    for run in runs:
        start = one.start
        frames = [frame for chunk in run for frame in other.feed(chunk)]
        blocks = one.feed_run(b"".join(run), list(map(len, run)))
        if blocks is None:
            assert [frame for chunk in run for frame in one.feed(chunk)] == frames
            continue
        assert [frame.start for frame in frames[:1]] in ([], [start])
        assert len(blocks) == len(frames)
        for block, frame in zip(blocks, frames, strict=True):
            id_, name, data, text = block
            if text:
                read = sse.read_text(text, one.style.line_end)
                assert without_chunks([read._replace(start=frame.start)]) == (
                    without_chunks([frame])
                )
                continue
            layout, size = sse.usual_forms(*one.style)[id_ != ""][name != ""]
            values = (id_ or None, name or None, data)
            assert (frame.id, frame.event, frame.data) == values
            assert (frame.type, frame.layout, frame.raw) == ("event", layout, None)
            assert frame.size == size + sum(map(sse.utf8_size, (id_, name, data)))
        assert (one.pending, one.open_since) == (other.pending, other.open_since)
        assert one.start == other.start
    assert one.feed(b"data: on\n\n") == other.feed(b"data: on\n\n")
    assert one.close() == other.close()


def test_usual_text_is_read_at_once() -> None:
    """The fast way is taken for what nearly all servers send, however it was cut."""
    parser = Parser()
    assert parser.feed_run(b"id: 7\nevent: e\ndata: 1\n\n: c\n\nda", [9, 20]) == [
        ("7", "e", "1", ""),
        ("", "", "", ": c\n\n"),
    ]
    assert parser.style == (" ", " ", " ", "\n")
    assert parser.feed_run(b"ta:2\n\nid:8\ndata:3\n\n", [3, 18]) == [
        ("", "", "2", ""),
        ("8", "", "3", ""),
    ]
    assert parser.style == ("", " ", "", "\n")
    assert parser.feed_run(b"data: 3\r", [8]) == []
    assert parser.feed_run(b"\n\r\ndata: 4\r\n\r\n", [3, 11]) == [
        ("", "", "3", ""),
        ("", "", "4", ""),
    ]
    assert parser.style == ("", " ", " ", "\r\n")
    assert parser.feed_run(b"data: 5\n\n", [9]) is None


@pytest.mark.parametrize(
    ("odd", "usual", "style"),
    [
        (b"event: ping\ndata:\n\n", b"data: 1\n\n", (" ", " ", " ")),
        (b": data:\n\n", b"id: 1\nevent: a\ndata: 2\n\n", (" ", " ", " ")),
        (b"data: hello\n\n", b"event: a\ndata:1\n\n", (" ", " ", "")),
        (b"data: hello\n\n", b"id:1\nevent: a\ndata: 1\n\n", ("", " ", " ")),
        (b"retry: 3\n\n", b"id:1\nevent:a\ndata:2\n\n", ("", "", "")),
    ],
)
def test_most_events_tell_how_a_server_writes_them(
    odd: bytes, usual: bytes, style: tuple[str, str, str]
) -> None:
    """One that is written in another way, first or last, slows no others down."""
    for stream in (odd + usual * 9, usual * 9 + odd):
        parser = Parser()
        blocks = parser.feed_run(stream, [len(stream)])
        assert blocks is not None
        assert parser.style[:3] == style
        assert sum(not other for *_, other in blocks) >= 9


@patient
@given(stream=STREAMS, places=CUTS)
def test_a_parser_goes_on_from_what_was_pending(
    stream: bytes, places: list[int]
) -> None:
    """A new parser that is fed what was pending gives the frames that were to come."""
    parser = Parser()
    frames: list[Frame] = []
    for index, chunk in enumerate(cut(stream, places)):
        pending, start = parser.pending, parser.start
        assert stream[start:].startswith(pending)
        assert (parser.open_since is None) == (not pending)
        parser = Parser(first_chunk=index, start=start)
        assert not parser.feed(pending)
        frames += parser.feed(chunk)
    frames += parser.close()
    assert without_chunks(frames) == without_chunks(parse(stream))


def test_a_parser_knows_since_when_a_frame_is_open() -> None:
    """An open frame began with the chunk that held its first byte."""
    parser = Parser(first_chunk=5)
    since = []
    for chunk in (b"", b"data: a\n", b"", b"\nda", b"ta\n\r", b"\n", b"x"):
        parser.feed(chunk)
        since.append(parser.open_since)
    assert since == [None, 6, 6, 8, 8, None, 11]


def test_a_frame_that_ends_in_cr_waits_for_the_next_byte() -> None:
    """The LF of a CRLF belongs to the frame even when it comes a chunk later."""
    parser = Parser()
    assert parser.feed(b"data: a\r\n\r") == []
    (frame,) = parser.feed(b"\n")
    assert (frame.size, frame.last_chunk) == (11, 1)
    assert parser.feed(b"data: b\r\r") == []
    (frame,) = parser.feed(b":")
    assert (frame.size, frame.first_chunk, frame.last_chunk) == (9, 2, 2)


def test_what_is_held_back_is_bounded() -> None:
    """No more than the limit is pending, however long the frame."""
    parser = Parser(frame_bytes_max=16)
    for _ in range(100):
        parser.feed(b"data: 12345")
        assert len(parser.pending) <= 16
    frames = parser.feed(b"\n\ndata: a\n\n")
    assert [frame.type for frame in frames] == ["tail", "event"]


def test_the_limit_is_larger_than_a_bom() -> None:
    """A limit within which no frame could begin is refused."""
    with pytest.raises(ValueError, match="frame_bytes_max"):
        Parser(frame_bytes_max=3)


@pytest.mark.parametrize("line_end", [b"\n", b"\r"])
def test_a_long_line_in_small_pieces_is_searched_once(
    line_end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search resumes where it was: two bytes are seen again for each chunk.

    What is counted is the bytes that are searched; that appending to a `bytearray`
    takes amortised constant time is up to Python.
    """
    searched = 0

    find = sse._frame_end

    def counted(buffer: bytearray, search: int, has_cr: bool) -> int:  # noqa: FBT001
        nonlocal searched
        searched += len(buffer) - search
        return find(buffer, search, has_cr)

    class Buffer(bytearray):
        def rfind(self, part: Any, start: Any = 0, end: Any = None) -> int:
            nonlocal searched
            searched += len(self) - start
            return super().rfind(part, start, end)

    monkeypatch.setattr(sse, "_frame_end", counted)
    parser = Parser()
    parser._buffer = Buffer(parser._buffer)
    parser.feed(b":" + line_end)
    for count in (1000, 4000):
        searched = 0
        for _ in range(count):
            assert parser.feed(b"data: 1234567890") == []
        assert count * 16 < searched <= count * (16 + 2)


def test_a_closed_parser_has_nothing_left() -> None:
    """Closing gives the last bytes out once."""
    parser = Parser()
    parser.feed(b"data: a\r\r")
    assert [frame.type for frame in parser.close()] == ["event"]
    assert parser.close() == []
    assert parser.pending == b""
    assert parser.open_since is None
    assert parser.start == 9


@pytest.mark.parametrize(
    ("layout", "event_", "data", "message"),
    [
        (None, None, None, "raw"),
        ("data: {data}\n\n", None, None, "one more 'data'"),
        ("data: {data}\ndata: {data}\n\n", None, "a", "one more 'data'"),
        ("data: {data}\n\n", None, "a\nb", "leaves 1 lines"),
        ("event: {event}\n\n", None, None, "one more 'event'"),
        ("{other}", None, None, "names no field"),
        ("{event.__class__}", "a", None, "names no field"),
        ("{event!r}", "a", None, "names no field"),
        ("{event:>9}", "a", None, "names no field"),
        ("{event", "a", None, "expected '}'"),
    ],
)
def test_a_layout_that_is_not_of_its_fields_is_refused(
    layout: str | None, event_: str | None, data: str | None, message: str
) -> None:
    """Altered rows are noticed, and a layout is not a format that can run anything."""
    with pytest.raises(ValueError, match=message):
        rebuild(layout, event_, data, None, None)


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))


@patient
@given(
    event_=st.none() | WORDS,
    data=st.lists(WORDS, min_size=1).map("\n".join),
    id_=st.none() | WORDS,
    retry=st.none() | st.integers(min_value=0, max_value=2**63 - 1),
)
def test_what_a_server_writes_is_what_is_read(
    event_: str | None, data: str, id_: str | None, retry: int | None
) -> None:
    """An encoded event is one frame that dispatches it."""
    (frame,) = parse(encode_event(event_, data, id_, retry))
    assert (frame.type, frame.anomaly) == ("event", None)
    assert (frame.event, frame.data) == (event_, data)
    assert (frame.id, frame.retry) == (id_, retry)


def test_an_encoded_event_looks_like_one() -> None:
    """Fields come in their usual order, one line of data each."""
    assert encode_event("e", "a\nb", "1", 5) == (
        b"id: 1\nevent: e\nretry: 5\ndata: a\ndata: b\n\n"
    )
    assert encode_event(None, "") == b"data: \n\n"


@pytest.mark.parametrize(
    ("event_", "data", "id_", "message"),
    [
        ("a\nb", "", None, "'event' cannot hold"),
        ("a\rb", "", None, "a CR"),
        (None, "", "1\n", "'id' cannot hold"),
        (None, "", "\0", "'id' cannot hold"),
        (None, "a\rb", None, "a CR"),
    ],
)
def test_what_would_read_otherwise_is_not_encoded(
    event_: str | None, data: str, id_: str | None, message: str
) -> None:
    """A value cannot smuggle in a line of its own."""
    with pytest.raises(ValueError, match=message):
        encode_event(event_, data, id_)
