"""Timelines: what is due when, and how that can be changed."""

from __future__ import annotations

import random
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import pieces

from recordings import CHUNKS, MS, exchange
from sse_recorder.exchange import Chunk, Outcome, ResponseHead
from sse_recorder.playback import (
    MAX_SPEED,
    Break,
    Data,
    End,
    Fail,
    Head,
    Lateness,
    Pace,
    Player,
    Recording,
    Step,
    Timeline,
    by_event,
)

TIMELINE = Recording(exchange(), CHUNKS).timeline
FIRST, REST = b"data: one\n\n", b": ping\n\ndata: two\n\nda"


def played(player: Player, now_ns: int) -> list[tuple[int, object]]:
    """Take all that is due by a moment."""
    return list(iter(lambda: player.take(now_ns), None))


def paced(seed: int = 0, **options: Any) -> Timeline:
    """Return the timeline at another pace."""
    return Pace(**options).apply(TIMELINE, random.Random(seed))  # noqa: S311 - no secret


def milliseconds(timeline: Timeline) -> list[float]:
    """Return the times of its steps."""
    return [at_ns / MS for at_ns, _ in timeline]


def test_due_times_count_from_the_end_of_the_request() -> None:
    """What the server took is kept; what the request took is the client's affair."""
    player = Player(TIMELINE, anchor_ns=1_000 * MS)
    steps = played(player, 10_000 * MS)
    assert [due // MS for due, _ in steps] == [1_010, 1_020, 1_040, 1_040, 1_050]
    assert [type(step) for _, step in steps] == [Head, Data, Data, Data, End]
    assert player.due_ns is None


def test_a_step_is_given_when_it_is_due_and_not_before() -> None:
    """The machine has no clock: it is told what time it is."""
    player = Player(TIMELINE, anchor_ns=0)
    assert player.due_ns == 10 * MS
    assert player.take(10 * MS - 1) is None
    assert [due for due, _ in played(player, 20 * MS)] == [10 * MS, 20 * MS]
    assert player.take(40 * MS - 1) is None
    assert [step for _, step in played(player, 40 * MS)] == [Data(b"da"), Data(b"ta")]


@given(st.floats(0.01, 1000), st.integers(0, 10**15))
def test_speed_divides_every_offset(speed: float, anchor_ns: int) -> None:
    """Twice as fast is half the time, from the same anchor, for every step."""
    plain = played(Player(TIMELINE, 0), 10**18)
    fast = played(Player(paced(speed=speed), anchor_ns), 10**18)
    for (due_ns, step), (fast_ns, same) in zip(plain, fast, strict=True):
        assert fast_ns - anchor_ns == round(due_ns / speed)
        assert step == same


def test_the_highest_speed_waits_for_nothing() -> None:
    """With `max` everything is due when the request is complete."""
    player = Player(paced(speed=MAX_SPEED), 77)
    assert {due for due, _ in played(player, 77)} == {77}


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({"outcome": Outcome.UPSTREAM_ABORT, "error": "reset: …"}, Break(reset=True)),
        ({"outcome": Outcome.UPSTREAM_ABORT, "error": "eof: …"}, Break(reset=False)),
        ({"outcome": Outcome.CLIENT_ABORT}, Break(reset=False)),
        ({"response_trailers": (("X", "1"),)}, End((("X", "1"),))),
        (
            {"status": None, "outcome": Outcome.UPSTREAM_ERROR, "error": "refused"},
            Fail(HTTPStatus.BAD_GATEWAY, "refused"),
        ),
        ({"status": None, "outcome": Outcome.CLIENT_ABORT}, Break(reset=False)),
        (
            {"status": None, "outcome": Outcome.TIMEOUT, "error": None},
            Fail(HTTPStatus.GATEWAY_TIMEOUT, "the upstream gave no answer"),
        ),
    ],
)
def test_an_exchange_ends_as_it_ended(changes: dict[str, object], last: object) -> None:
    """Clients treat an end, a reset and an error apart, so a replay does, too."""
    steps = played(Player(Recording(exchange(**changes), CHUNKS).timeline, 0), 10**12)
    assert steps[-1] == (50 * MS, last)


def test_a_gap_can_be_capped_and_the_first_wait_chosen() -> None:
    """Pauses end sooner, and what comes behind them comes sooner by as much."""
    assert milliseconds(TIMELINE) == [10, 20, 40, 40, 50]
    assert milliseconds(paced(max_gap_ns=5 * MS)) == [5, 10, 15, 15, 20]
    assert milliseconds(paced(ttfb_ns=100 * MS)) == [100, 110, 130, 130, 140]
    both = paced(ttfb_ns=100 * MS, max_gap_ns=5 * MS, speed=2)
    assert milliseconds(both) == [50, 52.5, 55, 55, 57.5]


@given(st.floats(0, 2), st.integers(0, 99))
def test_jitter_is_a_share_of_each_gap_and_comes_again(share: float, seed: int) -> None:
    """No gap changes by more than its share, and a seed gives the same times."""
    steps = paced(seed, jitter=share)
    assert steps == paced(seed, jitter=share)
    before = [0, *(at_ns for at_ns, _ in TIMELINE)]
    after = [0, *(at_ns for at_ns, _ in steps)]
    for n in range(1, len(before)):
        gap, jittered = before[n] - before[n - 1], after[n] - after[n - 1]
        assert max(0, gap * (1 - share)) - 2 <= jittered <= gap * (1 + share) + 2


@given(st.sets(st.integers(1, len(FIRST + REST) - 1)))
def test_events_are_released_one_by_one(places: set[int]) -> None:
    """Nothing of an event goes before it is released, and all of it then."""
    chunks = [Chunk(30 * MS, part) for part in pieces(FIRST + REST, places)]
    timeline = Recording(exchange(), chunks).timeline
    player = Player(timeline, 5, released=0)
    assert [type(step) for _, step in played(player, 10**18)] == [Head]
    assert player.due_ns is None
    player.release(1)
    assert sent(played(player, 5)) == FIRST
    assert not player.is_over
    player.release(7)
    rest = played(player, 5)
    assert sent(rest) == REST
    assert rest[-1] == (5, End(()))
    assert player.is_over


def sent(steps: list[tuple[int, Any]]) -> bytes:
    """Return the bytes of some steps."""
    return b"".join(step.data for _, step in steps if isinstance(step, Data))


def test_what_has_no_events_is_one() -> None:
    """A body that is no event stream is not held back behind its head."""
    head: Step = Head(ResponseHead(200, "OK", (("Content-Type", "text/plain"),)))
    timeline = [(5, head), (6, Data(b"data: 1\n\n")), (7, End(()))]
    assert [number for number, _ in by_event(timeline)] == [0, 0, 0]


def test_lateness_says_the_nearest_rank() -> None:
    """Percentiles of few values are values that occurred."""
    assert Lateness.of([]) == Lateness(0, 0, 0, 0)
    assert Lateness.of([5]) == Lateness(1, 5, 5, 5)
    assert Lateness.of(range(101)) == Lateness(101, 50, 99, 100)
    text = str(Lateness(2, 1_500_000, 2_000_000, 2_000_001))
    assert text == "n=2 p50=1.500 ms p99=2.000 ms max=2.000 ms"
