"""The rules by which a dialect is found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import read, read_body

from sse_recorder import dialects
from sse_recorder.dialects.base import DONE, Dialect, Kind, Reading
from sse_recorder.dialects.meibel import Meibel
from sse_recorder.exchange import RequestHead


def test_each_name_is_that_of_its_dialect() -> None:
    """The names in the tables are those that load the dialects."""
    for name in dialects.NAMES:
        assert dialects.load(name).name == name
    assert len(set(dialects.NAMES)) == len(dialects.NAMES)


def test_a_name_of_a_later_version_is_read_as_generic() -> None:
    """A store may name what this version does not know."""
    assert dialects.load("of-2030") is Dialect
    assert dialects.load("generic") is Dialect
    assert dialects.load("base") is Dialect


def test_it_is_known_which_dialects_can_be_told() -> None:
    """What is generic can be; so can all that are built in."""
    assert all(map(dialects.is_known, (*dialects.NAMES, "generic")))
    assert not dialects.is_known("of-2030")
    assert dialects.failed() == []


def test_a_request_is_claimed_by_its_head() -> None:
    """Or by nobody."""
    assert dialects.recognise(RequestHead("POST", "/sessions/x/chat")) is Meibel
    assert dialects.recognise(RequestHead("POST", "/")) is None


def test_a_stream_is_claimed_by_its_first_event() -> None:
    """Where the request said nothing."""
    assert dialects.recognise_event("connected", '{"signal_id":"s"}') is Meibel
    assert dialects.recognise_event("connected", "{}") is None
    assert dialects.recognise_event(None, "[DONE]") is None


TEXT_EVENTS = [
    (name, event)
    for name in dialects.NAMES
    for event in sorted(map(str, dialects.load(name).text_events))
]


@pytest.mark.parametrize(("name", "event"), TEXT_EVENTS)
@given(st.text() | st.just(DONE) | st.builds('{{"text":"{}"}}'.format, st.text()))
def test_events_that_need_no_reading_say_nothing_but_text(
    name: str, event: str, data: str
) -> None:
    """Whatever such an event holds, to pass over it loses nothing but its text."""
    reading = dialects.load(name)(RequestHead("POST", "/")).read_event(event, data)
    assert reading._replace(text="") == Reading(Kind.TEXT)


# Values of every shape under the names that dialects look for.
_WORDS = st.sampled_from(
    [
        *(
            "type",
            "id",
            "index",
            "delta",
            "content",
            "choices",
            "tool_calls",
            "function",
        ),
        *("name", "arguments", "item", "item_id", "call_id", "response", "usage"),
        *("content_block", "partial_json", "candidates", "parts", "functionCall"),
        *("partialArgs", "jsonPath", "toolCallId", "jsonrpc", "result", "method"),
        *("params", "status", "state", "message", "error", "tool_call_id", "event"),
        *("args", "tool_call_chunks", "toolCall", "executed_tools", "output", "text"),
    ]
)
_TYPES = st.sampled_from(
    [
        *("tool_use", "input_json_delta", "content_block_start", "content_block_delta"),
        *("content_block_stop", "message_start", "message_delta", "web_tool_result"),
        *("response.output_item.added", "response.output_item.done", "response.failed"),
        *("response.function_call_arguments.done", "function_call", "x_call_output"),
        *("TOOL_CALL_CHUNK", "TOOL_CALL_RESULT", "RUN_FINISHED", "tool-input-error"),
        *("ai", "tool", "task", "tools/call", "2.0", "$.a[0].b", "text_delta", ""),
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TYPES | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=5)
    ),
    max_leaves=20,
)
_EVENTS = st.sampled_from(
    [
        *(
            None,
            "message",
            "error",
            "messages",
            "messages/partial",
            "updates|a",
            "tools",
        ),
        *("metadata", "content_block_start", "response.output_item.done", "endpoint"),
    ]
)


@pytest.mark.parametrize("name", dialects.NAMES)
@settings(max_examples=40)
@given(st.lists(st.tuples(_EVENTS, _VALUES), max_size=6))
def test_whatever_a_peer_sends_is_read(
    name: str, events: list[tuple[str | None, object]]
) -> None:
    """A frame that does not fit is no error, and neither is a body or a request."""
    read(name, events)
    for _, value in events:
        read_body(name, value, request=json.dumps(value).encode())
        dialects.recognise_event(None, json.dumps(value))


def _function(index: int, **call: object) -> dict[str, object]:
    function = {"name": "f", "arguments": "{"}
    piece = {"index": index, "function": function, **call}
    return {"index": 0, "delta": {"tool_calls": [piece]}}


def _part(**call: object) -> dict[str, object]:
    return {"candidates": [{"content": {"parts": [{"functionCall": call}]}}]}


def _chunk(number: int, **values: object) -> list[object]:
    return [{"type": "AIMessageChunk", "id": f"m{number}", "content": "", **values}]


_LONG: dict[str, tuple[str, str | None, Callable[[int], object]]] = {
    "chat: a call each": (
        *("openai_chat", None),
        lambda n: {"choices": [_function(n, id=f"c{n}")]},
    ),
    "chat: a choice each": (
        *("openai_chat", None),
        lambda n: {"choices": [_function(0, id=f"c{n}") | {"index": n}]},
    ),
    "responses: an item each": (
        *("openai_responses", "response.output_item.added"),
        lambda n: {"output_index": n, "item": {"type": "x_call", "id": f"c{n}"}},
    ),
    "anthropic: a block each": (
        *("anthropic", "content_block_start"),
        lambda n: {"index": n, "content_block": {"type": "tool_use", "id": f"c{n}"}},
    ),
    "gemini: an argument each": (
        *("gemini", None),
        lambda n: _part(
            willContinue=True,
            partialArgs=[{"jsonPath": f"$.x{n}"}],
            **({} if n else {"name": "f"}),
        ),
    ),
    "langgraph: a call in pieces each": (
        *("langgraph", "messages"),
        lambda n: _chunk(n, tool_call_chunks=[{"index": 0, "id": f"c{n}"}]),
    ),
    "langgraph: a whole call each": (
        *("langgraph", "messages"),
        lambda n: (
            _chunk(n, tool_calls=[{"id": f"c{n}"}])
            if n % 2
            else _chunk(n, tool_call_chunks=[{"index": 0, "id": f"c{n}"}])
        ),
    ),
    "ag_ui: a call each": (
        *("ag_ui", None),
        lambda n: {"type": "TOOL_CALL_START", "toolCallId": f"c{n}"},
    ),
    "meibel: a piece of text each": (
        *("meibel", "partial_response"),
        lambda n: {"data": {"message": f"{n} "}},
    ),
}


@pytest.mark.parametrize("what", list(_LONG))
def test_the_work_for_an_event_does_not_grow_with_the_stream(what: str) -> None:
    """By the lines that are run, which are the same each time."""
    name, event, payload = _LONG[what]
    lines = 0

    def count(_: FrameType, kind: str, __: Any) -> Any:
        nonlocal lines
        lines += kind == "line"
        return count

    def work(length: int) -> int:
        nonlocal lines
        lines = 0
        dialect = dialects.load(name)(RequestHead("POST", "/"))
        events = [json.dumps(payload(number)) for number in range(length)]
        earlier = sys.gettrace()
        sys.settrace(count)
        try:
            for data in events:
                dialect.read_event(event, data)
        finally:
            sys.settrace(earlier)
        return lines

    assert work(400) < 5 * work(100)


# One stream of each, with something of every kind in it.
_STREAMS: dict[str, list[tuple[str | None, Any]]] = {
    "meibel": [
        ("connected", {"signal_id": "s"}),
        ("tool_call", {"tool_id": "a", "tool_name": "f", "arguments": {"x": 1}}),
        ("tool_result", {"tool_id": "a", "result": {"status": "error"}}),
        ("partial_response", {"data": {"message": "Hi"}}),
        ("completion", {"data": {"message": "Hi"}, "usage": {"input_tokens": 1}}),
    ],
    "openai_chat": [
        (None, {"model": "m", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}),
        (None, {"choices": [_function(0, id="a")]}),
        (None, {"choices": [{"delta": {"function_call": {"name": "f"}}}]}),
        (None, {"choices": [{"delta": {"audio": {"transcript": "Hi"}}}]}),
        (None, {"choices": [{"delta": {"executed_tools": [{"type": "x"}]}}]}),
        (None, {"choices": [{"index": 0, "finish_reason": "stop"}]}),
        (None, {"choices": [], "usage": {"prompt_tokens": 1}}),
        ("error", {"error": {"message": "no", "failed_generation": '{"name":"f"}'}}),
    ],
    "openai_responses": [
        (None, {"type": "response.created", "response": {"conversation": {"id": "c"}}}),
        *(
            (
                None,
                {
                    "type": f"response.output_item.{what}",
                    "output_index": 0,
                    "item": {"type": f"{kind}_call", "id": "a", "action": {"x": 1}},
                },
            )
            for kind in ("function", "web_search")
            for what in ("added", "done")
        ),
        (None, {"type": "response.function_call_arguments.delta", "item_id": "a"}),
        (None, {"type": "response.function_call_arguments.done", "item_id": "a"}),
        (None, {"type": "response.completed", "response": {"usage": {"x": 1}}}),
        (None, {"type": "error", "error": {"message": "no"}}),
    ],
    "anthropic": [
        (None, {"type": "message_start", "message": {"usage": {"input_tokens": 1}}}),
        (None, {"type": "content_block_start", "content_block": {"type": "tool_use"}}),
        (
            None,
            {
                "type": "content_block_delta",
                "delta": {"type": "input_json_delta", "partial_json": "{"},
            },
        ),
        (None, {"type": "content_block_stop", "index": 0}),
        (
            None,
            {
                "type": "content_block_start",
                "content_block": {"type": "x_tool_result", "content": {"x": 1}},
            },
        ),
        (None, {"type": "message_delta", "delta": {"stop_reason": "x"}, "usage": {}}),
    ],
    "gemini": [
        (None, {"promptFeedback": {"blockReason": "x"}, "usageMetadata": {"x": 1}}),
        (None, _part(name="f", id="a", args={"x": 1})),
        (None, _part(name="f", willContinue=True)),
        (None, _part(partialArgs=[{"jsonPath": "$.a[0].b", "stringValue": "x"}])),
        (None, _part()),
        (
            None,
            {"candidates": [{"content": {"parts": [{"executableCode": {"x": 1}}]}}]},
        ),
    ],
    "gemini_interactions": [
        ("interaction.created", {"interaction": {"model": "m"}}),
        ("step.start", {"index": 0, "step": {"type": "function_call", "id": "a"}}),
        ("step.delta", {"index": 0, "delta": {"type": "arguments_delta"}}),
        ("step.delta", {"index": 0, "delta": {"type": "x_call", "arguments": {}}}),
        ("step.stop", {"index": 0}),
        ("step.start", {"index": 1, "step": {"type": "x_result", "call_id": "a"}}),
        ("step.stop", {"index": 1}),
        ("interaction.completed", {"interaction": {"usage": {"x": 1}}}),
    ],
    "langgraph": [
        ("metadata", {"run_id": "r"}),
        ("values", {"messages": [{"type": "ai", "id": "m", "tool_calls": [{}]}]}),
        ("messages", _chunk(1, tool_call_chunks=[{"index": 0, "id": "a"}])),
        ("updates", {"x": {"messages": [{"type": "tool", "tool_call_id": "a"}]}}),
        ("events", {"event": "on_chat_model_stream", "data": {"chunk": {"x": 1}}}),
        ("tools", {"event": "tool-started", "tool_call_id": "b", "input": {}}),
        (None, {"type": "event", "method": "values", "params": {"data": {"x": 1}}}),
        ("error", {"error": "E", "message": "no"}),
    ],
    "vercel_ui": [
        (None, {"type": "start"}),
        (None, {"type": "tool-input-available", "toolCallId": "a", "input": {"x": 1}}),
        (None, {"type": "tool-output-error", "toolCallId": "a", "errorText": "no"}),
        (None, {"type": "finish", "finishReason": "stop"}),
    ],
    "a2a": [
        (
            None,
            {"jsonrpc": "2.0", "result": {"kind": "task", "status": {"state": "x"}}},
        ),
        (None, {"artifactUpdate": {"artifact": {"parts": [{"text": "Hi"}]}}}),
        (None, {"statusUpdate": {"status": {"message": {"parts": [{"text": "Hi"}]}}}}),
        ("error", {"error": {"code": 1}}),
    ],
    "mcp": [
        ("message", {"jsonrpc": "2.0", "id": 1, "result": {"isError": True}}),
        ("message", [{"jsonrpc": "2.0", "method": "x"}, {"id": 1, "error": {"x": 1}}]),
    ],
    "ag_ui": [
        (None, {"type": "RUN_STARTED", "threadId": "t"}),
        (None, {"type": "TOOL_CALL_CHUNK", "toolCallId": "a", "delta": "{"}),
        (None, {"type": "TOOL_CALL_RESULT", "toolCallId": "a", "content": {"x": 1}}),
        (None, {"type": "RUN_FINISHED", "outcome": {"type": "x"}, "usage": [{}]}),
    ],
}
_ODD = _VALUES | st.sampled_from(
    [
        "",
        "9" * 5_000,
        "$.a[" + "9" * 5_000 + "]",
        "\ud83d",
        2**63 - 1,
        2**63,
        -1,
        [[]],
        [{}],
        {"": 0},
    ]
)


@st.composite
def _bent(draw: st.DrawFn, stream: list[tuple[str | None, Any]]) -> Any:
    """Return a stream in which some values are what nobody expects."""
    events = json.loads(json.dumps(stream))
    for _ in range(draw(st.integers(1, 4))):
        holder = draw(st.sampled_from(events))
        key: Any = 1
        while isinstance(held := holder[key], dict | list) and held:
            if draw(st.integers(0, 3)) == 0:
                break
            keys = list(held) if isinstance(held, dict) else range(len(held))
            holder, key = held, draw(st.sampled_from(keys))
        holder[key] = json.loads(json.dumps(draw(_ODD)))
    return [tuple(event) for event in events]


@pytest.mark.parametrize("name", dialects.NAMES)
@settings(max_examples=60)
@given(st.data())
def test_whatever_has_the_right_shape_is_read(name: str, data: st.DataObject) -> None:
    """A value of the wrong type where another is expected is no error either."""
    events = data.draw(_bent(_STREAMS[name]))
    story = read(name, events)
    for call in story.tools:
        for text in (call.tool_id, call.tool_name, call.arguments, call.result):
            assert text is None or isinstance(text, str)
            assert text is None or text.encode() is not None
    for reading in story.readings:
        assert type(reading.kind) is Kind
        assert type(reading.terminal) is bool
        for count in (reading.input_tokens, reading.output_tokens):
            assert count is None or 0 <= count < 2**63
        for text in (reading.text, reading.model, reading.finish_reason):
            assert text is None or isinstance(text, str)


_MEMBERS = st.sampled_from(
    [
        *("role", "type", "content", "parts", "tool_calls", "toolCalls", "function"),
        *("function_call", "functionCall", "functionResponse", "tool_call_id", "id"),
        *("call_id", "toolCallId", "tool_use_id", "name", "arguments", "input", "args"),
        *("output", "response", "state", "text", "status", "action"),
    ]
)
_WORDS_OF_REQUESTS = st.sampled_from(
    [
        *("user", "assistant", "model", "tool", "function", "tool_use", "tool_result"),
        *("function_call", "function_call_output", "message", "reasoning", "text", ""),
        *("step-start", "tool-a", "output-available", "output-error", "{", "{}"),
    ]
)
_STEPS = st.recursive(
    st.none() | st.integers() | _WORDS_OF_REQUESTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_MEMBERS, inner, max_size=6)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("name", dialects.NAMES)
@given(
    st.dictionaries(
        st.sampled_from(["messages", "input", "contents", "conversation", "id"]),
        st.lists(st.dictionaries(_MEMBERS, _STEPS, max_size=6), max_size=4) | _STEPS,
        max_size=3,
    )
)
def test_whatever_a_client_repeats_is_read(name: str, request: object) -> None:
    """What is no step of a conversation is left out; text is text."""
    turn = dialects.load(name).read_turn(json.dumps(request).encode())
    assert turn.thread is None or isinstance(turn.thread, str)
    for result in turn.results:
        assert isinstance(result.failed, bool)
        for text in result._replace(failed=None):  # type: ignore[arg-type]
            assert text is None or isinstance(text, str)
