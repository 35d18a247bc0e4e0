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

Who is sent where
-----------------
1. A route whose prefix ends with a provider's name takes that provider's clients.
2. An `--upstream` on a known provider's host takes that provider's clients, and nobody
   else's: they would hand their keys to a stranger.
3. Any other `--upstream`, a gateway or a server on this machine, takes the clients of
   all: it is there to stand in for the APIs.
4. Who is left over has a route of its own, to where its variable pointed or else to its
   API.  Beside an upstream its prefix begins with `/-`, so that it takes no path of the
   upstream's: Groq's own paths begin with `/openai`.
5. Only where there are routes and no upstream are those who are left over left alone.

How a path composes: openai's client asks for `$OPENAI_BASE_URL/chat/completions`, and
the recorder for the upstream's path with that behind it.  `/v1` must come in once.  So
the path in the third column goes into the variable, unless the upstream's URL ends with
it: with `--upstream https://api.openai.com` the variable is `http://127.0.0.1:PORT/v1`,
and with `--upstream https://api.openai.com/v1` it is `http://127.0.0.1:PORT`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sse_recorder.errors import UsageError
from sse_recorder.http1.client import Origin

URL_VARIABLE: Final = "SSE_RECORDER_URL"
_OLLAMA_PORT: Final = 11434
_PROXIES: Final = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
# In front of what must not take paths of the upstream's.
_APART: Final = "/-"


class Provider(NamedTuple):
    """An API that is known by name."""

    name: str
    variables: tuple[str, ...]
    """What its clients read its base URL from; the first that is set counts."""
    api: str | None
    """Its base URL, as its clients know it; None where each user has another."""
    domains: tuple[str, ...]
    """What the names of its hosts end with."""

    @property
    def path(self) -> str:
        """What its clients expect in the path of a base URL."""
        return urlsplit(self.api or "").path

    def has(self, host: str) -> bool:
        """Tell whether a host is one of its own."""
        return any(f".{host}".endswith(f".{domain}") for domain in self.domains)


PROVIDERS: Final = (
    Provider(
        "openai",
        ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        "https://api.openai.com/v1",
        ("openai.com",),
    ),
    Provider(
        "anthropic",
        ("ANTHROPIC_BASE_URL",),
        "https://api.anthropic.com",
        ("anthropic.com",),
    ),
    Provider(
        "gemini",
        ("GOOGLE_GEMINI_BASE_URL",),
        "https://generativelanguage.googleapis.com",
        ("googleapis.com",),
    ),
    Provider("groq", ("GROQ_BASE_URL",), "https://api.groq.com", ("groq.com",)),
    Provider(
        "cohere", ("CO_API_URL",), "https://api.cohere.com", ("cohere.com", "cohere.ai")
    ),
    Provider(
        "mistral", ("MISTRAL_API_BASE",), "https://api.mistral.ai/v1", ("mistral.ai",)
    ),
    # On this machine it may be anything that is compatible; its hosts are elsewhere.
    Provider(
        "ollama", ("OLLAMA_HOST",), f"http://127.0.0.1:{_OLLAMA_PORT}", ("ollama.com",)
    ),
    Provider(
        "azure",
        ("AZURE_OPENAI_ENDPOINT",),
        None,
        (
            "openai.azure.com",
            "cognitiveservices.azure.com",
            "services.ai.azure.com",
        ),
    ),
    Provider("meibel", (), "https://api.meibel.ai/v2", ("meibel.ai",)),
)


class Plan(NamedTuple):
    """Where the clients of a command are sent."""

    routes: dict[str, str]
    """Upstream URLs by prefix, for the recorder."""
    paths: dict[str, str]
    """What the base URL of each provider has behind that of the recorder."""

    def variables(self, url: str, environ: Mapping[str, str]) -> dict[str, str]:
        """Return what is set for the command.

        Args:
            url: where the recorder listens.
            environ: the environment that the command would have.
        """
        found = {URL_VARIABLE: url, **_without_proxy(url, environ)}
        for provider in PROVIDERS:
            if provider.name in self.paths:
                base = url + self.paths[provider.name]
                found |= dict.fromkeys(provider.variables, base)
        return found


def plan(
    upstream: str | None, routes: Mapping[str, str], environ: Mapping[str, str]
) -> Plan:
    """Return where the clients of a command are sent, by the rules above.

    Args:
        upstream: where the user sends what no route takes.
        routes: the user's upstream URLs by prefix.
        environ: the environment; a variable that is set already names the upstream, so
            that a gateway that was used before is used still.

    Raises:
        UsageError: a variable that is needed cannot be read.
    """
    made = Plan(dict(routes), {})
    prefixes = {prefix.rstrip("/").rpartition("/")[2]: prefix for prefix in routes}
    owner = _owner(upstream)
    is_closed = upstream is None and bool(routes)
    for provider in PROVIDERS:
        name = provider.name
        if name in prefixes:
            prefix = prefixes[name]
            path = prefix.rstrip("/") + _missing(provider, routes[prefix])
        elif upstream is not None and owner in {None, provider}:
            path = _missing(provider, upstream)
        elif is_closed or (base := _base_url(provider, environ)) is None:
            continue
        else:
            path = f"{_APART if upstream else ''}/{name}"
            made.routes[path] = base
        made.paths[name] = path
    return made


def everywhere() -> Plan:
    """Return that all clients are sent to one place that answers for every API."""
    return Plan({}, {provider.name: provider.path for provider in PROVIDERS})


def _owner(upstream: str | None) -> Provider | None:
    """Return the provider on whose host an upstream is, if it is a known one."""
    host = ""
    with suppress(ValueError):  # whoever makes a route of it says what is wrong
        host = (urlsplit(upstream or "").hostname or "").rstrip(".")
    return next((provider for provider in PROVIDERS if provider.has(host)), None)


def _missing(provider: Provider, target: str) -> str:
    """Return what of a client's path an upstream's URL does not have yet."""
    is_whole = target.partition("?")[0].rstrip("/").endswith(provider.path)
    return "" if is_whole else provider.path


def _base_url(provider: Provider, environ: Mapping[str, str]) -> str | None:
    """Return where a provider's clients go without us, if anything says it."""
    for name in provider.variables:
        if value := environ.get(name):
            try:
                if provider.name == "ollama" and "://" not in value:
                    value = _from_host(value)
                Origin.from_url(value)
            except (UsageError, ValueError) as error:
                raise UsageError(f"{name} is set to {value!r}: {error}") from error
            return value
    return provider.api


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
