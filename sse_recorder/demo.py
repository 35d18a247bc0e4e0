"""A made-up agent, which answers in the wire format of Meibel's chat stream.

It stands in for the API in the demo, in examples and in tests, offline.  A chat takes
about two seconds: some text, two tools at the same time, a third one that fails, more
text, the whole answer once more, `[DONE]`.  The text comes at a varying pace that is
drawn from the session's id, so a session always runs in the same way.

`AgentServer.tools` keeps when each tool really began and ended, on the clock of this
process, for whoever wants to know how near a recording comes to that.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.exchange import Headers, RequestHead, ResponseHead
from sse_recorder.http1.answers import send_json_error
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.server import Server
from sse_recorder.sse import encode_event
from sse_recorder.timer import Timer

_CHAT = re.compile(r"/v2/sessions/(?P<session>[^/]+)/chat/stream")
_MS: Final = 1_000_000
_ANSWER: Final = (
    "You have two free hours before the flight, and it will rain. The museum by the"
    " station is open until six; I could not reach the hotel to move your check-in."
)


class Tool(NamedTuple):
    """A tool of the agent, and how it fares."""

    name: str
    arguments: dict[str, Any]
    took_ms: int
    result: dict[str, Any]


TOGETHER: Final = (
    Tool("search_flights", {"to": "LIS"}, 310, {"flights": ["TP 543", "LH 1168"]}),
    Tool("get_weather", {"city": "Lisbon"}, 180, {"sky": "rain", "celsius": 14}),
)
THEN: Final = Tool(
    "book_hotel", {"nights": 2}, 240, {"error": "the hotel does not answer"}
)


@dataclass(slots=True)
class ToolRun:
    """When a tool really ran, on the monotonic clock."""

    name: str
    began_ns: int
    ended_ns: int | None = None

    @property
    def duration_ns(self) -> int:
        """How long it took."""
        assert self.ended_ns is not None
        return self.ended_ns - self.began_ns


class Beat(NamedTuple):
    """One event, and how long after the one before it comes."""

    after_ms: float
    event: str | None
    data: dict[str, Any] | str


def script(session_id: str) -> Iterator[Beat]:
    """Give the events of a chat."""
    rng = random.Random(session_id)  # noqa: S311 - a pace, not a secret
    words = _ANSWER.split(" ")
    yield Beat(30, "connected", {"signal_id": f"signal-{session_id}"})
    yield Beat(40, "status", {"type": "status", "content": "Thinking"})
    yield Beat(60, None, ": the agent is warming up")
    yield from _text(words, 0, 8, rng)
    yield from _tools(TOGETHER)
    yield from _text(words, 8, 18, rng)
    yield from _tools((THEN,))
    yield from _text(words, 18, len(words), rng)
    answer = {"message": _ANSWER, "clean_message": _ANSWER, "citations": []}
    yield Beat(20, "completion", {"type": "completion", "data": answer})
    yield Beat(1, None, "data: [DONE]")


def _text(words: list[str], start: int, end: int, rng: random.Random) -> Iterator[Beat]:
    for at in range(start, end):
        message = " ".join(words[: at + 1])
        data = {"message": message, "clean_message": message}
        payload = {"type": "partial_response", "data": data}
        yield Beat(rng.uniform(5, 45), "partial_response", payload)


def _tools(tools: tuple[Tool, ...]) -> Iterator[Beat]:
    for tool in tools:
        call = {"tool_name": tool.name, "arguments": tool.arguments}
        yield Beat(2, "tool_call", {"type": "tool_call", "tool_id": tool.name, **call})
    # They began 2 ms after one another and end in the order of how long they take.
    elapsed = 0.0
    starts = {tool.name: -2 * (len(tools) - 1 - i) for i, tool in enumerate(tools)}
    for tool in sorted(tools, key=lambda tool: starts[tool.name] + tool.took_ms):
        ends = starts[tool.name] + tool.took_ms
        data = {"type": "tool_result", "tool_id": tool.name, "result": tool.result}
        yield Beat(ends - elapsed, "tool_result", data)
        elapsed = ends


class AgentServer:
    """Serves `POST /v2/sessions/{session_id}/chat/stream`."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, clock: Clock = SYSTEM
    ) -> None:
        self.clock = clock
        self.tools: dict[tuple[str, str], ToolRun] = {}
        """The latest run of each tool of each session, by their ids."""
        self._address = (host, port)
        self._server = Server(lambda: _Connection(self), clock=clock)
        self._timer: Timer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    @property
    def timer(self) -> Timer:
        """The timer of all its chats."""
        assert self._timer is not None, "start() comes first"
        return self._timer

    async def start(self) -> None:
        """Listen.

        Raises:
            ListenError: the address is taken or not ours.
        """
        self._timer = Timer(self.clock)
        await self._server.listen(*self._address)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Stop, after the chats that are under way or after a while."""
        await self._server.close(grace_s=grace_s)
        self.timer.close()


class _Connection:
    def __init__(self, server: AgentServer) -> None:
        self._server = server

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> _Chat:
        """Begin a chat."""
        del at_ns
        return _Chat(self._server, head, stream)

    def connection_closed(self) -> None:
        """Nothing is kept for a connection."""


@dataclass(slots=True)
class _Chat:
    """One chat: what to say, and where it is."""

    server: AgentServer
    head: RequestHead
    stream: ResponseStream
    beats: Iterator[Beat] = field(default_factory=lambda: iter(()))
    session: str = ""
    due_ns: int = 0
    next_beat: Beat | None = None
    is_over: bool = False

    def request_data(self, data: bytes, at_ns: int) -> None:
        """Take some of the message; whatever it is, the answer is the same."""

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        """Begin to answer."""
        del trailers
        match = _CHAT.fullmatch(self.head.path)
        if match is None or self.head.method != "POST":
            send_json_error(
                self.stream,
                HTTPStatus.NOT_FOUND,
                "not_found",
                "this agent serves POST /v2/sessions/{session_id}/chat/stream",
            )
            return
        self.session = match["session"]
        self.beats = script(self.session)
        self.due_ns = at_ns
        headers = (
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-cache"),
            ("Transfer-Encoding", "chunked"),
        )
        self.stream.send_head(ResponseHead(200, "OK", headers))
        self._wait()

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        """Say no more."""
        del at_ns, error
        self.is_over = True

    def pause_response(self) -> None:
        """Go on all the same: a chat is small."""

    def resume_response(self) -> None:
        """Nothing was held back."""

    def _wait(self) -> None:
        self.next_beat = next(self.beats, None)
        if self.next_beat is None:
            self.stream.end()
            return
        self.due_ns += round(self.next_beat.after_ms * _MS)
        self.server.timer.call_at(self.due_ns, self._say)

    def _say(self) -> None:
        beat = self.next_beat
        if self.is_over or beat is None:
            return
        if isinstance(beat.data, str):
            self.stream.send_data(beat.data.encode() + b"\n\n")
        else:
            self._note_tool(beat.event, beat.data)
            self.stream.send_data(encode_event(beat.event, json.dumps(beat.data)))
        self._wait()

    def _note_tool(self, event: str | None, data: dict[str, Any]) -> None:
        now_ns = self.server.clock.monotonic_ns()
        if event == "tool_call":
            run = ToolRun(data["tool_name"], now_ns)
            self.server.tools[self.session, data["tool_id"]] = run
        elif event == "tool_result":
            self.server.tools[self.session, data["tool_id"]].ended_ns = now_ns
