"""The waterfall of an exchange, line by line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len
from samples import (
    MS,
    Event,
    called,
    chat_exchange,
    event,
    exchange_id,
    finished,
    meibel_exchange,
    returned,
    rows_of,
    said,
)

from sse_recorder.cli.waterfall import (
    Row,
    Stall,
    cut,
    duration,
    frame_lines,
    heading,
    middle,
    printable,
    size,
    waterfall,
)
from sse_recorder.exchange import Exchange, Outcome, Record, ToolCall
from sse_recorder.tables import FrameRow


def read(records: list[Record]) -> tuple[Exchange, list[FrameRow], list[ToolCall]]:
    """Return what a store says of an exchange."""
    transcript, rows = rows_of(records)
    frames = [FrameRow(*row) for row in rows.frames]
    return transcript.exchange(), frames, transcript.tool_calls


def draw(records: list[Record], width: int = 80) -> list[str]:
    """Return the lines of an exchange's waterfall."""
    return [str(row) for row in waterfall(*read(records), width)]


def frame(seq: int, kind: str, at_ms: int, type_: str = "event") -> FrameRow:
    """Return a frame of any kind."""
    at_ns, eid = at_ms * MS, exchange_id(1)
    raw = b"x" if type_ == "body" else None
    return FrameRow(
        eid, seq, at_ns, at_ns, 600, type_, None, None, None, "x", "", raw, kind, None
    )


def labels(rows: list[Row]) -> list[str]:
    """Return what each row is about, without the axis."""
    return [row.label.strip() for row in rows[1:]]


def bars(frames: list[FrameRow], calls: list[ToolCall]) -> list[tuple[str, str, str]]:
    """Return label, bar and note of what happens between the first and the last row."""
    exchange, _, _ = read(meibel_exchange())
    rows = waterfall(
        replace(exchange, sent_ns=None, headers_ns=None), frames, calls, 80
    )
    return [
        (row.label.strip(), row.bar.strip(), row.note.strip()) for row in rows[1:-1]
    ]


def test_an_exchange_reads_from_top_to_bottom() -> None:
    """Moments, runs of text and tool calls stand where they began, on one axis."""
    records = meibel_exchange(
        [
            event(20, "connected", {"signal_id": "s"}),
            *(said(100 + 25 * n, "w" * (n + 1)) for n in range(5)),
            event(210, "status", {"content": "still there"}),
            called(300, "a", "search"),
            called(310, "b", "fetch"),
            returned(550, "b", {"error": "boom"}),
            returned(600, "a"),
            called(620, "c", "slow"),
            returned(630, "lost"),
            said(800, "wwwwww"),
            finished(960),
        ]
    )
    expected = """\
        ms                  0      200    400   600    800
       1.0  request sent    │                                   19 B
      10.0  headers         │                                   200 OK
      20.0  first event     │
     100.0  first content      │
     100.0  text               ━━━━                             5 frames, 100 ms
     300.0  search                    ███████████               ok, 300 ms
     310.0  fetch                     █████████                 error, 240 ms
     620.0  slow                                 ▒▒▒▒▒▒▒▒▒▒▒▒▒  unanswered
     630.0  (no name) lost                       │              unmatched
     800.0  text                                       ━        1 frame
   1,000.0  end                                              │  complete"""
    assert draw(records) == expected.split("\n")


@pytest.mark.parametrize("width", [60, 80, 81, 120, 200])
@pytest.mark.parametrize("ended_ms", [0.01, 9, 99, 1234, 65_000, 7_200_000])
def test_no_line_is_wider_than_asked(width: int, ended_ms: float) -> None:
    """Whatever the names and the times, a line fits the terminal."""
    records = meibel_exchange(
        [
            called(ended_ms / 2, "a", "a very long name for a tool " * 4),
            called(ended_ms / 2, "b", "\N{CJK UNIFIED IDEOGRAPH-6F22}" * 40),
            event(ended_ms / 2, "error", {"message": "x" * 200}),
        ],
        ended_ms=ended_ms,
        path="/v2/sessions/" + "0193a0c4-" * 12 + "/chat/stream",
        error="e" * 300,
    )
    exchange, frames, calls = read(records)
    rows = waterfall(exchange, frames, calls, width)
    assert {cell_len("  ".join(row[:4])) for row in rows} == {width}
    lines = [*heading(exchange, width), *frame_lines(frames, width)]
    assert max(cell_len(line.text) for line in lines) <= width


