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
- One whose upstream gave no response head is answered with 502, as it was then.
- Exchanges that are open, or that the recorder itself did not get whole (`incomplete`),
  are not served; `skipped` counts them.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import StoreError, UsageError
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
from sse_recorder.http1 import framing
from sse_recorder.http1.answers import send_json, send_json_error
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.server import Server
from sse_recorder.match import Matcher, Miss
from sse_recorder.redact import Redactor
from sse_recorder.store.store import Store
from sse_recorder.timer import Timer

log = logging.getLogger("sse_recorder.replay")

MAX_SPEED: Final = float("inf")
_SKIPPED: Final = (None, Outcome.INCOMPLETE)
_NS_PER_S: Final = 1_000_000_000


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


class Recording:
    """An exchange with its steps, in memory, ready to be played any number of times."""

    __slots__ = ("exchange", "offsets_ns", "steps")

    def __init__(self, exchange: Exchange, chunks: Iterable[Chunk]) -> None:
        """Lay out the steps of an exchange.

        Raises:
            UsageError: its head cannot be sent, because it holds what no header may.
        """
        self.exchange = exchange
        origin_ns = exchange.sent_ns or 0
        timed = list(_steps(exchange, chunks))
        self.steps = [step for _, step in timed]
        # A response may begin before its request is complete; a replay's cannot,
        # because only the whole request can be matched.
        self.offsets_ns = [max(0, at_ns - origin_ns) for at_ns, _ in timed]


class Player:
    """Says what of a recording is due."""

    __slots__ = ("_anchor_ns", "_at", "_recording", "_speed")

    def __init__(
        self, recording: Recording, anchor_ns: int, *, speed: float = 1.0
    ) -> None:
        """Begin to play.

        Args:
            recording: what to play.
            anchor_ns: when the live request was complete.
            speed: how many times as fast as recorded; `MAX_SPEED` for no waiting.
        """
        self._recording = recording
        self._anchor_ns = anchor_ns
        self._speed = speed
        self._at = 0

    @property
    def due_ns(self) -> int | None:
        """When the next step is due; None after the last."""
        if self._at == len(self._recording.steps):
            return None
        offset_ns = self._recording.offsets_ns[self._at]
        return self._anchor_ns + round(offset_ns / self._speed)

    def take(self, now_ns: int) -> tuple[int, Step] | None:
        """Give the next step with its due time, if it is due by now."""
        due_ns = self.due_ns
        if due_ns is None or due_ns > now_ns:
            return None
        step = self._recording.steps[self._at]
        self._at += 1
        return due_ns, step


def _steps(exchange: Exchange, chunks: Iterable[Chunk]) -> Iterable[tuple[int, Step]]:
    ended_ns = exchange.ended_ns or 0
    if exchange.status is None:
        yield ended_ns, _no_answer(exchange)
        return
    head = ResponseHead(
        exchange.status,
        exchange.reason or "",
        framing.end_to_end(exchange.response_headers),
    )
    framing.encode_response(head)  # whatever is wrong with it is found out here
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
        on_miss: HTTPStatus = HTTPStatus.NOT_FOUND,
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
            on_miss: the status of the answer to what matches no recording.
            host: the address to listen on.
            port: 0 picks one.
            redactor: what masked the recordings.
            clock: what due times are measured on.
            precise: see `timer.Timer`.

        Raises:
            StoreError: a source cannot be read, or none has an exchange to serve.
        """
        self.speed = speed
        self.on_miss = on_miss
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
        self.held = 0
        """Steps that left late because their client was not reading."""
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
                    _recording(source, exchange, chunks.get(exchange.exchange_id, ())),
                    exchange.method,
                    exchange.target,
                    exchange.request_headers,
                    exchange.request_body,
                    received_path=exchange.received_path,
                )


def _recording(source: Path, exchange: Exchange, chunks: Iterable[Chunk]) -> Recording:
    try:
        return Recording(exchange, chunks)
    except UsageError as error:
        raise StoreError(
            f"{source}: exchange {exchange.exchange_id} cannot be served: {error}"
        ) from error


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
        self._resumed_ns = 0

    def request_data(self, data: bytes, at_ns: int) -> None:
        del at_ns
        self._body.append(data)

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        del trailers
        server = self._server
        head = server.redactor.request_head(self._head)
        body = server.redactor.whole_body(self._head, b"".join(self._body))
        found = server.matcher.find(head.method, head.target, head.headers, body)
        if isinstance(found, Miss):
            server.missed += 1
            send_json(self._stream, server.on_miss, found.to_json(_describe))
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
            self._state = "over"
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
            else:
                server.lateness_ns.append(now_ns() - due_ns)
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


def _describe(recording: Recording) -> dict[str, object]:
    exchange = recording.exchange
    return {
        "exchange_id": exchange.exchange_id,
        "method": exchange.method,
        "path": exchange.path,
    }
