"""The side that connects to an upstream: requests out, responses in.

Theory of operation
-------------------
A `Connection` carries one exchange at a time.  llhttp's callbacks only note what a read
held; when the read is parsed, the handler is told in the order of the wire: heads, then
the body's bytes joined, then the end.  A read that holds nothing but body, as nearly
all reads of an event stream do, costs one parse, one test and one call.

Every request gets a parser of its own, so that a response to HEAD, for whose
`Content-Length` llhttp would wait, leaves nothing behind.

Rules
-----
1. The clock is read before anything else is done with a read.
2. What one read brought of a body is handed on as one `bytes`, in the same call.
3. `response_end` or `response_failed` is called once, and nothing after it.  After
   `close()` or `abort()` nothing is called at all.
4. A response may come, and end, before its request was sent.
5. A connection is used again only if the response ended as its framing says, the
   request was sent whole, both sides allow it, and nothing came after the response.
6. Malformed answers and broken connections are a `Failure`, not an exception.

What clients such as curl read, and two readers cannot read in two ways, is taken, and
handed on as it should have been sent: lines that end in a bare line feed, folded ones,
chunk sizes with spaces behind them, a Content-Length that is said twice, or beside
`Transfer-Encoding: chunked`, which overrides it (RFC 9112 section 6.3).

There are no timeouts here but for connecting: how long silence may last is known to the
caller alone, which calls `abort()`.  101 Switching Protocols is a failure, because
nobody here asks for an upgrade.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, cast
from urllib.parse import urlsplit

import certifi
import httptools

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import UpstreamError, UsageError
from sse_recorder.exchange import Headers, RequestHead, ResponseHead, header
from sse_recorder.http1 import framing
from sse_recorder.http1.sockets import has_left, probe_when_silent

_LENIENCIES: Final = {
    "lenient_headers": True,  # folded lines
    "lenient_chunked_length": True,  # beside Content-Length
    "lenient_optional_cr_before_lf": True,
    "lenient_spaces_after_chunk_size": True,
}
DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_logger = logging.getLogger("sse_recorder.http1")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a response will not be complete."""

    kind: Literal["eof", "reset", "protocol", "timeout", "internal"]
    """How it broke: the upstream closed in order; it reset the connection, or the
    network did; what it sent is not HTTP/1.1; the network gave up waiting; the handler
    raised."""
    message: str


class ResponseHandler(Protocol):
    """What receives the response to one request."""

    def informational(self, head: ResponseHead, at_ns: int) -> None:
        """Take a 1xx response; the final one follows."""

    def response_head(self, head: ResponseHead, at_ns: int) -> None:
        """Take the head of the final response."""

    def response_data(self, data: bytes, at_ns: int) -> None:
        """Take the bytes of the body that one read brought, without chunk framing."""

    def response_end(self, at_ns: int, trailers: Headers) -> None:
        """The response is complete; the connection may be used again if it says so."""

    def response_failed(self, failure: Failure, at_ns: int) -> None:
        """The response will not be complete."""

    def pause_request(self) -> None:
        """Send no more for now: the upstream reads more slowly than you write."""

    def resume_request(self) -> None:
        """Send again."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where to connect."""

    scheme: str
    host: str
    port: int
    ssl_context: ssl.SSLContext | None = None
    """How to check the upstream's certificate; None means `default_ssl_context()`."""

    @classmethod
    def from_url(cls, url: str, *, ssl_context: ssl.SSLContext | None = None) -> Origin:
        """Return the origin of a URL; the rest of the URL is the caller's.

        Raises:
            UsageError: it has no origin that can be connected to.
        """
        example = "give one such as https://api.example.com"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{url!r} is not a URL ({error}): {example}.") from None
        if parts.scheme not in DEFAULT_PORTS:
            raise UsageError(f"{url!r} is not an http or https URL: {example}.")
        if not parts.hostname or any(c.isspace() for c in parts.netloc):
            raise UsageError(f"{url!r} names no host: {example}.")
        if "@" in parts.netloc:
            raise UsageError(
                f"The URL of {parts.hostname} holds a user name or a password: send"
                " them in an Authorization header instead."
            )
        if port == 0:
            raise UsageError(f"{url!r} has port 0, which no server has: {example}.")
        port = port or DEFAULT_PORTS[parts.scheme]
        return cls(parts.scheme, parts.hostname, port, ssl_context)

    @property
    def authority(self) -> str:
        """Host and port as in a `Host` header: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port == DEFAULT_PORTS.get(self.scheme):
            return host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def default_ssl_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return how certificates are checked: by `ca_file`, the system's, or certifi's.

    Raises:
        UsageError: `ca_file` cannot be read or holds no certificate.
    """
    if ca_file is None:
        paths = ssl.get_default_verify_paths()  # these exist, or are None
        folder = Path(paths.capath) if paths.capath else None
        if not paths.cafile and not (folder and any(folder.iterdir())):
            ca_file = certifi.where()
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{ca_file} holds no usable certificates ({error.strerror or error}):"
            " give a PEM file of certificate authorities."
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


