"""The port by which a person or a test in any language guides a replay.

    POST /release?events=N    let the next N events of every response go (step mode)
    POST /reset               answer from the first recordings again
    GET  /report              what was served, what was missed, and how late it was

It is a port of its own because the replay's belongs to the API, all paths included.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from sse_recorder.errors import UsageError
from sse_recorder.exchange import RequestHead
from sse_recorder.http1.answers import send_json
from sse_recorder.http1.endpoints import Endpoint, EndpointServer
from sse_recorder.http1.response import ResponseStream
from sse_recorder.replay import ReplayServer

_EVENTS: Final = re.compile(r"[1-9][0-9]{0,8}")


class ControlServer(EndpointServer):
    """Guides a replay.

    Args:
        replay: the server that plays, on the same loop.
        host: the address to listen on.
        port: 0 picks one.
    """

    def __init__(
        self, replay: ReplayServer, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._replay = replay
        endpoints = {
            "/release": Endpoint(("POST",), self._release),
            "/reset": Endpoint(("POST",), self._reset),
            "/report": Endpoint(("GET", "HEAD"), self._report),
        }
        super().__init__(endpoints, host=host, port=port, clock=replay.clock)

    async def _release(self, head: RequestHead, stream: ResponseStream) -> None:
        values = _asked(head, "events") or ["1"]
        if not self._replay.is_stepping:
            raise UsageError(
                "nothing waits for a release: start the replay with --step"
            )
        if len(values) != 1 or not _EVENTS.fullmatch(values[0]):
            raise UsageError(
                f"events={values[0][:20]} is no number of events: give 1 or more"
            )
        responses = len(self._replay.awaiting_release())
        self._replay.release(int(values[0]))
        send_json(stream, HTTPStatus.OK, {"responses": responses})

    async def _reset(self, head: RequestHead, stream: ResponseStream) -> None:
        _asked(head)
        self._replay.matcher.reset()
        send_json(stream, HTTPStatus.OK, {})

    async def _report(self, head: RequestHead, stream: ResponseStream) -> None:
        _asked(head)
        send_json(stream, HTTPStatus.OK, self._replay.report())


def _asked(head: RequestHead, name: str = "") -> list[str]:
    """Return the values of the one name that a query may have.

    Raises:
        UsageError: it has another: what was meant would not be done.
    """
    values = parse_qs(head.query, keep_blank_values=True)
    if others := values.keys() - {name}:
        known = f"give {name}=N, or nothing" if name else "leave it away"
        raise UsageError(f"{min(others)[:20]!r} means nothing here: {known}")
    return values.get(name, [])
