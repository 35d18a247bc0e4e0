"""When requests are sent again: a `Plan` of times, and a `Gate` of what waits for what.

Arrivals are an open loop, as in other tools that replay load: a request is due as long
after the first one as it was recorded, divided by the speed, however slow the server is
today.  A tool that waits for answers sends less to a slow server, and measures it in a
better hour than its users have.

What an agent says depends on what it was told, so within one session (`session_id`) a
request waits for those that had ended before it began.  Nothing waits for another
session: one stream that hangs would hold back everything behind it, which is a closed
loop again.  `Order.ALL` waits for whatever had ended, of any session, where a recording
is of one agent whose API has no sessions; `Order.NONE` never waits.

Nothing here sends, or knows what time it is: a `Gate` is told that a request is due or
over, and says which may go.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush
from typing import Final

from sse_recorder.errors import UsageError
from sse_recorder.exchange import Exchange
from sse_recorder.playback import MAX_SPEED

CONCURRENCY: Final = 500
"""How many requests are open at a time, unless it is said: fewer than the files that a
process may open by default (1,024)."""

CONCURRENCY_AT_MAX_SPEED: Final = 10
"""The same where nothing else limits what a server is sent."""


class Order(StrEnum):
    """What a request waits for, beside its time."""

    SESSION = "session"
    """Those of its session that had ended before it began."""
    ALL = "all"
    """All that had ended before it began."""
    NONE = "none"
    """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When requests are sent.

    Raises:
        UsageError: a number in it is too small.
    """

    speed: float = 1.0
    """How many times as fast as recorded; `MAX_SPEED` for no waiting."""
    max_gap_ns: int | None = None
    """The longest wait between two arrivals: a real time, as in a replay."""
    concurrency: int | None = None
    """How many requests may be open; None for 500, and for 10 at `MAX_SPEED`."""
    order: Order = Order.SESSION
    repeat: int = 1
    """How often all of them are sent, each time after the last one is over."""
    timeout_s: float | None = None
    """How long the server may be silent; None for as long as it likes."""

    def __post_init__(self) -> None:
        if not self.speed > 0 or self.repeat < 1 or self.open_max < 1:
            raise UsageError(
                f"{self} cannot be kept: a speed is above 0, and the others at least 1"
            )

    @property
    def open_max(self) -> int:
        """How many requests may be open."""
        if self.concurrency is not None:
            return self.concurrency
        is_max = self.speed == MAX_SPEED
        return CONCURRENCY_AT_MAX_SPEED if is_max else CONCURRENCY

    def due_ns(self, started_at: Iterable[int]) -> list[int]:
        """Return when requests are due, since the first, by when they had begun."""
        due, before, now = [], None, 0.0
        for moment in started_at:
            gap = 0.0 if before is None else (moment - before) / self.speed
            before = moment
            now += gap if self.max_gap_ns is None else min(gap, self.max_gap_ns)
            due.append(round(now))
        return due


class _Line:
    """The requests of one session, in the order in which they had ended."""

    def __init__(self, ends: Iterable[tuple[int, int]]) -> None:
        """Take the times at which they had ended, each with the request's number."""
        ordered = sorted(ends)
        self._ends = [end for end, _ in ordered]
        self._places = {number: place for place, (_, number) in enumerate(ordered)}
        self._is_over = bytearray(len(ordered))
        self._over = 0  # so many, from the first to end, are
        self._parked: list[tuple[int, int]] = []

    def parks(self, number: int, started_at: int) -> bool:
        """Keep a request back, if one is not over that had ended before it began."""
        needed = bisect_left(self._ends, started_at)
        if needed <= self._over:
            return False
        heappush(self._parked, (needed, number))
        return True

    def end(self, number: int) -> Iterator[int]:
        """Note that a request is over, and give those that waited for it."""
        self._is_over[self._places[number]] = True
        while self._over < len(self._is_over) and self._is_over[self._over]:
            self._over += 1
        while self._parked and self._parked[0][0] <= self._over:
            yield heappop(self._parked)[1]


class Gate:
    """Which requests may be sent: a machine without I/O or clock.

    Args:
        exchanges: those of the requests, in the order in which they began.
        order: what they wait for.
    """

    def __init__(self, exchanges: list[Exchange], order: Order) -> None:
        self._exchanges = exchanges
        ends: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        self._keys = [_session(exchange, order) for exchange in exchanges]
        for number, (key, exchange) in enumerate(
            zip(self._keys, exchanges, strict=True)
        ):
            if key is not None:
                ended_at = exchange.started_at + (exchange.ended_ns or 0)
                ends[key].append((ended_at, number))
        self._lines = {key: _Line(found) for key, found in ends.items()}
        self._ready: list[int] = []

    def due(self, number: int) -> bool:
        """Let a request go, or have it wait; return which."""
        key = self._keys[number]
        started_at = self._exchanges[number].started_at
        if key is not None and self._lines[key].parks(number, started_at):
            return False
        heappush(self._ready, number)
        return True

    def over(self, number: int) -> list[int]:
        """Note that a request is over; let go, and return, those that waited for it."""
        key = self._keys[number]
        freed = [] if key is None else list(self._lines[key].end(number))
        for other in freed:
            heappush(self._ready, other)
        return freed

    def take(self) -> int | None:
        """Return the first one that may be sent, once; None if there is none."""
        return heappop(self._ready) if self._ready else None


def _session(exchange: Exchange, order: Order) -> str | None:
    match order:
        case Order.SESSION:
            return exchange.session_id
        case Order.ALL:
            return ""
        case Order.NONE:
            return None
