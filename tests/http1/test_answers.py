"""Answers of our own: small JSON bodies, sent whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus

import pytest
from http1.wire import App, Received, Run, peer_of, serving

from sse_recorder.exchange import Headers
from sse_recorder.http1.answers import send_json, send_json_error
from sse_recorder.http1.response import ResponseStream

Answer = Callable[[ResponseStream], None]


def ask(run: Run, answer: Answer, method: str = "GET") -> tuple[list[str], bytes]:
    """Return the lines of the head and the body of an answer, as on the wire."""
    found: list[bytes] = []

    def on_end(received: Received) -> None:
        answer(received.stream)
        assert received.stream.finished

    async def main() -> None:
        async with serving(App(on_end)) as server, peer_of(server) as peer:
            lines = f"{method} / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            peer.send(lines.encode())
            found.append(await peer.read_all())

    run(main())
    head, _, body = found[0].partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


@pytest.mark.parametrize("headers", [(), (("X-One", "1"), ("X-Two", "2"))])
def test_json_is_sent_whole_with_its_length(run: Run, headers: Headers) -> None:
    """People read it too: it is indented, not escaped, and ends in a line end."""
    value = {"café": [1, None]}
    head, body = ask(run, lambda s: send_json(s, HTTPStatus.NOT_FOUND, value, headers))
    assert body.decode() == '{\n  "café": [\n    1,\n    null\n  ]\n}\n'
    assert head == [
        "HTTP/1.1 404 Not Found",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {text}" for name, text in headers),
    ]


def test_an_error_has_a_type_and_a_message(run: Run) -> None:
    """A program reads the one, a person the other."""
    head, body = ask(
        run, lambda s: send_json_error(s, HTTPStatus.BAD_GATEWAY, "upstream", "no\n")
    )
    assert head[0] == "HTTP/1.1 502 Bad Gateway"
    assert json.loads(body) == {"error": {"type": "upstream", "message": "no\n"}}


def test_head_is_answered_without_the_body(run: Run) -> None:
    """The length is what a GET would bring."""
    head, body = ask(run, lambda s: send_json(s, HTTPStatus.OK, {}), "HEAD")
    assert head[0] == "HTTP/1.1 200 OK"
    assert head[2] == "Content-Length: 3"
    assert body == b""


def test_a_client_that_left_is_not_answered(run: Run) -> None:
    """Whoever answers late does not need to ask whether anybody is there."""

    def answer(stream: ResponseStream) -> None:
        stream.abort(reset=False)
        send_json(stream, HTTPStatus.OK, {})

    assert ask(run, answer) == ([""], b"")
