"""Replay: recorded exchanges served again, at the pace at which they came.

`ReplayServer` is a `Repertoire` on sockets: what that finds for a request, a `Player`
plays on one `Timer`.

What is served, and how:

- A chunk is one write, so clients see the boundaries that were recorded.
- An exchange that broke is broken at the same byte, at the same time and in the same
  way: `reset` or a plain end of the connection.
- One whose client left is held open until the live one leaves, too; who waits for much
  longer has it broken in order (see `playback.Player`).
- One whose upstream gave no response head is answered with 502 or 504, as it was then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Literal, Unpack

from sse_recorder import semconv
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import UsageError
from sse_recorder.exchange import (
    Headers,
    RequestHead,
    ResponseHead,
    header,
)
from sse_recorder.http1.answers import send_json, send_json_error
from sse_recorder.http1.connection import ConnectionHandler, StreamHandler
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.server import Server
from sse_recorder.match import Miss
from sse_recorder.otel import Replayed, SampledTimes, Telemetry
from sse_recorder.playback import Head, Player
from sse_recorder.repertoire import Answer, Repertoire, ReplayOptions, without_wishes
from sse_recorder.steps import do_step
from sse_recorder.timer import Call, Timer

log = logging.getLogger("sse_recorder.replay")


class ReplayServer(Repertoire):
    """Serves the exchanges of stores and cassettes.

    Requests are masked as they were while recording, and matched by
    `sse_recorder.match`: equal method, query and content, but for what `ignore` names,
    and a path that is equal to the client's or the upstream's, or ends the same; equal
    requests are answered in recorded order, and the last one again when they run out.
    A miss is answered with 404 and JSON that names the nearest recording and what
    differs.
    """

    def __init__(
        self,
        *sources: str | Path,
        step: bool = False,
        on_miss: int = HTTPStatus.NOT_FOUND,
        fallback: Callable[[], ConnectionHandler] | None = None,
        telemetry: Telemetry | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = SYSTEM,
        precise: bool = True,
        **options: Unpack[ReplayOptions],
    ) -> None:
        """Load what is to be served.

        Args:
            sources: folders and cassettes, in the order in which they answer.
            step: hold every response back, until `release` lets events go.
            on_miss: the status of the answer to what matches no recording.
            fallback: makes what such requests of a connection go to instead, such as
                `Recorder.connection`.
            telemetry: where spans of what is served go.
            host: the address to listen on.
            port: 0 picks one.
            clock: what due times are measured on.
            precise: see `timer.Timer`.
            options: speed, faults, what is ignored and more; see `Repertoire`.

        Raises:
            StoreError: a source cannot be read, or none has an exchange to serve.
            UsageError: an option is none.
        """
        super().__init__(sources, **options)
        self.on_miss = on_miss
        self.fallback = fallback
        self.clock = clock
        self.playing: set[_Replay] = set()
        """The responses that are under way."""
        self.telemetry = telemetry
        self.spans_lost = 0
        """Spans that had not been delivered when it stopped."""
        self.times: SampledTimes | None = None
        """How late steps left; None where nobody wants to know."""
        if telemetry is not None and telemetry.metrics is not None:
            self.times = SampledTimes()
            telemetry.metrics.watch(
                semconv.M_REPLAYS,
                "{request}",
                lambda: self.served,
                semconv.M_SCHEDULE_ERROR,
                self.times,
            )
        self.is_stepping = step
        """Whether responses wait for `release`."""
        self._waiting = 0  # events that were released before anybody asked
        self._loop: asyncio.AbstractEventLoop | None = None
        self._address = (host, port)
        self._precise = precise
        self._timer: Timer | None = None
        self._server = Server(lambda: _Connection(self), clock=clock)

    @property
    def url(self) -> str:
        """Where clients send what they sent to the proxy."""
        return self._server.url

    @property
    def timer(self) -> Timer:
        """The one timer of all streams."""
        assert self._timer is not None, "start() comes first"
        return self._timer

    def release(self, events: int = 1) -> None:
        """Let the next events of every response go, in step mode; from any thread.

        What is released while no response waits for it is for the next request.
        """
        assert self._loop is not None, "start() comes first"
        self._loop.call_soon_threadsafe(self._release, events)

    def _release(self, events: int) -> None:
        waiting = self.awaiting_release()
        if not waiting:
            self._waiting += events
        for replay in waiting:
            replay.release(events)

    def awaiting_release(self) -> list[_Replay]:
        """Return the responses that have something to release."""
        return [replay for replay in self.playing if replay.awaits_release]

    def released(self) -> int | None:
        """Return how many events the next response may begin with; None for all."""
        if not self.is_stepping:
            return None
        waiting, self._waiting = self._waiting, 0
        return waiting

    async def start(self) -> None:
        """Listen.

        Raises:
            ListenError: the address is taken or not ours.
        """
        self._loop = asyncio.get_running_loop()
        self._timer = Timer(self.clock, precise=self._precise)
        await self._server.listen(*self._address)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Stop listening, let what is being played end, and cut what does not."""
        await self._server.close(grace_s=grace_s)
        self.timer.close()
        if self.telemetry is not None:
            loop = asyncio.get_running_loop()
            self.spans_lost = await loop.run_in_executor(None, self.telemetry.close)


