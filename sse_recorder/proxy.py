"""The recording reverse proxy.

Each client connection has upstream connections of its own, one for each server that it
asks for, opened by the first request that goes there and kept alive with it, so both
sides see the connections that they would see without us.  A read from the upstream is
written to the client in the same call, and only then handed to the tap:

    upstream ─▶ Connection.data_received ─▶ relay ─▶ ResponseStream.send_data
                                              └────▶ Tap.data

Nothing waits for the recorder.  What waits is the peers for each other: when the client
reads slowly the upstream is read slowly, and the other way round for request bodies.

Headers keep their order, case and duplicates.  Those that belong to one connection
(RFC 9110 section 7.6.1) are taken off, `Host` is set to the upstream's, and
`traceparent` is set to the exchange's own span where spans are exported, unless the
route says otherwise (see `otel.propagation`).

What no route takes is answered 404, and while the recording cannot be written and that
is to be refused, everything is answered 503.  Both are counted, and not recorded.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from sse_recorder import dialects, semconv
from sse_recorder.capture import Limits, Writer
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.disturbed import DisturbedStream
from sse_recorder.errors import ListenError, UpstreamError
from sse_recorder.exchange import (
    REST_RECORDED,
    WITHOUT_CLIENT,
    Ending,
    Headers,
    Opening,
    Outcome,
    RequestHead,
    ResponseHead,
    header,
    uuid7,
)
from sse_recorder.faults import Disturbance, parse
from sse_recorder.http1 import framing
from sse_recorder.http1.answers import send_json_error
from sse_recorder.http1.client import Connection, Failure, Origin, connect
from sse_recorder.http1.connection import ConnectionHandler
from sse_recorder.http1.limits import Limits as HttpLimits
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.server import Server
from sse_recorder.otel import Propagation, SampledTimes, Telemetry
from sse_recorder.redact import Redactor
from sse_recorder.routing import Found, Routes
from sse_recorder.stats import Stats
from sse_recorder.timer import Timer
from sse_recorder.trace import exchange_context, parse_traceparent

log = logging.getLogger("sse_recorder.proxy")

CONNECT_TIMEOUT_S: Final = 10
REQUEST_REST_S: Final = 1.0
"""How long the rest of a request may take that cannot be sent, before it is told so."""
_SWEEP_S: Final = 0.5
REQUEST_BUFFER_BYTES: Final = 64 << 10
"""How much of a request body may wait for the upstream connection to be there."""

FAULTS_KEPT: Final = 1_000
"""How many lines are kept of what faults did."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Recorder:
    """A recording proxy: one address to listen on, one store, any number of upstreams.

    Args:
        upstream: where requests go that no route takes; None for nowhere.
        routes: upstream URLs by the prefix of the path that goes there.
        store: the folder to record into.
        tags: what every exchange is labelled with.
        host: the address to listen on.
        port: 0 picks one.
        reuse_port: let other processes listen on the same port.
        on_client_abort: what becomes of an exchange whose client leaves after its
            request: its upstream is closed at once, or read and recorded to the end.
        on_write_error: what becomes of requests while the recording cannot be written:
            they go on, or are refused with 503.
        upstream_timeout_s: how long an upstream may be silent once it has been asked;
            None for as long as it likes.
        faults: what is done to every response on its way to the client; the recording
            has what the upstream sent.  See `sse_recorder.faults`.
        seed: what faults are drawn from.
        redactor: what masks secrets.
        telemetry: where spans go.
        propagate: what upstreams are told of traces; see `otel.Propagation`.
        expose_ids: whether responses say the ids of their exchange and its trace.
        limits: of the queue and of segments.
        own_process: whether a process of its own writes, which costs a third of a
            second to start and keeps the streams out of its way.
        http_limits: of what is taken from clients.
        tls: how to check the upstreams' certificates.
        clock: gives the time of everything.

    Raises:
        UsageError: an upstream URL, a route or a fault is wrong, or there is nowhere
            to send requests.
        StoreError: the store cannot be written.
    """

    def __init__(
        self,
        upstream: str | None = None,
        *,
        store: str | Path,
        routes: Mapping[str, str] = _NOTHING,
        tags: Mapping[str, str] = _NOTHING,
        host: str = "127.0.0.1",
        port: int = 0,
        reuse_port: bool = False,
        on_client_abort: Literal["close", "finish"] = "close",
        on_write_error: Literal["go-on", "refuse"] = "go-on",
        upstream_timeout_s: float | None = None,
        faults: Iterable[str] = (),
        seed: int = 0,
        redactor: Redactor | None = None,
        telemetry: Telemetry | None = None,
        propagate: Iterable[str] = (),
        expose_ids: bool = False,
        limits: Limits | None = None,
        own_process: bool = False,
        http_limits: HttpLimits | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.routes = Routes.parse(upstream, routes, tls)
        self.propagation = Propagation.parse(propagate, self.routes.prefixes)
        self.exposes_ids = expose_ids
        self.tags = dict(tags)
        self.clock = clock
        self.faults = tuple(parse(fault) for fault in faults)
        self.seed = seed
        self.timer: Timer | None = None
        self.telemetry = telemetry
        self.writer = Writer(
            Path(store),
            redactor=redactor,
            spans=telemetry,
            limits=limits,
            clock=clock,
            own_process=own_process,
            recipe=telemetry.recipe if telemetry else None,
        )
        self.forward_times: SampledTimes | None = None
        """How long reads took to be forwarded; None where nobody wants to know."""
        if telemetry is not None and telemetry.metrics is not None:
            self.forward_times = SampledTimes()
            telemetry.metrics.watch(
                semconv.M_DROPPED_RECORDS,
                "{record}",
                lambda: self.writer.health().refused,
                semconv.M_ADDED_LATENCY,
                self.forward_times,
            )
        self.relays: set[Relay] = set()
        """The exchanges that are open."""
        self.count = 0
        """How many there have been."""
        self.latest_id = ""
        """The id of the one that began last."""
        self.refused: Counter[str] = Counter()
        """Requests that were answered here, by the type of the error."""
        self.ended: Counter[str] = Counter()
        """Exchanges that are over, by outcome."""
        self.request_bytes = self.response_bytes = 0
        """Of the bodies of those."""
        self.fault_report: list[str] = []
        """What faults did: a line for each of them and of the first responses."""
        self.faults_told = 0
        """How many lines there would be."""
        self.spans_lost = 0
        """Spans that had not been delivered when it stopped."""
        self.finishes = on_client_abort == "finish"
        """Whether a response is read to its end when its client has left."""
        self.finishing: dict[Relay, None] = {}
        """The exchanges of which that is true, in the order in which they were left."""
        self.all_finished = asyncio.Event()
        self._upstream_timeout_s = upstream_timeout_s
        self._sweep: asyncio.TimerHandle | None = None
        self._own_process = own_process
        self._refuses = on_write_error == "refuse"
        self._latest_start = 0
        self._address = (host, port)
        self._reuse_port = reuse_port
        self._server = Server(
            self.connection,
            clock=clock,
            limits=http_limits,
            files_each=2,  # the client's, and the upstream's that belongs to it
        )
        own_limit = self._server.limits.head_bytes
        self.answer_head_bytes = max(own_limit, framing.ANSWER_HEAD_BYTES_MAX)
        """The largest head of a response that is taken."""

    async def start(self) -> None:
        """Listen.

        Raises:
            ListenError: the address is taken or not ours.
        """
        try:
            await self._server.listen(*self._address, reuse_port=self._reuse_port)
        except ListenError:
            self.writer.close()
            raise
        if self.faults:
            self.timer = Timer(self.clock)
        if self._upstream_timeout_s is not None:
            self._sweep_later(self._upstream_timeout_s)

    def _sweep_later(self, timeout_s: float) -> None:
        # One timer looks at all exchanges; to note the time of every read, or to move a
        # timer at each, would cost every read of every stream.
        loop = asyncio.get_running_loop()
        interval_s = min(_SWEEP_S, timeout_s / 4)
        self._sweep = loop.call_later(interval_s, self._sweep_now, timeout_s)

    def _sweep_now(self, timeout_s: float) -> None:
        now_ns = self.clock.monotonic_ns()
        for relay in list(self.relays):
            relay.check_silence(now_ns, timeout_s)
        self._sweep_later(timeout_s)

    def make_room(self) -> None:
        """Cut what nobody waits for, the oldest first, where clients need the room.

        They take as many connections as there may be; what finishes alone has those
        that they leave over.  So it is as each of them comes that there has to be room:
        one that leaves gives its own.
        """
        at_ns = self.clock.monotonic_ns()
        server = self._server
        while self.finishing and (
            len(server.connections) + len(self.finishing) > server.room
        ):
            next(iter(self.finishing)).cut(at_ns)

    @property
    def url(self) -> str:
        """Where clients send what they would send to the upstream."""
        return self._server.url

    def connection(self) -> ConnectionHandler:
        """Return what takes the requests of one client's connection."""
        return _ClientConnection(self)

    def stats(self) -> Stats:
        """Return what has been counted so far."""
        writer = self.writer.health()
        return Stats(
            problems=writer.problems,
            exchanges=dict(self.ended),
            open_exchanges=len(self.relays),
            connections=len(self._server.connections),
            request_bytes=self.request_bytes
            + sum(relay.request_bytes for relay in self.relays),
            response_bytes=self.response_bytes
            + sum(relay.response_bytes for relay in self.relays),
            refused_requests=dict(self.refused + self._server.refused),
            refused_records=writer.refused,
            queued_bytes=writer.queued_bytes,
            journal_errors=writer.journal_errors,
            seals=writer.seals,
            seal_failures=writer.seal_failures,
            writer_restarts=writer.writer_restarts,
            usage=self.writer.usage(),
        )

    def note_faults(self, lines: Iterable[str]) -> None:
        """Keep what faults did to a response."""
        for line in lines:
            self.faults_told += 1
            if self.faults_told <= FAULTS_KEPT:
                self.fault_report.append(line)

    def problems(self) -> tuple[str, ...]:
        """Return why requests are to be refused now; nothing where they never are."""
        return self.writer.health().lasting if self._refuses else ()

    def started_at(self, at_ns: int) -> int:
        """Return the wall time of a moment; later for each exchange than for the last.

        Requests that come in one read have one t0, and are to keep their order.
        """
        self._latest_start = max(self.clock.wall_at(at_ns), self._latest_start + 1)
        return self._latest_start

    async def stop(self, grace_s: float = 5.0) -> None:
        """Stop listening, let open exchanges end, cut those that do not, and seal.

        It can be called again, to be done sooner.

        Args:
            grace_s: how long open exchanges may take to end.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        await self._server.drain(grace_s)
        if self.finishing:
            self.all_finished.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self.all_finished.wait()
        if self._sweep is not None:
            self._sweep.cancel()
        for relay in list(self.relays):
            relay.interrupt()
        await self._server.close(grace_s=0)
        if self.timer is not None:
            self.timer.close()
        telemetry = self.telemetry
        closing = loop.run_in_executor(None, self.writer.close)
        if telemetry is None or not self._own_process:
            await closing  # which may hand more over
        lost = 0
        if telemetry is not None:
            lost = await loop.run_in_executor(None, telemetry.close)
        await closing
        self.spans_lost = self.writer.spans_lost + lost


class _ClientConnection:
    """One connection of a client, with the upstream connections that belong to it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        recorder.make_room()
        self.upstreams: dict[Origin, Connection] = {}

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> Relay | _Refused:
        """Begin an exchange, or answer in its place."""
        recorder = self._recorder
        if problems := recorder.problems():
            recorder.refused["recorder_unhealthy"] += 1
            return _Refused.unhealthy(stream, problems)
        found = recorder.routes.find(head.method, head.target)
        if found is None:
            recorder.refused["no_route"] += 1
            return _Refused.no_route(stream, head.path, recorder.routes.prefixes)
        return Relay(recorder, self, head, stream, at_ns, found)

    def connection_closed(self) -> None:
        """Close the upstreams' connections with the client's."""
        for upstream in self.upstreams.values():
            upstream.close()


class _Refused:
    """A request that has had its answer already."""

    @classmethod
    def unhealthy(cls, stream: ResponseStream, problems: tuple[str, ...]) -> _Refused:
        """Say that it would not be recorded."""
        send_json_error(
            stream,
            HTTPStatus.SERVICE_UNAVAILABLE,
            "recorder_unhealthy",
            f"This request would not be recorded: {'; '.join(problems)}. Mend that, or"
            " run the recorder with --on-write-error continue.",
            (("Retry-After", "1"),),
        )
        return cls()

    @classmethod
    def no_route(
        cls, stream: ResponseStream, path: str, prefixes: list[str]
    ) -> _Refused:
        """Say which prefixes there are."""
        send_json_error(
            stream,
            HTTPStatus.NOT_FOUND,
            "no_route",
            f"No route takes {path}: begin the path with {' or '.join(prefixes)}, or"
            " give the recorder an --upstream for everything else.",
        )
        return cls()

    def request_data(self, data: bytes, at_ns: int) -> None:
        """Drop it."""

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        """Nothing is left to do."""

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        """Nothing is left to do."""

    def pause_response(self) -> None:
        """Nothing more is sent."""

    def resume_response(self) -> None:
        """Nothing more is sent."""


class Relay:
    """One exchange on its way through: handler of both sides of it."""

    def __init__(
        self,
        recorder: Recorder,
        client: _ClientConnection,
        head: RequestHead,
        stream: ResponseStream,
        at_ns: int,
        found: Found,
    ) -> None:
        self.request_bytes = self.response_bytes = 0
        """Of the bodies, so far."""
        self._recorder = recorder
        self._client = client
        self._origin = found.upstream.origin
        self._clock = recorder.clock
        self._forward_times = recorder.forward_times
        self._upstream: Connection | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._request_trailers: Headers | None = None
        self._pauses: set[str] = set()  # who wants to have less of the response
        self._is_request_paused = False
        self._progress: tuple[object, ...] = ()
        self._progress_ns = at_ns
        self._informational = 0
        self._has_ended = False
        self._connecting: asyncio.Task[None] | None = None
        self._rest: asyncio.Future[None] | None = None
        recorder.count += 1
        started_at = recorder.started_at(at_ns)
        self._id = recorder.latest_id = uuid7(started_at)
        self._tap = recorder.writer.tap(self._id, at_ns)
        self._head = self._open(self._id, started_at, head, found)
        self._disturbed = self._disturb(stream) if recorder.faults else None
        self._stream = self._disturbed or stream
        recorder.relays.add(self)
        upstream = client.upstreams.get(self._origin)
        self._is_kept = upstream is not None and upstream.reusable
        if upstream is not None and self._is_kept:
            self._try_to_send(upstream)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def _open(
        self, exchange_id: str, started_at: int, head: RequestHead, found: Found
    ) -> RequestHead:
        """Tell the tap what goes upstream, and return it."""
        recorder, upstream = self._recorder, found.upstream
        headers = _to_upstream(head.headers, upstream.authority)
        parent = parse_traceparent(head.headers)
        if recorder.telemetry is None:
            context, shown = exchange_context(exchange_id, parent), None
        else:
            context = recorder.telemetry.context(exchange_id, head.headers)
            shown = context
        headers = recorder.propagation.headers(headers, found.prefix, shown)
        self._trace_id = context.trace_id
        request = RequestHead(head.method, found.target, headers)
        self._tap.opened(
            Opening(
                recorder_id=recorder.writer.recorder_id,
                started_at=started_at,
                url=upstream.url(request.target),
                request=request,
                trace_id=context.trace_id,
                span_id=context.span_id,
                parent_span_id=parent.span_id if parent else "",
                tags=recorder.tags,
                received_path=found.received_path,
                trace_flags=None if shown is None else context.flags,
            )
        )
        return request

    def _disturb(self, stream: ResponseStream) -> DisturbedStream:
        recorder, known = self._recorder, dialects.recognise(self._head)
        assert recorder.timer is not None
        return DisturbedStream(
            stream,
            Disturbance(
                recorder.faults,
                seed=recorder.seed,
                # Ids are new each time, and the same seed is to give the same bytes.
                name=str(recorder.count),
                dialect=known.name if known else "generic",
                method=self._head.method,
            ),
            self,
            timer=recorder.timer,
            clock=recorder.clock,
        )

    def faults_told(self, lines: list[str], *, is_broken: bool) -> None:
        """Note it, and leave the upstream if they ended the response for the client."""
        self._recorder.note_faults(f"{self._id}: {line}" for line in lines)
        if is_broken:
            # Later, for the chunk on which they acted is to be recorded.
            report = "; ".join(lines)
            asyncio.get_running_loop().call_soon(self._end_broken, report)

    def _end_broken(self, report: str) -> None:
        self._drop_upstream()
        reason = f"a fault ended it for the client: {report}"
        ending = Ending(outcome=Outcome.CLIENT_ABORT, error=reason)
        self._end(self._clock.monotonic_ns(), ending)

    async def _connect(self) -> None:
        origin, clock = self._origin, self._clock
        try:
            upstream = await connect(
                origin,
                timeout_s=CONNECT_TIMEOUT_S,
                clock=clock,
                head_bytes=self._recorder.answer_head_bytes,
            )
        except UpstreamError as error:
            await self._wait_for_request()
            self._fail(str(error), clock.monotonic_ns())
            return
        self._client.upstreams[origin] = upstream
        self._try_to_send(upstream)

    async def _wait_for_request(self) -> None:
        """Wait a moment for the rest of a request that cannot be sent.

        A refusal may come before the body that is on its way behind the head, and a
        request that was not recorded whole is one that no replay would find again.
        """
        is_asking = header(self._head.headers, "expect") is not None
        if self._request_trailers is None and not is_asking:
            self._rest = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._rest], timeout=REQUEST_REST_S)

    def _try_to_send(self, upstream: Connection) -> None:
        try:
            self._send(upstream)
        except Exception as error:
            # Nobody else would be told, and the client would wait for ever.
            log.exception("a request could not be sent; please report this")
            self._fail(f"the recorder failed: {error}", self._clock.monotonic_ns())
            self._drop_upstream()

    def _send(self, upstream: Connection) -> None:
        """Send what of the request is there."""
        self._upstream = upstream
        self._connecting = None
        # From here on it is the upstream's buffer that says when to pause.
        self._stream.resume_request()
        upstream.send_request(self._head, self)
        if self._pauses:
            upstream.pause_response()
        for data in self._waiting:
            upstream.send_data(data)
        self._waiting.clear()
        if self._request_trailers is not None:
            self._end_request(upstream, self._request_trailers)

    def _end_request(self, upstream: Connection, trailers: Headers) -> None:
        upstream.end_request(trailers)
        self._tap.sent(self._clock.monotonic_ns())

    # What the client does.

    def request_data(self, data: bytes, at_ns: int) -> None:
        """Pass some of the request's body on, or keep it until that can be done."""
        self.request_bytes += len(data)
        if self._upstream is not None:
            self._upstream.send_data(data)
        else:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._waiting_bytes > REQUEST_BUFFER_BYTES:
                self._stream.pause_request()
        self._tap.request_data(at_ns, data)

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        """Pass the end of the request on."""
        self._request_trailers = trailers
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)
        if self._disturbed is not None:
            self._disturbed.begin(at_ns)
        if self._upstream is not None:
            self._end_request(self._upstream, trailers)

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        """Leave the upstream, since nobody is listening any more; or listen alone."""
        if self._disturbed is not None:
            self._disturbed.lose_client(at_ns)
        is_sent = self._upstream is not None and self._request_trailers is not None
        has_left = error is None or isinstance(error, OSError)
        if self._recorder.finishes and is_sent and has_left:
            self._finish_alone()
            return
        reason = f"the client left: {error}" if error else "the client left"
        self._drop_upstream()
        self._end(at_ns, Ending(outcome=Outcome.CLIENT_ABORT, error=reason))

    def _finish_alone(self) -> None:
        upstream = self._upstream
        assert upstream is not None
        # It belongs to this exchange from here on, not to the connection that closes.
        self._client.upstreams.pop(self._origin, None)
        self._recorder.finishing[self] = None
        self.resume_response()

    def pause_response(self) -> None:
        """Read the upstream no faster than the client reads."""
        self._pause("client")

    def resume_response(self) -> None:
        """Read on, if nobody else wants less."""
        self._resume("client")

    def hold_response(self) -> None:
        """Read the upstream no faster than the faults let it pass."""
        self._pause("faults")

    def release_response(self) -> None:
        """Read on, if nobody else wants less."""
        self._resume("faults")

    def _pause(self, who: str) -> None:
        self._pauses.add(who)
        if self._upstream is not None:
            self._upstream.pause_response()

    def _resume(self, who: str) -> None:
        self._pauses.discard(who)
        if self._upstream is not None and not self._pauses:
            self._upstream.resume_response()

    # What the upstream does.

    def informational(self, head: ResponseHead, at_ns: int) -> None:  # noqa: ARG002
        """Pass a 1xx response on."""
        self._informational += 1
        self._stream.send_informational(head)

    def response_head(self, head: ResponseHead, at_ns: int) -> None:
        """Pass the response head on."""
        headers = framing.end_to_end(head.headers)
        if self._recorder.exposes_ids:
            headers += self._ids()
        self._stream.send_head(replace(head, headers=headers))
        self._tap.head(at_ns, head)

    def response_data(self, data: bytes, at_ns: int) -> None:
        """Pass one read on; everything else comes after that."""
        self._stream.send_data(data)
        times = self._forward_times
        if times is not None and times.wants():
            times.add(self._clock.monotonic_ns() - at_ns)
        self.response_bytes += len(data)
        self._tap.data(at_ns, data)

    def response_end(self, at_ns: int, trailers: Headers) -> None:
        """Pass the end on."""
        # Looked at first: a request that was waiting begins within `end`.
        upstream = self._upstream
        is_early = upstream is not None and upstream.request_open
        self._stream.end(trailers)
        if upstream is not None and is_early:
            upstream.abort()  # the rest of the request will never be sent
        self._end(at_ns, Ending(outcome=Outcome.COMPLETE, trailers=trailers))

    def response_failed(self, failure: Failure, at_ns: int) -> None:
        """Break the client's response as the upstream's broke, or answer for it.

        A connection that was kept may be closed as it is used again.  Whether the
        request was read before that, nobody knows: it is not asked twice.  The client's
        connection, which was kept as well, ends in the same way, for from this a client
        knows, as it would without us, that it may ask again.
        """
        is_reset = failure.kind == "reset"
        if not self._stream.started:
            message = failure.message
            if self._is_kept and (is_reset or failure.kind == "eof"):
                self._stream.abort(reset=is_reset)
                message = f"{failure.kind}: {message}"  # so that a replay does it, too
            self._fail(message, at_ns, is_timeout=failure.kind == "timeout")
            return
        self._stream.abort(reset=is_reset)
        is_timeout = failure.kind == "timeout"
        outcome = Outcome.TIMEOUT if is_timeout else Outcome.UPSTREAM_ABORT
        error = f"{failure.kind}: {failure.message}"
        self._end(at_ns, Ending(outcome=outcome, error=error))

    def pause_request(self) -> None:
        """Read the client no faster than the upstream reads."""
        self._is_request_paused = True
        self._stream.pause_request()

    def resume_request(self) -> None:
        """Read on."""
        self._is_request_paused = False
        self._stream.resume_request()

    def check_silence(self, now_ns: int, timeout_s: float) -> None:
        """End the exchange if its upstream has done nothing for too long."""
        upstream = self._upstream
        is_asked = self._request_trailers is not None or self._is_request_paused
        progress = (
            self._stream.started,
            self.request_bytes,
            self.response_bytes,
            self._informational,
            upstream.buffered if upstream else None,
        )
        # Connecting has a limit of its own, and a slow client is not a silent upstream.
        is_its_turn = upstream is not None and is_asked and not self._pauses
        if progress != self._progress or not is_its_turn:
            self._progress, self._progress_ns = progress, now_ns
        elif now_ns - self._progress_ns >= timeout_s * 1e9:
            self._drop_upstream()
            message = f"the upstream was silent for {timeout_s:g} s"
            self.response_failed(Failure("timeout", message), now_ns)

    # How it ends.

    def cut(self, at_ns: int) -> None:
        """Listen alone no longer."""
        reason = "it was cut, for its connection was needed"
        self._end(at_ns, Ending(outcome=Outcome.CLIENT_ABORT, error=reason))

    def interrupt(self) -> None:
        """Cut both sides, because the recorder stops."""
        self._stream.abort(reset=False)
        self._drop_upstream()
        ending = Ending(outcome=Outcome.INCOMPLETE, error="the recorder was stopped")
        self._end(self._clock.monotonic_ns(), ending)

    def _fail(self, message: str, at_ns: int, *, is_timeout: bool = False) -> None:
        """Answer in place of an upstream that gave no head."""
        status, kind = HTTPStatus.BAD_GATEWAY, "upstream_error"
        outcome = Outcome.UPSTREAM_ERROR
        if is_timeout:
            status, kind = HTTPStatus.GATEWAY_TIMEOUT, "upstream_timeout"
            outcome = Outcome.TIMEOUT
        more = self._ids() if self._recorder.exposes_ids else ()
        send_json_error(self._stream, status, kind, message, more)
        self._end(at_ns, Ending(outcome=outcome, error=message))

    def _ids(self) -> Headers:
        """Return the headers that tell a client where its exchange is."""
        return (
            ("x-sse-recorder-exchange-id", self._id),
            ("x-sse-recorder-trace-id", self._trace_id),
        )

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.abort()

    def _end(self, at_ns: int, ending: Ending) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if self._connecting is not None:
            self._connecting.cancel()
        recorder = self._recorder
        if self in recorder.finishing:
            self._drop_upstream()
            ending = _without_client(ending)
            del recorder.finishing[self]
            if not recorder.finishing:
                recorder.all_finished.set()
        recorder.relays.discard(self)
        recorder.ended[ending.outcome] += 1
        recorder.request_bytes += self.request_bytes
        recorder.response_bytes += self.response_bytes
        self._tap.ended(at_ns, ending)


def _without_client(ending: Ending) -> Ending:
    """Return how an exchange ended whose client had left before."""
    error = f"{WITHOUT_CLIENT}then: {ending.error}" if ending.error else REST_RECORDED
    return replace(ending, outcome=Outcome.CLIENT_ABORT, error=error)


def _to_upstream(headers: Headers, authority: str) -> Headers:
    passed = tuple(
        (name, authority if name.lower() == "host" else value)
        for name, value in framing.end_to_end(headers)
    )
    # HTTP/1.0 clients may leave it out; what goes upstream is HTTP/1.1.
    has_host = header(passed, "host") is not None
    return passed if has_host else (("Host", authority), *passed)
