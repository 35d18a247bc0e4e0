"""The rules of OpenAI's Chat Completions and of what is compatible with them."""

from __future__ import annotations

from typing import Any

import pytest
from reading import new_results, read, read_body

from sse_recorder.dialects.openai_chat import OpenAIChat
from sse_recorder.exchange import RequestHead


def chunk(
    delta: dict[str, Any], reason: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return a chunk of one choice."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [choice],
        **more,
    }


def piece(index: int, arguments: str = "", **call: Any) -> dict[str, Any]:
    """Return a piece of a call."""
    name = {"name": call.pop("name")} if "name" in call else {}
    function = {"arguments": arguments, **name}
    return chunk({"tool_calls": [{"index": index, "function": function, **call}]})


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


def test_a_request_is_known_by_its_path_and_a_stream_by_its_first_chunk() -> None:
    """Whatever stands before the path, as gateways have it."""
    assert OpenAIChat.recognises(RequestHead("POST", "/api/v1/chat/completions?a=b"))
    assert not OpenAIChat.recognises(RequestHead("POST", "/v1/completions"))
    assert OpenAIChat.recognises_event(None, '{"object":"chat.completion.chunk"}')
    assert not OpenAIChat.recognises_event(None, '{"object":"response"}')


def test_text_comes_in_pieces_and_ends_with_the_sentinel() -> None:
    """Usage comes last, where it was asked for."""
    story = read(
        "openai_chat",
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Hel"}),
            chunk({"content": "lo"}),
            chunk({}, "stop"),
            USAGE,
            "[DONE]",
        ],
    )
    assert story.kinds == ["connected", "text", "text", "finish", "usage", "finish"]
    assert story.text == "Hello"
    assert story.last("model") == "m"
    assert story.last("finish_reason") == "stop"
    assert (story.last("input_tokens"), story.last("output_tokens")) == (3, 5)
    assert [reading.terminal for reading in story.readings] == [False] * 5 + [True]


def test_the_arguments_of_a_call_are_complete_when_the_next_begins() -> None:
    """Or when the choice is finished; later pieces have nothing but their index."""
    story = read(
        "openai_chat",
        [
            piece(0, id="a", name="search"),
            piece(0, '{"q":'),
            piece(0, "1}"),
            piece(1, "{}", id="b", name="weather"),
            chunk({}, "tool_calls"),
        ],
    )
    assert story.calls == [
        ("a", "search", '{"q":1}', None, "unanswered"),
        ("b", "weather", "{}", None, "unanswered"),
    ]
    assert story.spans == [(1, 4, None), (4, 5, None)]
    assert story.kinds == ["tool_call", *["tool_call_delta"] * 2, "tool_call", "finish"]


def test_pieces_of_calls_may_be_interleaved() -> None:
    """A call that was taken for complete goes on, and is so later."""
    story = read(
        "openai_chat",
        [
            piece(0, "{", id="a", name="x"),
            piece(1, "[", id="b", name="y"),
            piece(0, "}"),
            piece(1, "]"),
            chunk({}, "tool_calls"),
        ],
    )
    assert [call[:3] for call in story.calls] == [("a", "x", "{}"), ("b", "y", "[]")]
    assert story.spans == [(1, 3, None), (2, 5, None)]
    assert [call.call_frame for call in story.tools] == [3, 5]


@pytest.mark.parametrize("tool_id", [{}, {"id": ""}], ids=["none", "empty"])
def test_calls_that_come_whole_may_have_no_ids(tool_id: dict[str, str]) -> None:
    """A name after whole arguments begins another call; after a piece it does not."""
    story = read(
        "openai_chat",
        [
            piece(0, '{"q":1}', name="search", **tool_id),
            piece(0, "{}", name="search", **tool_id),
            piece(0, '{"q":', name="fetch", **tool_id),
            piece(0, "2}", name="fetch", **tool_id),
            chunk({}, "tool_calls"),
        ],
    )
    assert [call[:3] for call in story.calls] == [
        (None, "search", '{"q":1}'),
        (None, "search", "{}"),
        (None, "fetch", '{"q":2}'),
    ]


def test_a_whole_call_in_the_last_chunk_is_a_call() -> None:
    """Some servers finish the choice with it."""
    whole = piece(0, "{}", id="a", name="x")
    whole["choices"][0]["finish_reason"] = "tool_calls"
    story = read("openai_chat", [whole])
    assert (story.kinds, story.last("finish_reason")) == (["tool_call"], "tool_calls")
    assert story.spans == [(1, 1, None)]


