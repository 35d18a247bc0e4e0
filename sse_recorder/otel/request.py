"""The request: what its JSON body asks of a model or an agent, without its content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sse_recorder import semconv
from sse_recorder.dialects.base import count_of, member, text_of
from sse_recorder.exchange import Exchange
from sse_recorder.otel.data import Value, clean
from sse_recorder.otel.operation import Operation
from sse_recorder.otel.stream import StreamFacts

AGENT_TAGS: Final = (
    semconv.GEN_AI_AGENT_NAME,
    semconv.GEN_AI_AGENT_ID,
    semconv.GEN_AI_AGENT_VERSION,
    semconv.GEN_AI_AGENT_DESCRIPTION,
)
"""Tags of an exchange that say which agent it went to, where its request does not."""

_G = "generationConfig"
_MAX_TOKENS: Final = (
    ("max_tokens",),
    ("max_completion_tokens",),
    ("max_output_tokens",),
    (_G, "maxOutputTokens"),
)
_NUMBERS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    semconv.GEN_AI_REQUEST_TEMPERATURE: (("temperature",), (_G, "temperature")),
    semconv.GEN_AI_REQUEST_TOP_P: (("top_p",), (_G, "topP")),
    semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY: (
        ("frequency_penalty",),
        (_G, "frequencyPenalty"),
    ),
    semconv.GEN_AI_REQUEST_PRESENCE_PENALTY: (
        ("presence_penalty",),
        (_G, "presencePenalty"),
    ),
}
_TOP_K: Final = (("top_k",), (_G, "topK"))
_SEED: Final = (("seed",), (_G, "seed"))
_CHOICES: Final = (("n",), (_G, "candidateCount"))
_FORMATS: Final = (
    ("response_format", "type"),
    ("text", "format", "type"),
    (_G, "responseMimeType"),
)
_NUMBER_LIMIT: Final = 2**53
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def request_attributes(
    exchange: Exchange,
    operation: Operation,
    facts: StreamFacts,
    words: semconv.Vocabulary,
) -> dict[str, Value | None]:
    """Return what a request asks for."""
    body = operation.body
    found: dict[str, Value | None] = {
        semconv.GEN_AI_REQUEST_MODEL: clean(operation.model),
        semconv.GEN_AI_REQUEST_STREAM: _is_streaming(exchange, body, facts) or None,
        **_agent(exchange, operation),
    }
    if operation.name in (semconv.FETCH_RESPONSE, None):
        return found
    choices = _count(body, _CHOICES)
    found |= {
        semconv.GEN_AI_REQUEST_MAX_TOKENS: _count(body, _MAX_TOKENS),
        semconv.GEN_AI_REQUEST_SEED: _count(body, _SEED),
        semconv.GEN_AI_REQUEST_CHOICE_COUNT: choices if choices != 1 else None,
        semconv.GEN_AI_OUTPUT_TYPE: _output_type(body),
        **{name: _number(body, paths) for name, paths in _NUMBERS.items()},
    }
    if operation.is_inference and (top_k := _number(body, _TOP_K)) is not None:
        top_k = int(top_k) if words.is_top_k_integer else top_k
        found[semconv.GEN_AI_REQUEST_TOP_K] = top_k
    return found


def _is_streaming(exchange: Exchange, body: dict[str, Any], facts: StreamFacts) -> bool:
    is_asked = body.get("stream") is True or "streamGenerate" in exchange.path
    return is_asked or facts.is_stream


def _agent(exchange: Exchange, operation: Operation) -> dict[str, Value | None]:
    if operation.kind != "agent":
        return {}
    found: dict[str, Value | None] = {}
    # An id says which agent of a server it is; the name of a graph is a name.
    assistant = text_of(operation.body.get("assistant_id"))
    if assistant is not None:
        is_id = _UUID.fullmatch(assistant) is not None
        name = semconv.GEN_AI_AGENT_ID if is_id else semconv.GEN_AI_AGENT_NAME
        found[name] = clean(assistant)
    for name in AGENT_TAGS:
        if tag := exchange.tags.get(name):
            found[name] = clean(tag)
    return found


def _output_type(body: dict[str, Any]) -> str | None:
    asked = (text_of(member(body, *path)) for path in _FORMATS)
    name = next(filter(None, asked), None)
    if name is None:
        return None
    return "json" if "json" in name else "text"


def _count(body: dict[str, Any], paths: tuple[tuple[str, ...], ...]) -> int | None:
    found = (count_of(member(body, *path)) for path in paths)
    return next((count for count in found if count is not None), None)


def _number(body: dict[str, Any], paths: tuple[tuple[str, ...], ...]) -> float | None:
    for path in paths:
        value = member(body, *path)
        if isinstance(value, int | float) and abs(value) < _NUMBER_LIMIT:
            return None if isinstance(value, bool) else float(value)
    return None
