"""The SDKs that people hold, and curl, with and without a recorder between.

Every call is made twice, directly and through a recorder, to the same scripted server.
What the program gets, what it raises, and what the server is asked, retries included,
must be the same, to the last header.
"""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, cast

import anthropic
import meibel
import openai
import pytest
from meibel import MeibelClient
from support import until_on_disk

from sse_recorder import Recorder, running

Call = Callable[[str], Iterable[object]]

STREAM: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: req_1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
MESSAGE: Final = {"role": "user", "content": "hello"}


def chunks(frames: Iterable[bytes]) -> list[bytes]:
    """Return each frame as a chunk of its own."""
    return [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames]


def unnamed(*values: dict[str, Any]) -> list[bytes]:
    """Return frames as OpenAI sends them."""
    return [b"data: %b\n\n" % json.dumps(value).encode() for value in values]


def named(*values: dict[str, Any]) -> list[bytes]:
    """Return frames as Anthropic and Meibel send them."""
    return [
        b"event: %b\n%b" % (value["type"].encode(), *unnamed(value)) for value in values
    ]


def error(status: bytes, *headers: bytes) -> bytes:
    """Return an answer that is an error."""
    body = b'{"error": {"type": "some_error", "message": "that was wrong"}}'
    length = b"Content-Length: %d" % len(body)
    lines = (
        b"HTTP/1.1 " + status,
        b"Content-Type: application/json",
        b"X-Request-Id: req_2",
        *headers,
        length,
    )
    return b"\r\n".join([*lines, b"", body])


def openai_chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    """Return one chunk of a chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }


def openai_tool(**function: str) -> dict[str, Any]:
    """Return a piece of a tool call."""
    return openai_chunk({"tool_calls": [{"index": 0, "function": function}]})


ANTHROPIC_START: Final[dict[str, Any]] = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
}


def anthropic_block(block: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    """Return a message of one block."""
    return named(
        ANTHROPIC_START,
        {"type": "content_block_start", "index": 0, "content_block": block},
        *[{"type": "content_block_delta", "index": 0, "delta": d} for d in deltas],
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    )


# What each SDK is streamed, by what the test asks for.
FRAMES: Final[dict[str, dict[str, list[bytes]]]] = {
    "openai": {
        "text": [
            *unnamed(
                openai_chunk({"role": "assistant", "content": "Hel"}),
                openai_chunk({"content": "l\u00f6"}),
                openai_chunk({}, "stop"),
            ),
            b"data: [DONE]\n\n",
        ],
        "tools": [
            *unnamed(
                openai_tool(name="weather", arguments=""),
                openai_tool(arguments='{"city": '),
                openai_tool(arguments='"Lisbon"}'),
                openai_chunk({}, "tool_calls"),
            ),
            b": keep-alive\n\n",
            b"data: [DONE]\n\n",
        ],
    },
    "anthropic": {
        "text": anthropic_block(
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "Hel"},
            {"type": "text_delta", "text": "l\u00f6"},
        ),
        "tools": anthropic_block(
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"city": '},
            {"type": "input_json_delta", "partial_json": '"Lisbon"}'},
        ),
    },
    "meibel": {
        "text": named({"type": "status"}, {"type": "message", "text": "Hell\u00f6"}),
        "tools": named(
            {"type": "tool_call", "id": 1}, {"type": "tool_result", "id": 1}
        ),
    },
}
FRAMES["curl"] = FRAMES["openai"]
SOON: Final = b"Retry-After: 0.01"


def script(sdk: str, scenario: str) -> list[bytes]:
    """Return what is written for a scenario; an empty piece breaks the connection."""
    match scenario:
        case "text" | "tools":
            return [STREAM, *chunks(FRAMES[sdk][scenario]), b"0\r\n\r\n"]
        case "ends" | "resets":
            return [STREAM, *chunks(FRAMES[sdk]["text"][:2]), b""]
        case "ends at once":
            return [b""]
        case "401":
            return [error(b"401 Unauthorized", b"WWW-Authenticate: Bearer")]
        case "422":
            return [error(b"422 Unprocessable Content")]
        case "429":
            return [error(b"429 Too Many Requests", SOON)]
        case "429 once":
            return [error(b"429 Too Many Requests", SOON), *script(sdk, "text")]
        case "500":
            return [error(b"500 Internal Server Error", SOON)]
        case _:
            raise AssertionError(scenario)


SCENARIOS: Final = (
    "text",
    "tools",
    "401",
    "422",
    "429",
    "429 once",
    "500",
    "ends",
    "resets",
)


@dataclass
class Asked:
    """What the server was asked, in order."""

    heads: list[tuple[str, str, list[tuple[str, str]]]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


class ScriptedServer(ThreadingHTTPServer):
    """Answers `/SDK/SCENARIO/…`, and notes what it is asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = Asked()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients leave in the middle of what they are tested with."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def do_GET(self) -> None:
        """Answer in the way that the path names."""
        asked = self.server.asked
        _, sdk, scenario, rest = self.path.replace("%20", " ").split("/", 3)
        asked.heads.append((self.command, rest, list(self.headers.items())))
        asked.bodies.append(self._body())
        pieces = script(sdk, scenario)
        if scenario == "429 once":
            pieces = pieces[:1] if len(asked.heads) == 1 else pieces[1:]
        for piece in pieces:
            if piece:
                self.wfile.write(piece)
                continue
            if len(pieces) > 1:
                time.sleep(0.1)  # a reset overtakes what was not read
            if scenario.startswith("resets"):
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
            self.close_connection = True

    do_POST = do_GET  # noqa: N815 - the name that the base class calls

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing."""


def ask_openai(url: str) -> Iterator[object]:
    """Stream a chat completion."""
    with openai.OpenAI(base_url=url, api_key="k", max_retries=1) as client:
        stream = client.chat.completions.create(
            model="m", messages=cast("Any", [MESSAGE]), stream=True
        )
        yield stream.response.status_code
        yield list(stream.response.headers.multi_items())
        for chunk in stream:
            yield chunk.model_dump()


def ask_anthropic(url: str) -> Iterator[object]:
    """Stream a message, and have it put together."""
    with (
        anthropic.Anthropic(base_url=url, api_key="k", max_retries=1) as client,
        client.messages.stream(
            model="m", max_tokens=9, messages=cast("Any", [MESSAGE])
        ) as stream,
    ):
        yield stream.response.status_code
        yield list(stream.response.headers.multi_items())
        for event in stream:
            yield event.model_dump()
        yield stream.get_final_message().model_dump()


def ask_meibel(url: str) -> Iterator[object]:
    """Stream a chat."""
    with MeibelClient(base_url=url, api_key="k") as client:
        for event in client.agents.sessions.send_chat_message_stream(
            "lisbon", user_message="hello"
        ):
            yield event.event, event.data


CALLS: Final[dict[str, Call]] = {
    "openai": ask_openai,
    "anthropic": ask_anthropic,
    "meibel": ask_meibel,
}
BASE_ERRORS: Final = (openai.OpenAIError, anthropic.AnthropicError, meibel.ApiError)


def told(problem: BaseException | None) -> list[tuple[object, ...]]:
    """Return what a program can learn from an exception, and from its causes."""
    found: list[tuple[object, ...]] = []
    while problem is not None:
        response = getattr(problem, "response", None)
        found.append(
            (
                type(problem),
                str(problem),
                getattr(problem, "status_code", None),
                getattr(problem, "request_id", None),
                getattr(problem, "body", None),
                response is not None and list(response.headers.multi_items()),
            )
        )
        problem = problem.__cause__
    return found


def outcome(call: Call, url: str) -> tuple[list[object], list[tuple[object, ...]]]:
    """Make a call, and return what it gave and what it raised."""
    given: list[object] = []
    try:
        given.extend(call(url))
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is compared
        return given, told(problem)
    return given, []


@dataclass
class Both:
    """A server, and a recorder in front of it."""

    server: ScriptedServer
    recorder: Recorder

    def compare(self, call: Callable[[str], object], path: str) -> tuple[Any, Asked]:
        """Make a call directly and through the recorder; return what both gave."""
        results: list[object] = []
        asked: list[Asked] = []
        for base in (self.server.url, self.recorder.url):
            self.server.asked = Asked()
            results.append(call(base + path))
            asked.append(self.server.asked)
        assert results[0] == results[1]
        assert asked[0].heads == asked[1].heads
        assert asked[0].bodies == asked[1].bodies
        return results[0], asked[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the calls are recorded."""
    return tmp_path_factory.mktemp("sdks")


