"""One client's connection: requests in, responses out.

Theory of operation
-------------------
A `Connection` is the asyncio Protocol of one client.  llhttp's callbacks only note
what they saw, in a queue of `_Request`s; when the read is parsed, `_deliver` hands on
what belongs to the request whose turn it is.  So a handler is never called from inside
the parser, several pieces of body in one read arrive as one, and pipelined requests
wait for their turn as values.

The handler answers through a `ResponseStream`, at any time and from anywhere in the
loop's thread.  Everything is a plain call: no coroutine, task, future or timer belongs
to a read or a write.

Rules
-----
1. The clock is read before anything else is done with a read.
2. `ResponseStream.send_data` is one `transport.write`; nothing is buffered here.
3. A handler hears of a stream until the stream is finished, and not once after.  It is
   finished by `end()`, by `abort()` or by `client_gone()`, whichever comes first.
4. Reading goes on while a request is answered, because a client that left is noticed
   by reading.  Reading stops only when the handler asks, or when more than
   `PIPELINE_BYTES_MAX` wait behind the request being answered.
5. Whatever the client sends or the handler raises, the loop sees no exception.
6. A client that ends its sending side has left: no client of an event stream does so
   while it reads on, and the two cannot be told apart.

What RFC 9112 calls malformed is refused (see `refusal`).  `Upgrade: h2c`, which the
JDK's client offers with plain requests, is ignored as RFC 9110 section 7.8 allows;
other upgrades and CONNECT are answered 501.

`Expect: 100-continue` is the handler's: it may call `send_informational`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, cast

import httptools

from sse_recorder.clock import Clock
from sse_recorder.exchange import Headers, RequestHead, header
from sse_recorder.http1 import framing
from sse_recorder.http1.limits import Limits
from sse_recorder.http1.refusal import (
    Refusal,
    check_request,
    check_trailers,
    failed,
    malformed,
    send_refusal,
    too_large,
    too_slow,
    unknown_method,
)
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.sockets import (
    has_left,
    probe_when_silent,
    reset_connection,
    reset_when_sent,
)

PIPELINE_BYTES_MAX: Final = 64 * 1024
"""How much of later requests may wait while one is answered."""

LINGER_NS: Final = 2_000_000_000
"""How long a client may go on sending after we have ended our side.  A close with
unread bytes resets the connection, and the reset may overtake our answer (RFC 9112
section 9.6)."""

_REQUEST_OVERHEAD: Final = 256  # what a waiting request weighs besides its bytes

_logger = logging.getLogger("sse_recorder.http1")


class StreamHandler(Protocol):
    """What receives one request; called until its response is finished.

    Every method may be called while one of the stream's own methods is running:
    `send_data` may find the write buffer full and call `pause_response`.
    """

    def request_data(self, data: bytes, at_ns: int) -> None:
        """Take the bytes of the request's body that one read brought."""

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        """The request is complete."""

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        """The response cannot be finished: called once, and nothing after it.

        `error` is None when the client closed in order, and otherwise what broke the
        connection.  It is a `ValueError` when the request's body was malformed, a
        `ConnectionAbortedError` when the server is closing, and the handler's own
        exception when that is what ended the stream.
        """

    def pause_response(self) -> None:
        """Send no more for now: the client reads more slowly than you write."""

    def resume_response(self) -> None:
        """Send again."""


class ConnectionHandler(Protocol):
    """What receives the requests of one client's connection."""

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> StreamHandler:
        """Return what receives this request; `stream` may be used at once."""

    def connection_closed(self) -> None:
        """The connection is over; its streams have heard of it before."""


class _Request:
    """One request as far as it was parsed, and who receives it."""

    __slots__ = (
        "at_ns",
        "ended",
        "handler",
        "head",
        "head_ns",
        "parts",
        "refusal",
        "reported_end",
        "size",
        "stream",
        "trailers",
    )

    def __init__(self, head: RequestHead | None, at_ns: int) -> None:
        self.head = head  # None when it could not be parsed, and is to be refused
        self.head_ns = at_ns  # of the read that completed the head
        self.at_ns = at_ns  # of the latest read that brought some of it
        self.parts: list[bytes] = []  # of its body, not yet handed on
        self.size = _REQUEST_OVERHEAD
        self.ended = False
        self.trailers: Headers = ()
        self.refusal: Refusal | None = None
        self.stream: ResponseStream | None = None
        self.handler: StreamHandler | None = None
        self.reported_end = False


