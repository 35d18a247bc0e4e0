"""Timelines: what is due when, and how that can be changed."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import pieces

from recordings import CHUNKS, MS, exchange
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Chunk, Outcome, ResponseHead
from sse_recorder.playback import (
    GRACE_NS,
    MAX_SPEED,
    Break,
    Data,
    End,
    Fail,
    Head,
    Histogram,
    Lateness,
    Pace,
    Player,
    Recording,
    Step,
    TimedStep,
    Timeline,
    by_event,
    speed_of,
)

TIMELINE = Recording(exchange(), CHUNKS).timeline
FIRST, REST = b"data: one\n\n", b": ping\n\ndata: two\n\nda"


def alone(how: str) -> dict[str, object]:
    """Return what is told of an exchange that was recorded on without its client."""
    return {"outcome": Outcome.CLIENT_ABORT, "error": f"the client left; {how}"}


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
        ({"outcome": Outcome.TIMEOUT, "error": "timeout: …"}, Break(reset=False)),
        (
            {"outcome": Outcome.CLIENT_ABORT},
            Break(reset=False, client_waited_ns=10 * MS),
        ),
        (alone("the rest was recorded"), End(())),
        (alone("then: reset: …"), Break(reset=True)),
        (alone("then: eof: …"), Break(reset=False)),
        (alone("then: it was cut"), Break(reset=False, client_waited_ns=10 * MS)),
        ({"response_trailers": (("X", "1"),)}, End((("X", "1"),))),
        (
            {"status": None, "outcome": Outcome.UPSTREAM_ERROR, "error": "refused"},
            Fail(HTTPStatus.BAD_GATEWAY, "refused"),
        ),
        (
            {"status": None, "outcome": Outcome.UPSTREAM_ERROR, "error": "eof: …"},
            Break(reset=False),
        ),
        (
            {"status": None, "outcome": Outcome.UPSTREAM_ERROR, "error": "reset: …"},
            Break(reset=True),
        ),
        (
            {"status": None, "outcome": Outcome.CLIENT_ABORT},
            Break(reset=False, client_waited_ns=50 * MS),
        ),
        (
            {"status": None, "outcome": Outcome.TIMEOUT, "error": None},
            Fail(
                HTTPStatus.GATEWAY_TIMEOUT,
                "the upstream gave no answer",
                "upstream_timeout",
            ),
        ),
    ],
)
def test_an_exchange_ends_as_it_ended(changes: dict[str, object], last: object) -> None:
    """Clients treat an end, a reset and an error apart, so a replay does, too."""
    timeline = Recording(exchange(**changes), CHUNKS).timeline
    assert timeline[-1] == (50 * MS, last)


@pytest.mark.parametrize("speed", [1, 0.1, 100, MAX_SPEED])
@pytest.mark.parametrize("released", [None, 9])
@pytest.mark.parametrize(("waited_ms", "counted_ms"), [(300, 300), (3_600_000, 60_000)])
def test_a_client_that_left_is_waited_for(
    speed: float, released: int | None, waited_ms: int, counted_ms: int
) -> None:
    """It may take what it took then, up to a minute, and the grace, at any speed."""
    left = exchange(outcome=Outcome.CLIENT_ABORT, ended_ns=(50 + waited_ms) * MS)
    timeline = Pace(speed=speed).apply(
        Recording(left, CHUNKS).timeline,
        random.Random(0),  # noqa: S311 - no secret
    )
    player = Player(timeline, 0, released=released)
    all_came_ns = 1_000 * MS
    assert len(played(player, all_came_ns)) == len(timeline) - 1
    due_ns = player.due_ns
    left_ns = timeline[-1][0] if released is None else 0
    assert due_ns == max(left_ns, all_came_ns + counted_ms * MS + GRACE_NS)
    assert not player.is_over
    assert not player.outstayed(all_came_ns + waited_ms * MS)
    assert player.outstayed(all_came_ns + (waited_ms + 1_001) * MS)
    assert player.take(due_ns - 1) is None
    assert player.take(due_ns) == (due_ns, timeline[-1][1])
    assert player.is_over
    assert player.outstayed(due_ns)
    assert player.due_ns is None


def test_who_leaves_what_had_an_end_has_not_outstayed() -> None:
    """Only where it was the client that left can another one stay for longer."""
    player = Player(TIMELINE, 0)
    assert player.left_ns(7 * MS) == 7 * MS
    played(player, 40 * MS)
    assert not player.outstayed(10**18)
    played(player, 50 * MS)
    assert player.left_ns(60 * MS) is None
    assert not player.outstayed(10**18)


def test_no_step_is_asked_for_before_its_time_has_come() -> None:
    """What makes a timeline as it goes is never ahead by more than one step."""
    asked: list[int] = []

    def steps() -> Iterator[TimedStep]:
        for at_ns, step in TIMELINE:
            asked.append(at_ns // MS)
            yield at_ns, step

    player = Player(steps(), 0)
    assert asked == []
    played(player, 10 * MS)
    assert asked == [10, 20]


def test_a_gap_can_be_capped_and_the_first_wait_chosen() -> None:
    """Pauses end sooner, and what comes behind them comes sooner by as much."""
    assert milliseconds(TIMELINE) == [10, 20, 40, 40, 50]
    assert milliseconds(paced(max_gap_ns=5 * MS)) == [5, 10, 15, 15, 20]
    assert milliseconds(paced(ttfb_ns=100 * MS)) == [100, 110, 130, 130, 140]


def test_limits_are_real_times_whatever_the_speed() -> None:
    """A wait that is capped or chosen is what was asked for, and not a share of it."""
    both = paced(ttfb_ns=100 * MS, max_gap_ns=6 * MS, speed=2)
    assert milliseconds(both) == [100, 105, 111, 111, 116]
    slow = paced(max_gap_ns=12 * MS, speed=0.5)
    assert milliseconds(slow) == [12, 24, 36, 36, 48]
    assert milliseconds(paced(ttfb_ns=30 * MS, speed=MAX_SPEED)) == [30] * 5
    capped = milliseconds(paced(max_gap_ns=4 * MS, jitter=0.5))
    assert max(b - a for a, b in pairwise([0, *capped])) <= 4


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"speed": 0}, "'0' is not a speed: give a number above 0, or max"),
        ({"speed": 1e-300}, "the least is a millionth"),
        ({"speed": math.nan}, "'nan' is not a speed"),
        ({"speed": "fast"}, "'fast' is not a speed"),
        ({"jitter": -0.1}, "-0.1 is not a share: give one from 0 to 10"),
        ({"jitter": math.inf}, "inf is not a share"),
        ({"max_gap_ns": -1}, "a wait cannot be less than nothing"),
        ({"ttfb_ns": -1}, "a wait cannot be less than nothing"),
    ],
)
def test_a_pace_that_cannot_be_kept_is_refused(
    options: dict[str, Any], why: str
) -> None:
    """It is found where it is given, in Python as on the command line."""
    with pytest.raises(UsageError, match=re.escape(why)):
        Pace(**options)


def test_a_speed_is_a_factor_or_max() -> None:
    """As a number or in writing."""
    assert [speed_of(s) for s in ("1", 0.5, "max")] == [1, 0.5, MAX_SPEED]
    options: dict[str, Any] = {"speed": "max"}
    assert Pace(**options).speed == speed_of(MAX_SPEED) == MAX_SPEED
    for text in ("0", "-1", "inf", "nan", "", "1e-7"):
        with pytest.raises(UsageError, match="give a number above 0, or max"):
            speed_of(text)


@pytest.mark.parametrize("speed", [1e-6, 1e308])
def test_the_extremes_of_speed_can_be_played(speed: float) -> None:
    """Twelve days a second, or none at all."""
    assert paced(speed=speed)[-1][0] == round(50 * MS / speed)


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


def test_an_event_that_the_end_shows_is_released_by_itself() -> None:
    """A lone CR may be half of a line end, until nothing comes behind it."""
    body = b"data: a\r\rdata: b\r\r"
    timeline = Recording(exchange(), [Chunk(30 * MS, body)]).timeline
    steps = [(n, step.data) for n, step in by_event(timeline) if isinstance(step, Data)]
    assert steps == [(1, b"data: a\r\r"), (2, b"data: b\r\r")]


def test_lateness_says_the_nearest_rank() -> None:
    """Percentiles of few values are values that occurred."""
    assert Lateness.of([]) == Lateness(0, 0, 0, 0)
    assert Lateness.of([5]) == Lateness(1, 5, 5, 5)
    assert Lateness.of(range(101)) == Lateness(101, 50, 99, 100)
    assert Lateness.of([3, 1, 1, 1]) == Lateness(4, 1, 3, 3)
    text = str(Lateness(2, 1_500_000, 2_000_000, 2_000_001))
    assert text == "n=2 p50=1.500 ms p99=2.000 ms max=2.000 ms"


@given(st.lists(st.integers(0, 10**13), max_size=200))
def test_a_histogram_tells_what_was_counted(values: list[int]) -> None:
    """The number and the greatest exactly, the rest to within 0.4 %."""
    histograms = [Histogram(), Histogram()]
    for at, value in enumerate(values):
        histograms[at % 2].add(value)
    told, exact = Histogram(histograms).summary(), Lateness.of(values)
    assert (told.count, told.max_ns) == (exact.count, exact.max_ns)
    assert told.p50_ns == pytest.approx(exact.p50_ns, rel=0.004)
    assert told.p99_ns == pytest.approx(exact.p99_ns, rel=0.004)
    assert told.p50_ns <= told.p99_ns <= told.max_ns


def test_a_histogram_does_not_grow_with_what_it_counts() -> None:
    """All that one can be late within a minute fits into a few thousand counts."""
    histogram = Histogram()
    for value in range(0, 60_000 * MS, 600_011):
        histogram.add(value)
    assert histogram.summary().count == 100_000 - 1
    assert len(histogram.counts) < 2_500
