"""A live response with faults: what stands between a relay and its client's response.

It has what a `ResponseStream` has, is told the same, and feeds it to the faults as
steps.  What they give is done when it is due.  The recording is not touched: it has
what the upstream sent, and the client gets what the faults make of it.

What is due later is kept, and when that becomes much the relay is asked to pause.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final, Protocol

from sse_recorder.clock import Clock
from sse_recorder.exchange import Headers, ResponseHead
from sse_recorder.faults import Disturbance, Fed, Tick
from sse_recorder.http1.response import ResponseStream
from sse_recorder.playback import Break, Data, End, Head, TimedStep
from sse_recorder.steps import do_step
from sse_recorder.timer import Call, Timer

DUE_BYTES_MAX: Final = 1 << 20
"""How much may be due later before the relay is asked to pause.  A stream that brings
more than this while a fault makes it late comes more slowly than it would."""

log = logging.getLogger("sse_recorder.proxy")


class Owner(Protocol):
    """The relay whose response is disturbed."""

    def faults_told(self, lines: list[str], *, is_broken: bool) -> None:
        """The response is over for the client: take what the faults did, in words.

        `is_broken` says that they ended it, and that its relay has not.
        """

    def hold_response(self) -> None:
        """Read the upstream no further: enough is due later."""

    def release_response(self) -> None:
        """Read on."""


class DisturbedStream:
    """A response that is disturbed on its way to the client.

    Args:
        stream: the client's response.
        disturbance: the faults.
        owner: is told how it went.
        timer: plays what is due later.
        clock: gives the time of every step.
    """

    def __init__(
        self,
        stream: ResponseStream,
        disturbance: Disturbance,
        owner: Owner,
        *,
        timer: Timer,
        clock: Clock,
    ) -> None:
        self.started = False
        """Whether the response head has come from the relay."""
        self._stream = stream
        self._disturbance = disturbance
        self._owner = owner
        self._timer = timer
        self._now = clock.monotonic_ns
        self._anchor_ns: int | None = None
        self._due: deque[TimedStep] = deque()
        self._due_bytes = 0
        self._wakes_ns: int | None = None  # when the timer is set for
        self._call: Call | None = None  # that it keeps for us
        self._is_held = False
        self._is_ended = False  # by the relay
        self._is_over = False  # for the client

    @property
    def finished(self) -> bool:
        """Whether the response is over for the client."""
        return self._stream.finished

    def begin(self, at_ns: int) -> None:
        """Count from now on, if nothing came yet: the request is complete."""
        if self._anchor_ns is None:
            self._anchor_ns = at_ns
            self._wake_later()

    def lose_client(self, at_ns: int) -> None:
        """Forget what is due: nobody waits for it any more."""
        self._end(0 if self._anchor_ns is None else at_ns - self._anchor_ns)

    # What a relay does to a response.

    def send_informational(self, head: ResponseHead) -> None:
        """Send a 1xx response: faults are of what comes after it."""
        self._stream.send_informational(head)

    def send_head(self, head: ResponseHead) -> None:
        """Send the response head, as the faults make it."""
        self.started = True
        self._feed(Head(head))

    def send_data(self, data: bytes) -> None:
        """Send a chunk, as the faults make it."""
        self._feed(Data(data))

    def end(self, trailers: Headers = ()) -> None:
        """End the response, as the faults make it."""
        self._is_ended = True
        self._feed(End(trailers))

    def abort(self, *, reset: bool) -> None:
        """Break the response off, as the faults make it."""
        self._is_ended = True
        self._feed(Break(reset=reset))

    def pause_request(self) -> None:
        """Stop reading the request's body from the client."""
        self._stream.pause_request()

    def resume_request(self) -> None:
        """Read it again."""
        self._stream.resume_request()

    # What the faults make of it.

    def _feed(self, step: Fed) -> None:
        if self._is_over:
            return
        if self._anchor_ns is None:
            self._anchor_ns = self._now()  # the answer came before all of the request
        try:
            self._play(step, self._now() - self._anchor_ns)
        except Exception:
            log.exception("a fault failed; please report this")
            self._stream.abort(reset=True)
        if self._stream.finished:
            self._end(None)
        else:
            self._wake_later()

    def _play(self, step: Fed, now_ns: int) -> None:
        for timed in self._disturbance.feed(now_ns, step):
            self._due.append(timed)
            self._due_bytes += _size(timed[1])
        while self._due and not self._stream.finished and self._due[0][0] <= now_ns:
            due = self._due.popleft()[1]
            self._due_bytes -= _size(due)
            self._hold_or_release()  # before an end lets the next exchange begin
            do_step(self._stream, due)
        self._hold_or_release()

    def _hold_or_release(self) -> None:
        # To hold and to release at one limit would be done for each chunk.
        limit = DUE_BYTES_MAX // (4 if self._is_held else 1)
        if (self._due_bytes > limit) is self._is_held:
            return
        self._is_held = not self._is_held
        if self._is_held:
            self._owner.hold_response()
        else:
            self._owner.release_response()

    def _wake_later(self) -> None:
        assert self._anchor_ns is not None
        times = [self._due[0][0]] if self._due else []
        if (wakes_ns := self._disturbance.wakes_ns) is not None:
            times.append(wakes_ns)
        if times and (self._wakes_ns is None or min(times) < self._wakes_ns):
            self._forget_call()
            self._wakes_ns = min(times)
            due_ns = self._anchor_ns + self._wakes_ns
            self._call = self._timer.call_at(due_ns, self._wake)

    def _forget_call(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def _wake(self) -> None:
        self._wakes_ns = self._call = None
        self._feed(Tick())

    def _end(self, left_ns: int | None) -> None:
        """Take leave of the client, who left at a time or has had it all."""
        if self._is_over:
            return
        self._is_over = True
        self._forget_call()
        self._due.clear()
        self._due_bytes = 0
        self._hold_or_release()
        is_broken = left_ns is None and not self._is_ended
        self._owner.faults_told(self._disturbance.told(left_ns), is_broken=is_broken)


def _size(step: object) -> int:
    return len(step.data) if isinstance(step, Data) else 0