def test_what_a_custom_tool_is_given_is_one_argument() -> None:
    """It is free text, which is no JSON, in pieces or whole."""

    def custom(text: str, **call: Any) -> dict[str, Any]:
        return {"index": 0, "custom": {"name": "sh", "input": text}, **call}

    given = '{"input":"ls -l"}'
    streamed = [
        chunk({"tool_calls": [custom("ls", id="a")]}),
        chunk({"tool_calls": [custom(" -l")]}),
        chunk({}, "tool_calls"),
    ]
    assert read("openai_chat", streamed).calls[0][:3] == ("a", "sh", given)
    said = {"role": "assistant", "tool_calls": [custom("ls -l", id="a")]}
    whole = {"choices": [{"message": said, "finish_reason": "tool_calls"}]}
    assert read_body("openai_chat", whole).calls[0][:3] == ("a", "sh", given)
    result = {"role": "tool", "tool_call_id": "a", "content": ""}
    assert new_results("openai_chat", {"messages": [said, result]}) == [
        ("a", "", False, "sh", given)
    ]


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        ({"refusal": "I cannot"}, "I cannot"),
        ({"audio": {"id": "a", "transcript": "Hi"}}, "Hi"),
        ({"audio": {"data": "UklGRg=="}}, ""),
        ({"content": "", "images": [{"type": "image_url"}]}, ""),
    ],
    ids=["refusal", "transcript", "audio", "image"],
)
def test_the_answer_is_not_always_text(delta: dict[str, Any], text: str) -> None:
    """What is heard or seen is content all the same."""
    story = read("openai_chat", [chunk(delta)])
    assert (story.kinds, story.text) == (["text"], text)


def test_chunks_of_a_content_filter_say_nothing_of_the_model() -> None:
    """Azure begins and ends with such chunks, in which most members are empty."""
    empty = {"id": "", "object": "", "model": "", "choices": []}
    filtered: dict[str, Any] = {
        "index": 0,
        "finish_reason": None,
        "content_filter_offsets": {},
    }
    story = read(
        "openai_chat",
        [
            {**empty, "prompt_filter_results": [{"prompt_index": 0}]},
            chunk({"content": "Hi"}),
            {**empty, "choices": [filtered]},
        ],
    )
    assert story.kinds == ["other", "text", "other"]
    assert story.last("model") == "m"


def test_calls_that_come_whole_may_share_an_index() -> None:
    """Another id is another call; an id that comes again is the same."""
    story = read(
        "openai_chat",
        [
            piece(0, "{}", id="a", name="x"),
            piece(0, "[1]", id="b", name="y"),
            piece(0, "[2]", id="b"),
            chunk({}, "tool_calls"),
        ],
    )
    assert [call[:3] for call in story.calls] == [
        ("a", "x", "{}"),
        ("b", "y", "[1][2]"),
    ]


def test_the_call_of_a_function_in_the_old_way_is_a_call() -> None:
    """It has no id."""
    story = read(
        "openai_chat",
        [
            chunk({"function_call": {"name": "f", "arguments": ""}}),
            chunk({"function_call": {"arguments": "{}"}}),
            chunk({}, "function_call"),
        ],
    )
    assert story.calls == [(None, "f", "{}", None, "unanswered")]


def test_two_choices_do_not_mix_their_calls() -> None:
    """Each counts its own from 0, and is finished by itself."""

    def of(choice: int, **rest: Any) -> dict[str, Any]:
        return {"choices": [{"index": choice, **rest}]}

    def call(tool_id: str) -> dict[str, Any]:
        function = {"name": tool_id, "arguments": "{}"}
        return {"tool_calls": [{"index": 0, "id": tool_id, "function": function}]}

    story = read(
        "openai_chat",
        [
            of(0, delta=call("a")),
            of(1, delta=call("b")),
            of(0, delta={}, finish_reason="tool_calls"),
            of(1, delta={}, finish_reason="tool_calls"),
        ],
    )
    assert story.spans == [(1, 3, None), (2, 4, None)]


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "x"},
        {"reasoning_content": "x", "content": ""},
        {"reasoning_details": [{"type": "reasoning.encrypted"}]},
        {"content": [{"type": "thinking", "thinking": [{"text": "x"}]}]},
    ],
)
def test_reasoning_has_many_names(delta: dict[str, Any]) -> None:
    """It is content, but none of the answer's text."""
    story = read("openai_chat", [chunk(delta)])
    assert story.kinds == ["reasoning"]
    assert story.text == ""


