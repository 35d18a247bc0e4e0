"""The servers of replays and recordings, as tests need them.

`Player` is a `ReplayServer` whose misses are told in the words of who runs tests, and
`Nobody` one without recordings.  `LiveRecorder` is a `Recorder` that sends no header of
ours to a real API: what asks a replay for its pace or a fault is none of its business.
`Together` runs several of them on one loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from sse_recorder.background import Service
from sse_recorder.clock import Clock
from sse_recorder.exchange import Headers, RequestHead
from sse_recorder.http1.answers import send_json
from sse_recorder.http1.connection import ConnectionHandler, StreamHandler
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.server import Server
from sse_recorder.match import Matcher, Miss
from sse_recorder.playback import Recording
from sse_recorder.proxy import Recorder
from sse_recorder.repertoire import describe, without_wishes
from sse_recorder.replay import ReplayServer


class Player(ReplayServer):
    """A replay server whose misses say how to record them in a test.

    Args:
        source: the cassette.
        command: what records them.
        allow_repeats: whether a recording answers more than once.
        options: those of a `ReplayServer`.
    """

    def __init__(
        self, source: Path, *, command: str, allow_repeats: bool, **options: Any
    ) -> None:
        super().__init__(source, **options)
        self._command = command
        self.matcher.repeats = allow_repeats

    def note_miss(self, miss: Miss[Recording]) -> dict[str, object]:
        """Count a miss, and return the JSON that tells it."""
        super().note_miss(miss)
        return miss.to_json(describe, command=self._command)


class Nobody:
    """A server without recordings: it misses everything.

    Args:
        command: what records it.
        clock: gives the time.
    """

    def __init__(self, command: str, clock: Clock) -> None:
        self.misses: list[Miss[Recording]] = []
        """All of them."""
        self._command = command
        self._matcher: Matcher[Recording] = Matcher()
        self._server = Server(lambda: self, clock=clock)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    async def start(self) -> None:
        """Listen."""
        await self._server.listen("127.0.0.1", 0)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Stop listening."""
        await self._server.close(grace_s=grace_s)

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> _Unanswered:
        """Miss a request, when all of it is there."""
        del at_ns
        found = self._matcher.find(head.method, head.target, head.headers, b"")
        assert isinstance(found, Miss)
        return _Unanswered(self, found, stream)

    def note_miss(self, miss: Miss[Recording]) -> dict[str, object]:
        """Count a miss, and return the JSON that tells it."""
        self.misses.append(miss)
        return miss.to_json(describe, command=self._command)

    def connection_closed(self) -> None:
        """Nothing is left to do."""


class _Unanswered:
    """A request that has no recording."""

    def __init__(
        self, nobody: Nobody, miss: Miss[Recording], stream: ResponseStream
    ) -> None:
        self._nobody = nobody
        self._miss = miss
        self._stream = stream

    def request_data(self, data: bytes, at_ns: int) -> None:
        """Drop it."""

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        """Answer."""
        del at_ns, trailers
        told = self._nobody.note_miss(self._miss)
        send_json(self._stream, HTTPStatus.NOT_FOUND, told)

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        """Nothing is left to do."""

    def pause_response(self) -> None:
        """Nothing more is sent."""

    def resume_response(self) -> None:
        """Nothing more is sent."""


class LiveRecorder(Recorder):
    """A recorder that keeps our own headers to itself."""

    def connection(self) -> ConnectionHandler:
        """Return what takes the requests of one client's connection."""
        return _Clean(super().connection())


class _Clean:
    """A connection whose requests lose the headers that are meant for replays."""

    def __init__(self, inner: ConnectionHandler) -> None:
        self._inner = inner
        self.connection_closed = inner.connection_closed

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> StreamHandler:
        clean = replace(head, headers=without_wishes(head.headers))
        return self._inner.request_head(clean, stream, at_ns)


class Together:
    """Services on one loop, as one; its URL is that of the last."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services
        self._begun: list[Service] = []

    @property
    def url(self) -> str:
        """Where the last one listens."""
        return self._services[-1].url

    async def start(self) -> None:
        """Start one after the other."""
        for service in self._services:
            self._begun.append(service)
            await service.start()

    async def stop(self, grace_s: float = 0.0) -> None:
        """Stop those that were started, the last one first."""
        while self._begun:
            await self._begun.pop().stop(grace_s)
