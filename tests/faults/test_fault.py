"""What all faults share: where their place is, and that times never run backwards."""

from __future__ import annotations

import pytest
from faults.steps import FIRST, MS, STREAM, body_of, disturbed, timeline
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.exchange import ResponseHead
from sse_recorder.faults import Disturbance, Tick, parse
from sse_recorder.playback import Break, Data, End, Head


def test_a_place_in_time_needs_no_chunk() -> None:
    """A stream breaks at its time, also in a pause; what came by then has come."""
    steps = disturbed("reset@ms:25", timeline({len(FIRST)}))
    assert steps[-2:] == [(20 * MS, Data(FIRST)), (25 * MS, Break(reset=True))]
    live = Disturbance([parse("cut@ms:25")], seed=0, name="s")
    assert live.wakes_ns == 25 * MS
    assert live.feed(24 * MS, Tick()) == []
    assert live.feed(26 * MS, Tick()) == [(25 * MS, Break(reset=None))]
    assert live.wakes_ns is None
    assert live.feed(30 * MS, Data(b"more")) == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("cut@event:2", b"data: a\r\rdata: b\r\r"),
        ("drop@event:2", b"data: a\r\r"),
        ("duplicate@event:2", b"data: a\r\rdata: b\r\rdata: b\r\r"),
    ],
)
@given(places=st.sets(st.integers(1, 17)))
def test_the_end_shows_that_the_last_event_was_over(
    fault: str, expected: bytes, places: set[int]
) -> None:
    """A CR may be the half of a line end, until nothing comes behind it."""
    before = timeline(places, body=b"data: a\r\rdata: b\r\r")
    steps = disturbed(fault, before)
    assert body_of(steps) == expected
    is_cut = fault.startswith("cut")
    assert steps[-1] == (before[-1][0], Break(reset=None) if is_cut else End(()))


def test_a_stall_at_the_end_is_before_it() -> None:
    """What ends the last event may be the end, and what is behind it is late."""
    before = timeline(body=b"data: a\r\r")
    (*_, (at_ns, step)) = disturbed("stall=1s@event:1", before)
    assert (at_ns, step) == (before[-1][0] + 1_000 * MS, End(()))


def with_length(*more: tuple[str, str]) -> Head:
    """Return the head of a stream whose size is known."""
    length = ("content-length", str(len(STREAM)))
    headers = (("Content-Type", "text/event-stream"), length, *more)
    return Head(ResponseHead(200, "OK", headers))


@pytest.mark.parametrize("fault", ["drop@event:1", "duplicate@event:1", "error@ms:25"])
def test_a_length_that_may_become_wrong_is_taken_back(fault: str) -> None:
    """The body is chunked in its place, and every other header stays."""
    (_, step), *_ = disturbed(fault, timeline(head=with_length(("X-A", "1"))))
    assert isinstance(step, Head)
    assert step.head.headers == (
        ("Content-Type", "text/event-stream"),
        ("X-A", "1"),
        ("Transfer-Encoding", "chunked"),
    )


@pytest.mark.parametrize("fault", ["cut@event:1", "delay=1s@event:1", "reslice=1"])
def test_a_length_that_stays_true_stays(fault: str) -> None:
    """A cut is read as one by the length that is not reached."""
    head = with_length()
    assert disturbed(fault, timeline(head=head))[0] == (10 * MS, head)
    plain = timeline(head=Head(ResponseHead(204, "", head.head.headers)))
    assert disturbed("drop@event:1", plain) == plain
