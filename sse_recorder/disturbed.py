"""A live response with faults: what stands between a relay and its client's response.

It has what a `ResponseStream` has, is told the same, and feeds it to the faults as
steps.  What they give is done when it is due.  The recording is not touched: it has
what the upstream sent, and the client gets what the faults make of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sse_recorder.clock import Clock
from sse_recorder.exchange import Headers, ResponseHead
from sse_recorder.faults import Disturbance, Fed, Tick
from sse_recorder.http1.response import ResponseStream
from sse_recorder.playback import Break, Data, End, Fail, Head, TimedStep
from sse_recorder.timer import Timer


class DisturbedStream:
    """A response that is disturbed on its way to the client.

    Args:
        stream: the client's response.
        disturbance: the faults.
        timer: plays what is due later.
        clock: gives the time of every step.
        on_broken: called once if a fault ends the response before its relay does,
            with what the faults report.
    """

    def __init__(
        self,
        stream: ResponseStream,
        disturbance: Disturbance,
        *,
        timer: Timer,
        clock: Clock,
        on_broken: Callable[[str], None],
    ) -> None:
        self.started = False
        """Whether the response head has come from the relay."""
        self._stream = stream
        self._disturbance = disturbance
        self._timer = timer
        self._now = clock.monotonic_ns
        self._on_broken = on_broken
        self._anchor_ns: int | None = None
        self._due: deque[TimedStep] = deque()
        self._is_ended = False  # by the relay

    @property
    def finished(self) -> bool:
        """Whether the response is over for the client."""
        return self._stream.finished

    @property
    def buffered(self) -> int:
        """The bytes written to the client that its socket has not taken yet."""
        return self._stream.buffered

    @property
    def report(self) -> list[str]:
        """What the faults did, in words."""
        return self._disturbance.report

    def begin(self, at_ns: int) -> None:
        """Count from now on: the request is complete."""
        self._anchor_ns = at_ns
        if (wakes_ns := self._disturbance.wakes_ns) is not None:
            self._timer.call_at(at_ns + wakes_ns, lambda: self._feed(Tick()))

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
        if self._anchor_ns is None:
            self._anchor_ns = self._now()  # the answer came before all of the request
        if self._stream.finished:
            return
        at_ns = self._now() - self._anchor_ns
        self._due += self._disturbance.feed(at_ns, step)
        self._play()

    def _play(self) -> None:
        assert self._anchor_ns is not None
        now_ns = self._now() - self._anchor_ns
        while self._due and not self._stream.finished and self._due[0][0] <= now_ns:
            self._do(self._due.popleft()[1])
        if self._stream.finished:
            self._due.clear()
            if not self._is_ended:
                self._is_ended = True
                self._on_broken("; ".join(self.report))
        elif self._due:
            self._timer.call_at(self._anchor_ns + self._due[0][0], self._play)

    def _do(self, step: Head | Data | End | Break | Fail) -> None:
        stream = self._stream
        match step:
            case Data(data):
                stream.send_data(data)
            case Head(head):
                stream.send_head(head)
            case End(trailers):
                stream.end(trailers)
            case Break(reset):
                stream.abort(reset=reset)
