"""The rules of cassettes: nothing is lost, and what is damaged is told by its line."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import STREAM, as_tables, records_of
from samples import (
    MS,
    STARTED_AT,
    cassette_with,
    conversation,
    exchange_id,
    rows_of,
)

from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import (
    Chunk,
    Ending,
    Op,
    Opening,
    Outcome,
    Record,
    RequestHead,
    ResponseHead,
)
from sse_recorder.store import cassette
from sse_recorder.store.store import Store
from sse_recorder.tables import SCHEMAS, Rows

RECORDS = records_of([b'event: status\ndata: {"a":"\xc3\xa9"}\n', b"\n", b"data: \xff"])

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LATIN_1 = st.text(st.characters(max_codepoint=255), max_size=8)
HEADERS = st.lists(st.tuples(LATIN_1, LATIN_1), max_size=3).map(tuple)
PATH = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=8).map(
    lambda text: "/" + text.translate(dict.fromkeys(b"?#"))
)
QUERY = st.sampled_from(["", "?", "?a=1", "?u=http://x/y?z", "?/"])
STEP = st.integers(0, 2**45)
BODY = st.binary(max_size=12) | st.sampled_from([b"data: x\n\n", "é😀\u2028".encode()])


@st.composite
def exchanges(draw: st.DrawFn) -> list[Record]:
    """Make any exchange that is over."""
    target = draw(PATH) + draw(QUERY)
    eid, now = draw(TEXT), 0
    opening = Opening(
        recorder_id=draw(TEXT),
        started_at=draw(st.integers(-(10**17), 2**62)),
        url=draw(st.sampled_from(["http://h", "https://u@h:8/"[:-1]])) + target,
        request=RequestHead(draw(TEXT), target, draw(HEADERS)),
        trace_id=draw(TEXT),
        span_id=draw(TEXT),
        parent_span_id=draw(TEXT),
        tags=draw(st.dictionaries(TEXT, TEXT, max_size=2)),
        received_path=draw(TEXT),
        trace_flags=draw(st.none() | st.integers(0, 255)),
    )
    records = [Record(eid, Op.OPEN, 0, opening)]
    if body := draw(BODY):
        records.append(Record(eid, Op.REQUEST_DATA, 0, body))
    if draw(st.booleans()):
        now += draw(STEP)
        records.append(Record(eid, Op.SENT, now))
    if draw(st.booleans()):
        now += draw(STEP)
        headers = draw(st.just(STREAM) | HEADERS)
        head = ResponseHead(draw(st.integers(0, 999)), draw(LATIN_1), headers, "1.0")
        records.append(Record(eid, Op.HEAD, now, head))
        for chunk in draw(st.lists(BODY, max_size=5)):
            now += draw(STEP)
            records.append(Record(eid, Op.DATA, now, chunk))
    ending = Ending(
        outcome=draw(st.sampled_from(Outcome)),
        error=draw(st.none() | TEXT),
        trailers=draw(HEADERS),
    )
    return [*records, Record(eid, Op.END, now + draw(STEP), ending)]


def written(*tapes: list[Record]) -> str:
    """Return exchanges as a cassette."""
    lines = []
    for records in tapes:
        ended = rows_of(records)[0].ended
        assert ended is not None
        chunks = [
            Chunk(r.at_ns, r.payload)
            for r in records
            if r.op is Op.DATA and isinstance(r.payload, bytes)
        ]
        lines.append(cassette.dumps(ended, chunks))
    return "".join(lines)


def read(text: str) -> list[list[Record]]:
    """Read a cassette's text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.sse.jsonl")
        path.write_bytes(text.encode())
        return list(cassette.read(path))


@settings(deadline=None)
@given(st.lists(exchanges(), max_size=3))
def test_any_exchange_comes_back(tapes: list[list[Record]]) -> None:
    """Exchanges that are read back have the same rows, and the same text again."""
    text = written(*tapes)
    again = read(text)
    assert written(*again) == text
    for before, after in zip(tapes, again, strict=True):
        assert rows_of(after)[0].ended == rows_of(before)[0].ended
        one, other = rows_of(before)[1], rows_of(after)[1]
        assert (one.chunks, one.frames) == (other.chunks, other.frames)
        assert one.tool_calls == other.tool_calls


