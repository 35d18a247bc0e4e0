"""Faults do what they say, exactly where they say it, however the stream is cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import pieces

from sse_recorder.errors import UsageError
from sse_recorder.exchange import ResponseHead
from sse_recorder.faults import KINDS, Disturbance, Tick, duration_ns, parse
from sse_recorder.playback import Break, Data, End, Fail, Head, TimedStep, Timeline

MS = 1_000_000
SSE = Head(ResponseHead(200, "OK", (("Content-Type", "text/event-stream"),)))
TEXT = Head(ResponseHead(200, "OK", (("Content-Type", "text/plain"),)))
FIRST, COMMENT = b"data: one\n\n", b": ping\n\n"
SECOND, THIRD = "event: e\ndata: né 😀\n\n".encode(), b"data: three\r\n\r\n"
STREAM = FIRST + COMMENT + SECOND + THIRD
CUTS = st.sets(st.integers(1, len(STREAM) - 1))


def timeline(places: set[int], head: Head = SSE, body: bytes = STREAM) -> Timeline:
    """Return a response that is cut at some places, a chunk each 10 ms."""
    chunks = enumerate(pieces(body, places), start=2)
    data: list[TimedStep] = [(n * 10 * MS, Data(chunk)) for n, chunk in chunks]
    return [(10 * MS, head), *data, ((len(data) + 2) * 10 * MS, End(()))]


def disturbed(text: str, steps: Timeline, seed: int = 7) -> list[TimedStep]:
    """Return steps with a fault."""
    disturbance = Disturbance([parse(text)], seed=seed, name="s")
    return list(disturbance.apply(steps))


def body_of(steps: Timeline) -> bytes:
    """Return the bytes of a body."""
    return b"".join(step.data for _, step in steps if isinstance(step, Data))


def sizes(steps: Timeline) -> list[int]:
    """Return the sizes of its chunks."""
    return [len(step.data) for _, step in steps if isinstance(step, Data)]


def ordered(steps: Timeline) -> bool:
    """Return whether times never run backwards."""
    return all(a <= b for (a, _), (b, _) in pairwise(steps))


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
    assert steps[-1][1] == Break(reset=kind == "reset")
    assert not any(isinstance(step, End) for _, step in steps)
    assert ordered(steps)


def test_a_place_in_time_needs_no_chunk() -> None:
    """A stream breaks at its time, also in a pause; what came by then has come."""
    steps = disturbed("reset@ms:25", timeline({len(FIRST)}))
    assert steps[-2:] == [(20 * MS, Data(FIRST)), (25 * MS, Break(reset=True))]
    live = Disturbance([parse("cut@ms:25")], seed=0, name="s")
    assert live.wakes_ns == 25 * MS
    assert live.feed(24 * MS, Tick()) == []
    assert live.feed(26 * MS, Tick()) == [(25 * MS, Break(reset=False))]
    assert live.wakes_ns is None
    assert live.feed(30 * MS, Data(b"more")) == []


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


def test_faults_compose_in_their_order() -> None:
    """Each is fed what the one before it gave, and each tells what it did."""
    specs = [parse(t) for t in ("duplicate@event:1", "cut@event:2", "drop@event:3")]
    disturbance = Disturbance(specs, seed=0, name="s")
    assert body_of(disturbance.apply(timeline(set()))) == FIRST + FIRST
    assert disturbance.report == [
        "duplicate@event:1: duplicate event 1 at 20.0 ms",
        "cut@event:2: cut at 20.0 ms",
        "drop@event:3: not done: the response had 2 events, 22 bytes",
    ]


def test_what_has_no_events_says_so() -> None:
    """A fault whose place never comes changes nothing, and tells why."""
    disturbance = Disturbance([parse("reset@event:1")], seed=0, name="s")
    before = timeline({5}, TEXT)
    assert list(disturbance.apply(before)) == list(before)
    assert disturbance.report == [
        "reset@event:1: not done: the body is no event stream, or a compressed one"
    ]


@given(st.sampled_from(["reslice=random", "corrupt@event:1"]), st.integers(0, 9))
def test_the_same_seed_gives_the_same_steps(text: str, seed: int) -> None:
    """What is drawn depends on the seed and on the stream, and on nothing else."""
    steps = timeline({3, 9, 20})
    again = disturbed(text, steps, seed)
    assert disturbed(text, steps, seed) == again
    others = [
        Disturbance([parse(text)], seed=seed, name=f"s{n}").apply(steps)
        for n in range(9)
    ]
    assert any(list(other) != again for other in others)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("explode", "is not a fault: give one of"),
        ("", "is not a fault"),
        ("reset", "says not where: add @event:N or @bytes:N or @ms:N"),
        ("reset@line:3", "cannot be at line: give @event:N or @bytes:N or @ms:N"),
        ("drop@bytes:3", "cannot be at bytes: give @event:N"),
        ("status=503@event:1", "leave away the place"),
        ("reset=5@event:1", "takes no value: leave away =5"),
        ("stall=soon@event:1", "'soon' is not a duration"),
        ("delay@event:1", "'' is not a duration"),
        ("status", "'' is not a status"),
        ("status=200", "is not the status of an error"),
        ("status=503,x=1", "is not the status of an error"),
        ("reslice=sideways", "is not a way to cut"),
        ("reslice=0", "is not a way to cut"),
    ],
)
def test_what_is_no_fault_is_told(text: str, why: str) -> None:
    """One line says what is wrong, and what to give instead."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert why in str(caught.value)


def test_a_fault_is_written_as_it_was_read() -> None:
    """What a report names can be given again."""
    texts = [
        "reset@event:12",
        "stall=2s@ms:500",
        "reslice=1",
        "status=429,retry-after=2",
    ]
    assert [str(parse(text)) for text in texts] == texts
    assert {parse(text).kind for text in texts} < set(KINDS)
    assert [duration_ns(t) for t in ("2us", "1.5ms", "2s", "1m")] == [
        *(2_000, 1_500_000),
        *(2_000_000_000, 60_000_000_000),
    ]
