"""The rules of LangGraph's platform."""

from __future__ import annotations

from typing import Any

import pytest
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
    for path in ("/threads/t1/stream", "/threads/t1/stream/events"):
        assert LangGraph(RequestHead("GET", path)).session_id() == "t1"
        assert LangGraph.recognises(RequestHead("GET", path))
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
            ("values", {"messages": []}),
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


def test_the_state_that_a_run_begins_with_is_not_its_own() -> None:
    """Its calls and tokens are those of earlier runs, but for what it goes on with."""
    asked = {**CALLING, "id": "m2", "tool_calls": [{**CALL, "id": "b"}]}
    given_up = {**CALLING, "id": "m1", "tool_calls": [{**CALL, "id": "c"}]}
    old = {**CALLING, "usage_metadata": {"input_tokens": 90}}
    before = [old, RESULT, given_up, asked]
    after = [
        *before,
        {**RESULT, "tool_call_id": "b", "content": ""},
        {
            "type": "ai",
            "id": "m3",
            "content": "Hi",
            "usage_metadata": {"input_tokens": 3, "output_tokens": 5},
        },
    ]
    story = read(
        "langgraph",
        [
            ("values", {"messages": before}),
            ("values", {"messages": after}),
            ("values|child:1", {"messages": after}),
        ],
    )
    assert story.calls == [("b", "f", '{"x":1}', "", "ok")]
    assert story.spans == [(1, 1, 2)]
    assert (story.last("input_tokens"), story.last("output_tokens")) == (3, 5)


def test_the_tokens_of_a_run_are_those_of_its_messages() -> None:
    """In pieces, whose counts add up, or whole; a message is counted once."""

    def usage(given: int, made: int) -> dict[str, Any]:
        return {"usage_metadata": {"input_tokens": given, "output_tokens": made}}

    one = {"type": "ai", "id": "m", "content": "", **usage(10, 4)}
    two = {"type": "ai", "id": "n", "content": "", **usage(20, 2)}
    story = read(
        "langgraph",
        [
            chunk(content="", **usage(10, 1)),
            chunk(content="", **usage(0, 3)),
            ("updates", {"model": {"messages": [one]}}),
            ("updates", {"model": {"messages": [two]}}),
        ],
    )
    totals = [(r.input_tokens, r.output_tokens) for r in story.readings]
    assert totals == [(10, 1), (10, 4), (10, 4), (30, 6)]


def test_an_answer_that_only_an_update_has_is_content() -> None:
    """It is no text, since another mode may have told it in pieces."""
    answer = {"type": "ai", "id": "m", "content": "Hello"}
    story = read("langgraph", [("updates", {"model": {"messages": [answer]}})])
    assert (story.kinds, story.text) == (["status"], "Hello")
    piece_ = chunk(content="Hello")
    update = ("updates", {"model": {"messages": [answer]}})
    assert read("langgraph", [piece_, update]).text == "Hello"


def test_events_of_the_graphs_parts_have_messages_in_them() -> None:
    """The mode `events` wraps what the model says and what tools return."""

    def event(name: str, **data: Any) -> tuple[str, dict[str, Any]]:
        return "events", {"event": name, "name": "f", "run_id": "r", "data": data}

    piece_ = {"type": "AIMessageChunk", "id": "m", "content": "Hi"}
    story = read(
        "langgraph",
        [
            event("on_chain_start", input={"messages": [CALLING]}),
            event("on_chat_model_stream", chunk=piece_),
            event("on_chat_model_end", output=CALLING),
            event("on_tool_start", input={"x": 1}),
            event("on_tool_end", output=RESULT),
        ],
    )
    assert story.kinds == ["status", "text", "tool_call", "status", "tool_result"]
    assert story.text == "Hi"
    assert story.calls == [("a", "f", '{"x":1}', "done", "ok")]


def test_an_event_may_be_in_an_envelope() -> None:
    """Of the second protocol, which has the mode and the namespace within."""

    def event(method: str, data: object) -> dict[str, Any]:
        params = {"namespace": ["child:1"], "data": data}
        return {"type": "event", "method": method, "params": params, "seq": 1}

    started = {"event": "tool-started", "tool_call_id": "a", "tool_name": "f"}
    delta = {"event": "content-block-delta", "delta": {"type": "text", "text": "Hi"}}
    story = read(
        "langgraph",
        [
            event("messages", delta),
            event("tools", started),
            event("tools", {**started, "event": "tool-finished", "output": "done"}),
            event("lifecycle", {"event": "completed"}),
        ],
    )
    assert story.kinds == ["text", "tool_call", "tool_result", "status"]
    assert story.text == "Hi"
    assert story.calls == [("a", "f", None, "done", "ok")]


def test_a_call_that_was_told_is_not_begun_again() -> None:
    """A piece of it may come after another mode had all of it."""
    started = {"event": "tool-started", "tool_call_id": "a", "tool_name": "f"}
    story = read("langgraph", [("tools", started), piece(0, "{}", id="a", name="f")])
    assert [call[0] for call in story.calls] == ["a"]


@pytest.mark.parametrize(
    "said",
    [
        {"content": [{"type": "thinking", "thinking": "hm"}]},
        {"content": [{"type": "reasoning", "summary": []}]},
        {"content": "", "additional_kwargs": {"reasoning_content": "hm"}},
    ],
)
def test_a_message_may_be_reasoning(said: dict[str, Any]) -> None:
    """As each vendor has it."""
    story = read("langgraph", [chunk(**said)])
    assert (story.kinds, story.text) == (["reasoning"], "")


def test_pieces_of_calls_may_be_interleaved() -> None:
    """A call that was taken for complete goes on; one that was told whole does not."""
    pieces = [
        piece(0, "{", id="a", name="f"),
        piece(1, "[", id="b", name="g"),
        piece(0, "}"),
        piece(1, "]"),
    ]
    calls = read("langgraph", pieces).calls
    assert [call[:3] for call in calls] == [("a", "f", "{}"), ("b", "g", "[]")]
    whole = ("updates", {"model": {"messages": [CALLING]}})
    calls = read("langgraph", [pieces[0], whole, piece(0, "late")]).calls
    assert [call[:3] for call in calls] == [("a", "f", '{"x":1}')]
