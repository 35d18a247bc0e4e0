"""Real streams of real providers, through a real recorder.

Each is served in random cuts.  What is expected of it is read from it here by other
means than the recorder's: by the places where each API begins a call.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from sse_recorder import Recorder, Store, running
from sse_recorder.sse import Parser
from sse_recorder.store import cassette
from sse_recorder.store.verify import Tally, verify

CORPUS: Final = (
    Path(__file__).parents[3] / "shared" / "corpus" / "recorded_streams.jsonl"
)
DIALECTS: Final = {
    "/chat/completions": "openai_chat",
    "/responses": "openai_responses",
    "/messages": "anthropic",
    ":streamGenerateContent": "gemini",
    ":generateContent": "gemini",
}
CALLS: Final = {
    "tool_use",
    "server_tool_use",
    "mcp_tool_use",
    "function_call",
    "custom_tool_call",
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
    "tool_search_call",
}


class Recorded(NamedTuple):
    """One request of the corpus, and its answer."""

    name: str
    method: str
    target: str
    request: bytes
    status: int
    content_type: str
    body: bytes

    @property
    def dialect(self) -> str | None:
        """By the end of its path, which is how people tell them apart."""
        path = self.target.partition("?")[0]
        return next((d for end, d in DIALECTS.items() if path.endswith(end)), None)

    @property
    def calls(self) -> int:
        """How many tools are called, by the places where a call begins."""
        if self.content_type.startswith("text/event-stream"):
            frames = Parser().feed(self.body)
            texts = [f.data for f in frames if f.data and f.data.startswith("{")]
            payloads = [json.loads(text) for text in texts]
            # Both ends of an item are told; its end is in every stream that has it.
            payloads = [p for p in payloads if p.get("type") != "response.completed"]
            return sum(map(begun, payloads))
        return begun(json.loads(self.body)) if self.body else 0


def begun(value: Any) -> int:
    """Count the calls that begin in a payload, at any depth."""
    if isinstance(value, list):
        return sum(map(begun, value))
    if not isinstance(value, dict):
        return 0
    if value.get("type") in ("response.output_item.added", "response.in_progress"):
        return 0
    inner = sum(begun(v) for k, v in value.items() if k not in ("tools", "arguments"))
    own = value.get("type") in CALLS
    own |= bool({"functionCall", "toolCall", "executableCode"} & set(value))
    own |= isinstance(value.get("function"), dict) and bool(value.get("id"))
    own |= "search_results" in value and "output" not in value
    own |= '"arguments"' in str(value.get("failed_generation"))
    return inner + own


def recorded() -> list[Recorded]:
    """Return all of the corpus."""
    if not CORPUS.exists():
        return []
    found = []
    for number, line in enumerate(CORPUS.read_text(encoding="utf-8").splitlines()):
        for place, interaction in enumerate(json.loads(line)["interactions"]):
            request, answer = interaction["request"], interaction["response"]
            url = urlsplit(request["url"])
            found.append(
                Recorded(
                    f"{number}-{place}",
                    request["method"],
                    url.path + (f"?{url.query}" if url.query else ""),
                    encoded(request.get("body")),
                    answer["status"],
                    answer.get("content_type") or "application/json",
                    encoded(answer.get("body")),
                )
            )
    return found


def encoded(body: Any) -> bytes:
    """Return a body as it is sent."""
    if body is None:
        return b""
    return (body if isinstance(body, str) else json.dumps(body)).encode()


@contextmanager
def serving(streams: dict[str, Recorded]) -> Iterator[str]:
    """Serve them by their names, in cuts that come again with each run."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = self.headers["X-Name"]
            stream = streams[name]
            rng = random.Random(name)  # noqa: S311 - it has to come again
            self.send_response(stream.status)
            self.send_header("Content-Type", stream.content_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            place = 0
            while piece := stream.body[place : place + rng.randint(1, 700)]:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                place += len(piece)
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_DELETE = do_POST  # noqa: N815 - the names that the base class calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Pair(NamedTuple):
    """A call of a response, and its result in the request after it."""

    call: str
    """The response's name."""
    request: str
    tool: str
    arguments: Any
    result: Any


def parsed(result: Any) -> Any:
    """Return the JSON of a text, if it is any."""
    try:
        return json.loads(result) if isinstance(result, str) else result
    except ValueError:
        return result


def results_in(body: Any) -> list[tuple[str | None, Any]]:
    """Return the results that a request ends with: the ids, and what they say."""
    found: list[tuple[str | None, Any]] = []
    for message in reversed(body.get("messages") or body.get("input") or []):
        if message.get("role") == "tool":
            found.append((message["tool_call_id"], message["content"]))
        elif message.get("type") == "function_call_output":
            found.append((message["call_id"], message["output"]))
        elif isinstance(message.get("content"), list) and not found:
            blocks = [b for b in message["content"] if b["type"] == "tool_result"]
            found += [(b["tool_use_id"], b["content"]) for b in reversed(blocks)]
            break
        else:
            break
    for content in (body.get("contents") or [])[-1:]:
        parts = [
            p["functionResponse"]
            for p in content["parts"]
            if len(p) == 1 and "functionResponse" in p
        ]
        found += [(p.get("id"), p["response"]) for p in reversed(parts)]
    return found[::-1]


def calls_in(body: Any) -> dict[str | None, tuple[str, Any]]:
    """Return the calls that a request repeats, by their ids."""
    found: dict[str | None, tuple[str, Any]] = {}

    def look(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                look(item)
        if not isinstance(value, dict):
            return
        if value.get("type") == "function_call":
            found[value["call_id"]] = value["name"], json.loads(value["arguments"])
        elif value.get("type") == "tool_use":
            found[value["id"]] = value["name"], value["input"]
        elif isinstance(call := value.get("functionCall"), dict):
            found[call.get("id")] = call["name"], call["args"]
        elif isinstance(call := value.get("function"), dict) and "arguments" in call:
            found[value["id"]] = call["name"], json.loads(call["arguments"])
        else:
            for item in value.values():
                look(item)

    look({name: body.get(name) for name in ("messages", "input", "contents")})
    return found


def pairs() -> list[Pair]:
    """Return what the corpus has of them, by its requests alone.

    A request goes with the one before it in its file; so says how they were recorded.
    """
    found = []
    names = {stream.name for stream in recorded()}
    for stream in recorded():
        body = json.loads(stream.request) if stream.request[:1] == b"{" else {}
        number, _, place = stream.name.partition("-")
        before = f"{number}-{int(place) - 1}"
        calls = calls_in(body)
        for tool_id, result in results_in(body):
            assert before in names
            found.append(Pair(before, stream.name, *calls[tool_id], parsed(result)))
    return found


UNPAIRED: Final[dict[tuple[str, str], str]] = {}
"""The request and the tool of each pair that is not found, and the reason."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Record all of the corpus."""
    if not CORPUS.exists():
        pytest.skip("the corpus is not part of the project")
    path = tmp_path_factory.mktemp("corpus") / "store"
    streams = {stream.name: stream for stream in recorded()}
    with (
        serving(streams) as upstream,
        running(Recorder(upstream, store=path)) as recorder,
        httpx.Client(base_url=recorder.url, trust_env=False) as client,
    ):
        for stream in streams.values():
            answer = client.request(
                stream.method,
                stream.target,
                headers={"X-Name": stream.name, "Content-Type": "application/json"},
                content=stream.request,
            )
            assert answer.content == stream.body
    with Store.open(path) as opened:
        yield opened


def test_real_streams_are_kept_and_understood(store: Store) -> None:
    """Their bytes, their dialect, and each tool call with its name and arguments."""
    streams = {stream.name: stream for stream in recorded()}
    seen = 0
    for exchange in store.exchanges():
        name = dict(exchange.request_headers)["X-Name"]
        stream = streams.pop(name)
        assert store.body(exchange.exchange_id) == stream.body
        assert exchange.dialect == stream.dialect, name
        calls = list(store.tool_calls(exchange.exchange_id))
        assert len(calls) == stream.calls, name
        for call in calls:
            assert call.tool_name, name
            assert isinstance(json.loads(call.arguments or ""), dict), name
        seen += len(calls)
        if stream.dialect and stream.content_type.startswith("text/event-stream"):
            assert exchange.model, name
            assert exchange.first_content_ns is not None, name
    assert not streams
    assert seen > 40


def test_results_of_the_next_request_are_found(store: Store) -> None:
    """Of real conversations at least 95 %; of any other the reason is known."""
    names = {
        exchange.exchange_id: dict(exchange.request_headers)["X-Name"]
        for exchange in store.exchanges()
    }
    found = [
        Pair(
            names[row["exchange_id"]],
            names[row["result_exchange_id"]],
            row["tool_name"],
            json.loads(row["arguments"]),
            parsed(row["result"]),
        )
        for row in store.sql(
            "FROM tool_calls WHERE timing = 'cross_request' AND status <> 'unmatched'"
        ).to_pylist()
    ]
    expected = pairs()
    missing = {(p.request, p.tool) for p in expected if p not in found}
    wrong = [pair for pair in found if pair not in expected]
    assert (missing, wrong) == (set(UNPAIRED), [])
    assert len(expected) >= 18
    assert len(found) >= 0.95 * len(expected)
    unmatched = store.sql("FROM tool_calls WHERE status = 'unmatched'").to_pylist()
    assert len(unmatched) == len(UNPAIRED)


def test_tool_calls_can_be_made_again(store: Store, tmp_path: Path) -> None:
    """Of the exchanges alone, by their times, come the rows that were recorded."""
    whole = (
        cassette.Whole(exchange, store.chunks(exchange.exchange_id))
        for exchange in store.exchanges()
    )
    path = tmp_path / "corpus.sse.jsonl"
    path.write_text(cassette.canonical(whole))
    query = "FROM tool_calls ORDER BY exchange_id, seq"
    with Store.open(path) as again:
        rows = again.sql(query).to_pylist()
    assert rows == store.sql(query).to_pylist()
    assert any(row["timing"] == "cross_request" for row in rows)


def test_a_store_of_real_conversations_is_whole(store: Store) -> None:
    """Each row agrees with the bytes and with the requests."""
    assert list(verify(store.path, Tally())) == []
