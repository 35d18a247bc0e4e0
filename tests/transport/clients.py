"""A server that misbehaves as it is told, and clients in four ways with one face.

A `Client` is one of a library, with or without `await`; without it blocks the event
loop, which nothing else needs.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import httpx
import httpx2

from sse_recorder import (
    Chunk,
    Exchange,
    Store,
)
from sse_recorder.clock import MONOTONIC_NS

MS: Final = 1_000_000
RESET: Final = "reset"
KEEP: Final = "keep"
"""What a server leaves open for the next request."""
HELD: Final = threading.Event()
"""What a server waits for that is to send nothing more; never set."""
Piece = bytes | float | str | threading.Event

FRAMES: Final = [b"data: one\n\n", b"data: t", b"wo\n\n", b": ping\n\n", b"data: 3\n\n"]
STREAM: Final = (
    b"HTTP/1.1 200 Fine\r\nContent-Type: text/event-stream\r\nX-a: 1\r\nx-A: 2\r\n"
    b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)
END: Final = b"0\r\n\r\n"


def framed(*chunks: bytes) -> list[Piece]:
    """Return each chunk as HTTP frames it."""
    return [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]


def paced(*chunks: bytes, gap_s: float = 0.03) -> list[Piece]:
    """Return chunks with time between them."""
    return [piece for one in framed(*chunks) for piece in (gap_s, one)]


def sized(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return an answer that tells its length."""
    length = b"Content-Length: %d" % len(body)
    lines = [b"HTTP/1.1 " + status, b"Connection: close", *headers, length, b"", body]
    return b"\r\n".join(lines)


ZIPPED: Final = gzip.compress(b"".join(FRAMES))
SCRIPTS: Final[dict[str, list[Piece]]] = {
    "/chat": [STREAM, *paced(*FRAMES), 0.03, END],
    "/fast": [STREAM, *framed(*FRAMES), END],
    "/eof": [STREAM, *paced(*FRAMES[:2])],
    "/reset": [STREAM, *paced(*FRAMES[:2]), 0.05, RESET],
    "/stall": [STREAM, *paced(*FRAMES[:2]), HELD],
    "/mute": [HELD],
    "/hang-up": [],
    "/plain": [sized(b"plain")],
    "/kept": [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept", KEEP],
    "/empty": [b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"],
    "/head": [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n"],
    "/moved": [sized(b"", b"Location: /plain", status=b"307 Temporary Redirect")],
    "/gzip": [
        STREAM.replace(b"X-a: 1", b"Content-Encoding: gzip"),
        *paced(ZIPPED[:20], ZIPPED[20:]),
        END,
    ],
}


class Upstream(ThreadingHTTPServer):
    """Answers as `SCRIPTS` says, and notes what it was sent."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[list[tuple[str, str]], bytes]] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients leave in the middle of what they are tested with."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        body = self._body()
        self.server.requests.append((list(self.headers.items()), body))
        self.close_connection = True
        for piece in SCRIPTS[self.path.partition("?")[0]]:
            match piece:
                case bytes():
                    self.wfile.write(piece)
                case float():
                    time.sleep(piece)
                case "keep":
                    self.close_connection = False
                case threading.Event():
                    self.connection.recv(1)  # until the client has left
                case _:
                    linger = struct.pack("ii", 1, 0)
                    sock = self.connection
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    sock.close()

    do_POST = do_HEAD = do_GET  # noqa: N815 - as the base class has it

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] is None:
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        pass


class Way(NamedTuple):
    """A library, with or without `await`."""

    library: Any
    is_async: bool


WAYS: Final = [
    Way(library, is_async) for library in (httpx, httpx2) for is_async in (False, True)
]


def done(main: Coroutine[Any, Any, None]) -> None:
    """Run a test."""

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await main

    asyncio.run(bounded())


class Client:
    """A client in one of the ways, with `await` for all of them."""

    def __init__(self, way: Way, transport: Any, **options: Any) -> None:
        self.way = way
        make = way.library.AsyncClient if way.is_async else way.library.Client
        self.real = make(transport=transport, **({"timeout": 10} | options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.way.is_async:
            await self.real.aclose()
        else:
            self.real.close()

    async def request(self, method: str, url: str, **options: Any) -> Any:
        """Send a request and read the whole response."""
        response = self.real.request(method, url, **options)
        return await response if self.way.is_async else response

    async def open(self, method: str, url: str, **options: Any) -> Any:
        """Send a request, and read nothing but the head of the response."""
        request = self.real.build_request(method, url, **options)
        response = self.real.send(request, stream=True)
        return await response if self.way.is_async else response

    async def close(self, response: Any) -> None:
        """Close a response."""
        if self.way.is_async:
            await response.aclose()
        else:
            response.close()

    @asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncIterator[Any]:
        """Open a response while the block lasts."""
        response = await self.open(method, url, **options)
        try:
            yield response
        finally:
            await self.close(response)

    async def chunks(self, response: Any) -> AsyncIterator[bytes]:
        """Read a response as it comes."""
        if self.way.is_async:
            async for chunk in response.aiter_raw():
                yield chunk
        else:
            for chunk in response.iter_raw():
                yield chunk

    async def read(self, method: str, url: str, **options: Any) -> Read:
        """Read a whole response, and note when what came."""
        read = Read()
        async with self.stream(method, url, **options) as response:
            read.response = response
            read.head_ns = MONOTONIC_NS() - read.began_ns
            try:
                async for chunk in self.chunks(response):
                    read.chunks.append(Chunk(MONOTONIC_NS() - read.began_ns, chunk))
            except self.way.library.TransportError as error:
                read.error = error
        read.ended_ns = MONOTONIC_NS() - read.began_ns
        return read


class Read:
    """What a client got, and when."""

    def __init__(self) -> None:
        self.began_ns = MONOTONIC_NS()
        self.head_ns = self.ended_ns = 0
        self.response: Any = None
        self.chunks: list[Chunk] = []
        self.error: Exception | None = None

    @property
    def data(self) -> list[bytes]:
        """The chunks without their times."""
        return [chunk.data for chunk in self.chunks]


def recorded(root: Path) -> list[tuple[Exchange, list[Chunk]]]:
    """Return what a store has, all of it sealed."""
    assert not list((root / ".journal").glob("*.arrows"))
    with Store.open(root) as store:
        return [
            (exchange, list(store.chunks(exchange.exchange_id)))
            for exchange in store.exchanges()
        ]


def only(root: Path) -> tuple[Exchange, list[Chunk]]:
    """Return the one exchange that a store has."""
    (one,) = recorded(root)
    return one


def program(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, args)],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
