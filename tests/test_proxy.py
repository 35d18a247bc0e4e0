"""The recording proxy, between real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from http1.wire import Peer, Run, upstream
from otlp_receiver import attributes, otlp_receiver

from sse_recorder.exchange import Exchange
from sse_recorder.http1.limits import Limits as HttpLimits
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.sockets import reset_connection
from sse_recorder.otel import Telemetry
from sse_recorder.proxy import Recorder
from sse_recorder.store.store import Store

Script = Callable[[Peer], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PING = b"data: ping\n\n"


def chunk(data: bytes) -> bytes:
    """Return bytes as one chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def recording(script: Script, store: Path, **options: Any) -> AsyncIterator[Peer]:
    """Put a recorder in front of a scripted upstream, and connect to it."""
    async with upstream(script) as port:
        recorder = Recorder(f"http://127.0.0.1:{port}", store=store, **options)
        await recorder.start()
        host, _, own = recorder.url.rpartition("//")[2].partition(":")
        reader, writer = await asyncio.open_connection(host, int(own))
        try:
            yield Peer(reader, writer)
        finally:
            await recorder.stop(grace_s=0.2)
            writer.transport.abort()


def only(store: Path) -> tuple[Exchange, bytes]:
    """Return the one exchange of a store, and its body."""
    with Store.open(store) as opened:
        (exchange,) = opened.exchanges()
        return exchange, opened.body(exchange.exchange_id)


def test_a_frame_is_forwarded_before_its_end_is_there(run: Run, tmp_path: Path) -> None:
    """Half an event goes to the client at once: nothing waits for the parser."""
    half_seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED + chunk(b"data: ha"))
        await half_seen.wait()  # the rest is not sent before the client has the half
        peer.send(chunk(b"lf\n\n") + b"0\r\n\r\n")

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(CHUNKED + chunk(b"data: ha"))
            half_seen.set()
            await client.expect(chunk(b"lf\n\n") + b"0\r\n\r\n")

    run(main())
    exchange, body = only(tmp_path)
    assert (exchange.outcome, exchange.chunk_count, exchange.frame_count) == (
        "complete",
        2,
        1,
    )
    assert body == b"data: half\n\n"


def test_one_byte_writes_arrive_as_one_byte_writes(run: Run, tmp_path: Path) -> None:
    """A byte that was written alone is forwarded alone, and recorded alone."""
    body = b"event: a\ndata: \xc3\xa9\n\n"
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED)
        for at in range(len(body)):
            peer.send(chunk(body[at : at + 1]))
            await seen.wait()
            seen.clear()
        peer.send(b"0\r\n\r\n")

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(CHUNKED)
            for at in range(len(body)):
                await client.expect(chunk(body[at : at + 1]))
                seen.set()
            await client.expect(b"0\r\n\r\n")

    run(main())
    exchange, recorded = only(tmp_path)
    assert (recorded, exchange.chunk_count) == (body, len(body))


def test_headers_keep_their_order_case_and_duplicates(run: Run, tmp_path: Path) -> None:
    """Both sides see each other's headers, but for Host and those of a connection."""
    request = (
        b"POST /v2/x?b=2&a=1 HTTP/1.1\r\nHOST: proxy\r\nx-Odd: 1\r\nX-ODD: 2\r\n"
        b"Keep-Alive: 5\r\nConnection: x-mine\r\nX-Mine: a\r\n"
        b"Content-Length: 2\r\n\r\nhi"
    )
    response = (
        b"HTTP/1.1 299 Odd Reason\r\nset-COOKIE: a=1\r\nSet-Cookie: b=2\r\n"
        b"Content-Length: 2\r\n\r\nok"
    )
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.read_until(b"\r\n\r\nhi"))
        peer.send(response)
        await peer.read_all()

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(request)
            await client.expect(response)

    run(main())
    port = got[0].split(b"127.0.0.1:")[1].split(b"\r\n")[0]
    assert got[0] == (
        b"POST /v2/x?b=2&a=1 HTTP/1.1\r\nHOST: 127.0.0.1:%s\r\nx-Odd: 1\r\nX-ODD: 2\r\n"
        b"Content-Length: 2\r\n\r\nhi" % port
    )
    exchange, body = only(tmp_path)
    assert (exchange.status, exchange.reason, body) == (299, "Odd Reason", b"ok")
    assert exchange.path == "/v2/x"
    assert exchange.request_body == b"hi"
    assert exchange.sent_ns is not None
    assert exchange.headers_ns is not None
    assert exchange.response_headers[0] == ("set-COOKIE", "a=[redacted]")


