"""What `curl -N` left: its output, with or without heads and stamps, or its trace.

    curl -N URL > FILE                                       the body
    curl -N -i URL > FILE                                    heads, then the body
    curl -N URL | ts -s '%.s' > FILE                         either, each line stamped
    curl -N --trace FILE --trace-time -o BODY URL            all that was sent and read
    curl -N --trace-ascii FILE --trace-time -o BODY URL      the same, less its bytes

Output.  Without stamps the body is one chunk, and nothing has a time.  `-D -` writes
the same as `-i`; of several heads (100 Continue, redirects) the last one counts.
Trailers come behind the body, and are told by what the head declares.  What has heads
amid the body (`-i` with --retry or several URLs, `-v`) is refused: where a body ends,
only a trace knows.

Stamps are those of `ts` of moreutils: seconds, as `ts -s '%.s'` counts them from its
start and `ts '%.s'` from 1970; or hours, minutes and seconds (`ts -s`, `ts -s '%.T'`),
counted from its start too, unless a date is before them (`ts`, `ts '%F %.T'`).  What
follows the one space behind a stamp is the line, byte for byte.  A chunk is the lines
up to a blank one, and its time is the blank one's; without any it is a line.  Numbers
may as well be the body's own, so it is told when they are taken for stamps, and refused
to guess where half of the lines have one, or where those of a count go back.

A trace has each read with its time, and what was sent.  Older curls trace a chunked
body with its framing, which is taken off here; newer ones without.  `--trace-ascii`
writes a dot for every byte but printable ASCII, line ends included, so the body cannot
be had from it: it is taken from what curl printed, and compared with the trace.  Not
read are traces of transfers side by side (`-Z`).

Output says nothing of its request, so the caller has to; a trace says all but the
scheme, which is https where there was TLS on the connection.  A clock that was set back
stands still until it is where it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Final, Literal, NamedTuple

from sse_recorder import sse
from sse_recorder.errors import UsageError
from sse_recorder.exchange import (
    END_OF_FILE,
    RESET,
    Chunk,
    Headers,
    Outcome,
    ResponseHead,
    header,
)
from sse_recorder.imports.base import (
    Found,
    Tape,
    answered,
    has_body,
    is_decoded,
    to_headers,
    true_headers,
)

_NS_PER_S: Final = 1_000_000_000
_NS_PER_DAY: Final = 86_400 * _NS_PER_S
_YEAR_2001_NS: Final = 10**9 * _NS_PER_S

_HEAD: Final = re.compile(
    rb"HTTP/(?P<version>\d(?:\.\d)?) (?P<status>\d{3}) ?(?P<reason>[^\r\n]*)\r?\n"
    rb"(?P<headers>(?:[^\r\n]+\r?\n)*)\r?\n"
)
# Of a text with lines that end otherwise, a head may be what it is about.
_ANOTHER_HEAD: Final = re.compile(
    rb"HTTP/\d(?:\.\d)? \d{3}[^\r\n]*\r\n(?:[^\r\n:]+:[^\r\n]*\r\n)+\r\n"
)
_VERBOSE: Final = re.compile(rb"^< HTTP/\d(?:\.\d)? \d{3}", re.MULTILINE)
_STAMPS: Final = (
    re.compile(rb"(?P<s>\d+(?:\.\d+)?) "),
    re.compile(
        rb"(?P<date>[A-Z][a-z]{2} [ \d]\d |\d{4}-\d\d-\d\d[ T])?"
        rb"(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?) "
    ),
)
_TRACE_LINE: Final = re.compile(
    rb"^(?:(?P<h>\d\d):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?) )?"
    rb"(?:\[[^\]\n]*\] )?"  # --trace-ids
    rb"(?:== Info: (?P<info>.*)|(?P<kind>(?:=> Send|<= Recv) [A-Za-z ]+),"
    rb" (?P<size>\d+) bytes \(0x[0-9a-f]+\))$",
    re.MULTILINE,
)
_DUMP_LINE: Final = re.compile(rb"(?P<offset>[0-9a-f]{4,}): (?P<text>.*)", re.DOTALL)
_HEX: Final = re.compile(rb"(?:[0-9a-f]{2} ){2}")
_HEX_WIDTH: Final = 16 * 3
_SENT_HEAD: Final = "=> Send header"
_SENT_DATA: Final = "=> Send data"
_HEAD_LINE: Final = "<= Recv header"
_DATA: Final = "<= Recv data"
_INFO: Final = "info"
_WIRE: Final = frozenset({_SENT_HEAD, _SENT_DATA, _HEAD_LINE, _DATA})
_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")
_DOT: Final = ord(".")
_STAMPS_OR_NOT: Final = (
    "say --stamps if `ts` wrote them, and mend lines that lack one; or --no-stamps if"
    " they are the body's"
)
_TAKEN_OFF: Final = (
    "its lines begin with time stamps, which are taken off; say --no-stamps if they are"
    " the body's"
)
_DOTS: Final = "a dot in what was sent may be any byte: --trace-ascii does not say"
_TRYING: Final = re.compile(r"\s*Trying ")
_CONNECTION: Final = re.compile(
    r"Re-using existing (?P<scheme>https?): |.*onnect.*#(?P<number>\d+)"
)
_TLS: Final = re.compile(r"SSL conn")
_BROKEN: Final = re.compile(
    r"(?i)reset by peer|timed out|transfer closed|empty reply|not closed cleanly"
    r"|unexpected eof|SSL_read|PROTOCOL_ERROR"
)
_ENDED: Final = re.compile(r"(?i)left intact|clos(?:ing|e) connection|shutting down")


class Known(NamedTuple):
    """What the caller knows of the request."""

    url: str | None = None
    method: str | None = None
    body: bytes | None = None
    """What curl printed, for a `--trace-ascii`."""
    stamps: bool | None = None
    """Whether the lines of output have stamps; None to tell by what they begin with."""


def read(data: bytes, known: Known) -> Found:
    """Return the exchanges that curl's output or trace shows.

    Raises:
        UsageError: the caller has to say more, or less.
        ValueError, or what else is in `base.DAMAGE`: it is damaged.
    """
    trace = _TRACE_LINE.search(data)
    tapes = _traced(data, known.body) if trace else [_printed(data, known)]
    if known.url or known.method:
        if len(tapes) > 1:
            raise UsageError(
                f"it has {len(tapes)} requests, and one --url or --method cannot be"
                " that of all; leave them out"
            )
        tapes = [
            replace(t, url=known.url or t.url, method=known.method or t.method)
            for t in tapes
        ]
    return Found(tapes, [tape.note for tape in tapes if tape.note])


def _heads(text: bytes) -> tuple[ResponseHead | None, int]:
    """Return the last of the heads that a text begins with, and where they end."""
    head: re.Match[bytes] | None = None
    end = 0
    while found := _HEAD.match(text, end):
        end = found.end()
        if found["status"] == b"101" or not found["status"].startswith(b"1"):
            head = found  # and no informational one, behind which the answer comes
    if head is None:
        return None, 0
    lines = (line.partition(":") for line in _lines(head["headers"].decode("latin-1")))
    return (
        ResponseHead(
            int(head["status"]),
            head["reason"].decode("latin-1").strip(),
            to_headers((name, value.strip()) for name, _, value in lines),
            head["version"].decode(),
        ),
        end,
    )


def _lines(text: str) -> list[str]:
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


# --- output ---------------------------------------------------------------------------


def _printed(data: bytes, known: Known) -> Tape:
    if known.url is None:
        raise UsageError(
            "it is no HAR and no cassette of VCR.py, and curl's output does not say of"
            " which request it is: name it with --url and --method, or trace it with"
            " `curl --trace`"
        )
    started_at, lines, stamped = _stamped(data, stamps=known.stamps)
    text = b"".join(line.data for line in lines)
    if _VERBOSE.search(text):
        raise _mixed("what curl -v says is mixed into the body")
    head, start = _heads(text)
    if head and _ANOTHER_HEAD.search(text, start):
        raise _mixed("there is another head behind the first one's body")
    end = _trailers_at(head, text, start)
    body = text[start:end]
    times = zip(lines, accumulate(len(line.data) for line in lines), strict=True)
    is_stream = any(frame.type == "event" for frame in sse.parse(body))
    guess = (("Content-Type", "text/event-stream"),) if is_stream else ()
    assumed = "" if head else "the head is not in it, so it is taken to be 200 OK"
    head = head or ResponseHead(200, "OK", guess)
    decoded = is_decoded(head.headers, body)
    method = known.method or "GET"
    head, body, left_out = answered(method, head, body, is_decoded=decoded)
    return Tape(
        url=known.url,
        response=head,
        chunks=list(_by_frame(_between(lines, start, start + len(body)))),
        trailers=_headers(text[end:]),
        started_at=started_at,
        headers_ns=next((line.at_ns for line, at in times if at >= start), 0),
        ended_ns=lines[-1].at_ns if lines else 0,
        note="; ".join(filter(None, (stamped, assumed, left_out))),
    )


def _mixed(what: str) -> UsageError:
    return UsageError(
        f"{what}, and where that ends is not known: trace it with `curl --trace FILE"
        " --trace-time -o BODY`"
    )


def _trailers_at(head: ResponseHead | None, text: bytes, start: int) -> int:
    """Return where a body ends, behind which curl -i prints the trailers."""
    declared = header(head.headers, "trailer") if head else None
    if not declared:
        return len(text)
    names = b"|".join(re.escape(n.strip().encode()) for n in declared.split(","))
    trailers = re.compile(rb"(?i)(?:(?:%b):[^\r\n]*\r\n)+\Z" % names)
    found = trailers.search(text, start)
    return found.start() if found else len(text)


def _stamped(
    data: bytes, *, stamps: bool | None
) -> tuple[int | None, list[Chunk], str]:
    """Return when a stamped text began, if it says so, its lines, and what to tell.

    What has no stamps is one line.
    """
    lines = [line for line in re.split(rb"(?<=\n)", data) if line]
    marks = _marks(lines, stamps=stamps)
    if not marks:
        return None, [Chunk(0, data)], ""
    read = list(map(_nanoseconds, marks))
    is_clock = "h" in marks[0].re.groupindex
    is_absolute = read[0] >= _YEAR_2001_NS
    if stamps is None and not (is_clock or is_absolute) and sorted(read) != read:
        raise UsageError(f"its lines begin with numbers that go back: {_STAMPS_OR_NOT}")
    times = _forward(read, is_clock=is_clock)
    has_date = bool(marks[0].groupdict().get("date"))
    origin = times[0] if is_absolute or has_date else 0
    chunks = [
        Chunk(at_ns - origin, line[mark.end() :])
        for at_ns, mark, line in zip(times, marks, lines, strict=True)
    ]
    told = _TAKEN_OFF if stamps is None else ""
    return times[0] if is_absolute else None, chunks, told


def _marks(lines: list[bytes], *, stamps: bool | None) -> list[re.Match[bytes]]:
    """Return the stamps of lines, which all have one, or of none of them.

    Raises:
        UsageError: some have one and should not, or the other way round.
    """
    if stamps is False:
        return []
    each = ([pattern.match(line) for line in lines] for pattern in _STAMPS)
    found = max(each, key=lambda marks: sum(map(bool, marks)))
    marks = [mark for mark in found if mark]
    if len(marks) < len(lines):
        # Editors that take spaces off line ends take the stamps of blank lines.
        if not stamps and 2 * len(marks) < len(lines):
            return []
        raise UsageError(
            f"{len(marks)} of {len(lines)} lines begin with a time stamp, and line"
            f" {found.index(None) + 1} does not: {_STAMPS_OR_NOT}"
        )
    return marks


def _nanoseconds(stamp: re.Match[bytes]) -> int:
    groups = stamp.groupdict()
    hours, minutes = int(groups.get("h") or 0), int(groups.get("m") or 0)
    seconds = Decimal((groups["s"] or b"0").decode())
    return round((seconds + 60 * (minutes + 60 * hours)) * _NS_PER_S)


def _forward(times: Iterable[int], *, is_clock: bool) -> list[int]:
    """Return times that never go back, of a clock that begins again at midnight.

    One that goes back by less than half a day was set back, as NTP does it.
    """
    found: list[int] = []
    days = 0
    for at_ns in times:
        latest = found[-1] if found else 0
        if is_clock and latest - at_ns - days > _NS_PER_DAY // 2:
            days += _NS_PER_DAY
        found.append(max(latest, at_ns + days))
    return found


def _between(chunks: Iterable[Chunk], start: int, end: int) -> list[Chunk]:
    """Return chunks as far as they are of a part of their bytes."""
    found: list[Chunk] = []
    at = 0
    for chunk in chunks:
        data = chunk.data[max(0, start - at) : max(0, end - at)]
        if data:
            found.append(Chunk(chunk.at_ns, data))
        at += len(chunk.data)
    return found


def _by_frame(lines: list[Chunk]) -> Iterator[Chunk]:
    """Give the lines up to each blank one as one chunk; without blank ones, lines."""
    blank = [not line.data.strip(b"\r\n") for line in lines]
    ends = [
        n for n, is_blank in enumerate(blank, start=1) if is_blank or not any(blank)
    ]
    for start, end in pairwise([0, *ends, len(lines)]):
        if start < end:
            data = b"".join(line.data for line in lines[start:end])
            yield Chunk(lines[end - 1].at_ns, data)


# --- traces ---------------------------------------------------------------------------


class _Part(NamedTuple):
    """What a trace says at a time."""

    kind: str
    at_ns: int
    data: bytes


def _traced(data: bytes, printed: bytes | None) -> list[Tape]:
    is_hex, parts = _parts(data)
    groups: list[tuple[str, list[_Part]]] = []
    for part, scheme in zip(parts, _schemes(parts), strict=True):
        if part.kind == _SENT_HEAD and not (
            groups and groups[-1][1][-1].kind == part.kind
        ):
            groups.append((scheme, []))
        if groups:
            groups[-1][1].append(part)
    tapes = [_exchange(_until_its_end(group), scheme) for scheme, group in groups]
    tapes = [tape for tape in tapes if tape.method != "CONNECT"]
    return tapes if is_hex else _with_bytes(tapes, printed)


def _schemes(parts: Iterable[_Part]) -> Iterator[str]:
    """Give the scheme of the connection that each part is of."""
    known: dict[str, str] = {}
    scheme = number = ""
    for part in parts:
        said = _said(part)
        if _TRYING.match(said):
            scheme = number = ""
        elif named := _CONNECTION.match(said):
            number = named["number"] or ""
            scheme = named["scheme"] or known.get(number, scheme)
        if "SSL" in part.kind or _TLS.match(said):
            scheme = "https"
        known[number] = scheme
        yield scheme or "http"


def _said(part: _Part) -> str:
    """Return what curl says of a transfer, if that is what a part is."""
    return part.data.decode("latin-1") if part.kind == _INFO else ""


def _until_its_end(parts: list[_Part]) -> list[_Part]:
    """Return the parts of an exchange without what comes before the next one.

    The last is what was read last, or where curl says that this was the end.
    """
    last = max(n for n, part in enumerate(parts) if part.kind in _WIRE)
    for n, part in enumerate(parts[last:], start=last):
        if _BROKEN.search(_said(part)) or _ENDED.search(_said(part)):
            return parts[: n + 1]
    return parts[: last + 1]


def _parts(data: bytes) -> tuple[bool, list[_Part]]:
    """Return whether a trace has its bytes in hexadecimal, and what it says."""
    found: list[tuple[re.Match[bytes], list[re.Match[bytes]]]] = []
    for line in data.split(b"\n"):
        text = line.removesuffix(b"\r")
        if begun := _TRACE_LINE.match(text):
            found.append((begun, []))
        elif found and (dumped := _DUMP_LINE.match(text)):
            found[-1][1].append(dumped)
    first = next(
        (lines[0]["text"] for begun, lines in found if begun["kind"] and lines), b""
    )
    is_hex = bool(_HEX.match(first))
    times = _forward((_nanoseconds(begun) for begun, _ in found), is_clock=True)
    return is_hex, [
        _Part(
            begun["kind"].decode() if begun["kind"] else _INFO,
            at_ns,
            _dumped(begun, lines, is_hex=is_hex),
        )
        for at_ns, (begun, lines) in zip(times, found, strict=True)
    ]


def _dumped(
    begun: re.Match[bytes], lines: Sequence[re.Match[bytes]], *, is_hex: bool
) -> bytes:
    """Return the bytes below a line of a trace, as far as it shows them."""
    if begun["info"] is not None:
        return begun["info"]
    size = int(begun["size"])
    if is_hex:
        text = b"".join(line["text"][:_HEX_WIDTH] for line in lines)
        data = bytes.fromhex(text.decode())
    else:
        # A line ends before each CRLF, which is not shown but counted.
        ends = [*(int(line["offset"], 16) for line in lines[1:]), size]
        data = b"".join(
            line["text"] + b"\r\n" * (end - int(line["offset"], 16) > len(line["text"]))
            for line, end in zip(lines, ends, strict=False)
        )
    if len(data) != size:
        raise ValueError(
            f"below {begun.group().decode()!r} are {len(data)} bytes; let curl write"
            " the body elsewhere, with -o, or it is mixed into the trace"
        )
    return data


def _exchange(parts: list[_Part], scheme: str) -> Tape:
    first_data = next((n for n, p in enumerate(parts) if p.kind == _DATA), len(parts))
    data = [Chunk(p.at_ns, p.data) for p in parts if p.kind == _DATA]
    sent = [p for p in parts if p.kind in (_SENT_HEAD, _SENT_DATA)]
    heads = [p for p in parts[:first_data] if p.kind == _HEAD_LINE]
    after = [p for p in parts[first_data:] if p.kind == _HEAD_LINE]
    t0 = parts[0].at_ns
    method, url, request_headers = _request(_joined(sent, _SENT_HEAD), scheme)
    posted = _unchunked(request_headers, [Chunk(0, _joined(sent, _SENT_DATA))])
    request_body = b"".join(chunk.data for chunk in posted.chunks)
    head, _ = _heads(_joined(_last_head(heads), _HEAD_LINE))
    body = _unchunked(head.headers if head else (), data)
    whole = b"".join(chunk.data for chunk in body.chunks)
    is_whole = body.is_whole
    if head and not has_body(method, head.status):
        is_whole = True
    elif is_whole is None and head and (n := header(head.headers, "content-length")):
        is_whole = n == str(len(whole))
    outcome, error = _outcome(parts, has_head=head is not None, is_whole=is_whole)
    note = ""
    if head:
        decoded = is_decoded(head.headers, whole)
        head, whole, note = answered(method, head, whole, is_decoded=decoded)
    return Tape(
        url=url,
        method=method,
        request_headers=true_headers(request_headers, len(request_body)),
        request_body=request_body,
        response=head,
        chunks=[Chunk(at_ns - t0, piece) for at_ns, piece in body.chunks if whole],
        trailers=_headers(body.trailers or _joined(after, _HEAD_LINE)),
        sent_ns=sent[-1].at_ns - t0,
        headers_ns=heads[-1].at_ns - t0 if heads else 0,
        ended_ns=parts[-1].at_ns - t0,
        outcome=outcome,
        error=error,
        note=note,
    )


def _last_head(parts: list[_Part]) -> list[_Part]:
    """Return the lines of the last head.

    Of one before it (100 Continue) older curls do not trace the blank line.
    """
    begun = (n for n, p in enumerate(parts) if p.data.startswith(b"HTTP/"))
    return parts[max(begun, default=0) :]


def _joined(parts: Iterable[_Part], kind: str) -> bytes:
    return b"".join(part.data for part in parts if part.kind == kind)


def _headers(text: bytes) -> Headers:
    lines = (line.partition(":") for line in _lines(text.decode("latin-1")))
    return to_headers((name, value) for name, _, value in lines)


def _request(text: bytes, scheme: str) -> tuple[str, str, Headers]:
    """Return the method, the URL and the headers of a request that was sent."""
    first, _, rest = text.partition(b"\n")
    method, target, *_ = first.decode("latin-1").split()
    headers = _headers(rest)
    is_absolute = "://" in target.partition("?")[0]  # it was sent to a proxy
    host = header(headers, "host") or ""
    return method, target if is_absolute else f"{scheme}://{host}{target}", headers


def _outcome(
    parts: list[_Part], *, has_head: bool, is_whole: bool | None
) -> tuple[Outcome, str | None]:
    """Return how an exchange ended, by its framing or else by what curl says."""
    said = list(map(_said, parts))
    reason = next((text for text in said if _BROKEN.search(text)), None)
    has_ended = reason is None and any(_ENDED.search(text) for text in said)
    if has_head and (is_whole or (is_whole is None and has_ended)):
        return Outcome.COMPLETE, None
    if reason is None or "timed out" in reason:
        return Outcome.CLIENT_ABORT, reason or "the trace ends before the answer does"
    if not has_head:
        return Outcome.UPSTREAM_ERROR, reason
    how = RESET if "reset" in reason else END_OF_FILE
    return Outcome.UPSTREAM_ABORT, f"{how}: {reason}"


def _with_bytes(tapes: list[Tape], printed: bytes | None) -> list[Tape]:
    """Return what a `--trace-ascii` shows, with the bytes that it has dots for."""
    answered = [tape for tape in tapes if any(chunk.data for chunk in tape.chunks)]
    if printed is None and answered:
        raise UsageError(
            "--trace-ascii has a dot for every byte but printable ASCII: name what curl"
            " printed (-o BODY) with --body, or trace with --trace"
        )
    if len(answered) > 1:
        raise UsageError(
            f"it has {len(answered)} answers, of which --trace-ascii has not all bytes;"
            " trace them with --trace"
        )
    return [
        replace(
            _filled(tape, printed or b"") if tape in answered else tape,
            note=_DOTS if b"." in tape.request_body else tape.note,
        )
        for tape in tapes
    ]


def _filled(tape: Tape, printed: bytes) -> Tape:
    shown = b"".join(chunk.data for chunk in tape.chunks)
    if len(shown) != len(printed) or not all(map(_may_be, shown, printed)):
        raise ValueError(
            f"--body is not what it traces: {len(printed)} bytes, and {len(shown)} were"
            " read; name the file that this run of curl wrote, without --compressed"
        )
    ends = accumulate((len(chunk.data) for chunk in tape.chunks), initial=0)
    pieces = zip(tape.chunks, pairwise(ends), strict=True)
    return replace(
        tape, chunks=[Chunk(chunk.at_ns, printed[a:b]) for chunk, (a, b) in pieces]
    )


def _may_be(shown: int, byte: int) -> bool:
    return shown in (byte, _DOT)


# --- chunked bodies -------------------------------------------------------------------


class _Payload(NamedTuple):
    """A body without its framing."""

    chunks: list[Chunk]
    is_whole: bool | None = None
    """Whether its last chunk came; None where the framing does not say."""
    trailers: bytes = b""


def _unchunked(headers: Headers, chunks: list[Chunk]) -> _Payload:
    """Return a body without its chunked framing, if that is in it."""
    if (header(headers, "transfer-encoding") or "").lower() != "chunked":
        return _Payload(chunks)
    framing = _Chunked()
    try:
        found = [Chunk(at_ns, framing.take(data)) for at_ns, data in chunks]
    except ValueError:
        return _Payload(chunks)  # a newer curl, which took it off before
    if framing.state == "size" and not any(chunk.data for chunk in found):
        return _Payload(chunks)  # the same, and a body without a line end
    whole = framing.state == "over"
    return _Payload([chunk for chunk in found if chunk.data], whole, framing.trailers)


class _Chunked:
    """Takes the framing off a chunked body (RFC 9112 section 7.1)."""

    def __init__(self) -> None:
        self.state: Literal["size", "data", "end", "trailers", "over"] = "size"
        self.trailers = b""
        self._left = 0
        self._line = b""

    def take(self, data: bytes) -> bytes:
        """Return the payload in what comes next.

        Raises:
            ValueError: it is not chunked.
        """
        payload: list[bytes] = []
        at = 0
        while at < len(data):
            if self.state == "data":
                payload.append(data[at : at + self._left])
                at += len(payload[-1])
                self._left -= len(payload[-1])
                self.state = "data" if self._left else "end"
                continue
            end = data.find(b"\n", at) + 1 or len(data)
            self._line += data[at:end]
            at = end
            if self._line.endswith(b"\n"):
                self._next(self._line.rstrip(b"\r\n"))
                self._line = b""
        return b"".join(payload)

    def _next(self, line: bytes) -> None:
        if self.state == "size":
            size = line.partition(b";")[0].strip()
            if not _CHUNK_SIZE.fullmatch(size):
                raise ValueError(f"{size!r} is not the size of a chunk")
            self._left = int(size, 16)
            self.state = "data" if self._left else "trailers"
        elif self.state == "trailers":
            self.trailers += line + b"\n" * bool(line)
            self.state = "trailers" if line else "over"
        elif self.state == "end" and not line:
            self.state = "size"
        else:
            raise ValueError("not the framing of a chunked body")
