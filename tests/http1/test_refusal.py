"""Which requests are refused, on the wire."""

from __future__ import annotations

import json

import pytest
from http1.wire import (
    GET,
    App,
    Run,
    answer_nothing,
    ok,
    peer_of,
    serving,
)

from sse_recorder.exchange import Headers, RequestHead
from sse_recorder.http1.limits import Limits
from sse_recorder.http1.refusal import (
    KINDS,
    METHODS,
    Refusal,
    check_request,
    failed,
    malformed,
    too_large,
    too_many,
    too_slow,
)

HOST = b"Host: a\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def get(headers: bytes) -> bytes:
    """Return a request with these lines after its Host."""
    return b"GET / HTTP/1.1\r\n" + HOST + headers + b"\r\n"


MALFORMED: dict[str, bytes] = {
    "not HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    # The request line.
    "method beyond ASCII": b"G\xcbT / HTTP/1.1\r\n" + HOST + b"\r\n",
    "white space before the method": b" GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab after the method": b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "target": b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "target beyond ASCII": b"GET /\xe9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "query beyond ASCII": b"GET /?\xe9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "target with a tab": b"GET /a\tb HTTP/1.1\r\n" + HOST + b"\r\n",
    "target without a slash": b"GET a HTTP/1.1\r\n" + HOST + b"\r\n",
    "target of OPTIONS": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "white space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "white space after the version": b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n",
    "version in lower case": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "version 1.10": b"GET / HTTP/1.10\r\n" + HOST + b"\r\n",
    "version 01.1": b"GET / HTTP/01.1\r\n" + HOST + b"\r\n",
    # Host.
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": get(b"host: a\r\n"),
    "two hosts in 1.0": b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n",
    "hosts in a list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host beyond ASCII": b"GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n",
    "host with a word as port": b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
    # Lines.
    "folded line": get(b"X: a\r\n b\r\n"),
    "folded with a tab": get(b"X: a\r\n\tb\r\n"),
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare line feed after the request line": b"GET / HTTP/1.1\n" + HOST + b"\r\n",
    "bare line feed in a header": get(b"X: a\nY: b\r\n"),
    "bare line feed at the end": b"GET / HTTP/1.1\r\n" + HOST + b"\n",
    "bare carriage return": get(b"X: a\rb\r\n"),
    "bare carriage returns": b"GET / HTTP/1.1\rHost: a\r\r",
    "two carriage returns": get(b"X: a\r\r\n"),
    "NUL": get(b"X: a\0b\r\n"),
    "control": get(b"X: a\x01b\r\n"),
    "DEL": get(b"X: a\x7fb\r\n"),
    "form feed": get(b"X: a\x0cb\r\n"),
    "space before the colon": get(b"X : a\r\n"),
    "tab before the colon": get(b"X\t: a\r\n"),
    "space before the first header": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "space in a name": get(b"X Y: a\r\n"),
    "no name": get(b": a\r\n"),
    "no colon": get(b"X\r\n"),
    "NUL in a name": get(b"X\0: a\r\n"),
    "name beyond ASCII": get(b"X\xe9: a\r\n"),
    "name with brackets": get(b"X[y]: a\r\n"),
    # Two framings, and lengths.
    "both framings": POST + b"Content-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both framings, turned round": POST + b"Transfer-Encoding: chunked\r\n"
    b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "both framings, with nothing": POST + b"Content-Length: 0\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "two equal lengths": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "length of a list": POST + b"Content-Length: 1, 1\r\n\r\na",
    "length below zero": POST + b"Content-Length: -1\r\n\r\n",
    "length with a plus": POST + b"Content-Length: +1\r\n\r\na",
    "length in hexadecimal": POST + b"Content-Length: 0x1\r\n\r\na",
    "length in octal": POST + b"Content-Length: 010\r\n\r\n0123456789",
    "length in two words": POST + b"Content-Length: 1 1\r\n\r\na",
    "length of nothing": POST + b"Content-Length:\r\n\r\n",
    "length too large": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    # Transfer codings.
    "chunks not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "chunks and identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "chunks twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
    "chunks in two lines": POST + b"Transfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks with a comma": POST + b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "chunks after a control": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "chunks on a folded line": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n",
    "chunks before a space and a colon": POST + b"Transfer-Encoding : chunked\r\n\r\n",
    "no coding": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}
