"""How a handler answers one request.

A `ResponseStream` frames what it is given as the head that was sent says.  `send_data`
is one `transport.write`: nothing is buffered, no coroutine, task, future or timer
belongs to a write.  A response is over by `end()`, by `abort()` or because the client
left, and whichever comes first is told to the connection, which goes on with the next
request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from sse_recorder.exchange import Headers, RequestHead, ResponseHead, header
from sse_recorder.http1 import framing


class Owner(Protocol):
    """The connection that a response goes out on."""

    def response_finished(self, stream: ResponseStream) -> None:
        """The response is over in order; go on with the next request, or close."""

    def response_reset(self) -> None:
        """The response is over by a reset."""

    def pause_request(self, stream: ResponseStream) -> None:
        """Stop reading the request."""

    def resume_request(self) -> None:
        """Read the request again."""


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
        connection: Owner,
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

    def abort(self, *, reset: bool | None) -> None:
        """Break the response off: by a TCP reset, or by ending it without its end.

        What was written is sent first.

        Args:
            reset: whether by a reset.  A body that would then look whole is broken by
                one all the same, unless this is None.
        """
        if self.finished:
            return
        self.keep_alive = False
        self.finished = True
        self._write = None
        if reset or (reset is False and self.is_open_ended):
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
