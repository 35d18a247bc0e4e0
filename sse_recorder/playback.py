"""What a recording says when it is played: steps, and when each of them is due.

A `Recording` is an exchange as a timeline: steps with their offsets from the end of the
request, because that is what a recorded run and a live one have in common.  A timeline
is a plain list, so what changes a replay is a function from one timeline to another:

    recorded ─▶ Pace (speed, jitter, gaps) ─▶ faults ─▶ by_event (step mode) ─▶ Player

What a client did is not played, for the client is another one now: a recording that was
left by its client is played to its last byte, and then the connection is held open for
as long as that client waited, and `GRACE_NS` more, before it is broken.

A `Player` is a machine without I/O or clock.  It is given a timeline and the moment at
which the live request was complete; it says when the next step is due, and gives the
steps when it is told that it is time.  Every due time is absolute: a late step does not
make the next one later.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

from sse_recorder.errors import UsageError
from sse_recorder.exchange import (
    END_OF_FILE,
    RESET,
    REST_RECORDED,
    WITHOUT_CLIENT,
    Chunk,
    Exchange,
    Headers,
    Outcome,
    ResponseHead,
    header,
    media_type,
)
from sse_recorder.sse import Frame, Parser

MAX_SPEED: Final = math.inf
_MIN_SPEED: Final = 1e-6  # a second takes twelve days
_FOR_EVER_NS: Final = 1 << 62
_JITTER_MAX: Final = 10.0

_NS_PER_S: Final = 1_000_000_000
GRACE_NS: Final = 10 * _NS_PER_S
"""How much longer than when it was recorded a client may take to leave."""
_WAITED_MAX_NS: Final = 60 * _NS_PER_S  # of the time that it took then
_OUTSTAYED_NS: Final = 1 * _NS_PER_S


class Head(NamedTuple):
    """Send the response head."""

    head: ResponseHead


class Data(NamedTuple):
    """Send a chunk, as one write."""

    data: bytes


class End(NamedTuple):
    """End the response as its framing says."""

    trailers: Headers


class Break(NamedTuple):
    """Break the connection."""

    reset: bool | None
    """By a TCP reset, or in order; but a body that only the end of its connection ends,
    as `ResponseStream.abort` knows, is broken in order by None alone."""
    client_waited_ns: int | None = None
    """How long the client waited for more before it left, where it was the client that
    did; a live one is waited for (see `Player`)."""


class Fail(NamedTuple):
    """Answer that the upstream could not be reached."""

    status: HTTPStatus
    message: str
    kind: str = "upstream_error"


Step: TypeAlias = "Head | Data | End | Break | Fail"
TimedStep: TypeAlias = "tuple[int, Step]"
"""Nanoseconds since the request was complete, and what is done then."""
Timeline: TypeAlias = "Sequence[TimedStep]"


class Recording:
    """An exchange with its timeline, in memory, ready to be played any number of times.

    Args:
        exchange: it is over.
        chunks: of its response's body.
    """

    __slots__ = ("exchange", "timeline")

    def __init__(self, exchange: Exchange, chunks: Iterable[Chunk]) -> None:
        self.exchange = exchange
        origin_ns = exchange.sent_ns or 0
        # A response may begin before its request is complete; a replay's cannot,
        # because only the whole request can be matched.
        self.timeline: Timeline = [
            (max(0, at_ns - origin_ns), step)
            for at_ns, step in _steps(exchange, chunks)
        ]


def is_plain_event_stream(headers: Headers) -> bool:
    """Return whether a body is an event stream, and not compressed."""
    coding = (header(headers, "content-encoding") or "identity").strip().lower()
    return media_type(headers) == "text/event-stream" and coding == "identity"


def _steps(exchange: Exchange, chunks: Iterable[Chunk]) -> Iterator[TimedStep]:
    ended_ns = exchange.ended_ns or 0
    if exchange.status is None:
        yield ended_ns, _no_answer(exchange)
        return
    head = ResponseHead(
        exchange.status, exchange.reason or "", exchange.response_headers
    )
    latest_ns = exchange.headers_ns or 0
    yield latest_ns, Head(head)
    for chunk in chunks:
        latest_ns = chunk.at_ns
        yield latest_ns, Data(chunk.data)
    yield ended_ns, _end(exchange, max(0, ended_ns - latest_ns))


def _end(exchange: Exchange, waited_ns: int) -> Step:
    error = exchange.error or ""
    if exchange.outcome is Outcome.COMPLETE or error == REST_RECORDED:
        return End(exchange.response_trailers)
    if exchange.outcome is not Outcome.CLIENT_ABORT:
        return Break(reset=error.startswith(RESET))
    how = _how_it_broke(error.removeprefix(f"{WITHOUT_CLIENT}then: "))
    return how or Break(reset=False, client_waited_ns=waited_ns)


def _how_it_broke(error: str) -> Break | None:
    kind, colon, _ = error.partition(": ")
    is_told = colon and kind in {RESET, END_OF_FILE}
    return Break(reset=kind == RESET) if is_told else None


def _no_answer(exchange: Exchange) -> Step:
    error = exchange.error or "the upstream gave no answer"
    match exchange.outcome:
        case Outcome.CLIENT_ABORT:
            waited_ns = (exchange.ended_ns or 0) - (exchange.sent_ns or 0)
            return Break(reset=False, client_waited_ns=max(0, waited_ns))
        case Outcome.TIMEOUT:
            return Fail(HTTPStatus.GATEWAY_TIMEOUT, error, "upstream_timeout")
        case _:
            # A kept connection that broke unanswered was told by nothing but that.
            return _how_it_broke(error) or Fail(HTTPStatus.BAD_GATEWAY, error)


def speed_of(value: float | str) -> float:
    """Read a speed: a factor, or `max`.

    Raises:
        UsageError: it is none.
    """
    if value in {"max", MAX_SPEED}:
        return MAX_SPEED
    try:
        speed = float(value)
    except (TypeError, ValueError):
        speed = 0.0
    if not _MIN_SPEED <= speed < MAX_SPEED:
        raise UsageError(
            f"{str(value)[:80]!r} is not a speed: give a number above 0, or max; the"
            " least is a millionth"
        )
    return speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How the times of a timeline are changed.

    The speed comes first and the limits last, so that those are real times: of a
    recorded pause of 10 s, a speed of 2 leaves 5 s, and `max_gap_ns` of 2 s leaves 2 s.

    Raises:
        UsageError: one of them is no such number.
    """

    speed: float = 1.0
    """How many times as fast as recorded; `MAX_SPEED`, or `max`, for no waiting."""
    max_gap_ns: int | None = None
    """The longest wait, for the response head as between two steps."""
    ttfb_ns: int | None = None
    """The wait before the response head, in place of the recorded one."""
    jitter: float = 0.0
    """By which share of it each gap may be longer or shorter, at random."""

    def __post_init__(self) -> None:
        """Check them, and read the speed."""
        object.__setattr__(self, "speed", speed_of(self.speed))
        if not 0 <= self.jitter <= _JITTER_MAX:
            raise UsageError(
                f"{self.jitter} is not a share: give one from 0 to {_JITTER_MAX:g}"
            )
        if min(self.max_gap_ns or 0, self.ttfb_ns or 0) < 0:
            raise UsageError("a wait cannot be less than nothing: give 0 or more")

    @property
    def is_recorded(self) -> bool:
        """Whether nothing is changed."""
        return self == Pace()

    def apply(self, timeline: Timeline, rng: random.Random) -> Timeline:
        """Return the timeline at this pace.

        Args:
            timeline: with offsets that never fall.
            rng: what jitter is drawn from; equal ones give equal timelines.
        """
        if self.is_recorded:
            return timeline
        if self == Pace(speed=self.speed):
            return [(round(at_ns / self.speed), step) for at_ns, step in timeline]
        paced: list[TimedStep] = []
        before_ns, now_ns = 0, 0.0
        for at_ns, step in timeline:
            gap_ns = (at_ns - before_ns) / self.speed
            before_ns = at_ns
            is_chosen = not paced and self.ttfb_ns is not None
            if is_chosen:
                gap_ns = float(self.ttfb_ns or 0)
            if self.jitter:
                gap_ns *= max(0.0, 1 + rng.uniform(-self.jitter, self.jitter))
            if self.max_gap_ns is not None and not is_chosen:
                gap_ns = min(gap_ns, self.max_gap_ns)
            now_ns += gap_ns
            paced.append((round(now_ns), step))
        return paced


