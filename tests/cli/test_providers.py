"""The variables from which clients read their base URL."""

from __future__ import annotations

import pytest

from sse_recorder.cli import providers
from sse_recorder.cli.providers import PROVIDERS, default_routes, variables
from sse_recorder.errors import UsageError
from sse_recorder.routing import Routes

URL = "http://127.0.0.1:8787"


def sent(
    asked: str, upstream: str | None, routes: dict[str, str], **options: bool
) -> str | None:
    """Return the URL that is asked for upstream by a client.

    Args:
        asked: the client's variable, and what it appends to its value.
        upstream: as in `variables`.
        routes: as in `variables`.
        options: as in `variables`.
    """
    name, slash, rest = asked.partition("/")
    base = variables(URL, upstream, routes, {}, **options)[name]
    target = (base + slash + rest).removeprefix(URL)
    found = Routes.parse(upstream, routes).find("POST", target)
    return found and found.upstream.url(found.target)


CHAT = "OPENAI_BASE_URL/chat/completions"
MESSAGES = "ANTHROPIC_BASE_URL/v1/messages"


@pytest.mark.parametrize(
    ("asked", "upstream", "expected"),
    [
        # With or without the path that the client's base URL has.
        (CHAT, "https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
        (
            CHAT,
            "https://api.openai.com/v1",
            "https://api.openai.com/v1/chat/completions",
        ),
        (CHAT, "http://gw:1/llm/v1/", "http://gw:1/llm/v1/chat/completions"),
        (CHAT, "http://gw:1/llm", "http://gw:1/llm/v1/chat/completions"),
        ("OPENAI_API_BASE/models", "http://gw:1", "http://gw:1/v1/models"),
        (
            MESSAGES,
            "https://api.anthropic.com",
            "https://api.anthropic.com/v1/messages",
        ),
        ("OLLAMA_HOST/api/chat", "http://gw:1", "http://gw:1/api/chat"),
    ],
)
def test_paths_compose_to_those_of_the_api(
    asked: str, upstream: str, expected: str
) -> None:
    """`/v1` comes in once, whoever puts it in; by an upstream and by a route."""
    assert sent(asked, upstream, {}) == expected
    name = asked.split("_", maxsplit=1)[0].lower()
    routes = {f"/llm/{name}": upstream, "/other": "http://other"}
    assert sent(asked, None, routes) == expected
    assert sent(asked, "http://other", routes) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (CHAT, "https://api.openai.com/v1/chat/completions"),
        (MESSAGES, "https://api.anthropic.com/v1/messages"),
        (
            "GOOGLE_GEMINI_BASE_URL/v1beta/models/m:stream",
            "https://generativelanguage.googleapis.com/v1beta/models/m:stream",
        ),
        (
            "GROQ_BASE_URL/openai/v1/chat/completions",
            "https://api.groq.com/openai/v1/chat/completions",
        ),
        ("CO_API_URL/v2/chat", "https://api.cohere.com/v2/chat"),
        (
            "MISTRAL_API_BASE/chat/completions",
            "https://api.mistral.ai/v1/chat/completions",
        ),
        ("OLLAMA_HOST/api/chat", "http://127.0.0.1:11434/api/chat"),
        ("SSE_RECORDER_URL/meibel/agents", "https://api.meibel.ai/v2/agents"),
    ],
)
def test_every_api_that_is_known_is_asked_without_any_option(
    asked: str, expected: str
) -> None:
    """`record -- python agent.py` needs nothing else."""
    routes = default_routes({})
    assert sent(asked, None, routes, as_clients_know_them=True) == expected


def test_what_was_asked_before_is_asked_still() -> None:
    """A variable that is set names the upstream, as it is."""
    environ = {
        "OPENAI_BASE_URL": "http://gw:1/without-version",
        "OPENAI_API_BASE": "http://old",
        "ANTHROPIC_BASE_URL": "",
        "AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com",
    }
    routes = default_routes(environ)
    assert routes["/openai"] == "http://gw:1/without-version"
    assert routes["/anthropic"] == "https://api.anthropic.com"
    assert routes["/azure"] == "https://mine.openai.azure.com"
    assert "/azure" not in default_routes({})
    assert (
        sent(CHAT, None, routes, as_clients_know_them=True)
        == "http://gw:1/without-version/chat/completions"
    )


@pytest.mark.parametrize(
    ("value", "upstream"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104 - read, not listened on
        ("0.0.0.0:1", "http://127.0.0.1:1"),
        (":1", "http://127.0.0.1:1"),
        ("host", "http://host:11434"),
        ("[::1]:1/path", "http://[::1]:1/path"),
        ("https://host", "https://host"),
    ],
)
def test_ollamas_host_needs_no_scheme(value: str, upstream: str) -> None:
    """It is what the server of the same name listens on, too."""
    assert default_routes({"OLLAMA_HOST": value})["/ollama"] == upstream


def test_who_has_neither_route_nor_upstream_is_left_alone() -> None:
    """Another provider's clients go where they went before."""
    found = variables(URL, None, {"/anthropic/": "http://gw:1"}, {})
    assert found == {
        "SSE_RECORDER_URL": URL,
        "ANTHROPIC_BASE_URL": f"{URL}/anthropic",
    }


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine() -> None:
    """It has no way back to it; hosts that were spared before are spared still."""
    environ = {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "intranet"}
    found = variables(URL, "http://gw:1", {}, environ)
    assert found["no_proxy"] == found["NO_PROXY"] == "intranet,127.0.0.1"
    assert variables(URL, "http://gw:1", {}, {"ALL_PROXY": "x"})["NO_PROXY"] == (
        "127.0.0.1"
    )
    assert "NO_PROXY" not in variables(URL, "http://gw:1", {}, {"NO_PROXY": "a"})


def test_a_variable_that_is_no_upstream_is_refused() -> None:
    """As the same text would be on the command line."""
    with pytest.raises(UsageError):
        Routes.parse(None, default_routes({"OPENAI_BASE_URL": "http://"}))


def test_the_table_is_the_documentation() -> None:
    """What is set is in the module's own words, with where it leads."""
    documented = providers.__doc__ or ""
    for provider in PROVIDERS:
        for name in (provider.name, *provider.variables, provider.api or "RESOURCE"):
            assert name in documented