def test_a_bar_is_as_wide_as_its_time() -> None:
    """Half of the time is half of the axis, and calls side by side start together."""
    records = meibel_exchange(
        [called(500, "a", "one"), called(500, "b", "two"), returned(1000, "a")],
        ended_ms=1000,
    )
    rows = {row.label.strip(): row.bar for row in waterfall(*read(records), 100)}
    width = len(rows["one"])
    assert rows["one"].count("█") == width - width // 2
    assert rows["one"].index("█") == rows["two"].index("▒") == width // 2


def test_arguments_that_come_in_pieces_are_told_from_the_tools_time() -> None:
    """Before a tool could run its bar is light."""
    call = ToolCall(
        exchange_id=exchange_id(1),
        seq=0,
        tool_id="a",
        tool_name="search",
        status="ok",
        timing="wire_bracket",
        first_ns=250 * MS,
        called_ns=500 * MS,
        result_ns=1000 * MS,
        duration_ns=500 * MS,
    )
    label, bar, note = bars([frame(0, "usage", 1000)], [call])[0]
    assert (label, note) == ("search", "ok, 500 ms")
    assert bar == "░" * bar.count("░") + "█" * bar.count("█")
    assert bar.count("█") == pytest.approx(2 * bar.count("░"), abs=2)


def test_a_call_that_was_never_complete_runs_to_the_end() -> None:
    """A call that only began has a bar, too."""
    call = ToolCall(
        exchange_id=exchange_id(1),
        seq=0,
        tool_id="a",
        tool_name=None,
        status="unanswered",
        timing="wire_bracket",
        first_ns=500 * MS,
    )
    label, bar, note = bars([], [call])[0]
    assert (label, set(bar), note) == ("(no name) a", {"▒"}, "unanswered")


def test_runs_are_of_one_kind() -> None:
    """A run ends where another kind with a line of its own begins, and only there."""
    kinds = [
        *("reasoning", "keepalive", "reasoning", "status", "text", "usage", "text"),
        *("tool_call", "text", "error", "other", "other", "from the future"),
    ]
    frames = [frame(n, kind, 100 + 10 * n) for n, kind in enumerate(kinds)]
    assert [(label, note) for label, _, note in bars(frames, [])] == [
        ("reasoning", "2 frames, 20 ms"),
        ("text", "2 frames, 20 ms"),
        ("text", "1 frame"),
        ("error", "x"),
        ("events", "2 frames, 10 ms"),
    ]


def test_a_body_is_one_bar() -> None:
    """A long body is kept in several frames, and shown as one."""
    frames = [frame(n, "other", 100 + n, "body") for n in range(2)]
    assert bars(frames, []) == [("body", "━", "1.2 kB")]


def test_an_open_exchange_is_shown_so_far() -> None:
    """While an exchange goes on its last row is its latest frame."""
    records = meibel_exchange([said(40, "Hi")], ended_ms=None)
    rows = waterfall(*read(records), 80)
    assert labels(rows)[-1] == "so far"
    assert (rows[-1].time.strip(), rows[-1].note.strip()) == ("40.000", "open")
    assert "open" in heading(read(records)[0], 80)[1].text


def test_an_exchange_without_an_answer_has_an_end() -> None:
    """Where nothing else is known, there is still the end."""
    records = meibel_exchange(
        ended_ms=0, outcome=Outcome.UPSTREAM_ERROR, error="refused"
    )
    exchange = replace(read(records)[0], sent_ns=None, headers_ns=None)
    rows = waterfall(exchange, [], [], 80)
    assert labels(rows) == ["end"]
    assert rows[-1].style == "red"
    assert heading(exchange, 80)[-1] == ("error: refused", "red")


