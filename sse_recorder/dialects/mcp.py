"""MCP over streamable HTTP: JSON-RPC, whose answers may come in a stream.

The client posts a message, or several; the answer to a request is the message with
its `id`, after whatever else the server has to say: notifications, its own requests.  A
tool runs from the request `tools/call` being sent to its answer, which is one JSON body
where the server does not care to stream.

Source: the specification, revisions 2025-03-26 to 2026-07-28, and the mcp package.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Final

from sse_recorder.dialects.base import (
    Dialect,
    Kind,
    Reading,
    ToolCalled,
    ToolEvent,
    ToolReturned,
    compact,
    member,
    message_of,
    objects_of,
    parse_object,
    text_of,
)
from sse_recorder.exchange import RequestHead, ResponseHead, header

_HEADERS: Final = ("mcp-session-id", "mcp-protocol-version", "mcp-method")


class Mcp(Dialect):
    """Reads the answer to one post, or the server's own stream."""

    name: ClassVar[str] = "mcp"
    noise: ClassVar[frozenset[str]] = frozenset({"progressToken", "requestId"})

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        self._asked: set[str] = set()  # the ids that an answer is waited for
        self._tools: set[str] = set()

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """By the headers of the protocol."""
        return any(header(request.headers, name) is not None for name in _HEADERS)

    @classmethod
    def recognises_response(cls, response: ResponseHead) -> bool:
        """By the session that the server begins."""
        return header(response.headers, _HEADERS[0]) is not None

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By JSON-RPC, in an event that is named as the protocol says."""
        return event == "message" and parse_object(data).get("jsonrpc") == "2.0"

    def session_id(self) -> str | None:
        """Return the session that the request goes on with."""
        return header(self.request.headers, _HEADERS[0])

    def read_head(self, response: ResponseHead) -> Reading:
        """Note the session that the server begins."""
        return Reading(session_id=header(response.headers, _HEADERS[0]))

    def read_request(self, body: bytes) -> Reading:
        """Note what is asked, and which tools are called."""
        tools = list[ToolEvent]()
        for message in _messages(body):
            if "method" not in message or "id" not in message:
                continue
            key = compact(message["id"])
            self._asked.add(key)
            if message["method"] == "tools/call":
                self._tools.add(key)
                name = text_of(member(message, "params", "name"))
                given = compact(member(message, "params", "arguments") or {})
                tools.append(ToolCalled(key, key.strip('"'), name, given))
        return Reading(tools=tuple(tools))

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one message, or what begins a stream that can be taken up again."""
        if event == "endpoint":  # the transport of 2024-11-05
            return Reading(Kind.CONNECTED)
        if not data:
            return Reading(Kind.CONNECTED)
        return self._read(data)

    def read_body(self, body: bytes) -> Reading:
        """Read an answer that is not streamed."""
        return self._read(body)

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an answer of JSON-RPC that is an error."""
        error = {"code": -32603, "message": message}
        answer = {"jsonrpc": "2.0", "id": None, "error": error}
        return f"event: message\ndata: {compact(answer)}\n\n"

    def _read(self, data: str | bytes) -> Reading:
        messages = _messages(data)
        tools = list[ToolEvent]()
        kind, error = Kind.OTHER, None
        for message in messages:
            if "method" in message:
                kind = Kind.STATUS
                continue
            key, failed = compact(message.get("id")), message.get("error")
            self._asked.discard(key)
            kind = Kind.FINISH
            if key in self._tools:
                kind = Kind.TOOL_RESULT
                result = message.get("result")
                is_error = bool(failed) or bool(member(result, "isError"))
                value = compact(failed or result)
                tools.append(ToolReturned(key, value, failed=is_error))
            if failed:
                kind, error = Kind.ERROR, message_of(failed)
        is_over = kind not in (Kind.OTHER, Kind.STATUS) and not self._asked
        return Reading(kind, tools=tuple(tools), error=error, terminal=is_over)


def _messages(data: str | bytes) -> list[dict[str, Any]]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return []
    return objects_of(value if isinstance(value, list) else [value])


DIALECT = Mcp