def test_the_text_is_what_a_reviewer_reads() -> None:
    """Keys come in a fixed order, text is text, and what is not UTF-8 is base64."""
    head, *chunks, end = map(json.loads, written(RECORDS).splitlines())
    assert list(head) == [
        *["exchange_id", "recorder_id", "started_at", "request", "sent_ms"],
        *["response", "headers_ms", "outcome"],
    ]
    assert head["started_at"] == "2026-11-23T10:15:30.123000000Z"
    assert head["request"] == {
        "method": "POST",
        "url": "https://api.meibel.ai/v2/sessions/s1/chat/stream",
        "headers": [],
        "body": '{"message":"Hello"}',
    }
    assert [list(chunk.items()) for chunk in chunks] == [
        [("at_ms", 15.0), ("data", 'event: status\ndata: {"a":"é"}\n')],
        [("at_ms", 25.0), ("data", "\n")],
        [("at_ms", 35.0), ("base64", "ZGF0YTog/w==")],
    ]
    assert end == {"ended_ms": 45.0}
    assert '"data": "event: status\\ndata: {\\"a\\":\\"é\\"}\\n"' in written(RECORDS)


def test_no_nanosecond_is_lost() -> None:
    """Times are milliseconds with as many digits as they need, over weeks."""
    for at_ns in (1, 999_999, 12_345_678, 10**15 + 1, 2**51 - 1):
        records = [*RECORDS[:-1], RECORDS[-1]._replace(at_ns=at_ns)]
        assert read(written(records))[0][-1].at_ns == at_ns
    assert '"ended_ms": 12.345678}' in written(
        [*RECORDS[:-1], RECORDS[-1]._replace(at_ns=12_345_678)]
    )


def test_a_target_that_the_url_does_not_tell_is_written() -> None:
    """`OPTIONS *` has no path in its URL."""
    opening = RECORDS[0].payload
    assert isinstance(opening, Opening)
    changed = replace(
        opening, url="https://h", request=RequestHead("OPTIONS", "*", (("A", "b"),))
    )
    records = [RECORDS[0]._replace(payload=changed), *RECORDS[1:]]
    assert read(written(records))[0][0].payload == changed


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h", "/"),
        ("http://h?u=/x", "/?u=/x"),
        ("http://h/a?b#c", "/a?b"),
        ("http://[::1]:80/a//b?", "/a//b?"),
    ],
)
def test_a_cassette_by_hand_needs_only_the_url(url: str, target: str) -> None:
    """The request line is told from the URL, a query without a path too."""
    lines = [json.loads(line) for line in written(RECORDS).splitlines()]
    lines[0]["request"]["url"] = url
    (records,) = read("\n".join(map(json.dumps, lines)))
    opening = records[0].payload
    assert isinstance(opening, Opening)
    assert opening.request.target == target


def test_what_need_not_be_there_need_not_be_written() -> None:
    """The least that is an exchange: no body, no response, no ids but its own."""
    head = {
        "exchange_id": "x",
        "started_at": "2026-11-23T10:15:30Z",
        "request": {"method": "GET", "url": "http://h/a", "headers": []},
        "sent_ms": None,
        "outcome": "upstream_error",
    }
    (records,) = read(f'\n{json.dumps(head)}\r\n\n{{"ended_ms": 1}}')
    ended = rows_of(records)[0].ended
    assert ended is not None
    assert (ended.outcome, ended.status, ended.ended_ns) == (
        Outcome.UPSTREAM_ERROR,
        None,
        MS,
    )
    assert ended.started_at == STARTED_AT // 10**9 * 10**9


def test_an_empty_cassette_has_no_exchanges() -> None:
    """It is what is left when all of them were taken out."""
    assert read("") == read("\n \n") == []


