"""The side that connects to an upstream, against raw sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import certifi
import pytest
import trustme
from http1.wire import MemoryTransport, Peer, Response, Run, cuts, upstream

from sse_recorder.clock import FakeClock
from sse_recorder.errors import UpstreamError, UsageError
from sse_recorder.exchange import Headers, RequestHead, ResponseHead
from sse_recorder.http1.client import (
    Connection,
    Failure,
    Origin,
    connect,
    default_ssl_context,
)
from sse_recorder.http1.sockets import reset_connection

HOST = ("Host", "a")
GET = RequestHead("GET", "/x", (HOST,))
GET_BYTES = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\n9;x=y\r\ndata: 2\n\n\r\n0\r\nX-Sum: 18 \r\n\r\n"
)
EVENTS = b"data: 1\n\ndata: 2\n\n"


async def connected(port: int) -> Connection:
    """Connect to a port of this machine."""
    return await connect(Origin("http", "127.0.0.1", port), timeout_s=10)


async def exchange(
    connection: Connection, head: RequestHead = GET, body: bytes = b""
) -> Response:
    """Send a request and wait for the response or its failure."""
    response = Response()
    connection.send_request(head, response)
    connection.send_data(body)
    connection.end_request()
    await response.log.until("over")
    return response


def answering(*answers: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Return a script that answers a request without a body by each of the answers."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.read_until(b"\r\n\r\n")
            peer.send(answer)

    return script


def test_two_exchanges_on_one_connection(run: Run) -> None:
    """A connection is used again after a response that ended as it should."""

    async def script(peer: Peer) -> None:
        await peer.expect(b"POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
        await peer.expect(b"hi")
        peer.send(
            b"HTTP/1.1 201 Made it\r\nx-Y: \t1 \t\r\nContent-Length: 3\r\n\r\nabc"
        )
        await peer.expect(GET_BYTES)
        peer.send(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n")
        await peer.expect_end()

    async def main() -> None:
        async with upstream(script) as port:
            connection = await connected(port)
            assert connection.reusable
            headers = (HOST, ("Content-Length", "2"))
            post = RequestHead("POST", "/a?b", headers)
            first = await exchange(connection, post, b"hi")
            assert first.head == ResponseHead(
                201, "Made it", (("x-Y", "1"), ("Content-Length", "3")), "1.1"
            )
            assert first.reads == [b"abc"]
            assert first.log.names == ["head", "data", "end", "over"]
            assert connection.reusable
            second = await exchange(connection)
            assert second.head == ResponseHead(200, "", (("Content-Length", "0"),))
            assert second.reads == []
            connection.close()
            assert not connection.is_open

    run(main())


RESPONSES: dict[str, tuple[bytes, bytes, Headers]] = {
    "chunked": (CHUNKED, EVENTS, (("X-Sum", "18"),)),
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n" + EVENTS, EVENTS, ()),
    "informational": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + CHUNKED,
        EVENTS,
        (("X-Sum", "18"),),
    ),
    "offer of an upgrade": (
        b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 18\r\n\r\n" + EVENTS,
        EVENTS,
        (),
    ),
}


ODD_RESPONSES: dict[str, bytes] = {
    "padded sizes": CHUNKED.replace(b"9\r\n", b"9  \r\n").replace(b"\n0\r", b"\n0 \r"),
    "two framings": CHUNKED.replace(b"\r\n", b"\r\nContent-Length: 3\r\n", 1),
    "two framings, the other way": CHUNKED.replace(
        b"chunked\r\n", b"chunked\r\ncontent-length: 3\r\n", 1
    ),
    "length twice": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\nA: b\r\ncontent-length:18 \r\n\r\n"
        + EVENTS
    ),
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 18\nA: b\n\n" + EVENTS,
    "folded lines": (
        b"HTTP/1.1 200 OK\r\nA: b\r\n\t c\r\nContent-Length:\r\n 18\r\n\r\n" + EVENTS
    ),
    "after an informational one": (
        b"HTTP/1.1 103 X\r\nContent-Length: 18\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n" + EVENTS
    ),
}


@pytest.mark.parametrize("name", ODD_RESPONSES)
def test_what_can_be_read_in_one_way_is_taken(name: str) -> None:
    """Wherever reads cut it; and it says once how its body is framed."""

    async def main() -> None:
        for reads in cuts(ODD_RESPONSES[name]):
            connection = Connection()
            connection.connection_made(MemoryTransport())
            response = Response()
            connection.send_request(GET, response)
            for data in reads:
                connection.data_received(data)
            assert response.log.names[-1] == "over"
            assert response.failure is None, reads
            assert response.body == EVENTS
            assert response.head is not None
            names = [key.lower() for key, _ in response.head.headers]
            framings = {"content-length", "transfer-encoding"}
            assert len([key for key in names if key in framings]) == 1
            assert all("\n" not in value for _, value in response.head.headers)

    asyncio.run(main())


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_may_be_cut_anywhere(name: str) -> None:
    """Wherever reads cut a response, its heads, body and trailers are the same."""
    answer, body, trailers = RESPONSES[name]

    async def main() -> None:
        for reads in cuts(answer):
            connection = Connection()
            connection.connection_made(MemoryTransport())
            for _ in range(2):
                response = Response()
                connection.send_request(GET, response)
                for data in reads:
                    connection.data_received(data)
                assert response.body == body
                assert response.trailers == trailers
                assert response.head is not None
                assert response.head.status == 200
                assert connection.reusable
                if name == "informational":
                    assert response.informationals == [
                        ResponseHead(100, "Continue"),
                        ResponseHead(103, "Early Hints", (("Link", "x"),)),
                    ]
                assert response.log.names[-1] == "over"
            connection.connection_lost(None)

    asyncio.run(main())


def test_one_read_is_one_call_with_its_time() -> None:
    """Chunks in one read arrive joined, and the clock is read before them."""

    async def main() -> None:
        time = FakeClock(now_ns=5)
        connection = Connection(time.clock())
        connection.connection_made(MemoryTransport())
        response = Response()
        connection.send_request(GET, response)
        cut = CHUNKED.index(b"ta: 2")
        connection.data_received(CHUNKED[:cut])
        time.advance(7)
        connection.data_received(CHUNKED[cut:])
        assert response.reads == [b"data: 1\n\nda", b"ta: 2\n\n"]
        assert response.times == [5, 5, 12, 12]

    asyncio.run(main())


def test_a_chunked_request(run: Run) -> None:
    """Each piece of data is one chunk, empty data is none, and trailers end it."""

    async def script(peer: Peer) -> None:
        await peer.expect(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhi\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n"
        )
        peer.send(CHUNKED)
        await done.wait()

    done = asyncio.Event()

    async def main() -> None:
        async with upstream(script) as port:
            connection = await connected(port)
            response = Response()
            head = RequestHead("POST", "/", (HOST, ("Transfer-Encoding", "chunked")))
            connection.send_request(head, response)
            assert connection.request_open
            for data in (b"hi", b"", b"!"):
                connection.send_data(data)
            connection.end_request((("X", "y"),))
            connection.end_request()
            connection.send_data(b"too late")
            await response.log.until("end")
            assert connection.reusable
            done.set()

    run(main())


def test_a_request_keeps_to_its_length(run: Run) -> None:
    """What exceeds Content-Length is not sent; what falls short ends the connection."""
    post = RequestHead("POST", "/x", (HOST, ("Content-Length", "3")))
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.expect(head + b"abc")
        peer.send(b"HTTP/1.1 204 \r\n\r\n")
        await peer.expect(head + b"ab")
        arrived.set()
        await peer.expect_end()

    arrived = asyncio.Event()

    async def main() -> None:
        async with upstream(script) as port:
            connection = await connected(port)
            await exchange(connection, post, b"abcdef")
            response = Response()
            connection.send_request(post, response)
            connection.send_data(b"ab")
            await arrived.wait()  # the abort would drop it
            connection.end_request()
            await response.log.until("failed")
            assert not connection.is_open

    run(main())


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_responses_without_a_body(run: Run, method: str, answer: bytes) -> None:
    """HEAD, 204 and 304 end with their head, and the connection is used again."""

    async def main() -> None:
        async with upstream(answering(answer, CHUNKED)) as port:
            connection = await connected(port)
            head = RequestHead(method, "/", (HOST,))
            response = await exchange(connection, head)
            assert response.log.names == ["head", "end", "over"]
            assert connection.reusable
            assert (await exchange(connection)).body == EVENTS

    run(main())


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_a_response_without_framing_ends_with_its_connection(
    run: Run, head: bytes
) -> None:
    """Neither a length nor chunks: the end of the connection is the end of the body."""

    async def main() -> None:
        async with upstream(answering(head + EVENTS)) as port:
            connection = await connected(port)
            response = await exchange(connection)
            assert response.body == EVENTS
            assert response.failure is None
            assert not connection.reusable

    run(main())


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n",
        (
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ),
    ],
)
def test_a_connection_that_is_not_kept_alive_is_closed(run: Run, head: bytes) -> None:
    """`Connection: close`, HTTP/1.0 and faulty framing end the connection."""

    async def script(peer: Peer) -> None:
        await peer.expect(GET_BYTES)
        peer.send(head if b"chunked" in head else head + b"abc")
        await peer.expect_end()

    async def main() -> None:
        closed: list[Connection] = []
        over = asyncio.Event()

        def on_closed(connection: Connection) -> None:
            closed.append(connection)
            over.set()

        async with upstream(script) as port:
            connection = await connected(port)
            connection.on_closed = on_closed
            response = await exchange(connection)
            assert response.body == b"abc"
            assert not connection.reusable
            assert not connection.is_open
            await over.wait()
        assert closed == [connection]

    run(main())


def test_http_1_0_may_keep_alive(run: Run) -> None:
    """A 1.0 upstream that says keep-alive is used again."""
    keep = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\nabc"

    async def main() -> None:
        async with upstream(answering(keep, keep)) as port:
            connection = await connected(port)
            for _ in range(2):
                assert (await exchange(connection)).body == b"abc"

    run(main())


def test_a_request_that_says_close_is_the_last(run: Run) -> None:
    """Our own `Connection: close` ends the connection after its response."""

    async def main() -> None:
        async with upstream(answering(CHUNKED)) as port:
            connection = await connected(port)
            head = RequestHead("GET", "/", (HOST, ("Connection", "close")))
            assert (await exchange(connection, head)).body == EVENTS
            assert not connection.reusable

    run(main())


@pytest.mark.parametrize("late", [False, True])
def test_bytes_after_a_response_end_the_connection(run: Run, *, late: bool) -> None:
    """What nobody asked for would be taken for the next response."""

    async def script(peer: Peer) -> None:
        await peer.expect(GET_BYTES)
        if late:
            peer.send(CHUNKED)
            await ended.wait()
            peer.send(CHUNKED)
        else:
            peer.send(CHUNKED * 2)
        await peer.read_until(b"never") if late else await peer.expect_end()

    ended = asyncio.Event()

    async def main() -> None:
        async def tolerant(peer: Peer) -> None:
            try:
                await script(peer)
            except (asyncio.IncompleteReadError, ConnectionResetError):
                gone.set()
            gone.set()

        gone = asyncio.Event()
        async with upstream(tolerant) as port:
            connection = await connected(port)
            response = await exchange(connection)
            assert response.log.names == ["head", "data", "end", "over"]
            assert response.body == EVENTS
            ended.set()
            await gone.wait()
            assert not connection.reusable

    run(main())


def test_bytes_after_a_response_without_body_end_the_connection(run: Run) -> None:
    """A body sent in answer to HEAD is dropped with its connection."""

    async def main() -> None:
        async with upstream(answering(CHUNKED)) as port:
            connection = await connected(port)
            response = await exchange(connection, RequestHead("HEAD", "/", (HOST,)))
            assert response.log.names == ["head", "end", "over"]
            assert not connection.reusable

    run(main())


def test_a_response_may_come_before_its_request_was_sent(run: Run) -> None:
    """An early response is handed on; the connection waits for the request's end."""

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED)
        await peer.expect(b"2\r\nhi\r\n0\r\n\r\n" + GET_BYTES)
        peer.send(CHUNKED)

    async def main() -> None:
        async with upstream(script) as port:
            connection = await connected(port)
            response = Response()
            head = RequestHead("POST", "/", (HOST, ("Transfer-Encoding", "chunked")))
            connection.send_request(head, response)
            await response.log.until("end")
            assert connection.is_open
            assert not connection.reusable
            connection.send_data(b"hi")
            connection.end_request()
            assert connection.reusable
            assert (await exchange(connection)).body == EVENTS

    run(main())


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "names", "message"),
    [
        (b"", ["failed"], "closed the connection before its response head"),
        (b"HTTP/1.1 2", ["failed"], "closed the connection before its response head"),
        (HEAD + b"ab", ["head", "data", "failed"], "closed the connection before the"),
        (CHUNKED[:-2], ["head", "data", "failed"], "closed the connection before the"),
    ],
)
def test_an_upstream_that_ends_early(
    run: Run, answer: bytes, names: list[str], message: str
) -> None:
    """A connection that ends before the response does is a failure of kind eof."""

    async def main() -> None:
        async with upstream(answering(answer)) as port:
            connection = await connected(port)
            response = await exchange(connection)
            assert response.log.names == [*names, "over"]
            assert response.failure is not None
            assert response.failure.kind == "eof"
            assert message in response.failure.message
            assert not connection.reusable

    run(main())


