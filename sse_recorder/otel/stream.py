"""The stream: what the frames of an exchange say that its row does not.

    rows of frames ─▶ Listener ─▶ StreamFacts

A `Listener` hears the frames of one exchange in their order, as the writer makes them
or as a store has them, so both come to the same.  It keeps times and counts, and of the
data no more than the few frames in which APIs say what an answer has cost.  Memory is
bounded, however long the stream.

A *content gap* is the time between two frames that say something: what greets, reports
a status or keeps the connection alive does not.  The first is counted from t0, and one
more to the end of a stream that did not say that it was over.  A *stall* is a content
gap of more than `STALL_NS` during which no tool call was open; the view `stalls` of a
store has the same.  A *chunk gap* is the time between two frames of content: text,
reasoning or a piece of a tool call.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from operator import attrgetter, sub
from typing import Any, Final, NamedTuple

from sse_recorder import semconv
from sse_recorder.dialects.base import (
    CONTENT_KINDS,
    Kind,
    count_of,
    member,
    parse_object,
    text_of,
)
from sse_recorder.dialects.conversations import CROSS_REQUEST
from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.tables import EventRun, FrameRow, Rows

STALL_NS: Final = 2_000_000_000
"""A longer silence is a stall, unless a tool is at work."""

GAPS_EXACT_MAX: Final = 65_536
"""So many chunk gaps are kept to the nanosecond; of more, three digits."""

CONTENT_BYTES_MAX: Final = 1 << 20
"""Of the data of frames, where content is wanted."""

NOTICES_MAX: Final = 32
"""Of one stream: the first ones."""

_PARSED_BYTES_MAX: Final = 1 << 20
_ENDS: Final = (Kind.USAGE, Kind.FINISH)
_TEXT, _KEEPALIVE = Kind.TEXT, Kind.KEEPALIVE
_SAYS_NOTHING: Final = (Kind.CONNECTED, Kind.STATUS)


class Gap(NamedTuple):
    """A time in which a stream said nothing."""

    start_ns: int
    end_ns: int
    after: Kind | None
    """What it had said before; None for nothing."""

    @property
    def length_ns(self) -> int:
        """How long it was."""
        return self.end_ns - self.start_ns

    def has_tool_open(self, exchange: Exchange, tool_calls: Iterable[ToolCall]) -> bool:
        """Tell whether a tool was at work all the while."""
        # A stream that ended as it should leaves its open calls to its client.
        is_cut = exchange.finish_reason is None
        return any(
            call.called_ns is not None
            and call.called_ns <= self.start_ns
            and (
                is_cut
                if call.result_ns is None or call.timing == CROSS_REQUEST
                else call.result_ns >= self.end_ns
            )
            for call in tool_calls
        )

    def state(self, exchange: Exchange, tool_calls: Iterable[ToolCall]) -> str:
        """Return what the stream was doing."""
        if self.has_tool_open(exchange, tool_calls):
            return "tool_running"
        first = (
            exchange.first_content_ns or exchange.first_event_ns or exchange.ended_ns
        )
        if self.after is None or self.start_ns < (first or 0):
            return "awaiting_first"
        return "after_tool" if self.after is Kind.TOOL_RESULT else "generating"


class Heard(NamedTuple):
    """A frame whose content is wanted."""

    type: str
    event: str | None
    data: str | bytes


class Notice(NamedTuple):
    """A frame that greets, or reports a status."""

    kind: Kind
    at_ns: int
    code: str | None
    """What it calls itself, if that is a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """What the frames of an exchange say."""

    content_chunks: int = 0
    keepalives: int = 0
    statuses: int = 0
    first_output_ns: int | None = None
    """The first text."""
    completion_ns: int | None = None
    """The last word, where nothing but comments and status came after it."""
    said_ns: int = 0
    """When it last said something; t0 if it never did,"""
    said: Kind | None = None
    """and what."""
    is_stream: bool = False
    """It had at least one event."""
    is_garbled: bool = False
    """It had none, and text that is no event."""
    has_results: bool = False
    """Results of tools were among them."""
    has_finished: bool = False
    """The API said that this was all."""
    has_failed: bool = False
    """The API reported an error, and no content came after it."""
    error_code: str | None = None
    """What it called it, where that is a code that is known."""
    rpc_code: str | None = None
    """The same of JSON-RPC."""
    response_id: str | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    longest: Gap | None = None
    """The longest content gap between two frames,"""
    long_gaps: tuple[Gap, ...] = ()
    """and all that may be stalls."""
    chunk_gaps: Sequence[int] = ()
    """Nanoseconds; one for each chunk of content after the first,"""
    rounded_gaps: Mapping[int, int] = field(default_factory=dict)
    """beside those of which there were too many to keep: how often each length came."""
    heard: tuple[Heard, ...] = ()
    """The frames, where content is wanted; those that are too much are left out."""
    unheard_bytes: int = 0
    """Of those."""
    notices: tuple[Notice, ...] = ()
    """The greetings and reports of status, where they are wanted."""

    def gaps(self, exchange: Exchange) -> list[Gap]:
        """Return the long gaps and the longest, with that before the end."""
        found = [*self.long_gaps, *([self.longest] if self.longest else [])]
        is_over = self.has_finished or self.has_failed or exchange.finish_reason
        # MCP's GET has what the server may want to say, if ever.
        is_listening = exchange.dialect == "mcp" and exchange.method == "GET"
        if not is_over and not is_listening and exchange.ended_ns is not None:
            found.append(Gap(self.said_ns, exchange.ended_ns, self.said))
        return found

    def stalls(self, exchange: Exchange, tool_calls: Sequence[ToolCall]) -> list[Gap]:
        """Return the stalls: long gaps in which no tool was at work."""
        return [
            gap
            for gap in dict.fromkeys(self.gaps(exchange))
            if gap.length_ns > STALL_NS and not gap.has_tool_open(exchange, tool_calls)
        ]


