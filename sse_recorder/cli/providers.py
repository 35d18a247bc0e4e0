"""The APIs that are known by name, and the variables that their clients read.

`record -- CMD` sets these variables, so that CMD's clients ask the recorder:

    name        variable                 the API, as the variable would name it
    openai      OPENAI_BASE_URL          https://api.openai.com/v1
                OPENAI_API_BASE          (what came before it, and litellm)
    anthropic   ANTHROPIC_BASE_URL       https://api.anthropic.com
    gemini      GOOGLE_GEMINI_BASE_URL   https://generativelanguage.googleapis.com
    groq        GROQ_BASE_URL            https://api.groq.com
    cohere      CO_API_URL               https://api.cohere.com
    mistral     MISTRAL_API_BASE         https://api.mistral.ai/v1 (litellm; Mistral's
                                         own client reads none)
    ollama      OLLAMA_HOST              http://127.0.0.1:11434
    azure       AZURE_OPENAI_ENDPOINT    https://RESOURCE.openai.azure.com
    meibel      none                     https://api.meibel.ai/v2

What each client reads, and whether it puts `/v1` in front of its paths by itself, was
looked up in the official Python clients (openai 3, anthropic 2, google-genai 3, groq 1,
cohere 7, mistralai 3, ollama 0.6, meibel 2) and in litellm.  Every other client can be
told `SSE_RECORDER_URL`, which is always set.

How a path composes: openai's client asks for `$OPENAI_BASE_URL/chat/completions`, and
the recorder for the upstream's path with that behind it.  `/v1` must come in once.  So
the path in the third column goes into the variable, unless the upstream's URL ends with
it: with `--upstream https://api.openai.com` the variable is `http://127.0.0.1:PORT/v1`,
and with `--upstream https://api.openai.com/v1` it is `http://127.0.0.1:PORT`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

URL_VARIABLE: Final = "SSE_RECORDER_URL"
_OLLAMA_PORT: Final = 11434
_PROXIES: Final = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


class Provider(NamedTuple):
    """An API that is known by name."""

    name: str
    variables: tuple[str, ...]
    """What its clients read its base URL from; the first that is set counts."""
    api: str | None
    """Its base URL, as its clients know it; None where each user has another."""

    @property
    def path(self) -> str:
        """What its clients expect in the path of a base URL."""
        return urlsplit(self.api or "").path


PROVIDERS: Final = (
    Provider(
        "openai", ("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com/v1"
    ),
    Provider("anthropic", ("ANTHROPIC_BASE_URL",), "https://api.anthropic.com"),
    Provider(
        "gemini",
        ("GOOGLE_GEMINI_BASE_URL",),
        "https://generativelanguage.googleapis.com",
    ),
    Provider("groq", ("GROQ_BASE_URL",), "https://api.groq.com"),
    Provider("cohere", ("CO_API_URL",), "https://api.cohere.com"),
    Provider("mistral", ("MISTRAL_API_BASE",), "https://api.mistral.ai/v1"),
    Provider("ollama", ("OLLAMA_HOST",), f"http://127.0.0.1:{_OLLAMA_PORT}"),
    Provider("azure", ("AZURE_OPENAI_ENDPOINT",), None),
    Provider("meibel", (), "https://api.meibel.ai/v2"),
)


def default_routes(environ: Mapping[str, str]) -> dict[str, str]:
    """Return a route to each API that is known, where the environment says it is.

    Args:
        environ: the environment; a variable that is set already names the upstream, so
            that a gateway that was used before is used still.
    """
    routes: dict[str, str] = {}
    for provider in PROVIDERS:
        found = (environ[name] for name in provider.variables if environ.get(name))
        url = next(found, provider.api)
        if url is not None:
            routes[f"/{provider.name}"] = url if "://" in url else _from_host(url)
    return routes


def variables(
    url: str,
    upstream: str | None,
    routes: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    as_clients_know_them: bool = False,
) -> dict[str, str]:
    """Return what is set for a command whose clients are to ask the recorder.

    Args:
        url: where the recorder listens.
        upstream: where it sends what no route takes.
        routes: upstream URLs by prefix; a prefix that ends with the name of a provider
            is where the provider's clients are sent.
        environ: the environment that the command would have.
        as_clients_know_them: whether the routes' URLs are whole base URLs, as those of
            `default_routes` are.
    """
    found = {URL_VARIABLE: url, **_without_proxy(url, environ)}
    prefixes = {prefix.rstrip("/").rpartition("/")[2]: prefix for prefix in routes}
    for provider in PROVIDERS:
        prefix = prefixes.get(provider.name)
        target = upstream if prefix is None else routes[prefix]
        if target is None:
            continue
        base = url + (prefix or "").rstrip("/")
        is_whole = urlsplit(target).path.rstrip("/").endswith(provider.path)
        if not is_whole and not as_clients_know_them:
            base += provider.path
        found |= dict.fromkeys(provider.variables, base)
    return found


def _from_host(value: str) -> str:
    """Read what may stand in OLLAMA_HOST: a host, a port or both, and no scheme."""
    parts = urlsplit(f"http://{value}")
    host = parts.hostname or "127.0.0.1"
    if host == "0.0.0.0":  # noqa: S104 - what a server listens on, and nobody asks
        host = "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{parts.port or _OLLAMA_PORT}{parts.path}"


def _without_proxy(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Keep clients that use a proxy from asking it for this machine."""
    if not any(environ.get(name) for name in _PROXIES):
        return {}
    host = urlsplit(url).hostname or ""
    others = environ.get("no_proxy") or environ.get("NO_PROXY")
    value = f"{others},{host}" if others else host
    return {"no_proxy": value, "NO_PROXY": value}