@pytest.mark.parametrize("answer", [b"", HEAD + b"ab", b"HTTP/1.1 200 OK\r\n\r\nab"])
def test_an_upstream_that_resets(run: Run, answer: bytes) -> None:
    """A reset is a failure of kind reset, even where a plain end would be an end."""

    async def script(peer: Peer) -> None:
        await peer.expect(GET_BYTES)
        peer.send(answer)
        if answer:
            await arrived.wait()
        reset_connection(cast("asyncio.Transport", peer.writer.transport))

    arrived = asyncio.Event()

    async def main() -> None:
        async with upstream(script) as port:
            connection = await connected(port)
            response = Response()
            response.on_data = lambda _: arrived.set()
            connection.send_request(GET, response)
            await response.log.until("over")
            assert response.failure is not None
            assert response.failure.kind == "reset"
            assert "reset the connection" in response.failure.message

    run(main())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "Expected HTTP/"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "Expected HTTP/"),
        (b"HTTP/2 200 OK\r\n\r\n", "Expected dot"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "speaks HTTP/2.0"),
        (b"HTTP/1.1 099 No\r\n\r\n", "status is 99"),
        (b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "asked"),
        (b"HTTP/1.1 101 Switch\r\n\r\n\x81\x00", "switches protocols"),
        (HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n"), "Content-Length"),
        (HEAD.replace(b"\r\n\r\n", b"\r\n 6\r\n\r\n"), "Content-Length"),
        (
            HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: identity\r\n\r\n"),
            "a Transfer-Encoding not chunked",
        ),
        (b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", "holds a NUL"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000, "headers exceed"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 600_000, "too many bytes"),
    ],
)
def test_an_upstream_that_does_not_speak_http(
    run: Run, answer: bytes, message: str
) -> None:
    """Anything but HTTP/1.1 before the head is a failure of kind protocol."""

    async def main() -> None:
        async with upstream(answering(answer)) as port:
            connection = await connected(port)
            response = await exchange(connection)
            assert response.log.names == ["failed", "over"]
            assert response.failure is not None
            assert response.failure.kind == "protocol"
            assert message in response.failure.message
            assert not connection.is_open

    run(main())


