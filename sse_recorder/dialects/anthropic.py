"""Anthropic's Messages: a message of blocks, each begun, continued and stopped.

    message_start        {message: {model, usage}}
    content_block_start  {index, content_block}    text, thinking, a call or a result
    content_block_delta  {index, delta}            more of its text or of its arguments
    content_block_stop   {index}
    message_delta        {delta: {stop_reason}, usage}    the usage so far
    message_stop
    ping                 anywhere
    error                {error: {type, message}}    then the stream ends

A call's arguments are complete when its block stops.  Tools that the provider runs
(`server_tool_use`, `mcp_tool_use`) have their result as a later block of the same
message; those of the client have it in its next request.  Input tokens are those of the
prompt, with what was read from the cache or written to it.  Each count that a later
event has replaces the one before.

Source: the types of the anthropic package, and recorded streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from sse_recorder.dialects.base import (
    Dialect,
    Kind,
    Reading,
    ToolArguments,
    ToolCalled,
    ToolEvent,
    ToolReturned,
    ToolStarted,
    body_kind,
    compact,
    count_of,
    id_of,
    label_of,
    member,
    message_of,
    objects_of,
    parse_object,
    text_of,
    text_or_json,
    total_of,
)
from sse_recorder.dialects.turns import (
    ClientResult,
    Repeated,
    Said,
    Step,
    Turn,
    turn_of,
)
from sse_recorder.exchange import RequestHead, header

_PATH = re.compile(r"(/v1)?/messages/?$")
_CLOUD_PATH = re.compile(
    r"/publishers/anthropic/models/[^/]+:(?:streamRawPredict|rawPredict)$"
    r"|/model/[^/]*anthropic\.[^/]+/invoke$"
)
# A tuple, because what is looked for may be anything, which a set would have to hash.
_CALLS: Final = ("tool_use", "server_tool_use", "mcp_tool_use")
_INPUT: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


class Anthropic(Dialect):
    """Reads one message, streamed or whole."""

    name: ClassVar[str] = "anthropic"
    says_end = True
    noise: ClassVar[frozenset[str]] = frozenset(
        {"id", "tool_use_id", "signature", "encrypted_content", "encrypted_index"}
    )
    result_marks: ClassVar[tuple[bytes, ...]] = (b'"tool_result"',)

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        self._calls: dict[str, str] = {}  # the open blocks that are calls
        self._has_arguments: set[str] = set()
        self._counts: dict[str, int] = {}

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """By its path, which without `/v1` is others' too but for the header."""
        if _CLOUD_PATH.search(request.path):
            return True
        path = _PATH.search(request.path)
        has_header = header(request.headers, "anthropic-version") is not None
        return path is not None and (has_header or path[1] is not None)

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By its first event."""
        return event == "message_start" and "message" in parse_object(data)

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one event, by the type in its payload or else by its name."""
        payload = parse_object(data)
        match text_of(payload.get("type")) or event:
            case "content_block_delta":
                return self._delta(payload)
            case "content_block_start":
                return self._start(payload)
            case "content_block_stop":
                return self._stop(payload)
            case "message_start":
                message = payload.get("message")
                return self._usage(Kind.CONNECTED, member(message, "usage"))._replace(
                    model=text_of(member(message, "model"))
                )
            case "message_delta":
                reason = text_of(member(payload, "delta", "stop_reason"))
                kind = Kind.USAGE if reason is None else Kind.FINISH
                return self._usage(kind, payload.get("usage"))._replace(
                    finish_reason=reason
                )
            case "message_stop":
                return Reading(Kind.FINISH, terminal=True)
            case "ping":
                return Reading(Kind.KEEPALIVE)
            case "error":
                error = message_of(payload.get("error") or payload)
                return Reading(Kind.ERROR, error=error, terminal=True)
            case _:
                return Reading()

    def read_body(self, body: bytes) -> Reading:
        """Read a message that is not streamed, or an error."""
        payload = parse_object(body)
        if payload.get("type") == "error":
            return Reading(Kind.ERROR, error=message_of(payload.get("error")))
        text, tools = "", list[ToolEvent]()
        for block in objects_of(payload.get("content")):
            if block.get("type") in _CALLS:
                tools.append(_called(block))
            elif result := _result(block):
                tools.append(result)
            else:
                text += text_of(block.get("text")) or ""
        return self._usage(body_kind(text, tools), payload.get("usage"))._replace(
            text=text,
            tools=tuple(tools),
            model=text_of(payload.get("model")),
            finish_reason=text_of(payload.get("stop_reason")),
        )

    @classmethod
    def read_turn(cls, body: bytes) -> Turn:
        """Read the blocks of the messages."""
        return turn_of(_steps(parse_object(body)))

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an `error` event as for an overloaded server."""
        error = {"type": "error", "error": {"type": "api_error", "message": message}}
        return f"event: error\ndata: {compact(error)}\n\n"

    def _start(self, payload: dict[str, Any]) -> Reading:
        index, block = label_of(payload.get("index")), payload.get("content_block")
        if not isinstance(block, dict):
            return Reading(Kind.STATUS)
        if block.get("type") in _CALLS:
            return self._called(index, block)
        if result := _result(block):
            return Reading(Kind.TOOL_RESULT, tools=(result,))
        if text := text_of(block.get("text")):
            return Reading(Kind.TEXT, text)
        is_thinking = block.get("thinking") or block.get("type") == "redacted_thinking"
        return Reading(Kind.REASONING if is_thinking else Kind.STATUS)

    def _called(self, index: str, block: dict[str, Any]) -> Reading:
        whole = _called(block)
        key = whole.key or f"block {index}"
        self._calls[index] = key
        tools: tuple[ToolEvent, ...] = (
            ToolStarted(key, whole.tool_id, whole.name, whole.is_hosted),
        )
        if block.get("input"):
            self._has_arguments.add(index)
            tools += (ToolArguments(key, whole.arguments or ""),)
        return Reading(Kind.TOOL_CALL, tools=tools)

    def _delta(self, payload: dict[str, Any]) -> Reading:
        index, delta = label_of(payload.get("index")), payload.get("delta")
        match member(delta, "type"):
            case "text_delta":
                return Reading(Kind.TEXT, text_of(member(delta, "text")) or "")
            case "thinking_delta":
                return Reading(Kind.REASONING)
            case "input_json_delta" if index in self._calls:
                piece = text_of(member(delta, "partial_json")) or ""
                if piece:
                    self._has_arguments.add(index)
                call = ToolArguments(self._calls[index], piece)
                return Reading(Kind.TOOL_CALL_DELTA, tools=(call,))
            case _:  # signatures and citations
                return Reading(Kind.STATUS)

    def _stop(self, payload: dict[str, Any]) -> Reading:
        index = label_of(payload.get("index"))
        if index not in self._calls:
            return Reading(Kind.STATUS)
        # A call without arguments has an empty piece, where `{}` is meant.
        arguments = None if index in self._has_arguments else "{}"
        call = ToolCalled(self._calls.pop(index), None, None, arguments)
        return Reading(Kind.TOOL_CALL, tools=(call,))

    def _usage(self, kind: Kind, usage: Any) -> Reading:
        for name in (*_INPUT, "output_tokens"):
            if (count := count_of(member(usage, name))) is not None:
                self._counts[name] = count
        known = self._counts
        return Reading(
            kind,
            input_tokens=total_of(known, *_INPUT) if _INPUT[0] in known else None,
            output_tokens=known.get("output_tokens"),
        )


def _steps(payload: dict[str, Any]) -> Iterator[Step]:
    for message in objects_of(payload.get("messages")):
        by_assistant = message.get("role") == "assistant"
        content = message.get("content")
        if by_assistant:
            yield Said(by_assistant)
        if isinstance(content, str):
            yield Said(by_assistant, text_of(content) or "")
        for block in objects_of(content):
            match block.get("type"):
                case "tool_use":
                    call = _called(block)
                    yield Repeated(call.tool_id, call.name, call.arguments)
                case "tool_result":
                    result = text_or_json(block.get("content"))
                    failed = bool(block.get("is_error"))
                    yield ClientResult(id_of(block.get("tool_use_id")), result, failed)
                case _:
                    yield Said(by_assistant, text_of(block.get("text")) or "")


def _called(block: dict[str, Any]) -> ToolCalled:
    """Return the whole call that a block is."""
    tool_id, name = id_of(block.get("id")), text_of(block.get("name"))
    is_hosted = block.get("type") != "tool_use"
    return ToolCalled(tool_id, tool_id, name, compact(block.get("input")), is_hosted)


def _result(block: dict[str, Any]) -> ToolReturned | None:
    """Return the result that a block is, if it is one."""
    if not str(block.get("type")).endswith("tool_result"):
        return None
    content = block.get("content")
    failed = bool(block.get("is_error")) or bool(member(content, "error_code"))
    answered = id_of(block.get("tool_use_id"))
    return ToolReturned(answered, text_or_json(content), failed=failed)


DIALECT = Anthropic