class Player:
    """Says what of a timeline is due.

    Where it was the client that left, its live successor decides: the break is due only
    when that waited for longer, by `GRACE_NS`, whatever the speed.  Of what the
    recorded one waited, more than a minute does not count.

    Args:
        timeline: what to play; it is asked for no more than the next step.
        anchor_ns: when the live request was complete.
        released: how many events may be played now; None for all of them.  What is
            played is then cut where events end (see `by_event`), and the recorded
            times mean nothing.
    """

    __slots__ = ("_anchor_ns", "_latest_ns", "_next", "_released", "_steps", "latest")

    def __init__(
        self,
        timeline: Iterable[TimedStep],
        anchor_ns: int,
        *,
        released: int | None = None,
    ) -> None:
        self._steps = iter(timeline if released is None else by_event(timeline))
        self._next: TimedStep | None = None
        self._anchor_ns = self._latest_ns = anchor_ns
        self._released = released
        self.latest: Step | None = None
        """The step that was taken last."""

    @property
    def is_over(self) -> bool:
        """Whether the response was ended."""
        return self.latest is not None and not isinstance(self.latest, (Head, Data))

    @property
    def is_stepping(self) -> bool:
        """Whether steps wait for a release, and not for their time."""
        return self._released is not None

    @property
    def awaits_release(self) -> bool:
        """Whether a step waits for a release, and not for the client to leave."""
        return self.due_ns is None and self._next is not None

    @property
    def due_ns(self) -> int | None:
        """When the next step is due; None after the last, and before a release."""
        self._next = self._next or next(self._steps, None)
        if self._next is None:
            return None
        offset_ns, step = self._next
        due_ns = self._anchor_ns
        if self._released is None:
            due_ns += offset_ns
        elif offset_ns > self._released:  # by events, it is how many have to be over
            return None
        if isinstance(step, Break) and step.client_waited_ns is not None:
            wait_ns = min(step.client_waited_ns, _WAITED_MAX_NS) + GRACE_NS
            return max(due_ns, self._latest_ns + wait_ns)
        return due_ns

    def release(self, events: int) -> None:
        """Let so many more events be played."""
        if self._released is not None:
            self._released += events

    def take(self, now_ns: int) -> TimedStep | None:
        """Give the next step with its due time, if it is due by now."""
        due_ns = self.due_ns
        if self._next is None or due_ns is None or due_ns > now_ns:
            return None
        _, self.latest = self._next
        self._next = None
        if not self.is_over:
            self._latest_ns = now_ns
        return due_ns, self.latest

    def left_ns(self, now_ns: int) -> int | None:
        """Return when the client left, if it leaves now; None if all was played.

        It counts from the complete request, as a timeline does; by events, where times
        mean nothing, it is behind all that was asked for so far.
        """
        if self.is_over:
            return None
        return _FOR_EVER_NS if self.is_stepping else now_ns - self._anchor_ns

    def outstayed(self, now_ns: int) -> bool:
        """Tell whether the client read on where, when it was recorded, it had left."""
        step = self.latest if self.is_over else self._next and self._next[1]
        if not isinstance(step, Break) or step.client_waited_ns is None:
            return False
        longest_ns = step.client_waited_ns + _OUTSTAYED_NS
        return self.is_over or now_ns - self._latest_ns > longest_ns