def test_connections_are_kept_and_paired(run: Run, tmp_path: Path) -> None:
    """Two requests on one client connection are two on one upstream connection."""
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await peer.read_until(b"\r\n\r\n")
            peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await peer.read_all()

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            for _ in range(2):
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")

    run(main())
    assert connections == 1
    with Store.open(tmp_path) as store:
        assert [e.outcome for e in store.exchanges()] == ["complete"] * 2


def test_a_client_that_leaves_takes_the_upstream_with_it(
    run: Run, tmp_path: Path
) -> None:
    """Nobody pays for tokens that nobody reads: the upstream is closed at once."""
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED + chunk(PING))
        with suppress(ConnectionResetError):
            await peer.read_all()
        left.set()

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(CHUNKED + chunk(PING))
            client.writer.close()
            async with asyncio.timeout(10):
                await left.wait()

    run(main())
    exchange, body = only(tmp_path)
    assert (exchange.outcome, body) == ("client_abort", PING)


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "eof"])
def test_an_upstream_that_breaks_breaks_the_client_in_the_same_way(
    run: Run, tmp_path: Path, *, reset: bool
) -> None:
    """A reset stays a reset and an end stays an end, after the same bytes."""

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED + chunk(PING))
        await peer.writer.drain()
        await forwarded.wait()
        if reset:
            # uvloop's transports do not say that they are asyncio's.
            reset_connection(cast("asyncio.Transport", peer.writer.transport))

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(CHUNKED + chunk(PING))
            forwarded.set()
            if reset:
                with pytest.raises(ConnectionResetError):
                    await client.read_all()
            else:
                await client.expect_end()

    forwarded = asyncio.Event()
    run(main())
    exchange, body = only(tmp_path)
    assert (exchange.outcome, body) == ("upstream_abort", PING)
    assert (exchange.error or "").startswith("reset" if reset else "eof")


