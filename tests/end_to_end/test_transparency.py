"""What one side sends, the other side gets: raw bytes through a recorder.

Each case is one exchange between two plain sockets.  `AUTHORITY` stands for what a
`Host` header holds, which is another one on each side.
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import until_on_disk

from sse_recorder import Recorder, Store, running

AUTHORITY = b"@"
HOST = b"Host: @\r\n"
GET = b"GET / HTTP/1.1\r\nHost: @\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CODED = gzip.compress(b"data: x\n\n", mtime=0)
LONG = b"y" * 60_000


@dataclass(frozen=True)
class Case:
    """One exchange: what each side sends, and what the other is to get."""

    name: str
    request: bytes = GET
    seen: bytes = b""  # by the upstream; what was sent, where it is empty
    response: bytes = OK
    got: bytes = b""  # by the client; what was sent, where it is empty
    ends: bool = False  # the upstream ends its connection, and so the response


def get(*headers: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    """Return a request with some headers."""
    return b"\r\n".join([line, b"Host: @", *headers, b"", b""])


def answer(*headers: bytes, line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """Return a response with some headers and two bytes of body."""
    return b"\r\n".join([line, *headers, b"Content-Length: 2", b"", b"ok"])


def line(target: bytes, method: bytes = b"GET") -> bytes:
    """Return a request for a target."""
    return get(line=method + b" " + target + b" HTTP/1.1")


REQUESTS = [
    Case("nothing is added"),
    Case("order, case and duplicates", get(b"x-B: 2", b"X-a: 1", b"X-B: 3", b"x-b: 2")),
    Case("Host not first", b"GET / HTTP/1.1\r\nX: 1\r\nhOST: @\r\nY: 2\r\n\r\n"),
    Case("an empty value", get(b"X: ", b"Y: 1")),
    Case(
        "white space around values",
        get(b"X:1", b"Y: \t 2 3\t "),
        get(b"X: 1", b"Y: 2 3"),
    ),
    Case("values beyond ASCII", get(b"X: \x80\xff \xc3\xa9")),
    Case("a tab inside a value", get(b"X: a\tb")),
    Case("a long line", get(b"Authorization: Bearer " + LONG)),
    Case("odd names", get(b"!#$%&'*+-.^_`|~9: 1")),
    Case("codings that are asked for", get(b"Accept-Encoding: gzip, br;q=0.5, *;q=0")),
    Case("a path as it is", line(b"/a//b/../c/./%7e%2F%2f;p=1/?q=a%20b+c&q=&x?y#z")),
    Case("a query without a path", line(b"/?")),
    Case("odd characters", line(b'/a"<>\\^`{|}')),
    Case("the absolute form", line(b"http://h:1/a?b"), line(b"/a?b")),
    Case("the absolute form without a path", line(b"HTTP://h"), line(b"/")),
    Case("OPTIONS for the server", line(b"*", b"OPTIONS")),
    *[
        Case(f"method {method.decode()}", line(b"/", method))
        for method in (
            b"DELETE",
            b"PATCH",
            b"PROPFIND",
            b"PURGE",
            b"M-SEARCH",
            b"TRACE",
        )
    ],
    Case(
        "a body with a length",
        get(b"Content-Length: 5", line=b"POST / HTTP/1.1") + b"hello",
    ),
    Case("a body of no length", get(b"Content-Length: 0", line=b"POST / HTTP/1.1")),
    Case("a body of a GET", get(b"Content-Length: 2") + b"hi"),
    Case(
        "chunks with trailers",
        get(b"transfer-encoding: Chunked", b"Trailer: X-Sum", line=b"PUT / HTTP/1.1")
        + b"5\r\nhello\r\n0\r\nX-Sum: 5\r\nx-sum: 6\r\n\r\n",
    ),
    Case(
        "chunks that come together, with extensions",
        get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.1")
        + b"0005;a=b\r\nhello\r\n1\r\n!\r\n00\r\n\r\n",
        get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.1")
        + b"6\r\nhello!\r\n0\r\n\r\n",
    ),
    Case(
        "headers of the connection",
        get(
            b"Connection: X-Mine, keep-alive , x-other",
            b"X-Mine: 1",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"X-Yours: 2",
            b"Proxy-Authorization: Basic YTpi",
        ),
        get(b"Connection: keep-alive", b"X-Yours: 2"),
    ),
    Case(
        "framing is not of the connection",
        get(b"Connection: Content-Length, Host", b"Content-Length: 2") + b"hi",
        get(b"Content-Length: 2") + b"hi",
    ),
    Case(
        "an offer to switch to HTTP/2",
        get(
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABk",
            b"X: 1",
        ),
        get(b"X: 1"),
    ),
    Case("trailers are welcome", get(b"Connection: TE", b"TE: trailers")),
    Case(
        "other codings are not",
        get(b"Connection: TE, close", b"TE: trailers, deflate;q=0.5"),
        get(b"Connection: close, TE", b"TE: trailers"),
        response=answer(b"Connection: close"),
    ),
    Case(
        "HTTP/1.0",
        b"GET / HTTP/1.0\r\nX: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: @\r\nX: 1\r\n\r\n",
    ),
    Case("a word with the upstream", get(b"Expect: 100-continue")),
]

RESPONSES = [
    Case(
        "order, case and duplicates",
        response=answer(b"SET-Cookie: a", b"x: 1", b"Set-cookie: b"),
    ),
    Case("values beyond ASCII", response=answer(b"X: \xe9\xff", b"Y: a\tb")),
    Case("an empty value", response=answer(b"X: ")),
    Case("a long line", response=answer(b"X: " + LONG)),
    Case("its date and its server", response=answer(b"Date: yesterday", b"Server: x")),
    Case("another reason", response=answer(line=b"HTTP/1.1 200 Ausgezeichnet, \xe4h")),
    Case("an empty reason", response=answer(line=b"HTTP/1.1 200 ")),
    *[
        Case(f"status {status}", response=answer(line=b"HTTP/1.1 %d X" % status))
        for status in (201, 206, 299, 301, 401, 422, 429, 500, 503, 599)
    ],
    Case("no body", response=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    Case("status 204", response=b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"),
    Case(
        "status 304", response=b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
    ),
    Case(
        "the length of a HEAD",
        line(b"/", b"HEAD"),
        response=b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
    ),
    Case(
        "the chunks of a HEAD",
        line(b"/", b"HEAD"),
        response=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    Case("chunks", response=CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"),
    Case(
        "trailers",
        response=CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 5\r\nx-SUM: \xff\r\n\r\n",
    ),
    Case(
        "chunks that come together, with extensions",
        response=CHUNKED + b"05;a=b\r\nhello\r\n1;c\r\n!\r\n000\r\n\r\n",
        got=CHUNKED + b"6\r\nhello!\r\n0\r\n\r\n",
    ),
    Case(
        "a coded body",
        response=b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(CODED) + CODED,
    ),
    Case(
        "a body that its connection ends",
        response=b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall there is",
        ends=True,
    ),
    Case(
        "HTTP/1.0",
        response=b"HTTP/1.0 200 OK\r\n\r\nall there is",
        got=b"HTTP/1.1 200 OK\r\n\r\nall there is",
        ends=True,
    ),
    Case(
        "chunks for HTTP/1.0",
        b"GET / HTTP/1.0\r\nHost: @\r\n\r\n",
        GET,
        response=CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        got=b"HTTP/1.1 200 OK\r\n\r\nhello",
    ),
    Case("that it is the last", response=answer(b"Connection: close"), ends=True),
    Case(
        "headers of the connection",
        response=answer(b"Connection: X-Mine", b"X-Mine: 1", b"Keep-Alive: timeout=5"),
        got=answer(),
    ),
    *[
        Case(f"status {first.decode()} before it", response=first_head + OK)
        for first in (b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 X")
        for first_head in [
            b"HTTP/1.1 %b\r\nLink: </a>; x=y\r\nlink: </b>\r\n\r\n" % first
        ]
    ],
    Case(
        "sizes of chunks with spaces",
        response=CHUNKED + b"5  \r\nhello\r\n0 \r\n\r\n",
        got=CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    ),
    Case(
        "its length twice",
        response=answer(b"Content-Length: 2", b"X: 1"),
        got=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\n\r\nok",
    ),
    Case(
        "two framings",
        response=CHUNKED.replace(b"\r\n", b"\r\nContent-Length: 2\r\n", 1)
        + b"5\r\nhello\r\n0\r\n\r\n",
        got=CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    ),
    Case(
        "bare line feeds",
        response=answer(b"X: 1").replace(b"\r\n", b"\n"),
        got=answer(b"X: 1"),
    ),
    Case(
        "a folded line",
        response=answer(b"X: 1\r\n 2"),
        got=answer(b"X: 1 2"),
    ),
    Case("a large head", response=answer(*[b"X: " + LONG] * 4)),
    Case(
        "several before it",
        response=b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + b"HTTP/1.1 103 X\r\n\r\n" + OK,
    ),
]


class Wire:
    """A recorder, and the socket on which its upstream is awaited."""

    def __init__(self, listener: socket.socket, recorder: Recorder) -> None:
        self.listener = listener
        self.upstream = b"127.0.0.1:%d" % listener.getsockname()[1]
        self.own = ("127.0.0.1", int(recorder.url.rpartition(":")[2]))

    @contextmanager
    def client(self) -> Iterator[socket.socket]:
        """Connect to the recorder."""
        with socket.create_connection(self.own, timeout=10) as client:
            yield client

    @contextmanager
    def accepted(self) -> Iterator[socket.socket]:
        """Take the recorder's connection to its upstream."""
        upstream, _ = self.listener.accept()
        with upstream:
            upstream.settimeout(10)
            yield upstream


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the cases are recorded."""
    return tmp_path_factory.mktemp("transparency")


@pytest.fixture(scope="module")
def wire(store: Path) -> Iterator[Wire]:
    """Run a recorder for all cases."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with running(Recorder(url, store=store)) as recorder:
            yield Wire(listener, recorder)


