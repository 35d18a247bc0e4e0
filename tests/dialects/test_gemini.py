"""The rules of Gemini."""

from __future__ import annotations

from typing import Any

from reading import new_results, read, read_body

from sse_recorder.dialects.gemini import Gemini
from sse_recorder.exchange import RequestHead

USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 7}


def answer(*parts: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    """Return one payload."""
    candidate = {"content": {"parts": parts}} | (
        {"finishReason": reason} if reason else {}
    )
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "m"}


def call(name: str, /, **values: Any) -> dict[str, Any]:
    """Return the part that is a call."""
    return {"functionCall": {"name": name, **values}}


def test_it_is_known_by_its_path_or_by_its_payload() -> None:
    """Both versions of the operation."""
    for operation in ("streamGenerateContent?alt=sse", "generateContent"):
        head = RequestHead("POST", f"/v1beta/models/gemini-2.5:{operation}")
        assert Gemini.recognises(head)
    assert not Gemini.recognises(RequestHead("POST", "/v1beta/models/m:countTokens"))
    assert Gemini.recognises_event(None, '{"candidates":[],"modelVersion":"m"}')
    assert not Gemini.recognises_event(None, '{"candidates":[]}')


def test_text_comes_in_payloads_of_which_the_last_has_a_reason() -> None:
    """There is no sentinel; thoughts are reasoning, and count as output."""
    story = read(
        "gemini",
        [
            answer({"text": "hm", "thought": True}),
            answer({"text": "Hel"}),
            answer({"text": "lo"}, reason="STOP"),
        ],
    )
    assert story.kinds == ["reasoning", "text", "text"]
    assert story.text == "Hello"
    assert (story.last("input_tokens"), story.last("output_tokens")) == (3, 12)
    assert story.last("finish_reason") == "STOP"
    assert [reading.terminal for reading in story.readings] == [False, False, True]


def test_calls_are_whole_and_mostly_have_no_id() -> None:
    """Two of them in one payload are two."""
    parts = call("f", args={"a": 1}), call("f", args={"a": 2}), call("g", id="x")
    story = read("gemini", [answer(*parts, reason="STOP")])
    assert story.calls == [
        (None, "f", '{"a":1}', None, "unanswered"),
        (None, "f", '{"a":2}', None, "unanswered"),
        ("x", "g", "{}", None, "unanswered"),
    ]
    assert story.kinds == ["tool_call"]


def test_arguments_may_be_streamed_by_their_paths() -> None:
    """Text goes on where it stood; what fits nowhere is left out."""

    def more(*pieces: dict[str, Any]) -> dict[str, Any]:
        return answer({"functionCall": {"partialArgs": pieces, "willContinue": True}})

    story = read(
        "gemini",
        [
            answer(call("f", willContinue=True)),
            more({"jsonPath": "$.city", "stringValue": "Lis", "willContinue": True}),
            more({"jsonPath": "$.city", "stringValue": "bon"}),
            more({"jsonPath": "$.at[0].n", "numberValue": 1}),
            more({"jsonPath": "$.at[1].n", "boolValue": True}),
            more({"jsonPath": "$.city.x", "numberValue": 1}),
            more({"jsonPath": "$.at[9]", "numberValue": 1}),
            answer({"functionCall": {}}, reason="STOP"),
        ],
    )
    assert story.calls[0][2].startswith('{"city":')  # type: ignore[union-attr]
    assert '"at":[{"n":1},{"n":true}]' in (story.calls[0][2] or "")
    assert story.spans == [(1, 8, None)]
    assert story.kinds[1:3] == ["tool_call_delta", "tool_call_delta"]


def test_tools_of_the_provider_are_answered_in_a_later_part() -> None:
    """By an id, or else by being next."""
    story = read(
        "gemini",
        [
            answer({"toolCall": {"toolType": "SEARCH", "id": "a", "args": {"q": 1}}}),
            answer({"toolResponse": {"toolType": "SEARCH", "id": "a"}}),
            answer({"executableCode": {"language": "PYTHON", "code": "1/0"}}),
            answer({"codeExecutionResult": {"outcome": "OUTCOME_FAILED"}}),
        ],
    )
    assert [call[1] for call in story.calls] == ["SEARCH", "code_execution"]
    assert [call[4] for call in story.calls] == ["ok", "error"]
    assert story.spans == [(1, 1, 2), (3, 3, 4)]
    assert story.kinds == ["tool_call", "tool_result"] * 2


def test_an_error_is_a_payload() -> None:
    """It ends the stream."""
    error = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
    story = read("gemini", [error])
    assert story.kinds == ["error"]
    assert story.last("error") == "busy"
    assert read_body("gemini", [error]).last("error") == "busy"


def test_an_answer_may_be_one_payload_or_a_list_of_them() -> None:
    """As it is without `alt=sse`; what a later one does not say, an earlier one did."""
    later = answer({"text": "lo"})
    del later["usageMetadata"]
    story = read_body("gemini", [answer({"text": "Hel"}), later, answer(call("f"))])
    assert story.text == "Hello"
    assert story.last("input_tokens") == 3
    assert story.calls == [(None, "f", "{}", None, "unanswered")]
    assert read_body("gemini", answer({"text": "Hi"})).text == "Hi"


def test_results_are_parts_with_the_name_of_their_tool() -> None:
    """With an id or without; both spellings of the API are read."""
    contents = [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "a", "args": {"q": 1}}},
                {"functionCall": {"name": "a", "args": {"q": 2}}},
                {"function_call": {"name": "b", "id": "x"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "a", "response": {"result": 1}}},
                {"functionResponse": {"name": "a", "response": {"error": "no"}}},
                {"function_response": {"name": "b", "id": "x", "response": {}}},
            ],
        },
    ]
    assert new_results("gemini", {"contents": contents}) == [
        (None, '{"result":1}', False, "a", '{"q":1}'),
        (None, '{"error":"no"}', True, "a", '{"q":2}'),
        ("x", "{}", False, "b", "{}"),
    ]
