"""The rules of clocks: one reader of time, and one that a test moves by hand."""

from __future__ import annotations

import time

import pytest

from sse_recorder.clock import MONOTONIC_NS, SYSTEM, Clock, FakeClock, duration_ns
from sse_recorder.errors import UsageError


def test_the_system_clock_moves_forward() -> None:
    """Monotonic time never steps back, and wall time is of this century."""
    before = SYSTEM.monotonic_ns()
    assert SYSTEM.monotonic_ns() >= before
    assert SYSTEM.wall_ns() > 1_700_000_000_000_000_000
    assert Clock() == SYSTEM


def test_monotonic_time_is_the_clock_of_timers() -> None:
    """Replays set timers on the clock that reads are timed by."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    now = MONOTONIC_NS()
    assert before <= now <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def test_a_fake_clock_moves_when_it_is_told_to() -> None:
    """Both of its clocks move together, for every reader that was handed out."""
    fake = FakeClock(now_ns=5, started_at_ns=100)
    clock = fake.clock()
    assert (clock.monotonic_ns(), clock.wall_ns()) == (5, 105)
    assert (clock.monotonic_ns(), clock.wall_ns()) == (5, 105)
    fake.advance(7)
    assert (clock.monotonic_ns(), clock.wall_ns()) == (12, 112)


def test_a_duration_is_written_with_its_unit() -> None:
    """Five units are known, and parts of them."""
    assert [duration_ns(t) for t in ("7ns", "2us", "2µs", "1.5 ms", " 2s ", "1m")] == [
        *(7, 2_000, 2_000, 1_500_000),
        *(2_000_000_000, 60_000_000_000),
    ]


@pytest.mark.parametrize(
    "text", ["", "2", "soon", "-1s", "1e9s", "\u0663s", "9" * 10 + "s", "9" * 400 + "s"]
)
def test_what_is_no_duration_is_told(text: str) -> None:
    """Nor is more of it than fits: a header is not to try anybody's patience."""
    with pytest.raises(UsageError, match="is not a duration: give one such as 200ms"):
        duration_ns(text)
