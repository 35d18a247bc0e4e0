"""The side that clients connect to: requests in, responses out.

Theory of operation
-------------------
A `_Connection` is the asyncio Protocol of one client.  llhttp's callbacks only note
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

What RFC 9112 calls malformed is answered 400.  llhttp refuses most of it (both framings
in one request, two lengths, folded lines, bare line feeds); `_check` adds what it lets
pass.  `Upgrade: h2c`, which the JDK's client offers with plain requests, is ignored
as RFC 9110 section 7.8 allows; other upgrades and CONNECT are answered 501.

`Expect: 100-continue` is the handler's: it may call `send_informational`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol, cast

import httptools

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import ListenError
from sse_recorder.exchange import Headers, RequestHead, ResponseHead, header
from sse_recorder.http1 import framing
from sse_recorder.http1.answers import send_json_error
from sse_recorder.http1.sockets import has_left, reset_connection, reset_when_sent

PIPELINE_BYTES_MAX: Final = 64 * 1024
"""How much of later requests may wait while one is answered."""

IDLE_TIMEOUT_S: Final = 300.0
"""How long a connection may be kept alive without a request."""

LINGER_NS: Final = 2_000_000_000
"""How long a client may go on sending after we have ended our side.  A close with
unread bytes resets the connection, and the reset may overtake our answer (RFC 9112
section 9.6)."""

_REQUEST_OVERHEAD: Final = 256  # what a waiting request weighs besides its bytes
_SWEEP_S: Final = 1.0

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


class _Refusal(Exception):  # noqa: N818 - an answer, raised through the parser
    """Why we answer a request ourselves."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


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
        self.refusal: _Refusal | None = None
        self.stream: ResponseStream | None = None
        self.handler: StreamHandler | None = None
        self.reported_end = False


class ResponseStream:
    """What a handler answers one request with.

    Once `finished`, every method does nothing: a handler may learn late that its client
    has left.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_framing",
        "_remaining",
        "_transport",
        "_write",
        "continued",
        "finished",
        "keep_alive",
        "request",
        "started",
    )

    def __init__(
        self,
        connection: _Connection,
        transport: asyncio.Transport,
        request: RequestHead,
    ) -> None:
        self._connection = connection
        self._transport = transport
        self.request: Final = request
        """The head of the request that this answers."""
        self.started = False
        """Whether the response head was sent."""
        self.finished = False
        """Whether the response is over: ended, broken off, or without a client."""
        self.continued = False
        """Whether `100 Continue` was sent."""
        self.keep_alive = framing.keeps_alive(request.http_version, request.headers)
        """Whether the connection outlives the response, as far as is known."""
        self._framing: framing.Framing = "none"
        self._chunked = False
        self._remaining = 0  # of a body with a Content-Length
        self._write: Callable[[bytes], object] | None = None  # while a body is sent

    @property
    def buffered(self) -> int:
        """The bytes written to this client that its socket has not taken yet."""
        return self._transport.get_write_buffer_size()

    def send_informational(self, head: ResponseHead) -> None:
        """Send a 1xx response before the head; HTTP/1.0 clients are spared it."""
        if self.finished:
            return
        assert not self.started, "an informational response comes before the head"
        if self.request.http_version != "1.0":
            self.continued = self.continued or head.status == 100  # noqa: PLR2004 - status code
            self._transport.write(framing.encode_response(head))

    def send_head(self, head: ResponseHead) -> None:
        """Send the response head; its headers say how the body is framed.

        They are sent as given, but for an HTTP/1.0 client: it knows no chunks, so it
        gets the body up to the end of the connection; and it is told when its
        connection is kept alive, without which it would wait for the end.

        Raises:
            UsageError: the head cannot be sent as it is.
        """
        if self.finished:
            return
        assert not self.started, "a response has one head"
        kind = framing.response_framing(self.request.method, head.status, head.headers)
        if self.request.http_version == "1.0":
            kind, head = self._for_http_1_0(kind, head)
        self.keep_alive = (
            self.keep_alive
            and kind != "close"
            and "close" not in framing.tokens(head.headers, "connection")
        )
        block = framing.encode_response(head)
        self._framing = kind
        self._chunked = kind == "chunked"
        if kind == "length":
            self._remaining = framing.content_length(head.headers) or 0
        if kind != "none":
            self._write = self._transport.write
        self.started = True
        self._transport.write(block)

    def _for_http_1_0(
        self, kind: framing.Framing, head: ResponseHead
    ) -> tuple[framing.Framing, ResponseHead]:
        headers = head.headers
        if framing.is_chunked(headers):
            headers = tuple(h for h in headers if h[0].lower() != "transfer-encoding")
            kind = "close" if kind == "chunked" else kind
        if self.keep_alive and kind != "close" and not header(headers, "connection"):
            headers = (*headers, ("Connection", "keep-alive"))
        return kind, ResponseHead(head.status, head.reason, headers, head.http_version)

    def send_data(self, data: bytes) -> None:
        """Send some of the body, in one write; a response without a body drops it."""
        write = self._write
        if write is None or not data:
            assert self.started or self.finished, "the head comes before the body"
        elif self._chunked:
            write(framing.encode_chunk(data))
        else:
            if self._framing == "length":
                # Past the announced length, it would be read as the next response.
                data = data[: self._remaining]
                self._remaining -= len(data)
            write(data)

    def end(self, trailers: Headers = ()) -> None:
        """Finish the response; trailers are sent if the body is chunked.

        A body that is shorter than its Content-Length ends with its connection.
        """
        if self.finished:
            return
        assert self.started, "the head comes before the end"
        if self._chunked:
            self._transport.write(framing.encode_last_chunk(trailers))
        if self._remaining:
            self.keep_alive = False
        self.finished = True
        self._write = None
        self._connection.response_finished(self)

    @property
    def is_open_ended(self) -> bool:
        """Whether a plain end of the connection would make what was sent look whole."""
        return self._framing == "close"

    def abort(self, *, reset: bool) -> None:
        """Break the response off: by a TCP reset, or by ending it without its end.

        What was written is sent first.
        """
        if self.finished:
            return
        self.keep_alive = False
        self.finished = True
        self._write = None
        if reset or self.is_open_ended:
            self._connection.response_reset()
        else:
            self._connection.response_finished(self)

    def pause_request(self) -> None:
        """Stop reading this request's body from the client."""
        if not self.finished:
            self._connection.pause_request(self)

    def resume_request(self) -> None:
        """Read this request's body again."""
        if not self.finished:
            self._connection.resume_request()

    def lose_client(self) -> None:
        """Note that the client left; for the connection alone."""
        self.finished = True
        self.keep_alive = False
        self._write = None


