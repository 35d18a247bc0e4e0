"""Both ends of a connection for tests: handlers that note, sockets of bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.exchange import Headers, RequestHead, ResponseHead
from sse_recorder.http1.client import Failure
from sse_recorder.http1.limits import Limits
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.server import Server

Run = Callable[[Coroutine[object, object, None]], None]

GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED_POST = (
    b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 11 \r\nX-Two: b\r\n\r\n"
)
STREAM_HEAD = ResponseHead(
    200,
    "OK",
    (("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")),
)


class Log:
    """What happened, and a way to wait until it has."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._changed = asyncio.Event()

    def add(self, name: str) -> None:
        """Note that something happened."""
        self.names.append(name)
        self._changed.set()

    async def until(self, name: str, times: int = 1) -> None:
        """Wait until it has happened so often."""
        async with asyncio.timeout(10):
            while self.names.count(name) < times:
                self._changed.clear()
                await self._changed.wait()


class Received:
    """A `StreamHandler` that keeps what it is told."""

    def __init__(
        self, app: App, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> None:
        self.app = app
        self.log = app.log
        self.head = head
        self.stream = stream
        self.at_ns = at_ns
        self.reads: list[bytes] = []
        self.times: list[int] = []
        self.trailers: Headers = ()
        self.error: BaseException | None = None

    @property
    def body(self) -> bytes:
        """The request's body so far."""
        return b"".join(self.reads)

    def request_data(self, data: bytes, at_ns: int) -> None:
        """Keep it."""
        self.reads.append(data)
        self.times.append(at_ns)
        self.app.on_data(self)
        self.log.add("data")

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        """Keep the trailers and answer."""
        self.times.append(at_ns)
        self.trailers = trailers
        self.log.add("end")
        self.app.on_end(self)

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        """Keep the reason."""
        self.times.append(at_ns)
        self.error = error
        self.log.add("gone")

    def pause_response(self) -> None:
        """Note it."""
        self.log.add("pause")

    def resume_response(self) -> None:
        """Note it."""
        self.log.add("resume")


def answer_nothing(_: Received) -> None:
    """Leave the response to the test."""


def answer_echo(received: Received) -> None:
    """Answer with the request's target and body."""
    body = received.head.target.encode() + b" " + received.body
    length = ("Content-Length", str(len(body)))
    received.stream.send_head(ResponseHead(200, "OK", (length,)))
    received.stream.send_data(body)
    received.stream.end()


def ok(body: bytes) -> bytes:
    """Return the response of `answer_echo`."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class App:
    """A `ConnectionHandler` for every connection, and what answers requests."""

    def __init__(
        self,
        on_end: Callable[[Received], None] = answer_echo,
        *,
        on_head: Callable[[Received], None] = answer_nothing,
        on_data: Callable[[Received], None] = answer_nothing,
    ) -> None:
        self.on_end = on_end
        self.on_head = on_head
        self.on_data = on_data
        self.log = Log()
        self.received: list[Received] = []

    def __call__(self) -> App:
        """Serve another connection."""
        return self

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> Received:
        """Keep the request."""
        received = Received(self, head, stream, at_ns)
        self.received.append(received)
        self.log.add("head")
        self.on_head(received)
        return received

    def connection_closed(self) -> None:
        """Note it."""
        self.log.add("closed")


@asynccontextmanager
async def serving(
    app: App,
    *,
    clock: Clock = SYSTEM,
    limits: Limits | None = None,
) -> AsyncIterator[Server]:
    """Run a server on a free port."""
    server = Server(app, clock=clock, limits=limits)
    await server.listen("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.close(grace_s=0)
    assert server.open_streams == 0


class Peer:
    """A socket that speaks bytes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        """Send some bytes."""
        self.writer.write(data)

    async def expect(self, data: bytes) -> None:
        """Read exactly these bytes."""
        async with asyncio.timeout(10):
            try:
                got = await self.reader.readexactly(len(data))
            except asyncio.IncompleteReadError as error:
                got = error.partial
        assert got == data

    async def expect_end(self, data: bytes = b"") -> None:
        """Read these bytes and then the end of the connection."""
        async with asyncio.timeout(10):
            assert await self.reader.read() == data

    async def read_until(self, mark: bytes) -> bytes:
        """Read up to and including a mark."""
        async with asyncio.timeout(10):
            return await self.reader.readuntil(mark)

    async def read_all(self) -> bytes:
        """Read to the end of the connection."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def close(self) -> None:
        """Close in order."""
        self.writer.close()
        await self.writer.wait_closed()


@asynccontextmanager
async def peer_of(server: Server) -> AsyncIterator[Peer]:
    """Connect to a server."""
    reader, writer = await asyncio.open_connection(*server.address)
    peer = Peer(reader, writer)
    try:
        yield peer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def upstream(
    script: Callable[[Peer], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
    limit: int = 2**16,
) -> AsyncIterator[int]:
    """Listen on a free port and run a script with each connection; yield the port."""
    failures: list[BaseException] = []

    async def accepted(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await script(Peer(reader, writer))
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls, limit=limit)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
    assert failures == []


class Response:
    """A `ResponseHandler` that keeps what it is told."""

    def __init__(self) -> None:
        self.log = Log()
        self.informationals: list[ResponseHead] = []
        self.head: ResponseHead | None = None
        self.reads: list[bytes] = []
        self.times: list[int] = []
        self.trailers: Headers = ()
        self.failure: Failure | None = None
        self.on_data: Callable[[bytes], None] = lambda _: None

    @property
    def body(self) -> bytes:
        """The response's body so far."""
        return b"".join(self.reads)

    def informational(self, head: ResponseHead, at_ns: int) -> None:
        """Keep it."""
        self.informationals.append(head)
        self.times.append(at_ns)
        self.log.add("informational")

    def response_head(self, head: ResponseHead, at_ns: int) -> None:
        """Keep it."""
        self.head = head
        self.times.append(at_ns)
        self.log.add("head")

    def response_data(self, data: bytes, at_ns: int) -> None:
        """Keep it."""
        self.reads.append(data)
        self.times.append(at_ns)
        self.log.add("data")
        self.on_data(data)

    def response_end(self, at_ns: int, trailers: Headers) -> None:
        """Keep the trailers."""
        self.times.append(at_ns)
        self.trailers = trailers
        self.log.add("end")
        self.log.add("over")

    def response_failed(self, failure: Failure, at_ns: int) -> None:
        """Keep the failure."""
        self.times.append(at_ns)
        self.failure = failure
        self.log.add("failed")
        self.log.add("over")

    def pause_request(self) -> None:
        """Note it."""
        self.log.add("pause")

    def resume_request(self) -> None:
        """Note it."""
        self.log.add("resume")


class MemoryTransport(asyncio.Transport):
    """A transport that keeps what is written: for cutting input at every byte."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closing = False
        self.ended = False
        self.reading = True

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        """Have none."""

    def get_write_buffer_size(self) -> int:
        """Return 0: everything was taken."""
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += data

    def write_eof(self) -> None:
        """Note it."""
        self.ended = True

    def is_closing(self) -> bool:
        """Tell whether it was closed."""
        return self.closing

    def close(self) -> None:
        """Note it."""
        self.closing = True

    def abort(self) -> None:
        """Note it."""
        self.closing = True

    def pause_reading(self) -> None:
        """Note it."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note it."""
        self.reading = True


def cuts(data: bytes) -> list[list[bytes]]:
    """Return the data whole, byte by byte, and cut in two at every place."""
    return [
        [data],
        [data[i : i + 1] for i in range(len(data))],
        *[[data[:i], data[i:]] for i in range(1, len(data))],
    ]
