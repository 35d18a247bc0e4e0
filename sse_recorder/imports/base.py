"""What every importer makes: exchanges as another tool kept them, and their records.

A `Tape` is one exchange with whatever its file says of it.  `records` makes of it what
a recorder would have seen, so that all that reads recordings reads imported ones too.
Two things are decided here for all formats:

Headers.  Tools keep a body as it is between its framing and its content coding, and the
headers as they were on the wire, so headers may say what is not true of the body any
more.  Those that would frame it wrongly are dropped (`true_headers`); `chunked` stays,
because a replay cuts the body into chunks again.  Of an answer that has no body,
whatever its headers say, all of them are true, and what a tool saved as its body is
none (`answered`).  HTTP/2's pseudo headers are no headers, and the lines of one name
that a tool has joined by line ends are lines again.  What no client could have sent, or
no server, is refused.

Time.  Where a file does not say when an exchange began, the answer's `Date` does, or
else the file's own time.  Exchanges that began at the same time, or in a file that has
no times of its own, keep the order of the file: replays answer in the order of time.
Ids are of what is in the file alone, as the file's own time is another when it has been
copied.

Not here: what is secret.  `sse_recorder.imports` masks tapes before it gives them out.
So no message has more of a URL in it than `shown` gives, nor any value of a header or a
body.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any, Final, NamedTuple

from sse_recorder import coding
from sse_recorder.exchange import (
    Chunk,
    Ending,
    Headers,
    Op,
    Opening,
    Outcome,
    Record,
    RequestHead,
    ResponseHead,
    header,
    uuid7,
)

DAMAGE: Final = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError),
    *(TypeError, ValueError),
)
"""What a file that is not what it claims to be may make its reader raise."""

_YEAR_2262_NS: Final = 2**63
_STATUS_MAX: Final = 999
_OK: Final = 200
_BODILESS: Final = frozenset({204, 304})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LINE_ENDS: Final = re.compile(r"[\r\n]+")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_SHOWN_MAX: Final = 80
# "token = 1*tchar" (RFC 9110 section 5.6.2), which methods and names of headers are.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """An exchange as another tool kept it; times as in `Exchange`."""

    url: str
    method: str = "GET"
    request_headers: Headers = ()
    request_body: bytes = b""
    response: ResponseHead | None = None
    """None where there was no answer."""
    chunks: Sequence[Chunk] = ()
    trailers: Headers = ()
    started_at: int | None = None
    """None where the file does not say."""
    sent_ns: int = 0
    headers_ns: int = 0
    ended_ns: int = 0
    outcome: Outcome = Outcome.COMPLETE
    error: str | None = None
    note: str = ""
    """What of it is not as it was, and why."""

    @property
    def request(self) -> RequestHead:
        """The request's head, with the target that the URL has."""
        return RequestHead(self.method, target(self.url), self.request_headers)


class Found(NamedTuple):
    """What a file has."""

    tapes: list[Tape]
    notes: list[str]
    """What is not imported, or not as it was, and why."""


def each(noun: str, items: Any, read: Callable[[Any], Tape | str]) -> Found:
    """Read the items of a file; of those that are no tape, why not is said.

    Raises:
        ValueError: one is damaged; the message has its number.
    """
    if not isinstance(items, list):
        raise ValueError(f"it has no list of what would be {noun} 1")  # noqa: TRY004 - of the file
    found = Found([], [])
    for number, item in enumerate(items, start=1):
        try:
            tape = read(item)
        except DAMAGE as error:
            raise ValueError(f"{noun} {number}: {said(error)}") from error
        if isinstance(tape, Tape):
            found.tapes.append(tape)
        if note := tape if isinstance(tape, str) else tape.note:
            found.notes.append(f"{noun} {number}: {note}")
    return found


def said(error: Exception) -> str:
    """Return what an error of `DAMAGE` says, in words."""
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    # What Python says of these is about the reader, and not about the file.
    if isinstance(error, (AttributeError, IndexError, TypeError)):
        return "something in it is not of the type that it has to be"
    if isinstance(error, ArithmeticError):
        return "a number in it is none, or too large"
    return " ".join(str(error).split())


