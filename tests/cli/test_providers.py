"""The variables from which clients read their base URL."""

from __future__ import annotations

import pytest

from sse_recorder.cli import providers
from sse_recorder.cli.providers import PROVIDERS, plan
from sse_recorder.errors import UsageError
from sse_recorder.routing import Routes

URL = "http://127.0.0.1:8787"


def sent(
    asked: str,
    upstream: str | None,
    routes: dict[str, str],
    environ: dict[str, str] | None = None,
) -> str | None:
    """Return the URL that is asked for upstream by a client.

    Args:
        asked: the client's variable, and what it appends to its value.
        upstream: as in `plan`.
        routes: as in `plan`.
        environ: as in `plan`.
    """
    name, slash, rest = asked.partition("/")
    made = plan(upstream, routes, environ or {})
    base = made.variables(URL, {})[name]
    target = (base + slash + rest).removeprefix(URL)
    found = Routes.parse(upstream, made.routes).find("POST", target)
    return found and found.upstream.url(found.target)


def default_routes(environ: dict[str, str]) -> dict[str, str]:
    """Return the routes of a command for which nothing else is given."""
    return plan(None, {}, environ).routes


def variables(
    url: str, upstream: str | None, routes: dict[str, str], environ: dict[str, str]
) -> dict[str, str]:
    """Return what is set for a command."""
    return plan(upstream, routes, environ).variables(url, environ)


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
    assert sent(asked, None, {}) == expected


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
        sent(CHAT, None, {}, environ) == "http://gw:1/without-version/chat/completions"
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


@pytest.mark.parametrize(
    ("upstream", "own"),
    [
        ("https://api.meibel.ai/v2", None),
        ("https://API.OpenAI.com.", "OPENAI_BASE_URL"),
        ("https://eu.api.openai.com/v1", "OPENAI_BASE_URL"),
        ("https://api.anthropic.com:443", "ANTHROPIC_BASE_URL"),
        ("https://generativelanguage.googleapis.com", "GOOGLE_GEMINI_BASE_URL"),
        ("https://api.groq.com/openai/v1", "GROQ_BASE_URL"),
        ("https://api.cohere.com", "CO_API_URL"),
        ("https://api.mistral.ai/v1", "MISTRAL_API_BASE"),
        ("https://ollama.com", "OLLAMA_HOST"),
        ("https://mine.openai.azure.com", "AZURE_OPENAI_ENDPOINT"),
    ],
)
def test_a_known_api_is_sent_its_own_clients_only(
    upstream: str, own: str | None
) -> None:
    """The others, who would hand it their keys, are asked for where they were."""
    environ = (
        {"ANTHROPIC_BASE_URL": "http://gw:1"} if own != "ANTHROPIC_BASE_URL" else {}
    )
    found = plan(upstream, {}, environ).variables(URL, {})
    there = {name for name, value in found.items() if not value.startswith(f"{URL}/-/")}
    others = {"OPENAI_API_BASE"} if own == "OPENAI_BASE_URL" else set()
    assert there == {"SSE_RECORDER_URL", own, *others} - {None}
    if own != "OPENAI_BASE_URL":
        assert sent(CHAT, upstream, {}) == "https://api.openai.com/v1/chat/completions"
    if environ:
        assert sent(MESSAGES, upstream, {}, environ) == "http://gw:1/v1/messages"


@pytest.mark.parametrize(
    "upstream",
    [
        "http://127.0.0.1:11434",
        "http://localhost:8000/v1",
        "https://gateway.example.com",
        "https://notopenai.com",
        "https://api.openai.com.example.com",
        "https://mine.eastus.cloudapp.azure.com",
    ],
)
def test_any_other_upstream_stands_in_for_all_apis(upstream: str) -> None:
    """A gateway, or a server that is compatible, is what such a host is."""
    made = plan(upstream, {}, {"OPENAI_BASE_URL": "http://before"})
    assert made.routes == {}
    assert set(made.paths) == {provider.name for provider in PROVIDERS}


def test_a_route_beside_a_known_api_is_the_users_and_takes_none_of_its_paths() -> None:
    """A prefix of ours never stands where the user has one, or the API a path."""
    upstream, routes = "https://api.groq.com", {"/llm/openai/": "http://gw:1/v1"}
    assert sent(CHAT, upstream, routes) == "http://gw:1/v1/chat/completions"
    for path in ("GROQ_BASE_URL/openai/v1/models", "SSE_RECORDER_URL/openai/v1/models"):
        assert sent(path, upstream, {}) == "https://api.groq.com/openai/v1/models"


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
    for name, value in (
        ("OPENAI_BASE_URL", "http://"),
        ("OPENAI_BASE_URL", "host"),
        ("OLLAMA_HOST", "host:x"),
    ):
        with pytest.raises(UsageError, match=f"{name} is set to '{value}': "):
            default_routes({name: value})


def test_the_table_is_the_documentation() -> None:
    """What is set is in the module's own words, with where it leads."""
    documented = providers.__doc__ or ""
    for provider in PROVIDERS:
        for name in (provider.name, *provider.variables, provider.api or "RESOURCE"):
            assert name in documented