def test_a_slow_client_slows_the_upstream(run: Run, tmp_path: Path) -> None:
    """What a client does not read stays with the upstream, not in our memory."""
    size = 64 << 20
    body = bytes(range(256)) * (size // 256)
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.read_until(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for at in range(0, size, 1 << 16):
            peer.send(body[at : at + (1 << 16)])
            await peer.writer.drain()
            sent = at

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.read_until(b"\r\n\r\n")
            before = -1
            while sent != before:  # until the upstream can send no more
                before = sent
                await asyncio.sleep(0.2)
            assert sent < size // 2
            assert await client.reader.readexactly(size) == body

    run(main())
    exchange, recorded = only(tmp_path)
    assert exchange.outcome == "complete"
    assert recorded == body


def test_a_slow_upstream_slows_the_client(run: Run, tmp_path: Path) -> None:
    """The same for request bodies: they wait with the client, and arrive whole."""
    size = 64 << 20
    body = bytes(range(256)) * (size // 256)
    go_on = asyncio.Event()
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        await go_on.wait()
        got.append(await peer.reader.readexactly(size))
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            client.send(head + body)
            before = -1
            transport = client.writer.transport
            while (left := transport.get_write_buffer_size()) != before:
                before = left
                await asyncio.sleep(0.2)
            assert left > size // 2
            go_on.set()
            await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")

    run(main())
    exchange, _ = only(tmp_path)
    assert got == [body]
    assert exchange.request_body == body


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a socket's state")
def test_a_client_that_leaves_while_it_is_not_read_is_missed_soon(
    run: Run, tmp_path: Path
) -> None:
    """An upstream that does not read a body does not keep a client that has left."""

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        await left.wait()

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            size = 64 << 20
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            client.send(head + bytes(size))
            await asyncio.sleep(0.5)  # all that will be taken is taken by now
            linger = struct.pack("ii", 1, 0)
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.writer.transport.abort()
            with Store.open(tmp_path) as store:
                while not list(store.exchanges("outcome IS NOT NULL")):
                    await asyncio.sleep(0.1)
                    store.refresh()
            left.set()

    left = asyncio.Event()
    run(main())
    exchange, _ = only(tmp_path)
    assert exchange.outcome == "client_abort"


def test_an_answer_may_come_before_the_request_is_complete(
    run: Run, tmp_path: Path
) -> None:
    """An upstream that refuses a body early is heard early."""

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(
            b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\nab")
            answer = await client.read_until(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 413 Too Large\r\n")

    run(main())
    exchange, _ = only(tmp_path)
    assert (exchange.status, exchange.sent_ns) == (413, None)


def test_a_request_that_waited_begins_after_an_early_answer(
    run: Run, tmp_path: Path
) -> None:
    """The end of one exchange never ends the next one's upstream."""

    async def script(peer: Peer) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await peer.read_until(b"\r\n\r\n")
                if b"POST" in head:
                    await peer.expect(b"0123456789")
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(
                b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
                b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234"
            )
            await client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            client.send(b"56789")
            await client.expect(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    run(main())
    with Store.open(tmp_path) as store:
        exchanges = list(store.exchanges())
    assert [e.path for e in exchanges] == ["/1", "/2"]
    assert [e.outcome for e in exchanges] == ["complete"] * 2


def test_pipelined_requests_are_recorded_in_their_order(
    run: Run, tmp_path: Path
) -> None:
    """They come in one read, and still each begins after the one before it."""

    async def script(peer: Peer) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                await _no_content(peer)

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            for number in range(9):
                client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n" * 9)

    run(main())
    with Store.open(tmp_path) as store:
        assert [e.path for e in store.exchanges()] == [f"/{n}" for n in range(9)]


def test_a_request_without_a_host_gets_one(run: Run, tmp_path: Path) -> None:
    """HTTP/1.0 clients may leave it out; upstream it is HTTP/1.1."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await _no_content(peer))

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            await client.expect_end(b"HTTP/1.1 204 No Content\r\n\r\n")

    run(main())
    assert heads[0].startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:")


def test_a_recorder_that_stops_takes_no_more_requests(run: Run, tmp_path: Path) -> None:
    """What is open may end; a connection that is kept alive is not served again."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED)
        await go_on.wait()
        peer.send(b"0\r\n\r\n")
        await peer.read_all()

    async def main() -> None:
        async with upstream(script) as port:
            recorder = Recorder(f"http://127.0.0.1:{port}", store=tmp_path)
            await recorder.start()
            own = int(recorder.url.rpartition(":")[2])
            client = Peer(*await asyncio.open_connection("127.0.0.1", own))
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(CHUNKED)
            stopping = asyncio.create_task(recorder.stop(grace_s=10))
            await asyncio.sleep(0)
            client.send(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
            go_on.set()
            await client.expect_end(b"0\r\n\r\n")
            await stopping
            await client.close()

    run(main())
    with Store.open(tmp_path) as store:
        assert [e.outcome for e in store.exchanges()] == ["complete"]


def test_trailers_and_informational_responses_pass(run: Run, tmp_path: Path) -> None:
    """What comes before and after a response is a part of it."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    end = b"0\r\nX-Sum: 7\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(early + CHUNKED + chunk(PING) + end)
        await peer.read_all()

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(early + CHUNKED + chunk(PING) + end)

    run(main())
    exchange, _ = only(tmp_path)
    assert exchange.response_trailers == (("X-Sum", "7"),)


def test_an_upstream_that_is_not_there_is_a_502(run: Run, tmp_path: Path) -> None:
    """The client learns why in JSON, and the exchange is recorded."""

    async def main() -> None:
        async with upstream(_never) as port:
            pass  # nothing listens there any more
        recorder = Recorder(f"http://127.0.0.1:{port}", store=tmp_path)
        await recorder.start()
        own = int(recorder.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", own)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        writer.write(b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
        body, _, _ = (await reader.readuntil(b"HTTP/1.1 502")).rpartition(b"HTTP")
        assert json.loads(body)["error"]["type"] == "upstream_error"
        writer.close()
        await recorder.stop()

    run(main())
    with Store.open(tmp_path) as store:
        first, second = store.exchanges()
    assert {first.outcome, second.outcome} == {"upstream_error"}
    assert (first.status, first.request_body) == (None, b"hi")
    assert "refused" in (first.error or "")


@pytest.mark.parametrize(
    ("header", "rest", "body"),
    [
        (b"", b"llo", b"hello"),
        (b"", b"", b"he"),
        (b"Expect: 100-continue\r\n", b"", b""),
    ],
    ids=["late", "missing", "held back"],
)
def test_a_refused_request_is_recorded_whole_if_it_comes_soon(
    run: Run, tmp_path: Path, header: bytes, rest: bytes, body: bytes
) -> None:
    """Its body is on its way; who waits to be asked for it is not waited for."""

    async def main() -> None:
        recorder = Recorder("http://127.0.0.1:1", store=tmp_path)
        async with connected(recorder) as client:
            head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
            client.send(head + header + b"\r\n" + (b"he" if body else b""))
            await asyncio.sleep(0.1)
            client.send(rest)
            answer = await client.read_until(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 502 ")

    run(main())
    exchange, _ = only(tmp_path)
    assert exchange.outcome == "upstream_error"
    assert exchange.request_body == body


async def _never(_: Peer) -> None:
    raise AssertionError("nobody should have connected")


def test_what_is_open_when_the_recorder_stops_is_incomplete(
    run: Run, tmp_path: Path
) -> None:
    """A recorder that is told to stop says which exchanges it cut, and keeps them."""

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED + chunk(PING))
        await peer.read_all()

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(CHUNKED + chunk(PING))
            with Store.open(tmp_path) as store:
                while not list(store.exchanges("chunk_count = 1")):
                    await asyncio.sleep(0.05)
                    store.refresh()
                (exchange,) = store.exchanges()
                assert exchange.outcome is None

    run(main())
    exchange, body = only(tmp_path)
    assert (exchange.outcome, body) == ("incomplete", PING)
    assert exchange.error == "the recorder was stopped"


async def _no_content(peer: Peer) -> bytes:
    head = await peer.read_until(b"\r\n\r\n")
    peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    return head


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = b"GET / HTTP/1.1\r\nHost: a\r\nTraceparent: 00-%s-%s-01\r\n\r\n" % (
    TRACE.encode(),
    SPAN.encode(),
)


def test_spans_continue_the_clients_trace_and_go_upstream(
    run: Run, tmp_path: Path
) -> None:
    """With telemetry the upstream is told our span, whose parent is the client's."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await _no_content(peer))

    with otlp_receiver() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}

        async def main() -> None:
            telemetry = Telemetry.from_environment(environment)
            async with recording(script, tmp_path, telemetry=telemetry) as client:
                client.send(TRACED)
                await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")

        run(main())
        (span,) = receiver.spans(count=1)
    exchange, _ = only(tmp_path)
    sent = f"traceparent: 00-{TRACE}-{exchange.span_id}-01"
    assert sent.encode() in heads[0]
    assert SPAN.encode() not in heads[0]
    assert (exchange.trace_id, exchange.parent_span_id) == (TRACE, SPAN)
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == SPAN
    assert span.span_id.hex() == exchange.span_id
    assert attributes(span)["sse_recorder.exchange.id"] == exchange.exchange_id


def test_without_telemetry_the_clients_context_passes_unchanged(
    run: Run, tmp_path: Path
) -> None:
    """A recorder that exports nothing does not put itself into anybody's trace."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await _no_content(peer))

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(TRACED)
            await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")

    run(main())
    assert b"Traceparent: 00-%s-%s-01" % (TRACE.encode(), SPAN.encode()) in heads[0]


@pytest.mark.parametrize(
    ("flags", "propagate", "sent", "exported"),
    [
        ("01", [], "our span", True),
        ("01", ["passthrough"], "theirs", True),
        ("01", ["none"], "nothing", True),
        ("00", [], "theirs", False),
        ("00", ["none"], "nothing", False),
    ],
)
def test_an_upstream_is_told_of_traces_what_its_route_says(
    run: Run,
    tmp_path: Path,
    flags: str,
    propagate: list[str],
    sent: str,
    *,
    exported: bool,
) -> None:
    """The client's flag decides what is exported, whatever the upstream is told."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await _no_content(peer))

    with otlp_receiver() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}

        async def main() -> None:
            async with recording(
                script,
                tmp_path,
                telemetry=Telemetry.from_environment(environment),
                propagate=propagate,
            ) as client:
                client.send(TRACED.replace(b"-01", b"-" + flags.encode()))
                await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")

        run(main())
        assert len(receiver.spans(count=0)) == exported
    exchange, _ = only(tmp_path)
    assert (exchange.trace_id, exchange.parent_span_id) == (TRACE, SPAN)
    assert exchange.trace_flags == int(flags)
    value = {
        "our span": f"00-{TRACE}-{exchange.span_id}-{flags}",
        "theirs": f"00-{TRACE}-{SPAN}-{flags}",
        "nothing": None,
    }[sent]
    lines = heads[0].lower().split(b"\r\n")
    told = [
        line.partition(b": ")[2].decode() for line in lines if b"traceparent" in line
    ]
    assert told == ([] if value is None else [value])


@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
def test_the_ids_of_an_exchange_are_told_where_that_is_asked_for(
    run: Run, tmp_path: Path, *, is_up: bool
) -> None:
    """They are in the head of the response; the recording is of the upstream's."""

    async def script(peer: Peer) -> None:
        if is_up:
            await _no_content(peer)
        else:
            await peer.read_until(b"\r\n\r\n")
            peer.writer.transport.abort()

    answer = b""

    async def main() -> None:
        nonlocal answer
        async with recording(script, tmp_path, expose_ids=True) as client:
            client.send(TRACED)
            answer = await client.read_until(b"\r\n\r\n")

    run(main())
    exchange, _ = only(tmp_path)
    lines = answer.decode().split("\r\n")
    assert f"x-sse-recorder-exchange-id: {exchange.exchange_id}" in lines
    assert f"x-sse-recorder-trace-id: {TRACE}" in lines
    assert not [n for n, _ in exchange.response_headers if n.startswith("x-sse-")]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("reset", [False, True], ids=["eof", "reset"])
@pytest.mark.parametrize("parting", [b"", b"HTTP/1.1 2"], ids=["nothing", "half"])
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /again HTTP/1.1\r\nHost: a\r\n\r\n",
        b"DELETE /again HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT /again HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /again HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["GET", "DELETE", "PUT", "POST"],
)
def test_what_may_have_been_read_is_not_asked_again(
    run: Run, tmp_path: Path, request_bytes: bytes, parting: bytes, *, reset: bool
) -> None:
    """A kept connection that ends unanswered ends the client's in the same way."""
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.read_until(b"\r\n\r\n"))
        peer.send(OK)
        heads.append(await peer.read_until(b"\r\n\r\n"))
        if b"PUT" in request_bytes:
            await peer.expect(b"hello")
        peer.send(parting)
        if reset:
            reset_connection(cast("asyncio.Transport", peer.writer.transport))

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(OK)
            client.send(request_bytes)
            if reset:
                with pytest.raises(ConnectionResetError):
                    await client.read_all()
            else:
                await client.expect_end()

    run(main())
    assert len(heads) == 2
    with Store.open(tmp_path) as store:
        exchanges = list(store.exchanges())
    assert [e.outcome for e in exchanges] == ["complete", "upstream_error"]
    how = "reset: the upstream reset" if reset else "eof: the upstream closed"
    assert exchanges[1].error == f"{how} the connection before its response head"


def test_a_post_goes_on_a_new_connection_when_the_kept_one_has_ended(
    run: Run, tmp_path: Path
) -> None:
    """As long as nothing of it was sent, it may be sent wherever we like."""

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(OK)  # and close

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            for _ in range(5):
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                await client.expect(OK)
                await asyncio.sleep(0.01)

    run(main())
    with Store.open(tmp_path) as store:
        assert [e.outcome for e in store.exchanges()] == ["complete"] * 5


async def leave(client: Peer) -> None:
    """End a connection as a client does that loses interest."""
    client.writer.close()
    await client.writer.wait_closed()


@pytest.mark.parametrize("how", ["complete", "breaks", "stopped"])
def test_what_a_client_left_can_be_recorded_to_its_end(
    run: Run, tmp_path: Path, how: str
) -> None:
    """With `finish` the upstream does not notice, and the recording says who left."""
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED + chunk(PING))
        await left.wait()
        await asyncio.sleep(0.05)
        peer.send(chunk(PING))
        if how == "complete":
            peer.send(b"0\r\n\r\n")
        if how != "breaks":
            assert await peer.read_all() == b""  # it is closed when all is there

    async def main() -> None:
        options = {"on_client_abort": "finish"}
        async with recording(script, tmp_path, **options) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(CHUNKED + chunk(PING))
            await leave(client)
            left.set()

    run(main())
    exchange, body = only(tmp_path)
    assert (exchange.outcome, body) == ("client_abort", PING * 2)
    assert (
        exchange.error
        == {
            "complete": "the client left; the rest was recorded",
            "breaks": "the client left; then: eof: the upstream closed the connection"
            " before the end",
            "stopped": "the client left; then: the recorder was stopped",
        }[how]
    )


def test_what_a_paused_client_left_is_read_at_full_speed(
    run: Run, tmp_path: Path
) -> None:
    """Whoever is not there cannot hold the upstream up."""
    size = 32 << 20

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 20):
            peer.send(bytes(1 << 20))
            await peer.writer.drain()
        sent.set()

    sent = asyncio.Event()

    async def main() -> None:
        options = {"on_client_abort": "finish"}
        async with recording(script, tmp_path, **options) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.read_until(b"\r\n\r\n")
            await asyncio.sleep(0.2)
            assert not sent.is_set()
            await leave(client)
            async with asyncio.timeout(10):
                await sent.wait()

    run(main())
    exchange, _ = only(tmp_path)
    assert exchange.error == "the client left; the rest was recorded"
    assert exchange.response_size == size


def test_who_leaves_before_the_request_is_whole_ends_it(
    run: Run, tmp_path: Path
) -> None:
    """Half a request has no answer that would be worth waiting for."""

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED)
        await peer.expect(b"a")
        assert await peer.read_all() == b""
        closed.set()

    closed = asyncio.Event()

    async def main() -> None:
        options = {"on_client_abort": "finish"}
        async with recording(script, tmp_path, **options) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
            await client.expect(CHUNKED)
            await leave(client)
            async with asyncio.timeout(10):
                await closed.wait()

    run(main())
    exchange, _ = only(tmp_path)
    assert (exchange.outcome, exchange.error) == ("client_abort", "the client left")


