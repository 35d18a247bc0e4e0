"""The rules of the AI SDK's UI message stream."""

from __future__ import annotations

import json
from typing import Any

from reading import new_results, read

from sse_recorder.dialects.base import ToolCalled, ToolStarted
from sse_recorder.dialects.vercel_ui import VercelUi
from sse_recorder.exchange import RequestHead, ResponseHead


def event(type_: str, **payload: Any) -> dict[str, Any]:
    """Return an event."""
    return {"type": type_, **payload}


def test_it_is_known_by_the_header_of_its_answer_or_by_its_first_event() -> None:
    """Events of it have no name."""
    head = ResponseHead(200, "OK", (("X-Vercel-AI-UI-Message-Stream", "v1"),))
    assert VercelUi.recognises_response(head)
    assert not VercelUi.recognises_response(ResponseHead(200, "OK", ()))
    assert VercelUi.recognises_event(None, '{"type":"start"}')
    assert not VercelUi.recognises_event("message", '{"type":"start"}')


def test_a_message_is_text_between_its_start_and_the_sentinel() -> None:
    """What only frames it is status, what is not known is other."""
    story = read(
        "vercel_ui",
        [
            event("start", messageId="m"),
            event("start-step"),
            event("reasoning-delta", id="r", delta="hm"),
            event("text-start", id="t"),
            event("text-delta", id="t", delta="Hel"),
            event("text-delta", id="t", delta="lo"),
            event("data-weather", data={}),
            event("unheard-of"),
            event("finish", finishReason="stop"),
            "[DONE]",
        ],
    )
    assert story.kinds == [
        *("connected", "status", "reasoning", "status", "text", "text"),
        *("status", "other", "finish", "finish"),
    ]
    assert story.text == "Hello"
    assert story.last("finish_reason") == "stop"
    assert [reading.terminal for reading in story.readings[-2:]] == [False, True]


def test_the_session_is_the_chat_that_the_request_names() -> None:
    """The stream itself does not."""
    dialect = VercelUi(RequestHead("POST", "/chat"))
    assert dialect.read_request(b'{"id":"c","messages":[]}').session_id == "c"
    assert dialect.read_request(b'{"id":1}').session_id is None


def test_a_tool_runs_from_its_input_to_its_output() -> None:
    """What is preliminary is no output yet; an output may be an error, or denied."""
    story = read(
        "vercel_ui",
        [
            event("tool-input-start", toolCallId="a", toolName="f"),
            event("tool-input-delta", toolCallId="a", inputTextDelta='{"x'),
            event("tool-input-available", toolCallId="a", toolName="f", input={"x": 1}),
            event("tool-input-available", toolCallId="b", toolName="g", input={}),
            event("tool-input-available", toolCallId="c", toolName="h", input={}),
            event("tool-output-available", toolCallId="a", output=1, preliminary=True),
            event("tool-output-available", toolCallId="a", output={"y": 2}),
            event("tool-output-error", toolCallId="b", errorText="no"),
            event("tool-output-denied", toolCallId="c"),
        ],
    )
    assert story.calls == [
        ("a", "f", '{"x":1}', '{"y":2}', "ok"),
        ("b", "g", "{}", "no", "error"),
        ("c", "h", "{}", "denied", "error"),
    ]
    assert story.spans == [(1, 3, 7), (4, 4, 8), (5, 5, 9)]
    assert story.kinds[5:7] == ["status", "tool_result"]


def test_an_input_that_does_not_fit_is_a_call_that_failed() -> None:
    """It never ran."""
    wrong = event(
        "tool-input-error", toolCallId="a", toolName="f", input={}, errorText="no"
    )
    story = read("vercel_ui", [wrong])
    assert story.calls == [("a", "f", "{}", "no", "error")]


def test_errors_and_aborts_are_told() -> None:
    """The one as an error, the other as the reason of the end."""
    assert read("vercel_ui", [event("error", errorText="no")]).last("error") == "no"
    assert read("vercel_ui", [event("abort")]).last("finish_reason") == "abort"


def test_results_of_the_client_are_parts_of_the_last_message() -> None:
    """Of its last step; a message of the user after it makes them old."""

    def tool(key: str, state: str, **more: object) -> dict[str, object]:
        given = {"q": key}
        return {"type": "tool-a", "toolCallId": key, "state": state, "input": given} | (
            more
        )

    parts = [
        {"type": "step-start"},
        tool("old", "output-available", output=0),
        {"type": "step-start"},
        {"type": "text", "text": "Let me see"},
        tool("c1", "output-available", output={"n": 1}),
        tool("c2", "output-error", errorText="no", type="dynamic-tool", toolName="b"),
        tool("c3", "input-available"),
        tool("c4", "output-available", output=1, providerExecuted=True),
    ]
    messages = [{"role": "user"}, {"role": "assistant", "parts": parts}]
    request: dict[str, Any] = {"id": "chat", "messages": messages}
    assert new_results("vercel_ui", request) == [
        ("c1", '{"n":1}', False, "a", '{"q":"c1"}'),
        ("c2", "no", True, "b", '{"q":"c2"}'),
    ]
    assert VercelUi.read_turn(json.dumps(request).encode()).thread == "chat"
    messages.append({"role": "user"})
    assert new_results("vercel_ui", request) == []


def test_a_call_that_the_provider_runs_is_no_clients() -> None:
    """No later request brings its output."""
    dialect = VercelUi(RequestHead("POST", "/chat"))
    for type_ in ("tool-input-start", "tool-input-available"):
        payload = event(type_, toolCallId="a", toolName="f", providerExecuted=True)
        [told] = dialect.read_event(None, json.dumps(payload)).tools
        assert isinstance(told, ToolStarted | ToolCalled)
        assert told.is_hosted


def test_nothing_that_matters_follows_an_error_or_an_abort() -> None:
    """A client may leave at either."""
    story = read("vercel_ui", [event("error", errorText="no"), event("abort")])
    assert [reading.terminal for reading in story.readings] == [True, True]
    assert story.last("finish_reason") == "abort"