def test_a_malformed_body_follows_what_was_well_formed(run: Run) -> None:
    """The bytes before a malformed chunk are handed on before the failure."""

    async def main() -> None:
        answer = CHUNKED[: CHUNKED.index(b"9;x")] + b"zz\r\n"
        async with upstream(answering(answer)) as port:
            response = await exchange(await connected(port))
            assert response.log.names == ["head", "data", "failed", "over"]
            assert response.body == b"data: 1\n\n"
            assert response.failure is not None
            assert response.failure.kind == "protocol"

    run(main())


def test_a_malformed_trailer_ends_what_was_well_formed(run: Run) -> None:
    """The body before it is handed on, and is not taken for a whole one."""

    async def main() -> None:
        answer = CHUNKED.replace(b"18 ", b"1\0 ")
        async with upstream(answering(answer)) as port:
            response = await exchange(await connected(port))
            assert response.log.names == ["head", "data", "failed", "over"]
            assert response.body == EVENTS
            assert response.failure is not None
            assert response.failure.kind == "protocol"

    run(main())


def test_the_network_may_give_up() -> None:
    """A connection that the system times out is a failure of kind timeout."""

    async def main() -> None:
        for error, kind in (
            (TimeoutError(110, "timed out"), "timeout"),
            (ssl.SSLError(1, "bad record"), "protocol"),
            (OSError(113, "no route"), "reset"),
        ):
            connection = Connection()
            connection.connection_made(MemoryTransport())
            response = Response()
            connection.send_request(GET, response)
            connection.connection_lost(error)
            assert response.failure is not None
            assert response.failure.kind == kind
            assert connection.buffered == 0

    asyncio.run(main())


