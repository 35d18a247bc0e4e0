"""Each kind of fault does what it says, exactly where it says it."""

from __future__ import annotations

import json

import pytest
from faults.steps import (
    COMMENT,
    CUTS,
    FIRST,
    MS,
    SECOND,
    SSE,
    STREAM,
    TEXT,
    THIRD,
    body_of,
    disturbed,
    faults,
    ordered,
    sizes,
    timeline,
)
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.exchange import ResponseHead
from sse_recorder.playback import Break, Data, End, Fail, Head, TimedStep
from sse_recorder.sse import Parser


@given(CUTS)
@pytest.mark.parametrize(
    ("place", "passed"),
    [
        ("event:0", b""),
        ("event:1", FIRST),
        ("event:2", FIRST + COMMENT + SECOND),
        ("event:3", STREAM),
        ("bytes:0", b""),
        ("bytes:5", STREAM[:5]),
        (f"bytes:{len(STREAM)}", STREAM),
    ],
)
@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_stream_breaks_at_its_place(
    kind: str, place: str, passed: bytes, places: set[int]
) -> None:
    """All that is before the place comes, and not one byte of what is behind it."""
    steps = disturbed(f"{kind}@{place}", timeline(places))
    assert body_of(steps) == passed
    assert steps[-1][1] == Break(reset=True if kind == "reset" else None)
    assert not any(isinstance(step, End) for _, step in steps)
    assert ordered(steps)


@given(CUTS)
def test_a_stall_makes_everything_behind_it_late(places: set[int]) -> None:
    """The bytes are the same, and what is behind the place comes so much later."""
    before = timeline(places)
    steps = disturbed("stall=2s@bytes:11", before)
    assert body_of(steps) == STREAM
    assert steps[-1] == (before[-1][0] + 2_000 * MS, End(()))
    sent = 0
    for at_ns, step in steps:
        if isinstance(step, Data):
            assert (at_ns > 2_000 * MS) == (sent >= 11)
            sent += len(step.data)
    assert ordered(steps)


def test_a_stall_without_an_end_is_for_ever() -> None:
    """Nothing comes any more, not even the end."""
    steps = disturbed("stall@event:1", timeline(set()))
    assert steps == [(10 * MS, SSE), (20 * MS, Data(FIRST))]


def test_an_error_is_told_as_the_api_tells_it() -> None:
    """An event in its form, behind the place, and then the end."""
    steps = disturbed("error=too busy@event:1", timeline(set()))
    assert [type(step) for _, step in steps] == [Head, Data, Data, End]
    body = body_of(steps)
    assert body.startswith(FIRST + b"event: error\ndata: ")
    error = json.loads(body.rpartition(b"data: ")[2])["error"]
    assert error == {"type": "injected_fault", "message": "too busy"}


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=["lf", "cr", "crlf"])
def test_an_error_is_an_event_wherever_it_comes(end: bytes) -> None:
    """A frame that is open at the place is ended first, whatever ends its lines."""
    body = end.join([b"id: 1", b"data: one", b"", b"data: two", b"", b""])
    for at in range(len(body) + 1):
        sent = body_of(disturbed(f"error=x@bytes:{at}", timeline({9, 20}, body=body)))
        assert sent.startswith(body[:at])
        last = Parser().feed(sent)[-1]
        assert (last.event, last.anomaly) == ("error", None)
        assert last.start + last.size == len(sent)


def test_an_error_before_the_head_has_a_head_of_its_own() -> None:
    """Whoever was not answered by then is answered by the error."""
    steps = disturbed("error@ms:3", timeline())
    assert {at_ns for at_ns, _ in steps} == {3 * MS}
    (_, head), (_, data), (_, end) = steps
    assert isinstance(head, Head)
    assert isinstance(data, Data)
    assert ("Content-Type", "text/event-stream") in head.head.headers
    assert Parser().feed(data.data)[0].event == "error"
    assert end == End(())
    failed: list[TimedStep] = [(30 * MS, Fail(502, "no connection"))]  # type: ignore[arg-type]
    assert disturbed("error@ms:3", failed) == steps