async def connect(
    origin: Origin,
    *,
    timeout_s: float,
    clock: Clock = SYSTEM,
    write_buffer_bytes: int = framing.WRITE_BUFFER_BYTES,
    head_bytes: int = framing.ANSWER_HEAD_BYTES_MAX,
) -> Connection:
    """Connect to an upstream.

    Args:
        origin: where to.
        timeout_s: for the name, the connection and the TLS handshake together.
        clock: gives the time of every read.
        write_buffer_bytes: how much may wait for the upstream before the handler of
            its response is asked to pause the request.
        head_bytes: the largest head of a response that is taken.

    Raises:
        UpstreamError: it cannot be reached, or TLS failed.
    """
    context = None
    if origin.scheme == "https":
        context = origin.ssl_context or default_ssl_context()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_connection(
                lambda: Connection(
                    clock, write_buffer_bytes=write_buffer_bytes, head_bytes=head_bytes
                ),
                origin.host,
                origin.port,
                ssl=context,
                server_hostname=origin.host if context else None,
            )
    except (OSError, UnicodeError) as error:
        raise _connect_error(origin, timeout_s, error) from error
    return connection


def _connect_error(
    origin: Origin, timeout_s: float, error: OSError | UnicodeError
) -> UpstreamError:
    text = str(error)
    match error:
        case TimeoutError():
            reason = f"no connection within {timeout_s:g} s. Is it up and reachable?"
        case socket.gaierror() | UnicodeError():
            reason = f"the name {origin.host!r} is not known. Check its spelling."
        case ssl.SSLCertVerificationError():
            detail = error.verify_message.rstrip(".")
            reason = (
                f"its certificate is not accepted: {detail}. Give the file of"
                " the certificate authority that signed it, or the name it is for."
            )
        case ssl.SSLError() if getattr(error, "reason", "") in {
            "WRONG_VERSION_NUMBER",
            "HTTP_REQUEST",
            "RECORD_LAYER_FAILURE",
            "PACKET_LENGTH_TOO_LONG",
            "UNKNOWN_PROTOCOL",
        }:
            reason = "the upstream does not speak TLS there. Is it an http:// URL?"
        case ssl.SSLError():
            reason = (
                f"TLS failed: {_tls_reason(error)}. Check the protocol versions it"
                " offers."
            )
        case ConnectionRefusedError():
            reason = "the connection was refused. Is it up, and is the port right?"
        case ConnectionError() if origin.scheme == "https":
            reason = (
                "it ended the TLS handshake. Is it an http:// URL, or of an older TLS?"
            )
        case _:
            reason = f"{(error.strerror or text).rstrip('.')}. Is it reachable?"
    return UpstreamError(f"Cannot connect to {origin}: {reason}")


def _tls_reason(error: ssl.SSLError) -> str:
    # `reason` is there only where OpenSSL gave one, such as `NO_PROTOCOLS_AVAILABLE`.
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).replace("_", " ").lower()


class _Malformed(Exception):  # noqa: N818 - a finding, raised through the parser
    """The upstream sent what llhttp lets pass and HTTP/1.1 does not."""


