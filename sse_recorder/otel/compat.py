"""Attributes of their own that some backends read, added only where one asks for them.

langfuse        the kind of an observation, and when the answer began
logfire         the time to the first chunk under the name of its metric
openinference   Phoenix and others: the kind of a span, the tool and the session
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from sse_recorder import semconv
from sse_recorder.otel.data import SpanData, Value, present

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _kind_of(span: SpanData) -> str | None:
    match span.attributes.get(semconv.GEN_AI_OPERATION_NAME):
        case semconv.INVOKE_AGENT:
            return "agent"
        case semconv.EXECUTE_TOOL:
            return "tool"
        case None:
            return None
        case _:
            return "generation"


def _langfuse(span: SpanData, kind: str) -> dict[str, Value | None]:
    first_s = span.attributes.get(semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK)
    began = None
    if isinstance(first_s, float):
        since = timedelta(microseconds=span.start_ns / 1_000 + first_s * 1e6)
        # It is read as JSON, of which a text has quotes.
        began = json.dumps((_EPOCH + since).isoformat().replace("+00:00", "Z"))
    return {
        "langfuse.observation.type": kind,
        "langfuse.observation.completion_start_time": began,
    }


def _logfire(span: SpanData, kind: str) -> dict[str, Value | None]:
    del kind
    first_s = span.attributes.get(semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK)
    return {semconv.GENAI_1_41.m_time_to_first_chunk: first_s}


def _openinference(span: SpanData, kind: str) -> dict[str, Value | None]:
    known = span.attributes
    given, answer = semconv.GEN_AI_INPUT_MESSAGES, semconv.GEN_AI_OUTPUT_MESSAGES
    if kind == "tool":
        given = semconv.GEN_AI_TOOL_CALL_ARGUMENTS
        answer = semconv.GEN_AI_TOOL_CALL_RESULT
    return {
        "openinference.span.kind": {"generation": "LLM"}.get(kind, kind.upper()),
        "session.id": known.get(semconv.GEN_AI_CONVERSATION_ID),
        "tool.name": known.get(semconv.GEN_AI_TOOL_NAME),
        "tool.id": known.get(semconv.GEN_AI_TOOL_CALL_ID),
        "input.value": known.get(given),
        "output.value": known.get(answer),
    }


_ADDED: Final[Mapping[str, Callable[[SpanData, str], dict[str, Value | None]]]] = {
    "langfuse": _langfuse,
    "logfire": _logfire,
    "openinference": _openinference,
}


def compatible(span: SpanData, names: tuple[str, ...]) -> SpanData:
    """Return a span with what is added for backends of these names."""
    kind = _kind_of(span)
    if kind is None or not names:
        return span
    found: dict[str, Value | None] = {}
    for name in names:
        found |= _ADDED[name](span, kind)
    return replace(span, attributes={**span.attributes, **present(found)})
