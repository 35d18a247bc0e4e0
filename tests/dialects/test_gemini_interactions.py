"""The rules of Gemini's Interactions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from reading import new_results, read, read_body

from sse_recorder.dialects.gemini_interactions import GeminiInteractions
from sse_recorder.exchange import RequestHead

USAGE = {"total_input_tokens": 3, "total_output_tokens": 5, "total_thought_tokens": 7}


def event(type_: str, **payload: Any) -> tuple[str, dict[str, Any]]:
    """Return an event, which has its type twice."""
    return type_, {"event_type": type_, **payload}


def start(index: int, type_: str, **step: Any) -> tuple[str, dict[str, Any]]:
    """Return the begin of a step."""
    return event("step.start", index=index, step={"type": type_, **step})


def delta(index: int, type_: str, **values: Any) -> tuple[str, dict[str, Any]]:
    """Return more of a step."""
    return event("step.delta", index=index, delta={"type": type_, **values})


def stop(index: int) -> tuple[str, dict[str, Any]]:
    """Return the end of a step."""
    return event("step.stop", index=index)


def test_it_is_known_by_its_path_or_by_the_type_of_its_events() -> None:
    """An interaction can be streamed again by its id."""
    for path in ("/v1beta/interactions?alt=sse", "/v1/interactions/i1"):
        assert GeminiInteractions.recognises(RequestHead("POST", path))
    assert not GeminiInteractions.recognises(RequestHead("POST", "/api/interactions"))
    first = '{"event_type":"interaction.created"}'
    assert GeminiInteractions.recognises_event(None, first)
    assert not GeminiInteractions.recognises_event(None, '{"event_type":7}')


def test_an_interaction_is_steps_of_thinking_and_text() -> None:
    """Its end has the usage; what is thought counts as output."""
    story = read(
        "gemini_interactions",
        [
            event("interaction.created", interaction={"id": "i", "model": "m"}),
            event("interaction.status_update", status="in_progress"),
            start(0, "thought"),
            delta(0, "thought_summary", content={"text": "hm"}),
            delta(0, "thought_signature", signature="x"),
            start(1, "model_output", content=[{"type": "text", "text": "Hel"}]),
            delta(1, "text", text="lo"),
            delta(1, "image", data="x"),
            stop(1),
            event(
                "interaction.completed",
                interaction={"status": "requires_action", "usage": USAGE},
            ),
            "[DONE]",
            ("something_new", {}),
        ],
    )
    assert story.kinds == [
        *("connected", "status", "status", "reasoning", "status", "text", "text"),
        *("text", "status", "finish", "finish", "other"),
    ]
    assert story.text == "Hello"
    assert story.last("model") == "m"
    assert story.last("finish_reason") == "requires_action"
    assert (story.last("input_tokens"), story.last("output_tokens")) == (3, 12)
    assert [n for n, r in enumerate(story.readings) if r.terminal] == [9, 10]


def test_a_function_is_called_when_its_step_stops() -> None:
    """Its arguments come in pieces, or whole; without an id it goes by its place."""
    story = read(
        "gemini_interactions",
        [
            start(0, "function_call", id="a", name="f", arguments={}),
            delta(0, "arguments_delta", arguments='{"x":'),
            delta(0, "arguments_delta", arguments="1}"),
            stop(0),
            start(1, "function_call", name="g", arguments={"y": 2}),
            stop(1),
        ],
    )
    assert story.calls == [
        ("a", "f", '{"x":1}', None, "unanswered"),
        (None, "g", '{"y":2}', None, "unanswered"),
    ]
    assert story.spans == [(1, 4, None), (5, 6, None)]
    assert story.kinds == [
        *("tool_call", "tool_call_delta", "tool_call_delta", "tool_call"),
        *("tool_call", "tool_call"),
    ]


def test_what_the_provider_runs_returns_in_a_later_step() -> None:
    """By the id of the call; what either has may come in a delta."""
    story = read(
        "gemini_interactions",
        [
            start(0, "google_search_call", id="a"),
            delta(0, "google_search_call", arguments={"queries": ["q"]}),
            stop(0),
            start(1, "google_search_result", call_id="a"),
            delta(1, "google_search_result", result=[1]),
            stop(1),
            start(2, "mcp_server_tool_call", id="b", name="ask", arguments={}),
            stop(2),
            start(3, "mcp_server_tool_result", call_id="b", result="no", is_error=True),
            stop(3),
        ],
    )
    assert story.calls == [
        ("a", "google_search", '{"queries":["q"]}', "[1]", "ok"),
        ("b", "ask", "{}", "no", "error"),
    ]
    assert story.spans == [(1, 3, 6), (7, 8, 10)]
    assert story.kinds[2:6] == ["tool_call", "status", "status", "tool_result"]


def test_an_error_is_the_end() -> None:
    """In the stream, or as the whole answer, which may have the status 200."""
    error = {"code": "invalid_request", "message": "no"}
    story = read("gemini_interactions", [event("error", error=error)])
    assert (story.kinds, story.last("error")) == (["error"], "no")
    assert story.readings[0].terminal
    assert read_body("gemini_interactions", {"error": error}).last("error") == "no"


def test_an_answer_that_is_not_streamed_says_the_same() -> None:
    """With its steps, whole."""
    said = {"type": "model_output", "content": [{"type": "text", "text": "Hi"}]}
    call = {"type": "function_call", "id": "a", "name": "f", "arguments": {"x": 1}}
    body = {"model": "m", "status": "completed", "steps": [said, call], "usage": USAGE}
    story = read_body("gemini_interactions", body)
    assert (story.kinds, story.text) == (["text"], "Hi")
    assert story.calls == [("a", "f", '{"x":1}', None, "unanswered")]
    assert story.last("finish_reason") == "completed"
    assert (story.last("input_tokens"), story.last("output_tokens")) == (3, 12)
    begun = read_body("gemini_interactions", {"status": "in_progress"})
    assert begun.last("finish_reason") is None


RESULT = {"type": "function_result", "call_id": "a", "name": "f", "result": "sun"}
CALL = {"type": "function_call", "id": "a", "name": "f", "arguments": {"x": 1}}
USER = {"type": "user_input", "content": [{"type": "text", "text": "Hi"}]}


@pytest.mark.parametrize(
    "steps",
    [
        [USER, {"type": "thought"}, CALL, RESULT],
        [
            {"role": "user", "content": "Hi"},
            {"role": "model", "content": [CALL]},
            {"role": "user", "content": [RESULT]},
        ],
    ],
    ids=["steps", "turns"],
)
def test_results_are_steps_of_the_input(steps: list[dict[str, Any]]) -> None:
    """Their calls are steps before them, where they are repeated."""
    found = [("a", "sun", False, "f", '{"x":1}')]
    assert new_results("gemini_interactions", {"input": steps}) == found
    answer = {"type": "model_output", "content": [{"type": "text", "text": "Sunny"}]}
    over = {"input": [*steps, answer, USER]}
    assert new_results("gemini_interactions", over) == []

    def thread(value: object) -> str | None:
        body = json.dumps({"input": value}).encode()
        return GeminiInteractions.read_turn(body).thread

    assert thread(steps) == thread("Hi") == thread([USER]) is not None


def test_a_result_may_be_all_there_is() -> None:
    """Where the interaction before is named."""
    sent = {**RESULT, "result": {"sky": "blue"}, "is_error": True}
    request = {"previous_interaction_id": "i", "input": [sent]}
    assert new_results("gemini_interactions", request) == [
        ("a", '{"sky":"blue"}', True, "f", None)
    ]


def test_counts_that_fit_no_column_are_none() -> None:
    """Their sum is no more to be believed than they are."""
    usage = {"total_output_tokens": 2**63 - 1, "total_thought_tokens": 1}
    story = read_body("gemini_interactions", {"usage": usage})
    assert story.last("output_tokens") is None