class _Connection:
    """A client's connection; it keeps nothing from one request to the next."""

    def __init__(self, server: ReplayServer) -> None:
        self._server = server
        self._fallback = server.fallback() if server.fallback else None

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> _Replay:
        if (header(head.headers, "expect") or "").lower() == "100-continue":
            stream.send_informational(ResponseHead(100, "Continue"))
        return _Replay(self._server, head, stream, at_ns, self._fallback)

    def connection_closed(self) -> None:
        if self._fallback is not None:
            self._fallback.connection_closed()


class _Replay:
    """One request, and the recording that answers it."""

    def __init__(
        self,
        server: ReplayServer,
        head: RequestHead,
        stream: ResponseStream,
        began_ns: int,
        fallback: ConnectionHandler | None,
    ) -> None:
        self.head = head
        """Of the request."""
        self._server = server
        self._stream = stream
        self._began_ns = began_ns
        self._fallback = fallback
        self._other: StreamHandler | None = None  # who answers in our place
        self._body: list[bytes] = []
        self._answer: Answer | None = None
        self._player: Player | None = None
        self._state: Literal["playing", "paused", "over"] = "playing"
        self._call: Call | None = None  # that the timer keeps for us
        self._resumed_ns = 0
        self._status: int | None = None

    def request_data(self, data: bytes, at_ns: int) -> None:
        del at_ns
        self._body.append(data)

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        server = self._server
        try:
            found = server.find(self.head, b"".join(self._body))
        except UsageError as error:
            status, kind = HTTPStatus.BAD_REQUEST, "bad_control_header"
            send_json_error(self._stream, status, kind, f"{error}.")
            return
        if isinstance(found, Miss) and self._fallback is not None:
            self._hand_over(self._fallback, at_ns, trailers)
            return
        if isinstance(found, Miss):
            send_json(self._stream, server.on_miss, server.note_miss(found))
            return
        self._body.clear()
        server.playing.add(self)
        self._answer = found
        self._player = Player(found.timeline, at_ns, released=server.released())
        self._play()

    def _hand_over(
        self, fallback: ConnectionHandler, at_ns: int, trailers: Headers
    ) -> None:
        """Have the whole request answered by somebody else."""
        head = replace(self.head, headers=without_wishes(self.head.headers))
        other = fallback.request_head(head, self._stream, self._began_ns)
        self._other = other
        for data in self._body:
            other.request_data(data, at_ns)
        if not self._stream.finished:
            other.request_end(at_ns, trailers)

    @property
    def awaits_release(self) -> bool:
        """Whether it has something to release, as far as can be seen."""
        # What lies behind that which a client does not read is not looked at.
        return self._player is not None and (
            self._state == "paused" or self._player.awaits_release
        )

    def release(self, events: int) -> None:
        """Let so many more events go."""
        if self._player is not None:
            self._player.release(events)
            if self._call is None:
                self._play()

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        if self._other is not None:
            self._other.client_gone(at_ns, error)
        self._end(at_ns)

    def _end(self, at_ns: int) -> None:
        if self._state == "over":
            return
        self._state = "over"
        self._server.playing.discard(self)
        if self._call is not None:
            self._call.cancel()
        if self._player is not None and self._answer is not None:
            self._server.note_end(self._answer, self._player, at_ns)
            self._tell(self._answer, at_ns)

    def _tell(self, answer: Answer, at_ns: int) -> None:
        server = self._server
        if server.telemetry is None:
            return
        server.telemetry.replayed(
            Replayed(
                head=self.head,
                recorded=answer.exchange,
                began_at=server.clock.wall_at(self._began_ns),
                ended_at=server.clock.wall_at(at_ns),
                speed=answer.speed,
                status=self._status,
                was_left=not self._stream.finished,
            )
        )

    def pause_response(self) -> None:
        if self._other is not None:
            self._other.pause_response()
        elif self._state == "playing":
            self._state = "paused"

    def resume_response(self) -> None:
        if self._other is not None:
            self._other.resume_response()
        elif self._state == "paused":
            self._state = "playing"
            self._resumed_ns = self._server.clock.monotonic_ns()
            if self._call is None:
                self._play()

    def _play(self) -> None:
        """Do what is due, and come back for the rest."""
        self._call = None
        try:
            self._play_due()
        except Exception:
            log.exception("a replay failed; please report this")
            self._end(self._server.clock.monotonic_ns())
            self._stream.abort(reset=True)

    def _play_due(self) -> None:
        player, server = self._player, self._server
        if player is None:
            return
        now_ns = server.clock.monotonic_ns
        # Looked at before each step: a client that does not read pauses it in between.
        while self._state == "playing" and (timed := player.take(now_ns())):
            due_ns, step = timed
            do_step(self._stream, step)
            if isinstance(step, Head):
                self._status = step.head.status
            if due_ns < self._resumed_ns:
                server.held += 1
            elif not player.is_stepping:
                late_ns = now_ns() - due_ns
                server.note_late(late_ns, len(server.playing))
                if server.times is not None and server.times.wants():
                    server.times.add(late_ns)
        if self._stream.finished:
            self._end(now_ns())
        if self._state == "playing" and (next_ns := player.due_ns) is not None:
            self._call = server.timer.call_at(next_ns, self._play)
