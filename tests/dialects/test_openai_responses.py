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


FUNCTION = {"type": "function_call", "call_id": "call", "name": "f"}


def test_calls_may_have_no_item_ids() -> None:
    """They then go by the ids of their calls, and their pieces by their place."""
    one, two = FUNCTION | {"call_id": "c1"}, FUNCTION | {"call_id": "c2"}
    arguments = "function_call_arguments"
    streamed = [
        event("output_item.added", output_index=0, item=one),
        event("output_item.added", output_index=1, item=two),
        event(f"{arguments}.delta", output_index=0, delta="{}"),
        event(f"{arguments}.done", output_index=0, arguments="{}"),
        event(f"{arguments}.done", output_index=1, arguments="[]"),
        event("output_item.done", output_index=0, item=one | {"arguments": "{}"}),
        event("output_item.done", output_index=1, item=two | {"arguments": "[]"}),
    ]
    calls = [
        ("c1", "f", "{}", None, "unanswered"),
        ("c2", "f", "[]", None, "unanswered"),
    ]
    story = read("openai_responses", streamed)
    assert story.calls == calls
    assert story.spans == [(1, 4, None), (2, 5, None)]
    output = [one | {"arguments": "{}"}, two | {"arguments": "[]"}]
    assert read_body("openai_responses", {"output": output}).calls == calls


def test_an_item_may_have_another_id_in_each_event() -> None:
    """Some gateways make them up anew; the place of the item stays the same."""
    story = read(
        "openai_responses",
        [
            event("output_item.added", output_index=3, item=FUNCTION | {"id": "i1"}),
            event(
                "function_call_arguments.delta",
                output_index=3,
                item_id="i2",
                delta="{}",
            ),
            event(
                "output_item.done",
                output_index=3,
                item=FUNCTION | {"id": "i3", "arguments": "{}"},
            ),
        ],
    )
    assert story.calls == [("call", "f", "{}", None, "unanswered")]
    assert story.spans == [(1, 3, None)]


def test_items_of_one_place_are_told_apart_by_their_ids() -> None:
    """Some servers do not count their items."""
    items = [FUNCTION | {"id": f"i{n}", "call_id": f"c{n}"} for n in range(2)]
    story = read(
        "openai_responses",
        [
            event(f"output_item.{what}", output_index=0, item=one | {"arguments": "{}"})
            for one in items
            for what in ("added", "done")
        ],
    )
    assert [call[:3] for call in story.calls] == [("c0", "f", "{}"), ("c1", "f", "{}")]


def test_a_stream_may_be_taken_up_in_the_middle_of_a_call() -> None:
    """What its end says of the call is all there is (`starting_after`)."""
    done = event("function_call_arguments.done", item_id="fc", arguments="{}")
    whole = item("done", **FUNCTION, id="fc", arguments="{}")
    for events in ([done, whole], [whole]):
        story = read("openai_responses", events)
        assert story.calls == [("call", "f", "{}", None, "unanswered")]
    assert read("openai_responses", [done]).kinds == ["tool_call"]


def test_an_empty_text_of_arguments_is_none() -> None:
    """Not a text in JSON."""
    whole = item("done", **FUNCTION, id="fc", arguments="")
    assert read("openai_responses", [whole]).calls[0][2] is None


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
        ("error", {"type": "error", "error": {"type": "t", "message": "no"}}),
        ("error", {"error": {"message": "no"}}),
        (None, {"error": {"message": "no"}}),
    ],
)
def test_errors_are_the_end(end: tuple[str | None, dict[str, Any]]) -> None:
    """Of the response, or of the stream; some servers do not name their type."""
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
    assert story.kinds == ["tool_call"]
    parts = [
        {"type": "output_text", "text": "Hel"},
        {"type": "refusal", "refusal": "lo"},
    ]
    message = {"type": "message", "role": "assistant", "content": parts}
    story = read_body("openai_responses", {**RESPONSE, "output": [message]})
    assert (story.kinds, story.text) == (["text"], "Hello")
    refused = read_body("openai_responses", {"error": {"message": "no"}})
    assert (refused.kinds, refused.last("error")) == (["error"], "no")


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_in_the_background_is_not_finished(status: str) -> None:
    """Its first answer only says that it was begun."""
    story = read_body("openai_responses", {**RESPONSE, "status": status})
    assert story.last("finish_reason") is None
    assert not story.readings[0].terminal


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("reasoning_text.delta", "reasoning"),
        ("reasoning_summary_text.delta", "reasoning"),
        ("reasoning.delta", "reasoning"),
        ("refusal.delta", "text"),
        ("audio.transcript.delta", "text"),
        ("image_generation_call.partial_image", "status"),
        ("code_interpreter_call_code.delta", "tool_call_delta"),
        ("something.new", "status"),
    ],
)
def test_each_event_has_its_kind(name: str, kind: str) -> None:
    """Whatever it is called."""
    assert read("openai_responses", [event(name, delta="x")]).kinds == [kind]


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
    approval = {"type": "mcp_approval_response", "approve": True}
    user = {"role": "user", "content": "Go on"}
    assert new_results("openai_responses", {"input": [items[-2], approval, user]}) == [
        ("c1", "sun", False, None, None)
    ]
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
    parts = [{"type": "input_text", "text": "Hi"}]
    for content in ("Hi", parts):
        assert thread(input=[{"role": "user", "content": content}]) == thread(
            input="Hi"
        )


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


def test_calls_made_at_once_may_stand_each_before_its_result() -> None:
    """Nothing of the assistant's is between them then; a reasoning is of a new turn."""

    def pair(number: int) -> list[dict[str, Any]]:
        call_id = f"c{number}"
        return [
            {"type": "function_call", "call_id": call_id, "name": "f", "arguments": ""},
            {"type": "function_call_output", "call_id": call_id, "output": ""},
        ]

    def results(*items: dict[str, Any]) -> list[tuple[str | None, bool]]:
        turn = OpenAIResponses.read_turn(json.dumps({"input": items}).encode())
        return [(found.tool_id, found.may_be_old) for found in turn.results]

    assert results(*pair(1), *pair(2)) == [("c2", False), ("c1", True)]
    assert results(*pair(1), {"type": "reasoning"}, *pair(2)) == [("c2", False)]