def expect(sock: socket.socket, data: bytes) -> None:
    """Read exactly these bytes."""
    got = b""
    while len(got) < len(data) and (more := sock.recv(len(data) - len(got))):
        got += more
    assert got == data


@pytest.mark.parametrize(
    "case",
    [
        *[pytest.param(case, id=f"request: {case.name}") for case in REQUESTS],
        *[pytest.param(case, id=f"response: {case.name}") for case in RESPONSES],
    ],
)
def test_what_one_side_sends_the_other_side_gets(wire: Wire, case: Case) -> None:
    """Byte for byte, but for what RFC 9110 and 9112 have an intermediary change."""
    with wire.client() as client:
        client.sendall(case.request.replace(AUTHORITY, b"recorder.example:8787"))
        with wire.accepted() as upstream:
            seen = (case.seen or case.request).replace(AUTHORITY, wire.upstream)
            expect(upstream, seen)
            upstream.sendall(case.response)
            if case.ends:
                upstream.shutdown(socket.SHUT_WR)
            expect(client, case.got or case.response)
            if case.ends:
                assert client.recv(1) == b""
            client.shutdown(socket.SHUT_WR)
            assert upstream.recv(1) == b""  # nothing else came, and it ends as well
        assert client.recv(1) == b""


def test_a_body_waits_for_the_upstreams_100(wire: Wire) -> None:
    """`Expect` and its answer are between the two; the recorder says nothing itself."""
    head = get(b"Expect: 100-continue", b"Content-Length: 2", line=b"PUT / HTTP/1.1")
    with wire.client() as client:
        client.sendall(head.replace(AUTHORITY, b"a"))
        with wire.accepted() as upstream:
            expect(upstream, head.replace(AUTHORITY, wire.upstream))
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(10)
            upstream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            expect(client, b"HTTP/1.1 100 Continue\r\n\r\n")
            client.sendall(b"hi")
            expect(upstream, b"hi")
            upstream.sendall(OK)
            expect(client, OK)