def test_a_request_on_a_lost_connection_fails(run: Run) -> None:
    """Who sends on a connection that was lost hears of it, after `send_request`."""

    async def script(peer: Peer) -> None:
        await peer.expect(GET_BYTES)
        peer.send(CHUNKED)

    async def main() -> None:
        async with upstream(script) as port:
            connection = await connected(port)
            lost = asyncio.Event()
            connection.on_closed = lambda _: lost.set()
            await exchange(connection)
            await lost.wait()
            assert not connection.reusable
            response = Response()
            headers = (HOST, ("Content-Length", "2"))
            connection.send_request(RequestHead("POST", "/", headers), response)
            connection.send_data(b"hi")
            connection.end_request()
            connection.pause_response()
            assert response.log.names == []
            await response.log.until("failed")
            assert response.failure is not None
            assert response.failure.kind == "eof"
            connection.close()
            connection.abort()

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_nothing_is_called_after_the_owner_closed(run: Run, how: str) -> None:
    """After `close()` or `abort()`, even in a callback, the handler is left alone."""

    async def script(peer: Peer) -> None:
        await peer.expect(GET_BYTES)
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + CHUNKED)
        await gone.wait()

    gone = asyncio.Event()

    async def main() -> None:
        async with upstream(script) as port:
            connection = await connected(port)
            connection.on_closed = lambda _: gone.set()
            response = Response()

            def leave(*_: object) -> None:
                response.log.add("left")
                getattr(connection, how)()

            response.informational = leave  # type: ignore[assignment, method-assign]
            connection.send_request(GET, response)
            await gone.wait()
            assert response.log.names == ["left"]
            assert not connection.is_open

    run(main())


