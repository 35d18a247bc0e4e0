"""The rules of Anthropic's Messages."""

from __future__ import annotations

import json
from typing import Any

from reading import new_results, read, read_body

from sse_recorder.dialects.anthropic import Anthropic
from sse_recorder.exchange import RequestHead


def event(type_: str, **payload: Any) -> tuple[str, dict[str, Any]]:
    """Return an event, which has its type twice."""
    return type_, {"type": type_, **payload}


def start(index: int, **block: Any) -> tuple[str, dict[str, Any]]:
    """Return the begin of a block."""
    return event("content_block_start", index=index, content_block=block)


def delta(index: int, **values: Any) -> tuple[str, dict[str, Any]]:
    """Return more of a block."""
    return event("content_block_delta", index=index, delta=values)


def stop(index: int) -> tuple[str, dict[str, Any]]:
    """Return the end of a block."""
    return event("content_block_stop", index=index)


def json_piece(index: int, text: str) -> tuple[str, dict[str, Any]]:
    """Return more of a call's arguments."""
    return delta(index, type="input_json_delta", partial_json=text)


USAGE = {
    "input_tokens": 3,
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 100,
    "output_tokens": 1,
}


def test_it_is_known_by_its_path_or_by_its_first_event() -> None:
    """Without `/v1` others have the path, too, but not the vendor's header."""
    version = (("Anthropic-Version", "2023-06-01"),)
    assert Anthropic.recognises(RequestHead("POST", "/v1/messages?beta=true"))
    assert Anthropic.recognises(RequestHead("POST", "/x/messages", version))
    assert not Anthropic.recognises(RequestHead("POST", "/x/messages"))
    for path in (
        "/v1/projects/p/publishers/anthropic/models/claude@1:streamRawPredict",
        "/v1/projects/p/publishers/anthropic/models/claude:rawPredict",
        "/model/us.anthropic.claude/invoke",
    ):
        assert Anthropic.recognises(RequestHead("POST", path))
    assert not Anthropic.recognises(RequestHead("POST", "/model/amazon.nova/invoke"))
    assert not Anthropic.recognises(
        RequestHead("POST", "/v1/messages/batches", version)
    )
    assert Anthropic.recognises_event("message_start", '{"message":{}}')
    assert not Anthropic.recognises_event(None, '{"message":{}}')


def test_a_message_is_blocks_of_text_and_thinking() -> None:
    """Its usage is what the last event has said; its prompt includes what is cached."""
    story = read(
        "anthropic",
        [
            event("message_start", message={"model": "m", "usage": USAGE}),
            event("ping"),
            start(0, type="thinking", thinking=""),
            delta(0, type="thinking_delta", thinking="hm"),
            delta(0, type="signature_delta", signature="x"),
            stop(0),
            start(1, type="text", text=""),
            delta(1, type="text_delta", text="Hel"),
            delta(1, type="text_delta", text="lo"),
            stop(1),
            event(
                "message_delta",
                delta={"stop_reason": "end_turn"},
                usage={"output_tokens": 7},
            ),
            event("message_stop"),
            event("something_new"),
        ],
    )
    assert story.kinds == [
        *("connected", "keepalive", "status", "reasoning", "status", "status"),
        *("status", "text", "text", "status", "finish", "finish", "other"),
    ]
    assert story.text == "Hello"
    assert (story.last("input_tokens"), story.last("output_tokens")) == (113, 7)
    assert story.last("finish_reason") == "end_turn"
    assert [n for n, r in enumerate(story.readings) if r.terminal] == [11]


def test_usage_is_told_member_by_member() -> None:
    """A later event may repeat a part of it, or say that there is nothing new."""

    def usage(**counts: int | None) -> tuple[str, dict[str, Any]]:
        return event("message_delta", delta={"stop_reason": None}, usage=counts)

    start_ = event("message_start", message={"usage": USAGE})
    for later, said in (
        (usage(output_tokens=7), (113, 7)),
        (usage(input_tokens=4, output_tokens=7), (114, 7)),
        (usage(input_tokens=None, cache_read_input_tokens=200), (213, 1)),
    ):
        story = read("anthropic", [start_, later])
        assert (story.last("input_tokens"), story.last("output_tokens")) == said
        assert story.kinds == ["connected", "usage"]
    alone = read("anthropic", [usage(output_tokens=7)])
    assert (alone.last("input_tokens"), alone.last("output_tokens")) == (None, 7)


def test_thinking_that_is_hidden_is_thinking() -> None:
    """It comes whole, as does thinking where a server does not stream it."""
    story = read(
        "anthropic",
        [
            start(0, type="redacted_thinking", data="x"),
            start(1, type="thinking", thinking="hm"),
            start(2, type="text", text="Hi"),
        ],
    )
    assert (story.kinds, story.text) == (["reasoning", "reasoning", "text"], "Hi")


def test_a_call_without_an_id_is_one_call() -> None:
    """Its pieces go by the index of its block."""
    block = {"type": "tool_use", "name": "f", "input": {}}
    events = [start(0, **block), json_piece(0, '{"x":1}'), stop(0)]
    assert read("anthropic", events).calls == [
        (None, "f", '{"x":1}', None, "unanswered")
    ]


