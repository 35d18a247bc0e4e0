"""The rules by which a dialect is found."""

from __future__ import annotations

import json

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
