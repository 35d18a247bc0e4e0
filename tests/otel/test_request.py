"""What a request's body asks for, without its content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from otel_samples import exchange

from sse_recorder.otel.data import Value
from sse_recorder.otel.spans import spans
from sse_recorder.otel.view import View

CHAT = {
    "dialect": "openai_chat",
    "url": "https://api.openai.com/v1/chat/completions",
    "path": "/v1/chat/completions",
}
GEMINI = {
    "dialect": "gemini",
    "url": "https://g/v1/models/m:streamGenerateContent",
    "path": "/v1/models/m:streamGenerateContent",
}


def asked(
    body: object, where: dict[str, Any], vocabulary: str = "genai-1.41", **changes: Any
) -> dict[str, Value]:
    """Return the attributes of a request with this body."""
    one = exchange(request_body=json.dumps(body).encode(), **where, **changes)
    (span,) = spans(one, [], view=View(vocabulary=vocabulary))
    begin = ("gen_ai.request.", "gen_ai.output.", "gen_ai.agent.")
    return {k: v for k, v in span.attributes.items() if k.startswith(begin)}


def test_a_chat_says_what_it_asks_for() -> None:
    """Numbers and switches become attributes, and the prompt does not."""
    body = {
        "model": "gpt-x",
        "stream": True,
        "max_completion_tokens": 100,
        "temperature": 0,
        "top_p": 0.5,
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "seed": 7,
        "n": 2,
        "stop": ["SECRET"],
        "response_format": {"type": "json_schema"},
        "messages": [{"role": "user", "content": "SECRET"}],
    }
    assert asked(body, CHAT) == {
        "gen_ai.request.model": "gpt-x",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.frequency_penalty": 1.0,
        "gen_ai.request.presence_penalty": -1.0,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "json",
    }


def test_gemini_says_it_elsewhere() -> None:
    """The same of Gemini's `generationConfig`; `top_k` is a double here."""
    config = {"maxOutputTokens": 9, "topK": 40, "responseMimeType": "text/plain"}
    found = asked({"generationConfig": config}, GEMINI)
    assert found == {
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.top_k": 40.0,
        "gen_ai.output.type": "text",
    }
    assert isinstance(found["gen_ai.request.top_k"], float)
    main = asked({"generationConfig": config}, GEMINI, "genai-main")
    assert isinstance(main["gen_ai.request.top_k"], int)


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": True, "max_tokens": "9", "n": 1, "stream": "yes"},
        {"temperature": 10**400, "max_tokens": -1, "seed": 1.5},
        {"temperature": float("nan")},
        [],
        "text",
    ],
)
def test_what_does_not_fit_is_left_out(body: object) -> None:
    """A client may send anything; what is no number is no attribute."""
    assert asked(body, CHAT) == {}


def test_an_agent_is_named_by_its_request_or_by_tags() -> None:
    """A graph has a name, an assistant an id; tags say it where a request does not."""
    where = {"dialect": "langgraph", "path": "/runs/stream"}
    assert asked({"assistant_id": "travel"}, where) == {"gen_ai.agent.name": "travel"}
    one_id = "0af76519-16cd-43dd-8448-eb211c80319c"
    assert asked({"assistant_id": one_id}, where) == {"gen_ai.agent.id": one_id}
    tags = {"gen_ai.agent.name": "x", "gen_ai.agent.version": "2", "run": "1"}
    assert asked({}, where, tags=tags) == {
        "gen_ai.agent.name": "x",
        "gen_ai.agent.version": "2",
    }
    (span,) = spans(exchange(tags=tags), [])
    assert span.name == "invoke_agent x"