class _Connection(asyncio.Protocol):
    """One client's connection."""

    _transport: asyncio.Transport
    _parser: httptools.HttpRequestParser
    _feed: Callable[[bytes], None]

    def __init__(self, server: Server) -> None:
        self._server = server
        self._handler: ConnectionHandler | None = None
        self._now = server.clock.monotonic_ns
        self._at_ns = 0  # of the read being parsed
        self._queue: deque[_Request] = deque()  # the first is the one being answered
        self._parsing: _Request | None = None  # whose body is being parsed
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
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
        self._new_parser()
        self._server.connection_made(self)
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
            if self._unproductive > self._server.head_bytes_max:
                raise self._too_large()
        except _Refusal as refusal:
            self._refuse(refusal)
        except httptools.HttpParserCallbackError as error:
            self._refuse(error.__context__)
        except httptools.HttpParserError as error:
            self._refuse(_malformed(str(error)))
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
        if self._head_size > self._server.head_bytes_max:
            raise self._too_large()

    def on_headers_complete(self) -> None:
        """Queue the request, if it may be answered."""
        headers = framing.decode_headers(self._headers)
        self._headers = []
        if self._other_protocol:  # the same request for the second time
            self._other_protocol = False
            return
        parser = self._parser
        head = RequestHead(
            parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            headers,
            parser.get_http_version(),
        )
        _check(head)
        if parser.should_upgrade():
            self._other_protocol = True
            if framing.tokens(headers, "upgrade") != ["h2c"]:
                raise _Refusal(
                    501,
                    "not_implemented",
                    f"{head.method} tunnels and Upgrade are not supported: send a plain"
                    " HTTP/1.1 request.",
                )
        request = _Request(head, self._at_ns)
        request.size += self._head_size
        self._unproductive = self._head_size = 0
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
        request.ended = True
        request.at_ns = self._at_ns
        request.trailers = framing.decode_headers(self._headers)
        self._headers = []
        self._parsing = None
        self._unproductive = 0
        head = request.head
        assert head is not None
        if not framing.keeps_alive(head.http_version, head.headers):
            self._deaf = True  # it was the last, whatever comes after it

    def _too_large(self) -> _Refusal:
        return _Refusal(
            431,
            "headers_too_large",
            f"The headers are larger than {self._server.head_bytes_max} bytes:"
            " send fewer or shorter ones.",
        )

    def _refuse(self, reason: BaseException | None) -> None:
        """Stop listening, and answer why when the turn comes."""
        if self._deaf:  # what llhttp found stands after the last request
            return
        self._deaf = True
        if not isinstance(reason, _Refusal):
            _logger.error("a request could not be parsed", exc_info=reason)
            reason = _failed()
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
            self._break(request, _failed(), error)
            return request.ended
        if request.refusal is not None:
            malformed = ValueError(request.refusal.message)
            self._break(request, request.refusal, malformed)
        return stream.finished and (request.ended or request.refusal is not None)

    def _begin(self, request: _Request, head: RequestHead) -> ResponseStream:
        assert self._handler is not None
        stream = request.stream = ResponseStream(self, self._transport, head)
        self._server.open_streams += 1
        handler = self._handler.request_head(head, stream, request.head_ns)
        request.handler = handler
        if self._write_paused and not stream.finished:
            handler.pause_response()  # the response before this one is still going out
        return stream

    def _break(
        self, request: _Request, refusal: _Refusal, error: BaseException
    ) -> None:
        """End a stream that cannot go on: by an answer if there is none yet."""
        stream = request.stream
        if stream is None or stream.finished:
            return
        if stream.started:
            stream.abort(reset=False)
        else:
            _send_refusal(stream, refusal)
        self._tell_gone(request, self._at_ns, error)

    def _answer(self, refusal: _Refusal) -> None:
        """Answer a request that is not one."""
        stream = ResponseStream(self, self._transport, RequestHead("GET", "/"))
        self._server.open_streams += 1
        _send_refusal(stream, refusal)

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

    def sweep(self, now_ns: int, idle_ns: int) -> None:
        """Close the connection if it was idle for too long, or its client has left."""
        if not self.is_idle:
            # Who does not read does not see the end either, so it is asked for.
            if not self._reading and has_left(self._transport):
                self.abort(None)
            return
        sent = not self._transport.get_write_buffer_size()
        limit_ns = min(idle_ns, LINGER_NS) if self._lingering and sent else idle_ns
        if now_ns - self.idle_since_ns <= limit_ns:
            return
        if self._lingering or self._transport.is_closing():
            self._transport.abort()  # the client takes neither our bytes nor our end
            return
        self.idle_since_ns = now_ns
        self._transport.close()


