"""Replay: recorded exchanges served again, at the pace at which they came.

`Player` is a machine without I/O or clock.  It is given one exchange and the moment at
which the live request was complete; it says when the next step is due, and gives the
steps when it is told that it is time.  The recorded times are counted from the end of
the recorded request (`sent_ns`), because that is what both runs have in common, and
every due time is absolute: a late step does not make the next one later.

`ReplayServer` is the shell round it: it matches requests, and plays on one `Timer`.

What is served, and how:

- A chunk is one write, so clients see the boundaries that were recorded.
- An exchange that broke is broken at the same byte, at the same time and in the same
  way: `reset` or a plain end of the connection.
- One that never got a response head is answered with 502, as it was while recording.
- Exchanges that are open, or that the recorder itself did not get whole (`incomplete`),
  are not served; `skipped` counts them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import StoreError
from sse_recorder.exchange import (
    RESET,
    Chunk,
    Exchange,
    Headers,
    Outcome,
    RequestHead,
    ResponseHead,
    header,
)
from sse_recorder.http1.answers import send_json, send_json_error
from sse_recorder.http1.server import ResponseStream, Server
from sse_recorder.match import Matcher, Miss
from sse_recorder.redact import Redactor
from sse_recorder.store.store import Store
from sse_recorder.timer import Timer

MAX_SPEED: Final = float("inf")
_SKIPPED: Final = (None, Outcome.INCOMPLETE)
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Recording:
    """An exchange with its chunks, in memory."""

    exchange: Exchange
    chunks: list[Chunk]


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


Step = Head | Data | End | Break | Fail


class Player:
    """Says what of a recording is due."""

    __slots__ = ("_at", "_dues", "_steps")

    def __init__(
        self, recording: Recording, anchor_ns: int, *, speed: float = 1.0
    ) -> None:
        """Begin to play.

        Args:
            recording: what to play.
            anchor_ns: when the live request was complete.
            speed: how many times as fast as recorded; `MAX_SPEED` for no waiting.
        """
        exchange = recording.exchange
        origin_ns = exchange.sent_ns or 0
        timed = list(_steps(recording))
        self._steps = [step for _, step in timed]
        # A response may begin before its request is complete; a replay's cannot,
        # because only the whole request can be matched.
        self._dues = [
            anchor_ns + round(max(0, at_ns - origin_ns) / speed) for at_ns, _ in timed
        ]
        self._at = 0

    @property
    def due_ns(self) -> int | None:
        """When the next step is due; None after the last."""
        return self._dues[self._at] if self._at < len(self._dues) else None

    def take(self, now_ns: int) -> list[tuple[int, Step]]:
        """Give the steps that are due by now, each with its due time."""
        start, self._at = self._at, bisect_right(self._dues, now_ns, self._at)
        return list(
            zip(
                self._dues[start : self._at],
                self._steps[start : self._at],
                strict=True,
            )
        )


def _steps(recording: Recording) -> Iterable[tuple[int, Step]]:
    exchange = recording.exchange
    ended_ns = exchange.ended_ns or 0
    if exchange.status is None:
        timed_out = exchange.outcome is Outcome.TIMEOUT
        status = HTTPStatus.GATEWAY_TIMEOUT if timed_out else HTTPStatus.BAD_GATEWAY
        yield ended_ns, Fail(status, exchange.error or "the upstream gave no answer")
        return
    head = ResponseHead(
        exchange.status, exchange.reason or "", exchange.response_headers
    )
    yield exchange.headers_ns or 0, Head(head)
    for chunk in recording.chunks:
        yield chunk.at_ns, Data(chunk.data)
    if exchange.outcome is Outcome.COMPLETE:
        yield ended_ns, End(exchange.response_trailers)
    else:
        yield ended_ns, Break(reset=(exchange.error or "").startswith(RESET))


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
        p50, p99, most = (
            f"{ns / 1e6:.3f}" for ns in (self.p50_ns, self.p99_ns, self.max_ns)
        )
        return f"n={self.count} p50={p50} ms p99={p99} ms max={most} ms"


class ReplayServer:
    """Serves the exchanges of stores and cassettes.

    Requests are masked as they were while recording, and matched by
    `sse_recorder.match`: equal method, query and content, and a path that is equal or
    ends the same; equal requests are answered in recorded order, and the last one again
    when they run out.  A miss is answered with 404 and JSON that names the nearest
    recording and what differs.
    """

    def __init__(
        self,
        *sources: str | Path,
        speed: float = 1.0,
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
            host: the address to listen on.
            port: 0 picks one.
            redactor: what masked the recordings.
            clock: what due times are measured on.
            precise: see `timer.Timer`.

        Raises:
            StoreError: a source cannot be read, or none has an exchange to serve.
        """
        self.speed = speed
        self.clock = clock
        self.redactor = redactor or Redactor()
        self.matcher: Matcher[Recording] = Matcher()
        self.served = 0
        """Requests that were answered from a recording."""
        self.missed = 0
        """Requests that no recording matched."""
        self.skipped = 0
        """Exchanges that cannot be served."""
        self.loaded = 0
        """Exchanges that can."""
        self.lateness_ns: array[int] = array("q")
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
        return Lateness.of(self.lateness_ns)

    async def start(self) -> None:
        """Listen.

        Raises:
            ListenError: the address is taken or not ours.
        """
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
                    Recording(exchange, chunks.get(exchange.exchange_id, [])),
                    exchange.method,
                    exchange.target,
                    exchange.request_headers,
                    exchange.request_body,
                )


