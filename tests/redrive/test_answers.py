"""What of a live answer differs from a recording that its client left."""

from __future__ import annotations

from typing import Any

import pytest
from samples import (
    Event,
    called,
    event,
    finished,
    meibel_exchange,
    returned,
    rows_of,
    said,
)

from sse_recorder.diff import Recorded, Rules, compare, tolerance
from sse_recorder.exchange import REST_RECORDED, WITHOUT_CLIENT, Op, Outcome, Record
from sse_recorder.redrive.answers import compare_answer
from sse_recorder.tables import FrameRow

ALL = [
    event(10, "status", {"content": "a"}),
    said(20, "Hel"),
    said(30, "lo"),
    called(40, "1", "search", q="x"),
    called(50, "2", "book", nights=2),
    returned(60, "2", {"error": "no"}),
    returned(70, "1", "done"),
    said(80, ", you"),
    finished(90),
]
LEFT = Outcome.CLIENT_ABORT


def recorded(records: list[Record]) -> Recorded:
    """Return an exchange as a store would give it."""
    transcript, rows = rows_of(records)
    frames = [FrameRow(*row) for row in rows.frames]
    calls = sorted(transcript.tool_calls, key=lambda call: call.seq)
    return Recorded(transcript.exchange(), frames, calls)


def chat(*events: Event, **options: Any) -> Recorded:
    """Return a chat whose stream says some events."""
    return recorded(meibel_exchange(events, **options))


def told(left: Recorded, right: Recorded, rules: Rules | None = None) -> list[str]:
    """Return where they differ, and how."""
    place = ("exchange", 3)
    found = compare_answer(left, right, rules or Rules(), place)
    assert all(divergence.path[:2] == place for divergence in found)
    return [f"{d.where.removeprefix('exchange[3].')} {d.kind}" for d in found]


@pytest.mark.parametrize("count", range(len(ALL)))
def test_what_comes_after_the_client_had_left_is_no_difference(count: int) -> None:
    """Wherever it left: between two events, in a text, while tools ran."""
    left = chat(*ALL[:count], outcome=LEFT, ended_ms=95)
    rules = Rules(timing=tolerance("10%"))
    assert told(left, chat(*ALL), rules) == []
    assert compare(left, chat(*ALL), rules) != []


def test_what_was_cut_says_nothing() -> None:
    """Half a frame, half a body, or no head at all."""
    records = meibel_exchange(ALL[:2], outcome=LEFT)
    half = records[-2]._replace(at_ns=records[-2].at_ns + 1, payload=b"event: par")
    assert told(recorded([*records[:-1], half, records[-1]]), chat(*ALL)) == []
    headless = [r for r in records if r.op not in {Op.HEAD, Op.DATA}]
    assert told(recorded(headless), chat(*ALL)) == []


@pytest.mark.parametrize(
    ("events", "where"),
    [
        (
            [event(10, "status", {"content": "b"}), *ALL[1:]],
            "events[0].content changed",
        ),
        ([ALL[0], said(20, "Hallo"), *ALL[3:]], "text changed"),
        ([ALL[0], ALL[0], *ALL[1:]], "events[0] added"),
        (ALL[1:], "events[0] missing"),
        (ALL[:3], "tool_calls[0] missing"),
        (
            [*ALL[:3], called(40, "1", "search", q="y")],
            "tool_calls[0].arguments.q changed",
        ),
    ],
)
def test_what_was_recorded_has_to_be_there_again(
    events: list[Event], where: str
) -> None:
    """It is compared as any recording is."""
    assert where in told(chat(*ALL[:4], outcome=LEFT), chat(*events))


def test_a_result_that_was_recorded_is_compared() -> None:
    """Of the two calls, the other one was open when the client left."""
    right = [*ALL[:5], returned(60, "2", "booked"), *ALL[6:]]
    found = told(chat(*ALL[:6], outcome=LEFT), chat(*right))
    assert found == ["tool_calls[1].result changed", "tool_calls[1].status changed"]


def test_an_answer_that_fails_today_differs() -> None:
    """Only what was unknown is no difference: that today's server breaks is known."""
    left = chat(*ALL[:2], outcome=LEFT)
    right = chat(*ALL[:3], outcome=Outcome.UPSTREAM_ABORT, error="eof: it ended")
    assert told(left, right) == ["outcome changed"]


def test_where_the_rest_was_recorded_all_of_it_is_compared() -> None:
    """But for the outcome, which is the client's."""
    whole = chat(*ALL, outcome=LEFT, error=REST_RECORDED)
    assert told(whole, chat(*ALL)) == []
    assert told(whole, chat(*ALL[:-1], said(99, "!"), ALL[-1])) == ["text changed"]
    broken = chat(*ALL[:2], outcome=LEFT, error=f"{WITHOUT_CLIENT}then: eof: it ended")
    aborted = chat(*ALL[:2], outcome=Outcome.UPSTREAM_ABORT, error="eof: it ended")
    assert told(broken, aborted) == []
    assert told(broken, chat(*ALL[:2])) == ["outcome changed"]


def test_any_other_recording_is_compared_whole() -> None:
    """What a server did belongs to its answer."""
    left = chat(*ALL[:2], outcome=Outcome.UPSTREAM_ABORT, error="eof: it ended")
    assert "outcome changed" in told(left, chat(*ALL))
    assert "text changed" in told(left, chat(*ALL))
