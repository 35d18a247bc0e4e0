"""What a handler answers with, seen from raw sockets."""

from __future__ import annotations

import socket

import pytest
from http1.wire import (
    GET,
    STREAM_HEAD,
    App,
    Received,
    Run,
    answer_nothing,
    ok,
    peer_of,
    serving,
)

from sse_recorder.exchange import ResponseHead


def test_a_chunked_response(run: Run) -> None:
    """Each piece of data is one chunk; trailers follow the last; empty data is none."""

    def answer(received: Received) -> None:
        stream = received.stream
        stream.send_head(STREAM_HEAD)
        for data in (b"data: 1\n\n", b"", b"x" * 16):
            stream.send_data(data)
        stream.end((("X-Sum", "1"),))
        assert stream.finished
        stream.send_data(b"too late")

    async def main() -> None:
        async with serving(App(answer)) as server, peer_of(server) as peer:
            for _ in range(2):
                peer.send(GET % b"")
                await peer.expect(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n"
                    b"9\r\ndata: 1\n\n\r\n10\r\nxxxxxxxxxxxxxxxx\r\n"
                    b"0\r\nX-Sum: 1\r\n\r\n"
                )

    run(main())


def test_the_socket_sends_small_writes_at_once(run: Run) -> None:
    """TCP_NODELAY is on, whatever the loop: a frame never waits for the one before."""

    async def main() -> None:
        app = App(answer_nothing)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"")
            await app.log.until("end")
            sock = next(iter(server.connections))._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

    run(main())


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)]
)
def test_responses_without_a_body(run: Run, method: bytes, status: int) -> None:
    """HEAD, 204 and 304 have no body, whatever the headers and the handler say."""

    def answer(received: Received) -> None:
        head = ResponseHead(status, "X", (("Transfer-Encoding", "chunked"),))
        received.stream.send_head(head)
        received.stream.send_data(b"no")
        received.stream.end()

    async def main() -> None:
        async with serving(App(answer)) as server, peer_of(server) as peer:
            peer.send((method + b" / HTTP/1.1\r\nHost: a\r\n\r\n") * 2)
            head = b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status
            await peer.expect(head * 2)
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            if method == b"GET":
                await peer.expect_end(head)

    run(main())


def test_a_response_without_framing_ends_with_its_connection(run: Run) -> None:
    """Neither a length nor chunks: the end of the connection is the end of the body."""

    def answer(received: Received) -> None:
        received.stream.send_head(ResponseHead(200, "OK"))
        received.stream.send_data(b"abc")
        received.stream.end()

    async def main() -> None:
        async with serving(App(answer)) as server, peer_of(server) as peer:
            peer.send(GET % b"")
            await peer.expect_end(b"HTTP/1.1 200 OK\r\n\r\nabc")

    run(main())


def test_a_body_keeps_to_its_length(run: Run) -> None:
    """What exceeds Content-Length is cut; what falls short ends the connection."""

    def answer(received: Received) -> None:
        received.stream.send_head(ResponseHead(200, "OK", (("Content-Length", "3"),)))
        received.stream.send_data(b"ab")
        if received.head.path == "/long":
            received.stream.send_data(b"cd")
            received.stream.send_data(b"ef")
        received.stream.end()

    async def main() -> None:
        async with serving(App(answer)) as server, peer_of(server) as peer:
            peer.send(GET % b"long")
            await peer.expect(ok(b"abc"))
            peer.send(GET % b"short")
            await peer.expect_end(ok(b"abc")[:-1])

    run(main())


def test_connection_close_is_respected_in_both_directions(run: Run) -> None:
    """`Connection: close` of the request or of the response ends the connection."""

    def answer(received: Received) -> None:
        headers = (("Content-Length", "0"), ("connection", "Close"))
        received.stream.send_head(ResponseHead(200, "OK", headers))
        received.stream.end()

    async def main() -> None:
        async with serving(App(answer)) as server, peer_of(server) as peer:
            peer.send(GET % b"")
            await peer.expect_end(
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nconnection: Close\r\n\r\n"
            )
        app = App()
        async with serving(app) as server, peer_of(server) as peer:
            last = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            peer.send(last + GET % b"2")
            await peer.expect_end(ok(b"/1 "))
            assert len(app.received) == 1

    run(main())