class Connection(asyncio.Protocol):
    """A connection to an upstream; `connect` makes it."""

    _transport: asyncio.Transport

    def __init__(
        self,
        clock: Clock = SYSTEM,
        *,
        write_buffer_bytes: int = framing.WRITE_BUFFER_BYTES,
        head_bytes: int = framing.ANSWER_HEAD_BYTES_MAX,
    ) -> None:
        self._now = clock.monotonic_ns
        self._write_buffer_bytes = write_buffer_bytes
        self._head_bytes = head_bytes
        self.on_closed: Callable[[Connection], None] | None = None
        """Called once when the connection is over, for whoever keeps idle ones."""
        self._lost = False
        self._handler: ResponseHandler | None = None  # while a response is due
        self._keep_alive = True
        self._read_paused = False
        self._write_paused = False
        # The request being sent.
        self._method = ""
        self._request_framing: framing.Framing = "none"
        self._request_open = False
        self._remaining = 0
        # What the current read held.  `on_body` is the list's own method: a callback
        # without a Python frame.
        self._parts: list[bytes] = []
        self.on_body: Callable[[bytes], None] = self._parts.append
        self._heads: list[ResponseHead] = []
        self._news = False  # anything but body
        # The response as far as it was parsed.
        self._parser: httptools.HttpResponseParser | None = None
        self._feed: Callable[[bytes], object] = bytes  # replaced by every request
        self._line = b""  # of a head, as far as it was read
        self._in_headers = False  # and not in the line before them
        self._length: bytes | None = None  # of a body, as its head said first
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._unproductive = 0  # bytes read since the last that were a head or body
        self._response_framing: framing.Framing | None = None  # None before its head
        self._body_parts: int | None = None  # in this read; set when the body is over
        self._trailers: Headers = ()

    # The owner's side.

    @property
    def is_open(self) -> bool:
        """Whether the connection is neither closed nor closing."""
        return not self._lost and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent.

        The kernel is asked as well, for the end of a connection may have come and not
        been read yet.
        """
        return (
            self._keep_alive
            and self._handler is None
            and not self._request_open
            and self.is_open
            and not has_left(self._transport)
        )

    @property
    def request_open(self) -> bool:
        """Whether some of the request is still to be sent."""
        return self._request_open

    @property
    def buffered(self) -> int:
        """The bytes written that the upstream's socket has not taken yet."""
        return 0 if self._lost else self._transport.get_write_buffer_size()

    def send_request(self, head: RequestHead, handler: ResponseHandler) -> None:
        """Send a request head as given; its headers say how the body is framed.

        Without `Transfer-Encoding: chunked` and without a `Content-Length` above zero
        the request is complete at once.  A connection that was lost meanwhile reports
        it to `handler` in the loop's next turn.

        Raises:
            UsageError: the head cannot be sent as it is.
        """
        assert self._handler is None, "one exchange at a time"
        assert not self._request_open, "the request before this one was not sent whole"
        block = framing.encode_request(head)
        self._request_framing = framing.request_framing(head.headers)
        self._request_open = self._request_framing != "none"
        self._remaining = framing.content_length(head.headers) or 0
        self._method = head.method
        self._keep_alive = framing.keeps_alive("1.1", head.headers)
        self._handler = handler
        self._heads = []
        self._reason = b""
        self._headers = []
        self._head_size = self._unproductive = 0
        self._response_framing = None
        self._body_parts = None
        self._trailers = ()
        self._parts.clear()
        self._news = False
        self._line = b""
        self._in_headers = False
        self._length = None
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**_LENIENCIES)
        self._feed = self._feed_head
        if self._lost:
            asyncio.get_running_loop().call_soon(self._report_lost, None)
            return
        self.resume_response()
        self._transport.write(block)
        if self._write_paused:
            handler.pause_request()

    def send_data(self, data: bytes) -> None:
        """Send some of the request's body, in one write."""
        if not self._request_open or not data or self._lost:
            return
        if self._request_framing == "chunked":
            self._transport.write(framing.encode_chunk(data))
            return
        # What goes past the announced length would be read as the next request.
        data = data[: self._remaining]
        self._remaining -= len(data)
        self._transport.write(data)

    def end_request(self, trailers: Headers = ()) -> None:
        """Finish the request; trailers are sent if the body is chunked.

        A body that is shorter than its Content-Length ends with its connection, for the
        upstream would wait for the rest.
        """
        if not self._request_open or self._lost:
            return
        if self._request_framing == "chunked":
            self._transport.write(framing.encode_last_chunk(trailers))
        elif self._remaining:
            self._keep_alive = False
            self._transport.abort()
        self._request_open = False

    def pause_response(self) -> None:
        """Stop reading.  An upstream that leaves is noticed when reading goes on."""
        if not self._read_paused and self._handler is not None and self.is_open:
            self._read_paused = True
            self._transport.pause_reading()

    def resume_response(self) -> None:
        """Read again."""
        if self._read_paused:
            self._read_paused = False
            if self.is_open:
                self._transport.resume_reading()

    def close(self) -> None:
        """Close once what was written is sent; no handler is called any more."""
        self._handler = None
        self._keep_alive = False
        if not self._lost:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; no handler is called any more."""
        self._handler = None
        self._keep_alive = False
        if not self._lost:
            self._transport.abort()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin.  asyncio and uvloop set TCP_NODELAY on every connection."""
        # Not `isinstance`: the transports of uvloop are not asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._write_buffer_bytes)
        probe_when_silent(self._transport)

    def data_received(self, data: bytes) -> None:
        """Parse one read and hand on what it held."""
        at_ns = self._now()
        handler = self._handler
        if handler is None:
            # Nobody asked: these bytes would be taken for the next response.
            self.close()
            return
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._report(handler, at_ns, error)
            return
        if self._news:
            self._report(handler, at_ns, None)
            return
        parts = self._parts
        if not parts:
            self._unproductive += len(data)
            if self._unproductive > self._head_bytes:
                self._report(handler, at_ns, _Malformed("too many bytes of framing"))
            return
        self._unproductive = 0
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        try:
            handler.response_data(body, at_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            self._handler_failed(handler, at_ns, error)

    def _report(
        self, handler: ResponseHandler, at_ns: int, error: BaseException | None
    ) -> None:
        """Hand on a read that held more than body, in the order of the wire."""
        try:
            self._report_parsed(handler, at_ns)
            if self._handler is not handler:
                return  # it closed the connection, or went on to the next request
            if self._body_parts is not None:
                self._finish(handler, at_ns, excess=error is not None)
            elif error is not None:
                self._fail(Failure("protocol", _explain(error)), at_ns)
        except Exception as failed:  # noqa: BLE001 - whatever it is, it is reported
            self._handler_failed(handler, at_ns, failed)

    def _report_parsed(self, handler: ResponseHandler, at_ns: int) -> None:
        self._news = False
        heads, self._heads = self._heads, []
        parts = self._parts[: self._body_parts]
        if self._body_parts is not None and len(self._parts) > self._body_parts:
            self._keep_alive = False  # bytes after the end
        self._parts.clear()
        for head in heads:
            if head.status >= 200:  # noqa: PLR2004 - status codes
                handler.response_head(head, at_ns)
            else:
                handler.informational(head, at_ns)
            if self._handler is not handler:
                return
        if parts:
            handler.response_data(b"".join(parts), at_ns)

    def _finish(self, handler: ResponseHandler, at_ns: int, *, excess: bool) -> None:
        self._handler = None
        if excess or self._response_framing == "close":
            self._keep_alive = False
        if not self._keep_alive:
            self._transport.close()
        self.resume_response()  # the upstream's leaving is noticed by reading
        handler.response_end(at_ns, self._trailers)

    def _fail(self, failure: Failure, at_ns: int) -> None:
        handler, self._handler = self._handler, None
        self._keep_alive = False
        if not self._lost:
            self._transport.abort()
        if handler is not None:
            handler.response_failed(failure, at_ns)

    def _handler_failed(
        self, handler: ResponseHandler, at_ns: int, error: Exception
    ) -> None:
        _logger.error("the handler of a response failed", exc_info=error)
        if self._handler is not handler:
            return  # it has been told how the response ended
        try:
            self._fail(Failure("internal", f"the handler failed: {error!r}"), at_ns)
        except Exception:
            _logger.exception("the handler of a response failed when told of it")

    def eof_received(self) -> None:
        """End the response, if that is how it is framed; asyncio closes our side."""
        at_ns = self._now()
        handler = self._handler
        if handler is None:
            return
        try:
            if self._response_framing == "close":
                self._finish(handler, at_ns, excess=False)
            else:
                self._fail(Failure("eof", self._where("closed the connection")), at_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            self._handler_failed(handler, at_ns, error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the response that was due."""
        self._lost = True
        self._report_lost(exc)
        self._parser = None  # it holds our callbacks: a cycle
        self._feed = bytes
        if self.on_closed is not None:
            self.on_closed(self)

    def _report_lost(self, exc: Exception | None) -> None:
        at_ns = self._now()
        handler = self._handler
        if handler is None:
            return
        match exc:
            case None:
                failure = Failure("eof", self._where("closed the connection"))
            case TimeoutError():
                failure = Failure("timeout", self._where("stopped answering"))
            case ssl.SSLError():
                failure = Failure("protocol", f"TLS failed: {_tls_reason(exc)}")
            case _:
                failure = Failure("reset", self._where("reset the connection"))
        try:
            self._fail(failure, at_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            self._handler_failed(handler, at_ns, error)

    def _where(self, what: str) -> str:
        before = "its response head" if self._response_framing is None else "the end"
        return f"the upstream {what} before {before}"

    def pause_writing(self) -> None:
        """Pass on that the upstream reads too slowly."""
        self._write_paused = True
        if self._handler is not None:
            self._handler.pause_request()

    def resume_writing(self) -> None:
        """Pass on that the upstream has caught up."""
        self._write_paused = False
        if self._handler is not None:
            self._handler.resume_request()

    def _feed_head(self, data: bytes) -> None:
        """Parse up to the body line by line, without lengths that were said before.

        llhttp has no leniency for them.  What is parsed after the head goes by here.
        """
        assert self._parser is not None
        feed, at = self._parser.feed_data, 0
        while at < len(data) and self._response_framing is None:
            end = data.find(b"\n", at) + 1
            piece, at = data[at : end or len(data)], end or len(data)
            self._line += piece
            if not self._in_headers:  # what is no answer at all is told at once
                feed(piece)
            elif end and not self._is_length_again(self._line):
                feed(self._line)
            if end:
                self._in_headers = bool(self._line.strip(b"\r\n"))
                self._line = b""
        if self._response_framing is not None:
            self._feed = feed
            if at < len(data):
                feed(data[at:])

    def _is_length_again(self, line: bytes) -> bool:
        """Tell whether a line is a Content-Length, and says what one before it said."""
        name, _, value = line.partition(b":")
        if name.lower() != b"content-length":
            return False
        length, self._length = self._length, value.strip()
        return self._length == length

    # llhttp's side: note what was seen.

    def on_message_begin(self) -> None:
        """A response begins; after the final one, none may."""
        self._news = True
        if self._body_parts is not None:
            raise _Malformed("more than one response to one request")

    def on_status(self, reason: bytes) -> None:
        """Take some of the reason phrase; a read may cut it."""
        self._reason += reason
        self._head_size += len(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header, or one trailer."""
        self._headers.append((name, value))
        self._head_size += len(name) + len(value) + 4
        if self._head_size > self._head_bytes:
            raise _Malformed(f"its headers exceed {self._head_bytes} bytes")

    def on_headers_complete(self) -> None:
        """Note a head, and how its body is framed."""
        parser = self._parser
        assert parser is not None
        head = ResponseHead(
            parser.get_status_code(),
            self._reason.decode("latin-1"),
            _one_framing(framing.decode_headers(self._headers)),
            parser.get_http_version(),
        )
        self._reason = b""
        self._headers = []
        self._length = None
        self._head_size = self._unproductive = 0
        _check(head)
        self._heads.append(head)
        self._news = True
        if head.status < 200:  # noqa: PLR2004 - status codes
            return
        kind = framing.response_framing(self._method, head.status, head.headers)
        self._response_framing = kind
        if not framing.keeps_alive(head.http_version, head.headers):
            self._keep_alive = False
        if head.http_version == "1.0" and kind == "chunked":
            # "MUST treat the message as if the framing is faulty [...] and close the
            # connection after processing the message" (RFC 9112 section 6.1).
            self._keep_alive = False
        if kind == "none":
            self._body_parts = 0  # whatever llhttp goes on to find

    def on_message_complete(self) -> None:
        """Note the end of the response, unless it was an informational one."""
        if self._response_framing is None or self._body_parts is not None:
            return
        self._news = True
        self._trailers = framing.decode_headers(self._headers)
        _check_values(self._trailers)
        self._body_parts = len(self._parts)


def _one_framing(headers: Headers) -> Headers:
    """Return headers without a length that another framing overrides."""
    is_coded = header(headers, "transfer-encoding") is not None
    if not is_coded or header(headers, "content-length") is None:
        return headers
    if not framing.is_chunked(headers):
        # To some readers it would end with the connection, and to others before.
        raise _Malformed("it has a Content-Length and a Transfer-Encoding not chunked")
    return tuple(h for h in headers if h[0].lower() != "content-length")


def _check(head: ResponseHead) -> None:
    """Refuse the malformed responses that llhttp lets pass."""
    if head.http_version not in {"1.0", "1.1"}:
        raise _Malformed(f"it speaks HTTP/{head.http_version}")
    if not 100 <= head.status <= 999:  # noqa: PLR2004 - status codes
        raise _Malformed(f"its status is {head.status}")
    if head.status == 101:  # noqa: PLR2004 - status codes
        raise _Malformed("it switches protocols, which nobody asked for")
    _check_values((("", head.reason), *head.headers))


def _check_values(headers: Headers) -> None:
    if any("\0" in value for _, value in headers):
        raise _Malformed("a header holds a NUL")


def _explain(error: BaseException) -> str:
    if isinstance(error, httptools.HttpParserCallbackError) and error.__context__:
        error = error.__context__
    return f"the upstream's answer is not HTTP/1.1: {error}"
