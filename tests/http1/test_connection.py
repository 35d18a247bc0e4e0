"""One client's connection, seen from raw sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest
from http1.wire import (
    CHUNKED_POST,
    GET,
    STREAM_HEAD,
    App,
    MemoryTransport,
    Received,
    Run,
    answer_echo,
    answer_nothing,
    cuts,
    ok,
    peer_of,
    serving,
)

from sse_recorder.clock import FakeClock
from sse_recorder.exchange import RequestHead, ResponseHead
from sse_recorder.http1.connection import PIPELINE_BYTES_MAX, Connection
from sse_recorder.http1.limits import Limits
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.server import Server
from sse_recorder.http1.sockets import reset_connection


def test_requests_are_answered_on_one_connection(run: Run) -> None:
    """A connection serves one request after the other, with the head as it was sent."""

    async def main() -> None:
        app = App()
        async with serving(app) as server, peer_of(server) as peer:
            assert server.url == f"http://127.0.0.1:{server.address[1]}"
            peer.send(b"GET /a?b#c HTTP/1.1\r\nHost: a\r\nx-Y: \t1 \t\r\nX-Y:\r\n\r\n")
            await peer.expect(ok(b"/a?b#c "))
            peer.send(b"PUT /2 HTTP/1.1\r\nhost: a\r\nContent-Length: 2\r\n\r\nhi")
            await peer.expect(ok(b"/2 hi"))
            await peer.close()
            await app.log.until("closed")
        assert app.received[0].head == RequestHead(
            "GET", "/a?b#c", (("Host", "a"), ("x-Y", "1"), ("X-Y", "")), "1.1"
        )
        assert "gone" not in app.log.names

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    """A request waits for the response before it, even if it came in the same read."""

    async def main() -> None:
        app = App(answer_nothing)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"1" + CHUNKED_POST + GET % b"3")
            await app.log.until("end")
            assert len(app.received) == 1
            assert server.open_streams == 1
            answer_echo(app.received[0])
            await app.log.until("end", 2)
            assert app.received[1].body == b"hello world"
            answer_echo(app.received[1])
            answer_echo(app.received[2])
            await peer.expect(ok(b"/1 ") + ok(b"/p hello world") + ok(b"/3 "))

    run(main())


def test_pipelining_is_bounded(run: Run) -> None:
    """Reading stops while too much waits behind a response, and goes on after it."""

    async def main() -> None:
        app = App(answer_nothing)
        body = b"x" * 1000
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + body
        count = 8000  # more than the socket's buffers hold
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(post * count)
            await app.log.until("end")
            connection = next(iter(server.connections))
            async with peer_of(server) as other:  # many turns of the loop
                app.on_end = answer_echo
                for _ in range(20):
                    other.send(GET % b"other")
                    await other.expect(ok(b"/other "))
            waiting = sum(request.size for request in connection._queue)
            assert waiting < PIPELINE_BYTES_MAX + 256 * 1024 + 2000
            answer_echo(app.received[0])
            for _ in range(count):
                await peer.expect(ok(b"/ " + body))

    run(main())


@pytest.mark.parametrize("which", range(3))
def test_a_request_may_be_cut_anywhere(which: int) -> None:
    """Wherever reads cut a request, its head, body and trailers are the same."""
    request = [
        CHUNKED_POST,
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
        (
            b"POST /p HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"
            b"Content-Length: 11\r\n\r\nhello world"
        ),
    ][which]

    async def main() -> None:
        for reads in cuts(request):
            app = App()
            transport = MemoryTransport()
            connection = Connection(Server(app))
            connection.connection_made(transport)
            for data in (*reads, *reads):
                connection.data_received(data)
            assert transport.written == ok(b"/p hello world") * 2
            for received in app.received:
                assert received.head.target == "/p"
                assert received.trailers == (
                    (("X-Sum", "11"), ("X-Two", "b")) if which == 0 else ()
                )
            connection.connection_lost(None)

    asyncio.run(main())


def test_one_read_is_one_call_with_its_time() -> None:
    """Pieces of body in one read arrive joined, and the clock is read before them."""

    async def main() -> None:
        time = FakeClock(now_ns=5)
        app = App()
        connection = Connection(Server(app, clock=time.clock()))
        connection.connection_made(MemoryTransport())
        cut = CHUNKED_POST.index(b"world")
        connection.data_received(CHUNKED_POST[:cut])
        time.advance(7)
        connection.data_received(CHUNKED_POST[cut:])
        received = app.received[0]
        assert received.at_ns == 5
        assert received.reads == [b"hello ", b"world"]
        assert received.times == [5, 12, 12]
        connection.connection_lost(None)

    asyncio.run(main())


def test_expect_is_left_to_the_handler(run: Run) -> None:
    """A handler may ask for the body by 100 Continue, and the connection lives on."""

    def on_head(received: Received) -> None:
        assert ("Expect", "100-continue") in received.head.headers
        received.stream.send_informational(ResponseHead(100, "Continue"))

    async def main() -> None:
        async with serving(App(on_head=on_head)) as server, peer_of(server) as peer:
            for _ in range(2):
                peer.send(
                    b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                    b"Content-Length: 2\r\n\r\n"
                )
                await peer.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
                peer.send(b"hi")
                await peer.expect(ok(b"/e hi"))

    run(main())


def test_a_refused_expectation_ends_the_connection(run: Run) -> None:
    """Without 100 Continue the body may or may not come: the connection closes."""

    async def main() -> None:
        app = App(on_head=answer_echo)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(
                b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                b"Content-Length: 2\r\n\r\n"
            )
            await peer.expect_end(ok(b"/e "))
            assert "end" not in app.log.names

    run(main())


def test_a_response_may_end_before_its_request(run: Run) -> None:
    """The rest of an answered request is read and dropped, then the next is served."""

    async def main() -> None:
        app = App(on_head=answer_echo)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
            await peer.expect(ok(b"/1 "))
            assert server.open_streams == 0
            peer.send(b"x" * 2_000_000 + GET % b"2")
            await peer.expect(ok(b"/2 "))
            assert app.received[0].body == b""

    run(main())


def test_a_last_response_survives_the_rest_of_its_request(run: Run) -> None:
    """A connection closes without a reset while the client still sends its body."""

    def answer(received: Received) -> None:
        headers = (("Content-Length", "0"), ("Connection", "close"))
        received.stream.send_head(ResponseHead(413, "Too Large", headers))
        received.stream.end()

    async def main() -> None:
        app = App(on_head=answer)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
            peer.send(b"x" * 9_000_000)
            await peer.expect_end(
                b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n"
                b"Connection: close\r\n\r\n"
            )
            await peer.writer.drain()
            await peer.close()
            await app.log.until("closed")

    run(main())


@pytest.mark.parametrize("how", ["eof", "reset"])
def test_a_client_that_leaves_is_noticed_at_once(run: Run, how: str) -> None:
    """The handler hears once that its client left, and what it sends is dropped."""

    async def main() -> None:
        app = App(answer_nothing)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"1" + GET % b"2")
            await app.log.until("end")
            received = app.received[0]
            received.stream.send_head(STREAM_HEAD)
            received.stream.send_data(b"data: 1\n\n")
            await peer.read_until(b"data: 1\n\n\r\n")
            if how == "eof":
                peer.writer.write_eof()
            else:
                reset_connection(cast("asyncio.Transport", peer.writer.transport))
            await app.log.until("closed")
            assert isinstance(received.error, ConnectionError) is (how == "reset")
            assert app.log.names == ["head", "end", "gone", "closed"]
            assert received.stream.finished
            assert server.open_streams == 0
            received.stream.send_head(STREAM_HEAD)
            received.stream.send_informational(STREAM_HEAD)
            received.stream.send_data(b"more")
            received.stream.pause_request()
            received.stream.resume_request()
            received.stream.end()
            received.stream.abort(reset=True)

    run(main())


def test_an_upload_that_breaks_off(run: Run) -> None:
    """A client that leaves inside its request body is gone, not done."""

    async def main() -> None:
        app = App()
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
            await app.log.until("data")
            await peer.close()
            await app.log.until("closed")
            assert app.log.names == ["head", "data", "gone", "closed"]

    run(main())


def test_a_slow_reader_pauses_its_response(run: Run) -> None:
    """The handler is paused while the client does not read, resumed when it does."""
    piece = b"x" * 65_536

    async def main() -> None:
        app = App(answer_nothing)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"")
            await app.log.until("end")
            stream = app.received[0].stream
            stream.send_head(ResponseHead(200, "OK"))
            sent = 0
            while "pause" not in app.log.names:
                stream.send_data(piece)
                sent += len(piece)
                await asyncio.sleep(0)
            assert 0 < stream.buffered <= 2 * len(piece)
            drained = asyncio.create_task(peer.read_all())
            await app.log.until("resume")
            assert stream.buffered <= len(piece)
            stream.end()
            body = (await drained).partition(b"\r\n\r\n")[2]
            assert len(body) == sent

    run(main())


def test_a_response_behind_a_slow_one_begins_paused(run: Run) -> None:
    """The write buffer is the connection's: the next response hears that it is full."""

    def answer(received: Received) -> None:
        if received.head.path == "/1":
            body = b"x" * 9_000_000
            length = ("Content-Length", str(len(body)))
            received.stream.send_head(ResponseHead(200, "OK", (length,)))
            received.stream.send_data(body)
            received.stream.end()

    async def main() -> None:
        app = App(answer)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"1" + GET % b"2")
            await app.log.until("end", 2)
            assert app.log.names == ["head", "end", "pause", "head", "pause", "end"]
            expected = ok(b"x" * 9_000_000) + ok(b"/2 ")
            reading = asyncio.create_task(peer.expect(expected))
            await app.log.until("resume")
            answer_echo(app.received[1])
            await reading

    run(main())