def test_arguments_need_not_be_json() -> None:
    """With fine-grained streaming nobody has looked at them."""
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    events = [start(0, **block), json_piece(0, '{"x": "un'), stop(0)]
    assert read("anthropic", events).calls[0][2] == '{"x": "un'


def test_a_tool_is_called_when_its_block_stops() -> None:
    """Arguments that never came are an empty object."""
    story = read(
        "anthropic",
        [
            start(0, type="tool_use", id="a", name="f", input={}),
            json_piece(0, ""),
            json_piece(0, '{"x":'),
            json_piece(0, "1}"),
            stop(0),
            start(1, type="tool_use", id="b", name="g", input={}),
            stop(1),
            start(2, type="tool_use", id="c", name="h", input={"whole": 1}),
            stop(2),
        ],
    )
    assert story.calls == [
        ("a", "f", '{"x":1}', None, "unanswered"),
        ("b", "g", "{}", None, "unanswered"),
        ("c", "h", '{"whole":1}', None, "unanswered"),
    ]
    assert story.spans == [(1, 5, None), (6, 7, None), (8, 9, None)]


def test_a_tool_of_the_provider_returns_in_a_later_block() -> None:
    """By the id of its call; what is an error says so in one of two ways."""
    story = read(
        "anthropic",
        [
            start(0, type="server_tool_use", id="a", name="web_search", input={}),
            stop(0),
            start(1, type="web_search_tool_result", tool_use_id="a", content=[]),
            start(2, type="mcp_tool_use", id="b", name="ask", input={}),
            stop(2),
            start(
                3, type="mcp_tool_result", tool_use_id="b", is_error=True, content=[]
            ),
            start(4, type="server_tool_use", id="c", name="web_fetch", input={}),
            stop(4),
            start(
                5,
                type="web_fetch_tool_result",
                tool_use_id="c",
                content={"error_code": "unavailable"},
            ),
        ],
    )
    assert [call[4] for call in story.calls] == ["ok", "error", "error"]
    assert story.spans == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert story.kinds[2] == "tool_result"


def test_an_error_is_the_end() -> None:
    """Its message is told."""
    error = {"type": "overloaded_error", "message": "Overloaded"}
    story = read("anthropic", [event("error", error=error)])
    assert story.kinds == ["error"]
    assert story.last("error") == "Overloaded"
    assert story.readings[0].terminal


def test_an_answer_that_is_not_streamed_says_the_same() -> None:
    """With its calls and the results of the provider's tools."""
    content = [
        {"type": "text", "text": "Hi"},
        {"type": "server_tool_use", "id": "a", "name": "s", "input": {"q": 1}},
        {"type": "web_search_tool_result", "tool_use_id": "a", "content": []},
    ]
    body = {"model": "m", "content": content, "stop_reason": "x", "usage": USAGE}
    story = read_body("anthropic", body)
    assert story.calls == [("a", "s", '{"q":1}', "[]", "ok")]
    assert story.last("input_tokens") == 113
    assert (story.text, story.kinds) == ("Hi", ["text"])
    refused = {"type": "error", "error": {"message": "no"}}
    assert read_body("anthropic", refused).last("error") == "no"


def test_results_are_blocks_of_the_last_message() -> None:
    """Their calls are blocks of the message before; those of a server are none."""
    request = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me see"},
                    {"type": "server_tool_use", "id": "s", "name": "web", "input": {}},
                    {"type": "web_search_tool_result", "tool_use_id": "s"},
                    {"type": "tool_use", "id": "t1", "name": "a", "input": {"q": 1}},
                    {"type": "tool_use", "id": "t2", "name": "b", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t2", "content": "sun"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "no"}],
                        "is_error": True,
                    },
                    {"type": "text", "text": "go on"},
                ],
            },
        ]
    }
    assert new_results("anthropic", request) == [
        ("t2", "sun", False, "b", "{}"),
        ("t1", '[{"type":"text","text":"no"}]', True, "a", '{"q":1}'),
    ]
    answer = {"role": "assistant", "content": "It is sunny"}
    request["messages"] += [answer, {"role": "user", "content": "Thanks"}]
    assert new_results("anthropic", request) == []


def test_a_result_may_be_nothing() -> None:
    """It then is none, and no text that says so."""
    block = {"type": "tool_result", "tool_use_id": "t1"}
    for said in ({}, {"content": None}):
        request = {"messages": [{"role": "user", "content": [block | said]}]}
        assert new_results("anthropic", request) == [("t1", None, False, None, None)]


def test_a_message_of_the_assistant_is_a_turn() -> None:
    """Also where it has nothing but a call."""

    def pair(key: str) -> list[dict[str, Any]]:
        use = {"type": "tool_use", "id": key, "name": "f", "input": {}}
        result = {"type": "tool_result", "tool_use_id": key, "content": key}
        return [
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]

    body = json.dumps({"messages": [*pair("a"), *pair("b")]}).encode()
    assert [r.tool_id for r in Anthropic.read_turn(body).results] == ["b"]


def test_counts_that_fit_no_column_are_none() -> None:
    """Their sum is no more to be believed than they are."""
    usage = {"input_tokens": 2**63 - 1, "cache_read_input_tokens": 1}
    story = read("anthropic", [event("message_start", message={"usage": usage})])
    assert story.last("input_tokens") is None
