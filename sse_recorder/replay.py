"""Replay: recorded exchanges served again, at the pace at which they came.

`ReplayServer` is a shell round `sse_recorder.playback`: it matches requests, and plays
on one `Timer`.

What is served, and how:

- A chunk is one write, so clients see the boundaries that were recorded.
- An exchange that broke is broken at the same byte, at the same time and in the same
  way: `reset` or a plain end of the connection.
- One whose upstream gave no response head is answered with 502, as it was then.
- Exchanges that are open, or that the recorder itself did not get whole (`incomplete`),
  are not served; `skipped` counts them.

A request may ask for what is else set for all of them, by headers that take no part in
matching: `X-SSE-Recorder-Speed`, `X-SSE-Recorder-Fault` (any number of them) and
`X-SSE-Recorder-Scope`, which begins at the first recording again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import (
    Chunk,
    Exchange,
    Headers,
    Outcome,
    RequestHead,
    ResponseHead,
    header,
)
from sse_recorder.faults import Disturbance, Spec, parse
from sse_recorder.http1 import framing
from sse_recorder.http1.answers import send_json, send_json_error
from sse_recorder.http1.connection import ConnectionHandler, StreamHandler
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.server import Server
from sse_recorder.match import Matcher, Miss
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
)
from sse_recorder.redact import Redactor
from sse_recorder.store.store import Store
from sse_recorder.timer import Timer

log = logging.getLogger("sse_recorder.replay")

_SKIPPED: Final = (None, Outcome.INCOMPLETE)
_STREAMS: Final = (1, 9, 99, 999)
"""Where the numbers of streams that lateness is told for end; the rest is one more."""
_PREFIX: Final = "x-sse-recorder-"
_MISSES_KEPT: Final = 100


class Wishes(NamedTuple):
    """What one request asks for."""

    pace: Pace
    faults: tuple[Spec, ...]
    scope: str


class ReplayServer:
    """Serves the exchanges of stores and cassettes.

    Requests are masked as they were while recording, and matched by
    `sse_recorder.match`: equal method, query and content, and a path that is equal to
    the client's or the upstream's, or ends the same; equal requests are answered in
    recorded order, and the last one again when they run out.  A miss is answered with
    404 and JSON that names the nearest recording and what differs.
    """

    def __init__(
        self,
        *sources: str | Path,
        speed: float = 1.0,
        pace: Pace | None = None,
        faults: Iterable[str | Spec] = (),
        seed: int = 0,
        step: bool = False,
        on_miss: HTTPStatus = HTTPStatus.NOT_FOUND,
        fallback: Callable[[], ConnectionHandler] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        redactor: Redactor | None = None,
        clock: Clock = SYSTEM,
        precise: bool = True,
    ) -> None:
        """Load what is to be served.

        Args:
            sources: folders and cassettes, in the order in which they answer.
            speed: how many times as fast as recorded; `MAX_SPEED` for no waiting.
            pace: the speed and more, in its place.
            faults: what is done to every response; see `sse_recorder.faults`.
            seed: what jitter and faults are drawn from.
            step: hold every response back, until `release` lets events go.
            on_miss: the status of the answer to what matches no recording.
            fallback: makes what such requests of a connection go to instead, such as
                `Recorder.connection`.
            host: the address to listen on.
            port: 0 picks one.
            redactor: what masked the recordings.
            clock: what due times are measured on.
            precise: see `timer.Timer`.

        Raises:
            StoreError: a source cannot be read, or none has an exchange to serve.
            UsageError: a fault is none.
        """
        self.pace = pace or Pace(speed=speed)
        self.faults = tuple(parse(f) if isinstance(f, str) else f for f in faults)
        self.seed = seed
        self.on_miss = on_miss
        self.fallback = fallback
        self.clock = clock
        self.redactor = redactor or Redactor()
        self.matcher: Matcher[Recording] = Matcher()
        self.served = 0
        """Requests that were answered from a recording."""
        self.missed = 0
        """Requests that no recording matched."""
        self.misses: deque[Miss[Recording]] = deque(maxlen=_MISSES_KEPT)
        """The latest of them, and why."""
        self.skipped = 0
        """Exchanges that cannot be served."""
        self.loaded = 0
        """Exchanges that can."""
        self.held = 0
        """Steps that left late because their client was not reading."""
        self.fault_report: list[str] = []
        """What faults did, a line for each of them and of the responses."""
        self.playing: set[_Replay] = set()
        """The responses that are under way."""
        self._late: dict[int, array[int]] = {}
        self.is_stepping = step
        """Whether responses wait for `release`."""
        self._waiting = 0  # events that were released before anybody asked
        self._loop: asyncio.AbstractEventLoop | None = None
        self._address = (host, port)
        self._precise = precise
        self._timer: Timer | None = None
        self._server = Server(lambda: _Connection(self), clock=clock)
        for source in sources:
            self._load(Path(source))
        if not self.loaded:
            names = ", ".join(map(str, sources))
            raise StoreError(
                f"{names}: no exchange that can be served; `sse-recorder ls` shows what"
                " is there"
            )

    @property
    def url(self) -> str:
        """Where clients send what they sent to the proxy."""
        return self._server.url

    @property
    def timer(self) -> Timer:
        """The one timer of all streams."""
        assert self._timer is not None, "start() comes first"
        return self._timer

    @property
    def lateness(self) -> Lateness:
        """How late the steps left so far."""
        return Lateness.of(late for values in self._late.values() for late in values)

    def lateness_by_streams(self) -> dict[str, Lateness]:
        """Return the same by how many responses were under way: `1`, `2-9`, …."""
        return {_streams(top): Lateness.of(v) for top, v in sorted(self._late.items())}

    def note_late(self, late_ns: int) -> None:
        """Note how late a step left."""
        count = len(self.playing)
        top = next((most for most in _STREAMS if count <= most), _STREAMS[-1] + 1)
        self._late.setdefault(top, array("q")).append(late_ns)

    def assert_punctual(self, **most_ms: float) -> None:
        """Check how late the steps left.

        Args:
            most_ms: `p50_ms`, `p99_ms` or `max_ms`, each the most that is allowed.

        Raises:
            AssertionError: one was later, or nothing was played.
        """
        lateness = self.lateness
        found = {
            "p50_ms": lateness.p50_ns / 1e6,
            "p99_ms": lateness.p99_ns / 1e6,
            "max_ms": lateness.max_ns / 1e6,
        }
        late = {
            name: found[name] for name, most in most_ms.items() if found[name] > most
        }
        if late or not lateness.count:
            raise AssertionError(
                f"the replay was not punctual: {lateness}; allowed were {most_ms}"
            )

    def report(self) -> dict[str, Any]:
        """Return what was served, what was not, and how late, as JSON can hold it."""
        return {
            "served": self.served,
            "missed": self.missed,
            "skipped": self.skipped,
            "unused": [r.exchange.exchange_id for r in self.matcher.unused()],
            "held_steps": self.held,
            "lateness": self.lateness._asdict(),
            "lateness_by_streams": {
                streams: lateness._asdict()
                for streams, lateness in self.lateness_by_streams().items()
            },
            "faults": self.fault_report,
        }

    def release(self, events: int = 1) -> None:
        """Let the next events of every response go, in step mode; from any thread.

        What is released while nothing is asked for is for the next request.
        """
        assert self._loop is not None, "start() comes first"
        self._loop.call_soon_threadsafe(self._release, events)

    def _release(self, events: int) -> None:
        if not self.playing:
            self._waiting += events
        for replay in tuple(self.playing):
            replay.release(events)

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

    def _load(self, source: Path) -> None:
        with Store.open(source) as store:
            chunks = dict(store.all_chunks())
            for exchange in store.exchanges():
                if exchange.outcome in _SKIPPED:
                    self.skipped += 1
                    continue
                self.loaded += 1
                self.matcher.add(
                    _recording(source, exchange, chunks.get(exchange.exchange_id, ())),
                    exchange.method,
                    exchange.target,
                    exchange.request_headers,
                    exchange.request_body,
                    received_path=exchange.received_path,
                )


def _streams(top: int) -> str:
    if top > _STREAMS[-1]:
        return f"{top}+"
    before = max((most + 1 for most in _STREAMS if most < top), default=top)
    return str(top) if before == top else f"{before}-{top}"


def _recording(source: Path, exchange: Exchange, chunks: Iterable[Chunk]) -> Recording:
    headers = framing.end_to_end(exchange.response_headers)
    try:
        recording = Recording(replace(exchange, response_headers=headers), chunks)
        for _, step in recording.timeline[:1]:
            if isinstance(step, Head):
                framing.encode_response(step.head)  # whatever is wrong is found here
    except UsageError as error:
        raise StoreError(
            f"{source}: exchange {exchange.exchange_id} cannot be served: {error}"
        ) from error
    return recording


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
        self._player: Player | None = None
        self._state: Literal["playing", "paused", "over"] = "playing"
        self._is_timed = False
        self._resumed_ns = 0

    def request_data(self, data: bytes, at_ns: int) -> None:
        del at_ns
        self._body.append(data)

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        server = self._server
        try:
            wishes = _wishes(server, self.head.headers)
        except UsageError as error:
            status, kind = HTTPStatus.BAD_REQUEST, "bad_control_header"
            send_json_error(self._stream, status, kind, f"{error}.")
            return
        head = server.redactor.request_head(self.head)
        body = server.redactor.whole_body(self.head, b"".join(self._body))
        found = server.matcher.find(
            head.method, head.target, head.headers, body, scope=wishes.scope
        )
        if isinstance(found, Miss) and self._fallback is not None:
            self._hand_over(self._fallback, at_ns, trailers)
            return
        if isinstance(found, Miss):
            server.missed += 1
            server.misses.append(found)
            send_json(self._stream, server.on_miss, found.to_json(_describe))
            return
        server.served += 1
        server.playing.add(self)
        self._player = self._prepare(found, wishes, at_ns)
        self._play()

    def _hand_over(
        self, fallback: ConnectionHandler, at_ns: int, trailers: Headers
    ) -> None:
        """Have the whole request answered by somebody else."""
        other = fallback.request_head(self.head, self._stream, self._began_ns)
        self._other = other
        for data in self._body:
            other.request_data(data, at_ns)
        if not self._stream.finished:
            other.request_end(at_ns, trailers)

    def _prepare(self, found: Recording, wishes: Wishes, at_ns: int) -> Player:
        """Return what plays a recording as it was asked for."""
        server, exchange = self._server, found.exchange
        name = exchange.exchange_id
        rng = random.Random(f"{server.seed}/{name}")  # noqa: S311 - it has to come again
        timeline = wishes.pace.apply(found.timeline, rng)
        if wishes.faults:
            disturbance = Disturbance(
                wishes.faults,
                seed=server.seed,
                name=name,
                dialect=exchange.dialect or "generic",
            )
            timeline = disturbance.apply(timeline)
            server.fault_report += [
                f"{exchange.method} {exchange.path}: {line}"
                for line in disturbance.report
            ]
        return Player(timeline, at_ns, released=server.released())

    def release(self, events: int) -> None:
        """Let so many more events go."""
        if self._player is not None:
            self._player.release(events)
            if not self._is_timed:
                self._play()

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        if self._other is not None:
            self._other.client_gone(at_ns, error)
        self._end()

    def _end(self) -> None:
        self._state = "over"
        self._server.playing.discard(self)

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
            if not self._is_timed:
                self._play()

    def _play(self) -> None:
        """Do what is due, and come back for the rest."""
        self._is_timed = False
        try:
            self._play_due()
        except Exception:
            log.exception("a replay failed; please report this")
            self._end()
            self._stream.abort(reset=True)

    def _play_due(self) -> None:
        player, server = self._player, self._server
        if player is None:
            return
        now_ns = server.clock.monotonic_ns
        # Looked at before each step: a client that does not read pauses it in between.
        while self._state == "playing" and (timed := player.take(now_ns())):
            due_ns, step = timed
            self._do(step)
            if due_ns < self._resumed_ns:
                server.held += 1
            elif not player.is_stepping:
                server.note_late(now_ns() - due_ns)
        if self._stream.finished:
            self._end()
        if self._state == "playing" and (next_ns := player.due_ns) is not None:
            self._is_timed = True
            server.timer.call_at(next_ns, self._play)

    def _do(self, step: Step) -> None:
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
            case Fail(status, message):
                send_json_error(stream, status, "upstream_error", message)


def _wishes(server: ReplayServer, headers: Headers) -> Wishes:
    """Return what a request asks for.

    Raises:
        UsageError: it asks for what there is not.
    """
    pace, faults, scope = server.pace, server.faults, ""
    asked: list[Spec] = []
    for name, value in headers:
        lower = name.lower()
        if lower == f"{_PREFIX}speed":
            pace = replace(pace, speed=speed_of(value))
        elif lower == f"{_PREFIX}fault":
            asked.append(parse(value))
        elif lower == f"{_PREFIX}scope":
            scope = value
    return Wishes(pace, tuple(asked) or faults, scope)


def speed_of(text: str) -> float:
    """Read a speed: a factor, or `max`.

    Raises:
        UsageError: it is none.
    """
    if text == "max":
        return MAX_SPEED
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < MAX_SPEED:
        raise UsageError(f"{text!r} is not a speed: give a number above 0, or max")
    return speed


def _describe(recording: Recording) -> dict[str, object]:
    exchange = recording.exchange
    return {
        "exchange_id": exchange.exchange_id,
        "method": exchange.method,
        "path": exchange.path,
    }