def test_a_slow_handler_pauses_the_request(run: Run) -> None:
    """A handler that does not read stops the client, whose bytes wait in its socket."""

    def pause(received: Received) -> None:
        if not stopped:
            stopped.append(True)
            received.stream.pause_request()

    stopped: list[bool] = []
    size = 20_000_000

    async def main() -> None:
        app = App(on_data=pause)
        async with serving(app) as server, peer_of(server) as peer:
            length = b"Content-Length: %d" % size
            peer.send(b"POST /u HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n\r\n")
            peer.send(b"x" * size)
            await app.log.until("data")
            async with peer_of(server) as other:  # many turns of the loop
                for _ in range(20):
                    other.send(GET % b"other")
                    await other.expect(ok(b"/other "))
            received = app.received[0]
            assert len(received.reads) == 1
            assert len(received.body) <= 256 * 1024
            assert peer.writer.transport.get_write_buffer_size() > 0
            received.stream.resume_request()
            assert len(await peer.read_until(b"\r\n\r\n")) > 0
            assert len(received.body) == size

    run(main())


def test_a_pause_does_not_hide_that_the_client_left(run: Run) -> None:
    """Once a request has been read, pausing it does not stop reading."""

    async def main() -> None:
        app = App(lambda received: received.stream.pause_request())
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            await app.log.until("end")
            await peer.close()
            await app.log.until("gone")

    run(main())


