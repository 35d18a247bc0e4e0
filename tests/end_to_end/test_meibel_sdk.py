"""The real SDK of the first API, over the real command: nothing for it changes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from meibel import MeibelClient
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_receiver import attributes, otlp_receiver
from support import command, environment

from sse_recorder import ReplayServer, Store, running
from sse_recorder.demo import AgentServer
from sse_recorder.sse import parse

TOLERANCE_NS = 5_000_000
Event = tuple[str | None, str | None]
Chat = Callable[[str, str], list[Event]]


def chat(url: str, session: str) -> list[Event]:
    """Hold a chat, and return its events."""
    with MeibelClient(base_url=f"{url}/v2", api_key="secret-of-the-sdk") as client:
        events = client.agents.sessions.send_chat_message_stream(
            session, user_message="hello & goodbye"
        )
        return [(event.event, event.data) for event in events]


def chat_with_file(url: str, session: str) -> list[Event]:
    """Hold a chat with an attachment, which is sent as chunked multipart."""
    with MeibelClient(base_url=f"{url}/v2", api_key="secret-of-the-sdk") as client:
        events = client.agents.sessions.send_chat_message_stream(
            session,
            file=io.BytesIO(b"%PDF-1.7 \x00\xff"),
            file_name="report.pdf",
            user_message="hello",
        )
        return [(event.event, event.data) for event in events]


both = pytest.mark.parametrize(
    ("session", "hold"), [("plain", chat), ("file", chat_with_file)]
)


class Recorded:
    """What a run of the SDK over the recorder left behind."""

    def __init__(self, store: Path, agent: AgentServer, spans: list[Span]) -> None:
        self.store = store
        self.agent = agent
        self.spans = spans
        self.events: dict[str, list[Event]] = {}
        self.took_ns: dict[tuple[str, str], int] = {}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Record both forms of a chat with the command, exporting spans."""
    folder = tmp_path_factory.mktemp("sdk")
    with running(AgentServer()) as agent, otlp_receiver() as receiver:
        run = Recorded(folder / "recordings", agent, [])
        settings = environment(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        with command(
            "record", "--upstream", agent.url, cwd=folder, env=settings
        ) as recorder:
            run.events["plain"] = chat(recorder.url, "plain")
            run.events["file"] = chat_with_file(recorder.url, "file")
            assert recorder.stop() == 0
        run.took_ns = {key: tool.duration_ns for key, tool in agent.tools.items()}
        run.spans = list(receiver.spans(count=8))
        yield run


@pytest.mark.parametrize(
    ("session", "hold"), [("plain", chat), ("file", chat_with_file)]
)
def test_the_sdk_sees_what_it_sees_without_a_recorder(
    recorded: Recorded, session: str, hold: Chat
) -> None:
    """The same events come, whether the recorder is there or not."""
    assert hold(recorded.agent.url, session) == recorded.events[session]
    assert len(recorded.events[session]) > 20


def test_the_store_holds_the_bytes_that_the_server_sent(recorded: Recorded) -> None:
    """Bodies are identical to the last byte, and so is what is known of them."""
    with Store.open(recorded.store) as store:
        for exchange in store.exchanges():
            session = exchange.session_id
            assert session is not None
            direct = httpx.post(
                f"{recorded.agent.url}/v2/sessions/{session}/chat/stream"
            )
            body = store.body(exchange.exchange_id)
            assert body == direct.content
            assert exchange.outcome == "complete"
            assert exchange.dialect == "meibel"
            assert b"secret-of-the-sdk" not in repr(exchange).encode()
            frames = list(store.frames(exchange.exchange_id))
            assert all(frame.raw is None for frame in frames)
            assert len(frames) == len(parse(body)) == exchange.frame_count


def test_tool_calls_are_as_long_as_the_tools_took(recorded: Recorded) -> None:
    """The bracket on the wire is within 5 ms of the server's own measure.

    The better of two chats counts, since others may want the processor, too.
    """
    with Store.open(recorded.store) as store:
        exchanges = list(store.exchanges())
        calls = {
            (exchange.session_id, call.tool_id): call
            for exchange in exchanges
            for call in store.tool_calls(exchange.exchange_id)
        }
    assert len(calls) == 6
    statuses = {name: call.status for (_, name), call in calls.items()}
    assert statuses == {
        "search_flights": "ok",
        "get_weather": "ok",
        "book_hotel": "error",
    }
    errors_ns = dict[str, list[int]]()
    for (session, tool_id), call in calls.items():
        assert session is not None
        assert tool_id is not None
        assert call.duration_ns is not None
        error = abs(call.duration_ns - recorded.took_ns[session, tool_id])
        errors_ns.setdefault(tool_id, []).append(error)
    assert all(min(errors) < TOLERANCE_NS for errors in errors_ns.values()), errors_ns


def test_each_tool_call_is_one_span_of_exactly_its_duration(
    recorded: Recorded,
) -> None:
    """The receiver has a span a tool call, under its exchange's, to the nanosecond."""
    with Store.open(recorded.store) as store:
        exchanges = {e.span_id: e for e in store.exchanges()}
        calls = [c for e in exchanges.values() for c in store.tool_calls(e.exchange_id)]
    tools = {s.span_id.hex(): s for s in recorded.spans if s.parent_span_id}
    roots = {s.span_id.hex() for s in recorded.spans if not s.parent_span_id}
    assert roots == set(exchanges)
    assert len(tools) == len(calls) == 6
    for call in calls:
        span = tools[call.span_id]
        assert span.end_time_unix_nano - span.start_time_unix_nano == call.duration_ns
        assert span.name == f"execute_tool {call.tool_name}"
        assert span.parent_span_id.hex() in roots
        assert attributes(span)["gen_ai.tool.call.id"] == call.tool_id


@pytest.mark.parametrize(
    ("session", "hold"), [("plain", chat), ("file", chat_with_file)]
)
def test_a_replay_answers_the_sdk_with_the_server_gone(
    recorded: Recorded, session: str, hold: Chat
) -> None:
    """A request finds its recording, whatever boundary the SDK drew this time."""
    with running(ReplayServer(recorded.store, speed=20)) as server:
        assert hold(server.url, session) == recorded.events[session]
        assert (server.served, server.missed) == (1, 0)