def test_an_open_exchange_is_not_written() -> None:
    """A cassette is of exchanges that are over."""
    open_one = rows_of(RECORDS[:-1])[0].exchange()
    with pytest.raises(UsageError, match=f"{exchange_id(1)} is still open"):
        cassette.dumps(open_one, [])


def test_the_rows_of_a_cassette_are_those_of_its_exchanges(tmp_path: Path) -> None:
    """`read_rows` gives what the recorder had."""
    second = records_of([b"x"], number=2, headers=())
    path = tmp_path / "x.sse.jsonl"
    path.write_text(written(RECORDS, second), encoding="utf-8")
    expected = Rows()
    for rows in (rows_of(RECORDS)[1], rows_of(second)[1]):
        for table in SCHEMAS:
            getattr(expected, table).extend(getattr(rows, table))
    assert as_tables(cassette.read_rows(path)) == as_tables(expected)


def change(number: int, **values: Any) -> str:
    """Return the cassette with other values in one line, or without where None."""
    lines = [json.loads(line) for line in written(RECORDS).splitlines()]
    for name, value in values.items():
        place = lines[number - 1]
        *way, last = name.split("__")
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return "\n".join(map(json.dumps, lines))


GOOD = written(RECORDS).splitlines(keepends=True)
DAMAGED = {
    "not json": (2, "".join([GOOD[0], "{", *GOOD[1:]])),
    "a list": (5, "".join([*GOOD[:4], "[]"])),
    "text": (1, '"request"'),
    "a number": (1, "7"),
    "too deep": (2, GOOD[0] + "[" * 100_000),
    "not utf-8": (2, GOOD[0] + "\udcff"),
    "no head": (1, "".join(GOOD[1:])),
    "no end": (5, "".join([*GOOD[:4], *GOOD])),
    "id": (1, change(1, exchange_id=7)),
    "no id": (1, change(1, exchange_id=None)),
    "outcome": (1, change(1, outcome="fine")),
    "no outcome": (1, change(1, outcome=None)),
    "day": (1, change(1, started_at="yesterday")),
    "year": (1, change(1, started_at="9999-01-01T00:00:00Z")),
    "url": (1, change(1, request__url=None)),
    "method": (1, change(1, request__method=["GET"])),
    "headers": (1, change(1, request__headers=[["a"]])),
    "header": (1, change(1, request__headers=[["a", 1]])),
    "tags": (1, change(1, tags={"a": 1})),
    "trace": (1, change(1, trace_id=1)),
    "status": (1, change(1, response__status="200")),
    "large status": (1, change(1, response__status=70_000)),
    "reason": (1, change(1, response__reason=0)),
    "time": (2, change(2, at_ms="1")),
    "before": (2, change(2, at_ms=-1)),
    "far": (2, change(2, at_ms=1e300)),
    "never": (2, change(2, at_ms=float("nan"))),
    "infinite": (2, change(2, at_ms=float("inf"))),
    "data": (3, change(3, data=7)),
    "no data": (3, change(3, data=None)),
    "half": (3, change(3, data="\ud800")),
    "half of a name": (1, change(1, request__headers=[["\ud800", ""]])),
    "half of an id": (1, change(1, exchange_id="\udc00")),
    "half of a tag": (1, change(1, tags={"a": "\ud800"})),
    "half in bytes": (1, GOOD[0].replace("POST", "\udced\udca0\udc80")),
    "another key of the head": (1, change(1, note="x")),
    "of the request": (1, change(1, request__note="x")),
    "of the response": (1, change(1, response__note="x")),
    "of a chunk": (2, change(2, event="x")),
    "of the end": (5, change(5, trailer=[])),
    "a mark amid it": (2, GOOD[0] + "\ufeff" + GOOD[1]),
    "base64": (4, change(4, base64="?")),
    "end": (5, change(5, ended_ms=None)),
    "error": (5, change(5, error=1)),
    "trailers": (5, change(5, trailers=7)),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_line_is_told_by_its_number(tmp_path: Path, damage: str) -> None:
    """Whatever is wrong in a line, the message is one line with its number."""
    number, text = DAMAGED[damage]
    path = tmp_path / "x.sse.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StoreError, match=rf"sse\.jsonl, line {number}: ") as caught:
        cassette.read_rows(path).tables()
    assert "\n" not in str(caught.value)


def test_the_mark_of_some_editors_is_none_of_its_text(tmp_path: Path) -> None:
    """As they put it in front of every file."""
    path = tmp_path / "x.sse.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + written(RECORDS).encode())
    assert list(cassette.read(path)) == read(written(RECORDS))


def test_each_exchange_has_the_line_of_its_head(tmp_path: Path) -> None:
    """Blank lines count, and equal ids do not matter."""
    path = tmp_path / "x.sse.jsonl"
    path.write_text("\n" + written(RECORDS) + "\n" + written(RECORDS), encoding="utf-8")
    (records,) = read(written(RECORDS))
    found = list(cassette.read_with_lines(path))
    assert found == [(2, records), (2 + len(GOOD) + 1, records)]


def test_an_id_that_is_there_twice_has_no_tables(tmp_path: Path) -> None:
    """They would take the chunks of both for those of each."""
    path = tmp_path / "x.sse.jsonl"
    path.write_text(written(RECORDS, RECORDS), encoding="utf-8")
    with pytest.raises(StoreError, match=r"line 6: the same id is in line 1; take one"):
        cassette.read_rows(path)


def test_the_canonical_form_is_in_the_order_of_time() -> None:
    """And then of ids; an exchange is as it was read."""
    second = records_of([b"x"], number=2, headers=())
    text = written(RECORDS, second)
    for tapes in ((second, RECORDS), (RECORDS, second)):
        assert cassette.canonical(cassette.transcribe(r, Rows()) for r in tapes) == text


def test_a_cassette_is_written_as_a_whole(tmp_path: Path) -> None:
    """For its owner alone, unless it is said otherwise; or an error says what to do."""
    path = tmp_path / "x.sse.jsonl"
    for mode, expected in (((), 0o600), ((0o644,), 0o644)):
        cassette.write(path, written(RECORDS), *mode)
        assert path.read_text(encoding="utf-8") == written(RECORDS)
        assert path.stat().st_mode & 0o777 == expected
    with pytest.raises(StoreError, match="make its folder writable, or name a file"):
        cassette.write(tmp_path / "none" / "x", "")


def test_a_cassette_that_was_cut_says_so(tmp_path: Path) -> None:
    """Where the last exchange has no end, something is missing."""
    path = tmp_path / "x.sse.jsonl"
    path.write_text("".join(GOOD[:-1]), encoding="utf-8")
    with pytest.raises(StoreError, match="was cut"):
        cassette.read_rows(path)


def test_a_cassette_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """An error of the system has the path and what to do."""
    with pytest.raises(StoreError, match="No such file or directory; make it readable"):
        cassette.read_rows(tmp_path / "nothing.sse.jsonl")


def test_what_a_request_answers_is_made_again(tmp_path: Path) -> None:
    """A cassette of a conversation has the results of its calls, as its store has."""
    path = cassette_with(tmp_path / "c.sse.jsonl", conversation())
    with Store.open(path) as store:
        rows = store.sql("FROM tool_calls ORDER BY exchange_id, seq").to_pylist()
    assert [
        (r["tool_id"], r["status"], r["timing"], r["result"], r["duration_ns"])
        for r in rows
    ] == [
        ("c1", "ok", "cross_request", "of c1", 250 * MS),
        ("c2", "unanswered", "wire_bracket", None, None),
        ("c3", "ok", "cross_request", "of c3", 50 * MS),
        ("c9", "unmatched", "cross_request", "of c9", None),
    ]
    alone = cassette_with(tmp_path / "one.sse.jsonl", conversation()[:1])
    with Store.open(alone) as store:
        (first, _) = store.tool_calls(exchange_id(11))
    assert (first.status, first.result) == ("unanswered", None)