def test_clients_need_the_room_of_what_finishes_alone(run: Run, tmp_path: Path) -> None:
    """Endless streams that were left are cut, the oldest first, and it is said why."""
    rest = asyncio.Event()
    cut: list[bytes] = []

    async def script(peer: Peer) -> None:
        head = await peer.read_until(b"\r\n\r\n")
        peer.send(CHUNKED + chunk(PING))
        assert await peer.read_all() == b""
        cut.append(head.split()[1])
        rest.set()

    async def main() -> None:
        async with upstream(script) as port:
            recorder = Recorder(
                f"http://127.0.0.1:{port}",
                store=tmp_path,
                on_client_abort="finish",
                http_limits=HttpLimits(connections=3),
            )
            await recorder.start()
            try:
                for number in range(4):
                    address = recorder.url.rpartition("/")[2].split(":")
                    client = Peer(*await asyncio.open_connection(*address))
                    client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
                    await client.expect(CHUNKED + chunk(PING))
                    await leave(client)
                    async with asyncio.timeout(10):
                        while recorder.stats().connections:  # noqa: ASYNC110
                            await asyncio.sleep(0.01)
                async with asyncio.timeout(10):
                    await rest.wait()
                assert cut == [b"/0"]
                assert len(recorder.finishing) == 3
            finally:
                await recorder.stop(grace_s=0)

    run(main())
    with Store.open(tmp_path) as store:
        exchanges = list(store.exchanges())
    assert {e.outcome for e in exchanges} == {"client_abort"}
    assert exchanges[0].error == (
        "the client left; then: it was cut, for its connection was needed"
    )


