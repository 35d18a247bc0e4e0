"""The recording reverse proxy.

Each client connection has an upstream connection of its own, opened by its first
request and kept alive with it, so both sides see the connections that they would see
without us.  A read from the upstream is written to the client in the same call, and
only then handed to the tap:

    upstream ─▶ Connection.data_received ─▶ relay ─▶ ResponseStream.send_data
                                              └────▶ Tap.data

Nothing waits for the recorder.  What waits is the peers for each other: when the client
reads slowly the upstream is read slowly, and the other way round for request bodies.

Headers keep their order, case and duplicates.  Those that belong to one connection
(RFC 9110 section 7.6.1) are taken off, `Host` is set to the upstream's, and
`traceparent` is set to the exchange's own span where spans are exported.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from sse_recorder.capture import Limits, Writer
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import ListenError, UpstreamError, UsageError
from sse_recorder.exchange import (
    Ending,
    Headers,
    Opening,
    Outcome,
    RequestHead,
    ResponseHead,
    header,
    uuid7,
)
from sse_recorder.http1 import framing
from sse_recorder.http1.answers import send_json_error
from sse_recorder.http1.client import (
    Connection,
    Failure,
    Origin,
    connect,
    default_ssl_context,
)
from sse_recorder.http1.server import ResponseStream, Server
from sse_recorder.otel import Telemetry
from sse_recorder.redact import Redactor
from sse_recorder.trace import exchange_context, parse_traceparent

log = logging.getLogger("sse_recorder.proxy")

CONNECT_TIMEOUT_S: Final = 10
REQUEST_BUFFER_BYTES: Final = 64 << 10
"""How much of a request body may wait for the upstream connection to be there."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests go: an origin, and the path that goes in front of theirs."""

    origin: Origin
    base_path: str = ""

    @classmethod
    def parse(cls, url: str, tls: ssl.SSLContext | None = None) -> Self:
        """Read an upstream URL.

        Raises:
            UsageError: it is not an http or https URL, or has a query or credentials.
        """
        origin = Origin.from_url(url)
        parts = urlsplit(url)
        is_plain = parts.path.isascii() and parts.path.isprintable()
        if parts.query or parts.fragment or " " in parts.path or not is_plain:
            raise UsageError(
                f"{url!r} cannot be an upstream: give scheme, host, port and path only,"
                " percent-encoded, such as https://api.example.com/v2"
            )
        if origin.scheme == "https":
            # Made once: it reads the authorities' certificates, which takes 20 ms.
            origin = replace(origin, ssl_context=tls or default_ssl_context())
        return cls(origin, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """Host and port, as in a URL and in the Host header."""
        return self.origin.authority

    def target(self, target: str) -> str:
        """Return the request target that is asked for upstream."""
        return self.base_path + target


class Recorder:
    """A recording proxy: one upstream, one store, one address to listen on.

    Raises:
        UsageError: the upstream URL is wrong.
        StoreError: the store cannot be written.
    """

    def __init__(
        self,
        upstream: str,
        *,
        store: str | Path,
        host: str = "127.0.0.1",
        port: int = 0,
        redactor: Redactor | None = None,
        telemetry: Telemetry | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.upstream = Upstream.parse(upstream, tls)
        self.clock = clock
        self.telemetry = telemetry
        self.writer = Writer(
            Path(store),
            redactor=redactor,
            spans=telemetry,
            limits=limits,
            clock=clock,
        )
        self.relays: set[Relay] = set()
        """The exchanges that are open."""
        self.count = 0
        """How many there have been."""
        self.spans_lost = 0
        """Spans that had not been delivered when it stopped."""
        self._latest_start = 0
        self._address = (host, port)
        self._server = Server(lambda: _ClientConnection(self), clock=clock)

    async def start(self) -> None:
        """Listen.

        Raises:
            ListenError: the address is taken or not ours.
        """
        try:
            await self._server.listen(*self._address)
        except ListenError:
            self.writer.close()
            raise

    @property
    def url(self) -> str:
        """Where clients send what they would send to the upstream."""
        return self._server.url

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
        await self._server.drain(grace_s)
        for relay in list(self.relays):
            relay.interrupt()
        await self._server.close(grace_s=0)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.writer.close)
        if self.telemetry is not None:
            lost = await loop.run_in_executor(None, self.telemetry.close)
            self.spans_lost = lost


class _ClientConnection:
    """One connection of a client, with the upstream connection that belongs to it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.upstream: Connection | None = None

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> Relay:
        """Begin an exchange."""
        return Relay(self._recorder, self, head, stream, at_ns)

    def connection_closed(self) -> None:
        """Close the upstream's connection with the client's."""
        if self.upstream is not None:
            self.upstream.close()


class Relay:
    """One exchange on its way through: handler of both sides of it."""

    def __init__(
        self,
        recorder: Recorder,
        client: _ClientConnection,
        head: RequestHead,
        stream: ResponseStream,
        at_ns: int,
    ) -> None:
        self._recorder = recorder
        self._client = client
        self._stream = stream
        self._clock = recorder.clock
        self._upstream: Connection | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._request_trailers: Headers | None = None
        self._is_paused = False
        self._has_ended = False
        self._connecting: asyncio.Task[None] | None = None
        recorder.count += 1
        started_at = recorder.started_at(at_ns)
        exchange_id = uuid7(started_at)
        self._tap = recorder.writer.tap(exchange_id, at_ns)
        self._head = self._open(exchange_id, started_at, head)
        recorder.relays.add(self)
        if client.upstream is not None and client.upstream.reusable:
            self._try_to_send(client.upstream)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def _open(
        self, exchange_id: str, started_at: int, head: RequestHead
    ) -> RequestHead:
        """Tell the tap what goes upstream, and return it."""
        recorder, upstream = self._recorder, self._recorder.upstream
        headers = _to_upstream(head.headers, upstream.authority)
        parent = parse_traceparent(head.headers)
        if recorder.telemetry is None:
            context = exchange_context(exchange_id, parent)
        else:
            context = recorder.telemetry.context(exchange_id, head.headers)
            headers = _with_header(headers, "traceparent", context.traceparent())
        request = RequestHead(head.method, upstream.target(head.target), headers)
        self._tap.opened(
            Opening(
                recorder_id=recorder.writer.recorder_id,
                started_at=started_at,
                url=f"{upstream.origin.scheme}://{upstream.authority}{request.target}",
                request=request,
                trace_id=context.trace_id,
                span_id=context.span_id,
                parent_span_id=parent.span_id if parent else "",
            )
        )
        return request

    async def _connect(self) -> None:
        origin, clock = self._recorder.upstream.origin, self._clock
        try:
            upstream = await connect(origin, timeout_s=CONNECT_TIMEOUT_S, clock=clock)
        except UpstreamError as error:
            self._fail(str(error), clock.monotonic_ns())
            return
        self._client.upstream = upstream
        self._try_to_send(upstream)

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
        if self._is_paused:
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
        if self._upstream is not None:
            self._upstream.send_data(data)
        else:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._waiting_bytes > REQUEST_BUFFER_BYTES:
                self._stream.pause_request()
        self._tap.request_data(at_ns, data)

    def request_end(self, at_ns: int, trailers: Headers) -> None:  # noqa: ARG002
        """Pass the end of the request on."""
        self._request_trailers = trailers
        if self._upstream is not None:
            self._end_request(self._upstream, trailers)

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        """Leave the upstream, since nobody is listening any more."""
        reason = f"the client left: {error}" if error else "the client left"
        self._drop_upstream()
        self._end(at_ns, Ending(outcome=Outcome.CLIENT_ABORT, error=reason))

    def pause_response(self) -> None:
        """Read the upstream no faster than the client reads."""
        self._is_paused = True
        if self._upstream is not None:
            self._upstream.pause_response()

    def resume_response(self) -> None:
        """Read on."""
        self._is_paused = False
        if self._upstream is not None:
            self._upstream.resume_response()

    # What the upstream does.

    def informational(self, head: ResponseHead, at_ns: int) -> None:  # noqa: ARG002
        """Pass a 1xx response on."""
        self._stream.send_informational(head)

    def response_head(self, head: ResponseHead, at_ns: int) -> None:
        """Pass the response head on."""
        self._stream.send_head(replace(head, headers=framing.end_to_end(head.headers)))
        self._tap.head(at_ns, head)

    def response_data(self, data: bytes, at_ns: int) -> None:
        """Pass one read on; everything else comes after that."""
        self._stream.send_data(data)
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
        """Break the client's response as the upstream's broke, or answer for it."""
        if not self._stream.started:
            self._fail(failure.message, at_ns)
            return
        self._stream.abort(reset=failure.kind == "reset")
        is_timeout = failure.kind == "timeout"
        outcome = Outcome.TIMEOUT if is_timeout else Outcome.UPSTREAM_ABORT
        error = f"{failure.kind}: {failure.message}"
        self._end(at_ns, Ending(outcome=outcome, error=error))

    def pause_request(self) -> None:
        """Read the client no faster than the upstream reads."""
        self._stream.pause_request()

    def resume_request(self) -> None:
        """Read on."""
        self._stream.resume_request()

    # How it ends.

    def interrupt(self) -> None:
        """Cut both sides, because the recorder stops."""
        self._stream.abort(reset=False)
        self._drop_upstream()
        ending = Ending(outcome=Outcome.INCOMPLETE, error="the recorder was stopped")
        self._end(self._clock.monotonic_ns(), ending)

    def _fail(self, message: str, at_ns: int) -> None:
        """Answer in place of an upstream that gave no head."""
        send_json_error(self._stream, HTTPStatus.BAD_GATEWAY, "upstream_error", message)
        self._end(at_ns, Ending(outcome=Outcome.UPSTREAM_ERROR, error=message))

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.abort()

    def _end(self, at_ns: int, ending: Ending) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if self._connecting is not None:
            self._connecting.cancel()
        self._recorder.relays.discard(self)
        self._tap.ended(at_ns, ending)


def _to_upstream(headers: Headers, authority: str) -> Headers:
    passed = tuple(
        (name, authority if name.lower() == "host" else value)
        for name, value in framing.end_to_end(headers)
    )
    # HTTP/1.0 clients may leave it out; what goes upstream is HTTP/1.1.
    has_host = header(passed, "host") is not None
    return passed if has_host else (("Host", authority), *passed)


def _with_header(headers: Headers, name: str, value: str) -> Headers:
    others = tuple(pair for pair in headers if pair[0].lower() != name)
    return (*others, (name, value))
