"""One exchange as a waterfall: lines of text, cut to the width of a terminal.

    time      label           bar on the common axis          note
      11.0  headers         │                               200 OK
     100.0  search            ██████                        ok  200 ms

Nothing here prints: an exchange goes in, and lines come out, of exactly as many cells
as there are.  Moments (the request was sent, the head came) are a mark; runs of text
and tool calls are bars, each call on a line of its own, so calls that ran side by side
show as bars above each other.

    │ a moment   ━ text   ┅ reasoning   ░ a call's arguments   █ a tool at work
    ▒ a tool whose result never came   ─ events of which nothing is known
    ╌ a stall   ▁▂▃▄▅▆▇█ bytes, the more the higher

Rules
-----
1. What was recorded is not trusted: characters that could steer a terminal are shown
   escaped, and text is never read as markup.
2. A run is of frames of one kind with nothing of another kind that has a line here
   between them; status and keep-alives do not interrupt it.  So it is with stalls of
   one state: a stream of rare events has thousands.
3. A bar is at least one cell wide, so that nothing that happened is invisible.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final, NamedTuple

from rich.cells import cell_len, chop_cells, set_cell_size

from sse_recorder.dialects.base import Kind
from sse_recorder.dialects.conversations import CROSS_REQUEST
from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.tables import FrameRow

WIDTH_MIN: Final = 60
"""Narrower than this, bars say nothing any more."""

NO_NAME: Final = "(no name)"
_MS: Final = 1_000_000
_S: Final = 1_000_000_000
_TIME_WIDTH: Final = 10
_GAP: Final = "  "
_SECONDS_FROM: Final = 10 * _S
_MARK: Final = "│"
_LEVELS: Final = "▁▂▃▄▅▆▇█"
# With fewer, their own lines show as much.
_FLOW_FRAMES_MIN: Final = 16
_FLOW_WIDTH: Final = len("at most 99.9 kB/s")
_ELLIPSIS: Final = "…"
_BODY: Final = "body"
_ERROR_CHARACTERS: Final = 80
_WIDE: Final = 100
_KIND_WIDTHS: Final = {False: len("tool_result"), True: len("tool_call_delta")}
_EVENT_WIDTH: Final = len("partial_response")
# What gets bars of its own, by kind: label, glyph and style.
_RUNS: Final[dict[str, tuple[str, str, str]]] = {
    Kind.TEXT: ("text", "━", "green"),
    Kind.REASONING: ("reasoning", "┅", "magenta"),
    Kind.OTHER: ("events", "─", ""),
    _BODY: ("body", "━", "green"),
}
_BREAKS: Final = {
    Kind.TOOL_CALL,
    Kind.TOOL_CALL_DELTA,
    Kind.TOOL_RESULT,
    Kind.ERROR,
    Kind.FINISH,
}
_TOOL_STYLES: Final = {"ok": "cyan", "error": "red"}


class Row(NamedTuple):
    """One line of a waterfall, in four columns that are cut and padded already."""

    time: str
    label: str
    bar: str
    note: str
    style: str = ""
    """How `bar` is coloured, as rich names it."""

    def __str__(self) -> str:
        return _GAP.join(self[:4]).rstrip()


class Line(NamedTuple):
    """One line of text, cut already."""

    text: str
    style: str = ""
    """How it is coloured, as rich names it."""


class Stall(NamedTuple):
    """A silence of a stream, in which no tool was open."""

    begin_ns: int
    end_ns: int
    state: str
    """What was waited for, such as `generating`."""


class _Span(NamedTuple):
    begin_ns: int
    end_ns: int
    glyph: str


class _Event(NamedTuple):
    """What a row will show, before it is known how wide the columns are."""

    begin_ns: int
    label: str
    spans: tuple[_Span, ...]
    note: str
    style: str = ""


class _Run(NamedTuple):
    kind: str
    begin_ns: int
    end_ns: int
    frames: int
    size: int


def heading(exchange: Exchange, width: int) -> list[Line]:
    """Return what is known of an exchange as a whole."""
    e = exchange
    outcome = e.outcome or "open"
    status = " ".join(str(x) for x in (e.status, e.reason) if x)
    took = "" if e.ended_ns is None else duration(e.ended_ns)
    known = [status, outcome, took, e.dialect, e.model]
    started = datetime.fromtimestamp(e.started_at // _S, UTC)
    millisecond = e.started_at % _S // _MS
    when = f"started {started:%Y-%m-%d %H:%M:%S}.{millisecond:03} UTC"
    amounts = [
        f"{_count(e.frame_count, 'frame')} in {_count(e.chunk_count, 'chunk')}",
        size(e.response_size),
        _count(e.tool_call_count, "tool call") if e.tool_call_count else "",
        f"{e.input_tokens:,} tokens in" if e.input_tokens is not None else "",
        f"{e.output_tokens:,} tokens out" if e.output_tokens is not None else "",
        f"finish {e.finish_reason}" if e.finish_reason else "",
    ]
    lines = [
        Line(middle(printable(f"{e.method} {e.url}"), width), "bold"),
        Line(_listed(known, width), "" if outcome in {"complete", "open"} else "red"),
        Line(_listed([e.exchange_id, when], width), "dim"),
        Line(_listed(amounts, width), "dim"),
    ]
    if e.session_id:
        lines.insert(3, Line(_listed([f"session {e.session_id}"], width), "dim"))
    if e.tags:
        tags = [f"{name}={value}" for name, value in e.tags.items()]
        lines.append(Line(_listed(tags, width), "dim"))
    if e.error:
        lines.append(Line(cut(f"error: {printable(e.error)}", width), "red"))
    return lines


def waterfall(
    exchange: Exchange,
    frames: Iterable[FrameRow],
    tool_calls: Sequence[ToolCall],
    width: int,
    stalls: Iterable[Stall] = (),
) -> list[Row]:
    """Return what happened in an exchange, line by line.

    Args:
        exchange: the exchange.
        frames: all of its frames, in their order.
        tool_calls: all of its tool calls.
        width: cells that a line may have; `WIDTH_MIN` at least.
        stalls: its stalls.

    Returns:
        The axis, how much came when if that was in many pieces, then a row for each
        thing that happened in the order in which it began, and the end last.
    """
    flow = _Flow()
    runs, last_ns = _runs(flow.of(frames))
    times = [exchange.sent_ns, exchange.headers_ns, exchange.ended_ns, last_ns]
    end_ns = max((t for t in times if t is not None), default=0)
    events = [*_moments(exchange), *runs]
    events += [_tool(call, end_ns) for call in tool_calls]
    events += _stalls(stalls, [event.begin_ns for event in events])
    events.sort(key=lambda event: event.begin_ns)
    events.append(_end(exchange, end_ns))
    label_width = min(max(len("first content"), _widest(events, 1)), width // 4)
    notes_width = max(_widest(events, 3), _FLOW_WIDTH if flow.is_worth_a_line else 0)
    note_width = min(notes_width, width // 4)
    bar_width = max(width, WIDTH_MIN) - _TIME_WIDTH - label_width - note_width
    scale = _Scale(end_ns, bar_width - 3 * len(_GAP))
    above = [(scale.unit, "", scale.axis(), "")]
    if flow.is_worth_a_line:
        above.append(("", "bytes", *flow.line(scale)))
    rows = [
        Row(
            time.rjust(_TIME_WIDTH),
            _fitted(label, label_width),
            bar,
            _fitted(note, note_width),
            "dim",
        )
        for time, label, bar, note in above
    ]
    rows += [
        Row(
            scale.time(event.begin_ns).rjust(_TIME_WIDTH),
            _fitted(event.label, label_width),
            scale.bar(event.spans),
            _fitted(event.note, note_width),
            event.style,
        )
        for event in events
    ]
    return rows


def frame_lines(frames: Iterable[FrameRow], width: int) -> Iterator[Line]:
    """Give a line for each frame: number, time, kind, event, size and its beginning."""
    kinds, events = _KIND_WIDTHS[width >= _WIDE], _EVENT_WIDTH
    head = (
        f"{'seq':>5}{'ms':>12}  {'kind':<{kinds}} {'event':<{events}} {'size':>7}  data"
    )
    yield Line(cut(head, width), "bold")
    for f in frames:
        # A comment has no data; what it is can be seen in its bytes.
        start = (
            f.data if f.data is not None else (f.raw or b"")[:width].decode("latin-1")
        )
        event = _fitted(printable(f.event or f"({f.type})"), events)
        anomaly = f"[{printable(f.anomaly)}] " if f.anomaly else ""
        text = (
            f"{f.seq:>5}{f.last_ns / _MS:>12,.3f}  {_fitted(f.kind, kinds)} {event}"
            f" {size(f.size):>7}  {anomaly}{printable(start[:width])}"
        )
        yield Line(cut(text, width), "yellow" if f.anomaly else "")


def duration(ns: int) -> str:
    """Return a duration as people say it, in three or four digits."""
    if ns < _S:
        ms = ns / _MS
        return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"  # noqa: PLR2004
    if ns < 60 * _S:
        return f"{ns / _S:.2f} s"
    minutes, seconds = divmod(round(ns / _S), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {seconds:02} s"


def size(count: int) -> str:
    """Return a number of bytes as people say it."""
    value, units = float(count), ["B", "kB", "MB", "GB"]
    while value >= 999.5 and len(units) > 1:  # noqa: PLR2004 - it would round to 1000
        value /= 1000
        units.pop(0)
    digits = 0 if units[0] == "B" or value >= 99.5 else 1  # noqa: PLR2004
    return f"{value:.{digits}f} {units[0]}"


def printable(text: str) -> str:
    """Return text with what could steer a terminal escaped, as Python writes it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(text: str, width: int) -> str:
    """Return text in at most so many cells, with an ellipsis where its end was."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 0)).rstrip() + _ELLIPSIS[:width]


def middle(text: str, width: int) -> str:
    """Return text in at most so many cells, with an ellipsis where its middle was."""
    if cell_len(text) <= width:
        return text
    tail = chop_cells(text[::-1], max((width - 1) // 2, 1))[0][::-1]
    return cut(text, width - cell_len(tail)) + tail


def _fitted(text: str, width: int) -> str:
    return set_cell_size(cut(text, width), width)


class _Scale:
    """The common axis: nanoseconds to cells."""

    def __init__(self, end_ns: int, width: int) -> None:
        self.width = width
        self._end_ns = max(end_ns, 1)
        self._unit_ns, self.unit = (_S, "s") if end_ns >= _SECONDS_FROM else (_MS, "ms")

    def time(self, ns: int) -> str:
        """Return a moment in the axis' unit."""
        digits = 3 if self._unit_ns == _S or self._end_ns < 100 * _MS else 1
        return f"{ns / self._unit_ns:,.{digits}f}"

    @property
    def cell_s(self) -> float:
        """How much time a cell stands for, in seconds."""
        return self._end_ns / self.width / _S

    def cell(self, ns: int) -> int:
        """Return the number of the cell in which a moment is."""
        return min(ns * self.width // self._end_ns, self.width - 1)

    def axis(self) -> str:
        """Return round times, each where it is."""
        end = self._end_ns / self._unit_ns
        per_cell = end / self.width
        step, digits = _step(end, self.width)
        text = ""
        for number in range(self.width):
            at = round(number * step / per_cell)
            label = f"{number * step:,.{digits}f}"
            if at + len(label) > self.width:
                break
            text = text.ljust(at) + label
        return text.ljust(self.width)

    def bar(self, spans: Iterable[_Span]) -> str:
        """Return a line with spans on it, later ones over earlier ones."""
        cells = [" "] * self.width
        for begin_ns, end_ns, glyph in spans:
            begin = self.cell(begin_ns)
            end = min(-(-end_ns * self.width // self._end_ns), self.width)
            cells[begin : max(end, begin + 1)] = glyph * max(end - begin, 1)
        return "".join(cells)


class _Flow:
    """How much came when."""

    def __init__(self) -> None:
        self._at_ns = array("q")
        self._sizes = array("q")

    def of(self, frames: Iterable[FrameRow]) -> Iterator[FrameRow]:
        """Give frames back one by one, and note what each brought."""
        for frame in frames:
            self._at_ns.append(frame.last_ns)
            self._sizes.append(frame.size)
            yield frame

    @property
    def is_worth_a_line(self) -> bool:
        """Whether it came in many pieces, and not all of them at once."""
        at_ns = self._at_ns
        return len(at_ns) >= _FLOW_FRAMES_MIN and at_ns[0] < at_ns[-1]

    def line(self, scale: _Scale) -> tuple[str, str]:
        """Return a line of the axis, and how much its highest cell stands for."""
        cells = [0] * scale.width
        for at_ns, size_ in zip(self._at_ns, self._sizes, strict=True):
            cells[scale.cell(at_ns)] += size_
        most = max(cells)
        top = len(_LEVELS) - 1
        bar = "".join(_LEVELS[round(top * n / most)] if n else " " for n in cells)
        return bar, f"at most {size(round(most / scale.cell_s))}/s"


def _step(end: float, width: int) -> tuple[float, int]:
    """Return the least round step whose labels stand apart, and their digits."""
    power = math.floor(math.log10(end / width))
    while True:
        digits = max(0, -power)
        room = len(f"{end:,.{digits}f} ")
        for factor in (1, 2, 5):
            step = factor * 10.0**power
            if step * width >= end * room:
                return step, digits
        power += 1


def _moments(exchange: Exchange) -> Iterator[_Event]:
    e = exchange
    for at_ns, label, note in (
        (e.sent_ns, "request sent", size(e.request_body_size)),
        (e.headers_ns, "headers", f"{e.status} {printable(e.reason or '')}"),
        (e.first_event_ns, "first event", ""),
        (e.first_content_ns, "first content", ""),
    ):
        if at_ns is not None:
            yield _Event(at_ns, label, (_Span(at_ns, at_ns, _MARK),), note)


def _runs(frames: Iterable[FrameRow]) -> tuple[list[_Event], int | None]:
    """Return the runs among frames, and when the last frame was over."""
    events: list[_Event] = []
    run: _Run | None = None
    last_ns: int | None = None
    for frame in frames:
        last_ns = frame.last_ns
        kind = _BODY if frame.type == _BODY else frame.kind
        if run is not None and run.kind == kind:
            run = run._replace(
                end_ns=last_ns, frames=run.frames + 1, size=run.size + frame.size
            )
        elif kind in _RUNS:
            events += _closed(run)
            begin_ns = frame.first_ns if kind == _BODY else last_ns
            run = _Run(kind, begin_ns, last_ns, 1, frame.size)
        elif kind in _BREAKS:
            events += _closed(run)
            run = None
            if kind == Kind.ERROR:
                span = _Span(last_ns, last_ns, _MARK)
                note = printable((frame.data or "")[:_ERROR_CHARACTERS])
                events.append(_Event(last_ns, "error", (span,), note, "red"))
    return [*events, *_closed(run)], last_ns


def _closed(run: _Run | None) -> Iterator[_Event]:
    if run is not None:
        label, glyph, style = _RUNS[run.kind]
        span = _Span(run.begin_ns, run.end_ns, glyph)
        took = f", {duration(run.end_ns - run.begin_ns)}" if run.frames > 1 else ""
        note = _count(run.frames, "frame") + took
        if run.kind == _BODY:
            note = size(run.size)
        yield _Event(run.begin_ns, label, (span,), note, style)


def _tool(call: ToolCall, end_ns: int) -> _Event:
    label = printable(call.tool_name or f"{NO_NAME} {call.tool_id or ''}".rstrip())
    style = _TOOL_STYLES.get(call.status, "yellow")
    known = (call.first_ns, call.called_ns, call.result_ns, end_ns)
    begin_ns = next(t for t in known if t is not None)
    if call.status == "unmatched":
        span = _Span(begin_ns, begin_ns, _MARK)
        return _Event(begin_ns, label, (span,), call.status, style)
    called_ns = begin_ns if call.called_ns is None else call.called_ns
    spans = [_Span(begin_ns, called_ns, "░")] if called_ns > begin_ns else []
    is_elsewhere = call.timing == CROSS_REQUEST
    if call.result_ns is None or is_elsewhere:
        spans.append(_Span(called_ns, end_ns, "▒"))
    else:
        spans.append(_Span(called_ns, call.result_ns, "█"))
    took = "" if call.duration_ns is None else f", {duration(call.duration_ns)}"
    if is_elsewhere and took:  # the client's turnaround
        took = took.replace(",", ", client", 1)
    return _Event(begin_ns, label, tuple(spans), call.status + took, style)


def _stalls(stalls: Iterable[Stall], begins: Iterable[int]) -> Iterator[_Event]:
    """Give stalls, as one where they have one state and nothing else began between."""
    begins = sorted(begins)
    for (_, state), group in groupby(
        sorted(stalls), key=lambda one: (bisect_right(begins, one.begin_ns), one.state)
    ):
        spans = tuple(_Span(one.begin_ns, one.end_ns, "╌") for one in group)
        took = duration(sum(span.end_ns - span.begin_ns for span in spans))
        count = "stall" if len(spans) == 1 else _count(len(spans), "stall")
        yield _Event(spans[0].begin_ns, state, spans, f"{count}, {took}", "yellow")


def _end(exchange: Exchange, end_ns: int) -> _Event:
    span = _Span(end_ns, end_ns, _MARK)
    if exchange.outcome is None:
        return _Event(end_ns, "so far", (span,), "open", "yellow")
    style = "" if exchange.outcome == "complete" else "red"
    return _Event(end_ns, "end", (span,), exchange.outcome, style)


def _widest(events: Iterable[_Event], column: int) -> int:
    return max(cell_len(str(event[column])) for event in events)


def _listed(parts: Iterable[str | None], width: int) -> str:
    return cut(" · ".join(printable(part) for part in parts if part), width)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
