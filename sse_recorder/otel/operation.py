"""What an exchange is to the conventions: a model's answer, an agent's run, a message.

    agent   an agent that lives behind the API: its stream has the results of its tools
    model   one call of a model, whose tools the client runs
    mcp     JSON-RPC of the Model Context Protocol
    http    anything else

Told by the dialect, the method and the path; by the name of the host who provides it.
A host that is not known is called by its own name: that an API looks like that of a
well-known provider does not make it one.
"""

from __future__ import annotations

import re
from email import message_from_bytes
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from sse_recorder import semconv
from sse_recorder.dialects.base import Dialect, parse_object, text_of
from sse_recorder.exchange import Exchange, header, media_type
from sse_recorder.otel.stream import StreamFacts
from sse_recorder.redact import Redactor

BODY_BYTES_MAX: Final = 1 << 20
"""A longer request body is not looked into."""

_AGENTS: Final = frozenset({"meibel", "ag_ui", "langgraph", "a2a", "vercel_ui"})
_MODELS: Final = {
    "anthropic": semconv.CHAT,
    "openai_chat": semconv.CHAT,
    "openai_responses": semconv.CHAT,
    "gemini": semconv.GENERATE_CONTENT,
    "gemini_interactions": semconv.GENERATE_CONTENT,
}
_BY_PATH: Final = (
    (re.compile(r"/embeddings/?$|:(?:batchE|e)mbedContents?$"), semconv.EMBEDDINGS),
    (re.compile(r"(?<!/chat)/completions/?$"), semconv.TEXT_COMPLETION),
)
_RESPONSES: Final = re.compile(r"/responses/?$")
_HOSTS: Final = (
    ("api.anthropic.com", "anthropic"),
    ("api.cohere.com", "cohere"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.openai.com", "openai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("openai.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
)
_BEDROCK: Final = re.compile(r"bedrock-runtime[.-][a-z0-9.-]*\.amazonaws\.com")
_ALL_MASKED: Final = Redactor()
_GEMINI_MODEL: Final = re.compile(r"/models/([^/:]+):")


class Operation(NamedTuple):
    """What an exchange is."""

    kind: Literal["agent", "model", "mcp", "http"]
    name: str | None = None
    """Of the operation, as the GenAI conventions have it."""
    provider: str | None = None
    model: str | None = None
    """That was asked for."""
    body: dict[str, Any] = {}  # noqa: RUF012 - never written to
    """The request's members, where it is JSON or a form."""

    @property
    def is_genai(self) -> bool:
        """Whether the GenAI conventions have a word for it."""
        return self.kind in ("agent", "model")

    @property
    def is_inference(self) -> bool:
        """Whether a model was asked, and nothing around it."""
        return self.kind == "model"


def operation_of(
    exchange: Exchange, facts: StreamFacts, words: semconv.Vocabulary
) -> Operation:
    """Return what an exchange is.

    Args:
        exchange: its row.
        facts: what its frames say.
        words: the vocabulary.
    """
    body = _body(exchange)
    if exchange.dialect == "mcp":
        return Operation("mcp", body=body)
    if _is_agent(exchange, facts):
        name = semconv.INVOKE_AGENT
        provider = "meibel" if exchange.dialect == "meibel" else provider_of(exchange)
        model = text_of(body.get("model"))
        return Operation("agent", name, provider, model, body)
    model_operation = _model_operation(exchange, body, words)
    if model_operation is None:
        return Operation("http", body=body)
    path = _GEMINI_MODEL.search(exchange.path)
    model = text_of(body.get("model")) or (path and path[1])
    return Operation("model", model_operation, provider_of(exchange), model, body)


def _body(exchange: Exchange) -> dict[str, Any]:
    """Return the members of a request's body, of JSON or of a form."""
    body = exchange.request_body
    if len(body) > BODY_BYTES_MAX:
        return {}
    if media_type(exchange.request_headers) != "multipart/form-data":
        return parse_object(body)
    kind = header(exchange.request_headers, "content-type") or ""
    form = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    fields: dict[str, Any] = {}
    for part in form.walk():
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        is_field = isinstance(name, str) and part.get_filename() is None
        if is_field and isinstance(value, bytes):
            fields[str(name)] = value.decode(errors="replace")
    return fields


def provider_of(exchange: Exchange) -> str | None:
    """Return who provides an API, by the name of its host."""
    host = host_of(exchange.url)
    if host is None:
        return None
    if _BEDROCK.fullmatch(host):
        return "aws.bedrock"
    known = (
        provider
        for suffix, provider in _HOSTS
        if host == suffix or host.endswith((f".{suffix}", f"-{suffix}"))
    )
    return next(known, host)


def host_of(url: str) -> str | None:
    """Return the name of a URL's host; None where there is none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def without_credentials(url: str) -> str:
    """Return a URL without user, password, keys and signatures.

    Whatever the recording is told to keep: what is sent away is another matter.

    Raises:
        ValueError: it is no URL.
    """
    # "url.full MUST NOT contain credentials passed via URL": HTTP spans, url.full.
    parts = urlsplit(_ALL_MASKED.url(url))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _is_agent(exchange: Exchange, facts: StreamFacts) -> bool:
    dialect = exchange.dialect
    if dialect not in _AGENTS:
        # One that another package reads: what returns results of tools has run them.
        is_ours = dialect in (None, Dialect.name, "mcp") or dialect in _MODELS
        return facts.has_results and not is_ours
    if exchange.dialect == "meibel":  # by its header alone it may be any operation
        return exchange.session_id is not None or facts.is_stream
    return exchange.method == "POST" or facts.is_stream


def _model_operation(
    exchange: Exchange, body: dict[str, Any], words: semconv.Vocabulary
) -> str | None:
    name = _MODELS.get(exchange.dialect or "")
    if exchange.dialect == "openai_responses":
        if exchange.method == "GET":
            return semconv.FETCH_RESPONSE if words.is_main else None
        return name if _RESPONSES.search(exchange.path) else None
    if exchange.method != "POST":
        return None
    if name is not None:
        return name
    # Without a dialect a path alone does not tell; with a model in its body it does.
    if "model" not in body and provider_of(exchange) == host_of(exchange.url):
        return None
    found = (name for pattern, name in _BY_PATH if pattern.search(exchange.path))
    return next(found, None)