NOTHING_HEARD: Final = StreamFacts()


@dataclass(slots=True)
class _Telling:
    """The first and the last frame of a kind."""

    first: str | bytes
    last: str | bytes


@dataclass(slots=True)
class Listener:
    """Hears the frames of one exchange."""

    keeps_content: bool = False
    keeps_notices: bool = False
    _content_chunks: int = 0
    _keepalives: int = 0
    _statuses: int = 0
    _first_output_ns: int | None = None
    _counted_ns: int = 0
    _counted_kind: Kind | None = None
    _content_ns: int | None = None
    _is_stream: bool = False
    _is_garbled: bool = False
    _has_results: bool = False
    _has_finished: bool = False
    _error: str | bytes | None = None
    _longest: Gap | None = None
    _long: list[Gap] = field(default_factory=list)
    _gaps: array[int] = field(default_factory=lambda: array("q"))
    _rounded: Counter[int] = field(default_factory=Counter)
    _telling: dict[Kind | None, _Telling] = field(default_factory=dict)
    _heard: list[Heard] = field(default_factory=list)
    _heard_bytes: int = 0
    _unheard_bytes: int = 0
    _notices: list[Notice] = field(default_factory=list)

    def hear_rows(self, rows: Rows, frames: int, runs: int) -> None:
        """Hear what was added to rows after so many frames and runs."""
        added: list[FrameRow | EventRun] = [*rows.runs[runs:]]
        added += map(FrameRow._make, rows.frames[frames:])
        # Each has the number of its first frame, which tells their order.
        for one in sorted(added, key=attrgetter("seq")):
            if isinstance(one, EventRun):
                self._hear_run(one)
            else:
                self.hear(one)

    def hear(self, frame: FrameRow) -> None:
        """Hear one frame."""
        if frame.type == "comment" or frame.kind == _KEEPALIVE:
            self._keepalives += 1
            return
        if frame.type not in ("event", "body"):
            self._is_garbled |= frame.size > 0
            return
        data = frame.data if frame.data is not None else frame.raw
        self._is_stream |= frame.type == "event"
        self._hear(frame.type, frame.event, data or "", Kind(frame.kind), frame.last_ns)

    def _hear_run(self, run: EventRun) -> None:
        """Hear successive events; those that are text in a fifth of the time."""
        kinds, count = run.kind, len(run.kind)
        self._is_stream = True
        if self.keeps_content:
            places: Sequence[int] = range(count)
        elif kinds.count(_TEXT) == count:
            places = ()
        else:
            places = [n for n, kind in enumerate(kinds) if kind is not _TEXT]
        start = 0
        for place in places:
            self._hear_texts(run, start, place)
            kind = Kind(kinds[place])
            if kind is _KEEPALIVE:
                self._keepalives += 1
            else:
                event, data = run.event[place], run.data[place]
                self._hear("event", event, data, kind, run.last_ns[place])
            start = place + 1
        self._hear_texts(run, start, count)

    def _hear_texts(self, run: EventRun, start: int, end: int) -> None:
        """Hear the events from one place to another, which are all text."""
        if start == end:
            return
        at_ns = run.last_ns[start:end]
        self._hear("event", run.event[start], run.data[start], _TEXT, at_ns[0])
        if len(at_ns) == 1:
            return
        gaps = array("q", map(sub, at_ns[1:], at_ns))
        self._add_gaps(gaps)
        self._content_chunks += len(gaps)
        self._content_ns = self._counted_ns = at_ns[-1]
        self._telling[None].last = run.data[end - 1]
        longest = self._longest.length_ns if self._longest else -1
        if max(gaps) > min(longest, STALL_NS):
            for began, ended in pairwise(at_ns):
                self._note_gap(Gap(began, ended, _TEXT))

    def _hear(
        self, type_: str, event: str | None, data: str | bytes, kind: Kind, at_ns: int
    ) -> None:
        if self.keeps_content:
            self._keep(Heard(type_, event, data))
        self._note_telling(None, data)
        if kind in _SAYS_NOTHING:
            if self.keeps_notices and len(self._notices) < NOTICES_MAX:
                code = _status_code(event, data) if kind is Kind.STATUS else None
                self._notices.append(Notice(kind, at_ns, code))
            if kind is Kind.CONNECTED:
                self._note_telling(kind, data)
            else:
                self._statuses += 1
            return
        self._note_gap(Gap(self._counted_ns, at_ns, self._counted_kind))
        self._counted_ns, self._counted_kind = at_ns, kind
        if kind in CONTENT_KINDS:
            self._hear_content(kind, at_ns)
        elif kind is Kind.ERROR:
            self._error = data
        elif kind is Kind.TOOL_RESULT:
            self._has_results = True
        elif kind in _ENDS:
            self._has_finished |= kind is Kind.FINISH
            self._note_telling(kind, data)

    def _note_telling(self, kind: Kind | None, data: str | bytes) -> None:
        if telling := self._telling.get(kind):
            telling.last = data
        else:
            self._telling[kind] = _Telling(data, data)

    def _hear_content(self, kind: Kind, at_ns: int) -> None:
        self._error = None  # whatever it was, the answer went on
        self._content_chunks += 1
        if self._content_ns is not None:
            self._add_gaps((at_ns - self._content_ns,))
        self._content_ns = at_ns
        if kind is _TEXT and self._first_output_ns is None:
            self._first_output_ns = at_ns

    def _note_gap(self, gap: Gap) -> None:
        length_ns = gap.length_ns
        if self._longest is None or length_ns > self._longest.length_ns:
            self._longest = gap
        if length_ns > STALL_NS:
            self._long.append(gap)

    def _add_gaps(self, gaps: Iterable[int]) -> None:
        self._gaps.extend(gaps)
        if len(self._gaps) > GAPS_EXACT_MAX:
            self._rounded.update(map(_rounded, self._gaps))
            self._gaps = array("q")

    def _keep(self, frame: Heard) -> None:
        size = len(frame.data)
        if self._heard_bytes + size > CONTENT_BYTES_MAX:
            self._unheard_bytes += size
            return
        self._heard_bytes += size
        self._heard.append(frame)

    def facts(self) -> StreamFacts:
        """Return what was heard so far."""
        told = list(self._told())
        code, rpc_code = _error_code(self._error)
        is_over = self._has_finished and self._counted_kind in _ENDS
        return StreamFacts(
            content_chunks=self._content_chunks,
            keepalives=self._keepalives,
            statuses=self._statuses,
            first_output_ns=self._first_output_ns,
            completion_ns=self._counted_ns if is_over and self._is_stream else None,
            said_ns=self._counted_ns,
            said=self._counted_kind,
            is_stream=self._is_stream,
            is_garbled=self._is_garbled and not self._is_stream,
            has_results=self._has_results,
            has_finished=self._has_finished,
            has_failed=self._error is not None,
            error_code=code,
            rpc_code=rpc_code,
            response_id=next(filter(None, map(_response_id, told)), None),
            cache_read_tokens=_last_count(told, _CACHE_READ),
            cache_write_tokens=_last_count(told, _CACHE_WRITE),
            reasoning_tokens=_last_count(told, _REASONING),
            longest=self._longest,
            long_gaps=tuple(self._long),
            chunk_gaps=list(self._gaps),
            rounded_gaps=dict(self._rounded),
            heard=tuple(self._heard),
            unheard_bytes=self._unheard_bytes,
            notices=tuple(self._notices),
        )

    def _told(self) -> Iterator[dict[str, Any]]:
        """Give the payloads in which APIs say what an answer is and has cost."""
        first, last = self._telling.get(None), self._telling.get(None)
        texts = chain(
            [first.first] if first else [],
            *((one.first, one.last) for kind, one in self._telling.items() if kind),
            [last.last] if last else [],
        )
        for text in texts:
            if len(text) <= _PARSED_BYTES_MAX and (payload := parse_object(text)):
                yield payload