def test_the_heading_says_what_was_asked_and_what_came() -> None:
    """Request, answer, id, time and amounts; each only where it is known."""
    exchange, _, _ = read(meibel_exchange([called(9, "a", "b"), finished(20)]))
    exchange = replace(exchange, model="m", input_tokens=0)
    assert [line.text for line in heading(exchange, 80)] == [
        "POST https://api.meibel.ai/v2/sessions/0193a0c4/chat/stream",
        "200 OK · complete · 1.00 s · meibel · m",
        "01936a3e-8c00-7abc-9def-000000000001 · started 2026-11-23 10:15:30.123 UTC",
        "session 0193a0c4",
        "2 frames in 2 chunks · 150 B · 1 tool call · 0 tokens in · finish stop",
    ]


def test_frames_are_listed_with_their_beginning() -> None:
    """Each frame has a line; one that dispatches nothing is named by its type."""
    exchange, frames, _ = read(
        meibel_exchange([said(12.5, "Hi"), Event(14, None, "x")])
    )
    assert exchange.frame_count == 2
    comment = frames[1]._replace(
        type="comment", data=None, raw=b": ping\n\n", kind="keepalive", anomaly="bom"
    )
    lines = list(frame_lines([frames[0], comment], 80))
    listed = """\
  seq          ms  kind        event               size  data
    0      12.500  text        partial_response    59 B  {"data": {"message": "…
    1      14.000  keepalive   (comment)            9 B  [bom] : ping\\n\\n"""
    assert [line.text for line in lines] == listed.split("\n")
    assert lines[2].style == "yellow"


def test_recorded_text_cannot_steer_the_terminal() -> None:
    """Escapes, line breaks and marks that turn text around are shown, not obeyed."""
    evil = "\x1b[31m\r\n\u202e\x9b\x00"
    shown = r"\x1b[31m\r\n\u202e\x9b\x00"
    assert printable(evil) == shown
    records = meibel_exchange(
        [
            called(20, "a", evil),
            event(30, evil, {}),
            event(40, "error", {"message": "x"}),
        ],
        error=evil,
    )
    exchange, frames, calls = read(records)
    exchange = replace(
        exchange, url=evil, reason=evil, model=evil, session_id=evil, finish_reason=evil
    )
    text = "".join(
        [
            *(line.text for line in heading(exchange, 200)),
            *(line.text for line in frame_lines(frames, 200)),
            *map(str, waterfall(exchange, frames, calls, 200)),
        ]
    )
    assert text.isprintable()


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ms"),
        (1_234, "0.00123 ms"),
        (1_234_567, "1.23 ms"),
        (99_400_000, "99.4 ms"),
        (999_000_000, "999 ms"),
        (1_234_567_890, "1.23 s"),
        (59_990_000_000, "59.99 s"),
        (60_000_000_000, "1 m 00 s"),
        (3_599_600_000_000, "1 h 00 m"),
        (7_260_000_000_000, "2 h 01 m"),
    ],
)
def test_durations_read_as_people_say_them(ns: int, text: str) -> None:
    """A duration has the unit in which its number is short."""
    assert duration(ns) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_499, "99.5 kB"),
        (99_500, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (12_345_678_901_234, "12346 GB"),
    ],
)
def test_sizes_read_as_people_say_them(count: int, text: str) -> None:
    """A size has the unit in which its number is short."""
    assert size(count) == text


def test_what_does_not_fit_says_so() -> None:
    """An ellipsis stands where text was left out, and counts as part of the width."""
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcdef", 1) == "…"
    assert cut("abcdef", 0) == ""
    assert cut("\u6f22\u6f22\u6f22", 4) == "\u6f22…"
    assert middle("/v2/sessions/one/chat", 30) == "/v2/sessions/one/chat"
    assert middle("/v2/sessions/one/chat", 12) == "/v2/se…/chat"


def test_a_call_that_the_client_answered_goes_on_after_the_end() -> None:
    """Its note has the turnaround, and its bar ends with the exchange."""
    exchange, frames, (call, *_) = read(chat_exchange(1, calls=["c1"]))
    ended = replace(
        call,
        status="ok",
        timing="cross_request",
        result_ns=2_050 * MS,
        duration_ns=2_000 * MS,
    )
    open_, answered = (
        next(
            row
            for row in waterfall(exchange, frames, [one], 80)
            if "search" in row.label
        )
        for one in (call, ended)
    )
    assert (open_.note.strip(), answered.note.strip()) == (
        "unanswered",
        "ok, client 2.00 s",
    )
    assert set(answered.bar.strip()) == set(open_.bar.strip()) == {"▒"}