@pytest.mark.parametrize("how", ["head", "body", "upload", "interim"])
def test_an_upstream_may_be_silent_for_so_long(
    run: Run, tmp_path: Path, how: str
) -> None:
    """Beyond the limit there is a 504, or the end of a stream that has begun."""
    begun = CHUNKED + chunk(PING)

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        if how == "interim":
            for _ in range(6):
                peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
                await asyncio.sleep(0.1)
        if how in {"body", "interim"}:
            peer.send(begun)
        if how == "upload":
            await stopped.wait()
            return
        assert await peer.read_all() == b""

    async def main() -> None:
        async with recording(script, tmp_path, upstream_timeout_s=0.3) as client:
            if how == "upload":
                # The upstream does not read, and it is not the client who waits.
                size = 64 << 20
                length = b"Content-Length: %d\r\n\r\n" % size
                client.send(b"PUT / HTTP/1.1\r\nHost: a\r\n" + length + bytes(size))
            else:
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            if how == "interim":
                await client.expect(b"HTTP/1.1 102 Processing\r\n\r\n" * 6)
            if how in {"body", "interim"}:
                await client.expect_end(begun)
            else:
                await client.expect(b"HTTP/1.1 504 Gateway Timeout\r\n")
            stopped.set()

    stopped = asyncio.Event()
    run(main())
    exchange, _ = only(tmp_path)
    assert exchange.outcome == "timeout"
    assert (exchange.error or "").endswith("the upstream was silent for 0.3 s")