def test_http_1_0_clients(run: Run) -> None:
    """1.0 closes by default, keeps alive if asked and told, and knows no chunks."""

    def answer_stream(received: Received) -> None:
        received.stream.send_informational(ResponseHead(103, "Early Hints"))
        received.stream.send_head(STREAM_HEAD)
        received.stream.send_data(b"data: 1\n\n")
        received.stream.end((("X", "y"),))

    async def main() -> None:
        app = App()
        async with serving(app) as server:
            async with peer_of(server) as peer:
                peer.send(b"GET /1 HTTP/1.0\r\n\r\n")
                await peer.expect_end(ok(b"/1 "))
            keep = b"GET /2 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
            async with peer_of(server) as peer:
                for _ in range(2):
                    peer.send(keep)
                    await peer.expect(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n"
                        b"Connection: keep-alive\r\n\r\n/2 "
                    )
                app.on_end = answer_stream
                peer.send(keep)
                await peer.expect_end(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                    b"data: 1\n\n"
                )

    run(main())


def test_an_abort_by_reset_is_an_error_to_the_client(run: Run) -> None:
    """`abort(reset=True)` sends a TCP reset after what was written before."""

    def answer(received: Received) -> None:
        received.stream.send_head(STREAM_HEAD)
        received.stream.send_data(b"data: 1\n\n")

    async def main() -> None:
        app = App(answer)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"")
            await peer.read_until(b"data: 1\n\n\r\n")
            app.received[0].stream.abort(reset=True)
            assert server.open_streams == 0
            with pytest.raises(ConnectionResetError):
                await peer.read_all()
            await app.log.until("closed")
            assert "gone" not in app.log.names

    run(main())


def test_an_abort_without_reset_ends_the_connection_early(run: Run) -> None:
    """`abort(reset=False)` sends all that was written, and no last chunk."""

    def answer(received: Received) -> None:
        received.stream.send_head(STREAM_HEAD)
        received.stream.send_data(b"x" * 1_000_000)
        received.stream.abort(reset=False)

    async def main() -> None:
        app = App(answer)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"")
            await peer.read_until(b"\r\n\r\n")
            await peer.expect_end(b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n")
            await app.log.until("closed")
            assert "gone" not in app.log.names

    run(main())


def test_an_abort_before_the_head_is_no_answer_at_all(run: Run) -> None:
    """A response that is aborted before its head leaves the client with nothing."""

    async def main() -> None:
        app = App(lambda received: received.stream.abort(reset=False))
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"")
            await peer.expect_end()

    run(main())


def test_a_body_that_its_connection_ends_is_broken_by_a_reset(run: Run) -> None:
    """A plain end of the connection would say that the half of it was all."""

    def answer_half(received: Received) -> None:
        received.stream.send_head(ResponseHead(200, "OK"))
        received.stream.send_data(b"half")

    async def main() -> None:
        app = App(answer_half)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await peer.expect(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            app.received[0].stream.abort(reset=False)
            with pytest.raises(ConnectionResetError):
                await peer.read_all()

    run(main())


def test_a_body_can_be_ended_in_order_though_it_looks_whole(run: Run) -> None:
    """`abort(reset=None)` is no reset, whatever a client may take the half for."""

    def answer_half(received: Received) -> None:
        received.stream.send_head(ResponseHead(200, "OK"))
        received.stream.send_data(b"half")
        received.stream.abort(reset=None)

    async def main() -> None:
        app = App(answer_half)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await peer.expect_end(b"HTTP/1.1 200 OK\r\n\r\nhalf")

    run(main())