def test_a_refused_expectation_never_gets_its_body(wire: Wire) -> None:
    """A 417 instead of the 100 passes, and the connection ends on both sides."""
    head = get(b"Expect: 100-continue", b"Content-Length: 2", line=b"PUT / HTTP/1.1")
    refusal = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"
    with wire.client() as client:
        client.sendall(head.replace(AUTHORITY, b"a"))
        with wire.accepted() as upstream:
            expect(upstream, head.replace(AUTHORITY, wire.upstream))
            upstream.sendall(refusal)
            expect(client, refusal)
            assert client.recv(1) == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        get(
            b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"
        ),
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    ],
    ids=["websocket", "tunnel"],
)
def test_what_is_not_http_any_more_is_refused(wire: Wire, request_bytes: bytes) -> None:
    """The client is told that it is not supported, and the upstream is not bothered."""
    with wire.client() as client:
        client.sendall(request_bytes.replace(AUTHORITY, b"a"))
        expect(client, b"HTTP/1.1 501 Not Implemented\r\n")
    wire.listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        wire.listener.accept()
    wire.listener.settimeout(10)


def test_a_switch_that_nobody_asked_for_is_a_502(wire: Wire) -> None:
    """101 is not passed on: neither side could use what follows."""
    with wire.client() as client:
        client.sendall(GET.replace(AUTHORITY, b"a"))
        with wire.accepted() as upstream:
            expect(upstream, GET.replace(AUTHORITY, wire.upstream))
            upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
            expect(client, b"HTTP/1.1 502 Bad Gateway\r\n")
            assert upstream.recv(1) == b""


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (b"", b"HTTP/1.1 502 Bad Gateway\r\n"),
        (b"HTTP/1.1 20", b"HTTP/1.1 502 Bad Gateway\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 502 Bad Gateway\r\n"),
        (OK[:-1], OK[:-1]),
        (CHUNKED + b"5\r\nhel", CHUNKED + b"3\r\nhel\r\n"),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", CHUNKED + b"5\r\nhello\r\n"),
    ],
)
@pytest.mark.parametrize("reset", [False, True], ids=["eof", "reset"])
def test_a_response_breaks_as_the_upstreams_broke(
    wire: Wire, sent: bytes, got: bytes, *, reset: bool
) -> None:
    """After the same bytes, in order or by a reset; before a head there is a 502."""
    with wire.client() as client:
        client.sendall(GET.replace(AUTHORITY, b"a"))
        with wire.accepted() as upstream:
            expect(upstream, GET.replace(AUTHORITY, wire.upstream))
            upstream.sendall(sent)
            if got == sent or b"chunked" in got:
                expect(client, got)  # before the reset, which would overtake it
            if reset:
                linger = (1).to_bytes(4, "little") + bytes(4)
                upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if b"502" in got:
            expect(client, got)
        elif reset:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            assert client.recv(1) == b""


def test_the_recording_holds_what_was_sent(wire: Wire, store: Path) -> None:
    """Headers are recorded as they were: order, case, duplicates and odd bytes."""
    request = line(b"/what-was-sent")[:-2] + b"x-B: \xff\r\nX-b: 2\r\n\r\n"
    with wire.client() as client:
        client.sendall(request.replace(AUTHORITY, b"a"))
        with wire.accepted() as upstream:
            expect(upstream, request.replace(AUTHORITY, wire.upstream))
            upstream.sendall(answer(b"X: \xe9", b"x: 2"))
            expect(client, answer(b"X: \xe9", b"x: 2"))
    wanted = "path = '/what-was-sent' AND outcome IS NOT NULL"
    until_on_disk(store, wanted)
    with Store.open(store) as opened:
        (exchange,) = opened.exchanges(wanted)
    assert exchange.request_headers[1:] == (("x-B", "\xff"), ("X-b", "2"))
    assert exchange.response_headers[:2] == (("X", "\xe9"), ("x", "2"))