@pytest.fixture(scope="module")
def both(store: Path) -> Iterator[Both]:
    """Run a scripted server and a recorder for it."""
    with ScriptedServer() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            with running(Recorder(server.url, store=store)) as recorder:
                yield Both(server, recorder)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("sdk", CALLS)
def test_an_sdk_does_not_notice_the_recorder(
    both: Both, sdk: str, scenario: str
) -> None:
    """The same events, the same errors with the same details, the same requests."""
    path = f"/{sdk}/{scenario.replace(' ', '%20')}"
    (given, raised), asked = both.compare(lambda url: outcome(CALLS[sdk], url), path)
    if scenario in {"text", "tools"}:
        assert raised == []
        assert len(given) >= len(FRAMES[sdk][scenario]) - 2
    elif scenario in {"ends", "resets"}:
        assert raised
        assert given
    elif scenario.isdecimal():
        assert isinstance(raised[0][1], str)
        assert raised[0][2] == int(scenario)
    if sdk != "meibel" and scenario in {"429", "429 once", "500"}:
        assert len(asked.heads) == 2  # it tries again, once


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_an_upstream_that_gives_no_answer_is_asked_again(both: Both, sdk: str) -> None:
    """The SDK gets our 502 in place of an end, and tries again in the same way."""
    counts = []
    for base in (both.server.url, both.recorder.url):
        both.server.asked = Asked()
        given, raised = outcome(CALLS[sdk], f"{base}/{sdk}/ends%20at%20once")
        assert given == []
        assert issubclass(cast("type", raised[0][0]), BASE_ERRORS)
        counts.append(len(both.server.asked.heads))
    assert counts == [2, 2]


def curl(url: str) -> tuple[int, bytes, bytes]:
    """Ask as a person does who looks for what is wrong."""
    done = subprocess.run(
        ["curl", "-sS", "-N", "-i", "--json", '{"a": 1}', url],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if " " not in s])
def test_curl_does_not_notice_the_recorder(both: Both, scenario: str) -> None:
    """The same bytes, the same message and the same exit code."""
    (code, output, _), asked = both.compare(curl, f"/curl/{scenario}/x")
    assert code == {"ends": 18, "resets": 56}.get(scenario, 0)
    assert output.startswith(b"HTTP/1.1 ")
    assert len(asked.heads) == 1


def test_what_they_got_was_recorded(both: Both, store: Path) -> None:
    """Had it not gone through the recorder, all of this would prove nothing."""
    given, _ = outcome(ask_openai, f"{both.recorder.url}/openai/text")
    assert given
    until_on_disk(store, "path LIKE '/openai/text%' AND outcome = 'complete'")
