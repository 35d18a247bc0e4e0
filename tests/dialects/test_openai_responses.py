"""The rules of OpenAI's Responses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from reading import new_results, read, read_body

from sse_recorder.dialects.openai_responses import OpenAIResponses
from sse_recorder.dialects.pairing import ToolLedger
from sse_recorder.exchange import RequestHead

RESPONSE = {
    "object": "response",
    "model": "m",
    "status": "completed",
    "conversation": {"id": "conv"},
    "usage": {"input_tokens": 3, "output_tokens": 5},
}


def event(type_: str, **payload: Any) -> tuple[str, dict[str, Any]]:
    """Return an event, which has its type twice."""
    return f"response.{type_}", {"type": f"response.{type_}", **payload}


def item(what: str, **values: Any) -> tuple[str, dict[str, Any]]:
    """Return that an item was added, or is done."""
    return event(f"output_item.{what}", item=values)


def test_it_is_known_by_its_path_or_by_the_type_of_its_events() -> None:
    """Servers that leave out the event's name have the type still."""
    assert OpenAIResponses.recognises(RequestHead("POST", "/v1/responses"))
    assert OpenAIResponses.recognises(
        RequestHead("GET", "/responses/resp_1?stream=true")
    )
    assert not OpenAIResponses.recognises(RequestHead("POST", "/v1/responses/a/cancel"))
    assert OpenAIResponses.recognises_event(None, '{"type":"response.created"}')
    assert not OpenAIResponses.recognises_event("x", '{"type":"message"}')


def test_text_and_reasoning_come_in_deltas() -> None:
    """And the end has the usage."""
    story = read(
        "openai_responses",
        [
            event("created", response=RESPONSE),
            event("in_progress", response=RESPONSE),
            item("added", type="message", id="msg"),
            event("reasoning_summary_text.delta", delta="hm"),
            event("output_text.delta", delta="Hel"),
            event("output_text.delta", delta="lo"),
            event("output_text.done", text="Hello"),
            event("completed", response=RESPONSE),
        ],
    )
    assert story.kinds == [
        *("connected", "status", "status", "reasoning", "text", "text"),
        *("status", "finish"),
    ]
    assert story.text == "Hello"
    assert story.last("session_id") == "conv"
    assert (story.last("input_tokens"), story.last("output_tokens")) == (3, 5)
    assert story.last("finish_reason") == "completed"
    assert story.readings[-1].terminal


def test_a_function_is_called_when_its_arguments_are_done() -> None:
    """Its item, which is done after them, says nothing new."""
    call = {"type": "function_call", "id": "fc", "call_id": "call", "name": "f"}
    story = read(
        "openai_responses",
        [
            item("added", **call, arguments=""),
            event("function_call_arguments.delta", item_id="fc", delta='{"a":'),
            event("function_call_arguments.delta", item_id="fc", delta="1}"),
            event("function_call_arguments.done", item_id="fc", arguments='{"a":1}'),
            item("done", **call, arguments='{"a":1}'),
        ],
    )
    assert story.calls == [("call", "f", '{"a":1}', None, "unanswered")]
    assert story.spans == [(1, 4, None)]
    assert story.kinds[1:4] == ["tool_call_delta", "tool_call_delta", "tool_call"]


def test_a_call_whose_item_is_all_there_is_counts() -> None:
    """Some servers send no deltas."""
    call = {"type": "function_call", "id": "fc", "call_id": "call", "name": "f"}
    story = read("openai_responses", [item("done", **call, arguments="{}")])
    assert story.calls == [("call", "f", "{}", None, "unanswered")]


def test_what_the_provider_runs_has_returned_when_its_item_is_done() -> None:
    """A search has no arguments before: they are told with its results."""
    call = {"type": "file_search_call", "id": "fs"}
    story = read(
        "openai_responses",
        [
            item("added", **call, status="in_progress"),
            event("file_search_call.in_progress", item_id="fs"),
            event("file_search_call.completed", item_id="fs"),
            item("done", **call, status="completed", queries=["q"], results=None),
        ],
    )
    ((tool_id, name, arguments, result, status),) = story.calls
    assert (tool_id, name, arguments) == ("fs", "file_search", '{"queries":["q"]}')
    assert result is not None
    assert status == "ok"
    assert story.spans == [(1, 2, 4)]


