"""The spans of a recording, made again from a store."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from otel_samples import UNSAMPLED, Kept, as_data, telemetry
from otlp_receiver import otlp_receiver

from sse_recorder.capture import Writer
from sse_recorder.exchange import (
    Ending,
    Headers,
    Opening,
    Outcome,
    RequestHead,
    ResponseHead,
    uuid7,
)
from sse_recorder.otel import SpanData, Telemetry, View
from sse_recorder.otel.export import BATCH_SIZE, rebuilt, send
from sse_recorder.store.store import Store

STARTED_AT = 1_795_428_930_123_456_789
S = 1_000_000_000
STREAM: Headers = (("Content-Type", "text/event-stream"),)
JSON: Headers = (("Content-Type", "application/json"),)
COMPLETE = Ending(outcome=Outcome.COMPLETE)


def sse(*payloads: object, event: str | None = None) -> list[bytes]:
    """Return events, of one name or of none."""
    name = f"event: {event}\n" if event else ""
    return [
        f"{name}data: {p if isinstance(p, str) else json.dumps(p)}\n\n".encode()
        for p in payloads
    ]


def record(  # a whole exchange
    writer: Writer,
    url: str,
    chunks: Iterable[bytes],
    *,
    body: object = None,
    at_s: int = 0,
    headers: Headers = (),
    answer: Headers = STREAM,
    ending: Ending = COMPLETE,
    status: int = 200,
    telemetry: Telemetry,
) -> None:
    """Record an exchange that begins at a second, with a chunk every 300 ms."""
    started_at = STARTED_AT + at_s * S
    eid = uuid7(started_at)
    context = telemetry.context(eid, headers)
    tap = writer.tap(eid, 0)
    target = "/" + url.partition("://")[2].partition("/")[2]
    tap.opened(
        Opening(
            recorder_id=writer.recorder_id,
            started_at=started_at,
            url=url,
            request=RequestHead("POST" if body is not None else "GET", target, headers),
            trace_id=context.trace_id,
            span_id=context.span_id,
            trace_flags=context.flags,
            tags={"gen_ai.agent.version": "7"},
        )
    )
    if body is not None:
        tap.request_data(1, json.dumps(body).encode())
    tap.sent(2)
    tap.head(S // 10, ResponseHead(status, "", answer))
    at_ns = S // 10
    for chunk in chunks:
        at_ns += 300_000_123
        tap.data(at_ns, chunk)
    tap.ended(at_ns + 1_000, ending)


CHAT = "https://api.openai.com/v1/chat/completions"
CALLED = {
    "choices": [
        {
            "delta": {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "c1",
                        "function": {"name": "weather", "arguments": '{"city": "X"}'},
                    }
                ]
            }
        }
    ]
}
TOOL_BODY = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c1",
                    "function": {"name": "weather", "arguments": '{"city": "X"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ],
}


def everything(writer: Writer, sender: Telemetry) -> None:
    """Record one exchange of each sort."""
    more: dict[str, Any] = {"telemetry": sender}
    agent = "https://api.meibel.ai/v2/sessions/s1/chat/stream"
    tools = [
        *sse({"signal_id": "x"}, event="connected"),
        *sse(
            {"tool_id": "a", "tool_name": "search", "arguments": {}}, event="tool_call"
        ),
        *sse({"tool_id": "b", "tool_name": "book", "arguments": {}}, event="tool_call"),
        *sse({"tool_id": "b", "result": {"error": "no"}}, event="tool_result"),
        b": keep-alive\n\n",
        *sse({"tool_id": "ghost", "result": 1}, event="tool_result"),
        *sse(
            *({"data": {"message": f"{n}"}} for n in range(40)),
            event="partial_response",
        ),
        *sse({"tool_id": "a", "result": 1}, event="tool_result"),
        *sse({"data": {"message": ""}, "disposition": "stop"}, event="completion"),
    ]
    record(writer, agent, tools, body={"user_message": "hi"}, **more)
    record(writer, agent, tools[:4], body={}, at_s=50, **more)
    cut = Ending(outcome=Outcome.UPSTREAM_ABORT, error="reset: by peer")
    record(writer, agent, tools[:9], body={}, at_s=51, ending=cut, **more)
    finish = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}
    text = {"id": "r1", "choices": [{"delta": {"content": "hello"}}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    asked = {
        "model": "m",
        "stream": True,
        "messages": [{"role": "user", "content": "hi"}],
    }
    first = sse(text, CALLED, finish, usage, "[DONE]")
    record(writer, CHAT, first, body=asked, at_s=60, **more)
    record(
        writer, CHAT, sse(text, text, finish, "[DONE]"), body=TOOL_BODY, at_s=70, **more
    )
    error = {"error": {"type": "server_error", "message": "SECRET"}}
    record(writer, CHAT, sse(text, error), body=asked, at_s=80, **more)
    record(writer, CHAT, sse(text), body=asked, at_s=81, **more)
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "t"},
    }
    answer = {"jsonrpc": "2.0", "id": 1, "result": {"isError": True}}
    mcp = (("Mcp-Session-Id", "s"),)
    record(
        writer,
        "http://t/mcp",
        sse(answer, event="message"),
        body=message,
        at_s=90,
        headers=mcp,
        **more,
    )
    whole = json.dumps({**text, "choices": [{"message": {"content": "x"}}]}).encode()
    record(writer, CHAT, [whole], body=asked, at_s=91, answer=JSON, **more)
    record(writer, "http://x/models", [b"{}"], at_s=92, answer=JSON, **more)
    record(writer, CHAT, [b"{}"], body=asked, at_s=93, answer=JSON, status=429, **more)
    record(writer, CHAT, first, body=asked, at_s=94, headers=UNSAMPLED, **more)


def by_id(found: Iterable[SpanData]) -> dict[str, SpanData]:
    """Return spans by their ids, of which no two are equal."""
    spans = list(found)
    ids = {span.span_id: span for span in spans}
    assert len(ids) == len(spans)
    return ids


@pytest.mark.parametrize("vocabulary", ["genai-1.41", "genai-main"])
@pytest.mark.parametrize("content", ["", "SPAN_ONLY"], ids=["plain", "content"])
def test_what_is_rebuilt_is_what_was_sent_live(
    tmp_path: Path, vocabulary: str, content: str
) -> None:
    """Every name, id, time, parent, link and attribute, over the wire and back."""
    view = View(
        vocabulary=vocabulary,
        content_on_spans=bool(content),
        compat=("langfuse", "logfire", "openinference"),
        http_spans=bool(content),
    )
    environ = {"OTEL_METRICS_EXPORTER": "none"}
    with otlp_receiver() as receiver:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.endpoint
        sender = Telemetry.from_environment(environ, view=view)
        assert sender is not None
        writer = Writer(tmp_path, spans=sender)
        everything(writer, sender)
        writer.close()
        assert sender.close() == 0
        live = by_id(map(as_data, receiver.spans(count=0)))
        with Store.open(tmp_path) as store:
            again = Telemetry(None, view=view)
            made = by_id(span for found in rebuilt(store, again) for span in found)
            assert made == live
            # And once more, over the wire.
            sender = Telemetry.from_environment(environ, view=view)
            assert sender is not None
            assert send(rebuilt(store, sender), sender) == (len(made), 0)
            sender.close()
        both = list(map(as_data, receiver.spans(count=2 * len(live))))
    assert by_id(both[len(live) :]) == live
    names = sorted(
        span.name
        for span in live.values()
        if not content or span.name not in ("GET", "POST")
    )
    if content:
        names.insert(0, "GET")
    assert names == [
        "GET",
        *["chat m"] * 6,
        *["execute_tool"] * 2,
        *["execute_tool book"] * 3,
        *["execute_tool search"] * 3,
        "execute_tool weather",
        *["invoke_agent"] * 3,
        "tools/call t",
    ]
    told = (span for span in live.values() if span.name not in ("GET", "POST"))
    errors = sorted(filter(None, (span.error_type for span in told)))
    assert errors == [
        *("429", "server_error"),
        *["stream_truncated"] * 3,
        *["tool_error"] * 4,
        *["unanswered"] * 2,
    ]


def test_what_is_chosen_is_all_that_is_rebuilt(tmp_path: Path) -> None:
    """A condition chooses exchanges; an answered call keeps both its links."""
    sender = Telemetry(Kept())
    writer = Writer(tmp_path, spans=sender)
    everything(writer, sender)
    writer.close()
    sender.close()
    with Store.open(tmp_path) as store:
        where = "finish_reason = 'tool_calls' AND status = 200 AND trace_flags = 1"
        found = list(rebuilt(store, sender, f"{where} AND input_tokens = 3"))
    (spans,) = found
    assert [span.name for span in spans] == ["chat m", "execute_tool weather"]
    assert [link.kind for link in spans[1].links] == ["called", "answered"]


def test_a_collector_that_fails_is_not_asked_again() -> None:
    """The first batch that is not taken is the last that is tried."""
    with otlp_receiver(status=400) as receiver:
        sender = telemetry(receiver.endpoint, OTEL_METRICS_EXPORTER="none")
        one = SpanData(
            name="n",
            kind="client",
            trace_id="a" * 32,
            span_id="b" * 16,
            parent_span_id=None,
            start_ns=1,
            end_ns=2,
            attributes={},
        )
        assert send([[one] * (BATCH_SIZE + 3)] * 3, sender) == (0, BATCH_SIZE + 3)
        assert receiver.requests() == 1
        sender.close(timeout_s=0.1)


def test_more_than_a_queue_holds_is_sent_whole() -> None:
    """A store of any size loses nothing on the way to a collector."""
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint, OTEL_METRICS_EXPORTER="none")
        many = (
            [
                SpanData(
                    name="n",
                    kind="client",
                    trace_id="a" * 32,
                    span_id=f"{number:016x}",
                    parent_span_id=None,
                    start_ns=1,
                    end_ns=2,
                    attributes={},
                )
            ]
            for number in range(1, 3_001)
        )
        assert send(many, sender) == (3_000, 0)
        assert len({span.span_id for span in receiver.spans(count=3_000)}) == 3_000
        sender.close(timeout_s=1)