class _Connection:
    """A client's connection; it keeps nothing from one request to the next."""

    def __init__(self, server: ReplayServer) -> None:
        self._server = server

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> _Replay:
        del at_ns
        if (header(head.headers, "expect") or "").lower() == "100-continue":
            stream.send_informational(ResponseHead(100, "Continue"))
        return _Replay(self._server, head, stream)

    def connection_closed(self) -> None:
        pass


class _Replay:
    """One request, and the recording that answers it."""

    def __init__(
        self, server: ReplayServer, head: RequestHead, stream: ResponseStream
    ) -> None:
        self._server = server
        self._head = head
        self._stream = stream
        self._body: list[bytes] = []
        self._player: Player | None = None
        self._state: Literal["playing", "paused", "over"] = "playing"
        self._is_timed = False

    def request_data(self, data: bytes, at_ns: int) -> None:
        del at_ns
        self._body.append(data)

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        del trailers
        server = self._server
        head = server.redactor.request_head(self._head)
        mask = server.redactor.body("")
        body = b"".join(mask.feed(data) for data in self._body) + mask.flush()
        found = server.matcher.find(head.method, head.target, head.headers, body)
        if isinstance(found, Miss):
            server.missed += 1
            send_json(self._stream, HTTPStatus.NOT_FOUND, found.to_json(_describe))
            return
        server.served += 1
        self._player = Player(found, at_ns, speed=server.speed)
        self._play()

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        del at_ns, error
        self._state = "over"

    def pause_response(self) -> None:
        if self._state == "playing":
            self._state = "paused"

    def resume_response(self) -> None:
        if self._state == "paused":
            self._state = "playing"
            if not self._is_timed:
                self._play()

    def _play(self) -> None:
        """Do what is due, and come back for the rest."""
        self._is_timed = False
        player, clock = self._player, self._server.clock
        if player is None or self._state != "playing":
            return
        late = self._server.lateness_ns
        for due_ns, step in player.take(clock.monotonic_ns()):
            self._do(step)
            late.append(clock.monotonic_ns() - due_ns)
        if (next_ns := player.due_ns) is not None:
            self._is_timed = True
            self._server.timer.call_at(next_ns, self._play)

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


def _describe(recording: Recording) -> dict[str, object]:
    exchange = recording.exchange
    return {
        "exchange_id": exchange.exchange_id,
        "method": exchange.method,
        "path": exchange.path,
    }