def facts_of(frames: Iterable[FrameRow], *, keeps_content: bool = False) -> StreamFacts:
    """Return what the frames of an exchange say, in their order."""
    listener = Listener(keeps_content)
    for frame in frames:
        listener.hear(frame)
    return listener.facts()


def _rounded(gap_ns: int) -> int:
    """Return three digits of a number: there are not many of those."""
    unit: int = 10 ** max(len(str(gap_ns)) - 3, 0)
    return gap_ns // unit * unit


_HOLDERS: Final = ((), ("message",), ("response",))
_USAGES: Final = (("usage",), ("usageMetadata",), ("x_groq", "usage"))
_CACHE_READ: Final = (
    ("cache_read_input_tokens",),
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("cachedContentTokenCount",),
)
_CACHE_WRITE: Final = (("cache_creation_input_tokens",),)
_REASONING: Final = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("thoughtsTokenCount",),
)
_IDS: Final = (("message", "id"), ("response", "id"), ("responseId",), ("id",))
_CODES: Final = (
    ("error", "code"),
    ("error", "type"),
    ("error", "status"),
    ("response", "error", "code"),
    ("code",),
    ("type",),
)


_STATUSES: Final = (
    ("disposition",),
    ("status", "state"),
    ("result", "status", "state"),
    ("result", "statusUpdate", "status", "state"),
    ("status",),
    ("type",),
)
# Words are few; what has blanks or digits may be anything, content among it.
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z_.-]{0,63}", re.ASCII)


