"""The rules of LangGraph's platform."""

from __future__ import annotations

from typing import Any

from reading import read

from sse_recorder.dialects.langgraph import LangGraph
from sse_recorder.exchange import RequestHead

START = ("metadata", {"run_id": "r", "attempt": 1})
END = ("end", "null")


def chunk(**values: Any) -> tuple[str, list[object]]:
    """Return a piece of a message of the model."""
    return "messages", [{"type": "AIMessageChunk", "id": "m", **values}, {}]


def piece(index: int, args: str, **call: Any) -> tuple[str, list[object]]:
    """Return a piece of a call."""
    return chunk(content="", tool_call_chunks=[{"index": index, "args": args, **call}])


CALL = {"id": "a", "name": "f", "args": {"x": 1}}
CALLING = {"type": "ai", "id": "m", "content": "", "tool_calls": [CALL]}
RESULT = {"type": "tool", "tool_call_id": "a", "content": "done", "status": "success"}


def test_it_is_known_by_its_operation_or_by_its_first_event() -> None:
    """The thread is the session."""
    head = RequestHead("POST", "/threads/t1/runs/stream")
    assert LangGraph.recognises(head)
    assert LangGraph(head).session_id() == "t1"
    assert LangGraph.recognises(RequestHead("POST", "/runs/stream"))
    assert LangGraph(RequestHead("POST", "/runs/stream")).session_id() is None
    assert not LangGraph.recognises(RequestHead("POST", "/threads/t1/runs"))
    assert LangGraph.recognises_event("metadata", '{"run_id":"r"}')
    assert not LangGraph.recognises_event("metadata", "{}")


def test_messages_come_in_pieces_or_as_far_as_they_are() -> None:
    """The text of either is told once."""
    usage = {"input_tokens": 3, "output_tokens": 5}
    story = read(
        "langgraph",
        [
            START,
            chunk(content="Hel"),
            chunk(content=[{"type": "text", "text": "lo"}]),
            chunk(content="", usage_metadata=usage),
            ("custom", {"anything": 1}),
            END,
        ],
    )
    assert story.kinds == ["connected", "text", "text", "usage", "status", "finish"]
    assert story.text == "Hello"
    assert (story.last("input_tokens"), story.last("output_tokens")) == (3, 5)
    assert story.readings[-1].terminal
    so_far = [
        ("messages/partial", [{"type": "ai", "id": "m", "content": t}])
        for t in ("Hel", "Hello")
    ]
    assert read("langgraph", so_far).text == "Hello"


def test_a_call_in_pieces_is_complete_when_a_tool_has_returned() -> None:
    """Or the graph's state has it whole."""
    story = read(
        "langgraph",
        [
            piece(0, "", id="a", name="f"),
            piece(0, '{"x":1}'),
            ("updates|child:1", {"model": {"messages": [CALLING]}}),
            ("messages", [RESULT, {}]),
        ],
    )
    assert story.calls == [("a", "f", '{"x":1}', "done", "ok")]
    assert story.spans == [(1, 3, 4)]
    assert story.kinds == [
        *("tool_call", "tool_call_delta", "tool_call", "tool_result"),
    ]


def test_several_modes_tell_a_call_once() -> None:
    """The first is the one that counts."""
    story = read(
        "langgraph",
        [
            (
                "tools",
                {
                    "event": "tool-started",
                    "tool_call_id": "a",
                    "tool_name": "f",
                    "input": {"x": 1},
                },
            ),
            ("updates", {"model": {"messages": [CALLING]}}),
            (
                "tools",
                {"event": "tool-finished", "tool_call_id": "a", "output": "done"},
            ),
            ("updates", {"tools": {"messages": [RESULT]}}),
            ("values", {"messages": [CALLING, RESULT]}),
        ],
    )
    assert story.calls == [("a", "f", '{"x":1}', "done", "ok")]
    assert story.spans == [(1, 1, 3)]


def test_a_tool_may_fail() -> None:
    """By the message, or by the event."""
    failed = {**RESULT, "status": "error"}
    event = {"event": "tool-error", "tool_call_id": "b", "message": "no"}
    story = read(
        "langgraph",
        [
            ("values", {"messages": [CALLING, failed]}),
            ("tools", {"event": "tool-started", "tool_call_id": "b", "tool_name": "g"}),
            ("tools", event),
        ],
    )
    assert [call[4] for call in story.calls] == ["error", "error"]


def test_an_error_is_the_end() -> None:
    """With its message."""
    story = read("langgraph", [("error", {"error": "E", "message": "no"})])
    assert (story.kinds, story.last("error")) == (["error"], "no")