def test_a_slow_handler_pauses_the_response(run: Run) -> None:
    """A paused connection is not read; what comes meanwhile waits in the sockets."""
    size = 20_000_000
    stalled = asyncio.Event()
    resumed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.expect(GET_BYTES)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        peer.send(b"x" * size)
        await resumed.wait()
        await peer.writer.drain()
        await peer.expect_end()

    async def main() -> None:
        async with (
            upstream(script) as port,
            upstream(answering(*[CHUNKED] * 20)) as other,
        ):
            connection = await connected(port)
            response = Response()

            def pause(_: bytes) -> None:
                if not stalled.is_set():
                    stalled.set()
                    connection.pause_response()

            response.on_data = pause
            connection.send_request(GET, response)
            await stalled.wait()
            second = await connected(other)
            for _ in range(20):  # many turns of the loop
                assert (await exchange(second)).body == EVENTS
            assert len(response.reads) == 1
            resumed.set()
            connection.resume_response()
            await response.log.until("end")
            assert len(response.body) == size
            connection.close()
            second.close()

    run(main())


def test_a_slow_upstream_pauses_the_request(run: Run) -> None:
    """The handler is paused while the upstream does not read, resumed when it does."""
    piece = b"x" * 65_536
    read_on = asyncio.Event()
    total: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        cast("asyncio.Transport", peer.writer.transport).pause_reading()
        await read_on.wait()
        cast("asyncio.Transport", peer.writer.transport).resume_reading()
        body = await peer.read_until(b"0\r\n\r\n")
        total.append(body.count(b"x"))
        peer.send(CHUNKED)

    async def main() -> None:
        async with upstream(script, limit=2**27) as port:
            connection = await connected(port)
            response = Response()
            head = RequestHead("POST", "/", (HOST, ("Transfer-Encoding", "chunked")))
            connection.send_request(head, response)
            sent = 0
            while "pause" not in response.log.names:
                connection.send_data(piece)
                sent += len(piece)
                await asyncio.sleep(0)
            assert 0 < connection.buffered <= 3 * len(piece)
            read_on.set()
            await response.log.until("resume")
            connection.end_request()
            await response.log.until("end")
            assert total == [sent]

    run(main())


def test_a_request_on_a_full_connection_begins_paused() -> None:
    """The write buffer is the connection's: the next request hears that it is full."""

    async def main() -> None:
        connection = Connection()
        connection.connection_made(MemoryTransport())
        connection.pause_writing()
        response = Response()
        connection.send_request(GET, response)
        connection.resume_writing()
        assert response.log.names == ["pause", "resume"]
        connection.data_received(CHUNKED)
        connection.pause_writing()
        connection.resume_writing()
        assert response.log.names[2:] == ["head", "data", "end", "over"]

    asyncio.run(main())