def test_a_malformed_request_waits_for_its_turn(run: Run) -> None:
    """The requests before a malformed one are answered first."""

    async def main() -> None:
        app = App(answer_nothing)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"1" + b"nonsense\r\n\r\n")
            await app.log.until("end")
            answer_echo(app.received[0])
            await peer.expect(ok(b"/1 ") + b"HTTP/1.1 400 Bad Request\r\n")
            await peer.read_all()

    run(main())


@pytest.mark.parametrize("started", [False, True])
def test_a_malformed_body(run: Run, *, started: bool) -> None:
    """It gets 400 before the head is sent and a broken response after it."""

    def on_head(received: Received) -> None:
        if started:
            received.stream.send_head(STREAM_HEAD)

    async def main() -> None:
        app = App(on_head=on_head)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"3\r\nabc\r\nzz\r\n"
            )
            answer = await peer.read_all()
            assert answer.startswith(b"HTTP/1.1 " + (b"200" if started else b"400"))
            assert not answer.endswith(b"0\r\n\r\n")
            assert app.log.names[:3] == ["head", "data", "gone"]
            assert isinstance(app.received[0].error, ValueError)

    run(main())


@pytest.mark.parametrize("reads", ["one", "many", "endless line", "trailers"])
def test_large_headers_are_answered_431(run: Run, reads: str) -> None:
    """Headers beyond the limit are refused, however they come."""

    async def main() -> None:
        app = App()
        async with (
            serving(app, limits=Limits(head_bytes=1000)) as server,
            peer_of(server) as peer,
        ):
            start = b"GET / HTTP/1.1\r\nHost: a\r\n"
            if reads == "one":
                peer.send(start + b"X: y\r\n" * 300 + b"\r\n")
            elif reads == "many":
                peer.send(start)
                for _ in range(300):
                    peer.send(b"X: y\r\n")
                    await asyncio.sleep(0)
            elif reads == "endless line":
                peer.send(start + b"X: " + b"y" * 4000)
            else:
                peer.send(CHUNKED_POST[:-2] + b"X: y\r\n" * 300)
            assert (await peer.read_all()).startswith(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
            )
        async with (
            serving(app, limits=Limits(head_bytes=1000)) as server,
            peer_of(server) as peer,
        ):
            peer.send(start + b"X: " + b"y" * 900 + b"\r\n\r\n")
            await peer.expect(ok(b"/ "))

    run(main())


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: ws\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\n"
            b"Upgrade: x\r\nContent-Length: 2\r\n\r\nhi"
        ),
    ],
)
def test_upgrades_and_tunnels_are_answered_501(run: Run, request_bytes: bytes) -> None:
    """Nobody here speaks anything but HTTP/1.1, and says so."""

    async def main() -> None:
        app = App()
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(request_bytes + b"\x81\x00more")
            answer = await peer.read_all()
            assert answer.startswith(b"HTTP/1.1 501 Not Implemented\r\n")
            assert b'"not_implemented"' in answer
            assert app.received == []

    run(main())