def test_content_may_be_a_list_of_parts() -> None:
    """As Mistral sends it beside thinking."""
    story = read("openai_chat", [chunk({"content": [{"type": "text", "text": "Hi"}]})])
    assert (story.kinds, story.text) == (["text"], "Hi")


def test_tools_that_the_provider_ran_have_their_result_in_the_stream() -> None:
    """As Groq's compound systems report them."""
    tool = {"index": 0, "type": "search", "arguments": '{"q":1}'}
    story = read(
        "openai_chat",
        [
            chunk({"executed_tools": [tool]}),
            chunk({"executed_tools": [{**tool, "output": "found"}]}),
        ],
    )
    assert story.calls == [(None, "search", '{"q":1}', "found", "ok")]
    assert story.spans == [(1, 1, 2)]
    assert story.kinds == ["tool_call", "tool_result"]


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        (None, {"error": {"message": "too much", "code": 400}}),
        ("error", {"error": {"message": "too much"}}),
        ("error", {"message": "too much"}),
        (None, {"error": {"message": "too much"}, "choices": [{"delta": {}}]}),
        (None, {"object": "error", "message": "too much", "code": 400}),
        (None, {"error": "too much"}),
        ("error", "too much"),
    ],
)
def test_errors_come_in_the_stream(event: str | None, payload: object) -> None:
    """Alone, beside choices, or by the event's name; clients read no further."""
    story = read("openai_chat", [(event, payload)])
    assert story.kinds == ["error"]
    assert story.last("error") == "too much"
    assert story.readings[0].terminal


def test_usage_may_be_in_the_last_chunk() -> None:
    """Or in `x_groq`."""
    usage = USAGE["usage"]
    for more in ({"usage": usage}, {"x_groq": {"usage": usage}}):
        story = read("openai_chat", [chunk({}, "stop", **more)])
        assert (story.last("input_tokens"), story.last("output_tokens")) == (3, 5)
        assert story.kinds == ["finish"]


def test_an_answer_that_is_not_streamed_says_the_same() -> None:
    """Its calls are whole."""
    function = {"name": "f", "arguments": "{}"}
    message = {"content": None, "tool_calls": [{"id": "a", "function": function}]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    usage = USAGE["usage"]
    story = read_body(
        "openai_chat", {"model": "m", "choices": [choice], "usage": usage}
    )
    assert story.calls == [("a", "f", "{}", None, "unanswered")]
    assert story.last("input_tokens") == 3


def test_results_are_messages_of_tools() -> None:
    """After the last message of the assistant, which has their calls."""

    def call(tool_id: str, name: str, arguments: object) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return {"id": tool_id, "type": "function", "function": function}

    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "tool_calls": [call("c0", "a", "{}")]},
        {"role": "tool", "tool_call_id": "c0", "content": "old"},
        {
            "role": "assistant",
            "tool_calls": [call("c1", "a", '{"q":1}'), call("c2", "b", {"q": 2})],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [{"type": "text", "text": "rain"}],
        },
    ]
    assert new_results("openai_chat", {"messages": messages}) == [
        ("c1", "sun", False, "a", '{"q":1}'),
        ("c2", "rain", False, "b", '{"q":2}'),
    ]


def test_a_result_may_be_of_a_function_without_an_id() -> None:
    """So it was before there were tools."""
    function = {"name": "a", "arguments": "{}"}
    messages = [
        {"role": "assistant", "function_call": function},
        {"role": "function", "name": "a", "content": "sun"},
    ]
    assert new_results("openai_chat", {"messages": messages}) == [
        (None, "sun", False, "a", "{}")
    ]


def test_a_call_that_was_refused_is_a_call() -> None:
    """Groq says in an error what the model had asked for; clients answer that."""
    generation = '{"name": "search", "arguments": {"wrong": 1}}'
    error = {"message": "no such parameter", "failed_generation": generation}
    story = read("openai_chat", [("error", {"error": error})])
    assert story.calls == [(None, "search", '{"wrong":1}', None, "unanswered")]
    assert (story.kinds, story.last("error")) == (["error"], "no such parameter")
    for other in ("", "<function=search>", '{"name": "search"}', "[]"):
        error = {"message": "no", "failed_generation": other}
        assert read("openai_chat", [("error", {"error": error})]).calls == []