@pytest.mark.parametrize(
    "where", ["response_head", "response_data", "response_end", "response_failed"]
)
@pytest.mark.parametrize("framed", [True, False])
def test_a_handler_that_raises(
    run: Run, where: str, caplog: pytest.LogCaptureFixture, *, framed: bool
) -> None:
    """Its exchange fails with kind internal, it is logged, and the loop goes on."""

    async def script(peer: Peer) -> None:
        await peer.expect(GET_BYTES)
        if where == "response_failed":
            peer.send(b"nonsense\r\n" if framed else b"")
        elif framed:
            peer.send(CHUNKED[: CHUNKED.index(b"9;")])
            if where == "response_end":
                peer.send(b"0\r\n\r\n")
        else:
            peer.send(b"HTTP/1.1 200 OK\r\n\r\nabc")

    async def main() -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("boom")

        async with upstream(script) as port:
            connection = await connected(port)
            closed = asyncio.Event()
            connection.on_closed = lambda _: closed.set()
            response = Response()
            setattr(response, where, fail)
            connection.send_request(GET, response)
            await closed.wait()
            if where in {"response_head", "response_data"}:
                assert response.failure == Failure(
                    "internal", "the handler failed: RuntimeError('boom')"
                )
            else:
                assert response.failure is None

    with caplog.at_level(logging.ERROR, "sse_recorder.http1"):
        run(main())
    assert "boom" in caplog.text


def test_a_handler_that_raises_when_told_that_it_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler that fails at everything is logged twice and harms nobody."""

    async def main() -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("boom")

        connection = Connection()
        connection.connection_made(MemoryTransport())
        response = Response()
        response.on_data = fail
        response.response_failed = fail  # type: ignore[assignment, method-assign]
        connection.send_request(GET, response)
        connection.data_received(HEAD)
        connection.data_received(b"a")
        assert not connection.is_open

    asyncio.run(main())
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://a", Origin("http", "a", 80)),
        ("HTTPS://A.b/v1?x#y", Origin("https", "a.b", 443)),
        ("http://127.0.0.1:8080/", Origin("http", "127.0.0.1", 8080)),
        ("https://[::1]:8443", Origin("https", "::1", 8443)),
    ],
)
def test_the_origin_of_a_url(url: str, origin: Origin) -> None:
    """Scheme, host and port of a URL say where to connect."""
    assert Origin.from_url(url) == origin


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not an http or https URL"),
        ("api.example.com", "not an http or https URL"),
        ("ftp://a", "not an http or https URL"),
        ("http://", "names no host"),
        ("http:///x", "names no host"),
        ("http://a b", "names no host"),
        ("http://a:x", "not a URL"),
        ("http://a:70000", "not a URL"),
        ("http://a:0", "port 0"),
        ("http://[::1", "not a URL"),
        ("http://me:secret@a", "Authorization header"),
    ],
)
def test_urls_without_an_origin(url: str, message: str) -> None:
    """What cannot be connected to is refused with an example, and without a secret."""
    with pytest.raises(UsageError, match=message) as caught:
        Origin.from_url(url)
    assert "secret" not in str(caught.value)


def test_the_authority_leaves_out_the_port_of_the_scheme() -> None:
    """A `Host` header holds the port only where it is not the scheme's."""
    assert Origin("http", "a", 80).authority == "a"
    assert Origin("https", "a", 80).authority == "a:80"
    assert str(Origin("https", "::1", 8443)) == "https://[::1]:8443"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nobody else knows."""
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Return the context of an upstream with a certificate for these names."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    """Return the context of a client that knows the authority by its file."""
    file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return default_ssl_context(str(file))


def test_tls(run: Run, authority: trustme.CA, tmp_path: Path) -> None:
    """An exchange over TLS: the same bytes, HTTP/1.1 by ALPN, and flow control."""
    size = 3_000_000

    async def script(peer: Peer) -> None:
        tls = peer.writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "http/1.1"
        for _ in range(2):
            await peer.expect(GET_BYTES)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            peer.send(b"x" * size)
        await peer.expect_end()

    async def main() -> None:
        context = server_context(authority, "localhost")
        async with upstream(script, tls=context) as port:
            origin = Origin("https", "localhost", port, trusting(authority, tmp_path))
            connection = await connect(origin, timeout_s=10)
            response = Response()

            def pause(_: bytes) -> None:
                connection.pause_response()
                asyncio.get_running_loop().call_soon(connection.resume_response)

            response.on_data = pause
            connection.send_request(GET, response)
            await response.log.until("over")
            assert len(response.body) == size
            assert len((await exchange(connection)).body) == size
            connection.close()

    run(main())


def test_certificates_are_checked(
    run: Run, authority: trustme.CA, tmp_path: Path
) -> None:
    """An unknown authority or a wrong name is an error that says so."""

    async def script(peer: Peer) -> None:
        await peer.read_all()

    async def main() -> None:
        context = server_context(authority, "other.example")
        async with upstream(script, tls=context) as port:
            with pytest.raises(UpstreamError, match=r"certificate is not accepted: .*"):
                await connect(Origin("https", "127.0.0.1", port), timeout_s=10)
            trusted = Origin("https", "localhost", port, trusting(authority, tmp_path))
            with pytest.raises(UpstreamError, match=r"localhost.*not valid|mismatch"):
                await connect(trusted, timeout_s=10)

    run(main())


def test_a_refused_handshake(run: Run) -> None:
    """What else goes wrong in a handshake is told in OpenSSL's words."""

    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.send(b"\x15\x03\x03\x00\x02\x02\x46")  # fatal alert: protocol version

    async def main() -> None:
        async with upstream(script) as port:
            with pytest.raises(UpstreamError, match=r"TLS failed: .*protocol version"):
                await connect(Origin("https", "127.0.0.1", port), timeout_s=10)

    run(main())


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_https_to_a_port_without_tls(run: Run, reply: bytes) -> None:
    """An upstream that does not speak TLS is told from one with a bad certificate."""

    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.send(reply)

    async def main() -> None:
        async with upstream(script) as port:
            with pytest.raises(UpstreamError, match="http:// URL"):
                await connect(Origin("https", "127.0.0.1", port), timeout_s=10)

    run(main())