def _status_code(event: str | None, data: str | bytes) -> str | None:
    """Return the word for what a frame reports; its own name where there is none."""
    payload = parse_object(data) if len(data) <= _PARSED_BYTES_MAX else {}
    words = [*(text_of(member(payload, *path)) for path in _STATUSES), event]
    return next((word for word in words if word and _WORD.fullmatch(word)), None)


def _last_count(
    told: list[dict[str, Any]], names: tuple[tuple[str, ...], ...]
) -> int | None:
    """Return the last count that payloads give under one of its names."""
    counts = (
        count_of(member(payload, *holder, *usage, *name))
        for payload in reversed(told)
        for holder in _HOLDERS
        for usage in _USAGES
        for name in names
    )
    return next((count for count in counts if count is not None), None)


def _response_id(payload: dict[str, Any]) -> str | None:
    return next(filter(None, (text_of(member(payload, *path)) for path in _IDS)), None)


def _error_code(data: str | bytes | None) -> tuple[str | None, str | None]:
    """Return what an error calls itself, as far as that is known, and in JSON-RPC."""
    if data is None or len(data) > _PARSED_BYTES_MAX:
        return None, None
    payload = parse_object(data)
    codes = [member(payload, *path) for path in _CODES]
    known = (
        code
        for code in codes
        if isinstance(code, str) and code in semconv.PROVIDER_ERRORS
    )
    rpc = codes[0] if "jsonrpc" in payload else None
    is_code = isinstance(rpc, int) and not isinstance(rpc, bool)
    return next(known, None), str(rpc) if is_code else None
