"""What a recording says when it is played: steps, and when each of them is due.

A `Recording` is an exchange as a timeline: steps with their offsets from the end of the
request, because that is what a recorded run and a live one have in common.  A timeline
is a plain list, so what changes a replay is a function from one timeline to another:

    recorded ─▶ Pace (gaps, jitter, speed) ─▶ faults ─▶ by_event (step mode) ─▶ Player

A `Player` is a machine without I/O or clock.  It is given a timeline and the moment at
which the live request was complete; it says when the next step is due, and gives the
steps when it is told that it is time.  Every due time is absolute: a late step does not
make the next one later.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias

from sse_recorder.exchange import (
    RESET,
    Chunk,
    Exchange,
    Headers,
    Outcome,
    ResponseHead,
    header,
    media_type,
)
from sse_recorder.sse import Parser

MAX_SPEED: Final = math.inf


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

    reset: bool


class Fail(NamedTuple):
    """Answer that the upstream could not be reached."""

    status: HTTPStatus
    message: str


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
    yield exchange.headers_ns or 0, Head(head)
    for chunk in chunks:
        yield chunk.at_ns, Data(chunk.data)
    if exchange.outcome is Outcome.COMPLETE:
        yield ended_ns, End(exchange.response_trailers)
    else:
        yield ended_ns, Break(reset=(exchange.error or "").startswith(RESET))


def _no_answer(exchange: Exchange) -> Step:
    match exchange.outcome:
        case Outcome.CLIENT_ABORT:
            return Break(reset=False)  # it left before there was anything to see
        case Outcome.TIMEOUT:
            status = HTTPStatus.GATEWAY_TIMEOUT
        case _:
            status = HTTPStatus.BAD_GATEWAY
    return Fail(status, exchange.error or "the upstream gave no answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How the times of a timeline are changed.

    Gaps come first, then the factor: of a recorded pause of 10 s, `max_gap_ns` of 2 s
    and a `speed` of 2 leave 1 s.
    """

    speed: float = 1.0
    """How many times as fast as recorded; `MAX_SPEED` for no waiting."""
    max_gap_ns: int | None = None
    """The longest wait between two steps."""
    ttfb_ns: int | None = None
    """The wait before the response head, in place of the recorded one."""
    jitter: float = 0.0
    """By which share of it each gap may be longer or shorter, at random."""

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
            gap_ns: float = at_ns - before_ns
            before_ns = at_ns
            if not paced and self.ttfb_ns is not None:
                gap_ns = self.ttfb_ns
            elif self.max_gap_ns is not None:
                gap_ns = min(gap_ns, self.max_gap_ns)
            if self.jitter:
                gap_ns *= max(0.0, 1 + rng.uniform(-self.jitter, self.jitter))
            now_ns += gap_ns / self.speed
            paced.append((round(now_ns), step))
        return paced


class Player:
    """Says what of a timeline is due.

    Args:
        timeline: what to play.
        anchor_ns: when the live request was complete.
        released: how many events may be played now; None for all of them.  What is
            played is then cut where events end (see `by_event`), and the recorded
            times mean nothing.
    """

    __slots__ = ("_anchor_ns", "_at", "_released", "_timeline")

    def __init__(
        self, timeline: Timeline, anchor_ns: int, *, released: int | None = None
    ) -> None:
        self._timeline = timeline if released is None else by_event(timeline)
        self._anchor_ns = anchor_ns
        self._released = released
        self._at = 0

    @property
    def is_over(self) -> bool:
        """Whether every step was taken."""
        return self._at == len(self._timeline)

    @property
    def is_stepping(self) -> bool:
        """Whether steps wait for a release, and not for their time."""
        return self._released is not None

    @property
    def due_ns(self) -> int | None:
        """When the next step is due; None after the last, and before a release."""
        if self.is_over:
            return None
        offset_ns, _ = self._timeline[self._at]
        if self._released is None:
            return self._anchor_ns + offset_ns
        # By events, an offset is the number of events that have to be over.
        return self._anchor_ns if offset_ns <= self._released else None

    def release(self, events: int) -> None:
        """Let so many more events be played."""
        if self._released is not None:
            self._released += events

    def take(self, now_ns: int) -> TimedStep | None:
        """Give the next step with its due time, if it is due by now."""
        due_ns = self.due_ns
        if due_ns is None or due_ns > now_ns:
            return None
        _, step = self._timeline[self._at]
        self._at += 1
        return due_ns, step


def by_event(timeline: Timeline) -> Timeline:
    """Return a timeline whose offsets are numbers of events.

    A step is due when as many events are released: what belongs to the first event has
    1, the head 0, and the end as many as there are.  Chunks are cut where events end.
    """
    steps: list[TimedStep] = []
    parser: Parser | None = None
    count = 0  # events that are over
    start = 0  # of the chunk, in the body
    for _, step in timeline:
        if isinstance(step, Head):
            parser = Parser() if is_plain_event_stream(step.head.headers) else None
        if not isinstance(step, Data) or parser is None:
            steps.append((count if steps else 0, step))
            continue
        data, done = step.data, 0
        for frame in parser.feed(data):
            end = max(frame.start + frame.size - start, done)
            if frame.type != "event":
                continue
            count += 1
            if end > done:
                steps.append((count, Data(data[done:end])))
            done = end
        if done < len(data):
            steps.append((count + 1, Data(data[done:])))
        start += len(data)
    return _with_end(steps, count)


def _with_end(steps: list[TimedStep], count: int) -> Timeline:
    # What comes behind the last event needs no release of its own.
    return [(min(number, count), step) for number, step in steps]


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
        ordered = sorted(values)
        if not ordered:
            return cls(0, 0, 0, 0)
        last = len(ordered) - 1
        p50, p99 = (ordered[round(last * q)] for q in (0.5, 0.99))
        return cls(len(ordered), p50, p99, ordered[-1])

    def __str__(self) -> str:
        """Say it in milliseconds."""
        if not self.count:
            return "nothing was played"
        p50, p99, most = (
            f"{ns / 1e6:.3f}" for ns in (self.p50_ns, self.p99_ns, self.max_ns)
        )
        return f"n={self.count} p50={p50} ms p99={p99} ms max={most} ms"
