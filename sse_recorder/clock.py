"""The only reader of time, and of the durations that people write.

An exchange has one clock.  Its offsets come from the monotonic clock alone, because a
wall clock may step while a stream runs; the wall time is read once, at t0, to say when
the exchange began.

`MONOTONIC_NS` is a bare function, so that reading the time of a socket read costs one
call: on Linux it is CLOCK_MONOTONIC, the clock that the replay's timerfd runs on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sse_recorder.errors import UsageError

MONOTONIC_NS: Final[Callable[[], int]] = time.monotonic_ns  # noqa: TID251 - the one reader

_NS_PER: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
}
# They come in headers, too: this many digits are centuries, and still fit everywhere.
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ns|us|µs|ms|s|m)")


def duration_ns(text: str) -> int:
    """Read a duration, such as 200ms or 1.5s.

    Raises:
        UsageError: it is none.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise UsageError(
            f"{text[:80]!r} is not a duration: give one such as 200ms or 1.5s"
        )
    return round(float(match[1]) * _NS_PER[match[2]])


@dataclass(frozen=True, slots=True)
class Clock:
    """A pair of clocks, both in integer nanoseconds."""

    monotonic_ns: Callable[[], int] = MONOTONIC_NS
    """Never steps; means nothing outside of this boot of this machine."""

    wall_ns: Callable[[], int] = time.time_ns  # noqa: TID251 - the one reader
    """Since 1970-01-01T00:00Z; may step at any time."""

    def wall_at(self, monotonic_ns: int) -> int:
        """Return the wall time of a moment of the monotonic clock, a little ago."""
        return self.wall_ns() - (self.monotonic_ns() - monotonic_ns)


SYSTEM: Final = Clock()


@dataclass(slots=True)
class FakeClock:
    """A clock that moves when it is told to, for tests of anything that keeps time."""

    now_ns: int = 0
    started_at_ns: int = 1_700_000_000_000_000_000

    def advance(self, ns: int) -> None:
        """Move both clocks forward by `ns`."""
        self.now_ns += ns

    def clock(self) -> Clock:
        """Return the `Clock` that reads this one."""
        return Clock(
            monotonic_ns=lambda: self.now_ns,
            wall_ns=lambda: self.started_at_ns + self.now_ns,
        )
