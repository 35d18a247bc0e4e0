"""Faults one behind the other: what they do together, and what they tell."""

from __future__ import annotations

import pytest
from faults.steps import (
    CUTS,
    FIRST,
    MS,
    SSE,
    TEXT,
    body_of,
    disturbed,
    faults,
    kinds_of,
    ordered,
    timeline,
)
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.errors import UsageError
from sse_recorder.faults import Disturbance, Tick, parse
from sse_recorder.playback import Break, Data, End, TimedStep


def test_faults_compose_in_their_order() -> None:
    """Each is fed what the one before it gave, and each tells what it did."""
    specs = [parse(t) for t in ("duplicate@event:1", "cut@event:2", "drop@event:3")]
    disturbance = Disturbance(specs, seed=0, name="s")
    assert body_of(disturbance.apply(timeline(set()))) == FIRST + FIRST
    assert disturbance.report == [
        "duplicate@event:1: duplicated event 1 at 20.0 ms",
        "cut@event:2: cut at 20.0 ms",
        "drop@event:3: not done: the response had 2 events, 22 bytes",
    ]


def test_a_stall_does_not_keep_another_from_its_time() -> None:
    """A replay ends when a live response would, though the stall lets nothing pass."""
    steps = faults("stall@event:1", "cut@ms:150").apply(timeline())
    assert list(steps) == [
        (10 * MS, SSE),
        (20 * MS, Data(FIRST)),
        (150 * MS, Break(reset=None)),
    ]


LEFT = "not done: the client left; by then there were"
TIMED = [
    *("stall@event:1", "stall=15ms@ms:12", "cut@ms:33", "error@ms:5", "reset@ms:150"),
    *("delay=40ms@event:2", "first-byte=25ms", "drop@event:1"),
]


@given(
    CUTS,
    st.lists(
        st.sampled_from(TIMED),
        max_size=4,
    ),
)
def test_a_live_response_has_the_steps_of_a_replay(
    places: set[int], texts: list[str]
) -> None:
    """What is fed as it comes, with ticks where one is due, gives the same."""
    before, replayed, live = timeline(places), faults(*texts), faults(*texts)
    steps = list[TimedStep]()
    for now_ns in range(0, 1_000 * MS, MS):
        if (wakes_ns := live.wakes_ns) is not None and wakes_ns <= now_ns:
            steps += live.feed(now_ns, Tick())
        for step in (step for at_ns, step in before if at_ns == now_ns):
            steps += live.feed(now_ns, step)
    assert steps == list(replayed.apply(before))
    assert live.report == replayed.report
    assert ordered(steps)
    ends = [kind for kind in kinds_of(steps) if kind in {Break, End}]
    assert len(ends) <= 1
    assert not ends or kinds_of(steps)[-1] is ends[0]


def test_what_nobody_sees_is_not_done() -> None:
    """Behind a stall without an end, nothing of what is before it can be seen."""
    hidden = faults("cut@ms:60", "duplicate@event:2", "stall@event:1")
    list(hidden.apply(timeline()))
    assert hidden.report == [
        "cut@ms:60: not done: stall@event:1 came before it",
        "duplicate@event:2: not done: stall@event:1 came before it",
        "stall@event:1: stalled at 20.0 ms",
    ]


def test_what_was_late_is_not_told_if_something_came_before_it() -> None:
    """A fault whose doing was still due when another ended the response did nothing."""
    late = faults("first-byte=50ms", "cut@ms:20")
    assert list(late.apply(timeline())) == [(20 * MS, Break(reset=None))]
    assert late.report == [
        "first-byte=50ms: not done: cut@ms:20 came before it",
        "cut@ms:20: cut at 20.0 ms",
    ]


def test_a_client_that_leaves_does_not_see_the_rest() -> None:
    """What was due later did not happen, and what did happen is told."""
    told = faults("delay=1ms@event:1", "first-byte=9ms", "drop@event:9")
    told.feed(10 * MS, SSE)
    told.feed(12 * MS, Data(FIRST))
    assert told.told(15 * MS) == [
        "delay=1ms@event:1: delayed event 1 at 13.0 ms",
        "first-byte=9ms: not done: the client left before it was due, at 19.0 ms",
        f"drop@event:9: {LEFT} 1 events, 11 bytes",
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
        ("status", "'' is not the status of an error"),
        ("status=600", "is not the status of an error"),
        ("status=503,retry-after", "is not the status of an error"),
        ("status=503,retry-after=", "is not the status of an error"),
        ("status=503,retry-after=€", "is not the status of an error"),
        ("status=503,retry-after=1\r\nX: 2", "is not the status of an error"),
        ("status=200", "is not the status of an error"),
        ("status=503,x=1", "is not the status of an error"),
        ("reslice=sideways", "is not a way to cut"),
        ("reslice=0", "is not a way to cut"),
        ("reslice=merge1", "is not a way to cut"),
        ("reslice=merge0", "is not a way to cut"),
        ("reslice=" + "9" * 5_000, "is not a way to cut"),
        ("drop@event:0", "is of no event: the first is @event:1"),
        ("duplicate@event:0", "is of no event"),
        ("delay=1s@event:0", "is of no event"),
        ("corrupt@event:0", "is of no event"),
        ("cut@event:" + "9" * 5_000, "is not a fault"),
        ("stall=" + "9" * 400 + "s@event:1", "is not a duration"),
    ],
)
def test_what_is_no_fault_is_told(text: str, why: str) -> None:
    """One line says what is wrong, and what to give instead."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert why in str(caught.value)
