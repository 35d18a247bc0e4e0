"""The framing of HTTP/1.1 messages: heads and bodies to bytes, and what headers mean.

Parsing is llhttp's work.  This module holds the rest, which both sides share: how long
a body is (RFC 9112 section 6.3), whether a connection outlives a message (9.3), and the
bytes of the heads and chunks that we send.

Rules
-----
1. Headers are written as given: order, case and duplicates are the caller's.
2. Nothing is written that would frame differently from what the caller said: a line
   end inside a header is refused, because it would begin another header.

Pure: no I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, RequestHead, ResponseHead, header

Framing = Literal["none", "length", "chunked", "close"]
"""How the end of a body is told: there is no body, by Content-Length, by the last
chunk, or by the end of the connection."""

HEAD_BYTES_MAX: Final = 64 * 1024
"""The largest head, or other framing without a byte of body between, that is read.
nginx allows 32 KiB, Node.js 16 KiB, httpx (h11) 100 KiB; a session in cookies and a
token in `Authorization` fit."""

ANSWER_HEAD_BYTES_MAX: Final = 256 * 1024
"""The same of a response: what an upstream sends was asked for.  curl takes 300 KiB."""

WRITE_BUFFER_BYTES: Final = 64 * 1024
"""How much may wait for a peer's socket before the other side is asked to pause; the
default of asyncio."""

HOP_BY_HOP: Final = frozenset(
    {"keep-alive", "proxy-connection", "upgrade", "proxy-authorization"}
)
"""Headers of one connection, beside `Connection`, what it names, and TE.  Not among
them is Transfer-Encoding: a body is framed again as it was."""

# Without these a message means something else, whatever `Connection` says.
_ESSENTIAL: Final = frozenset({"content-length", "transfer-encoding", "host"})

LAST_CHUNK: Final = b"0\r\n\r\n"


def tokens(headers: Headers, name: str) -> list[str]:
    """Return the comma-separated members of a header's lines, in lower case."""
    wanted = name.lower()
    return [
        token
        for key, value in headers
        if key.lower() == wanted
        for part in value.split(",")
        if (token := part.strip().lower())
    ]


def end_to_end(headers: Headers) -> Headers:
    """Return the headers that an intermediary passes on (RFC 9110 section 7.6.1).

    Left out are those of the connection, and those that `Connection` names.  What
    `Connection` says of how long the connection lasts stays: with one upstream
    connection for each client connection it holds for both.  `TE: trailers` stays as
    well: without it a server may leave out the trailers, which we pass on.
    """
    named = set(tokens(headers, "connection")) - _ESSENTIAL
    lasting = "close" if "close" in named else "keep-alive"
    options = [lasting] if lasting in named else []
    takes_trailers = "te" in named and "trailers" in tokens(headers, "te")
    if takes_trailers:
        options.append("TE")
    passed: list[tuple[str, str]] = []
    for name, value in headers:
        lower = name.lower()
        if lower == "connection":
            if options:
                passed.append((name, ", ".join(options)))
                options = []
        elif lower == "te":
            if takes_trailers:
                passed.append((name, "trailers"))
                takes_trailers = False
        elif lower not in HOP_BY_HOP and lower not in named:
            passed.append((name, value))
    return tuple(passed)


def keeps_alive(http_version: str, headers: Headers) -> bool:
    """Tell whether a message lets its connection live on (RFC 9112 section 9.3)."""
    options = tokens(headers, "connection")
    if "close" in options:
        return False
    return http_version == "1.1" or "keep-alive" in options


def content_length(headers: Headers) -> int | None:
    """Return the length that the headers announce, or None when they announce none.

    Raises:
        UsageError: it is not one number.
    """
    value = header(headers, "content-length")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()):
        raise UsageError(f"Content-Length is {value!r}: give one decimal number.")
    return int(value)


def is_chunked(headers: Headers) -> bool:
    """Tell whether `chunked` is the last transfer coding, the one that frames."""
    codings = tokens(headers, "transfer-encoding")
    return bool(codings) and codings[-1] == "chunked"


def request_framing(headers: Headers) -> Framing:
    """Return how the body of a request is framed (RFC 9112 section 6.3)."""
    if is_chunked(headers):
        return "chunked"
    # "If this is a request message and none of the above are true, then the message
    # body length is zero (no message body is present)."
    return "length" if content_length(headers) else "none"


def response_framing(method: str, status: int, headers: Headers) -> Framing:
    """Return how the body of a response is framed (RFC 9112 section 6.3)."""
    # "Any response to a HEAD request and any response with a 1xx (Informational), 204
    # (No Content), or 304 (Not Modified) status code is always terminated by the first
    # empty line after the header fields, regardless of the header fields present."
    if method == "HEAD" or status < 200 or status in {204, 304}:  # noqa: PLR2004 - status codes
        return "none"
    if header(headers, "transfer-encoding") is not None:
        return "chunked" if is_chunked(headers) else "close"
    return "close" if content_length(headers) is None else "length"


def decode_headers(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return parsed lines as text; llhttp leaves the white space at their end."""
    return tuple(
        (name.decode("latin-1"), value.rstrip(b" \t").decode("latin-1"))
        for name, value in pairs
    )


def encode_request(head: RequestHead) -> bytes:
    """Return the bytes of a request head.

    Raises:
        UsageError: the head holds characters that would frame it differently.
    """
    if any(part.split() != [part] for part in (head.method, head.target)):
        raise UsageError(
            f"The request line would be {head.method!r} {head.target!r}: neither"
            " can be empty or hold white space; percent-encode it."
        )
    return _encode(f"{head.method} {head.target} HTTP/1.1", head.headers)


def encode_response(head: ResponseHead) -> bytes:
    """Return the bytes of a response head; we speak 1.1, whatever the upstream spoke.

    Raises:
        UsageError: the head holds characters that would frame it differently.
    """
    return _encode(f"HTTP/1.1 {head.status:03d} {head.reason}", head.headers)


def encode_chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body, which must not be empty."""
    # One copy into one bytes object: cheaper than two more writes or an iovec, because
    # a system call costs more than copying any read that a socket gives.
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_last_chunk(trailers: Headers) -> bytes:
    """Return the end of a chunked body.

    Raises:
        UsageError: a trailer holds characters that would frame it differently.
    """
    return _encode("0", trailers) if trailers else LAST_CHUNK


def _encode(first_line: str, headers: Headers) -> bytes:
    lines = [first_line, *[f"{name}: {value}" for name, value in headers], "", ""]
    try:
        block = "\r\n".join(lines).encode("latin-1")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"A header holds {error.object[error.start : error.end]!r}, and headers are"
            " Latin-1: percent-encode it."
        ) from None
    # Three counts instead of a look at each header: nothing but our own line ends.
    line_ends = len(lines) - 1
    if block.count(b"\n") + block.count(b"\r") != 2 * line_ends or b"\0" in block:
        raise UsageError(
            f"A header of {first_line[:80]!r} holds a line end or a NUL: take it out."
        )
    return block