GZIP = Head(ResponseHead(200, "OK", (*SSE.head.headers, ("Content-Encoding", "gzip"))))
NO_CONTENT = Head(ResponseHead(204, "No Content", SSE.head.headers))


@pytest.mark.parametrize("head", [TEXT, GZIP, NO_CONTENT], ids=["text", "gzip", "204"])
@pytest.mark.parametrize("place", ["event:0", "bytes:0", "bytes:5", "ms:25"])
def test_an_error_is_not_put_where_no_event_can_be(head: Head, place: str) -> None:
    """Into text or compressed data nothing is written, and the report says so."""
    before, fault = timeline({4}, head), faults(f"error@{place}")
    assert list(fault.apply(before)) == before
    assert fault.report == [
        f"error@{place}: not done: the body is no event stream, or a compressed one"
    ]


@pytest.mark.parametrize("place", ["event:1", "ms:3"])
def test_the_answer_to_head_has_no_event(place: str) -> None:
    """Its head announces a body that never comes, so an error has no place in it."""
    before, fault = timeline(), faults(f"error@{place}", method="HEAD")
    assert list(fault.apply(before)) == before
    assert "not done: the body is no event stream" in fault.report[0]


@given(CUTS)
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("drop@event:2", FIRST + COMMENT + THIRD),
        ("drop@event:9", STREAM),
        ("duplicate@event:2", FIRST + COMMENT + SECOND + SECOND + THIRD),
        ("duplicate@event:3", STREAM + THIRD),
        ("delay=1s@event:1", STREAM),
    ],
)
def test_one_event_is_meant(fault: str, expected: bytes, places: set[int]) -> None:
    """Comments are no events, and stay; so does everything else."""
    steps = disturbed(fault, timeline(places))
    assert body_of(steps) == expected
    assert ordered(steps)
    assert isinstance(steps[-1][1], End)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("drop@event:2", "dropped event 2 at 20.0 ms"),
        ("duplicate@event:2", "duplicated event 2 at 20.0 ms"),
        ("delay=1s@event:2", "delayed event 2 at 1,020.0 ms"),
    ],
)
def test_what_was_done_to_an_event_is_told(fault: str, told: str) -> None:
    """With the time at which it was; a late event is told of when it leaves."""
    disturbance = faults(fault)
    list(disturbance.apply(timeline()))
    assert disturbance.report == [f"{fault}: {told}"]


def test_the_mark_of_a_stream_is_not_sent_twice() -> None:
    """A duplicate of the first event is an event, too, and not one with a BOM in it."""
    body = b"\xef\xbb\xbf" + FIRST
    steps = disturbed("duplicate@event:1", timeline({2}, body=body))
    assert body_of(steps) == body + FIRST
    again = disturbed("duplicate@event:2", timeline(body=body + body))
    assert body_of(again) == body + body  # a BOM within is no event


def test_what_would_overtake_a_late_event_waits() -> None:
    """The order of events is never changed; later ones are late only for that."""
    steps = disturbed(
        "delay=15ms@event:1", timeline({len(FIRST), len(FIRST + COMMENT)})
    )
    assert [at_ns / MS for at_ns, _ in steps] == [10, 35, 35, 40, 50]


@given(CUTS, st.integers(0, len(STREAM) - 1))
def test_one_bit_of_one_byte_is_corrupt(places: set[int], at: int) -> None:
    """The byte behind N bytes, and no other; the times and sizes are as they were."""
    before = timeline(places)
    steps = disturbed(f"corrupt@bytes:{at}", before)
    changed = [
        n for n, (a, b) in enumerate(zip(body_of(steps), STREAM, strict=True)) if a != b
    ]
    assert changed == [at]
    assert (body_of(steps)[at] ^ STREAM[at]).bit_count() == 1
    assert [at_ns for at_ns, _ in steps] == [at_ns for at_ns, _ in before]
    assert sizes(steps) == sizes(before)