def test_connecting_fails_with_a_remedy(run: Run) -> None:
    """The message names the upstream, says what is wrong and what to look at."""

    async def silent(peer: Peer) -> None:
        await peer.read_all()

    async def main() -> None:
        async with upstream(silent) as port:
            origin = Origin("https", "127.0.0.1", port)
            with pytest.raises(UpstreamError, match=r"no connection within 0.05 s\."):
                await connect(origin, timeout_s=0.05)
        for origin, message in (
            (
                Origin("http", "127.0.0.1", port),
                rf"^Cannot connect to http://127.0.0.1:{port}: .*refused.*port right",
            ),
            (Origin("http", "nowhere.invalid", 80), "'nowhere.invalid' is not known"),
            (Origin("http", "255.255.255.255", 80), "Is it reachable"),
            (Origin("http", "a" * 64 + ".invalid", 80), "is not known"),
        ):
            with pytest.raises(UpstreamError, match=message):
                await connect(origin, timeout_s=10)

    run(main())


def test_the_authorities_of_the_system_or_certifi(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the system has no certificate authorities, those of certifi are used."""
    paths = ssl.get_default_verify_paths()
    none = paths._replace(cafile="", capath=str(tmp_path))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: none)
    bundle = Path(certifi.where()).read_text(encoding="utf-8")
    count = bundle.count("BEGIN CERTIFICATE")
    assert default_ssl_context().cert_store_stats()["x509_ca"] == count
    monkeypatch.undo()
    assert default_ssl_context().verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_file_without_authorities_is_refused(
    tmp_path: Path, content: str | None
) -> None:
    """A file that is missing or holds no certificate is a wrong use."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match="give a PEM file"):
        default_ssl_context(str(file))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a socket's state")
def test_a_connection_that_has_ended_unseen_is_not_used_again(run: Run) -> None:
    """The kernel knows of an end before the loop has had a turn to read it."""

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        own = peer.writer.get_extra_info("socket")
        sockets.append(socket.socket(fileno=os.dup(own.fileno())))
        await done.wait()

    sockets: list[socket.socket] = []
    done = asyncio.Event()

    async def main() -> None:
        async with upstream(script) as port:
            connection = await connected(port)
            response = Response()
            connection.send_request(RequestHead("GET", "/", (HOST,)), response)
            await response.log.until("end")
            assert connection.reusable
            with sockets[0] as ending:  # behind the loop's back
                ending.shutdown(socket.SHUT_WR)
            assert connection.is_open  # as far as the loop knows
            assert not connection.reusable
            done.set()

    run(main())