class Host(Protocol):
    """What accepted a connection, and is told of what it does."""

    @property
    def clock(self) -> Clock:
        """What gives the time of every read."""

    @property
    def limits(self) -> Limits:
        """How much is taken."""

    @property
    def write_buffer_bytes(self) -> int:
        """How much may wait for a client before its handler is paused."""

    @property
    def handler(self) -> Callable[[], ConnectionHandler]:
        """What handles the next connection."""

    @property
    def closing(self) -> bool:
        """Whether no connection is kept alive any more."""

    def connection_made(self, connection: Connection) -> Refusal | None:
        """Count a connection, or say why there is no room for it."""

    def connection_lost(self, connection: Connection) -> None:
        """Forget a connection."""

    def request_refused(self, refusal: Refusal) -> None:
        """Count a request that is answered without its handler."""

    def stream_started(self) -> None:
        """Count a response that is due."""

    def stream_finished(self) -> None:
        """Count a response that is over."""


class Connection(asyncio.Protocol):
    """One client's connection."""

    _transport: asyncio.Transport
    _parser: httptools.HttpRequestParser
    _feed: Callable[[bytes], None]

    def __init__(self, server: Host) -> None:
        self._server = server
        self._limits = server.limits
        self._handler: ConnectionHandler | None = None
        self._now = server.clock.monotonic_ns
        self._at_ns = 0  # of the read being parsed
        self._queue: deque[_Request] = deque()  # the first is the one being answered
        self._parsing: _Request | None = None  # whose body is being parsed
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._head_since_ns: int | None = None  # when the open head began
        self._unproductive = 0  # bytes read since the last that were a head or body
        self._other_protocol = False  # llhttp waits for us to switch to h2c
        self._deaf = False  # whatever comes now is read and dropped
        self._lingering = False
        self._is_resetting = False
        self._delivering = False
        self._reading = True
        self._request_paused = False
        self._write_paused = False
        self.idle_since_ns = self._now()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin.  asyncio and uvloop set TCP_NODELAY on every connection."""
        # Not `isinstance`: the transports of uvloop are not asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._server.write_buffer_bytes)
        probe_when_silent(self._transport)
        self._new_parser()
        refusal = self._server.connection_made(self)
        if refusal is not None:
            self._refuse(refusal)
            self._deliver()
            return
        try:
            self._handler = self._server.handler()
        except Exception:
            _logger.exception("no handler for a new connection")
            self._deaf = True
            self._transport.abort()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._feed = self._parser.feed_data

    def data_received(self, data: bytes) -> None:
        """Parse one read and hand on what it held."""
        at_ns = self._now()
        if self._deaf:
            return
        self._at_ns = at_ns
        self._unproductive += len(data)
        try:
            self._parse(data)
            if self._unproductive > self._limits.head_bytes:
                raise too_large(self._limits)
        except Refusal as refusal:
            self._refuse(refusal)
        except httptools.HttpParserCallbackError as error:
            self._refuse(error.__context__)
        except httptools.HttpParserInvalidMethodError:
            self._refuse(unknown_method(data))
        except httptools.HttpParserError as error:
            self._refuse(malformed(str(error)))
        self._deliver()

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self._feed(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._decline_upgrade(data[upgrade.args[0] :])
            else:
                return

    def _decline_upgrade(self, rest: bytes) -> bytes:
        # llhttp takes what follows `Upgrade: h2c` for another protocol.  We stay with
        # HTTP/1.1: a new parser gets the framing of the same request without that
        # header (`on_headers_complete` knows that it has the head already), and then
        # the rest.
        assert self._parsing is not None
        assert self._parsing.head is not None
        framing_headers = tuple(
            (name, value)
            for name, value in self._parsing.head.headers
            if name.lower() in {"content-length", "transfer-encoding"}
        )
        self._new_parser()
        return framing.encode_request(RequestHead("POST", "/", framing_headers)) + rest

    def eof_received(self) -> None:
        """Take the end of the client's side as its leaving; asyncio closes ours."""
        at_ns = self._now()
        if self._lose_client(at_ns, None):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the stream being answered, then the connection's handler."""
        self._lose_client(self._now(), exc)
        self._server.connection_lost(self)
        del self._parser, self._feed  # they hold our callbacks: a cycle
        self._deaf = True
        if self._handler is None:
            return
        try:
            self._handler.connection_closed()
        except Exception:
            _logger.exception("the handler failed when its connection closed")

    def _lose_client(self, at_ns: int, error: BaseException | None) -> bool:
        """End the open stream, if there is one, for its client left."""
        request = self._queue[0] if self._queue else None
        self._queue.clear()
        self._deaf = True
        if request is None or request.stream is None or request.stream.finished:
            return False
        request.stream.lose_client()
        self._server.stream_finished()
        self._tell_gone(request, at_ns, error)
        return True

    def _tell_gone(
        self, request: _Request, at_ns: int, error: BaseException | None
    ) -> None:
        if request.handler is None:
            return
        try:
            request.handler.client_gone(at_ns, error)
        except Exception:
            _logger.exception("the handler failed when its client left")

    def pause_writing(self) -> None:
        """Pass on that the client reads too slowly."""
        self._write_paused = True
        if not self.is_idle and self._queue and (handler := self._queue[0].handler):
            handler.pause_response()

    def resume_writing(self) -> None:
        """Pass on that the client has caught up."""
        self._write_paused = False
        if not self.is_idle and self._queue and (handler := self._queue[0].handler):
            handler.resume_response()

    # llhttp's side: note what was seen.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head_since_ns = self._at_ns
        self._target = b""
        self._headers = []
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        """Take some of the target; a read may cut it."""
        self._target += url
        self._head_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header, or one trailer."""
        self._headers.append((name, value))
        self._head_size += len(name) + len(value) + 4
        limits = self._limits
        if self._head_size > limits.head_bytes or len(self._headers) > limits.headers:
            raise too_large(limits)

    def on_headers_complete(self) -> None:
        """Queue the request, if it may be answered."""
        headers = framing.decode_headers(self._headers)
        self._headers = []
        if self._other_protocol:  # the same request for the second time
            self._other_protocol = False
            self._head_since_ns = None
            return
        parser = self._parser
        head = RequestHead(
            parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            headers,
            parser.get_http_version(),
        )
        check_request(head)
        if parser.should_upgrade():
            self._other_protocol = True
            if framing.tokens(headers, "upgrade") != ["h2c"]:
                raise Refusal(
                    501,
                    "not_implemented",
                    f"{head.method} tunnels and Upgrade are not supported: send a plain"
                    " HTTP/1.1 request.",
                )
        request = _Request(head, self._at_ns)
        request.size += self._head_size
        self._unproductive = self._head_size = 0
        self._head_since_ns = None
        self._queue.append(request)
        self._parsing = request

    def on_body(self, body: bytes) -> None:
        """Take some of a body."""
        request = self._parsing
        assert request is not None
        request.parts.append(body)
        request.size += len(body)
        request.at_ns = self._at_ns
        self._unproductive = 0

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        request = self._parsing
        if self._other_protocol or request is None:
            return
        request.trailers = framing.decode_headers(self._headers)
        self._headers = []
        check_trailers(request.trailers)
        request.ended = True
        request.at_ns = self._at_ns
        self._parsing = None
        self._unproductive = 0
        head = request.head
        assert head is not None
        if not framing.keeps_alive(head.http_version, head.headers):
            self._deaf = True  # it was the last, whatever comes after it

    def _refuse(self, reason: BaseException | None) -> None:
        """Stop listening, and answer why when the turn comes."""
        if self._deaf:  # what llhttp found stands after the last request
            return
        self._deaf = True
        if not isinstance(reason, Refusal):
            _logger.error("a request could not be parsed", exc_info=reason)
            reason = failed()
        request = self._parsing
        if request is None:
            request = _Request(None, self._at_ns)
            self._queue.append(request)
        request.refusal = reason

    # The handler's side: hand on what was noted.

    def _deliver(self) -> None:
        """Hand on what is there for the request whose turn it is, and so on."""
        if self._delivering:
            return  # a handler finished its response inside a call from below
        self._delivering = True
        try:
            while self._queue and self._advance(self._queue[0]):
                if self._queue:
                    self._queue.popleft()
                    self._request_paused = False
        finally:
            self._delivering = False
        self._update_reading()

    def _advance(self, request: _Request) -> bool:
        """Hand on what is there for one request; return whether it is over."""
        if request.head is None:
            assert request.refusal is not None
            self._answer(request.refusal)
            return True
        try:
            stream = request.stream or self._begin(request, request.head)
            handler = request.handler
            assert handler is not None
            if request.parts:
                parts, request.parts = request.parts, []
                if not stream.finished:
                    data = parts[0] if len(parts) == 1 else b"".join(parts)
                    handler.request_data(data, request.at_ns)
            if request.ended and not request.reported_end:
                request.reported_end = True
                if not stream.finished:
                    handler.request_end(request.at_ns, request.trailers)
        except Exception as error:
            _logger.exception("the handler of %s failed", request.head.path)
            self._break(request, failed(), error)
            return request.ended
        if request.refusal is not None:
            malformed = ValueError(request.refusal.message)
            self._break(request, request.refusal, malformed)
        return stream.finished and (request.ended or request.refusal is not None)

    def _begin(self, request: _Request, head: RequestHead) -> ResponseStream:
        assert self._handler is not None
        stream = request.stream = ResponseStream(self, self._transport, head)
        self._server.stream_started()
        handler = self._handler.request_head(head, stream, request.head_ns)
        request.handler = handler
        if self._write_paused and not stream.finished:
            handler.pause_response()  # the response before this one is still going out
        return stream

    def _break(self, request: _Request, refusal: Refusal, error: BaseException) -> None:
        """End a stream that cannot go on: by an answer if there is none yet."""
        stream = request.stream
        if stream is None or stream.finished:
            return
        if stream.started:
            stream.abort(reset=False)
        else:
            send_refusal(stream, refusal)
        self._tell_gone(request, self._at_ns, error)

    def _answer(self, refusal: Refusal) -> None:
        """Answer a request that is not one."""
        stream = ResponseStream(self, self._transport, RequestHead("GET", "/"))
        self._server.request_refused(refusal)
        self._server.stream_started()
        send_refusal(stream, refusal)

    def response_finished(self, stream: ResponseStream) -> None:
        """Go on with the next request, or close."""
        self._server.stream_finished()
        self.idle_since_ns = self._now()
        request = self._queue[0] if self._queue else None
        if (
            request is not None
            and not request.ended
            and not stream.continued
            and header(stream.request.headers, "expect")
        ):
            # The client may or may not send the body that it was not asked for, and we
            # could not tell it from the next request (RFC 9110 section 10.1.1).
            stream.keep_alive = False
        if stream.keep_alive and not self._server.closing:
            self._request_paused = False
            self._deliver()
            return
        whole = request is not None and request.ended and len(self._queue) == 1
        self._queue.clear()
        self._deaf = True
        if whole:
            self._transport.close()
        else:
            self._linger()

    def response_reset(self) -> None:
        """Reset the connection, when what was written has been taken."""
        self._server.stream_finished()
        self._queue.clear()
        self._deaf = True
        self._is_resetting = True
        self._update_reading()
        reset_when_sent(self._transport, self._server.clock)

    def _linger(self) -> None:
        """End our side, and read on until the client has ended its own."""
        if self._transport.is_closing():
            return
        self._lingering = True
        self._transport.write_eof()
        self._update_reading()

    def pause_request(self, stream: ResponseStream) -> None:
        """Stop reading, unless the request has been read: then only a leave is left."""
        if self._queue and self._queue[0].stream is stream:
            self._request_paused = not self._queue[0].ended
            self._update_reading()

    def resume_request(self) -> None:
        """Read on."""
        self._request_paused = False
        self._update_reading()

    def _update_reading(self) -> None:
        reading = self._deaf or not (self._request_paused or self._is_queue_full())
        if reading is self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _is_queue_full(self) -> bool:
        if len(self._queue) <= 1:
            return False
        waiting = sum(request.size for request in self._queue)
        return waiting - self._queue[0].size > PIPELINE_BYTES_MAX

    # The server's side.

    @property
    def is_idle(self) -> bool:
        """Whether no response is open or due."""
        if self._is_resetting:
            return False  # its end is still to be told
        if not self._queue:
            return True
        stream = self._queue[0].stream
        return stream is not None and stream.finished

    def close(self) -> None:
        """Close in order, once what was written is sent."""
        self._transport.close()

    def abort(self, error: BaseException | None) -> None:
        """Close at once, telling an open stream why."""
        stream = self._queue[0].stream if self._queue else None
        is_cut = stream is not None and stream.is_open_ended
        self._lose_client(self._now(), error)
        if is_cut or self._is_resetting:
            reset_connection(self._transport)
        else:
            self._transport.abort()

    def sweep(self, now_ns: int) -> None:
        """Close the connection if it was idle for too long, or its client has left."""
        if not self.is_idle:
            # Who does not read does not see the end either, so it is asked for.
            if not self._reading and has_left(self._transport):
                self.abort(None)
            return
        if self._is_head_late(now_ns):
            self._refuse(too_slow(self._limits))
            self._deliver()
            return
        idle_ns = int(self._limits.idle_timeout_s * 1e9)
        sent = not self._transport.get_write_buffer_size()
        limit_ns = min(idle_ns, LINGER_NS) if self._lingering and sent else idle_ns
        if now_ns - self.idle_since_ns <= limit_ns:
            return
        if self._lingering or self._transport.is_closing():
            self._transport.abort()  # the client takes neither our bytes nor our end
            return
        self.idle_since_ns = now_ns
        self._transport.close()

    def _is_head_late(self, now_ns: int) -> bool:
        if self._head_since_ns is None or self._deaf:
            return False
        # What came while the response before it was open has its time from its end.
        since_ns = max(self._head_since_ns, self.idle_since_ns)
        return now_ns - since_ns > self._limits.head_timeout_s * 1e9
