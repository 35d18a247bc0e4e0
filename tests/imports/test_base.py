"""What holds of everything that is imported, whatever its format."""

from __future__ import annotations

import gzip
from datetime import datetime
from decimal import InvalidOperation

import pytest
from imports.reading import ending, head, only, opening
from samples import STARTED_AT

from sse_recorder.exchange import Chunk, Op, ResponseHead
from sse_recorder.imports.base import (
    Tape,
    answered,
    each,
    from_base64,
    from_datetime,
    has_body,
    is_decoded,
    records,
    said,
    shown,
    target,
    to_headers,
    true_headers,
    wire_text,
    wrong_names,
)

URL = "https://api.example/chat?x=1"
GZIP = (("Content-Encoding", "gzip"),)


def begun_at(*tapes: Tape, mtime_ns: int = STARTED_AT) -> list[int]:
    """Return when exchanges began."""
    return [opening(found).started_at for found in records(tapes, b"x", mtime_ns)]


def test_an_exchange_becomes_its_records_in_the_order_of_time() -> None:
    """Times never go back, and an empty chunk is none."""
    tape = Tape(
        url=URL,
        method="POST",
        request_body=b"{}",
        response=ResponseHead(200, "OK"),
        chunks=[Chunk(5, b"a"), Chunk(3, b"b"), Chunk(9, b"")],
        sent_ns=7,
        headers_ns=2,
        ended_ns=1,
    )
    found = only([tape])
    assert [(r.op, r.at_ns) for r in found] == [
        (Op.OPEN, 0),
        (Op.REQUEST_DATA, 0),
        (Op.SENT, 7),
        (Op.HEAD, 7),
        (Op.DATA, 7),
        (Op.DATA, 7),
        (Op.END, 9),
    ]
    assert opening(found).request.target == "/chat?x=1"
    assert ending(found).error is None
    assert head(found).reason == "OK"


def test_the_same_file_makes_the_same_ids() -> None:
    """And another exchange of it, or another file, others."""
    tapes = [Tape(url=URL), Tape(url=URL)]
    one, two = (found[0].exchange_id for found in records(tapes, b"x", STARTED_AT))
    again, _ = records(tapes, b"x", STARTED_AT)
    other, _ = records(tapes, b"y", STARTED_AT)
    assert one == again[0].exchange_id
    assert len({one, two, other[0].exchange_id}) == 3
    assert (one[14], one[19]) == ("7", "8")  # UUIDv7


def test_the_time_of_a_file_is_in_no_id() -> None:
    """Copies and checkouts have others; of dated exchanges the date is in it."""
    dated = ResponseHead(200, "OK", (("Date", "Mon, 23 Nov 2026 10:15:30 GMT"),))
    tapes = [Tape(url=URL), Tape(url=URL, response=dated), Tape(url=URL, started_at=5)]
    before, after = (
        [found[0].exchange_id for found in records(tapes, b"x", mtime_ns)]
        for mtime_ns in (STARTED_AT, STARTED_AT * 2)
    )
    assert before == after
    assert (before[0][14], before[0][19]) == ("7", "8")  # UUIDv7
    dated_ms = from_datetime(datetime.fromisoformat("2026-11-23T10:15:30Z")) // 10**6
    assert before[1].replace("-", "")[:12] == f"{dated_ms:012x}"
    assert before[2].startswith("00000000-0000-7")


def test_an_exchange_began_when_the_file_says_or_its_answer_or_the_file_itself() -> (
    None
):
    """The more exact source wins; what came between is counted back."""
    date = (("Date", "Mon, 23 Nov 2026 10:15:30 GMT"),)
    answered = ResponseHead(200, "OK", date)
    dated_ns = from_datetime(datetime.fromisoformat("2026-11-23T10:15:30Z"))
    assert begun_at(Tape(url=URL, started_at=5, response=answered)) == [5]
    assert begun_at(Tape(url=URL, response=answered, headers_ns=9)) == [dated_ns - 9]
    assert begun_at(Tape(url=URL, ended_ns=9)) == [STARTED_AT - 9]
    naive = datetime.fromisoformat("2026-11-23T10:15:30")
    assert from_datetime(naive) == dated_ns
    wrong = ResponseHead(200, "OK", (("Date", "today"),))
    assert begun_at(Tape(url=URL, response=wrong)) == [STARTED_AT]


def test_without_times_the_order_of_the_file_is_kept() -> None:
    """Replays answer in the order of time, so equal times are spread."""
    assert begun_at(*[Tape(url=URL)] * 3) == [STARTED_AT + n for n in range(3)]
    late, early = Tape(url=URL, started_at=9), Tape(url=URL, started_at=3)
    assert begun_at(late, early) == [3, 9]


@pytest.mark.parametrize(
    ("size", "before", "after"),
    [
        (3, "Content-Length: 3", "Content-Length: 3"),
        (3, "Content-Length: 4", ""),
        (
            3,
            "Transfer-Encoding: chunked, Content-Length: 3",
            "Transfer-Encoding: chunked",
        ),
        (3, "Transfer-Encoding: gzip, X-A: b", "X-A: b"),
        (3, "Content-Encoding: gzip", "Content-Encoding: gzip"),
    ],
)
def test_headers_that_would_frame_a_body_wrongly_go(
    size: int, before: str, after: str
) -> None:
    """What is true of the body as it is kept stays."""
    pairs = [tuple(pair.split(": ")) for pair in before.split(", ")]
    kept = true_headers(tuple((name, value) for name, value in pairs), size)
    assert ", ".join(f"{name}: {value}" for name, value in kept) == after