def test_a_stream_of_many_pieces_shows_how_much_came_when() -> None:
    """A cell is as high as the bytes that came in its time; it is empty without any."""
    # A frame each millisecond, then two each, then none for 100 ms.
    events = [said(n, "x") for n in range(1, 301)]
    events += [said(300 + n / 2, "x") for n in range(1, 601)]
    rows = waterfall(*read(meibel_exchange(events, ended_ms=700)), 100)
    [flow] = [row for row in rows if row.label.strip() == "bytes"]
    assert rows.index(flow) == 1
    width = len(flow.bar)
    first, second = flow.bar[: width * 3 // 7], flow.bar[width * 3 // 7 + 1 :].rstrip()
    assert set(first[1:-1]) <= set("▂▃▄▅")
    assert set(second[:-1]) <= set("▆▇█")
    assert len(flow.bar.rstrip()) == pytest.approx(width * 6 / 7, abs=1)
    rate = 2000 * len('event: partial_response\ndata: {"data": {"message": "x"}}\n\n')
    told = float(flow.note.removeprefix("at most ").split()[0]) * 1000
    assert told == pytest.approx(rate, rel=0.3)
    assert "bytes" not in labels(waterfall(*read(meibel_exchange(events[:15])), 100))


def test_what_came_at_once_has_no_rate() -> None:
    """An imported recording may have no times; a rate of it would be made up."""
    events = [said(0, "a" * n) for n in range(1, 30)]
    records = meibel_exchange(events, sent_ms=0, headers_ms=0, ended_ms=0)
    assert "bytes" not in labels(waterfall(*read(records), 100))


def test_a_rate_has_room_beside_short_notes() -> None:
    """It is no use without its unit."""
    delta = '{"index":0,"function":{"arguments":"1"}}'
    data = f'{{"choices":[{{"index":0,"delta":{{"tool_calls":[{delta}]}}}}]}}'
    events = [Event(10 * n, None, data) for n in range(1, 30)]
    records = meibel_exchange(events, path="/v1/chat/completions")
    [flow] = [r for r in waterfall(*read(records), 80) if r.label.strip() == "bytes"]
    assert flow.note.rstrip().endswith("/s")


def test_a_stall_is_a_line_of_its_own() -> None:
    """It says what was waited for, and how long."""
    exchange, frames, calls = read(meibel_exchange([said(100, "x")], ended_ms=5000))
    stall = Stall(100 * MS, 5000 * MS, "generating")
    rows = waterfall(exchange, frames, calls, 80, [stall])
    assert labels(rows)[-3:] == ["text", "generating", "end"]
    assert rows[-2].note.strip() == "stall, 4.90 s"
    assert rows[-2].bar.count("╌") >= len(rows[-2].bar) - 2


def test_stalls_with_nothing_between_them_are_one_line() -> None:
    """A stream of rare events does not fill the screen with its silences."""
    events = [event(3000 * n, "other", {}) for n in range(1, 1001)]
    events += [called(3_000_001, "t", "search"), returned(3_000_002, "t")]
    exchange, frames, calls = read(meibel_exchange(events, ended_ms=3_009_002))
    stalls = [
        Stall(3000 * n * MS, 3000 * (n + 1) * MS, "awaiting_first") for n in range(90)
    ]
    stalls.append(Stall(3_000_002 * MS, 3_009_002 * MS, "generating"))
    rows = waterfall(exchange, frames, calls, 80, reversed(stalls))
    told = [
        (row.label.strip(), row.note.strip()) for row in rows if "stall" in row.note
    ]
    assert told == [
        ("awaiting_first", "stall, 3.00 s"),  # before the first event
        ("awaiting_first", "89 stalls, 4 m 27 s"),
        ("generating", "stall, 9.00 s"),
    ]
