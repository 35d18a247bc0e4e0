"""What an exchange is to the conventions, and who provides it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from otel_samples import exchange

from sse_recorder.otel.operation import BODY_BYTES_MAX, operation_of
from sse_recorder.otel.stream import NOTHING_HEARD, StreamFacts
from sse_recorder.semconv import GENAI_1_41, GENAI_MAIN

STREAM = StreamFacts(is_stream=True)
MODEL = b'{"model": "m-1"}'


def named(
    dialect: str | None,
    url: str,
    method: str = "POST",
    body: bytes = MODEL,
    facts: StreamFacts = NOTHING_HEARD,
    **changes: Any,
) -> tuple[str | None, str | None, str | None]:
    """Return the operation, the provider and the model of an exchange."""
    one = exchange(
        dialect=dialect,
        url=url,
        path=url.partition("://")[2].partition("/")[2].join(("/", "")),
        method=method,
        request_body=body,
        **{"session_id": None, **changes},
    )
    found = operation_of(one, facts, GENAI_1_41)
    return found.name, found.provider, found.model


@pytest.mark.parametrize(
    ("dialect", "url", "expected"),
    [
        (
            "openai_chat",
            "https://api.openai.com/v1/chat/completions",
            ("chat", "openai", "m-1"),
        ),
        (
            "gemini_interactions",
            "https://generativelanguage.googleapis.com/v1beta/interactions",
            ("generate_content", "gcp.gemini", "m-1"),
        ),
        (
            "openai_responses",
            "https://api.openai.com/v1/responses",
            ("chat", "openai", "m-1"),
        ),
        (
            "anthropic",
            "https://api.anthropic.com/v1/messages",
            ("chat", "anthropic", "m-1"),
        ),
        (
            "openai_chat",
            "https://api.groq.com/openai/v1/chat/completions",
            ("chat", "groq", "m-1"),
        ),
        (
            "openai_chat",
            "https://x.openai.azure.com/a/chat/completions",
            ("chat", "azure.ai.openai", "m-1"),
        ),
        (
            "openai_chat",
            "http://gw.local:4000/v1/chat/completions",
            ("chat", "gw.local", "m-1"),
        ),
        (
            "anthropic",
            "https://bedrock-runtime.eu-west-1.amazonaws.com/v1/messages",
            ("chat", "aws.bedrock", "m-1"),
        ),
        (None, "https://api.openai.com/v1/embeddings", ("embeddings", "openai", "m-1")),
        (
            None,
            "http://127.0.0.1:1/v1/completions",
            ("text_completion", "127.0.0.1", "m-1"),
        ),
    ],
)
def test_a_model_is_told_by_dialect_path_and_host(
    dialect: str, url: str, expected: tuple[str, str, str]
) -> None:
    """The operation comes from the API, the provider from the host, never a guess."""
    assert named(dialect, url) == expected


def test_geminis_model_is_in_its_path() -> None:
    """Gemini names its model in the path, and the operation has a name of its own."""
    url = (
        "https://generativelanguage.googleapis.com/v1/models/g-2:streamGenerateContent"
    )
    assert named("gemini", url, body=b"{}") == ("generate_content", "gcp.gemini", "g-2")
    vertex = "https://eu-aiplatform.googleapis.com/v1/p/models/g-2:generateContent"
    assert named("gemini", vertex, body=b"{}")[1] == "gcp.vertex_ai"


@pytest.mark.parametrize("dialect", ["ag_ui", "langgraph", "a2a", "vercel_ui"])
def test_an_agent_is_called_by_its_host(dialect: str) -> None:
    """An agent's provider is whoever serves it; looking at one is not to invoke it."""
    url = "https://agents.example.com/runs/stream"
    expected = ("invoke_agent", "agents.example.com", "m-1")
    assert named(dialect, url) == expected
    assert named(dialect, url, "GET")[0] is None
    assert named(dialect, url, "GET", facts=STREAM)[0] == "invoke_agent"


def test_a_dialect_of_another_package_is_an_agents_if_it_has_results() -> None:
    """What sends the results of tools has run them; anything else is HTTP."""
    url = "https://acme.example.com/ask"
    results = StreamFacts(is_stream=True, has_results=True)
    assert named("acme", url, facts=results)[:2] == ("invoke_agent", "acme.example.com")
    assert named("acme", url, facts=STREAM)[0] is None
    assert named("generic", url, facts=results)[0] is None
    chat = "https://api.openai.com/v1/chat/completions"
    assert named("openai_chat", chat, facts=results)[0] == "chat"


def test_meibels_agents_are_asked_in_sessions() -> None:
    """Its other operations carry its header too, and invoke nothing."""
    url = "https://api.meibel.ai/v2/sessions/s/chat/stream"
    assert named("meibel", url, session_id="s")[:2] == ("invoke_agent", "meibel")
    assert named("meibel", "https://api.meibel.ai/v2/agents")[0] is None
    assert named("meibel", url, facts=STREAM)[0] == "invoke_agent"


def test_what_is_no_call_of_a_model_is_not_said_to_be_one() -> None:
    """Neither a list of models nor another path of a known host nor a lookalike."""
    assert named(None, "https://api.openai.com/v1/models", "GET", b"")[0] is None
    assert named("openai_chat", "https://a/v1/chat/completions", "GET", b"")[0] is None
    assert named(None, "http://shop/v1/completions", body=b"{}")[0] is None
    assert named("openai_responses", "http://a/v1/responses/r/cancel")[0] is None


def test_a_response_that_is_fetched_is_no_inference() -> None:
    """Only genai-main has a word for it; before that it is an HTTP request."""
    one = exchange(dialect="openai_responses", method="GET", path="/v1/responses/r-1")
    assert operation_of(one, NOTHING_HEARD, GENAI_MAIN).name == "fetch_response"
    assert operation_of(one, NOTHING_HEARD, GENAI_1_41).name is None


def test_a_long_body_is_not_looked_into() -> None:
    """A request of more than a megabyte names no model, and costs no time."""
    body = json.dumps({"model": "m-1", "x": "y" * BODY_BYTES_MAX}).encode()
    url = "https://api.openai.com/v1/chat/completions"
    assert named("openai_chat", url, body=body) == ("chat", "openai", None)


def test_a_url_without_a_host_has_no_provider() -> None:
    """What is no URL is provided by nobody."""
    assert named("openai_chat", "/v1/chat/completions")[1] is None
    assert named("openai_chat", "http://[/v1/chat/completions")[1] is None


def test_a_form_has_members_too() -> None:
    """Meibel is sent one, with files that are left alone."""
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="user_message"\r\n\r\nhi\r\n'
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n..\r\n'
        b"--b--\r\n"
    )
    kind = (("Content-Type", "multipart/form-data; boundary=b"),)
    one = exchange(request_headers=kind, request_body=parts)
    assert operation_of(one, NOTHING_HEARD, GENAI_1_41).body == {"user_message": "hi"}
    broken = exchange(request_headers=kind, request_body=b"no parts")
    assert operation_of(broken, NOTHING_HEARD, GENAI_1_41).body == {}