def test_the_coding_goes_with_the_body_that_was_decoded() -> None:
    """Whether it was is told by that text cannot be decoded."""
    coded = gzip.compress(bytes(1 << 18))
    assert not is_decoded(GZIP, coded)
    assert not is_decoded(GZIP, coded[:20])
    assert is_decoded(GZIP, b"data: x\n\n")
    assert not is_decoded(GZIP, b"")
    assert not is_decoded((), b"data: x\n\n")
    assert not is_decoded((("Content-Encoding", "pack200"),), b"data: x\n\n")
    assert true_headers(GZIP, 3, is_decoded=True) == ()


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        *(("HEAD", 200, False), ("GET", 304, False), ("GET", 204, False)),
        *(("GET", 103, False), ("GET", 200, True), ("POST", 404, True)),
    ],
)
def test_an_answer_that_has_no_body_is_its_head(
    method: str,
    status: int,
    expected: bool,  # noqa: FBT001
) -> None:
    """All its headers are true, and what was saved as its body is left out and told."""
    headers = (("Content-Length", "999"), *GZIP)
    saved = ResponseHead(status, "", headers)
    assert has_body(method, status) is expected
    made, kept, note = answered(method, saved, b"cached", is_decoded=True)
    if expected:
        assert (made.headers, kept, note) == ((), b"cached", "")
    else:
        assert (made, kept) == (saved, b"")
        assert "has no body: what was saved as one is left out" in note
        assert answered(method, saved, b"", is_decoded=True) == (saved, b"", "")


@pytest.mark.parametrize(
    "wrong",
    [
        Tape(url=URL, method="GET /x HTTP/1.1\r\nX:"),
        Tape(url=URL, method=""),
        Tape(url=URL, request_headers=(("bad name", "x"),)),
        Tape(url=URL, response=ResponseHead(200, "", (("A", "b"), ("", "y")))),
        Tape(url=URL, response=ResponseHead(200), trailers=(("é", "x"),)),
    ],
)
def test_names_that_no_message_can_have_are_refused(wrong: Tape) -> None:
    """As methods and as headers; they are not printed, as all of a line may be one."""
    with pytest.raises(ValueError, match="is no token of HTTP") as raised:
        only([wrong])
    assert "bad" not in str(raised.value)


def test_every_wrong_name_is_told_by_its_place() -> None:
    """Which of the headers it is, and of which message."""
    good = ("!#$%&'*+-.^_`|~09azAZ", "x")
    found = wrong_names("G T", (good, ("a b", "")), (good,), (("c:", ""),))
    assert list(found) == [
        "the method is no token of HTTP",
        "the name of request header 2 is no token of HTTP",
        "the name of trailer 1 is no token of HTTP",
    ]


def test_base64_is_nothing_but_base64() -> None:
    """In one line or several."""
    assert from_base64("/w\r\nA=\n") == from_base64(b"/wA=") == b"\xff\x00"
    for wrong in ("AAAA*!", "é", "A"):
        with pytest.raises(ValueError, match=r"."):
            from_base64(wrong)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u:p@h:8/a?api_key=x#y", "https://h:8/a"),
        ("https://h?k=x", "https://h"),
        ("wss://u@h", "wss://h"),
        ("data:text/plain,secret", "data:"),
        ("/a?k=x", "/a"),
        ("u:p@h/a?k=x", "u:"),
        ("u@h/a", "h/a"),
        ("https://h/" + "a" * 99, "https://h/" + "a" * 70),
    ],
)
def test_of_a_url_no_secret_is_printed(url: str, expected: str) -> None:
    """Neither who asks, nor what for."""
    assert shown(url) == expected
    if not url.startswith("http"):
        with pytest.raises(ValueError, match="no URL of HTTP") as raised:
            target(url)
        assert str(raised.value) == f"{expected!r} is no URL of HTTP"


def test_headers_become_what_the_wire_has() -> None:
    """One line each, in Latin-1, without HTTP/2's pseudo headers."""
    pairs = [(":authority", "x"), ("Set-Cookie", "a=1\nb=2"), ("X", "é€"), ("N", 5)]
    assert to_headers([("Empty", None)]) == (("Empty", ""),)
    assert to_headers(pairs) == (
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X", "é€".encode().decode("latin-1")),
        ("N", "5"),
    )
    assert wire_text("é") == "é"


def test_only_urls_of_http_have_a_target() -> None:
    """A fragment is no part of it."""
    assert target("HTTPS://h") == "/"
    assert target("http://h?a=/b#c") == "/?a=/b"
    with pytest.raises(ValueError, match="no URL of HTTP"):
        target("ws://h/")


def test_what_is_damaged_is_told_by_its_number() -> None:
    """In words, whatever was raised."""
    with pytest.raises(ValueError, match="entry 2: 'b' is missing"):
        each("entry", [{"b": Tape(url=URL)}, {}], lambda item: item["b"])
    with pytest.raises(ValueError, match="no list"):
        each("entry", {}, str)
    assert said(RecursionError()) == "it is nested too deeply"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TypeError("'NoneType' object is not subscriptable"), "not of the type that"),
        (AttributeError("'int' object has no attribute 'strip'"), "not of the type"),
        (IndexError("list index out of range"), "not of the type that it has to be"),
        (InvalidOperation("[<class>]"), "a number in it is none"),
        (ValueError("two\nlines"), "two lines"),
    ],
)
def test_what_python_says_is_said_in_words(error: Exception, words: str) -> None:
    """Its own words are about the reader, and not about the file."""
    assert words in said(error)


def test_what_is_left_out_is_told_and_what_is_changed() -> None:
    """Both by their numbers."""
    found = each("entry", ["why", Tape(url=URL, note="so")], lambda item: item)
    assert len(found.tapes) == 1
    assert found.notes == ["entry 1: why", "entry 2: so"]
