"""Content: what was said, told only where it is asked for.

Prompts, answers, arguments and results come from the rows of the recording, in which
secrets are masked already; only then are they cut, so that no part of a secret is left
over by a cut.  What is too long is cut inside its structure: what is left is JSON, and
says how much is gone.

Messages have the shape of the conventions: a role, and parts such as

    {type: text, content}                     {type: reasoning, content}
    {type: tool_call, id, name, arguments}    {type: tool_call_response, id, response}

and `server_tool_call`, `server_tool_call_response` for the tools that an agent runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sse_recorder import dialects, semconv
from sse_recorder.dialects.base import (
    compact,
    member,
    objects_of,
    text_of,
)
from sse_recorder.dialects.conversations import CROSS_REQUEST
from sse_recorder.exchange import Exchange, RequestHead, ToolCall
from sse_recorder.otel.data import Value
from sse_recorder.otel.operation import Operation
from sse_recorder.otel.stream import StreamFacts

CONTENT_BYTES_MAX: Final = 16 << 10
"""Of one attribute with content.  With its messages a span has three."""

# Texts are cut to the first of these that makes the whole fit, lists to the second.
_CUTS: Final = (
    (CONTENT_BYTES_MAX, CONTENT_BYTES_MAX),
    *((8_192, 256), (1_024, 64), (128, 16), (16, 4)),
)
# Protobuf readers give up beyond a hundred messages within each other, and a level of
# JSON is up to three.  One value that cannot be read costs its whole batch.
_DEPTH_MAX: Final = 24
_INTEGERS: Final = range(-(2**63), 2**63)
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "STOP": "stop",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "tool_use": "tool_call",
    "tool_calls": "tool_call",
    "SAFETY": "content_filter",
}

Message = dict[str, Any]


def content_attributes(
    contents: Mapping[str, Any], dropped: int = 0
) -> dict[str, Value | None]:
    """Return contents as JSON, cut where they are too long.

    Args:
        contents: JSON values by the names of their attributes; None for nothing.
        dropped: bytes that are gone already.
    """
    values = fitting_attributes(contents, dropped)
    return {
        name: compact(value) if name in contents else value
        for name, value in values.items()
    }


def fitting_attributes(contents: Mapping[str, Any], dropped: int = 0) -> dict[str, Any]:
    """Return contents as values, cut where they are too long."""
    found: dict[str, Any] = {}
    for name, value in contents.items():
        if value is None:
            continue
        found[name], gone = fitted(value)
        dropped += gone
    if dropped:
        found[semconv.CONTENT_TRUNCATED] = True
        found[semconv.CONTENT_DROPPED_BYTES] = dropped
    return found


def fitted(value: Any, bytes_max: int = CONTENT_BYTES_MAX) -> tuple[Any, int]:
    """Return a JSON value cut inside to fit, and how many bytes are gone.

    What JSON can say and OTLP cannot is said in another way, whatever the size.
    """
    size = _size(value)
    for text_max, items_max in _CUTS:
        cut = _cut(value, text_max, items_max, _DEPTH_MAX)
        if _size(cut) <= bytes_max:
            return cut, max(size - _size(cut), 0)
    return "…", size


def _size(value: Any) -> int:
    return len(compact(value).encode())


def _cut(value: Any, text_max: int, items_max: int, depth: int) -> Any:
    match value:
        case str():
            return _whole(value[:text_max]) + "…" * (len(value) > text_max)
        case int() if value not in _INTEGERS:
            return str(value)[:text_max]
        case float() if not math.isfinite(value):
            return str(value)
        case list() if depth:
            # The first ones set the scene, and the last are what it is about.
            kept = value
            if len(value) > items_max:
                half = items_max // 2
                kept = [*value[:half], "…", *value[-half:]]
            return [_cut(item, text_max, items_max, depth - 1) for item in kept]
        case dict() if depth:
            return {
                _whole(key[:text_max]): _cut(item, text_max, items_max, depth - 1)
                for key, item in list(value.items())[:items_max]
            }
        case list() | dict():
            return "…"
        case _:
            return value


def _whole(text: str) -> str:
    """Return a text without halves of characters."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def parsed(text: str | None) -> Any:
    """Return the JSON value that a text is; the text itself if it is none."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def messages_of(
    exchange: Exchange,
    operation: Operation,
    facts: StreamFacts,
    tool_calls: Sequence[ToolCall],
) -> dict[str, Any]:
    """Return the messages of an exchange, by the names of their attributes."""
    body = operation.body
    system = (
        body.get("system") or body.get("systemInstruction") or body.get("instructions")
    )
    return {
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS: list(_parts(system)) or None,
        semconv.GEN_AI_INPUT_MESSAGES: list(_input(body)) or None,
        semconv.GEN_AI_OUTPUT_MESSAGES: _output(exchange, operation, facts, tool_calls),
    }


def _output(
    exchange: Exchange,
    operation: Operation,
    facts: StreamFacts,
    tool_calls: Sequence[ToolCall],
) -> list[Message] | None:
    text = _text(exchange, facts)
    parts: list[Message] = [{"type": "text", "content": text}] if text else []
    for call in tool_calls:
        if call.status != "unmatched" and operation.kind == "agent":
            parts += _remote_call(call)
        elif call.status != "unmatched":
            parts.append(_call(call.tool_id, call.tool_name, parsed(call.arguments)))
    if not parts:
        return None
    message: Message = {"role": "assistant", "parts": parts}
    if reason := exchange.finish_reason:
        message["finish_reason"] = _REASONS.get(reason, reason)
    return [message]


def _text(exchange: Exchange, facts: StreamFacts) -> str:
    """Return what the answer says, as its dialect reads it."""
    head = RequestHead(exchange.method, exchange.target, exchange.request_headers)
    dialect = dialects.load(exchange.dialect or "")(head)
    text = ""
    for frame in facts.heard:
        if frame.type == "event" and isinstance(frame.data, str):
            text += dialect.read_event(frame.event, frame.data).text
        elif isinstance(frame.data, bytes) and len(facts.heard) == 1:
            text += dialect.read_body(frame.data).text
    return text


def _remote_call(call: ToolCall) -> Iterator[Message]:
    given = {"type": "function", "arguments": parsed(call.arguments)}
    yield {
        "type": "server_tool_call",
        "id": call.tool_id,
        "name": call.tool_name,
        "server_tool_call": given,
    }
    if call.timing != CROSS_REQUEST and call.result is not None:
        yield {
            "type": "server_tool_call_response",
            "id": call.tool_id,
            "server_tool_call_response": {
                "type": "function",
                "response": parsed(call.result),
            },
        }


def _input(body: dict[str, Any]) -> Iterator[Message]:
    """Give the messages of a request, wherever an API has them."""
    asked = body.get("messages") or body.get("contents") or body.get("input")
    asked = asked or member(body, "params", "message") or body.get("user_message")
    if isinstance(asked, dict):
        asked = asked.get("messages") or asked
    if isinstance(asked, str):
        yield {"role": "user", "parts": list(_parts(asked))}
        return
    for item in objects_of(asked if isinstance(asked, list) else [asked]):
        role = text_of(item.get("role")) or text_of(item.get("type")) or "user"
        parts = list(_message_parts(item))
        if parts:
            yield {"role": _role(role, parts), "parts": parts}


def _role(role: str, parts: Iterable[Message]) -> str:
    if any(part["type"] == "tool_call_response" for part in parts):
        return "tool"
    return {"model": "assistant", "ai": "assistant", "human": "user"}.get(role, role)


def _message_parts(item: dict[str, Any]) -> Iterator[Message]:
    tool_id = text_of(item.get("tool_call_id")) or text_of(item.get("toolCallId"))
    if tool_id is not None:
        yield _response(tool_id, item.get("content"))
        return
    match item.get("type"):
        case "function_call":
            yield _part(item)
            return
        case "function_call_output":
            yield _response(text_of(item.get("call_id")), item.get("output"))
            return
    yield from _parts(item.get("content") or item.get("parts"))
    for call in objects_of(item.get("tool_calls") or item.get("toolCalls")):
        function = call.get("function") or call
        given = member(function, "arguments") or member(function, "args")
        given = parsed(given) if isinstance(given, str) else given
        yield _call(text_of(call.get("id")), text_of(member(function, "name")), given)


def _parts(content: Any) -> Iterator[Message]:
    if isinstance(content, dict):
        content = content.get("parts") or [content]
    if isinstance(content, str):
        yield {"type": "text", "content": content}
    for block in content if isinstance(content, list) else ():
        if isinstance(block, str):
            yield {"type": "text", "content": block}
        elif isinstance(block, dict):
            yield _part(block)


def _part(block: dict[str, Any]) -> Message:
    if called := block.get("functionCall"):
        name = text_of(member(called, "name"))
        return _call(text_of(member(called, "id")), name, member(called, "args"))
    if answered := block.get("functionResponse"):
        tool_id = text_of(member(answered, "id")) or text_of(member(answered, "name"))
        return _response(tool_id, member(answered, "response"))
    if (text := text_of(block.get("text"))) is not None:
        return {"type": "text", "content": text}
    match block.get("type"):
        case "tool_use":
            tool_id, name = text_of(block.get("id")), text_of(block.get("name"))
            return _call(tool_id, name, block.get("input"))
        case "tool_result":
            return _response(text_of(block.get("tool_use_id")), block.get("content"))
        case "function_call":
            tool_id, name = text_of(block.get("call_id")), text_of(block.get("name"))
            return _call(tool_id, name, parsed(text_of(block.get("arguments"))))
        case "thinking":
            return {"type": "reasoning", "content": text_of(block.get("thinking"))}
        case kind:  # an image, a file: that it was there is enough
            return {"type": "generic", "generic_type": text_of(kind) or "unknown"}


def _call(tool_id: str | None, name: str | None, arguments: Any) -> Message:
    return {"type": "tool_call", "id": tool_id, "name": name, "arguments": arguments}


def _response(tool_id: str | None, response: Any) -> Message:
    return {"type": "tool_call_response", "id": tool_id, "response": response}