def records(tapes: Iterable[Tape], data: bytes, mtime_ns: int) -> list[list[Record]]:
    """Return the records of each exchange, in the order in which they began.

    Args:
        tapes: in the order of the file, which decides where times do not.
        data: the file.  Ids are made of it, so importing it again makes the same.
        mtime_ns: when the file was written.

    Raises:
        ValueError: a time or a status is none, or a name is none that HTTP allows.
    """
    timed = [(_started_at(tape, mtime_ns), tape) for tape in tapes]
    if all(tape.started_at is not None for _, tape in timed):
        timed.sort(key=lambda pair: pair[0])
    seed = hashlib.sha256(data).digest()
    found: list[list[Record]] = []
    latest = -1
    for number, (started_at, tape) in enumerate(timed):
        latest = max(started_at, latest + 1)
        eid = _exchange_id(_dated(tape), seed + str(number).encode())
        found.append(list(_records(eid, tape, latest)))
        if latest >= _YEAR_2262_NS or found[-1][-1].at_ns >= _YEAR_2262_NS:
            raise ValueError("a time in it is too far away for nanoseconds")
    return found


def _records(eid: str, tape: Tape, started_at: int) -> Iterator[Record]:
    headers = tape.response.headers if tape.response else ()
    for problem in wrong_names(
        tape.method, tape.request_headers, headers, tape.trailers
    ):
        raise ValueError(problem)
    opening = Opening(
        recorder_id="import", started_at=started_at, url=tape.url, request=tape.request
    )
    yield Record(eid, Op.OPEN, 0, opening)
    if tape.request_body:
        yield Record(eid, Op.REQUEST_DATA, 0, tape.request_body)
    yield Record(eid, Op.SENT, tape.sent_ns)
    # A tool may count from elsewhere for each of these; time does not go back.
    now_ns = max(tape.sent_ns, tape.headers_ns)
    if tape.response is not None:
        if not 0 <= tape.response.status <= _STATUS_MAX:
            raise ValueError(f"{tape.response.status} is not a status")
        yield Record(eid, Op.HEAD, now_ns, tape.response)
    for chunk in tape.chunks:
        now_ns = max(now_ns, chunk.at_ns)
        if chunk.data:
            yield Record(eid, Op.DATA, now_ns, chunk.data)
    ending = Ending(outcome=tape.outcome, error=tape.error, trailers=tape.trailers)
    yield Record(eid, Op.END, max(now_ns, tape.ended_ns), ending)


def wrong_names(
    method: str, request: Headers, response: Headers, trailers: Headers
) -> Iterator[str]:
    """Say of which names no message of HTTP can have come, as they are no tokens."""
    if not _TOKEN.fullmatch(method):
        yield "the method is no token of HTTP"
    for kind, headers in (
        ("request header", request),
        ("response header", response),
        ("trailer", trailers),
    ):
        for number, (name, _) in enumerate(headers, start=1):
            if not _TOKEN.fullmatch(name):
                yield f"the name of {kind} {number} is no token of HTTP"


def _started_at(tape: Tape, mtime_ns: int) -> int:
    dated = _dated(tape)
    return mtime_ns - tape.ended_ns if dated is None else dated


def _dated(tape: Tape) -> int | None:
    """Return when an exchange began, if that can be told from the file's content."""
    if tape.started_at is not None:
        return tape.started_at
    date = header(tape.response.headers, "date") if tape.response else None
    try:
        answered_ns = from_datetime(parsedate_to_datetime(date or ""))
    except ValueError:
        return None
    return answered_ns - tape.headers_ns


def _exchange_id(started_at: int | None, seed: bytes) -> str:
    """Return a UUIDv7 whose random part is made of a seed, and its time if need be."""
    digits = hashlib.sha256(seed).hexdigest()
    time = f"{digits[18:26]}-{digits[26:30]}-7"
    if started_at is not None:
        time = uuid7(started_at)[:15]
    return f"{time}{digits[:3]}-8{digits[3:6]}-{digits[6:18]}"


