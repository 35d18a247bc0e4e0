"""The values that everything else speaks in.

An *exchange* is one HTTP request and its whole response.  While it happens it is a
series of `Record`s (what the tap sees and the journal keeps); once it is over it is an
`Exchange` (one row), with its chunks, frames and tool calls beside it.

All times named `*_ns` are integer nanoseconds since t0 on the monotonic clock, t0
being the moment when the request head was complete.  `started_at` is the wall time of
t0 in nanoseconds since 1970.  Header values are text in Latin-1, as the wire has them,
in their order, with their case and with their duplicates.

Standard library only; no I/O and no clock.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from http import HTTPStatus
from typing import Final, NamedTuple

Headers = tuple[tuple[str, str], ...]

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def header(headers: Headers, name: str) -> str | None:
    """Return the first value of a header, whatever the case of its name."""
    wanted = name.lower()
    for key, value in headers:
        if key.lower() == wanted:
            return value
    return None


def media_type(headers: Headers) -> str:
    """Return the media type of a message without its parameters, in lower case."""
    return (header(headers, "content-type") or "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The request line and the headers."""

    method: str
    target: str
    """Path and query, as on the request line."""
    headers: Headers = ()
    http_version: str = "1.1"

    @property
    def path(self) -> str:
        """The target up to its question mark."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target after its question mark; empty when it has none."""
        return self.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The status line and the headers."""

    status: int
    reason: str = ""
    headers: Headers = ()
    http_version: str = "1.1"


def phrase_of(status: int) -> str:
    """Return what a status line says beside the number; nothing for unknown ones."""
    return _PHRASES.get(status, "")


class Chunk(NamedTuple):
    """The payload bytes of one read from the upstream socket, with its time."""

    at_ns: int
    data: bytes


class Outcome(StrEnum):
    """How an exchange ended; null in the tables while it is open."""

    COMPLETE = "complete"
    """It ended as its framing says, whatever the status."""
    CLIENT_ABORT = "client_abort"
    """The client left first, before the dialect's terminal frame."""
    UPSTREAM_ABORT = "upstream_abort"
    """The upstream ended or reset after its head and before its framing said so."""
    UPSTREAM_ERROR = "upstream_error"
    """No connection, no head, or an answer that is not HTTP; the client got our 502, or
    the same end if the connection had been kept."""
    TIMEOUT = "timeout"
    """A configured limit on silence ran out, or the network gave up waiting."""
    INCOMPLETE = "incomplete"
    """The recorder itself lost something or was killed; `error` says what."""


# How a connection broke.  `Exchange.error` begins with one of these when the outcome is
# `upstream_abort`, because clients treat the two differently and so must a replay; and
# with the outcome `upstream_error` where our client's connection broke in the same way.
END_OF_FILE = "eof"
RESET = "reset"

# What it may say when the outcome is `client_abort`: who recorded on alone, and how
# that went; the rest is whole, or `then: ` says what it has in place of an end.
WITHOUT_CLIENT = "the client left; "
REST_RECORDED = f"{WITHOUT_CLIENT}the rest was recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What is known of an exchange when its request head is complete."""

    recorder_id: str
    started_at: int
    """Wall time of t0, in nanoseconds since 1970."""
    url: str
    """Where the request goes, in full."""
    request: RequestHead
    """The request as it is sent upstream."""
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    """The client's span; empty where the request came without one."""
    tags: Mapping[str, str] = field(default_factory=dict)
    received_path: str = ""
    """The path as the client sent it; empty where the upstream is sent the same."""
    trace_flags: int | None = None
    """Those of its span (1: sampled); None where nobody decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is known when an exchange is over."""

    outcome: Outcome
    error: str | None = None
    trailers: Headers = ()