def by_event(timeline: Iterable[TimedStep]) -> Iterator[TimedStep]:
    """Give a timeline whose offsets are numbers of events.

    A step is due when as many events are released: what belongs to the first event has
    1, the head 0, and the end as many as there are.  Chunks are cut where events end.
    """
    parser: Parser | None = None
    count = 0  # events that are over
    start = 0  # of the chunk, in the body
    waiting: list[Step] = []  # behind the last event: of the next one, if one comes
    for _, step in timeline:
        if isinstance(step, Head):
            parser = Parser() if is_plain_event_stream(step.head.headers) else None
        elif isinstance(step, Data) and parser is not None:
            data, done = step.data, 0
            for frame in _events(parser.feed(data)):
                end = max(frame.start + frame.size - start, done)
                count += 1
                if end > done:
                    waiting.append(Data(data[done:end]))
                yield from ((count, one) for one in waiting)
                waiting, done = [], end
            if done < len(data):
                waiting.append(Data(data[done:]))
            start += len(data)
            continue
        elif parser is not None:  # the end may show that the last event was over
            count += len(_events(parser.close()))
        yield from ((count, one) for one in (*waiting, step))
        waiting = []
    # What comes behind the last event needs no release of its own.
    yield from ((count, one) for one in waiting)


def _events(frames: Iterable[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame.type == "event"]


class Histogram:
    """How late steps left, in a memory that does not grow with them.

    The greatest is kept as it is, and of all others the eight highest bits: what is
    told of them is less than 0.4 % off.
    """

    __slots__ = ("counts", "max_ns")

    def __init__(self, parts: Iterable[Histogram] = ()) -> None:
        self.counts: Counter[int] = Counter()
        self.max_ns = 0
        for part in parts:
            self.counts.update(part.counts)
            self.max_ns = max(self.max_ns, part.max_ns)

    def add(self, ns: int) -> None:
        """Count one."""
        shift = max(0, ns.bit_length() - 8)
        self.counts[(ns >> shift << shift) + (1 << shift >> 1)] += 1
        self.max_ns = max(self.max_ns, ns)

    def summary(self) -> Lateness:
        """Return what there is to tell."""
        found = Lateness.counted(self.counts)
        p50_ns, p99_ns = (min(ns, self.max_ns) for ns in (found.p50_ns, found.p99_ns))
        return Lateness(found.count, p50_ns, p99_ns, self.max_ns)


@dataclass(frozen=True, slots=True)
class Lateness:
    """How much later than due the steps of a replay left, in nanoseconds."""

    count: int
    p50_ns: int
    p99_ns: int
    max_ns: int

    @classmethod
    def of(cls, values: Iterable[int]) -> Lateness:
        """Summarise; percentiles are those of the nearest rank."""
        return cls.counted(Counter(values))

    @classmethod
    def counted(cls, counts: Mapping[int, int]) -> Lateness:
        """Summarise values, each with how often it came."""
        ordered = sorted(counts)
        ends = list(accumulate(counts[value] for value in ordered))
        if not ends:
            return cls(0, 0, 0, 0)
        ranks = (round((ends[-1] - 1) * q) for q in (0.5, 0.99))
        p50, p99 = (ordered[bisect_right(ends, rank)] for rank in ranks)
        return cls(ends[-1], p50, p99, ordered[-1])

    def __str__(self) -> str:
        """Say it in milliseconds."""
        if not self.count:
            return "nothing was played"
        p50, p99, most = (
            f"{ns / 1e6:.3f}" for ns in (self.p50_ns, self.p99_ns, self.max_ns)
        )
        return f"n={self.count} p50={p50} ms p99={p99} ms max={most} ms"