def test_code_is_one_argument_and_its_pieces_are_none() -> None:
    """What is streamed is code, and no JSON."""
    story = read(
        "openai_responses",
        [
            item("added", type="code_interpreter_call", id="ci"),
            event("code_interpreter_call.in_progress", item_id="ci"),
            event("code_interpreter_call_code.delta", item_id="ci", delta="1+"),
            event("code_interpreter_call_code.done", item_id="ci", code="1+1"),
            item("done", type="code_interpreter_call", id="ci", status="failed"),
        ],
    )
    assert story.calls[0][1:3] == ("code_interpreter", '{"code":"1+1"}')
    assert story.calls[0][4] == "error"
    assert story.spans == [(1, 4, 5)]


def test_an_output_in_the_stream_answers_the_call_before_it() -> None:
    """By its `call_id`, or by its type where it has none."""
    story = read(
        "openai_responses",
        [
            item("added", type="tool_search_call", id="a"),
            item("done", type="tool_search_call", id="a", arguments={"paths": []}),
            item("added", type="tool_search_output", id="b"),
            item("done", type="tool_search_output", id="b", tools=[]),
            item("done", type="shell_call", id="c", call_id="x", action={"do": 1}),
            item("done", type="shell_call_output", id="d", call_id="x"),
        ],
    )
    assert [call[1] for call in story.calls] == ["tool_search", "shell"]
    assert [call[4] for call in story.calls] == ["ok", "ok"]
    assert story.spans == [(1, 2, 4), (5, 5, 6)]


@pytest.mark.parametrize(
    "end",
    [
        event("failed", response={"error": {"message": "no"}, "status": "failed"}),
        ("error", {"type": "error", "message": "no", "code": "c"}),
    ],
)
def test_errors_are_the_end(end: tuple[str, dict[str, Any]]) -> None:
    """Of the response, or of the stream."""
    story = read("openai_responses", [end])
    assert story.kinds == ["error"]
    assert story.last("error") == "no"
    assert story.readings[-1].terminal


def test_a_response_that_is_cut_says_why() -> None:
    """Its reason is more than its status."""
    response = {"status": "incomplete", "incomplete_details": {"reason": "max_tokens"}}
    story = read("openai_responses", [event("incomplete", response=response)])
    assert story.last("finish_reason") == "max_tokens"


def test_an_answer_that_is_not_streamed_says_the_same() -> None:
    """With its calls, whole."""
    call = {"type": "function_call", "id": "fc", "call_id": "call", "name": "f"}
    story = read_body(
        "openai_responses", {**RESPONSE, "output": [{**call, "arguments": "{}"}]}
    )
    assert story.calls == [("call", "f", "{}", None, "unanswered")]
    assert story.last("output_tokens") == 5


def test_results_are_items_of_the_input() -> None:
    """Whatever the tool; their calls are items before them, if they are repeated."""
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs_1"},
        {"type": "function_call", "call_id": "c1", "name": "a", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "b", "input": "ls"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {
            "type": "custom_tool_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "a.txt"}],
            "status": "failed",
        },
    ]
    assert new_results("openai_responses", {"input": items}) == [
        ("c1", "sun", False, "a", "{}"),
        ("c2", '[{"type":"input_text","text":"a.txt"}]', True, "b", '{"input":"ls"}'),
    ]
    alone = {"previous_response_id": "resp_1", "input": items[-2:-1]}
    assert new_results("openai_responses", alone) == [("c1", "sun", False, None, None)]
    items.append({"type": "message", "role": "assistant", "content": "It is sunny"})
    items.append({"role": "user", "content": "Thanks"})
    assert new_results("openai_responses", {"input": items}) == []


def test_a_request_may_name_its_conversation() -> None:
    """Otherwise its first words have to do."""

    def thread(**request: Any) -> str | None:
        return OpenAIResponses.read_turn(json.dumps(request).encode()).thread

    assert thread(conversation="conv_1") == "conv_1"
    assert thread(conversation={"id": "conv_1"}, input="Hi") == "conv_1"
    assert thread(input="Hi") == thread(input="Hi") != thread(input="Ho")


def test_what_the_provider_runs_is_not_left_to_the_client() -> None:
    """Neither where its beginning was told, nor where only its end was."""
    item = {"type": "tool_search_call", "id": "t", "call_id": "t", "arguments": {}}
    for execution, left in (("server", []), ("client", ["t"])):
        done: dict[str, Any] = {"type": "response.output_item.done"}
        done |= {"item": item | {"execution": execution}}
        for events in ([done], [done | {"type": "response.output_item.added"}, done]):
            ledger = ToolLedger("x")
            dialect = OpenAIResponses(RequestHead("POST", "/v1/responses"))
            for event in events:
                for tool in dialect.read_event(None, json.dumps(event)).tools:
                    ledger.add(tool, 0, 0)
            ledger.close()
            assert [call.tool_id for _, call in ledger.left] == left