@given(CUTS, st.integers())
def test_a_corrupt_event_is_that_event(places: set[int], seed: int) -> None:
    """One byte of it, drawn from the seed; the chunks are cut as they were."""
    before = timeline(places)
    steps = disturbed("corrupt@event:2", before, seed)
    pairs = enumerate(zip(body_of(steps), STREAM, strict=True))
    (changed,) = [n for n, (a, b) in pairs if a != b]
    assert len(FIRST + COMMENT) <= changed < len(FIRST + COMMENT + SECOND)
    assert sizes(steps) == sizes(before)
    assert steps == disturbed("corrupt@event:2", before, seed)


def test_an_event_that_is_over_too_late_is_not_corrupt() -> None:
    """Its bytes are gone when what comes behind them shows that they were an event."""
    body, fault = b"data: a\r\rdata: b\r\r", faults("corrupt@event:2")
    assert body_of(fault.apply(timeline(body=body))) == body
    why = "only what came behind it showed that it was over"
    assert fault.report == [f"corrupt@event:2: not done: {why}"]


@pytest.mark.parametrize("first", [SSE, TEXT, Fail], ids=["stream", "text", "none"])
def test_a_status_takes_the_place_of_the_answer(first: object) -> None:
    """Whatever the answer was: the status, its headers, JSON, the end, and no more."""
    before: list[TimedStep] = list(timeline({4}))
    if first is Fail:
        before = [(30 * MS, Fail(502, "no connection"))]  # type: ignore[arg-type]
    elif isinstance(first, Head):
        before[0] = (10 * MS, first)
    steps = disturbed("status=429,retry-after=2", before)
    (_, head), (_, data), (_, end) = steps
    assert isinstance(head, Head)
    assert isinstance(data, Data)
    assert (head.head.status, head.head.reason) == (429, "Too Many Requests")
    assert ("Retry-After", "2") in head.head.headers
    assert ("Content-Length", str(len(data.data))) in head.head.headers
    assert json.loads(data.data)["error"]["type"] == "injected_fault"
    assert end == End(())


@pytest.mark.parametrize("status", [400, 520, 529, 599])
def test_a_status_needs_no_name(status: int) -> None:
    """APIs and their front ends answer with codes that no standard names."""
    (_, head), (_, data), _ = disturbed(f"status={status}", timeline())
    assert isinstance(head, Head)
    assert isinstance(data, Data)
    named = {400: "Bad Request"}.get(status, "")
    assert (head.head.status, head.head.reason) == (status, named)
    assert (named or str(status)) in json.loads(data.data)["error"]["message"]


def test_a_late_first_byte_is_late_with_all_behind_it() -> None:
    """The head leaves later, and the gaps are what they were."""
    before = timeline({4})
    steps = disturbed("first-byte=500ms", before)
    assert steps == [(at_ns + 500 * MS, step) for at_ns, step in before]


@given(CUTS)
@pytest.mark.parametrize("way", ["1", "7", "merge", "merge3", "random", "utf8", "crlf"])
def test_other_chunks_have_the_same_bytes(way: str, places: set[int]) -> None:
    """However they are cut, nothing is lost, added or out of order."""
    before = timeline(places)
    steps = disturbed(f"reslice={way}", before)
    assert body_of(steps) == STREAM
    assert ordered(steps)
    assert all(sizes(steps))
    assert steps[-1] == before[-1]
    if way.isdecimal():
        assert max(sizes(steps)) <= int(way)
    if way.startswith("merge"):
        assert len(sizes(steps)) == -(-len(sizes(before)) // int(way[5:] or "2"))


def test_characters_and_line_ends_are_cut_inside() -> None:
    """Each of several bytes is cut once, and between the two bytes of a line end."""
    cuts = [sum(sizes(disturbed("reslice=utf8", timeline(set())))[:n]) for n in (1, 2)]
    assert [STREAM[cut - 1 : cut + 1] for cut in cuts] == [
        "é".encode(),
        "😀".encode()[:2],
    ]
    parts = sizes(disturbed("reslice=crlf", timeline(set(), body=b"data: 1\r\n\r\n")))
    assert parts == [8, 1, 1, 1]