class Op(IntEnum):
    """What a `Record` says.  The numbers are in journals: never reuse one."""

    OPEN = 1
    """An exchange began.  Payload: `Opening`."""
    REQUEST_DATA = 2
    """Some of the request body went upstream.  Payload: bytes."""
    SENT = 3
    """The request went upstream whole.  No payload."""
    HEAD = 4
    """The response head came.  Payload: `ResponseHead`."""
    DATA = 5
    """One read of the response body.  Payload: bytes."""
    END = 6
    """The exchange is over.  Payload: `Ending`."""
    CARRY = 7
    """The exchange began in an earlier segment.  Payload: its state, as a mapping."""
    TOOL_CALL = 8
    """Another exchange tells of a tool call of this one.  Payload: `ToolCall`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One recorded exchange: a row of the table `exchanges`, field for field."""

    exchange_id: str
    recorder_id: str
    started_at: int
    method: str
    url: str
    path: str
    request_headers: Headers = ()
    request_body: bytes = b""
    request_body_size: int = 0
    request_body_sha256: str = ""
    request_key: str = ""
    status: int | None = None
    reason: str | None = None
    http_version: str | None = None
    response_headers: Headers = ()
    dialect: str | None = None
    session_id: str | None = None
    model: str | None = None
    outcome: Outcome | None = None
    error: str | None = None
    sent_ns: int | None = None
    headers_ns: int | None = None
    first_chunk_ns: int | None = None
    first_event_ns: int | None = None
    first_content_ns: int | None = None
    last_content_ns: int | None = None
    ended_ns: int | None = None
    chunk_count: int = 0
    frame_count: int = 0
    tool_call_count: int = 0
    response_size: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    trace_id: str = ""
    span_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    response_trailers: Headers = ()
    parent_span_id: str = ""
    """The client's span; empty where the request came without one."""
    received_path: str | None = None
    """The path as the client sent it, where the upstream was sent another."""
    trace_flags: int | None = None
    """Those of its span (1: sampled); None where nobody decided."""

    @property
    def target(self) -> str:
        """Path and query as sent upstream."""
        query = self.url.partition("#")[0].partition("?")
        return self.path + query[1] + query[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call and its result: a row of the table `tool_calls`, field for field."""

    exchange_id: str
    seq: int
    tool_id: str | None
    tool_name: str | None
    arguments: str | None = None
    """JSON, as the stream had it."""
    result: str | None = None
    """JSON, as the stream had it, or the client's next request."""
    status: str
    """`ok`, `error`, `unanswered`, `superseded` or `unmatched`."""
    timing: str
    """`wire_bracket` (call and result in one stream) or `cross_request` (the result is
    in the client's next request, and its time that request's t0)."""
    first_ns: int | None = None
    """First sign of the call."""
    called_ns: int | None = None
    """Its arguments were complete."""
    result_ns: int | None = None
    duration_ns: int | None = None
    """`result_ns - called_ns`; null without both.  Across requests this is the client's
    turnaround: the tool, with all that the client does round it."""
    call_frame: int | None = None
    result_frame: int | None = None
    result_exchange_id: str | None = None
    parallelism: int = 1
    """Calls open when this one began, itself included."""
    span_id: str = ""


Payload = bytes | Opening | ResponseHead | Ending | ToolCall | dict[str, object] | None


RawRecord = tuple[str, Op, int, Payload]
"""A `Record` without its names, for where one is made for each read of each stream:
making a named one takes five times as long."""


class Record(NamedTuple):
    """One thing that happened in one exchange: the unit of the journal."""

    exchange_id: str
    op: Op
    at_ns: int
    payload: Payload = None


def records_of(told: Iterable[ToolCall]) -> list[RawRecord]:
    """Return the records of what exchanges tell of others' tool calls."""
    return [Record(call.exchange_id, Op.TOOL_CALL, 0, call) for call in told]


def uuid7(wall_ns: int) -> str:
    """Return a new UUIDv7 (RFC 9562 section 5.7) for a moment of the wall clock."""
    milliseconds = wall_ns // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
