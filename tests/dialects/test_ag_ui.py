"""The rules of AG-UI."""

from __future__ import annotations

import json
from typing import Any

from reading import new_results, read

from sse_recorder.dialects.ag_ui import AgUi


def event(type_: str, **payload: Any) -> dict[str, Any]:
    """Return an event."""
    return {"type": type_, **payload}


def test_it_is_known_by_its_first_event() -> None:
    """By its type, in upper case."""
    assert AgUi.recognises_event(None, '{"type":"RUN_STARTED"}')
    assert not AgUi.recognises_event(None, '{"type":"run_started"}')


def test_a_run_says_text_and_ends() -> None:
    """Its thread is the session; its usage is the sum over models."""
    usage = [{"inputTokens": 3, "outputTokens": 5}, {"inputTokens": 30}]
    story = read(
        "ag_ui",
        [
            event("RUN_STARTED", threadId="t", runId="r"),
            event("REASONING_MESSAGE_CONTENT", delta="hm"),
            event("TEXT_MESSAGE_START", messageId="m"),
            event("TEXT_MESSAGE_CONTENT", messageId="m", delta="Hel"),
            event("TEXT_MESSAGE_CHUNK", messageId="m", delta="lo"),
            event("TEXT_MESSAGE_END", messageId="m"),
            event("SOMETHING_NEW"),
            event("RUN_FINISHED", outcome={"type": "success"}, usage=usage),
        ],
    )
    assert story.kinds == [
        *("connected", "reasoning", "status", "text", "text", "status"),
        *("other", "finish"),
    ]
    assert story.text == "Hello"
    assert story.last("session_id") == "t"
    assert (story.last("input_tokens"), story.last("output_tokens")) == (33, 5)
    assert story.last("finish_reason") == "success"
    assert story.readings[-1].terminal


def test_a_tool_runs_from_the_end_of_its_call_to_its_result() -> None:
    """Two may run at once; one of the frontend has no result here."""
    story = read(
        "ag_ui",
        [
            event("TOOL_CALL_START", toolCallId="a", toolCallName="f"),
            event("TOOL_CALL_ARGS", toolCallId="a", delta='{"x":'),
            event("TOOL_CALL_ARGS", toolCallId="a", delta="1}"),
            event("TOOL_CALL_END", toolCallId="a"),
            event("TOOL_CALL_START", toolCallId="b", toolCallName="g"),
            event("TOOL_CALL_END", toolCallId="b"),
            event("TOOL_CALL_RESULT", toolCallId="a", content="done"),
        ],
    )
    assert story.calls == [
        ("a", "f", '{"x":1}', "done", "ok"),
        ("b", "g", None, None, "unanswered"),
    ]
    assert story.spans == [(1, 4, 7), (5, 6, None)]


def test_a_call_in_chunks_ends_with_whatever_is_no_more_of_it() -> None:
    """Its first chunk has its id and name; another id is another call."""
    story = read(
        "ag_ui",
        [
            event("TOOL_CALL_CHUNK", toolCallId="a", toolCallName="f", delta="{"),
            event("TOOL_CALL_CHUNK", delta="}"),
            event("TOOL_CALL_CHUNK", toolCallId="b", toolCallName="g", delta="[]"),
            event("TOOL_CALL_RESULT", toolCallId="b", content={"x": 1}),
        ],
    )
    assert story.calls == [
        ("a", "f", "{}", None, "unanswered"),
        ("b", "g", "[]", '{"x":1}', "ok"),
    ]
    assert story.spans == [(1, 3, None), (3, 4, 4)]


def test_an_error_is_the_end() -> None:
    """With its message."""
    story = read("ag_ui", [event("RUN_ERROR", message="no", code="c")])
    assert story.kinds == ["error"]
    assert story.last("error") == "no"


def test_results_of_the_frontend_are_messages_of_tools() -> None:
    """The thread is the conversation."""
    function = {"name": "confirm", "arguments": "{}"}
    calls = [{"id": "c1", "type": "function", "function": function}]
    request = {
        "threadId": "t",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "toolCalls": calls},
            {"role": "tool", "toolCallId": "c1", "content": "yes", "error": "late"},
        ],
    }
    assert new_results("ag_ui", request) == [("c1", "yes", True, "confirm", "{}")]
    assert AgUi.read_turn(json.dumps(request).encode()).thread == "t"