def test_a_slow_client_is_not_a_silent_upstream(run: Run, tmp_path: Path) -> None:
    """Neither while it sends nor while it reads."""
    size = 32 << 20

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        await peer.expect(b"ab")
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        peer.send(bytes(size))
        await peer.writer.drain()
        await peer.read_all()

    async def main() -> None:
        async with recording(script, tmp_path, upstream_timeout_s=0.2) as client:
            length = b"Content-Length: 2\r\n\r\n"
            client.send(b"PUT / HTTP/1.1\r\nHost: a\r\n" + length + b"a")
            await asyncio.sleep(0.6)
            client.send(b"b")
            await client.read_until(b"\r\n\r\n")
            await asyncio.sleep(0.6)
            await client.expect(bytes(size))

    run(main())
    exchange, _ = only(tmp_path)
    assert exchange.outcome == "complete"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what timers run")
def test_peers_that_are_lost_are_noticed(run: Run, tmp_path: Path) -> None:
    """While a stream is silent, the kernel asks both sides whether they are there."""
    answered = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        ports.append(peer.writer.get_extra_info("peername")[1])
        peer.send(CHUNKED + chunk(PING))
        await answered.wait()

    async def main() -> None:
        async with recording(script, tmp_path) as client:
            ports.append(client.writer.get_extra_info("peername")[1])
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.expect(CHUNKED + chunk(PING))
            own = client.writer.get_extra_info("sockname")[1]
            seconds = [keepalive_timer(ports[0], own), keepalive_timer(ports[1])]
            answered.set()
            assert all(50 < s <= 60 for s in seconds), seconds

    ports: list[int] = []
    run(main())