def _malformed(reason: str) -> _Refusal:
    return _Refusal(
        400, "bad_request", f"The request is not valid HTTP/1.1: {reason.rstrip('.')}."
    )


def _failed() -> _Refusal:
    return _Refusal(500, "internal_error", "The server failed: its log tells why.")


def _check(head: RequestHead) -> None:
    """Refuse the malformed requests that llhttp lets pass."""
    if head.http_version not in {"1.0", "1.1"}:
        raise _Refusal(
            505,
            "http_version_not_supported",
            f"HTTP/{head.http_version} is not spoken here: send HTTP/1.1.",
        )
    # "A server MUST respond with a 400 status code to any HTTP/1.1 request message that
    # lacks a Host header field and to any request message that contains more than one
    # Host header field line" (RFC 9112 section 3.2).
    hosts = sum(name.lower() == "host" for name, _ in head.headers)
    if hosts > 1 or (hosts == 0 and head.http_version == "1.1"):
        raise _malformed(f"it has {hosts} Host headers, and needs one")
    if header(head.headers, "transfer-encoding") is None:
        return
    # "If a Transfer-Encoding header field is present in a request and the chunked
    # transfer coding is not the final encoding, the message body length cannot be
    # determined reliably; the server MUST respond with the 400 status code" (6.3).
    # "A server or client that receives an HTTP/1.0 message containing a
    # Transfer-Encoding header field MUST treat the message as if the framing is faulty"
    # (6.1).
    if head.http_version == "1.0" or not framing.is_chunked(head.headers):
        raise _malformed("its Transfer-Encoding does not frame it")


