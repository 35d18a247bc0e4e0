"""The rules of Gemini."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from reading import new_results, read, read_body

from sse_recorder.dialects.base import ToolCalled
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
    for resource in ("tunedModels/m", "endpoints/7", "models/m", "v1internal"):
        assert Gemini.recognises(RequestHead("POST", f"/x/{resource}:generateContent"))
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


def test_streamed_arguments_end_with_the_next_call_or_the_answer() -> None:
    """Where the empty part that ends them is left out."""

    def begun(name: str) -> dict[str, Any]:
        return answer(call(name, willContinue=True))

    def more(value: dict[str, Any], **reason: str) -> dict[str, Any]:
        pieces = [{"jsonPath": "$.x", **value}]
        part = {"functionCall": {"partialArgs": pieces, "willContinue": True}}
        return answer(part, **reason)

    story = read(
        "gemini",
        [
            begun("f"),
            more({"stringValue": "a"}),
            more({"stringValue": "b"}),
            begun("g"),
            more({"nullValue": "NULL_VALUE"}, reason="STOP"),
        ],
    )
    assert [call[1:3] for call in story.calls] == [
        ("f", '{"x":"ab"}'),
        ("g", '{"x":null}'),
    ]
    assert story.spans == [(1, 4, None), (4, 5, None)]


@pytest.mark.parametrize(
    "path", ["", "$", "$.", "$[0]", f"$.a[{'9' * 5_000}]", "$.a[1]", "$.a.b.c"]
)
def test_a_path_that_leads_nowhere_is_no_error(path: str) -> None:
    """The call has the arguments that fit."""
    pieces = [{"jsonPath": "$.a", "numberValue": 1}, {"jsonPath": path}]
    story = read(
        "gemini",
        [
            answer(call("f", willContinue=True, partialArgs=pieces)),
            answer({"functionCall": {}}),
        ],
    )
    assert story.calls[0][2][:5] == '{"a":'  # type: ignore[index]


def test_long_arguments_are_put_together_in_linear_time() -> None:
    """Text is joined once, at the end."""
    dialect, length = Gemini(RequestHead("POST", "/")), 64 << 10
    begun = answer(call("f", willContinue=True))
    piece = {"jsonPath": "$.x", "stringValue": "y" * length}
    more = answer({"functionCall": {"partialArgs": [piece], "willContinue": True}})
    dialect.read_event(None, json.dumps(begun))
    data = json.dumps(more)
    tracemalloc.start()
    try:
        for _ in range(20):
            dialect.read_event(None, data)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        dialect.read_event(None, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 10 * length
    (done,) = dialect.read_event(None, json.dumps(answer({"functionCall": {}}))).tools
    assert isinstance(done, ToolCalled)
    assert json.loads(done.arguments or "") == {"x": "y" * 21 * length}


def test_a_prompt_that_is_refused_has_its_reason() -> None:
    """There is no candidate then."""
    refused = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USAGE}
    story = read("gemini", [refused])
    assert (story.kinds, story.last("finish_reason")) == (["finish"], "SAFETY")
    assert story.readings[0].terminal


def test_pictures_are_content() -> None:
    """As is whatever else the model makes."""
    story = read("gemini", [answer({"inlineData": {"mimeType": "image/png"}})])
    assert (story.kinds, story.text) == (["text"], "")


def test_a_gateway_may_put_answers_and_requests_into_others() -> None:
    """So does the one for code assistants."""
    story = read("gemini", [{"response": answer({"text": "Hi"}, reason="STOP")}])
    assert (story.text, story.last("finish_reason")) == ("Hi", "STOP")
    assert read_body("gemini", {"response": answer({"text": "Hi"})}).text == "Hi"
    parts = [{"functionResponse": {"name": "a", "id": "", "response": {"x": 1}}}]
    request = {"model": "m", "request": {"contents": [{"parts": parts}]}}
    assert new_results("gemini", request) == [(None, '{"x":1}', False, "a", None)]


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
    assert story.kinds == ["text"]
    assert read_body("gemini", answer({"text": "Hi"})).text == "Hi"
    assert read_body("gemini", [answer(call("f"))]).kinds == ["tool_call"]


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


def test_a_content_of_the_model_is_a_turn() -> None:
    """Also where it has nothing but a call."""

    def pair(name: str) -> list[dict[str, Any]]:
        answer_ = {"functionResponse": {"name": name, "response": {}}}
        return [
            {"role": "model", "parts": [{"functionCall": {"name": name, "args": {}}}]},
            {"role": "user", "parts": [answer_]},
        ]

    body = json.dumps({"contents": [*pair("a"), *pair("b")]}).encode()
    assert [r.name for r in Gemini.read_turn(body).results] == ["b"]


def test_counts_that_fit_no_column_are_none() -> None:
    """Their sum is no more to be believed than they are."""
    usage = {"candidatesTokenCount": 2**63 - 1, "thoughtsTokenCount": 1}
    assert read("gemini", [{"usageMetadata": usage}]).last("output_tokens") is None
