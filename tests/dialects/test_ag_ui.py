"""The rules of AG-UI."""

from __future__ import annotations

import json
from typing import Any

from reading import new_results, read

from sse_recorder.dialects.ag_ui import AgUi
from sse_recorder.exchange import RequestHead


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


def test_the_model_is_told_with_its_usage() -> None:
    """Where it is one; an error has usage, too."""
    one = [{"model": "m", "inputTokens": 3}, {"model": "m", "inputTokens": 4}]
    story = read("ag_ui", [event("RUN_ERROR", message="no", usage=one)])
    assert (story.last("model"), story.last("input_tokens")) == ("m", 7)
    two = [{"model": "m"}, {"model": "n"}]
    story = read("ag_ui", [event("RUN_FINISHED", usage=two)])
    assert story.last("model") is None


def test_what_is_not_for_the_reader_is_status() -> None:
    """Activities, subagents, and what only the server can read."""
    types = ("ACTIVITY_SNAPSHOT", "SUBAGENT_ERROR", "REASONING_ENCRYPTED_VALUE")
    story = read("ag_ui", [event(type_) for type_ in types])
    assert story.kinds == ["status"] * 3


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


def test_the_tools_of_one_message_run_when_it_is_whole() -> None:
    """Not while the model still says the second; one with its result has run."""
    story = read(
        "ag_ui",
        [
            event("TOOL_CALL_START", toolCallId="z", toolCallName="f"),
            event("TOOL_CALL_END", toolCallId="z"),
            event("TOOL_CALL_START", toolCallId="a", parentMessageId="m"),
            event("TOOL_CALL_END", toolCallId="a"),
            event("TOOL_CALL_RESULT", toolCallId="a", content="early"),
            event("TOOL_CALL_START", toolCallId="b", parentMessageId="m"),
            event("TOOL_CALL_END", toolCallId="b"),
            event("TOOL_CALL_CHUNK", toolCallId="c", parentMessageId="m", delta="{}"),
            event("STEP_STARTED"),
            event("TOOL_CALL_START", toolCallId="d", parentMessageId="n"),
            event("TOOL_CALL_END", toolCallId="d"),
        ],
    )
    assert story.spans == [
        (1, 2, None),
        (3, 4, 5),
        (6, 9, None),
        (8, 9, None),
        (10, 11, None),
    ]
    assert [call[2] for call in story.calls] == [None, None, None, "{}", None]


def test_a_message_of_very_many_calls_is_read_in_no_time() -> None:
    """Only of the last of them it is said again that they are whole."""
    dialect = AgUi(RequestHead("POST", "/"))
    for number in range(1_000):
        key = {"toolCallId": str(number), "parentMessageId": "m"}
        dialect.read_event(None, json.dumps(event("TOOL_CALL_START", **key)))
        reading = dialect.read_event(None, json.dumps(event("TOOL_CALL_END", **key)))
        assert len(reading.tools) < 100


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


def test_a_call_without_an_id_is_one_call() -> None:
    """It is told from no other, but its pieces and its result are its own."""
    story = read(
        "ag_ui",
        [
            event("TOOL_CALL_START", toolCallName="f"),
            event("TOOL_CALL_ARGS", delta="{}"),
            event("TOOL_CALL_END"),
            event("TOOL_CALL_RESULT", content=""),
        ],
    )
    assert story.calls == [(None, "f", "{}", "", "ok")]


def test_more_tokens_than_a_column_holds_are_not_known() -> None:
    """Two counts that are possible may have a sum that is not."""
    usage = [{"inputTokens": 2**62 + n} for n in range(2)] * 2
    story = read("ag_ui", [event("RUN_FINISHED", usage=usage)])
    assert story.last("input_tokens") is None
