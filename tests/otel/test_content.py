"""Content: told only where it is asked for, masked before it is cut."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from otel_samples import UNANSWERED, exchange, tool_call

from sse_recorder.dialects.base import compact
from sse_recorder.otel import View, spans
from sse_recorder.otel.content import CONTENT_BYTES_MAX, content_attributes, fitted
from sse_recorder.otel.stream import Heard, StreamFacts

SHOWN = View(content_on_spans=True)
CHAT: dict[str, Any] = {
    "dialect": "openai_chat",
    "url": "https://api.openai.com/v1/chat/completions",
    "path": "/v1/chat/completions",
    "finish_reason": "tool_calls",
}


def told(
    body: object, facts: StreamFacts, *calls: Any, **changes: Any
) -> dict[str, Any]:
    """Return the messages on the span of an exchange."""
    one = exchange(request_body=json.dumps(body).encode(), **changes)
    attributes = spans(one, list(calls), facts, SHOWN)[0].attributes
    return {
        name: json.loads(str(attributes[name]))
        for name in (
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.system_instructions",
        )
        if name in attributes
    }


def text_frames(*texts: str) -> StreamFacts:
    """Return the facts of a streamed chat completion."""
    payloads = ({"choices": [{"delta": {"content": text}}]} for text in texts)
    heard = tuple(Heard("event", None, json.dumps(payload)) for payload in payloads)
    return StreamFacts(heard=heard, is_stream=True)


def test_a_chat_is_told_as_messages_with_parts() -> None:
    """Texts, calls and results have the shape of the conventions."""
    body = {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ]
    }
    call = tool_call(tool_id="c2", tool_name="g", arguments='{"b": 2}', **UNANSWERED)
    assert told(body, text_frames("an", "swer"), call, **CHAT) == {
        "gen_ai.input.messages": [
            {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
            {"role": "user", "parts": [{"type": "text", "content": "hi"}]},
            {
                "role": "assistant",
                "parts": [
                    {
                        "type": "tool_call",
                        "id": "c1",
                        "name": "f",
                        "arguments": {"a": 1},
                    }
                ],
            },
            {
                "role": "tool",
                "parts": [{"type": "tool_call_response", "id": "c1", "response": "42"}],
            },
        ],
        "gen_ai.output.messages": [
            {
                "role": "assistant",
                "parts": [
                    {"type": "text", "content": "answer"},
                    {
                        "type": "tool_call",
                        "id": "c2",
                        "name": "g",
                        "arguments": {"b": 2},
                    },
                ],
                "finish_reason": "tool_call",
            }
        ],
    }


def test_anthropics_blocks_become_parts() -> None:
    """A system prompt, thinking, a call, its result, and an image that is not shown."""
    body = {
        "system": [{"type": "text", "text": "be kind"}],
        "messages": [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": "42"},
                    {"type": "image", "source": {"data": "AAAA"}},
                ],
            },
        ],
    }
    found = told(body, StreamFacts(), **{**CHAT, "dialect": "anthropic"})
    assert found["gen_ai.system_instructions"] == [
        {"type": "text", "content": "be kind"}
    ]
    assistant, user = found["gen_ai.input.messages"]
    assert assistant["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "t", "name": "f", "arguments": {"a": 1}},
    ]
    assert user["parts"] == [
        {"type": "tool_call_response", "id": "t", "response": "42"},
        {"type": "generic", "generic_type": "image"},
    ]


@pytest.mark.parametrize(
    ("body", "role", "part"),
    [
        ({"input": "hi"}, "user", {"type": "text", "content": "hi"}),
        (
            {
                "input": [
                    {"type": "function_call_output", "call_id": "c", "output": "1"}
                ]
            },
            "tool",
            {"type": "tool_call_response", "id": "c", "response": "1"},
        ),
        (
            {
                "contents": [
                    {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}
                ]
            },
            "assistant",
            {"type": "tool_call", "id": None, "name": "f", "arguments": None},
        ),
        (
            {"params": {"message": {"role": "user", "parts": [{"text": "hi"}]}}},
            "user",
            {"type": "text", "content": "hi"},
        ),
        (
            {"input": {"messages": [{"role": "human", "content": "hi"}]}},
            "user",
            {"type": "text", "content": "hi"},
        ),
    ],
    ids=["responses", "output", "gemini", "a2a", "langgraph"],
)
def test_each_api_has_its_messages_somewhere(
    body: object, role: str, part: dict[str, Any]
) -> None:
    """Wherever an API has what was asked, it is told in one shape."""
    assert told(body, StreamFacts(), **CHAT)["gen_ai.input.messages"] == [
        {"role": role, "parts": [part]}
    ]


def test_tools_of_an_agent_are_the_servers() -> None:
    """What the agent ran itself is told with its result."""
    call = tool_call(arguments='{"q": 1}', result='"found"')
    (message,) = told({}, StreamFacts(), call)["gen_ai.output.messages"]
    assert message["parts"] == [
        {
            "type": "server_tool_call",
            "id": "call_0",
            "name": "search",
            "server_tool_call": {"type": "function", "arguments": {"q": 1}},
        },
        {
            "type": "server_tool_call_response",
            "id": "call_0",
            "server_tool_call_response": {"type": "function", "response": "found"},
        },
    ]


@pytest.mark.parametrize(
    "value",
    [
        "x" * 100_000,
        ["é" * 300] * 1_000,
        {str(n): list(range(50)) for n in range(2_000)},
        [[[["deep" * 4_000]] * 30] * 30],
    ],
    ids=["text", "list", "object", "deep"],
)
def test_what_is_too_long_is_cut_inside_its_structure(value: Any) -> None:
    """What is left fits, is of the same kind, and says how much is gone."""
    found = content_attributes({"a": value})
    text = str(found["a"])
    assert len(text.encode()) <= CONTENT_BYTES_MAX
    assert type(json.loads(text)) is type(value)
    assert "…" in text or isinstance(value, dict)
    assert found["sse_recorder.content.truncated"] is True
    dropped = len(compact(value).encode()) - len(text.encode())
    assert found["sse_recorder.content.dropped_bytes"] == dropped


def test_what_was_not_kept_is_counted_as_gone() -> None:
    """Frames beyond what is kept of a stream are content that is not told."""
    facts = replace(text_frames("hi"), unheard_bytes=77)
    (root,) = spans(exchange(**CHAT), [], facts, SHOWN)
    assert root.attributes["sse_recorder.content.dropped_bytes"] == 77
    assert root.attributes["sse_recorder.content.truncated"] is True


def test_what_fits_is_left_alone() -> None:
    """Nothing is said of a cut that there was not."""
    assert content_attributes({"a": {"b": "c"}, "d": None}) == {"a": '{"b":"c"}'}


def test_what_cannot_be_cut_to_fit_is_left_out() -> None:
    """Something that is large in every part is gone, and its size is told."""
    value = {f"{n:>16}" * 4: {f"{m:>16}": "x" * 16 for m in range(4)} for n in range(9)}
    kept, gone = fitted(value, 100)
    assert kept == "…"
    assert gone == len(compact(value).encode())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"\ud800": "\udc00x"}, {"\ufffd": "\ufffdx"}),
        ([2**63, -(2**63), 2**63 - 1], [str(2**63), -(2**63), 2**63 - 1]),
        ([math.nan, math.inf, 1.5], ["nan", "inf", 1.5]),
    ],
    ids=["half a character", "a large number", "no number"],
)
def test_what_only_json_can_say_is_said_in_another_way(
    value: object, expected: object
) -> None:
    """And what comes of it is JSON to every reader."""
    found = content_attributes({"a": value})
    assert json.loads(str(found["a"]).encode(), parse_constant=pytest.fail) == expected


def test_what_is_deep_is_cut_however_short() -> None:
    """A collector gives up on a whole batch that has something so deep in it."""
    deep = json.loads("[" * 100 + "1" + "]" * 100)
    kept, gone = fitted(deep)
    text = compact(kept)
    assert text == "[" * 24 + '"…"' + "]" * 24
    assert gone == len(compact(deep)) - len(text.encode())
