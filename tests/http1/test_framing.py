"""What headers say about framing, and the bytes that are written."""

from __future__ import annotations

import pytest

from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, RequestHead, ResponseHead
from sse_recorder.http1 import framing

CHUNKED: Headers = (("transfer-encoding", "chunked"),)
FIVE: Headers = (("Content-Length", "5"),)


def test_tokens_join_the_lines_of_a_header() -> None:
    """A list header in several lines is one list, whatever the case."""
    headers = (("Connection", "Keep-Alive, ,X"), ("X", "y"), ("connection", "close"))
    assert framing.tokens(headers, "connection") == ["keep-alive", "x", "close"]


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        ("1.1", "", True),
        ("1.1", "close", False),
        ("1.1", "Keep-Alive, Close", False),
        ("1.0", "", False),
        ("1.0", "Keep-Alive", True),
        ("1.0", "keep-alive, close", False),
    ],
)
def test_keep_alive(version: str, connection: str, *, expected: bool) -> None:
    """HTTP/1.1 keeps a connection unless told to close; 1.0 closes unless told."""
    headers = (("Connection", connection),) if connection else ()
    assert framing.keeps_alive(version, headers) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), "none"),
        ((("Content-Length", "0"),), "none"),
        (FIVE, "length"),
        (CHUNKED, "chunked"),
        ((("Transfer-Encoding", "gzip, Chunked"),), "chunked"),
    ],
)
def test_request_framing(headers: Headers, expected: str) -> None:
    """A request has a body when its headers frame one."""
    assert framing.request_framing(headers) == expected


@pytest.mark.parametrize(
    ("method", "status", "headers", "expected"),
    [
        ("GET", 200, (), "close"),
        ("GET", 200, FIVE, "length"),
        ("GET", 200, (("Content-Length", "0"),), "length"),
        ("GET", 200, CHUNKED, "chunked"),
        ("GET", 200, (("Transfer-Encoding", "gzip"),), "close"),
        ("HEAD", 200, FIVE, "none"),
        ("GET", 100, (), "none"),
        ("GET", 204, CHUNKED, "none"),
        ("GET", 304, FIVE, "none"),
    ],
)
def test_response_framing(
    method: str, status: int, headers: Headers, expected: str
) -> None:
    """A response has a body unless its request or its status says otherwise."""
    assert framing.response_framing(method, status, headers) == expected


@pytest.mark.parametrize("value", ["", "x", "-1", "+1", "1, 1", "1.0", "\u0665"])
def test_a_length_is_one_decimal_number(value: str) -> None:
    """A Content-Length that is not one number is a wrong use of ours."""
    with pytest.raises(UsageError, match="give one decimal number"):
        framing.content_length((("content-length", value),))


def test_heads_are_written_as_given() -> None:
    """Order, case, duplicates and Latin-1 of headers reach the wire."""
    headers = (("b", "1"), ("A", "\xe9"), ("b", ""))
    assert (
        framing.encode_request(RequestHead("POST", "/x?y", headers))
        == b"POST /x?y HTTP/1.1\r\nb: 1\r\nA: \xe9\r\nb: \r\n\r\n"
    )
    assert (
        framing.encode_response(ResponseHead(204, "", headers, "1.0"))
        == b"HTTP/1.1 204 \r\nb: 1\r\nA: \xe9\r\nb: \r\n\r\n"
    )


def test_parsed_headers_lose_the_white_space_at_their_end() -> None:
    """White space after a value is not part of it, and bytes are Latin-1."""
    assert framing.decode_headers([(b"A", b"\xe9 \t")]) == (("A", "\xe9"),)


@pytest.mark.parametrize("bad", ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "\u20ac"])
def test_a_header_cannot_begin_another(bad: str) -> None:
    """A line end, a NUL or a character beyond Latin-1 in a header is refused."""
    with pytest.raises(UsageError, match=r"A header (of '.*'|holds)"):
        framing.encode_response(ResponseHead(200, "OK", (("X", bad),)))
    with pytest.raises(UsageError):
        framing.encode_last_chunk((("X", bad),))


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/a b"), ("GET", ""), ("", "/"), ("G T", "/"), ("GET", "/\r\n")],
)
def test_a_request_line_has_three_words(method: str, target: str) -> None:
    """White space in a method or target would make another request of it."""
    with pytest.raises(UsageError, match="percent-encode"):
        framing.encode_request(RequestHead(method, target))


def test_chunks() -> None:
    """A chunk is its length in hexadecimal and its data; the last may have trailers."""
    assert framing.encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert framing.encode_last_chunk(()) == b"0\r\n\r\n"
    assert framing.encode_last_chunk((("A", "b"),)) == b"0\r\nA: b\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "passed"),
    [
        ((("Connection", "keep-alive"),), (("Connection", "keep-alive"),)),
        ((("CONNECTION", "x, Close"), ("X", "1")), (("CONNECTION", "close"),)),
        (
            (("Connection", "keep-alive"), ("Connection", "X-A"), ("x-a", "1")),
            (("Connection", "keep-alive"),),
        ),
        ((("Connection", "X-A"), ("X-A", "1"), ("TE", "trailers")), ()),
        ((("TE", "trailers"),), ()),
        ((("Connection", "TE"), ("TE", "gzip")), ()),
        (
            (("connection", "te, close"), ("te", "gzip, Trailers"), ("TE", "x")),
            (("connection", "close, TE"), ("te", "trailers")),
        ),
        ((("Connection", "Host, content-length"), ("Host", "h")), (("Host", "h"),)),
        (
            (("Transfer-Encoding", "chunked"), ("Upgrade", "h2c")),
            (("Transfer-Encoding", "chunked"),),
        ),
    ],
)
def test_what_is_of_a_connection_is_not_passed_on(
    headers: Headers, passed: Headers
) -> None:
    """Only the ends' own headers pass, and what frames a message always does."""
    assert framing.end_to_end(headers) == passed
