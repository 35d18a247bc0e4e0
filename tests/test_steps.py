"""What a step does to a response, on a socket."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from http1.wire import STREAM_HEAD, App, Received, Run, peer_of, serving

from sse_recorder.playback import Break, Data, End, Fail, Head, Step
from sse_recorder.steps import do_step

BEGUN: list[Step] = [Head(STREAM_HEAD), Data(b"data: 1\n\n")]
WIRE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
)
TIMEOUT_BODY = (
    b'{\n  "error": {\n    "type": "upstream_timeout",\n'
    b'    "message": "it was silent"\n  }\n}\n'
)
TIMEOUT = (
    b"HTTP/1.1 504 Gateway Timeout\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(TIMEOUT_BODY), TIMEOUT_BODY)
)
STEPS: dict[str, tuple[list[Step], bytes]] = {
    "end": ([*BEGUN, End((("X-Sum", "1"),))], WIRE + b"0\r\nX-Sum: 1\r\n\r\n"),
    "break": ([*BEGUN, Break(reset=False)], WIRE),
    "fail": (
        [Fail(HTTPStatus.GATEWAY_TIMEOUT, "it was silent", "upstream_timeout")],
        TIMEOUT,
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_does_what_it_says(run: Run, name: str) -> None:
    """A client gets the head, each chunk, and the end or what is in its place."""
    steps, wire = STEPS[name]

    def do_all(received: Received) -> None:
        for step in steps:
            do_step(received.stream, step)

    async def main() -> None:
        async with serving(App(do_all)) as server, peer_of(server) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await peer.expect_end(wire)

    run(main())


def test_a_break_by_a_reset_is_read_as_one(run: Run) -> None:
    """What was sent before it has come."""

    def do_all(received: Received) -> None:
        for step in (*BEGUN, Break(reset=True)):
            do_step(received.stream, step)

    async def main() -> None:
        async with serving(App(do_all)) as server, peer_of(server) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await peer.expect(WIRE)
            with pytest.raises(ConnectionResetError):
                await peer.read_all()

    run(main())