def keepalive_timer(local: int, remote: int | None = None) -> float:
    """Return after how many seconds the kernel will probe a connection; 0 for never."""
    for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = row.split()
        own, peer = (int(x.rpartition(":")[2], 16) for x in fields[1:3])
        if own == local and fields[3] == "01" and remote in {None, peer}:
            kind, ticks = fields[5].split(":")
            return int(ticks, 16) / 100 if kind == "02" else 0
    raise AssertionError(f"no connection at port {local}")


def test_the_limits_of_clients_are_the_recorders(run: Run, tmp_path: Path) -> None:
    """What is refused for its size is neither forwarded nor recorded."""

    async def main() -> None:
        limits = HttpLimits(headers=5)
        async with recording(_never, tmp_path, http_limits=limits) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5 + b"\r\n")
            await client.expect(b"HTTP/1.1 431 ")

    run(main())
    with Store.open(tmp_path) as store:
        assert list(store.exchanges()) == []


# --- routes ---------------------------------------------------------------------------


class Api:
    """An upstream that answers each request with 204, and keeps its first line."""

    def __init__(self) -> None:
        self.connections = 0
        self.asked: list[str] = []
        self.hosts: list[str] = []
        self.closed = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        """Serve one connection."""
        self.connections += 1
        with suppress(asyncio.IncompleteReadError):
            while True:
                lines = (await peer.read_until(b"\r\n\r\n")).decode().split("\r\n")
                self.asked.append(lines[0].removesuffix(" HTTP/1.1"))
                self.hosts += [x[6:] for x in lines if x.startswith("Host: ")]
                peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.closed.set()


@asynccontextmanager
async def connected(recorder: Recorder) -> AsyncIterator[Peer]:
    """Run a recorder, and connect to it."""
    await recorder.start()
    host, _, port = recorder.url.rpartition("//")[2].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Peer(reader, writer)
    finally:
        await recorder.stop(grace_s=0.2)
        writer.transport.abort()


async def ask(client: Peer, target: str, method: str = "GET") -> None:
    """Ask for something, and read that it is not there."""
    client.send(f"{method} {target} HTTP/1.1\r\nHost: proxy\r\n\r\n".encode())
    await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")


def test_each_route_has_a_connection_of_its_own(run: Run, tmp_path: Path) -> None:
    """One for each server that a client's connection asks for; all end with it."""
    one, other = Api(), Api()
    ports: list[int] = []

    async def main() -> None:
        async with upstream(one) as port_one, upstream(other) as port_other:
            ports.extend([port_one, port_other])
            recorder = Recorder(
                f"http://127.0.0.1:{port_one}/base",
                routes={
                    "/other": f"http://127.0.0.1:{port_other}/v1",
                    "/one": f"http://127.0.0.1:{port_one}",
                },
                store=tmp_path,
                tags={"run": "42"},
            )
            async with connected(recorder) as client:
                for path in ("/a?b", "/other/c?d", "/one/e", "/other"):
                    await ask(client, path)
                await ask(client, "http://elsewhere/other/f")
                client.writer.close()
                async with asyncio.timeout(10):
                    await one.closed.wait()
                    await other.closed.wait()

    run(main())
    assert (one.connections, other.connections) == (1, 1)
    assert one.asked == ["GET /base/a?b", "GET /e"]
    assert other.asked == ["GET /v1/c?d", "GET /v1", "GET /v1/f"]
    assert set(one.hosts) == {f"127.0.0.1:{ports[0]}"}
    assert set(other.hosts) == {f"127.0.0.1:{ports[1]}"}
    with Store.open(tmp_path) as store:
        exchanges = list(store.exchanges())
    assert [(x.path, x.received_path) for x in exchanges] == [
        ("/base/a", "/a"),
        ("/v1/c", "/other/c"),
        ("/e", "/one/e"),
        ("/v1", "/other"),
        ("/v1/f", "/other/f"),
    ]
    assert exchanges[1].url == f"http://127.0.0.1:{ports[1]}/v1/c?d"
    assert all(x.tags == {"run": "42"} for x in exchanges)