def _send_refusal(stream: ResponseStream, refusal: _Refusal) -> None:
    status, close = HTTPStatus(refusal.status), (("Connection", "close"),)
    send_json_error(stream, status, refusal.kind, refusal.message, close)


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Server:
    """Accepts connections and gives each to a handler of its own.

    Args:
        handler: called once for each connection.
        clock: gives the time of every read.
        head_bytes_max: a larger request head is answered 431.
        write_buffer_bytes: how much may wait for a client before its handler is paused.
        idle_timeout_s: how long a connection is kept alive without a request; it never
            applies while a response is open.
    """

    def __init__(
        self,
        handler: Callable[[], ConnectionHandler],
        *,
        clock: Clock = SYSTEM,
        head_bytes_max: int = framing.HEAD_BYTES_MAX,
        write_buffer_bytes: int = framing.WRITE_BUFFER_BYTES,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        self.handler: Final = handler
        self.clock: Final = clock
        self.head_bytes_max: Final = head_bytes_max
        self.write_buffer_bytes: Final = write_buffer_bytes
        self.connections: Final[set[_Connection]] = set()
        self.open_streams = 0
        """How many responses are not finished."""
        self.closing = False
        """Whether no connection is kept alive any more."""
        self._idle_timeout_s = idle_timeout_s
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._address = Address("", 0)

    async def listen(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Accept connections; port 0 picks a free one, and `address` tells which.

        Args:
            host: a name or an address of this machine.
            port: 0 to 65535.
            reuse_port: let other processes listen on the same port.

        Raises:
            ListenError: the address is taken, forbidden or not of this machine.
        """
        if not 0 <= port <= 65535:  # noqa: PLR2004 - uvloop would wrap it round
            raise ListenError(f"There is no port {port}: choose one from 0 to 65535.")
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: _Connection(self), host, port, reuse_port=reuse_port or None
            )
        except OSError as error:
            raise _listen_error(host, port, error) from error
        self._server = server
        name = server.sockets[0].getsockname()
        self._address = Address(name[0], name[1])
        self._sweep_later(loop)

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port that it listens on."""
        return self._address

    @property
    def url(self) -> str:
        """Where clients on this machine find it."""
        host, port = self._address
        # An address that means "all of them" is not one to connect to.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stop_listening(self) -> None:
        """Accept no more connections; those that are open go on."""
        if self._server is not None:
            self._server.close()

    async def drain(self, grace_s: float) -> None:
        """Take no more requests, and give open responses so many seconds to finish."""
        self.stop_listening()
        self.closing = True
        for connection in tuple(self.connections):
            if connection.is_idle:
                connection.close()
        await self._wait_empty(grace_s)

    async def close(self, *, grace_s: float) -> None:
        """Drain, then break what has not finished."""
        await self.drain(grace_s)
        error = ConnectionAbortedError("the server is closing")
        for connection in tuple(self.connections):
            connection.abort(error)
        await self._wait_empty(1.0)  # an abort is reported in the loop's next turn
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    async def _wait_empty(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._emptied.wait()

    # Called by the connections.

    def connection_made(self, connection: _Connection) -> None:
        """Keep a connection."""
        self.connections.add(connection)
        self._emptied.clear()

    def connection_lost(self, connection: _Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if not self.connections:
            self._emptied.set()

    def stream_finished(self) -> None:
        """Count a response that is over."""
        self.open_streams -= 1

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        # One timer for all connections.  A timer a connection, moved at every read,
        # would cost more than the read.
        interval_s = min(_SWEEP_S, self._idle_timeout_s / 2)
        self._sweep = loop.call_later(interval_s, self._sweep_now, loop)

    def _sweep_now(self, loop: asyncio.AbstractEventLoop) -> None:
        now_ns = self.clock.monotonic_ns()
        idle_ns = int(self._idle_timeout_s * 1e9)
        for connection in tuple(self.connections):
            connection.sweep(now_ns, idle_ns)
        self._sweep_later(loop)


def _listen_error(host: str, port: int, error: OSError) -> ListenError:
    where = f"{host}:{port}"
    if isinstance(error, socket.gaierror):
        return ListenError(
            f"Cannot listen on {where}: no such host. Use 127.0.0.1 or another address"
            " of this machine."
        )
    match error.errno:
        case errno.EADDRINUSE:
            text = (
                "the port is taken. Stop what listens there, or use port 0 to get a"
                " free one."
            )
        case errno.EACCES | errno.EPERM:
            text = "it is not permitted. Use a port above 1023."
        case errno.EADDRNOTAVAIL:
            text = (
                "this machine does not have that address. Use 127.0.0.1 or one of its"
                " own."
            )
        case _:
            reason = error.strerror or str(error)
            text = f"{reason}. Choose another address or port."
    return ListenError(f"Cannot listen on {where}: {text}")