NOT_IMPLEMENTED: dict[str, bytes] = {
    name: POST + b"Transfer-Encoding: " + value + b"\r\n\r\n0\r\n\r\n"
    for name, value in {
        "another name": b"xchunked",
        "identity": b"identity",
        "two codings": b"gzip, chunked",
        "identity and chunks": b"identity, chunked",
        "two lines": b"identity\r\nTransfer-Encoding: chunked",
        "comma": b",chunked",
        "parameter": b"chunked;q=1",
        "two words": b"x chunked",
        "quotes": b'"chunked"',
        "space beyond ASCII": b"chunked\xa0",
    }.items()
}
MALFORMED_BODIES: dict[str, bytes] = {
    "hexadecimal as in C": b"0x5\r\nhello\r\n",
    "plus": b"+5\r\nhello\r\n",
    "minus": b"-1\r\nhello\r\n",
    "space before": b" 5\r\nhello\r\n",
    "space after": b"5 \r\nhello\r\n",
    "tab after": b"5\t\r\nhello\r\n",
    "two sizes": b"5 5\r\nhello\r\n",
    "overflow": b"10000000000000005\r\nhello\r\n",
    "no size": b"\r\nhello\r\n",
    "extension without a name": b"5;\r\nhello\r\n",
    "extension without a size": b";a=b\r\nhello\r\n",
    "extension after a space": b"5 ;a=b\r\nhello\r\n",
    "extension with a line feed": b"5;a\nb\r\nhello\r\n",
    "extension with a carriage return": b"5;a\rb\r\nhello\r\n",
    "extension with a NUL": b"5;a\0b\r\nhello\r\n",
    "extension with an open quote": b'5;a="\r\nhello\r\n',
    "extension beyond ASCII": b"5;a=\xff\r\nhello\r\n",
    "line feed after the size": b"5\nhello\r\n",
    "carriage return after the size": b"5\rhello\r\n",
    "line feed after the data": b"5\r\nhello\n",
    "nothing after the data": b"5\r\nhello0\r\n\r\n",
    "more data than its size": b"5\r\nhello more\r\n",
    "line feeds at the end": b"0\n\n",
    "line feed after the last chunk": b"0\r\n\n",
    "length in the trailers": b"0\r\nContent-Length: 5\r\n\r\n",
    "coding in the trailers": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "host in the trailers": b"0\r\nhost: b\r\n\r\n",
    "connection in the trailers": b"0\r\nConnection: X\r\n\r\n",
    "space in the name of a trailer": b"0\r\nX Y: b\r\n\r\n",
}
LENIENT: dict[str, tuple[bytes, str]] = {
    "empty lines before": (b"\r\n\r\n" + get(b""), "GET /"),
    "two spaces": (b"GET  /  HTTP/1.1\r\n" + HOST + b"\r\n", "GET /"),
    "no host in 1.0": (b"GET / HTTP/1.0\r\n\r\n", "GET /"),
    "empty host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET /"),
    "host of a number": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET /"),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", "OPTIONS *"),
    "what RFC 3986 forbids": (
        b'GET /a"<>\\^`{|}#b HTTP/1.1\r\n' + HOST + b"\r\n",
        'GET /a"<>\\^`{|}#b',
    ),
    "chunks in capitals": (
        POST + b"transfer-ENCODING:\tCHUNKED \r\n\r\n0\r\n\r\n",
        "POST /",
    ),
    "chunks of a GET": (get(b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", "GET /"),
    "zeros as the last chunk": (CHUNKED + b"000\r\n\r\n", "POST /"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_answered_400(run: Run, name: str) -> None:
    """What is not HTTP/1.1 gets JSON that says why, and the connection closes."""

    async def main() -> None:
        app = App()
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(MALFORMED[name] + GET % b"smuggled")
            head, _, body = (await peer.read_all()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"\r\nConnection: close" in head
            assert b"\r\nContent-Length: %d" % len(body) in head
            error = json.loads(body)["error"]
            assert error["type"] == "bad_request"
            assert error["message"].startswith("The request is not valid HTTP/1.1: ")
            assert app.received == []
            assert server.open_streams == 0

    run(main())


@pytest.mark.parametrize("method", [b"FOO", b"get", b"X-Y"])
@pytest.mark.parametrize("kept", [False, True])
def test_other_methods_are_answered_501(run: Run, method: bytes, *, kept: bool) -> None:
    """They may be of an extension: the answer says which ones are known."""

    async def main() -> None:
        app = App()
        async with serving(app) as server, peer_of(server) as peer:
            if kept:
                peer.send(GET % b"1")
                await peer.expect(ok(b"/1 "))
            peer.send(method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = await peer.read_all()
            assert answer.startswith(b"HTTP/1.1 501 Not Implemented\r\n")
            assert b"The method %b is not supported: " % method in answer
            assert b"PATCH" in answer
            assert len(app.received) == kept

    run(main())


def test_the_methods_that_are_known_are_served(run: Run) -> None:
    """What the answer to others says is so."""

    async def main() -> None:
        app = App()
        async with serving(app) as server:
            for method in set(METHODS) - {"CONNECT", "HEAD"}:
                async with peer_of(server) as peer:
                    peer.send(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method.encode())
                    await peer.expect(ok(b"/ "))

    run(main())


def test_other_versions_are_answered_505(run: Run) -> None:
    """A version that llhttp parses and we do not speak is refused."""

    async def main() -> None:
        async with serving(App()) as server, peer_of(server) as peer:
            peer.send(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n")
            assert (await peer.read_all()).startswith(b"HTTP/1.1 505 ")

    run(main())


@pytest.mark.parametrize("name", NOT_IMPLEMENTED)
def test_other_transfer_codings_are_answered_501(run: Run, name: str) -> None:
    """What may or may not mean chunks for whoever is behind us goes nowhere."""

    async def main() -> None:
        app = App()
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(NOT_IMPLEMENTED[name] + GET % b"smuggled")
            answer = await peer.read_all()
            assert answer.startswith((b"HTTP/1.1 501 ", b"HTTP/1.1 400 "))
            assert answer.count(b"HTTP/1.1") == 1
            assert app.received == []

    run(main())


@pytest.mark.parametrize("name", MALFORMED_BODIES)
def test_a_malformed_body_is_never_complete(run: Run, name: str) -> None:
    """Its request gets 400, and nothing after it is taken for another one."""

    async def main() -> None:
        app = App(answer_nothing)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(CHUNKED + MALFORMED_BODIES[name] + GET % b"smuggled")
            assert (await peer.read_all()).startswith(b"HTTP/1.1 400 ")
            assert len(app.received) == 1
            assert "end" not in app.log.names
            assert isinstance(app.received[0].error, ValueError)

    run(main())


@pytest.mark.parametrize("name", LENIENT)
def test_odd_but_unambiguous_requests_are_served(run: Run, name: str) -> None:
    """They are written anew for whoever is behind us, so they read in one way."""
    sent, line = LENIENT[name]

    async def main() -> None:
        app = App()
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(sent)
            assert (await peer.read_until(b"\r\n")).startswith(b"HTTP/1.1 200 ")
            (received,) = app.received
            assert f"{received.head.method} {received.head.target}" == line

    run(main())


def test_what_has_no_version_waits_for_headers_that_do_not_come(run: Run) -> None:
    """A request of HTTP/0.9 is not answered as one; with headers it is refused."""

    async def main() -> None:
        async with serving(App()) as server, peer_of(server) as peer:
            peer.send(b"GET /\r\n" + HOST + b"\r\n")
            assert (await peer.read_all()).startswith(b"HTTP/1.1 505 ")

    run(main())


def test_refusals_are_counted_by_their_types(run: Run) -> None:
    """Whoever watches the server learns of what its handlers never see."""

    async def main() -> None:
        async with serving(App()) as server:
            for sent in (MALFORMED["no host"], MALFORMED["two hosts"], get(b"")):
                async with peer_of(server) as peer:
                    peer.send(sent)
                    await peer.read_until(b"\r\n\r\n")
            assert server.refused == {"bad_request": 2}

    run(main())


def test_every_refusal_is_of_a_known_type() -> None:
    """A counter begins at zero, for which its labels must be known."""
    limits = Limits()
    refusals = [
        *(malformed("x"), failed(), too_large(limits), too_slow(limits), too_many(1)),
        *(refusal_of("1.2", ()), refusal_of("1.1", (("Transfer-Encoding", "gzip"),))),
    ]
    assert {refusal.kind for refusal in refusals} == set(KINDS)


def refusal_of(version: str, headers: Headers) -> Refusal:
    """Return why a request is refused that was parsed."""
    head = RequestHead("GET", "/", (("Host", "a"), *headers), version)
    with pytest.raises(Refusal) as caught:
        check_request(head)
    return caught.value