def test_what_no_route_takes_is_told_which_there_are(run: Run, tmp_path: Path) -> None:
    """It is counted, not recorded, and the connection goes on."""
    api, heads = Api(), list[bytes]()
    bodies: list[Any] = []
    recorders: list[Recorder] = []

    async def main() -> None:
        async with upstream(api) as port:
            routes = {"/b": f"http://127.0.0.1:{port}", "/a": "http://127.0.0.1:1"}
            recorders.append(Recorder(routes=routes, store=tmp_path))
            async with connected(recorders[0]) as client:
                client.send(
                    b"POST /bc HTTP/1.1\r\nHost: p\r\nContent-Length: 3\r\n\r\nabc"
                )
                heads.append(await client.read_until(b"\r\n\r\n"))
                bodies.append(json.loads(await client.read_until(b"}\n}\n")))
                await ask(client, "/b/c")
                client.send(b"GET / HTTP/1.1\r\n\r\n")
                await client.read_until(b"\r\n\r\n")

    run(main())
    assert heads[0].startswith(b"HTTP/1.1 404 ")
    assert bodies[0]["error"]["type"] == "no_route"
    assert "begin the path with /a or /b" in bodies[0]["error"]["message"]
    counts = recorders[0].stats().refused_requests
    assert counts == {"no_route": 1, "bad_request": 1}
    assert only(tmp_path)[0].path == "/c"
    assert api.asked == ["GET /c"]


def test_a_recorder_counts_what_goes_through(run: Run, tmp_path: Path) -> None:
    """Open exchanges count as they go, and those that are over by how they ended."""
    goes_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\nhello")
        peer.send(CHUNKED + chunk(PING))
        await goes_on.wait()
        peer.send(chunk(PING) + b"0\r\n\r\n")

    async def main() -> None:
        async with upstream(script) as port:
            recorder = Recorder(f"http://127.0.0.1:{port}", store=tmp_path)
            async with connected(recorder) as client:
                assert recorder.stats().exchanges == {}
                request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
                client.send(request + b"hello")
                await client.expect(CHUNKED + chunk(PING))
                open_ = recorder.stats()
                goes_on.set()
                await client.expect(chunk(PING) + b"0\r\n\r\n")
                over = recorder.stats()
        assert (open_.open_exchanges, open_.connections, open_.exchanges) == (1, 1, {})
        assert (open_.request_bytes, open_.response_bytes) == (5, len(PING))
        assert (over.open_exchanges, over.exchanges) == (0, {"complete": 1})
        assert (over.request_bytes, over.response_bytes) == (5, 2 * len(PING))
        assert over.problems == ()
        assert recorder.stats().seals == 1

    run(main())
    assert only(tmp_path)[0].outcome == "complete"


def test_bodies_of_any_size_pass_through_bounded_buffers(
    run: Run, tmp_path: Path
) -> None:
    """64 MB go up and come back at once, past peers that are slower than we are."""
    size, step = 64 << 20, 1 << 18
    body = bytes(range(256)) * (step // 256)
    sizes: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            data = await peer.reader.read(step)
            left -= len(data)
            peer.send(data)
            await peer.writer.drain()
            await asyncio.sleep(0)

    async def send(client: Peer) -> None:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // step):
            client.send(body)
            await client.writer.drain()

    async def watch(recorder: Recorder) -> None:
        while True:
            for relay in recorder.relays:
                assert relay._upstream is not None
                sizes.append(relay._upstream.buffered)
                assert isinstance(relay._stream, ResponseStream)
                sizes.append(relay._stream.buffered)
            await asyncio.sleep(0.001)

    async def main() -> None:
        async with upstream(script) as port:
            recorder = Recorder(f"http://127.0.0.1:{port}", store=tmp_path)
            await recorder.start()
            own = int(recorder.url.rpartition(":")[2])
            client = Peer(*await asyncio.open_connection("127.0.0.1", own))
            sending = asyncio.create_task(send(client))
            await client.read_until(b"\r\n\r\n")
            watching = asyncio.create_task(watch(recorder))
            for _ in range(size // step):
                assert await client.reader.readexactly(step) == body
            await sending
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await client.close()
            await recorder.stop(grace_s=0.2)

    run(main())
    # What may wait, and the read that found that it was too much.
    assert 0 < max(sizes) <= (64 << 10) + (256 << 10)