def from_datetime(moment: datetime) -> int:
    """Return a moment in nanoseconds since 1970; in UTC, where it does not say."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def target(url: str) -> str:
    """Return what stands on the request line for a URL.

    Raises:
        ValueError: it is no URL of HTTP.
    """
    scheme, mark, rest = url.partition("#")[0].partition("://")
    if not mark or scheme.lower() not in {"http", "https"}:
        raise ValueError(f"{shown(url)!r} is no URL of HTTP")
    before_query, mark, query = rest.partition("?")
    return "/" + before_query.partition("/")[2] + mark + query


def shown(url: str) -> str:
    """Return as much of a URL as may be printed: no user, no query, not all of it."""
    before = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme = _SCHEME.match(before)
    rest = before[scheme.end() :] if scheme else before
    if scheme and not rest.startswith("//"):
        return scheme[0]  # `data:` has its data there
    authority, slash, path = rest.removeprefix("//").partition("/")
    host = "//" * bool(scheme) + authority.rpartition("@")[2]
    return f"{scheme[0] if scheme else ''}{host}{slash}{path}"[:_SHOWN_MAX]


def to_headers(pairs: Iterable[tuple[str, Any]]) -> Headers:
    """Return headers as the wire has them: one line each, in Latin-1."""
    return tuple(
        (wire_text(name), wire_text(line.strip()))
        for name, value in pairs
        if not name.startswith(":")
        for line in _LINE_ENDS.split("" if value is None else str(value))
    )


def wire_text(text: str) -> str:
    """Return text that Latin-1 can hold; else as its UTF-8 looks there."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass").decode("latin-1")
    return text


def true_headers(headers: Headers, size: int, *, is_decoded: bool = False) -> Headers:
    """Return headers without those that are not true of a body as it is kept.

    Args:
        headers: of the message.
        size: of the body.
        is_decoded: whether its content coding was taken off.
    """
    is_chunked = (header(headers, "transfer-encoding") or "").lower() == "chunked"
    false = {"content-encoding"} if is_decoded else set()
    if not is_chunked:
        false.add("transfer-encoding")
    # "If a message is received with both a Transfer-Encoding and a Content-Length
    # header field, the Transfer-Encoding overrides the Content-Length" (RFC 9112).
    if is_chunked or header(headers, "content-length") != str(size):
        false.add("content-length")
    return tuple(pair for pair in headers if pair[0].lower() not in false)


def has_body(method: str, status: int) -> bool:
    """Tell whether an answer can have a body, whatever its headers say.

    "Any response to a HEAD request and any response with a 1xx (Informational), 204 (No
    Content), or 304 (Not Modified) status code is always terminated by the first empty
    line after the header fields" (RFC 9112 section 6.3).
    """
    return method != "HEAD" and status >= _OK and status not in _BODILESS


def answered(
    method: str, head: ResponseHead, body: bytes, *, is_decoded: bool
) -> tuple[ResponseHead, bytes, str]:
    """Return a response as it was on the wire, and what of it is not as it was saved.

    Args:
        method: of the request.
        head: with the headers that the tool saved.
        body: that the tool saved.  Of a 304, browsers save the one in their cache.
        is_decoded: whether its content coding was taken off.
    """
    if not has_body(method, head.status):
        what = f"an answer of {head.status} to {method} has no body"
        return head, b"", f"{what}: what was saved as one is left out" if body else ""
    headers = true_headers(head.headers, len(body), is_decoded=is_decoded)
    return replace(head, headers=headers), body, ""


def from_base64(text: str | bytes) -> bytes:
    """Return what a text in base64 says; line ends may be in it, and nothing else.

    Raises:
        ValueError: it is none.
    """
    data = text.encode() if isinstance(text, str) else text
    return base64.b64decode(b"".join(data.split()), validate=True)


def is_decoded(headers: Headers, body: bytes) -> bool:
    """Tell whether a tool has taken off the content coding that the headers name.

    What is still coded can be decoded, and text cannot.
    """
    try:
        decoder = coding.decoder(header(headers, "content-encoding"))
    except coding.CodingError:
        return False  # whatever it is, it is as it was
    if decoder is None or not body:
        return False
    step = coding.DECODED_BYTES_MAX // 1024
    ends = [*range(0, len(body), step), len(body)]
    try:
        for start, end in pairwise(ends):
            decoder.decode(body[start:end])
    except coding.CodingError:
        return True
    return False