def test_an_offer_of_http_2_is_ignored(run: Run) -> None:
    """`Upgrade: h2c` gets an answer in HTTP/1.1, and so does what follows it."""

    async def main() -> None:
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        async with serving(App()) as server, peer_of(server) as peer:
            peer.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n" + offer + b"\r\n" + GET % b"2")
            await peer.expect(ok(b"/1 ") + ok(b"/2 "))
            chunked = CHUNKED_POST.replace(b"Host: a\r\n", b"Host: a\r\n" + offer)
            peer.send(chunked * 2 + GET % b"3")
            await peer.expect(ok(b"/p hello world") * 2 + ok(b"/3 "))

    run(main())


@pytest.mark.parametrize("where", ["head", "data", "end", "after head", "gone"])
def test_a_handler_that_raises(
    run: Run, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its stream gets 500 or is broken off, it is logged, and others go on."""

    def fail(received: Received) -> None:
        if received.head.path == "/ok":
            answer_echo(received)
            return
        if where == "after head":
            received.stream.send_head(STREAM_HEAD)
        raise RuntimeError("boom")

    async def main() -> None:
        app = App(
            fail if where != "data" else answer_nothing,
            on_head=fail if where == "head" else answer_nothing,
            on_data=fail if where == "data" else answer_nothing,
        )
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            answer = await peer.read_all()
            if where == "after head":
                assert answer.endswith(b"Transfer-Encoding: chunked\r\n\r\n")
            else:
                assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
            assert isinstance(app.received[0].error, RuntimeError) is (where != "head")
            assert server.open_streams == 0
            if where != "data":
                async with peer_of(server) as other:
                    other.send(GET % b"ok")
                    await other.expect(ok(b"/ok "))

    with caplog.at_level(logging.ERROR, "sse_recorder.http1"):
        run(main())
    assert "boom" in caplog.text


def test_a_handler_that_raises_when_told_of_the_end(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Failures in `client_gone`, `connection_closed` or the factory are logged."""

    class Failing(Received):
        def client_gone(self, at_ns: int, error: BaseException | None) -> None:
            super().client_gone(at_ns, error)
            raise RuntimeError("boom 1")

    class FailingApp(App):
        def request_head(
            self, head: RequestHead, stream: ResponseStream, at_ns: int
        ) -> Received:
            self.log.add("head")
            return Failing(self, head, stream, at_ns)

        def connection_closed(self) -> None:
            super().connection_closed()
            raise RuntimeError("boom 2")

        def __call__(self) -> App:
            if self.log.names:
                raise RuntimeError("boom 3")
            return self

    async def main() -> None:
        app = FailingApp()
        app.on_end = answer_nothing
        async with serving(app) as server:
            async with peer_of(server) as peer:
                peer.send(GET % b"")
                await app.log.until("head")
                await peer.close()
                await app.log.until("closed")
            async with peer_of(server) as peer:
                await peer.expect_end()

    run(main())
    assert all(f"boom {i}" in caplog.text for i in (1, 2, 3))


def test_idle_connections_are_closed(run: Run) -> None:
    """An idle connection is closed in time; one with an open response is not."""

    async def main() -> None:
        app = App(answer_nothing)
        async with (
            serving(app, limits=Limits(idle_timeout_s=0.1)) as server,
            peer_of(server) as busy,
            peer_of(server) as idle,
            peer_of(server) as slow,
        ):
            busy.send(GET % b"1")
            await app.log.until("end")
            slow.send(b"GET / HT")
            await idle.expect_end()
            await slow.expect_end()
            await app.log.until("closed", 2)
            answer_echo(app.received[0])
            await busy.expect(ok(b"/1 "))
            await busy.expect_end()

    run(main())


def test_a_client_that_does_not_end_its_side_is_cut_off(run: Run) -> None:
    """A refused client may send on for a while only: the sweep ends it."""

    async def main() -> None:
        app = App()
        async with (
            serving(app, limits=Limits(idle_timeout_s=0.1)) as server,
            peer_of(server) as peer,
        ):
            peer.send(b"nonsense\r\n\r\n")
            await peer.read_all()
            peer.send(b"more nonsense")
            await app.log.until("closed")

    run(main())


@pytest.mark.parametrize("trailers", [False, True])
def test_too_many_headers_are_answered_431(run: Run, *, trailers: bool) -> None:
    """Their number is limited as well as their size: each costs us an object."""

    async def main() -> None:
        app = App()
        limits = Limits(headers=10)
        start = b"GET / HTTP/1.1\r\nHost: a\r\n"
        async with serving(app, limits=limits) as server, peer_of(server) as peer:
            peer.send(start + b"X: y\r\n" * 9 + b"\r\n")
            await peer.expect(ok(b"/ "))
            if trailers:
                peer.send(CHUNKED_POST[:-2] + b"X: y\r\n" * 9 + b"\r\n")
            else:
                peer.send(start + b"X: y\r\n" * 10 + b"\r\n")
            assert (await peer.read_all()).startswith(b"HTTP/1.1 431 ")

    run(main())


@pytest.mark.parametrize("kept", [False, True])
def test_a_head_that_takes_too_long_is_answered_408(run: Run, *, kept: bool) -> None:
    """Who sends a byte now and then does not hold a connection for ever."""

    async def main() -> None:
        app = App()
        async with (
            serving(app, limits=Limits(head_timeout_s=0.2)) as server,
            peer_of(server) as peer,
        ):
            if kept:
                peer.send(GET % b"1")
                await peer.expect(ok(b"/1 "))
            peer.send(b"GET / HT")
            await asyncio.sleep(0.1)
            peer.send(b"TP/1.1\r\nHo")
            answer = await peer.read_all()
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b"\r\nConnection: close\r\n" in answer
            assert len(app.received) == kept

    run(main())


def test_the_time_of_a_head_is_not_that_of_its_body_or_response(run: Run) -> None:
    """Silence is what streams are made of: nothing that is being answered is cut."""

    async def main() -> None:
        app = App(answer_nothing)
        async with (
            serving(
                app, limits=Limits(head_timeout_s=0.1, idle_timeout_s=0.1)
            ) as server,
            peer_of(server) as slow_body,
            peer_of(server) as silent,
        ):
            silent.send(GET % b"1" + b"GET /2 HT")  # and half of the next head
            await app.log.until("end")
            slow_body.send(b"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
            await app.log.until("data")
            await asyncio.sleep(0.4)
            answer_echo(app.received[0])
            await silent.expect(ok(b"/1 "))
            silent.send(b"TP/1.1\r\nHost: a\r\n\r\n")
            slow_body.send(b"b")
            await app.log.until("end", 3)
            for received in app.received[1:]:
                answer_echo(received)
            await silent.expect(ok(b"/2 "))
            await slow_body.expect(ok(b"/3 ab"))

    run(main())


def test_an_offer_of_http_2_does_not_leave_a_head_open(run: Run) -> None:
    """A kept connection is idle after it, and is not told that a head is late."""

    async def main() -> None:
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        limits = Limits(head_timeout_s=0.1)
        async with serving(App(), limits=limits) as server, peer_of(server) as peer:
            peer.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n" + offer + b"\r\n")
            await peer.expect(ok(b"/1 "))
            await asyncio.sleep(0.4)
            peer.send(GET % b"2")
            await peer.expect(ok(b"/2 "))

    run(main())
